//! Traffic that is spread over the versions of a model: the rules in force, and the version for a request that names none.

use super::{Model, Registry, VersionChoice, found};
use crate::chance::random;
use crate::error::Result;
use crate::metrics::SplitCounts;
use crate::servable::Servable;
use crate::traffic_split::rules::{Rules, Target};
use crate::traffic_split::{ArmTold, Decision, Keys, Split, Versions, Wanted, Watching};
use arc_swap::ArcSwapOption;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// All rules in force.
#[derive(Default)]
pub(super) struct Splits {
    counts: Arc<SplitCounts>,
    by_model: Mutex<BTreeMap<String, Arc<Split>>>,
    /// Whether any headers are wanted, and which.
    wants: AtomicBool,
    wanted: ArcSwapOption<Wanted>,
    watching: Watching,
}

impl Versions for Model {
    type Handle = Arc<Servable>;

    fn labelled(&self, label: &str) -> Option<i64> {
        self.labels.get(label).copied()
    }

    fn available(&self, version: i64) -> Option<&Arc<Servable>> {
        self.available.get(&version)
    }

    fn newest(&self) -> impl Iterator<Item = (i64, &Arc<Servable>)> {
        self.available.iter().rev().map(|(version, servable)| (*version, servable))
    }
}

impl Model {
    /// Returns the version for what names none and is not spread: the newest, or what the rules say.
    pub(super) fn default_version(&self) -> Option<&Arc<Servable>> {
        match &self.split {
            None => self.latest(),
            Some(split) => split.default(self),
        }
    }
}

impl Registry {
    /// Starts empty. What becomes of traffic that is spread is counted in `counts`.
    pub fn counting(counts: Arc<SplitCounts>) -> Registry {
        Registry { splits: Splits { counts, ..Splits::default() }, ..Registry::default() }
    }

    /// Does what [`Self::resolve`] does for a call: one that names no version goes where its model's rules send it, and whose
    /// headers say `keys`.
    pub fn route(
        &self,
        name: &str,
        choice: &VersionChoice,
        keys: Option<&Keys>,
    ) -> Result<(Arc<Servable>, Option<Decision>)> {
        let table = self.table.load();
        let model = table.get(name).map(|model| &**model);
        if let (VersionChoice::Latest, Some(model)) = (choice, model)
            && let Some(split) = &model.split
            && let Some((servable, decision)) = split.decide(model, keys, random())
        {
            return Ok((servable.clone(), Some(decision)));
        }
        found(model, name, choice).map(|servable| (servable, None))
    }

