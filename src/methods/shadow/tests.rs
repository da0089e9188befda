//! Shadows of a model of this process.

use super::*;
use crate::config::Options;
use crate::direct::{self, Question as Asked, Reply};
use crate::engine::{Model, fake};
use crate::methods::ModelSpec;
use crate::metrics::ShadowCounts;
use crate::registry::VersionChoice;
use crate::servable::placement::Policy;
use crate::servable::{Drain, Resources};
use crate::traffic_split::rules::{Rules, ShadowRule, Share, Target, WHOLE};
use std::sync::mpsc::{Receiver, Sender, channel};

/// Starts a server with `models` as versions 1, 2 and so on of `m`, whose requests go to version 1, and to `shadow`, too.
fn server(models: Vec<Box<dyn Model>>, shadow: &str) -> Arc<ServerState> {
    drained(models, shadow).0
}

/// Does the same, and returns what frees each version.
fn drained(models: Vec<Box<dyn Model>>, shadow: &str) -> (Arc<ServerState>, Vec<Drain>) {
    let server = Arc::new(ServerState::for_tests(Options::closed()));
    server.shadows.serve(&server);
    let mut drains = Vec::new();
    for (version, model) in (1..).zip(models) {
        let resources = Resources::plain(Policy::Caller, &server.scheduler);
        let (servable, drain) = Servable::new("m".to_owned(), version, model, resources);
        server.registry.publish(servable);
        drains.push(drain);
    }
    server.registry.set_split("m", Some(rules(shadow)), false);
    (server, drains)
}

fn rules(shadow: &str) -> Rules {
    let rule = ShadowRule {
        to: Target::named(shadow),
        share: 1.0,
        tolerance: 1e-5,
        timeout: Duration::from_secs(10),
    };
    Rules { default_to: Some(Target::Version(1)), shadow: Some(rule), ..Rules::default() }
}

/// Returns a model whose runs hang until the sender is dropped, and what tells that one has begun.
fn hanging() -> (Box<dyn Model>, Sender<()>, Receiver<()>) {
    let ((began, begins), (go, goes)) = (channel(), channel::<()>());
    let goes = Mutex::new(goes);
    let model = fake::model(move || {
        began.send(()).unwrap();
        let _ended = goes.lock().unwrap_or_else(PoisonError::into_inner).recv();
    });
    (model, go, begins)
}

/// Waits until copies have been compared.
fn until_equal(counts: &ShadowCounts, times: u64) {
    let begun = Instant::now();
    while counts.counts().next() != Some(("equal", times)) {
        assert!(begun.elapsed() < Duration::from_secs(60), "nothing is compared");
        std::thread::yield_now();
    }
}

fn plain() -> Box<dyn Model> {
    fake::model(|| {})
}

fn numbers(values: &[f32]) -> Tensor {
    floats(values, values.len() + 1)
}

/// Asks for the sum and the difference of 3 and 2.
async fn asked(server: &Arc<ServerState>) -> Reply {
    let spec =
        ModelSpec { name: "m".to_owned(), choice: VersionChoice::Latest, signature_name: String::new() };
    let inputs = [("a", 3.0), ("b", 2.0)].map(|(name, value)| (name.to_owned(), numbers(&[value])));
    let asked = Asked { spec, inputs: inputs.into(), outputs: Vec::new(), lent: Vec::new() };
    direct::ask(server, asked, None).await.unwrap()
}

/// Asks version 1.
async fn ask(server: &Arc<ServerState>) {
    let reply = asked(server).await;
    assert_eq!(reply.version, 1);
    assert_eq!(reply.outputs[1].1.bytes(), 5f32.to_le_bytes());
}

fn counts(server: &ServerState) -> Arc<ShadowCounts> {
    server.registry.split("m").unwrap().0.shadow().unwrap().1.clone()
}

/// Returns what became of the copies, once that is known.
fn fates(server: &ServerState) -> Vec<(&'static str, u64)> {
    server.shadows.settle();
    counts(server).counts().filter(|(_, count)| *count > 0).collect()
}

