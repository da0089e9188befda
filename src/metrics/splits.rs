//! What becomes of requests whose model spreads its traffic over versions, and of their copies for a shadow.

use super::latencies::{Latencies, Times};
use super::series::nanos;
use super::thread_number;
use std::array::from_fn;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Parts of the counts, so that cores do not contend.
const STRIPES: usize = 8;
/// Longest text that is kept of a shadow's last error or difference, in bytes.
const LONGEST_TEXT: usize = 512;

/// Why a request went to a target, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SplitReason {
    /// A header of it says so.
    Header,
    /// The hash of its key does.
    Key,
    /// Chance does.
    Weight,
    /// There is no other.
    Default,
    /// The target's version is not available: the default got it; or, for the default, another version.
    Unavailable,
    /// The target is rolled back: the default got it.
    RolledBack,
}

impl SplitReason {
    const ALL: [SplitReason; 6] = [
        SplitReason::Header,
        SplitReason::Key,
        SplitReason::Weight,
        SplitReason::Default,
        SplitReason::Unavailable,
        SplitReason::RolledBack,
    ];

    fn name(self) -> &'static str {
        match self {
            SplitReason::Header => "header",
            SplitReason::Key => "key",
            SplitReason::Weight => "weight",
            SplitReason::Default => "default",
            SplitReason::Unavailable => "unavailable",
            SplitReason::RolledBack => "rolled_back",
        }
    }
}

/// What became of a copy for a shadow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShadowFate {
    /// Its answer was the same.
    Equal,
    /// It was not.
    Different,
    /// The shadow answered an error, or not in time.
    Failed,
    /// It was not asked, as too many copies waited.
    Busy,
    /// The same, as these held too much memory.
    Memory,
    /// The same, as the shadow's version was not available.
    Unavailable,
}

impl ShadowFate {
    const ALL: [ShadowFate; 6] = [
        ShadowFate::Equal,
        ShadowFate::Different,
        ShadowFate::Failed,
        ShadowFate::Busy,
        ShadowFate::Memory,
        ShadowFate::Unavailable,
    ];

    fn name(self) -> &'static str {
        match self {
            ShadowFate::Equal => "equal",
            ShadowFate::Different => "different",
            ShadowFate::Failed => "failed",
            ShadowFate::Busy => "dropped_busy",
            ShadowFate::Memory => "dropped_memory",
            ShadowFate::Unavailable => "dropped_unavailable",
        }
    }
}

/// A model and a target of its traffic.
type Place = (Box<str>, Box<str>);

/// The counts of all models. They stay when the rules change, as Prometheus expects of counters, and go with the last of them.
#[derive(Debug, Default)]
pub struct SplitCounts {
    targets: Mutex<BTreeMap<Place, Arc<TargetCounts>>>,
    shadows: Mutex<BTreeMap<Place, Arc<ShadowCounts>>>,
}

impl SplitCounts {
    /// Returns the counts of a target.
    pub fn target(&self, model: &str, name: &str) -> Arc<TargetCounts> {
        let new = || Arc::new(TargetCounts { name: name.into(), ..TargetCounts::default() });
        locked(&self.targets).entry((model.into(), name.into())).or_insert_with(new).clone()
    }

    /// Returns the counts of a shadow.
    pub fn shadow(&self, model: &str, name: &str) -> Arc<ShadowCounts> {
        locked(&self.shadows).entry((model.into(), name.into())).or_default().clone()
    }

    /// Tells no more of a model whose traffic is not spread any longer.
    pub fn forget(&self, model: &str) {
        locked(&self.targets).retain(|(known, _), _| **known != *model);
        locked(&self.shadows).retain(|(known, _), _| **known != *model);
    }

    /// Calls `tell` with each model, target, and its counts.
    pub fn each_target(&self, mut tell: impl FnMut([&str; 2], &TargetCounts)) {
        locked(&self.targets).iter().for_each(|((model, name), counts)| tell([model, name], counts));
    }

    /// Does the same with each shadow.
    pub(super) fn each_shadow(&self, mut tell: impl FnMut([&str; 2], &ShadowCounts)) {
        locked(&self.shadows).iter().for_each(|((model, name), counts)| tell([model, name], counts));
    }
}

/// The counts of a target.
#[derive(Debug, Default)]
pub struct TargetCounts {
    name: Box<str>,
    stripes: [Stripe; STRIPES],
    is_rolled_back: AtomicBool,
    /// Times that it was, because of errors, and of its times.
    roll_backs: [AtomicU64; 2],
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Stripe([AtomicU64; SplitReason::ALL.len()]);

impl TargetCounts {
    /// Returns the target's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Counts a request.
    pub fn count(&self, reason: SplitReason) {
        self.stripes[thread_number() % STRIPES].0[reason as usize].fetch_add(1, Relaxed);
    }

    /// Returns the number of requests by reason.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let sums: [u64; SplitReason::ALL.len()] =
            from_fn(|reason| self.stripes.iter().map(|Stripe(counts)| counts[reason].load(Relaxed)).sum());
        SplitReason::ALL.into_iter().map(SplitReason::name).zip(sums)
    }

    /// Notes whether it is rolled back.
    pub fn is_rolled_back(&self, now: bool) {
        self.is_rolled_back.store(now, Relaxed);
    }