    /// Reads those headers of a request that any rules ask for; `header` returns the first value of one, whose name is in lower
    /// case.
    pub fn keys<'h>(&self, header: impl Fn(&str) -> Option<&'h [u8]>) -> Option<Arc<Keys>> {
        if !self.splits.wants.load(Relaxed) {
            return None;
        }
        Keys::read(self.splits.wanted.load().as_ref()?, header)
    }

    /// Returns the version of `name` that `target` stands for, if it is available.
    pub fn target(&self, name: &str, target: &Target) -> Option<Arc<Servable>> {
        let choice = match target {
            Target::Version(version) => VersionChoice::Version(*version),
            Target::Label(label) => VersionChoice::Label(label.to_string()),
        };
        self.resolve(name, &choice).ok()
    }

    /// Puts `rules` in force for `name`; `None` for none. Rules that are in force already stay as they are, with what they have
    /// rolled back, which has its share again if that is to be `renewed`.
    pub fn set_split(&self, name: &str, rules: Option<Rules>, renewed: bool) {
        let splits = &self.splits;
        let mut by_model = splits.by_model.lock().unwrap_or_else(PoisonError::into_inner);
        let before = by_model.get(name);
        if before.map(|split| split.rules()) == rules.as_ref() {
            before.filter(|_| renewed).into_iter().for_each(|split| split.resume(Instant::now()));
            return;
        }
        let before = before.cloned();
        let split = rules.map(|rules| Arc::new(Split::new(name, rules, &splits.counts)));
        match &split {
            Some(split) => by_model.insert(name.to_owned(), split.clone()),
            None => {
                splits.counts.forget(name);
                by_model.remove(name)
            }
        };
        let names = by_model.values().flat_map(|split| split.rules().header_names());
        let wanted = Wanted::of(names);
        splits.wants.store(wanted.is_some(), Relaxed);
        splits.wanted.store(wanted);
        self.change(name, |model| model.split = split);
        // Now that no request is routed by them.
        before.into_iter().for_each(|split| split.ends());
        splits.watching.watch(by_model.values().cloned());
    }

    /// Returns the rules for `name` with what is known of each target; `None` if there are none.
    pub fn split(&self, name: &str) -> Option<(Arc<Split>, Vec<ArmTold>)> {
        let table = self.table.load();
        let model = table.get(name)?;
        let split = model.split.clone()?;
        let told = split.told(&**model);
        Some((split, told))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Scheduler;
    use crate::engine::fake;
    use crate::error::{Error, Kind};
    use crate::servable::Resources;
    use crate::servable::placement::Policy;
    use crate::traffic_split::rules::{HeaderRule, RollBackRule, Share, WHOLE};
    use std::time::Duration;

    fn registry(versions: &[i64]) -> (Registry, Scheduler) {
        let (registry, scheduler) = (Registry::default(), Scheduler::with_slots(1));
        for version in versions {
            let resources = Resources::plain(Policy::Caller, &scheduler);
            registry.publish(Servable::new("m".to_owned(), *version, fake::model(|| {}), resources).0);
        }
        (registry, scheduler)
    }

    fn rules(millionths: u64) -> Rules {
        Rules {
            default_to: Some(Target::Version(1)),
            shares: vec![Share { to: Target::Label("canary".into()), millionths }],
            headers: vec![HeaderRule { name: "x-old".into(), value: "1".into(), to: Target::Version(1) }],
            ..Rules::default()
        }
    }

    fn routed(registry: &Registry, choice: &VersionChoice, keys: Option<&Keys>) -> (i64, bool) {
        let (servable, decision) = registry.route("m", choice, keys).unwrap();
        (servable.version(), decision.is_some())
    }

    #[test]
    fn only_what_names_no_version_is_spread() {
        let (registry, _scheduler) = registry(&[1, 2, 3]);
        assert_eq!(routed(&registry, &VersionChoice::Latest, None), (3, false));
        registry.set_labels("m", [("canary".to_owned(), 2)].into());
        registry.set_split("m", Some(rules(WHOLE)), false);
        assert_eq!(routed(&registry, &VersionChoice::Latest, None), (2, true));
        assert_eq!(routed(&registry, &VersionChoice::Version(3), None), (3, false));
        assert_eq!(routed(&registry, &VersionChoice::Label("canary".to_owned()), None), (2, false));
        assert_eq!(registry.resolve("m", &VersionChoice::Latest).unwrap().version(), 1, "the default");
        registry.set_split("m", None, false);
        assert_eq!(routed(&registry, &VersionChoice::Latest, None), (3, false));
        assert!(registry.split("m").is_none());
    }

    #[test]
    fn headers_are_read_as_long_as_any_rules_ask_for_them() {
        let (registry, _scheduler) = registry(&[1, 2]);
        registry.set_labels("m", [("canary".to_owned(), 2)].into());
        assert!(registry.keys(|_| Some(&b"1"[..])).is_none());
        registry.set_split("m", Some(rules(WHOLE)), false);
        let keys = registry.keys(|name| (name == "x-old").then_some(&b"1"[..])).unwrap();
        assert_eq!(routed(&registry, &VersionChoice::Latest, Some(&keys)), (1, true));
        registry.set_split("m", None, false);
        assert!(registry.keys(|_| Some(&b"1"[..])).is_none());
    }

    #[test]
    fn rules_that_are_in_force_stay_and_others_end_them() {
        let (registry, _scheduler) = registry(&[1]);
        registry.set_split("m", Some(rules(WHOLE)), false);
        let before = registry.split("m").unwrap().0;
        for renewed in [false, true] {
            registry.set_split("m", Some(rules(WHOLE)), renewed);
            assert!(Arc::ptr_eq(&before, &registry.split("m").unwrap().0) && !before.has_ended());
        }
        registry.set_split("m", Some(rules(5)), false);
        let other = registry.split("m").unwrap().0;
        assert!(!Arc::ptr_eq(&before, &other) && before.has_ended() && !other.has_ended());
        registry.set_split("m", None, false);
        assert!(other.has_ended());
    }

    #[tokio::test]
    async fn a_label_that_moves_is_followed_and_counts_go_with_the_rules() {
        let counts = Arc::<SplitCounts>::default();
        let registry = Registry::counting(counts.clone());
        let told = || {
            let mut told = Vec::new();
            counts.each_target(|[_, name], counts| told.push((name.to_owned(), counts.rolled_back())));
            told
        };
        let scheduler = Scheduler::with_slots(1);
        for version in [1, 2, 3] {
            let resources = Resources::plain(Policy::Caller, &scheduler);
            registry.publish(Servable::new("m".to_owned(), version, fake::model(|| {}), resources).0);
        }
        registry.set_labels("m", [("canary".to_owned(), 2)].into());
        let roll_back = RollBackRule {
            max_errors: Some(0.1),
            min_requests: 1,
            window: Duration::from_secs(60),
            ..RollBackRule::default()
        };
        let rules = Rules { headers: Vec::new(), roll_back: Some(roll_back), ..rules(WHOLE) };
        registry.set_split("m", Some(rules), false);
        while told()[0].1 == 0 {
            let (_, decision) = registry.route("m", &VersionChoice::Latest, None).unwrap();
            let decision = decision.unwrap();
            decision.runs();
            decision.ended(Err(&Error::internal("")), true);
            std::thread::yield_now();
        }
        registry.set_labels("m", [("canary".to_owned(), 3)].into());
        assert_eq!(told(), [("canary".to_owned(), 0), ("default".to_owned(), 0)]);
        registry.set_split("m", None, false);
        assert!(told().is_empty());
    }

    #[test]
    fn a_model_without_versions_is_missing_as_ever() {
        let registry = Registry::default();
        registry.set_split("m", Some(rules(WHOLE)), false);
        let missing = registry.route("m", &VersionChoice::Latest, None).map(|_| ()).unwrap_err();
        assert_eq!(
            (missing.kind, &*missing.message),
            (Kind::NotFound, "Servable not found for request: Latest(m)")
        );
        assert!(registry.target("m", &Target::named("canary")).is_none());
    }
}