#[tokio::test]
async fn answers_are_compared_and_counted_and_never_returned() {
    for (more, fate) in [(0.0, "equal"), (1e-6, "equal"), (0.1, "different")] {
        let server = server(vec![plain(), fake::off_by(more)], "2");
        ask(&server).await;
        assert_eq!(fates(&server), [(fate, 1)]);
        let [error, difference] = counts(&server).texts();
        assert_eq!((error, difference.is_some()), (None, fate == "different"));
        assert_eq!(counts(&server).quantiles().len(), 2);
    }
}

#[tokio::test]
async fn a_shadow_that_fails_is_counted_and_the_next_one_is_asked() {
    let failing = fake::model(|| panic!("on purpose"));
    let server = server(vec![plain(), failing], "2");
    for _ in 0..3 {
        ask(&server).await;
        server.shadows.settle();
    }
    assert_eq!(fates(&server), [("failed", 3)]);
    assert!(counts(&server).texts()[0].is_some());
}

#[tokio::test]
async fn a_shadow_that_hangs_has_copies_dropped_and_requests_answered() {
    let (hanging, go, begins) = hanging();
    let server = server(vec![plain(), hanging], "2");
    for _ in 0..MOST_THREADS {
        ask(&server).await;
        begins.recv_timeout(Duration::from_secs(60)).unwrap();
    }
    for _ in 0..MOST_WAITING + 5 {
        ask(&server).await;
    }
    assert_eq!(counts(&server).counts().find(|(name, _)| *name == "dropped_busy"), Some(("dropped_busy", 5)));
    drop(go);
    let compared = (MOST_THREADS + MOST_WAITING) as u64;
    assert_eq!(fates(&server), [("equal", compared), ("dropped_busy", 5)]);
}

#[tokio::test]
async fn copies_for_former_rules_are_not_asked_and_block_none_for_others() {
    let (hanging, go, begins) = hanging();
    let server = server(vec![plain(), hanging, plain()], "2");
    for _ in 0..MOST_THREADS {
        ask(&server).await;
        begins.recv_timeout(Duration::from_secs(60)).unwrap();
    }
    for _ in 0..MOST_WAITING {
        ask(&server).await;
    }
    let former = counts(&server);
    server.registry.set_split("m", Some(rules("3")), false);
    for times in 1..=5 {
        ask(&server).await;
        until_equal(&counts(&server), times);
    }
    drop(go);
    server.shadows.settle();
    assert!(begins.try_recv().is_err(), "another copy for the former shadow has been asked");
    assert!(former.counts().all(|(_, count)| count == 0));
    assert!(server.shadows.0.state().threads <= MOST_THREADS);
    assert_eq!(server.shadows.0.bytes.load(Relaxed), 0);
}

#[tokio::test]
async fn memory_of_copies_for_former_rules_is_given_back_when_others_need_it() {
    let (hanging, go, begins) = hanging();
    let server = server(vec![plain(), hanging, plain()], "2");
    for _ in 0..MOST_THREADS {
        ask(&server).await;
        begins.recv_timeout(Duration::from_secs(60)).unwrap();
    }
    ask(&server).await;
    let all = &server.shadows.0.bytes;
    let rest = Held::take(all, MOST_BYTES - all.load(Relaxed)).unwrap();
    server.registry.set_split("m", Some(rules("3")), false);
    ask(&server).await;
    until_equal(&counts(&server), 1);
    drop((rest, go));
}

#[tokio::test]
async fn a_version_that_is_withdrawn_interrupts_its_copies() {
    let (hanging, told) = fake::hanging();
    let (server, mut drains) = drained(vec![plain(), hanging], "2");
    ask(&server).await;
    assert_eq!(told.recv().unwrap(), "begun");
    drop(server.registry.retire("m", 2).unwrap());
    drains.remove(1).wait_and_free();
    assert_eq!(told.recv().unwrap(), "interrupted");
    assert_eq!(fates(&server), [("dropped_unavailable", 1)]);
}

