//! The scheduler of everything that takes too long for the threads that serve connections.
//!
//! [`queues`] decides what is accepted and what runs next, by measured times; this file has the threads.

mod lane;
mod queues;
mod rate;
mod refusal;

pub use queues::{Limits, Refused};

use crate::compute::{Cancelled, guarded};
use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::memory;
use crate::metrics::Refusals;
use crate::profile::{self, Phase};
use queues::{Asked, LaneId, Next, Queues};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Longest time a thread waits for more work.
const KEPT_IDLE: Duration = Duration::from_secs(3);

/// Work for a thread. Returns whether it was done, so that its time says how long such work takes.
type Job = Box<dyn FnOnce() -> bool + Send>;

/// The queues and their threads.
pub struct Scheduler {
    shared: Arc<Shared>,
    /// For work that belongs to no version.
    own: Lane,
}

struct Shared {
    state: Mutex<State>,
    /// Told when there is work for a thread that waits.
    changed: Condvar,
    refusals: Arc<Refusals>,
}

struct State {
    queues: Queues<Job>,
    threads: usize,
    /// Number of threads that wait for work.
    idle: usize,
    stopping: bool,
}

/// A queue, which ends with its last handle.
#[derive(Clone)]
pub struct Lane(Arc<OwnedLane>);

struct OwnedLane {
    id: LaneId,
    model: Box<str>,
    shared: Arc<Shared>,
}

impl Drop for OwnedLane {
    fn drop(&mut self) {
        // What waits holds its queue, so there is nothing left.
        let removed = self.shared.state().queues.remove(self.id);
        drop(removed);
    }
}

impl Scheduler {
    /// Makes a scheduler whose threads are started on demand. Refusals are counted in `refusals`.
    pub fn new(limits: Limits, refusals: Arc<Refusals>) -> Scheduler {
        let queues = Queues::new(limits);
        let state = Mutex::new(State { queues, threads: 0, idle: 0, stopping: false });
        let shared = Arc::new(Shared { state, changed: Condvar::new(), refusals });
        Scheduler { own: Lane::new(&shared, ""), shared }
    }

    /// Makes a scheduler that runs `slots` requests at once.
    #[cfg(test)]
    pub(crate) fn with_slots(slots: usize) -> Scheduler {
        Scheduler::new(Limits { slots, ..Limits::default() }, Arc::default())
    }

    /// Makes a queue for work of `model`.
    pub fn lane(&self, model: &str) -> Lane {
        Lane::new(&self.shared, model)
    }

    /// Runs `work` in a thread of its own, if it is accepted to `lane` (`None`: it belongs to no version). Dropping the
    /// future removes work that still waits, and sets the flag of running work. A panic becomes INTERNAL and affects
    /// nothing else.
    pub async fn run<T: Send + 'static>(
        &self,
        lane: Option<&Lane>,
        context: &Context,
        work: impl FnOnce(Cancelled) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let lane = lane.unwrap_or(&self.own);
        context.time_left(Instant::now())?;
        let (answer, answered) = oneshot::channel();
        let cancel = Arc::new(AtomicBool::new(false));
        let cancelled = Cancelled::by(cancel.clone());
        let (deadline, bytes) = (context.deadline, context.memory.bytes());
        let queued = profile::phase(Phase::Queue);
        let job: Job = Box::new(move || {
            drop(queued);
            let context = Context { deadline, cancelled, ..Context::default() };
            let result = context.time_left(Instant::now()).and_then(|_| guarded(|| work(context.cancelled)));
            let done = result.is_ok();
            // Nobody receives it if the client has left.
            let _gone = answer.send(result);
            memory::leave_behind();
            done
        });
        let number = self.shared.submit(lane, Asked { job, bytes, deadline })?;
        let mut waiting = Waiting { lane, number, cancel, answered, is_over: false };
        let result = (&mut waiting.answered).await;
        waiting.is_over = true;
        result.unwrap_or_else(|_| Err(stopping()))
    }
}

impl Drop for Scheduler {
    /// Threads end after their run, which is not waited for. What waits is answered that the server is stopping.
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.stopping = true;
        let waiting = state.queues.clear();
        drop(state);
        self.shared.changed.notify_all();
        drop(waiting);
    }
}

impl Lane {
    fn new(shared: &Arc<Shared>, model: &str) -> Lane {
        let id = shared.state().queues.add(model, Instant::now());
        Lane(Arc::new(OwnedLane { id, model: model.into(), shared: shared.clone() }))
    }
}

/// A request whose work waits or runs.
struct Waiting<'l, T> {
    lane: &'l Lane,
    number: u64,
    cancel: Arc<AtomicBool>,
    answered: oneshot::Receiver<Result<T>>,
    is_over: bool,
}

impl<T> Drop for Waiting<'_, T> {
    fn drop(&mut self) {
        if !self.is_over {
            self.cancel.store(true, Relaxed);
            let Lane(lane) = self.lane;
            let withdrawn = lane.shared.state().queues.withdraw(lane.id, self.number, Instant::now());
            // It may hold the last handle of its queue, whose end takes the lock.
            drop(withdrawn);
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues work and sees to it that a thread takes it. Returns its number.
    fn submit(self: &Arc<Self>, lane: &Lane, asked: Asked<Job>) -> Result<u64> {
        let now = Instant::now();
        let Lane(lane) = lane;
        let mut state = self.state();
        if state.stopping {
            return Err(stopping());
        }
        let pushed = state.queues.push(lane.id, asked, now);
        let woken = pushed.is_err() || self.wake(&mut state, now);
        let unrun = match (&pushed, woken) {
            (Ok(number), false) => state.queues.withdraw(lane.id, *number, now),
            _ => None,
        };
        drop(state);
        match pushed {
            Ok(number) if woken => Ok(number),
            Ok(_) => {
                drop(unrun);
                Err(Error::new(Kind::Unavailable, "The system gives the server no thread for this request"))
            }
            Err((why, _job)) => {
                self.refusals.count(why.reason());
                Err(refusal::error(why, &lane.model))
            }
        }
    }

    /// Wakes or starts a thread if one is needed: for work that may run, or to watch for runs that hang. Returns
    /// false if there is no thread at all.
    fn wake(self: &Arc<Self>, state: &mut State, now: Instant) -> bool {
        let (waits, may_run) = state.queues.state(now);
        if may_run && state.idle > 0 {
            self.changed.notify_one();
        } else if waits && state.idle == 0 {
            let shared = self.clone();
            if Builder::new().name("servable-run".to_owned()).spawn(move || shared.work()).is_ok() {
                state.threads += 1;
            }
        }
        state.threads > 0
    }

    /// The loop of each thread.
    fn work(self: Arc<Self>) {
        let mut state = self.state();
        while !state.stopping {
            let now = Instant::now();
            match state.queues.next(now) {
                Next::Run(run, job) => {
                    self.wake(&mut state, now);
                    drop(state);
                    let done = job();
                    state = self.state();
                    state.queues.end(run, done, Instant::now());
                }
                Next::Wait(until) => {
                    let left = until.map_or(KEPT_IDLE, |until| until.saturating_duration_since(now));
                    state.idle += 1;
                    let (woken, time) =
                        self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
                    state = woken;
                    state.idle -= 1;
                    if time.timed_out() && !state.queues.state(Instant::now()).0 {
                        break;
                    }
                }
            }
        }
        state.threads -= 1;
        drop(state);
        memory::leave_behind();
    }
}

fn stopping() -> Error {
    Error::new(Kind::Unavailable, "The server is stopping")
}

#[cfg(test)]
mod tests;
