//! The thread that looks at targets that may be rolled back: there is one as long as there are such.

use super::Split;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
use std::time::{Duration, Instant};

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(250);

/// The splits that are looked at.
#[derive(Debug, Default)]
pub struct Watching(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    splits: Vec<Arc<Split>>,
    /// Whether there is a thread.
    runs: bool,
}

impl Watching {
    /// Looks at these from now on, as far as they have a rule for it, and at no others.
    pub fn watch(&self, splits: impl Iterator<Item = Arc<Split>>) {
        let Watching(shared) = self;
        let mut state = shared.state();
        state.splits = splits.filter(|split| split.rules().roll_back.is_some()).collect();
        if state.runs || state.splits.is_empty() {
            shared.changed.notify_all();
            return;
        }
        let own = shared.clone();
        match Builder::new().name("servable-rollback".to_owned()).spawn(move || own.run()) {
            Ok(_detached) => state.runs = true,
            Err(why) => {
                tracing::error!("no version is rolled back: the system gives no thread for it: {why}")
            }
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.state().splits.clear();
        self.0.changed.notify_all();
    }
}

impl Shared {
    fn run(&self) {
        let mut state = self.state();
        while !state.splits.is_empty() {
            let splits = state.splits.clone();
            drop(state);
            splits.iter().for_each(|split| split.look(Instant::now()));
            // Those that are gone meanwhile are freed here, not while others wait for the lock.
            drop(splits);
            let waited = self.changed.wait_timeout(self.state(), PAUSE);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.runs = false;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
