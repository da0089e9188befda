//! Requests with and without tokens, as a server sees them.

use super::token::tests::made;
use super::*;

fn line(name: &str, letter: char, settings: &str) -> String {
    format!("{name} {} {settings}\n", made(name, letter).1)
}

fn auth(text: &str) -> Auth {
    Auth::of_text(text).unwrap()
}

/// Admits a request with this header.
fn with(auth: &Auth, name: &str, value: &str) -> Result<Pass> {
    auth.admit(|asked| (asked == name).then_some(value.as_bytes()))
}

fn bearing(auth: &Auth, token: &str) -> Result<Pass> {
    with(auth, AUTHORIZATION, &format!("Bearer {token}"))
}

fn count(auth: &Auth, reason: &str) -> u64 {
    auth.denials().counts().find(|(name, _)| *name == reason).unwrap().1
}

#[test]
fn a_token_is_shown_in_one_of_two_headers() {
    let (token, _) = made("me", 'x');
    let auth = auth(&line("me", 'x', "scopes=read models=*"));
    for (name, value, admitted) in [
        (AUTHORIZATION, format!("Bearer {token}"), true),
        (AUTHORIZATION, format!("bearer   {token} "), true),
        (API_KEY, token.clone(), true),
        (AUTHORIZATION, token.clone(), false),
        (AUTHORIZATION, format!("Basic {token}"), false),
        (AUTHORIZATION, format!("Bearer{token}"), false),
        (AUTHORIZATION, "Bearer".to_owned(), false),
        (AUTHORIZATION, String::new(), false),
        (API_KEY, format!("Bearer {token}"), false),
        ("cookie", token.clone(), false),
    ] {
        assert_eq!(with(&auth, name, &value).is_ok(), admitted, "{name}: {value}");
    }
    let both = |asked| Some(if asked == API_KEY { token.as_bytes() } else { &b"Basic dXNlcg=="[..] });
    assert_eq!(&**auth.admit(both).unwrap().name(), "me");
}

#[test]
fn whoever_has_no_valid_token_gets_the_same_answer() {
    let (token, _) = made("me", 'x');
    let auth = auth(&line("me", 'x', "scopes=read models=*"));
    let refused = bearing(&auth, &made("you", 'x').0).unwrap_err();
    assert_eq!(refused.kind, Kind::Unauthenticated);
    for wrong in [&made("me", 'y').0, "", "servable", "servable.me.", &format!("{token}x"), &token[1..]] {
        assert_eq!(bearing(&auth, wrong).unwrap_err(), refused, "{wrong}");
    }
    assert_eq!(auth.admit(|_| None).unwrap_err().kind, Kind::Unauthenticated);
    assert_eq!((count(&auth, "invalid_token"), count(&auth, "no_token")), (7, 1));
}

#[test]
fn without_a_pass_nothing_is_allowed() {
    let auth = auth("# nobody");
    for need in [Need::Any, Need::Predict("m"), Need::ReadAll, Need::Manage] {
        assert_eq!(auth.check(None, need).unwrap_err().kind, Kind::Unauthenticated);
    }
}

#[test]
fn a_pass_is_for_what_its_line_says() {
    let auth = auth(&line("me", 'x', "scopes=predict models=m"));
    let pass = bearing(&auth, &made("me", 'x').0).unwrap();
    assert_eq!(auth.check(Some(&pass), Need::Predict("m")), Ok(()));
    let refused = |need| auth.check(Some(&pass), need).unwrap_err().kind;
    assert_eq!(refused(Need::Predict("n")), Kind::PermissionDenied);
    assert_eq!(refused(Need::Manage), Kind::PermissionDenied);
    assert_eq!((count(&auth, "model"), count(&auth, "scope")), (1, 1));
}

#[test]
fn an_administrator_may_do_everything_and_goes_on_to_count() {
    let auth = auth(&line("me", 'x', "scopes=manage models=* in_flight=1"));
    let (token, _) = made("me", 'x');
    let shown = bearing(&auth, &token).unwrap();
    assert!(auth.check(Some(&shown), Need::Predict("m")).is_err());
    let raised = shown.raised();
    assert_eq!(&**raised.name(), "me");
    for pass in [&raised, &Pass::of_administrator()] {
        for need in
            [Need::Predict("m"), Need::SignaturesOf("m"), Need::Read("m"), Need::ReadAll, Need::Manage]
        {
            assert_eq!(auth.check(Some(pass), need), Ok(()), "{need:?}");
        }
    }
    assert!(bearing(&auth, &token).is_err(), "it is in flight");
    drop(raised);
    assert!(bearing(&auth, &token).is_ok());
}

