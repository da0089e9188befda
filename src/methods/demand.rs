//! Models that are loaded on demand: requests that wait for the load of a version, and whoever carries the loads out.
//!
//! A request for a dormant version waits here without a thread. All that wait for one version wait for one load, and are
//! answered by its outcome. The control plane takes versions that are waited for, in the order in which they were first
//! asked for ([`Demand::next`]), and tells what became of them ([`Demand::settle`]). It takes one when it has room for a
//! load, so that versions whose clients have all left meanwhile are not loaded at all.

use crate::error::{Error, Kind, Result};
use crate::registry::{Registry, VersionChoice};
use crate::servable::Servable;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Most requests that wait for loads at once. What they hold counts as memory in flight, too.
const MOST_WAITING: usize = 20_000;

/// A model and a version of it.
pub type Version = (Box<str>, i64);

/// The outcome of a load.
type Outcome = Result<Arc<Servable>>;

/// The versions that requests wait for.
#[derive(Debug, Default)]
pub struct Demand {
    asked: Mutex<Asked>,
    /// Tells the control plane that there is something to load.
    more: Condvar,
    waits: AtomicU64,
    rested: AtomicU64,
}

#[derive(Default)]
struct Asked {
    /// What each version's requests wait for.
    waited_for: HashMap<Version, watch::Sender<Option<Outcome>>>,
    /// Those that nobody has taken yet.
    queue: VecDeque<Version>,
    /// Those whose load failed, until when they are not tried again, and why.
    failed: HashMap<Version, (Instant, Error)>,
    waiting: usize,
    ended: bool,
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asked")
            .field("queue", &self.queue)
            .field("waiting", &self.waiting)
            .finish_non_exhaustive()
    }
}

/// A request that waits.
struct Waiting<'a>(&'a Demand);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.asked().waiting -= 1;
    }
}

impl Demand {
    /// Returns the version that a request is for, once it is loaded. Whoever drops this waits no longer.
    ///
    /// # Errors
    /// That of the load; of a load that failed a moment ago, too, at once. RESOURCE_EXHAUSTED if too many requests wait.
    /// UNAVAILABLE once the server stops.
    pub async fn wait(&self, registry: &Registry, name: &str, choice: &VersionChoice) -> Outcome {
        let Some(version) = registry.dormant(name, choice) else {
            // Not a version that is loaded on demand; or it has been loaded this very moment.
            return registry.resolve(name, choice);
        };
        let (_waiting, mut outcome) = self.join((name.into(), version))?;
        match outcome.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or_else(|| Err(stopping())),
            Err(_ended) => Err(stopping()),
        }
    }

    /// Joins those who wait for a version.
    fn join(&self, version: Version) -> Result<(Waiting<'_>, watch::Receiver<Option<Outcome>>)> {
        let mut asked = self.asked();
        if asked.ended {
            return Err(stopping());
        }
        if let Some((until, why)) = asked.failed.get(&version) {
            if Instant::now() < *until {
                return Err(why.clone());
            }
            asked.failed.remove(&version);
        }
        if asked.waiting >= MOST_WAITING {
            return Err(Error::new(
                Kind::ResourceExhausted,
                format!("{MOST_WAITING} requests wait for models to be loaded, the most at once: try again"),
            ));
        }
        asked.waiting += 1;
        self.waits.fetch_add(1, Relaxed);
        let outcome = match asked.waited_for.get(&version) {
            Some(outcome) => outcome.subscribe(),
            None => {
                let (tell, outcome) = watch::channel(None);
                asked.waited_for.insert(version.clone(), tell);
                asked.queue.push_back(version);
                self.more.notify_one();
                outcome
            }
        };
        Ok((Waiting(self), outcome))
    }

    /// Takes the version that has been waited for longest; blocks until there is one, or `within` has passed. `None` then,
    /// and once the server stops.
    pub fn next(&self, within: Duration) -> Option<Version> {
        let until = Instant::now() + within;
        let mut asked = self.asked();
        loop {
            while let Some(version) = asked.queue.pop_front() {
                if asked.waited_for.get(&version).is_some_and(|outcome| outcome.receiver_count() > 0) {
                    return Some(version);
                }
                // All who asked have left.
                asked.waited_for.remove(&version);
            }
            let left = until.saturating_duration_since(Instant::now());
            if asked.ended || left.is_zero() {
                return None;
            }
            asked = self.more.wait_timeout(asked, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Tells those who wait for a version that it is available. One that is not any more is to be asked for again.
    pub fn loaded(&self, registry: &Registry, version: Version) {
        let (name, number) = &version;
        let found = registry.resolve(name, &VersionChoice::Version(*number));
        let unloaded =
            |_| Error::new(Kind::Unavailable, format!("Model {name} was unloaded meanwhile: try again"));
        self.tell(&version, found.map_err(unloaded));
    }

    /// Tells those who wait for a version that it is not loaded, and `why`. Who asks for it within `pause` is told the same.
    pub fn failed(&self, version: Version, why: Error, pause: Duration) {
        // Before they hear of it, who would otherwise ask for another load at once.
        if !pause.is_zero() {
            self.asked().failed.insert(version.clone(), (Instant::now() + pause, why.clone()));
        }
        self.tell(&version, Err(why));
    }

    /// Forgets that a version's load has failed: its files have changed.
    pub fn forget_failure(&self, version: &Version) {
        self.asked().failed.remove(version);
    }

    /// Ends all waiting, present and future: the server stops.
    pub fn end(&self) {
        let mut asked = self.asked();
        asked.ended = true;
        asked.queue.clear();
        asked.waited_for.clear();
        self.more.notify_all();
    }

    /// Counts a version that was unloaded to be loaded on demand again.
    pub fn rested(&self) {
        self.rested.fetch_add(1, Relaxed);
    }

    /// Returns how many versions were unloaded so, so far.
    pub fn rests(&self) -> u64 {
        self.rested.load(Relaxed)
    }

    /// Returns how many requests have waited for a load so far.
    pub fn waits(&self) -> u64 {
        self.waits.load(Relaxed)
    }

    /// Returns how many requests wait now.
    pub fn waiting(&self) -> usize {
        self.asked().waiting
    }

    fn tell(&self, version: &Version, outcome: Outcome) {
        let waited_for = self.asked().waited_for.remove(version);
        if let Some(waited_for) = waited_for {
            // Who waits holds the version from here on, so that it is not unloaded before it is asked.
            waited_for.send_replace(Some(outcome));
        }
    }

    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stopping() -> Error {
    Error::new(Kind::Unavailable, "The server is stopping: it loads no more models")
}

#[cfg(test)]
mod tests;
