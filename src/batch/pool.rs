//! The threads that run batches, and the queues they serve in turn.

use super::queue::{Full, Next, Queue};
use super::{Batcher, Ends, Task};
use crate::memory;
use crate::metrics::Batches;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
use std::time::Instant;

/// The one pool of a server. At most as many batches run at once as it has threads; a batch that need not wait may be
/// run by the thread of its request, and the pool's threads run the others.
pub struct Pool {
    shared: Arc<Shared>,
    requests: AtomicU64,
    pub(super) counts: Option<Arc<Batches>>,
}

struct Shared {
    threads: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The lanes with waiting tasks.
    lanes: Vec<Lane>,
    /// The index of the lane whose turn it is.
    next: usize,
    /// Batches that need not wait; see [`Batch::hand_over`].
    handed_over: VecDeque<Batch>,
    /// Batches that run, or have been handed over.
    running: usize,
    stopping: bool,
}

/// The tasks waiting for one version with the same inputs and outputs.
struct Lane {
    of: Arc<Batcher>,
    ends: Ends,
    queue: Queue<Task>,
}

/// A batch that is ready to run; its requests fail if it is dropped instead.
#[must_use]
pub struct Batch {
    pub(super) of: Arc<Batcher>,
    pub(super) ends: Ends,
    pub(super) tasks: Vec<Task>,
    /// Held while the batch runs; `None` for one without rows.
    pub(super) slot: Option<Slot>,
}

impl Batch {
    /// Has the batch run by a thread of the pool. There is one for every slot, so it never waits for another batch.
    pub fn hand_over(self) {
        let Some(pool) = &self.of.pool else {
            self.run();
            return;
        };
        let shared = pool.shared.clone();
        shared.state().handed_over.push_back(self);
        shared.changed.notify_one();
    }
}

/// One of the pool's concurrent runs; free again when dropped.
pub(super) struct Slot(Arc<Shared>);

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.running -= 1;
        if !state.lanes.is_empty() {
            self.0.changed.notify_one();
        }
    }
}

/// The reasons why a task was not accepted.
pub(super) enum Refused {
    Full(Full),
    Stopping,
}

impl Pool {
    /// Starts a pool of `threads` threads. Batches are counted in `counts`.
    pub fn new(threads: usize, counts: Option<Arc<Batches>>) -> std::io::Result<Pool> {
        let shared =
            Arc::new(Shared { threads: threads.max(1), state: Mutex::default(), changed: Condvar::new() });
        let pool = Pool { shared, requests: AtomicU64::new(0), counts };
        for number in 0..pool.shared.threads {
            let shared = pool.shared.clone();
            Builder::new().name(format!("servable-batch-{number}")).spawn(move || work(&shared))?;
        }
        Ok(pool)
    }

    /// Returns a number that no other request has.
    pub(super) fn number(&self) -> u64 {
        self.requests.fetch_add(1, Relaxed)
    }

    /// Queues `task`. A batch that is returned need not wait: the caller runs it.
    pub(super) fn submit(&self, of: &Arc<Batcher>, ends: Ends, task: Task) -> Result<Option<Batch>, Refused> {
        let now = task.queued;
        let mut state = self.shared.state();
        if state.stopping {
            return Err(Refused::Stopping);
        }
        let known = state.lanes.iter().position(|lane| Arc::ptr_eq(&lane.of, of) && lane.ends == ends);
        let index = known.unwrap_or_else(|| {
            state.lanes.push(Lane { of: of.clone(), ends, queue: Queue::new() });
            state.lanes.len() - 1
        });
        if let Err(full) = state.lanes[index].queue.push(&of.limits, task, now) {
            if known.is_none() {
                state.lanes.pop();
            }
            return Err(Refused::Full(full));
        }
        if state.running >= self.shared.threads {
            return Ok(None);
        }
        let at_once = known.is_none() && state.lanes[index].queue.next(&of.limits, now) == Next::Ready;
        let batch = if at_once { state.take(index, &self.shared) } else { None };
        if batch.is_none() || !state.lanes.is_empty() {
            self.shared.changed.notify_one();
        }
        Ok(batch)
    }

    /// Returns the number of waiting tasks.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.shared.state().lanes.iter().map(|lane| lane.queue.len()).sum()
    }

    /// Removes what is left of request `number` from the queues. Returns whether anything was.
    pub(super) fn withdraw(&self, of: &Arc<Batcher>, number: u64) -> bool {
        let mut state = self.shared.state();
        let mut any = false;
        for lane in state.lanes.iter_mut().filter(|lane| Arc::ptr_eq(&lane.of, of)) {
            any |= lane.queue.withdraw(|task| task.number == number);
        }
        state.lanes.retain(|lane| !lane.queue.is_empty());
        // Such a batch is one request's.
        let its = |batch: &Batch| {
            Arc::ptr_eq(&batch.of, of) && batch.tasks.iter().any(|task| task.number == number)
        };
        let place = state.handed_over.iter().position(its);
        let gone = place.and_then(|place| state.handed_over.remove(place));
        // Its slot becomes free.
        drop(state);
        any || gone.is_some()
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
}

impl State {
    /// Takes the oldest batch of lane `index`, and removes the lane if that was its last.
    fn take(&mut self, index: usize, shared: &Arc<Shared>) -> Option<Batch> {
        let lane = &mut self.lanes[index];
        let tasks = lane.queue.take()?;
        let (of, ends) = if lane.queue.is_empty() {
            let lane = self.lanes.remove(index);
            (lane.of, lane.ends)
        } else {
            (lane.of.clone(), lane.ends.clone())
        };
        self.running += 1;
        Some(Batch { of, ends, tasks, slot: Some(Slot(shared.clone())) })
    }

    /// Takes a batch from the next lane that has one ready; otherwise returns the time when one will be.
    fn next(&mut self, shared: &Arc<Shared>, now: Instant) -> Result<Batch, Option<Instant>> {
        let mut soonest: Option<Instant> = None;
        for step in 0..self.lanes.len() {
            let index = (self.next + step) % self.lanes.len();
            let lane = &self.lanes[index];
            match lane.queue.next(&lane.of.limits, now) {
                Next::Ready => {
                    let lanes = self.lanes.len();
                    let batch = self.take(index, shared).ok_or(None)?;
                    // If the lane was removed, the next one has moved into its place.
                    self.next = index + usize::from(self.lanes.len() == lanes);
                    return Ok(batch);
                }
                Next::At(time) => soonest = Some(soonest.map_or(time, |soonest| soonest.min(time))),
                Next::Nothing => {}
            }
        }
        Err(soonest)
    }
}

/// The loop of each thread, until the pool is dropped.
fn work(shared: &Arc<Shared>) {
    let mut state = shared.state();
    while !state.stopping {
        let found = match state.handed_over.pop_front() {
            Some(batch) => Ok(batch),
            None if state.running < shared.threads => state.next(shared, Instant::now()),
            None => Err(None),
        };
        state = match found {
            Ok(batch) => {
                drop(state);
                batch.run();
                memory::leave_behind();
                shared.state()
            }
            Err(None) => shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            Err(Some(time)) => {
                let left = time.saturating_duration_since(Instant::now());
                shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_pool_lets_its_threads_go() {
        let pool = Pool::new(3, None).unwrap();
        let shared = Arc::downgrade(&pool.shared);
        drop(pool);
        let started = Instant::now();
        while shared.strong_count() > 0 {
            assert!(started.elapsed().as_secs() < 20, "a thread goes on");
            std::thread::yield_now();
        }
    }
}
