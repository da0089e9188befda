//! A load while it runs, as the rest of the process sees it.

use super::context::Window;
use super::histogram::Histogram;
use super::mix::Mix;
use super::plan::{Load, Plan};
use super::tally::Tally;
use super::worker::Work;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// A load that runs. Dropped, it is stopped.
pub struct Run {
    plan: Arc<Plan>,
    window: Window,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    threads: Mutex<Vec<JoinHandle<Result<Tally, String>>>>,
}

/// What its threads tell.
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// Threads that are at work.
    running: usize,
    /// When the last of them ended.
    ended: Option<Instant>,
    /// What each has seen.
    seen: Vec<Tally>,
}

/// What became of a load.
#[derive(Debug)]
pub struct Outcome {
    /// What all threads have seen.
    pub tally: Tally,
    /// The time in which requests were counted, in seconds; of an open loop, until the last of them had ended.
    pub seconds: f64,
    /// The largest share of a core that one thread used while it measured.
    pub busiest: f64,
}

impl Run {
    /// Starts a load.
    pub fn start(plan: Plan) -> Result<Run, String> {
        plan.check()?;
        let mix = Arc::new(Mix::new(&plan.target, &plan.groups)?);
        let threads = plan.used_threads();
        let begun = Instant::now();
        let from = begun + plan.warm_up;
        let window = Window { begun, from, until: from + plan.duration };
        let state = State { running: threads, ended: None, seen: vec![Tally::of(mix.len()); threads] };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let (stop, stopped) = watch::channel(false);
        let plan = Arc::new(plan);
        let run = Run { plan, window, shared, stop, threads: Mutex::default() };
        for number in 0..threads {
            let (plan, mix) = (Arc::clone(&run.plan), Arc::clone(&mix));
            let work = Work { plan, mix, number, threads, window, stopped: stopped.clone() };
            let shared = Arc::clone(&run.shared);
            let started = Builder::new().name(format!("bench-{number}")).spawn(move || {
                let _ends = Ends(&shared);
                work.run(|tally| shared.show(number, tally))
            });
            let started = started.map_err(|why| format!("a thread of the load cannot start: {why}"))?;
            locked(&run.threads).push(started);
        }
        Ok(run)
    }

    /// Waits until requests are counted, `limit` at most; returns whether they are, or the load has ended.
    pub fn wait_measuring(&self, limit: Duration) -> bool {
        let left = self.window.from.saturating_duration_since(Instant::now());
        self.wait(left.min(limit)) || left <= limit
    }

    /// Waits for the end, `limit` at most; returns whether it has come.
    pub fn wait(&self, limit: Duration) -> bool {
        let state = locked(&self.shared.state);
        let waited = self.shared.changed.wait_timeout_while(state, limit, |state| state.running > 0);
        waited.unwrap_or_else(PoisonError::into_inner).0.running == 0
    }

    /// Returns what was seen until a moment ago: good answers, failures, and the times of good answers.
    pub fn progress(&self) -> (u64, u64, Histogram) {
        let mut times = Histogram::default();
        let mut failed = 0;
        for seen in locked(&self.shared.state).seen.iter().flat_map(|tally| &tally.groups) {
            times.merge(&seen.times);
            failed += seen.failed();
        }
        (times.count(), failed, times)
    }

    /// Ends the load at once: requests that are under way are dropped, and not counted.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits for the end, and returns what became of the load; an error if a thread failed. Only once.
    pub fn outcome(&self) -> Result<Outcome, String> {
        let threads = std::mem::take(&mut *locked(&self.threads));
        if threads.is_empty() {
            return Err("the outcome was taken already".to_owned());
        }
        let mut outcome = Outcome { tally: Tally::of(self.plan.groups.len()), seconds: 0.0, busiest: 0.0 };
        for thread in threads {
            let tally = thread.join().map_err(|_| "a thread of the load has panicked".to_owned())??;
            let measured = tally.measured.as_secs_f64();
            if measured > 0.0 {
                outcome.busiest = outcome.busiest.max(tally.cpu.as_secs_f64() / measured);
            }
            outcome.tally.merge(&tally);
        }
        let ended = locked(&self.shared.state).ended.unwrap_or(self.window.until);
        let ended = match self.plan.load {
            // The callers' last answers come after the time in which requests were sent.
            Load::Closed { .. } => ended.min(self.window.until),
            // It lasts as long as its time at least, and then all answers are waited for: what is late takes time.
            Load::Open { .. } => ended,
        };
        outcome.seconds = ended.saturating_duration_since(self.window.from).as_secs_f64();
        Ok(outcome)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn show(&self, number: usize, tally: Tally) {
        if let Some(seen) = locked(&self.state).seen.get_mut(number) {
            *seen = tally;
        }
    }
}

/// A thread's end, a panic included.
struct Ends<'a>(&'a Shared);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        let mut state = locked(&self.0.state);
        state.running -= 1;
        state.ended = Some(Instant::now());
        self.0.changed.notify_all();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
