//! The queues of requests that are batched by TensorFlow Serving's parameters.
//!
//! The scheduler runs the batches. A queue whose oldest batch is ready has a [`Turn`] in the scheduler's queue of its
//! version and signature, and takes the batch when that turn comes: until then more may join it. A thread of its own
//! waits for the time of batches that are open.

use super::queue::{Full, Next, Queue, QueueLimits};
use super::{Batch, Batcher, Ends, Lane, Task};
use crate::error::{Error, Result};
use crate::metrics::Batches;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::Builder;
use std::time::Instant;

/// All queues of a server.
pub struct Pool {
    shared: Arc<Shared>,
    requests: AtomicU64,
    pub(super) counts: Option<Arc<Batches>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Told when a batch is open that closes sooner than the thread expects, and when the pool ends.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The queues with waiting tasks, by number.
    queues: BTreeMap<u64, Waiting>,
    last_number: u64,
    /// When the thread looks next, unless it is told to.
    looks_at: Option<Instant>,
    stopping: bool,
}

/// The tasks waiting for one version with the same inputs and outputs.
struct Waiting {
    /// Held by the requests that wait. A queue that has none left, but still a turn, does not hold up an unload.
    of: Weak<Batcher>,
    limits: QueueLimits,
    ends: Ends,
    queue: Queue<Task>,
    /// The scheduler's queue.
    lane: Lane,
    /// True if there is a turn in it.
    has_turn: bool,
}

/// The reasons why a task was not accepted.
pub(super) enum Refused {
    Full(Full),
    /// The scheduler does not take it.
    Unscheduled(Error),
}

impl Pool {
    /// Starts the thread that waits. Batches are counted in `counts`.
    pub fn new(counts: Option<Arc<Batches>>) -> std::io::Result<Pool> {
        let pool = Pool { shared: Arc::default(), requests: AtomicU64::new(0), counts };
        let shared = pool.shared.clone();
        Builder::new().name("servable-batch".to_owned()).spawn(move || wait_for_batches(&shared))?;
        Ok(pool)
    }

    /// Returns a number that no other request has.
    pub(super) fn number(&self) -> u64 {
        self.requests.fetch_add(1, Relaxed)
    }

    /// Queues `task`, to be run in `lane`.
    pub(super) fn submit(
        &self,
        of: &Arc<Batcher>,
        ends: Ends,
        task: Task,
        lane: &Lane,
    ) -> Result<(), Refused> {
        let now = task.queued;
        let mut state = self.shared.state();
        let known = state.queues.iter().find(|(_, queue)| queue.is_of(of) && queue.ends == ends);
        let number = known.map_or(state.last_number + 1, |(number, _)| *number);
        state.last_number = state.last_number.max(number);
        let waiting = state.queues.entry(number).or_insert_with(|| Waiting::new(of, ends, lane));
        if let Err(full) = waiting.queue.push(&of.limits, task, now) {
            let unused = if waiting.queue.is_empty() { state.queues.remove(&number) } else { None };
            drop((state, unused));
            return Err(Refused::Full(full));
        }
        // Otherwise the batch that is ready may not be this request's.
        let is_own = waiting.queue.is_one_batch();
        let lane = state.begin_turn(number, now, &self.shared);
        drop(state);
        let Some(lane) = lane else { return Ok(()) };
        let turn = Turn { shared: self.shared.clone(), number, has_come: false };
        let queued =
            if is_own { lane.go_on_alone(move || turn.run()) } else { lane.queue_alone(move || turn.run()) };
        queued.map_err(Refused::Unscheduled)
    }

    /// Returns the number of waiting tasks.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.shared.state().queues.values().map(|waiting| waiting.queue.len()).sum()
    }

    /// Removes what is left of request `number` from the queues. Returns whether anything was.
    pub(super) fn withdraw(&self, of: &Arc<Batcher>, number: u64) -> bool {
        let mut state = self.shared.state();
        let mut any = false;
        for waiting in state.queues.values_mut().filter(|waiting| waiting.is_of(of)) {
            any |= waiting.queue.withdraw(|task| task.number == number);
        }
        // A turn cannot be taken back: its queue stays for those who come before it.
        let is_over = |waiting: &Waiting| waiting.queue.is_empty() && !waiting.has_turn;
        let empty = |(number, waiting): (&u64, &Waiting)| is_over(waiting).then_some(*number);
        let empty: Vec<u64> = state.queues.iter().filter_map(empty).collect();
        let ended: Vec<_> = empty.iter().map(|number| state.queues.remove(number)).collect();
        drop(state);
        drop(ended);
        any
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.state().stopping = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the oldest batch of queue `number` if it is ready, and gives the queue another turn for the next.
    fn take(self: &Arc<Self>, number: u64) -> Option<Batch> {
        let now = Instant::now();
        let mut state = self.state();
        let waiting = state.queues.get_mut(&number)?;
        waiting.has_turn = false;
        let is_ready = waiting.queue.next(&waiting.limits, now) == Next::Ready;
        let tasks = if is_ready { waiting.queue.take() } else { None };
        let (of, ends) = (waiting.of.upgrade(), waiting.ends.clone());
        let ended = if waiting.queue.is_empty() { state.queues.remove(&number) } else { None };
        let lane = state.begin_turn(number, now, self);
        drop(state);
        drop(ended);
        if let Some(lane) = lane {
            // If that fails, its requests have been told so.
            let _told = Turn::queue(self, number, &lane);
        }
        Some(Batch { of: of?, ends, tasks: tasks? })
    }
}

