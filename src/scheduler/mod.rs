//! The scheduler of everything that takes too long for the threads that serve connections.
//!
//! [`queues`] decides what is accepted and what runs next, by measured times; this file has the threads.

mod lane;
mod queues;
mod rate;
mod refusal;
mod sharing;
mod sizes;
mod turns;

use lane::Ending;
pub use lane::Item;
pub use queues::{Admission, Limits, Refused};

use crate::context::{Cancelled, Context};
use crate::error::{Error, Kind, Result, guarded};
use crate::memory;
use crate::metrics::{ByReason, Refusals};
use crate::parallel::IdleCores;
use crate::profile::{self, Phase};
use queues::{Asked, LaneId, Next, Queues, Run};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

thread_local! {
    /// The run that goes on in this thread.
    static DOES: Cell<Option<Run>> = const { Cell::new(None) };
}

/// Longest time a thread waits for more work.
const KEPT_IDLE: Duration = Duration::from_secs(3);

/// Work that may be done together with its like.
pub trait Task: Item + Send + 'static {
    /// Does all `tasks`, which join each other. Returns whether that was done, so that its time says how long such work
    /// takes.
    fn run(tasks: Vec<Self>) -> bool
    where
        Self: Sized;
}

/// Work for a thread.
enum Job<T> {
    /// Done alone.
    Alone(Box<dyn FnOnce() -> Ending + Send>),
    Task(T),
}

impl<T: Task> Item for Job<T> {
    fn rows(&self) -> usize {
        match self {
            Job::Alone(_) => 1,
            Job::Task(task) => task.rows(),
        }
    }

    fn joins(&self, other: &Job<T>) -> bool {
        matches!((self, other), (Job::Task(one), Job::Task(other)) if one.joins(other))
    }
}

/// Does what was taken together from a queue.
fn run<T: Task>(jobs: Vec<Job<T>>) -> Ending {
    let (mut ending, mut tasks) = (Ending::from(true), Vec::new());
    for job in jobs {
        match job {
            // What is done alone is taken alone.
            Job::Alone(work) => ending = work(),
            Job::Task(task) => tasks.push(task),
        }
    }
    if tasks.is_empty() { ending } else { guarded(|| Ok(T::run(tasks))).unwrap_or(false).into() }
}

/// The queues and their threads.
pub struct Scheduler<T: Task> {
    shared: Arc<Shared<T>>,
    /// For work that belongs to no version.
    own: Lane<T>,
}

struct Shared<T: Task> {
    state: Mutex<State<T>>,
    /// Told when there is work for a thread that waits.
    changed: Condvar,
    refusals: Arc<Refusals>,
    cores: IdleCores,
    /// True if it matters how many requests wait for batches.
    counts_requests: bool,
}

struct State<T: Task> {
    queues: Queues<Job<T>>,
    threads: usize,
    /// Number of threads that wait for work.
    idle: usize,
    /// Number of threads that were started and have not looked for work yet.
    starting: usize,
    stopping: bool,
}

/// What the work of a queue is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Requests, each done alone.
    Runs,
    /// Requests; those that join each other are done together.
    Gathered,
    /// Batches, of which [`Limits::batch_threads`] of all queues run at once.
    Batches,
    /// Bodies of requests, decoded or encoded apart from their runs.
    Bodies,
}

/// A queue, which ends with its last handle.
pub struct Lane<T: Task>(Arc<OwnedLane<T>>);

impl<T: Task> Clone for Lane<T> {
    fn clone(&self) -> Lane<T> {
        Lane(self.0.clone())
    }
}

struct OwnedLane<T: Task> {
    id: LaneId,
    model: Box<str>,
    refusals: Arc<ByReason>,
    shared: Arc<Shared<T>>,
}

impl<T: Task> OwnedLane<T> {
    /// Counts a refusal and returns its error.
    fn refuse(&self, why: Refused) -> Error {
        self.refusals.count(why.reason());
        refusal::error(why, &self.model)
    }
}

