//! Versions that are loaded on demand, and those that make room.

use super::*;
use crate::batch::Scheduler;
use crate::engine::fake;
use crate::servable::Resources;
use crate::servable::placement::Policy;

fn servable(scheduler: &Scheduler, version: i64) -> Arc<Servable> {
    let resources = Resources::plain(Policy::Auto, scheduler);
    Servable::new("m".to_owned(), version, fake::model(|| ()), resources).0
}

fn latest(registry: &Registry) -> Result<i64> {
    registry.resolve("m", &VersionChoice::Latest).map(|servable| servable.version())
}

fn told(registry: &Registry, version: i64) -> State {
    registry.status("m", Some(version)).unwrap()[0].state
}

#[test]
fn a_higher_version_that_is_loaded_on_demand_is_waited_for() {
    let (registry, scheduler) = (Registry::default(), Scheduler::with_slots(1));
    registry.publish(servable(&scheduler, 1));
    assert_eq!((latest(&registry), registry.dormant("m", &VersionChoice::Latest)), (Ok(1), None));
    registry.set_state("m", 3, State::Start, None);
    assert_eq!(latest(&registry), Ok(1), "it is being loaded, and replaces the other then");
    registry.set_on_demand("m", 3, true);
    assert_eq!(latest(&registry).unwrap_err().kind, Kind::NotFound);
    assert_eq!(registry.dormant("m", &VersionChoice::Latest), Some(3));
    assert_eq!(registry.dormant("m", &VersionChoice::Version(1)), None);
    registry.set_labels("m", [("new".to_owned(), 3), ("old".to_owned(), 1)].into());
    let dormant = |label: &str| registry.dormant("m", &VersionChoice::Label(label.to_owned()));
    assert_eq!((dormant("new"), dormant("old"), dormant("none")), (Some(3), None, None));
    registry.publish(servable(&scheduler, 3));
    assert_eq!((latest(&registry), registry.dormant("m", &VersionChoice::Latest)), (Ok(3), None));
    registry.set_state("m", 2, State::Start, None);
    registry.set_on_demand("m", 2, true);
    assert_eq!(latest(&registry), Ok(3), "a lower one is waited for only by its number");
    assert_eq!(registry.dormant("m", &VersionChoice::Version(2)), Some(2));
}

#[test]
fn clients_are_told_that_it_is_available_until_its_load_fails() {
    let registry = Registry::default();
    registry.set_state("m", 1, State::Start, None);
    assert_eq!((told(&registry, 1), registry.is_available("m", None)), (State::Start, Some(false)));
    assert!(!registry.serves_what_it_should());
    registry.set_on_demand("m", 1, true);
    for state in [State::Start, State::Loading, State::Unloading, State::End] {
        registry.set_state("m", 1, state, None);
        assert_eq!(told(&registry, 1), State::Available);
        assert_eq!(
            (registry.is_available("m", None), registry.is_available("m", Some(1))),
            (Some(true), Some(true))
        );
        assert!(registry.serves_what_it_should() && !registry.serves());
        assert_eq!(registry.states()[0].1.state, state, "operators see what is");
    }
    registry.set_state("m", 1, State::End, Some(Error::internal("broken")));
    assert_eq!((told(&registry, 1), registry.is_available("m", Some(1))), (State::End, Some(false)));
    assert_eq!(registry.dormant("m", &VersionChoice::Latest), Some(1), "the next request tries again");
    registry.set_on_demand("m", 1, false);
    assert_eq!(registry.dormant("m", &VersionChoice::Latest), None);
}

#[test]
fn a_version_rests_only_while_no_request_holds_it() {
    let (registry, scheduler) = (Registry::default(), Scheduler::with_slots(1));
    registry.publish(servable(&scheduler, 1));
    let held = registry.resolve("m", &VersionChoice::Latest).unwrap();
    assert!(!registry.rest("m", 1));
    assert_eq!(latest(&registry), Ok(1));
    drop(held);
    assert!(registry.rest("m", 1));
    assert!(latest(&registry).is_err());
    assert_eq!(registry.dormant("m", &VersionChoice::Latest), Some(1), "a request has it loaded again");
    assert!(!registry.rest("m", 1) && !registry.rest("m", 7) && !registry.rest("n", 1));
}

#[test]
fn what_is_retired_is_loaded_by_no_request() {
    let (registry, scheduler) = (Registry::default(), Scheduler::with_slots(1));
    registry.set_state("m", 1, State::Start, None);
    registry.set_on_demand("m", 1, true);
    registry.publish(servable(&scheduler, 1));
    registry.retire("m", 1).unwrap();
    assert_eq!(
        (registry.dormant("m", &VersionChoice::Version(1)), told(&registry, 1)),
        (None, State::Unloading)
    );
}
