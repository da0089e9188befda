//! Splits of a model whose versions are numbers.

use super::rules::{HeaderRule, Share};
use super::*;
use std::collections::{BTreeMap, HashMap};

#[derive(Default)]
struct Numbers {
    available: BTreeMap<i64, i64>,
    labels: HashMap<String, i64>,
}

impl Numbers {
    fn of(available: &[i64], labels: &[(&str, i64)]) -> Numbers {
        Numbers {
            available: available.iter().map(|version| (*version, *version)).collect(),
            labels: labels.iter().map(|(label, version)| ((*label).to_owned(), *version)).collect(),
        }
    }
}

impl Versions for Numbers {
    type Handle = i64;

    fn labelled(&self, label: &str) -> Option<i64> {
        self.labels.get(label).copied()
    }

    fn available(&self, version: i64) -> Option<&i64> {
        self.available.get(&version)
    }

    fn newest(&self) -> impl Iterator<Item = (i64, &i64)> {
        self.available.iter().rev().map(|(version, handle)| (*version, handle))
    }
}

fn share(to: &str, millionths: u64) -> Share {
    Share { to: Target::named(to), millionths }
}

fn split(rules: Rules) -> (Arc<Split>, SplitCounts) {
    let counts = SplitCounts::default();
    (Arc::new(Split::new("m", rules, &counts)), counts)
}

fn keys(name: &str, value: &str) -> Arc<Keys> {
    let wanted = Wanted::of([name].into_iter()).unwrap();
    Keys::read(&wanted, |_| Some(value.as_bytes())).unwrap()
}

/// Returns the version for a request with these headers.
fn version(split: &Arc<Split>, versions: &Numbers, keys: Option<&Keys>, number: u64) -> Option<i64> {
    split.decide(versions, keys, number).map(|(version, _)| *version)
}

/// Returns the counts of target `to` that are not 0.
fn counts(split: &Split, versions: &Numbers, to: &str) -> Vec<(&'static str, u64)> {
    let told = split.told(versions).into_iter().find(|told| told.to == to).unwrap();
    told.counts.into_iter().filter(|(_, count)| *count > 0).collect()
}

#[test]
fn the_rest_goes_to_the_newest_version_that_is_not_named() {
    let (split, _) = split(Rules { shares: vec![share("canary", 0)], ..Rules::default() });
    let labelled = [("canary", 4)];
    assert_eq!(version(&split, &Numbers::of(&[2, 3, 4], &labelled), None, 1), Some(3));
    assert_eq!(version(&split, &Numbers::of(&[2, 3, 4, 5], &labelled), None, 1), Some(5));
    // Rather than nothing.
    assert_eq!(version(&split, &Numbers::of(&[4], &labelled), None, 1), Some(4));
    assert_eq!(version(&split, &Numbers::default(), None, 1), None);
    assert_eq!(split.default(&Numbers::of(&[3, 4], &labelled)), Some(&3));
}

#[test]
fn a_target_that_is_not_there_leaves_its_share_to_the_default_and_that_is_counted() {
    let rules = Rules {
        default_to: Some(Target::named("3")),
        shares: vec![share("canary", rules::WHOLE)],
        ..Rules::default()
    };
    let (split, _) = split(rules);
    let unlabelled = Numbers::of(&[2, 3, 4], &[]);
    assert_eq!(version(&split, &unlabelled, None, 1), Some(3));
    let loading = Numbers::of(&[2, 3], &[("canary", 4)]);
    assert_eq!(version(&split, &loading, None, 1), Some(3));
    let loaded = Numbers::of(&[2, 3, 4], &[("canary", 4)]);
    assert_eq!(version(&split, &loaded, None, 1), Some(4));
    assert_eq!(counts(&split, &loaded, "canary"), [("weight", 1), ("unavailable", 2)]);
    assert!(counts(&split, &loaded, DEFAULT).is_empty());
    let told = split.told(&loading);
    assert_eq!((told[1].version, told[1].available, told[0].version), (Some(4), false, Some(3)));
}

#[test]
fn another_version_stands_in_for_a_default_that_is_not_there() {
    let rules =
        Rules { default_to: Some(Target::named("stable")), shares: vec![share("4", 0)], ..Rules::default() };
    let (split, _) = split(rules);
    let versions = Numbers::of(&[2, 4], &[("stable", 3)]);
    assert_eq!(version(&split, &versions, None, 1), Some(2));
    assert_eq!(counts(&split, &versions, DEFAULT), [("unavailable", 1)]);
}

