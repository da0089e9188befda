//! Access control of the administration.

use super::Refusal;
use crate::auth::{Auth, Need, Pass};
use crate::error::Kind;
use http::HeaderMap;
use http::header::{AUTHORIZATION, HOST, HeaderName, HeaderValue, ORIGIN};
use std::net::IpAddr;
use subtle::ConstantTimeEq;

/// How browsers say where a request comes from, seen from where it goes.
const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// Refuses requests of web pages that are not served here, and requests without a token: the administration's own, or one of `--auth_file`. If
/// neither is configured, accepts requests only on a loopback address, and only under a host name that no foreign DNS
/// server can point here.
#[derive(Debug)]
pub(super) struct Guard {
    /// The `Authorization` header of the administration's own token, if it has one.
    authorization: Option<String>,
    /// The other tokens, if there are any.
    auth: Option<Auth>,
    is_on_loopback: bool,
    names: [String; 2],
    /// The scheme of the pages that are served here, if any are.
    pages: Option<&'static str>,
}

impl Guard {
    /// Creates a guard. `token`: empty for none. `name`: the configured host name. `address`: that of the listener.
    pub(super) fn new(token: &str, name: &str, address: IpAddr) -> Guard {
        Guard {
            authorization: (!token.is_empty()).then(|| format!("Bearer {token}")),
            auth: None,
            is_on_loopback: address.to_canonical().is_loopback(),
            names: ["localhost".to_owned(), name.to_lowercase()],
            pages: None,
        }
    }

    /// Also accepts requests of pages that were served here, by this scheme, if any are.
    pub(super) fn with_pages(self, pages: Option<&'static str>) -> Guard {
        Guard { pages, ..self }
    }

    /// Also accepts the tokens of `auth`, for what they are for.
    pub(super) fn accepting(self, auth: Option<Auth>) -> Guard {
        Guard { auth, ..self }
    }

    /// Refuses a request whose headers do not authorize it for what it needs. Returns the pass of a token of the file's.
    pub(super) fn check(&self, headers: &HeaderMap, need: Need<'_>) -> Result<Option<Pass>, Refusal> {
        if headers.contains_key(ORIGIN) && !self.is_of_own_page(headers) {
            let others = if self.pages.is_some() { "other web pages" } else { "web pages" };
            return Err(denied(format!("Requests of {others} (with an Origin) are refused")));
        }
        if let Some(expected) = &self.authorization {
            let shown = headers.get(AUTHORIZATION).map(text).unwrap_or_default();
            // In a time that does not reveal where they differ.
            if shown.as_bytes().ct_eq(expected.as_bytes()).into() {
                return Ok(None);
            }
        }
        if let Some(auth) = &self.auth {
            let pass = auth.admit(|name| headers.get(name).map(HeaderValue::as_bytes))?;
            auth.check(Some(&pass), need)?;
            return Ok(Some(pass));
        }
        if self.authorization.is_some() {
            let message = "A bearer token is needed: Authorization: Bearer TOKEN";
            return Err(Refusal::new(Kind::Unauthenticated, message));
        }
        if !self.is_on_loopback {
            let message =
                "The administration listens beyond this machine and has no token: only health is answered";
            let hint = "set --auth_file, --admin_token or $SERVABLE_ADMIN_TOKEN, or listen on 127.0.0.1";
            return Err(denied(message).hint(hint));
        }
        match headers.get_all(HOST).iter().map(text).find(|host| !self.is_ours(host)) {
            Some(other) => Err(foreign(&other)),
            None => Ok(None),
        }
    }

    /// Returns whether the page that sends a request was served here: under the name by which it now asks. Whether that name
    /// can be trusted is checked besides. Browsers that say so themselves must agree.
    fn is_of_own_page(&self, headers: &HeaderMap) -> bool {
        let (Some(scheme), Some(origin), Some(host)) =
            (self.pages, only(headers, &ORIGIN), only(headers, &HOST))
        else {
            return false;
        };
        let is_same = headers.get_all(SEC_FETCH_SITE).iter().all(|site| site == "same-origin");
        is_same && text(origin).eq_ignore_ascii_case(&format!("{scheme}://{}", text(host)))
    }

    /// Returns whether a `Host` header holds a name that cannot be a web page's own.
    fn is_ours(&self, host: &str) -> bool {
        let host = host.trim().to_lowercase();
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => host.as_str(),
        };
        let name = name.trim_end_matches('.');
        self.names.iter().any(|ours| ours == name) || is_ip(name)
    }
}

/// Returns the header `name`, if there is one of it.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    let mut all = headers.get_all(name).iter();
    all.next().filter(|_| all.next().is_none())
}

/// Returns whether `name` is an IP address, with or without IPv6 zone and brackets.
fn is_ip(name: &str) -> bool {
    let name = name.strip_prefix('[').unwrap_or(name);
    let name = name.strip_suffix(']').unwrap_or(name);
    match name.split_once('%') {
        Some((address, zone)) => {
            !zone.is_empty() && !zone.contains('%') && address.parse::<std::net::Ipv6Addr>().is_ok()
        }
        None => name.parse::<IpAddr>().is_ok(),
    }
}