#[tokio::test]
async fn a_server_that_ends_asks_no_more() {
    let server = server(vec![plain(), plain()], "2");
    ask(&server).await;
    assert_eq!(fates(&server), [("equal", 1)]);
    server.shadows.end();
    ask(&server).await;
    assert_eq!(fates(&server), [("equal", 1), ("dropped_busy", 1)]);
}

#[tokio::test]
async fn a_copy_that_waits_keeps_no_version_and_is_dropped_when_its_is_gone() {
    let server = server(vec![plain(), plain()], "2");
    let split = server.registry.split("m").unwrap().0;
    let servable = server.registry.resolve("m", &VersionChoice::Latest).unwrap();
    let inputs = vec![numbers(&[1.0]), numbers(&[1.0])];
    let request = Request::Predict { signature: "serving_default".into(), inputs, outputs: vec![0].into() };
    let mut copy = Shadowed::take(&server.shadows, &split, &servable, &request).unwrap();
    copy.answered(&Answer::Outputs(vec![("difference", numbers(&[0.0]))]));
    drop(server.registry.retire("m", 2).unwrap());
    server.shadows.ask(*copy);
    assert_eq!(fates(&server), [("dropped_unavailable", 1)]);
    ask(&server).await;
}

#[tokio::test]
async fn a_call_of_the_process_is_spread_as_any_other() {
    let server = server(vec![plain(), plain()], "1");
    let share = Share { to: Target::Version(2), millionths: WHOLE };
    server.registry.set_split("m", Some(Rules { shares: vec![share], ..Rules::default() }), false);
    assert_eq!(asked(&server).await.version, 2);
}

#[tokio::test]
async fn a_version_is_not_compared_with_itself() {
    let server = server(vec![plain()], "1");
    ask(&server).await;
    assert!(fates(&server).is_empty());
}

#[tokio::test]
async fn a_copy_has_memory_of_its_own() {
    let server = server(vec![plain(), plain()], "2");
    let split = server.registry.split("m").unwrap().0;
    let servable = server.registry.resolve("m", &VersionChoice::Latest).unwrap();
    let inputs = vec![numbers(&[1.0]), numbers(&[1.0])];
    let request = Request::Predict {
        signature: "serving_default".into(),
        inputs: inputs.clone(),
        outputs: vec![0].into(),
    };
    let mut copy = Shadowed::take(&server.shadows, &split, &servable, &request).unwrap();
    let Question::Predict { inputs: own, .. } = &copy.question else { panic!("it is another question") };
    assert_eq!(own["a"].bytes(), inputs[0].bytes());
    assert_ne!(own["a"].bytes().as_ptr(), inputs[0].bytes().as_ptr());
    // A row of a batch.
    let output = numbers(&[1.0, 2.0]).rows(1..2);
    copy.answered(&Answer::Outputs(vec![("difference", output.clone())]));
    assert_eq!(copy.returned[0].1.bytes(), output.bytes());
    assert_ne!(copy.returned[0].1.bytes().as_ptr(), output.bytes().as_ptr());
}

#[test]
fn what_copies_hold_is_bounded_and_given_back() {
    let all = Arc::default();
    let mut held = Held::take(&all, MOST_BYTES - 1).unwrap();
    assert!(held.grow(1) && !held.grow(1) && Held::take(&all, 1).is_none());
    drop(held);
    assert!(Held::take(&all, usize::MAX).is_none());
    assert_eq!(all.load(Relaxed), 0);
}

#[test]
fn answers_have_the_same_outputs_or_differ() {
    let one = [("x".to_owned(), numbers(&[1.0]))];
    assert_eq!(difference(&one, &one, 0.0), None);
    assert_eq!(difference(&one, &[], 0.0).as_deref(), Some("0 outputs instead of 1"));
    let other = [("x".to_owned(), numbers(&[2.0]))];
    assert!(difference(&one, &other, 0.1).is_some_and(|why| why.starts_with("x: ")));
    let labels: Strings = ["a", "b"].into_iter().collect();
    let told = classified(Some(&labels), Some(&[0.5, 0.25]), 2);
    assert_eq!((told.len(), told[1].1.shape()), (2, &[1, 2][..]));
}