#[test]
fn headers_come_before_shares_and_the_first_that_fits_counts() {
    let header = |value: &str, to: &str| HeaderRule {
        name: "x-version".into(),
        value: value.into(),
        to: Target::named(to),
    };
    let rules = Rules {
        default_to: Some(Target::named("1")),
        shares: vec![share("2", rules::WHOLE)],
        headers: vec![header("old", "1"), header("new", "3"), header("new", "2")],
        ..Rules::default()
    };
    let (split, _) = split(rules);
    let versions = Numbers::of(&[1, 2, 3], &[]);
    for (value, expected) in [("old", 1), ("new", 3), ("New", 2), (" ", 2)] {
        assert_eq!(version(&split, &versions, Some(&keys("x-version", value)), 7), Some(expected), "{value}");
    }
    assert_eq!(version(&split, &versions, Some(&keys("x-other", "new")), 7), Some(2));
    assert_eq!(counts(&split, &versions, "2"), [("weight", 3)]);
    assert_eq!(counts(&split, &versions, DEFAULT), [("header", 1)]);
}

#[test]
fn a_key_always_has_the_same_version_and_models_differ() {
    let rules =
        || Rules { shares: vec![share("2", 300_000)], key: Some("x-user".into()), ..Rules::default() };
    let versions = Numbers::of(&[1, 2], &[]);
    let (one, _) = split(rules());
    let other = Arc::new(Split::new("other", rules(), &SplitCounts::default()));
    let of = |split: &Arc<Split>, user: u64, number| {
        version(split, &versions, Some(&keys("x-user", &user.to_string())), number)
    };
    let users = 0..2000u64;
    let first: Vec<_> = users.clone().map(|user| of(&one, user, 1)).collect();
    assert_eq!(first, users.clone().map(|user| of(&one, user, 2)).collect::<Vec<_>>());
    let new = first.iter().filter(|version| **version == Some(2)).count();
    assert!((500..700).contains(&new), "{new}");
    assert_ne!(first, users.map(|user| of(&other, user, 1)).collect::<Vec<_>>());
    assert_eq!(counts(&one, &versions, "2"), [("key", 2 * new as u64)]);
}

fn watched() -> Rules {
    Rules {
        shares: vec![share("canary", rules::WHOLE)],
        roll_back: Some(RollBackRule {
            max_errors: Some(0.1),
            min_requests: 10,
            window: Duration::from_secs(60),
            ..RollBackRule::default()
        }),
        ..Rules::default()
    }
}

/// Has `requests` ask and fail.
fn fail(split: &Arc<Split>, versions: &Numbers, requests: usize) {
    for _ in 0..requests {
        let (_, decision) = split.decide(versions, None, 1).unwrap();
        decision.runs();
        decision.ended(Err(&Error::internal("")), true);
    }
}

#[test]
fn a_version_that_is_rolled_back_gets_nothing_and_another_behind_its_label_does() {
    let (split, _) = split(watched());
    let versions = Numbers::of(&[1, 2], &[("canary", 2)]);
    let mut now = Instant::now() + Duration::from_secs(2);
    fail(&split, &versions, 9);
    split.look(now);
    assert_eq!(version(&split, &versions, None, 1), Some(2), "too few requests");
    fail(&split, &versions, 5);
    split.look(now);
    assert!(split.told(&versions)[1].rolled_back.is_none(), "not looked at again so soon");
    now += Duration::from_secs(2);
    split.look(now);
    assert_eq!(version(&split, &versions, None, 1), Some(1));
    let told = split.told(&versions).swap_remove(1);
    let why = told.rolled_back.unwrap();
    assert_eq!(
        (why.version, &*why.why),
        (2, "100 % of its requests failed, more than 10 %, of 14 requests in 60 s")
    );
    assert_eq!(counts(&split, &versions, "canary"), [("weight", 15), ("rolled_back", 1)]);
    // Another version, of which nothing is known: so before a request comes.
    let moved = Numbers::of(&[1, 2, 3], &[("canary", 3)]);
    assert!(split.told(&moved)[1].rolled_back.is_none());
    assert_eq!(version(&split, &moved, None, 1), Some(3));
    now += Duration::from_secs(2);
    split.look(now);
    assert_eq!(version(&split, &moved, None, 1), Some(3));
    assert!(split.told(&moved)[1].rolled_back.is_none());
    assert!(split.told(&versions)[1].rolled_back.is_some(), "the label is back");
}

/// Returns whether the gauge of target `to` says that it is rolled back.
fn gauge(counts: &SplitCounts, to: &str) -> bool {
    let mut found = None;
    counts.each_target(|[_, name], counts| found = found.or((name == to).then(|| counts.rolled_back())));
    found == Some(1)
}