/// Decodes a header's value; bytes beyond ASCII are Latin-1, as Python's clients send them.
fn text(value: &HeaderValue) -> String {
    value.as_bytes().iter().copied().map(char::from).collect()
}

fn denied(message: impl Into<String>) -> Refusal {
    Refusal::new(Kind::PermissionDenied, message)
}

fn foreign(host: &str) -> Refusal {
    let shown: String = host.chars().take(100).collect();
    denied(format!(
        "Host {shown} is refused: without a token the administration answers to its IP address, to localhost, and to \
         the name in --admin_address"
    ))
    .hint("a web page may have had its name point here; use an IP address, or set --admin_token")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn guard() -> Guard {
        Guard::new("", "Models.Example", HERE)
    }

    fn headers(given: &[(http::HeaderName, &[u8])]) -> HeaderMap {
        given.iter().map(|(name, value)| (name.clone(), HeaderValue::from_bytes(value).unwrap())).collect()
    }

    fn status(guard: &Guard, given: &[(http::HeaderName, &[u8])]) -> u16 {
        guard.check(&headers(given), Need::Manage).map_or_else(|refusal| refusal.status(), |_| 200)
    }

    #[test]
    fn names_of_this_machine() {
        for ours in [
            "127.0.0.1",
            "127.0.0.1:8502",
            "[::1]:8502",
            "[::1]",
            "localhost",
            "LOCALHOST:1",
            "localhost.",
            "localhost:",
            " localhost ",
            "models.example:1",
            "192.0.2.7",
            "[fe80::1%eth0]:8502",
        ] {
            assert!(guard().is_ours(ours), "{ours}");
        }
    }

    #[test]
    fn other_names() {
        for other in [
            "evil.example",
            "evil.example:8502",
            "localhost.evil.example",
            "127.0.0.1.evil.example:80",
            "",
            ":80",
            "::1",
            "127.0.0.1:80:80",
            "127.1",
            "0177.0.0.1",
            "localhost:http",
            "localhost:-1",
            "[::1]evil.example",
            "[[::1]]",
            "fe80::1%",
            "[fe80::1%a%b]",
            "127.0.0.1%lo",
            "local\u{fc}host",
        ] {
            assert!(!guard().is_ours(other), "{other}");
        }
    }

    proptest! {
        /// Any text around one of our names makes it another name.
        #[test]
        fn a_name_with_more_around_it_is_not_ours(
            before in "[a-z0-9.-]{0,8}[a-z]\\.",
            ours in prop::sample::select(vec!["localhost", "127.0.0.1", "models.example"]),
            after in "\\.[a-z][a-z0-9.-]{0,8}[a-z]",
        ) {
            let (longer, other) = (format!("{ours}{after}"), format!("{before}{ours}"));
            prop_assert!(!guard().is_ours(&longer) && !guard().is_ours(&other));
        }

        #[test]
        fn every_address_is_ours(address: IpAddr, port: Option<u16>) {
            let name = if address.is_ipv6() { format!("[{address}]") } else { address.to_string() };
            let port = port.map(|port| format!(":{port}")).unwrap_or_default();
            let host = format!("{name}{port}");
            prop_assert!(guard().is_ours(&host));
        }

        #[test]
        fn no_header_breaks_it(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let given: HeaderMap = [(HOST, value.clone()), (AUTHORIZATION, value)].into_iter().collect();
                for token in ["", "secret"] {
                    let _either = Guard::new(token, "", HERE).check(&given, Need::Manage);
                }
            }
        }
    }

    #[test]
    fn of_several_names_all_count() {
        assert_eq!(status(&guard(), &[]), 200);
        assert_eq!(status(&guard(), &[(HOST, b"localhost"), (HOST, b"evil.example")]), 403);
        assert_eq!(status(&guard(), &[(HOST, b"localhost"), (HOST, b"[::1]")]), 200);
    }

    #[test]
    fn web_pages_are_refused_whatever_they_show() {
        let origin: (_, &[u8]) = (ORIGIN, b"http://example.com");
        assert_eq!(status(&guard(), std::slice::from_ref(&origin)), 403);
        let with_token = Guard::new("secret", "", HERE);
        assert_eq!(status(&with_token, &[origin, (AUTHORIZATION, b"Bearer secret")]), 403);
    }

    #[test]
    fn of_pages_those_served_here_may_ask() {
        let site = HeaderName::from_static(SEC_FETCH_SITE);
        let with_token = || Guard::new("secret", "", HERE).with_pages(Some("https"));
        let own = guard().with_pages(Some("http"));
        for (origin, host, expected) in [
            ("http://127.0.0.1:8502", &["127.0.0.1:8502"][..], 200),
            ("http://localhost:8502", &["LocalHost:8502"], 200),
            ("http://[::1]:8502", &["[::1]:8502"], 200),
            ("http://127.0.0.1:8501", &["127.0.0.1:8502"], 403),
            ("https://127.0.0.1:8502", &["127.0.0.1:8502"], 403),
            ("http://127.0.0.1:8502", &["localhost:8502"], 403),
            // A name of others that points here.
            ("http://evil.example:8502", &["evil.example:8502"], 403),
            ("http://127.0.0.1:8502.evil.example", &["127.0.0.1:8502"], 403),
            ("null", &["127.0.0.1:8502"], 403),
            ("", &[""], 403),
            ("http://127.0.0.1:8502", &[], 403),
            ("http://127.0.0.1:8502", &["127.0.0.1:8502", "127.0.0.1:8502"], 403),
        ] {
            let mut given: Vec<(_, &[u8])> = vec![(ORIGIN, origin.as_bytes())];
            given.extend(host.iter().map(|host| (HOST, host.as_bytes())));
            assert_eq!(status(&own, &given), expected, "{origin} {host:?}");
            assert_eq!(status(&guard(), &given), 403, "there are no pages");
            given.push((AUTHORIZATION, b"Bearer secret"));
            assert_eq!(status(&Guard::new("secret", "", HERE), &given), 403, "there are no pages");
        }
        let given = |origin, host, more| vec![(ORIGIN, origin), (HOST, host), more];
        let (origin, host): (&[u8], &[u8]) = (b"http://localhost", b"localhost");
        for (said, expected) in [(&b"same-origin"[..], 200), (b"same-site", 403), (b"cross-site", 403)] {
            assert_eq!(status(&own, &given(origin, host, (site.clone(), said))), expected);
        }
        // With a token, any name will do, and the token is still needed.
        let (origin, host): (&[u8], &[u8]) = (b"https://models.example", b"models.example");
        let shown: (_, &[u8]) = (AUTHORIZATION, b"Bearer secret");
        assert_eq!(status(&with_token(), &given(origin, host, shown)), 200);
        assert_eq!(status(&with_token(), &given(origin, host, (site, &b"same-origin"[..]))), 401);
    }

    #[test]
    fn a_token_is_asked_for_and_names_count_no_more() {
        let guard = Guard::new("s\u{e9}cret", "", IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        for (shown, expected) in [
            (&b"Bearer s\xe9cret"[..], 200),
            (b"Bearer s\xc3\xa9cret", 401),
            (b"Bearer secret", 401),
            (b"bearer s\xe9cret", 401),
            (b"s\xe9cret", 401),
            (b"Bearer s\xe9cret ", 401),
            (b"Bearer s\xe9cre", 401),
            (b"", 401),
        ] {
            let given = [(AUTHORIZATION, shown), (HOST, &b"evil.example"[..])];
            assert_eq!(status(&guard, &given), expected, "{shown:?}");
        }
        assert_eq!(status(&guard, &[]), 401);
    }

    #[test]
    fn tokens_of_a_file_are_accepted_besides() {
        let line = |name: &str, settings: &str| {
            // The secret is 43 times the letter A.
            let hash = "2cf26ca0ebf9ebdea5958f900ec1aadc8024392e07660ae3874980ccfba06350";
            format!("{name} sha256:0123456789ab:{hash} {settings}\n")
        };
        let text = line("boss", "scopes=manage models=*") + &line("eye", "scopes=read models=*");
        let token = |name: &str| format!("Bearer servable.{name}.{}", "A".repeat(43));
        let auth = Auth::of_text(&text).unwrap();
        let beyond = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        for own in ["", "secret"] {
            let guard = Guard::new(own, "", beyond).accepting(Some(auth.clone()));
            let status = |need, shown: &str| {
                let given = headers(&[(AUTHORIZATION, shown.as_bytes()), (HOST, b"evil.example")]);
                guard.check(&given, need).map_or_else(|refusal| refusal.status(), |_| 200)
            };
            assert_eq!(status(Need::Manage, &token("boss")), 200);
            assert_eq!(
                (status(Need::Manage, &token("eye")), status(Need::ReadAll, &token("eye"))),
                (403, 200)
            );
            assert_eq!(status(Need::Manage, &token("other")), 401);
            assert_eq!(status(Need::Manage, "Bearer secret"), if own.is_empty() { 401 } else { 200 });
        }
        let here = Guard::new("", "", HERE).accepting(Some(auth));
        assert_eq!(status(&here, &[(HOST, b"localhost")]), 401, "it is not open any more");
    }

    #[test]
    fn beyond_the_machine_a_token_is_needed() {
        for (address, expected) in [
            (HERE, 200),
            (IpAddr::V6(Ipv6Addr::LOCALHOST), 200),
            (IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped()), 200),
            (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 403),
            (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 403),
            (IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)), 403),
        ] {
            assert_eq!(status(&Guard::new("", "", address), &[(HOST, b"localhost")]), expected, "{address}");
        }
    }
}