    /// Counts that it is rolled back. `errors`: because of these, not of its times.
    pub fn roll_back(&self, errors: bool) {
        self.roll_backs[usize::from(!errors)].fetch_add(1, Relaxed);
        self.is_rolled_back(true);
    }

    /// Returns whether it is rolled back: 1 or 0.
    pub fn rolled_back(&self) -> u64 {
        u64::from(self.is_rolled_back.load(Relaxed))
    }

    /// Returns how often it was, by cause.
    pub(super) fn roll_backs(&self) -> impl Iterator<Item = (&'static str, u64)> {
        ["errors", "latency"].into_iter().zip(self.roll_backs.each_ref().map(|count| count.load(Relaxed)))
    }
}

/// The counts of a shadow.
#[derive(Debug, Default)]
pub struct ShadowCounts {
    fates: [AtomicU64; ShadowFate::ALL.len()],
    /// The times of those whose answers were compared: of the answer that was returned, and of the shadow's.
    took: [Latencies; 2],
    /// The last error, and the last difference.
    texts: Mutex<[Option<Box<str>>; 2]>,
}

impl ShadowCounts {
    /// Counts a copy.
    pub fn count(&self, fate: ShadowFate) {
        self.fates[fate as usize].fetch_add(1, Relaxed);
    }

    /// Counts the times of an answer that was returned, and of the shadow's.
    pub fn took(&self, returned: Duration, shadow: Duration) {
        self.took[0].add(nanos(returned));
        self.took[1].add(nanos(shadow));
    }

    /// Keeps the text of an error, or of a difference, for a person to read.
    pub fn tells(&self, is_error: bool, text: &str) {
        let end = (0..=LONGEST_TEXT.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
        locked(&self.texts)[usize::from(!is_error)] = Some(text[..end.unwrap_or(0)].into());
    }

    /// Returns the number of copies by what became of them.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.fates.each_ref().map(|count| count.load(Relaxed));
        ShadowFate::ALL.into_iter().map(ShadowFate::name).zip(counts)
    }

    /// Returns the times of the answers that were returned, and of the shadow's.
    pub(super) fn times(&self) -> [(&'static str, Times); 2] {
        let read = |latencies: &Latencies| {
            let mut times = Times::default();
            times.read(latencies);
            times
        };
        [("returned", read(&self.took[0])), ("shadow", read(&self.took[1]))]
    }

    /// Returns which times 50, and 99, of 100 answers did not exceed, in seconds: of those returned, and of the shadow's.
    pub fn quantiles(&self) -> Vec<(&'static str, f64, f64)> {
        let of = |(side, times): &(&'static str, Times)| {
            let at = |share| Some(times.quantile(share)? / 1e9);
            Some((*side, at(0.5)?, at(0.99)?))
        };
        self.times().iter().filter_map(of).collect()
    }

    /// Returns the last error, and the last difference.
    pub fn texts(&self) -> [Option<Box<str>>; 2] {
        locked(&self.texts).clone()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_places_are_in_the_same_order() {
        let (target, shadow) = (TargetCounts::default(), ShadowCounts::default());
        for (times, reason) in SplitReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, times);
            (0..times).for_each(|_| target.count(reason));
        }
        for (times, fate) in ShadowFate::ALL.into_iter().enumerate() {
            assert_eq!(fate as usize, times);
            (0..times).for_each(|_| shadow.count(fate));
        }
        let named: Vec<_> = target.counts().collect();
        assert_eq!((named[1], named[5]), (("key", 1), ("rolled_back", 5)));
        assert_eq!(shadow.counts().last(), Some(("dropped_unavailable", 5)));
    }

    #[test]
    fn counts_of_a_target_stay() {
        let counts = SplitCounts::default();
        counts.target("m", "canary").count(SplitReason::Weight);
        let again = counts.target("m", "canary");
        again.roll_back(true);
        assert_eq!((again.counts().nth(2), again.name()), (Some(("weight", 1)), "canary"));
        let mut told = Vec::new();
        counts.each_target(|[model, name], counts| {
            told.push(format!("{model} {name} {}", counts.rolled_back()))
        });
        assert_eq!(told, ["m canary 1"]);
        counts.target("other", "canary");
        counts.shadow("m", "next");
        counts.forget("m");
        told.clear();
        counts.each_target(|[model, name], _| told.push(format!("{model} {name}")));
        counts.each_shadow(|[model, name], _| told.push(format!("{model} {name}")));
        assert_eq!(told, ["other canary"]);
    }

    #[test]
    fn what_a_shadow_tells_is_bounded() {
        let shadow = ShadowCounts::default();
        shadow.tells(true, &"ä".repeat(LONGEST_TEXT));
        shadow.tells(false, "another");
        let [error, difference] = shadow.texts();
        assert!(error.is_some_and(|text| text.len() <= LONGEST_TEXT && text.ends_with('ä')));
        assert_eq!(difference.as_deref(), Some("another"));
        assert!(shadow.quantiles().is_empty());
        shadow.took(Duration::from_millis(10), Duration::from_millis(20));
        let sides: Vec<_> = shadow.quantiles().into_iter().map(|(side, ..)| side).collect();
        assert_eq!(sides, ["returned", "shadow"]);
    }
}