#[test]
fn the_gauge_follows_the_label_before_a_request_comes() {
    let (split, counts) = split(watched());
    let versions = Numbers::of(&[1, 2], &[("canary", 2)]);
    let now = Instant::now() + Duration::from_secs(2);
    fail(&split, &versions, 20);
    split.look(now);
    assert!(gauge(&counts, "canary"));
    split.follow(&Numbers::of(&[1, 2, 3], &[("canary", 3)]));
    assert!(!gauge(&counts, "canary"));
    split.look(now + Duration::from_secs(2));
    assert!(!gauge(&counts, "canary"));
    split.follow(&versions);
    assert!(gauge(&counts, "canary"));
}

#[test]
fn what_is_resumed_begins_anew_and_the_others_windows_go_on() {
    let (split, counts) = split(watched());
    let versions = Numbers::of(&[1, 2], &[("canary", 2)]);
    let mut now = Instant::now() + Duration::from_secs(2);
    fail(&split, &versions, 20);
    split.look(now);
    // The default has 5 requests since.
    fail(&split, &versions, 5);
    split.resume(now);
    assert_eq!(version(&split, &versions, None, 1), Some(2));
    let told = split.told(&versions).swap_remove(1);
    assert!(told.rolled_back.is_none() && told.window.is_none() && !gauge(&counts, "canary"));
    now += Duration::from_secs(2);
    split.look(now);
    assert_eq!(version(&split, &versions, None, 1), Some(2), "what had come before says nothing");
    let requests = |place: usize| split.told(&versions)[place].window.map(|window| window.requests);
    assert_eq!((requests(0), requests(1)), (Some(5), Some(0)));
}

#[test]
fn what_ends_late_is_not_the_next_versions() {
    let (split, _) = split(watched());
    let versions = Numbers::of(&[1, 2], &[("canary", 2)]);
    let late: Vec<_> = (0..20).map(|_| split.decide(&versions, None, 1).unwrap().1).collect();
    let moved = Numbers::of(&[1, 2, 3], &[("canary", 3)]);
    assert_eq!(version(&split, &moved, None, 1), Some(3));
    for decision in late {
        decision.runs();
        decision.ended(Err(&Error::internal("")), true);
    }
    split.look(Instant::now() + Duration::from_secs(2));
    assert_eq!(version(&split, &moved, None, 1), Some(3));
}

#[test]
fn nobody_stands_in_who_is_rolled_back_or_a_shadow() {
    let shadow =
        ShadowRule { to: Target::Version(5), share: 1.0, tolerance: 0.0, timeout: Duration::from_secs(1) };
    let rules = Rules {
        default_to: Some(Target::Version(2)),
        shares: vec![share("4", rules::WHOLE / 2), share("3", rules::WHOLE / 4)],
        shadow: Some(shadow),
        ..watched()
    };
    let (split, _) = split(rules);
    let default = |versions: &[i64]| split.default(&Numbers::of(versions, &[])).copied();
    assert_eq!(
        (default(&[2, 3, 4, 5]), default(&[1, 3, 4, 5]), default(&[3, 4, 5])),
        (Some(2), Some(1), Some(4))
    );
    split.arms[1].find(&Numbers::of(&[4], &[])).unwrap();
    split.arms[1].look(Instant::now(), Duration::from_secs(60));
    assert_eq!(split.arms[1].roll_back("why", true), Some(4));
    assert_eq!((default(&[3, 4, 5]), default(&[4, 5])), (Some(3), Some(5)));
}

#[test]
fn what_clients_do_wrong_rolls_nothing_back_unless_it_counts() {
    for (client_errors, expected) in [(false, 2), (true, 1)] {
        let mut rules = watched();
        rules.roll_back.as_mut().unwrap().client_errors = client_errors;
        let (split, _) = split(rules);
        let versions = Numbers::of(&[1, 2], &[("canary", 2)]);
        for _ in 0..20 {
            split.decide(&versions, None, 1).unwrap().1.ended(Err(&Error::invalid("")), true);
        }
        split.look(Instant::now() + Duration::from_secs(2));
        assert_eq!(version(&split, &versions, None, 1), Some(expected));
    }
}

#[test]
fn the_thread_rolls_back_and_ends_with_the_last_rule() {
    let (split, _) = split(watched());
    let versions = Numbers::of(&[1, 2], &[("canary", 2)]);
    let watching = Watching::default();
    watching.watch([split.clone()].into_iter());
    fail(&split, &versions, 20);
    while version(&split, &versions, None, 1) != Some(1) {
        std::thread::yield_now();
    }
    watching.watch(std::iter::empty());
    // The test's own.
    while Arc::strong_count(&split) > 1 {
        std::thread::yield_now();
    }
}
