//! Waiting for loads: one for all who wait, failures, those who leave, and the end.

use super::*;
use crate::batch::Scheduler;
use crate::engine::fake;
use crate::registry::State;
use crate::servable::Resources;
use crate::servable::placement::Policy;
use std::pin::pin;
use tokio::task::JoinSet;

const NOW: Duration = Duration::ZERO;
/// Longest time for what happens at once.
const SOON: Duration = Duration::from_secs(60);

fn of(name: &str) -> Version {
    (name.into(), 1)
}

/// Models of these names, loaded on demand.
fn registry(names: &[&str]) -> Arc<Registry> {
    let registry = Registry::default();
    for name in names {
        registry.set_state(name, 1, State::Start, None);
        registry.set_on_demand(name, 1, true);
    }
    Arc::new(registry)
}

fn publish(registry: &Registry, name: &str) {
    let scheduler = Scheduler::with_slots(1);
    let resources = Resources::plain(Policy::Auto, &scheduler);
    registry.publish(Servable::new(name.to_owned(), 1, fake::model(|| ()), resources).0);
}

async fn polled<F: Future>(future: F) -> Option<F::Output> {
    tokio::time::timeout(Duration::from_millis(1), future).await.ok()
}

#[tokio::test]
async fn all_who_wait_for_a_version_wait_for_one_load() {
    let (registry, demand) = (registry(&["m"]), Arc::new(Demand::default()));
    let mut waiting = JoinSet::new();
    for _ in 0..1000 {
        let (registry, demand) = (registry.clone(), demand.clone());
        waiting.spawn(async move { demand.wait(&registry, "m", &VersionChoice::Latest).await });
    }
    while demand.waiting() < 1000 {
        tokio::task::yield_now().await;
    }
    assert_eq!((demand.next(NOW), demand.next(NOW)), (Some(of("m")), None));
    publish(&registry, "m");
    demand.loaded(&registry, of("m"));
    while let Some(outcome) = waiting.join_next().await {
        assert_eq!(outcome.unwrap().unwrap().version(), 1);
    }
    assert_eq!((demand.waiting(), demand.waits()), (0, 1000));
    assert!(demand.wait(&registry, "m", &VersionChoice::Latest).await.is_ok(), "it is there now");
    assert_eq!(demand.waits(), 1000);
}

#[tokio::test]
async fn versions_are_taken_in_turn_and_not_for_those_who_have_left() {
    let (registry, demand) = (registry(&["a", "b", "c"]), Demand::default());
    let latest = VersionChoice::Latest;
    let mut first = pin!(demand.wait(&registry, "a", &latest));
    assert!(polled(&mut first).await.is_none());
    assert!(polled(demand.wait(&registry, "b", &latest)).await.is_none(), "it waits, and leaves");
    let mut third = pin!(demand.wait(&registry, "c", &latest));
    assert!(polled(&mut third).await.is_none());
    assert_eq!((demand.next(NOW), demand.next(NOW), demand.next(NOW)), (Some(of("a")), Some(of("c")), None));
    assert_eq!(demand.waiting(), 2);
}

#[tokio::test]
async fn a_failure_is_told_to_all_and_for_a_while() {
    let (registry, demand) = (registry(&["m"]), Demand::default());
    let latest = VersionChoice::Latest;
    let mut waiting = pin!(demand.wait(&registry, "m", &latest));
    assert!(polled(&mut waiting).await.is_none());
    let why = Error::new(Kind::Unavailable, "it is broken");
    demand.failed(of("m"), why.clone(), SOON);
    assert_eq!(waiting.await.err(), Some(why.clone()));
    assert_eq!(demand.wait(&registry, "m", &latest).await.err(), Some(why), "without another load");
    assert_eq!(demand.next(NOW), None);
    demand.forget_failure(&of("m"));
    assert!(polled(demand.wait(&registry, "m", &latest)).await.is_none());
}

#[tokio::test]
async fn what_is_not_loaded_on_demand_is_not_waited_for() {
    let (registry, demand) = (registry(&[]), Demand::default());
    registry.set_state("m", 1, State::Loading, None);
    for (name, choice) in
        [("m", VersionChoice::Latest), ("m", VersionChoice::Version(1)), ("n", VersionChoice::Latest)]
    {
        assert_eq!(
            demand.wait(&registry, name, &choice).await.err().map(|why| why.kind),
            Some(Kind::NotFound)
        );
    }
    assert_eq!((demand.waits(), demand.next(NOW)), (0, None));
}

#[tokio::test]
async fn a_server_that_stops_ends_all_waiting() {
    let (registry, demand) = (registry(&["m"]), Arc::new(Demand::default()));
    let latest = VersionChoice::Latest;
    let mut waiting = pin!(demand.wait(&registry, "m", &latest));
    assert!(polled(&mut waiting).await.is_none());
    let taker = demand.clone();
    demand.next(NOW);
    let taker = std::thread::spawn(move || taker.next(SOON));
    demand.end();
    assert_eq!(waiting.await.err().map(|why| why.kind), Some(Kind::Unavailable));
    assert_eq!(taker.join().unwrap(), None);
    assert_eq!(demand.wait(&registry, "m", &latest).await.err().map(|why| why.kind), Some(Kind::Unavailable));
}
