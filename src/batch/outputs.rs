//! The outputs of a run that was submitted: awaited without a thread, collected from the batches it was spread over.

use super::{Batcher, Gathered, Pool, Ran, assemble, placed};
use crate::context::late;
use crate::engine::Threads;
use crate::error::{Error, Kind, Result};
use crate::profile::{self, Phase};
use crate::scheduler::{Held, Queued};
use crate::tensor::Tensor;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout_at;

/// The outputs of a run, yet to come. Dropping them withdraws what still waits for a batch.
pub struct Outputs {
    pub(super) waiting: Waiting,
    pub(super) rows: usize,
    /// Positions in a batch's outputs.
    pub(super) places: Vec<usize>,
    pub(super) deadline: Option<Instant>,
    pub(super) parts: UnboundedReceiver<Part>,
    /// True once nothing waits any more.
    pub(super) ended: bool,
}

/// Where a request waits for its batch.
pub(super) enum Waiting {
    /// In a pool's queue, under this number; counted until it is answered.
    Pool { of: Arc<Batcher>, pool: Arc<Pool>, number: u64, _held: Option<Held<Gathered>> },
    /// In a queue of the scheduler.
    Scheduler(Queued<Gathered>),
}

/// The answer to a task: to as many rows of a request as were in one batch.
pub(super) struct Part {
    /// The index of its first row in the request.
    pub(super) first: usize,
    pub(super) rows: usize,
    pub(super) outcome: Result<Ran>,
}

impl Outputs {
    /// Waits for all rows, or until the deadline. Returns the outputs in the order of the run's fetches.
    pub async fn wait(mut self) -> Result<Ran> {
        let waiting = profile::phase(Phase::Queue);
        let parts = self.collect().await;
        drop(waiting);
        let parts = parts.map_err(|unanswered| {
            let was_waiting = self.withdraw();
            match unanswered {
                Unanswered::Failed(why) => why,
                Unanswered::Overdue if was_waiting && self.is_automatic() => late(),
                Unanswered::Overdue => overdue(was_waiting),
            }
        })?;
        self.ended = true;
        if let Waiting::Scheduler(queued) = &mut self.waiting {
            queued.end();
        }
        let ran = joined(parts)?;
        Ok(Ran { outputs: placed(&ran.outputs, &self.places), ..ran })
    }

    /// Returns the answers to all parts, in order.
    async fn collect(&mut self) -> Result<Vec<Ran>, Unanswered> {
        let (mut answers, mut done) = (BTreeMap::new(), 0);
        loop {
            let part = match self.deadline {
                None => self.parts.recv().await,
                Some(deadline) => {
                    let part = timeout_at(deadline.into(), self.parts.recv()).await;
                    part.map_err(|_| Unanswered::Overdue)?
                }
            };
            let part = part.ok_or_else(|| Unanswered::Failed(stopping()))?;
            done += part.rows;
            answers.insert(part.first, part.outcome.map_err(Unanswered::Failed)?);
            // A request without rows has one part, too.
            if done >= self.rows {
                return Ok(answers.into_values().collect());
            }
        }
    }

    /// Withdraws what still waits. Returns whether anything did.
    fn withdraw(&mut self) -> bool {
        !std::mem::replace(&mut self.ended, true)
            && match &mut self.waiting {
                Waiting::Pool { of, pool, number, .. } => pool.withdraw(of, *number),
                Waiting::Scheduler(queued) => queued.withdraw(),
            }
    }

    fn is_automatic(&self) -> bool {
        matches!(self.waiting, Waiting::Scheduler(_))
    }
}

impl Drop for Outputs {
    fn drop(&mut self) {
        self.withdraw();
    }
}

/// The reasons why a request is left without all its answers.
enum Unanswered {
    Failed(Error),
    /// Its deadline passed.
    Overdue,
}

/// Joins the answers to all parts of a request.
fn joined(mut parts: Vec<Ran>) -> Result<Ran> {
    if parts.len() == 1 {
        return Ok(parts.swap_remove(0));
    }
    let longest = |time: fn(&Ran) -> Duration| parts.iter().map(time).max().unwrap_or_default();
    let (wall, measured) = (longest(|part| part.wall), longest(|part| part.measured));
    let (count, threads) =
        parts.first().map_or((0, Threads::Pool), |part| (part.outputs.len(), part.threads));
    let output = |index: usize| {
        let tensors: Vec<&Tensor> = parts.iter().filter_map(|part| part.outputs.get(index)).collect();
        if tensors.iter().all(|tensor| assemble::fit(tensor, tensors[0], false)) {
            Ok(assemble::join(&tensors, 0))
        } else {
            Err(Error::new(
                Kind::FailedPrecondition,
                "The outputs of a request that was split have different shapes in its batches. Send fewer rows at \
                 once, or turn enable_large_batch_splitting off",
            ))
        }
    };
    let outputs = (0..count).map(output).collect::<Result<_>>()?;
    Ok(Ran { outputs, wall, measured, threads, alone: false })
}

/// Returns the error of a request whose deadline passed, in the queue or during its run.
pub(super) fn overdue(in_queue: bool) -> Error {
    if in_queue {
        Error::new(Kind::ResourceExhausted, "Run() timeout exceeded while waiting in batching queue")
    } else {
        Error::new(
            Kind::DeadlineExceeded,
            "The request's deadline passed during its run: allow it more time, or send less at once",
        )
    }
}

fn stopping() -> Error {
    Error::new(Kind::Unavailable, "The server is stopping")
}
