//! A target of a split: the version that it stands for, and what has become of its requests.

use super::observed::{History, Observed, Seen};
use super::rollback::{Lasting, Window};
use super::rules::Target;
use crate::metrics::{SplitReason, TargetCounts};
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// No version has this number.
const NONE: i64 = i64::MIN;

/// The versions of a model.
pub trait Versions {
    /// What stands for one that is available.
    type Handle;

    /// Returns the version that has a label, available or not.
    fn labelled(&self, label: &str) -> Option<i64>;

    /// Returns a version that is available.
    fn available(&self, version: i64) -> Option<&Self::Handle>;

    /// Returns all that are available, the newest first.
    fn newest(&self) -> impl Iterator<Item = (i64, &Self::Handle)>;
}

/// Returns the version that a target stands for, available or not.
pub(super) fn version<V: Versions>(target: &Target, versions: &V) -> Option<i64> {
    match target {
        Target::Version(version) => Some(*version),
        Target::Label(label) => versions.labelled(label),
    }
}

/// Returns the version that a target stands for, if it is available.
pub(super) fn available<'v, V: Versions>(target: &Target, versions: &'v V) -> Option<(i64, &'v V::Handle)> {
    let version = version(target, versions)?;
    versions.available(version).map(|found| (version, found))
}

/// A target.
#[derive(Debug)]
pub(super) struct Arm {
    /// `None` for a default that is not named.
    target: Option<Target>,
    counts: Arc<TargetCounts>,
    /// What is seen of its requests, if it may be rolled back or is compared with.
    observed: Option<Observed>,
    /// The version that it stands for: as of the last change of the model, or the last request.
    version: AtomicI64,
    /// The version that is rolled back: another one behind the same label gets its share again.
    rolled_back: AtomicI64,
    state: Mutex<State>,
}

/// What the looks at a target have found.
#[derive(Debug)]
struct State {
    history: History,
    /// The version that it is about.
    version: i64,
    lasting: Lasting,
    window: Option<Window>,
    why: Option<RolledBack>,
}

/// Why and when a target was rolled back.
#[derive(Clone, Debug)]
pub struct RolledBack {
    /// The version.
    pub version: i64,
    /// The reason, for a person to read.
    pub why: String,
    /// The time.
    pub at: SystemTime,
}

impl Arm {
    pub(super) fn new(target: Option<Target>, counts: Arc<TargetCounts>, watched: bool) -> Arm {
        counts.is_rolled_back(false);
        let state = State {
            history: History::new(Instant::now(), Seen::default()),
            version: NONE,
            lasting: Lasting::default(),
            window: None,
            why: None,
        };
        Arm {
            target,
            counts,
            observed: watched.then(Observed::default),
            version: AtomicI64::new(NONE),
            rolled_back: AtomicI64::new(NONE),
            state: Mutex::new(state),
        }
    }

    pub(super) fn target(&self) -> Option<&Target> {
        self.target.as_ref()
    }

    pub(super) fn name(&self) -> &str {
        self.counts.name()
    }

    pub(super) fn counts(&self) -> &TargetCounts {
        &self.counts
    }

    pub(super) fn count(&self, reason: SplitReason) {
        self.counts.count(reason);
    }

    /// Returns whether it is this version, and is rolled back.
    pub(super) fn is_rolled_back(&self, version: i64) -> bool {
        self.rolled_back.load(Relaxed) == version
    }

    /// Returns the version that gets its requests, or why none does.
    pub(super) fn find<'v, V: Versions>(&self, versions: &'v V) -> Result<(i64, &'v V::Handle), SplitReason> {
        let found = self.target.as_ref().and_then(|target| available(target, versions));
        let (version, found) = found.ok_or(SplitReason::Unavailable)?;
        self.is_now(version);
        if self.is_rolled_back(version) { Err(SplitReason::RolledBack) } else { Ok((version, found)) }
    }

    /// Notes the version that its target stands for by now, before a request comes.
    pub(super) fn follow<V: Versions>(&self, versions: &V) {
        if let Some(version) = self.target.as_ref().and_then(|target| version(target, versions)) {
            self.is_now(version);
            self.counts.is_rolled_back(self.is_rolled_back(version));
        }
    }

    /// Notes the version that it stands for.
    pub(super) fn is_now(&self, version: i64) {
        // Seldom written: the cores share it.
        if self.version.load(Relaxed) != version {
            self.version.store(version, Relaxed);
        }
    }

    /// Takes down how a request to `version` ended, unless it stands for another one by now.
    pub(super) fn ended(&self, version: i64, failed: bool, took: Option<Duration>) {
        if let Some(observed) = self.observed.as_ref().filter(|_| self.version.load(Relaxed) == version) {
            observed.count(failed, took);
        }
    }

    /// Looks at what has come `now`; returns what has come within `window`, to the version that it stands for.
    pub(super) fn look(&self, now: Instant, window: Duration) -> Window {
        let Some(observed) = &self.observed else { return Window::default() };
        let (seen, version) = (observed.read(), self.version.load(Relaxed));
        let mut state = self.state();
        if state.version != version {
            // What came before was another version's. Before the first request, there was none.
            let is_first = std::mem::replace(&mut state.version, version) == NONE;
            if !is_first {
                state.history = History::new(now, seen.clone());
                state.lasting = Lasting::default();
            }
        }
        self.counts.is_rolled_back(version != NONE && self.rolled_back.load(Relaxed) == version);
        let found = state.history.look(now, seen, window);
        state.window = Some(found);
        found
    }

    /// Takes down whether a bound is exceeded; returns whether one has been for `long`, and the target has its share.
    pub(super) fn lasts(&self, exceeds: bool, now: Instant, long: Duration) -> bool {
        let mut state = self.state();
        let has_its_share = self.rolled_back.load(Relaxed) != state.version;
        state.lasting.look(exceeds && has_its_share, now, long)
    }

    /// Takes the version's share away, and returns its number. `errors`: because of these, not of its times.
    pub(super) fn roll_back(&self, why: &str, errors: bool) -> Option<i64> {
        let mut state = self.state();
        let version = state.version;
        if version == NONE {
            return None;
        }
        self.rolled_back.store(version, Relaxed);
        state.why = Some(RolledBack { version, why: why.to_owned(), at: SystemTime::now() });
        state.lasting = Lasting::default();
        self.counts.roll_back(errors);
        Some(version)
    }

    /// Gives the version that is rolled back its share again, if one is: nothing is known of it any more.
    pub(super) fn resume(&self, now: Instant) {
        let Some(observed) = self.observed.as_ref().filter(|_| !self.is_rolled_back(NONE)) else { return };
        let seen = observed.read();
        let mut state = self.state();
        state.history = History::new(now, seen);
        (state.lasting, state.window, state.why) = (Lasting::default(), None, None);
        self.rolled_back.store(NONE, Relaxed);
        self.counts.is_rolled_back(false);
    }

    /// Returns why `version`, which it stands for, is rolled back, if it is.
    pub(super) fn rolled_back(&self, version: i64) -> Option<RolledBack> {
        self.is_rolled_back(version).then(|| self.state().why.clone()).flatten()
    }

    /// Returns what the last look has found.
    pub(super) fn window(&self) -> Option<Window> {
        self.state().window
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Arm {
    fn drop(&mut self) {
        self.counts.is_rolled_back(false);
    }
}
