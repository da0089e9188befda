//! Prepares what makes loaded models faster, one model after another, beside serving and while nothing loads.

use crate::engine::Preparation;
use crate::error::guarded;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// Time after the last load until a preparation begins: the first requests come first.
const SETTLED: Duration = Duration::from_millis(500);
/// Time until models without a request to try with are looked at again.
const AGAIN: Duration = Duration::from_secs(2);
/// A load that takes longer holds up nobody.
const LONGEST_LOAD: Duration = Duration::from_secs(30);
const FOR_EVER: Duration = Duration::from_secs(1 << 30);
/// Stack size of the thread, in bytes: TensorFlow optimises graphs by recursion.
const STACK_BYTES: usize = 8 << 20;

/// The queue of models and the loads that go first.
pub(super) struct Preparing {
    state: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    loads: usize,
    begun: bool,
    ended: bool,
    queue: VecDeque<Arc<dyn Preparation>>,
    /// Those that had no request to try with.
    waiting: VecDeque<Arc<dyn Preparation>>,
}

/// A load in progress: no preparation begins meanwhile.
pub(super) struct Load(Arc<Shared>);

impl Drop for Load {
    fn drop(&mut self) {
        self.0.lock().loads -= 1;
        self.0.changed.notify_all();
    }
}

impl Preparing {
    pub(super) fn new() -> Preparing {
        Preparing { state: Arc::default() }
    }

    /// Says that a load has begun; it lasts until the returned value is dropped.
    pub(super) fn load(&self) -> Load {
        self.state.lock().loads += 1;
        Load(self.state.clone())
    }

    /// Prepares a model when its turn comes.
    pub(super) fn add(&self, preparation: Arc<dyn Preparation>) {
        let mut state = self.state.lock();
        state.queue.push_back(preparation);
        if !state.begun {
            let weak = Arc::downgrade(&self.state);
            let thread =
                std::thread::Builder::new().name("servable-prepare".to_owned()).stack_size(STACK_BYTES);
            // Without a thread, everything stays as it was loaded.
            match thread.spawn(move || while Shared::prepare_next(&weak) {}) {
                Ok(_) => state.begun = true,
                Err(why) => tracing::warn!("no thread could be started to prepare faster engines in: {why}"),
            }
        }
        drop(state);
        self.state.changed.notify_all();
    }
}

impl Drop for Preparing {
    fn drop(&mut self) {
        self.state.lock().ended = true;
        self.state.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Prepares the next model, once there is one and no load goes on. Returns false when the server is gone.
    fn prepare_next(of: &Weak<Shared>) -> bool {
        let Some(shared) = of.upgrade() else { return false };
        let Some(preparation) = shared.next() else { return !shared.lock().ended };
        // Not held meanwhile: the server may go.
        drop(shared);
        // A panic has been logged; the model serves as it was loaded.
        let done = guarded(|| Ok(preparation.prepare())).unwrap_or(true);
        if let Some(shared) = of.upgrade().filter(|_| !done) {
            shared.lock().waiting.push_back(preparation);
        }
        true
    }

    /// Waits for a model to prepare. `None` if there is none yet, or none any more.
    fn next(&self) -> Option<Arc<dyn Preparation>> {
        let state = self.lock();
        let wait = |state, time, on: fn(&mut State) -> bool| {
            self.changed.wait_timeout_while(state, time, on).unwrap_or_else(PoisonError::into_inner)
        };
        let patience = match () {
            () if !state.queue.is_empty() => LONGEST_LOAD,
            () if state.waiting.is_empty() => FOR_EVER,
            () => AGAIN,
        };
        let nothing_to_do = |state: &mut State| !state.ended && (state.loads > 0 || state.queue.is_empty());
        let (mut state, timeout) = wait(state, patience, nothing_to_do);
        if timeout.timed_out() {
            if let Some(first) = state.queue.pop_front() {
                return Some(first);
            }
            let again = std::mem::take(&mut state.waiting);
            state.queue.extend(again);
        }
        let (mut state, settled) = wait(state, SETTLED, |state| !state.ended && state.loads == 0);
        if settled.timed_out() { state.queue.pop_front() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::acceleration::report::Report;
    use std::sync::mpsc;

    /// Tells when it is prepared, and is done at the last of so many times.
    struct Told(mpsc::Sender<&'static str>, &'static str, Mutex<u32>);

    impl Preparation for Told {
        fn prepare(&self) -> bool {
            self.0.send(self.1).unwrap();
            let mut left = self.2.lock().unwrap();
            *left -= 1;
            *left == 0
        }

        fn reports(&self) -> Vec<Report> {
            Vec::new()
        }
    }

    fn told(sender: &mpsc::Sender<&'static str>, name: &'static str, times: u32) -> Arc<dyn Preparation> {
        Arc::new(Told(sender.clone(), name, Mutex::new(times)))
    }

    #[test]
    fn models_are_prepared_in_turn_and_after_loads() {
        let (sender, prepared) = mpsc::channel();
        let preparing = Preparing::new();
        let load = preparing.load();
        preparing.add(told(&sender, "one", 1));
        preparing.add(told(&sender, "other", 1));
        assert!(prepared.recv_timeout(2 * SETTLED).is_err(), "a load goes on");
        drop(load);
        assert_eq!([prepared.recv().unwrap(), prepared.recv().unwrap()], ["one", "other"]);
    }

    #[test]
    fn what_had_nothing_to_try_with_is_tried_again() {
        let (sender, prepared) = mpsc::channel();
        let preparing = Preparing::new();
        preparing.add(told(&sender, "early", 2));
        assert_eq!([prepared.recv().unwrap(), prepared.recv().unwrap()], ["early", "early"]);
        preparing.add(told(&sender, "late", 1));
        assert_eq!(prepared.recv().unwrap(), "late");
    }
}
