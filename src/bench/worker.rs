//! One thread of the load: a runtime of its own, connections of its own, counts of its own.

use super::arrivals::Arrivals;
use super::context::{Context, Window};
use super::mix::Mix;
use super::plan::{Load, Plan};
use super::pool::Pool;
use super::tally::Tally;
use super::{closed, open};
use crate::host::clock::thread_cpu_time;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{MissedTickBehavior, interval, sleep_until};

/// How often others can see how far it is.
const SHOWN_EVERY: Duration = Duration::from_millis(250);

/// What a thread gets.
pub(super) struct Work {
    pub(super) plan: Arc<Plan>,
    pub(super) mix: Arc<Mix>,
    pub(super) number: usize,
    pub(super) threads: usize,
    pub(super) window: Window,
    pub(super) stopped: watch::Receiver<bool>,
}

impl Work {
    /// Does the work; `show` gets what was seen, again and again. Returns all that was seen, up to the end or the stop.
    pub(super) fn run(self, show: impl Fn(Tally)) -> Result<Tally, String> {
        let told = |why: std::io::Error| format!("a thread of the load cannot start: {why}");
        let runtime = Builder::new_current_thread().enable_all().build().map_err(told)?;
        LocalSet::new().block_on(&runtime, self.load(show))
    }

    async fn load(mut self, show: impl Fn(Tally)) -> Result<Tally, String> {
        let context = Rc::new(self.context()?);
        let began = tokio::task::spawn_local(cpu_at(context.window.from));
        let mut tasks = JoinSet::new();
        let callers = match self.plan.load {
            Load::Closed { concurrency } => {
                closed::start(&context, self.share(concurrency), &mut tasks);
                None
            }
            Load::Open { rate, spacing, most } => {
                let (number, threads, seed) = (self.number, self.threads, self.plan.seed);
                let arrivals = Arrivals::new(spacing, rate, number, threads, seed);
                Some(open::run(Rc::clone(&context), arrivals, self.share(most)))
            }
        };
        let work = async {
            while tasks.join_next().await.is_some() {}
            match callers {
                Some(open) => open.await,
                None => Ok(()),
            }
        };
        let mut shown = interval(SHOWN_EVERY);
        shown.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                ended = &mut work => break ended?,
                _ = self.stopped.changed() => break,
                _ = shown.tick() => show(context.tally.borrow().clone()),
            }
        }
        began.abort();
        let mut tally = context.tally.borrow().clone();
        if let Ok((Some(cpu), at)) = began.await {
            tally.cpu = thread_cpu_time().unwrap_or_default().saturating_sub(cpu);
            tally.measured = at.elapsed();
        }
        tally.opened = context.pool.opened();
        show(tally.clone());
        Ok(tally)
    }

    fn context(&self) -> Result<Context, String> {
        let plan = &self.plan;
        let pool = Pool::new(plan.target.connector()?, plan.target.wire, self.share(plan.connections));
        let draw = self.mix.draw(plan.seed, self.number);
        let context = Context::new(&self.mix, pool, self.window, plan.timeout, draw);
        Ok(context.limited(plan.count.map(|count| self.share(count as usize) as u64)))
    }

    /// Returns this thread's share of a number.
    fn share(&self, of: usize) -> usize {
        of / self.threads + usize::from(self.number < of % self.threads)
    }
}

/// Waits; returns this thread's CPU time then, and when that was.
async fn cpu_at(from: Instant) -> (Option<Duration>, Instant) {
    sleep_until(from.into()).await;
    (thread_cpu_time(), Instant::now())
}