impl<T: Task> Drop for OwnedLane<T> {
    fn drop(&mut self) {
        // A request that waits holds its queue: what is left does nothing.
        let removed = self.shared.state().queues.remove(self.id);
        drop(removed);
    }
}

impl<T: Task> Scheduler<T> {
    /// Makes a scheduler whose threads are started on demand. Refusals are counted in `refusals`.
    pub fn new(limits: Limits, refusals: Arc<Refusals>) -> Scheduler<T> {
        let counts_requests = limits.count_requests();
        let queues = Queues::new(limits);
        let state = Mutex::new(State { queues, threads: 0, idle: 0, starting: 0, stopping: false });
        let (changed, cores) = (Condvar::new(), IdleCores::here());
        let shared = Arc::new(Shared { state, changed, refusals, cores, counts_requests });
        Scheduler { own: Lane::new(&shared, "", Work::Runs), shared }
    }

    /// Makes a scheduler that runs `slots` requests at once.
    #[cfg(test)]
    pub(crate) fn with_slots(slots: usize) -> Scheduler<T> {
        let limits = Limits { slots, batches_at_once: 1, batch_threads: 1, ..Limits::default() };
        Scheduler::new(limits, Arc::default())
    }

    /// Returns the number of what waits.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.shared.state().queues.waiting()
    }

    /// Returns the cores on which none of the threads works: they may help with large bodies.
    pub fn cores(&self) -> &IdleCores {
        &self.shared.cores
    }

    /// Makes a queue for `work` of `model`.
    pub fn lane(&self, model: &str, work: Work) -> Lane<T> {
        Lane::new(&self.shared, model, work)
    }

    /// Runs `work` in a thread of its own, if it is accepted to `lane` (`None`: it belongs to no version, and always is).
    /// Dropping the future removes work that still waits, and sets the flag of running work. A panic becomes INTERNAL
    /// and affects nothing else.
    pub async fn run<R: Send + 'static>(
        &self,
        lane: Option<&Lane<T>>,
        context: &Context,
        work: impl FnOnce(Cancelled) -> Result<R> + Send + 'static,
    ) -> Result<R> {
        let admission = match lane {
            None => Admission::Always,
            Some(_) if context.admitted => Admission::Counted,
            Some(_) => Admission::New,
        };
        self.run_admitted(lane.unwrap_or(&self.own), admission, context, work).await
    }

    /// The same for work on a request that has its result: it is accepted in any case.
    pub async fn finish<R: Send + 'static>(
        &self,
        lane: &Lane<T>,
        context: &Context,
        work: impl FnOnce(Cancelled) -> Result<R> + Send + 'static,
    ) -> Result<R> {
        self.run_admitted(lane, Admission::Always, context, work).await
    }

    async fn run_admitted<R: Send + 'static>(
        &self,
        lane: &Lane<T>,
        admission: Admission,
        context: &Context,
        work: impl FnOnce(Cancelled) -> Result<R> + Send + 'static,
    ) -> Result<R> {
        let now = Instant::now();
        context.time_left(now)?;
        let waiting = context.timeline.clone().map(|timeline| (timeline.enter(Phase::Queue, now), timeline));
        let (answer, answered) = oneshot::channel();
        let mut cancel = Cancel { flag: Arc::default(), armed: true };
        let cancelled = Cancelled::by(cancel.flag.clone());
        let (deadline, bytes) = (context.deadline, context.memory.bytes());
        let queued = profile::phase(Phase::Queue);
        let work = move || {
            drop(queued);
            let now = Instant::now();
            if let Some((phase, timeline)) = waiting {
                timeline.enter(phase, now);
            }
            let context = Context { deadline, cancelled, ..Context::default() };
            let result = context.is_wanted(now).and_then(|()| guarded(|| work(context.cancelled)));
            let done = result.is_ok();
            let late =
                matches!(&result, Err(why) if matches!(why.kind, Kind::DeadlineExceeded | Kind::Cancelled));
            // Nobody receives it if the client has left.
            let missed = answer.send(result).is_err() || late;
            Ending { done, missed }
        };
        let job = Job::Alone(Box::new(work));
        let number = lane.submit(Asked { job, bytes, deadline, admission })?;
        let mut queued = Queued { lane: lane.clone(), number, is_over: false };
        let result = answered.await;
        queued.end();
        cancel.armed = false;
        result.unwrap_or_else(|_| Err(stopping()))
    }
}