impl State {
    /// Notes that queue `number` has a turn, if it needs one, and returns where to queue that. If a batch is open, has
    /// the thread of `shared` wait for it.
    fn begin_turn(&mut self, number: u64, now: Instant, shared: &Shared) -> Option<Lane> {
        let waiting = self.queues.get_mut(&number).filter(|waiting| !waiting.has_turn)?;
        match waiting.queue.next(&waiting.limits, now) {
            Next::Ready => {
                waiting.has_turn = true;
                return Some(waiting.lane.clone());
            }
            Next::At(time) if self.looks_at.is_none_or(|looks| time < looks) => {
                self.looks_at = Some(time);
                shared.changed.notify_one();
            }
            Next::At(_) | Next::Nothing => {}
        }
        None
    }

    /// Returns a queue that needs a turn; otherwise the time when one will.
    fn next(&self, now: Instant) -> Result<u64, Option<Instant>> {
        let mut soonest: Option<Instant> = None;
        for (number, waiting) in self.queues.iter().filter(|(_, waiting)| !waiting.has_turn) {
            match waiting.queue.next(&waiting.limits, now) {
                Next::Ready => return Ok(*number),
                Next::At(time) => soonest = Some(soonest.map_or(time, |soonest| soonest.min(time))),
                Next::Nothing => {}
            }
        }
        Err(soonest)
    }
}

impl Waiting {
    fn new(of: &Arc<Batcher>, ends: Ends, lane: &Lane) -> Waiting {
        let (of, limits) = (Arc::downgrade(of), of.limits.clone());
        Waiting { of, limits, ends, queue: Queue::new(), lane: lane.clone(), has_turn: false }
    }

    fn is_of(&self, batcher: &Arc<Batcher>) -> bool {
        std::ptr::eq(self.of.as_ptr(), Arc::as_ptr(batcher))
    }
}

/// A queue's turn with the scheduler. If it is dropped instead of run, the queue's requests are told that the server is
/// stopping.
struct Turn {
    shared: Arc<Shared>,
    number: u64,
    has_come: bool,
}

impl Turn {
    /// Queues a turn for queue `number`. If that fails, all requests of that queue do.
    fn queue(shared: &Arc<Shared>, number: u64, lane: &Lane) -> Result<()> {
        let turn = Turn { shared: shared.clone(), number, has_come: false };
        lane.queue_alone(move || turn.run())
    }

    /// Runs the queue's oldest batch in this thread. Returns as [`Batch::run`] does.
    fn run(mut self) -> bool {
        self.has_come = true;
        self.shared.take(self.number).is_some_and(Batch::run)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.has_come {
            let ended = self.shared.state().queues.remove(&self.number);
            drop(ended);
        }
    }
}

/// The loop of the thread, until the pool is dropped: gives a turn to each queue whose open batch has waited its time.
fn wait_for_batches(shared: &Arc<Shared>) {
    let mut state = shared.state();
    while !state.stopping {
        let now = Instant::now();
        match state.next(now) {
            Ok(number) => {
                let lane = state.begin_turn(number, now, shared);
                drop(state);
                if let Some(lane) = lane {
                    // If that fails, its requests have been told so.
                    let _told = Turn::queue(shared, number, &lane);
                }
                state = shared.state();
            }
            Err(None) => {
                state.looks_at = None;
                state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            Err(Some(time)) => {
                state.looks_at = Some(time);
                let left = time.saturating_duration_since(now);
                state = shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_pool_lets_its_thread_go() {
        let pool = Pool::new(None).unwrap();
        let shared = Arc::downgrade(&pool.shared);
        drop(pool);
        let started = Instant::now();
        while shared.strong_count() > 0 {
            assert!(started.elapsed().as_secs() < 20, "the thread goes on");
            std::thread::yield_now();
        }
    }
}