#[test]
fn requests_in_flight_are_counted_until_their_last_clone_is_dropped() {
    let auth = auth(&line("me", 'x', "scopes=read models=* in_flight=2"));
    let (token, _) = made("me", 'x');
    let first = bearing(&auth, &token).unwrap();
    let (second, clone) = (bearing(&auth, &token).unwrap(), first.clone());
    drop(first);
    let refused = bearing(&auth, &token).unwrap_err();
    assert_eq!((refused.kind, refused.seconds_to_retry()), (Kind::ResourceExhausted, Some(1)));
    drop(clone);
    assert!(bearing(&auth, &token).is_ok());
    drop(second);
    assert_eq!(count(&auth, "in_flight"), 1);
}

#[test]
fn rates_are_kept_and_the_client_told_when_to_come_again() {
    let auth = auth(&line("me", 'x', "scopes=read models=* rate=3/h"));
    let (token, _) = made("me", 'x');
    assert!((0..3).all(|_| bearing(&auth, &token).is_ok()));
    let refused = bearing(&auth, &token).unwrap_err();
    assert_eq!((refused.kind, refused.seconds_to_retry()), (Kind::ResourceExhausted, Some(60)));
    assert_eq!(count(&auth, "rate"), 1);
    assert!(bearing(&auth, &made("me", 'y').0).unwrap_err().kind == Kind::Unauthenticated);
}

#[test]
fn a_token_that_stays_keeps_what_it_has_used() {
    let (settings, (token, _)) = ("scopes=read models=* rate=1/h in_flight=1", made("me", 'x'));
    let auth = auth(&line("me", 'x', settings));
    let held = bearing(&auth, &token).unwrap();
    auth.0.renew(parse(&(line("me", 'x', settings) + &line("you", 'y', settings))).unwrap());
    assert!(bearing(&auth, &token).unwrap_err().message.contains("in flight"));
    drop(held);
    assert!(bearing(&auth, &token).unwrap_err().message.contains("rate="));
    assert!(bearing(&auth, &made("you", 'y').0).is_ok());
    auth.0.renew(parse(&line("me", 'z', "scopes=read models=*")).unwrap());
    assert_eq!(bearing(&auth, &token).unwrap_err().kind, Kind::Unauthenticated, "it has another secret now");
    assert!(bearing(&auth, &made("me", 'z').0).is_ok());
    assert!(bearing(&auth, &made("you", 'y').0).is_err());
}

#[test]
fn what_goes_on_for_long_is_checked_by_the_tokens_of_today() {
    let auth = auth(&line("me", 'x', "scopes=read models=*"));
    let mut changes = auth.changes();
    let pass = bearing(&auth, &made("me", 'x').0).unwrap();
    let again = || auth.check_again(&pass, Need::Read("m")).map_err(|refused| refused.kind);
    assert_eq!((again(), changes.has_changed().unwrap()), (Ok(()), false));
    for (text, allowed) in [
        (line("me", 'x', "scopes=read models=* in_flight=7"), Ok(())),
        (line("me", 'x', "scopes=read models=n"), Err(Kind::PermissionDenied)),
        (line("me", 'x', "scopes=predict models=*"), Err(Kind::PermissionDenied)),
        (line("me", 'z', "scopes=read models=*"), Err(Kind::Unauthenticated)),
        (line("you", 'x', "scopes=read models=*"), Err(Kind::Unauthenticated)),
        (String::from("# nobody"), Err(Kind::Unauthenticated)),
    ] {
        auth.0.renew(parse(&text).unwrap());
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        assert_eq!(again(), allowed, "{text}");
    }
    assert_eq!((count(&auth, "invalid_token"), count(&auth, "model"), count(&auth, "scope")), (3, 1, 1));
}

#[test]
fn secrets_are_not_shown() {
    let auth = auth(&line("me", 'x', "scopes=read models=*"));
    let (token, _) = made("me", 'x');
    let pass = bearing(&auth, &token).unwrap();
    let refused = bearing(&auth, &made("me", 'y').0).unwrap_err();
    let shown = format!("{auth:?} {pass:?} {refused:?}");
    assert!(!shown.contains("xxx") && !shown.contains("yyy") && shown.contains("Pass(me)"), "{shown}");
}