impl<T: Task> Drop for Scheduler<T> {
    fn drop(&mut self) {
        self.stop();
    }
}

impl<T: Task> Scheduler<T> {
    /// Ends the threads after their runs, which are not waited for. What waits is answered that the server is stopping.
    fn stop(&self) {
        let mut state = self.shared.state();
        state.stopping = true;
        let waiting = state.queues.clear();
        drop(state);
        self.shared.changed.notify_all();
        drop(waiting);
    }
}

impl<T: Task> Lane<T> {
    fn new(shared: &Arc<Shared<T>>, model: &str, work: Work) -> Lane<T> {
        let mut state = shared.state();
        let id = state.queues.add(model, work == Work::Gathered, Instant::now());
        match work {
            Work::Runs | Work::Gathered => {}
            Work::Batches => state.queues.has_batches(id),
            Work::Bodies => state.queues.never_short(id),
        }
        drop(state);
        let refusals = shared.refusals.of(model);
        Lane(Arc::new(OwnedLane { id, model: model.into(), refusals, shared: shared.clone() }))
    }

    /// Queues `task` of a request with `context`, if it is accepted. Dropping the result removes it if it still waits.
    pub fn queue(&self, task: T, context: &Context) -> Result<Queued<T>> {
        let (deadline, bytes) = (context.deadline, context.memory.bytes());
        let admission = if context.admitted { Admission::Counted } else { Admission::New };
        let number = self.submit(Asked { job: Job::Task(task), bytes, deadline, admission })?;
        Ok(Queued { lane: self.clone(), number, is_over: false })
    }

    /// Counts a request with `context`, which waits for a batch of this queue, until the result is dropped; or refuses it.
    /// `None` if requests are not limited.
    pub fn hold(&self, context: &Context) -> Result<Option<Held<T>>> {
        let Lane(lane) = self;
        if !lane.shared.counts_requests {
            return Ok(None);
        }
        let bytes = context.memory.bytes();
        let admission = if context.admitted { Admission::Counted } else { Admission::New };
        let held = lane.shared.state().queues.hold(lane.id, bytes, admission);
        held.map_err(|why| lane.refuse(why))?;
        Ok(Some(Held { lane: self.clone(), bytes }))
    }

    /// Queues `work`, whose requests have been accepted, to be done alone. Returns as [`Task::run`] does. If the server
    /// stops, it is dropped.
    pub fn queue_alone(&self, work: impl FnOnce() -> bool + Send + 'static) -> Result<()> {
        let work = move || guarded(|| Ok(work())).unwrap_or(false).into();
        let job = Job::Alone(Box::new(work));
        self.submit(Asked { job, bytes: 0, deadline: None, admission: Admission::Always })?;
        Ok(())
    }

    /// The same, but a thread of the scheduler ends what it does and goes on with `work`, if nothing waits. To be called
    /// last in its work.
    pub fn go_on_alone(&self, work: impl FnOnce() -> bool + Send + 'static) -> Result<()> {
        let Lane(lane) = self;
        let run = DOES.take().and_then(|run| {
            let next = lane.shared.state().queues.go_on(run, lane.id, Instant::now());
            if next.is_none() {
                DOES.set(Some(run));
            }
            next
        });
        let Some(run) = run else { return self.queue_alone(work) };
        let done = guarded(|| Ok(work())).unwrap_or(false);
        lane.shared.state().queues.end(run, done, Instant::now());
        Ok(())
    }

    /// Queues work and sees to it that a thread takes it. Returns its number.
    fn submit(&self, asked: Asked<Job<T>>) -> Result<u64> {
        let now = Instant::now();
        let Lane(lane) = self;
        let mut state = lane.shared.state();
        if state.stopping {
            return Err(stopping());
        }
        let pushed = state.queues.push(lane.id, asked, now);
        let wakes = if pushed.is_ok() { lane.shared.wakes(&mut state, now) } else { Some(false) };
        let unrun = match &pushed {
            Ok(number) if wakes.is_none() => state.queues.withdraw(lane.id, *number, now),
            _ => None,
        };
        drop(state);
        if wakes == Some(true) {
            lane.shared.changed.notify_one();
        }
        match pushed {
            Ok(_) if unrun.is_some() => {
                Err(Error::new(Kind::Unavailable, "The system gives the server no thread for this request"))
            }
            Ok(number) => Ok(number),
            Err((why, _job)) => Err(lane.refuse(why)),
        }
    }
}

/// Work that waits, or no longer does. Dropping it removes the work if it waits.
pub struct Queued<T: Task> {
    lane: Lane<T>,
    number: u64,
    is_over: bool,
}

impl<T: Task> Queued<T> {
    /// Notes that the work is done.
    pub fn end(&mut self) {
        self.is_over = true;
    }

    /// Removes the work if it waits. Returns whether it did.
    pub fn withdraw(&mut self) -> bool {
        if std::mem::replace(&mut self.is_over, true) {
            return false;
        }
        let Lane(lane) = &self.lane;
        let withdrawn = lane.shared.state().queues.withdraw(lane.id, self.number, Instant::now());
        // Dropped here: it may hold the last handle of its queue, whose end takes the lock.
        withdrawn.is_some()
    }
}

impl<T: Task> Drop for Queued<T> {
    fn drop(&mut self) {
        self.withdraw();
    }
}

/// A request that is counted.
pub struct Held<T: Task> {
    lane: Lane<T>,
    bytes: usize,
}

impl<T: Task> Drop for Held<T> {
    fn drop(&mut self) {
        let Lane(lane) = &self.lane;
        lane.shared.state().queues.let_go(lane.id, self.bytes);
    }
}

/// Sets its flag when it is dropped while it is armed.
struct Cancel {
    flag: Arc<AtomicBool>,
    armed: bool,
}

impl Drop for Cancel {
    fn drop(&mut self) {
        if self.armed {
            self.flag.store(true, Relaxed);
        }
    }
}

impl<T: Task> Shared<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether to wake a thread, if one is needed: for work that may run, or to watch for runs that hang. Starts
    /// one if all are busy. `None` if there is no thread at all.
    fn wakes(self: &Arc<Self>, state: &mut State<T>, now: Instant) -> Option<bool> {
        let (waits, may_run) = state.queues.state(now);
        if may_run && state.idle > 0 {
            return Some(true);
        }
        if waits && state.idle + state.starting == 0 {
            let shared = self.clone();
            if Builder::new().name("servable-run".to_owned()).spawn(move || shared.work()).is_ok() {
                state.threads += 1;
                state.starting += 1;
            }
        }
        (state.threads > 0).then_some(false)
    }

    /// The loop of each thread.
    fn work(self: Arc<Self>) {
        let mut state = self.state();
        state.starting -= 1;
        while !state.stopping {
            let now = Instant::now();
            match state.queues.next(now) {
                Next::Run(number, jobs) => {
                    let wakes = self.wakes(&mut state, now);
                    drop(state);
                    if wakes == Some(true) {
                        self.changed.notify_one();
                    }
                    DOES.set(Some(number));
                    let busy = self.cores.occupy();
                    let done = run(jobs);
                    drop(busy);
                    memory::leave_behind();
                    state = self.state();
                    if let Some(number) = DOES.take() {
                        state.queues.end(number, done, Instant::now());
                    }
                }
                Next::Wait(until) => {
                    let left =
                        until.map_or(KEPT_IDLE, |until| until.saturating_duration_since(now).min(KEPT_IDLE));
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
