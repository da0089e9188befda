//! Batching without parameters: requests that come while their model runs are gathered by the scheduler, which learns
//! how many are worth running together.
//!
//! A signature takes part if its inputs and outputs share their first dimension, and if a run of two rows was seen to
//! give what two runs give.

use super::queue::Item as _;
use super::{
    Batch, Batcher, Ends, LONG, LONGEST, MOST_BYTES, Outputs, Parameters, Run, Submitted, Task, Waiting,
    assemble,
};
use crate::engine::{Endpoint, RunOptions, Threads};
use crate::error::Result;
use crate::scheduler::{self, Item};
use crate::tensor::{DType, Data, Tensor};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::unbounded_channel;

/// The scheduler of requests and of what they are gathered to.
pub type Scheduler = scheduler::Scheduler<Gathered>;
/// A queue of it.
pub type Lane = scheduler::Lane<Gathered>;

/// A request that waits to be run together with others.
pub struct Gathered {
    of: Arc<Batcher>,
    ends: Ends,
    task: Task,
}

/// Most difference between a number of a run of several rows and that of a single row, relative to the larger of it
/// and 1: kernels add in another order.
const TOLERANCE: f64 = 1e-4;
/// Largest size that is run in warm-up.
const MOST_ROWS: usize = 64;

impl Item for Gathered {
    fn rows(&self) -> usize {
        self.task.rows()
    }

    fn joins(&self, other: &Gathered) -> bool {
        Arc::ptr_eq(&self.of, &other.of) && self.ends == other.ends && self.task.joins(&other.task)
    }
}

impl scheduler::Task for Gathered {
    fn run(gathered: Vec<Gathered>) -> bool {
        let mut gathered = gathered.into_iter();
        let Some(Gathered { of, ends, task }) = gathered.next() else { return false };
        let tasks = std::iter::once(task).chain(gathered.map(|other| other.task)).collect();
        Batch { of, ends, tasks, slot: None }.run()
    }
}

/// Returns the parameters that limit nothing.
pub(super) fn parameters() -> Parameters {
    Parameters {
        max_batch_size: usize::MAX,
        batch_timeout: Duration::ZERO,
        max_enqueued_batches: usize::MAX,
        allowed_batch_sizes: Vec::new(),
        pad_variable_length_inputs: false,
        split_at: None,
    }
}

/// Returns the first dimension that all inputs share; 0 if there is none.
pub(super) fn rows(feeds: &[(Endpoint, Tensor)]) -> usize {
    let rows = |tensor: &Tensor| if tensor.shape().is_empty() { 0 } else { tensor.row_count() };
    let first = feeds.first().map_or(0, |(_, tensor)| rows(tensor));
    if feeds.iter().all(|(_, tensor)| rows(tensor) == first) { first } else { 0 }
}

impl Batcher {
    /// Returns whether the inputs have rows in common, and what is fed and fetched may be batched.
    pub(super) fn is_verified(&self, feeds: &[(Endpoint, Tensor)], fetches: &[Endpoint]) -> bool {
        let fed = |known: &Ends| {
            known.feeds.len() == feeds.len()
                && feeds.iter().all(|(endpoint, _)| known.feeds.contains(endpoint))
                && fetches.iter().all(|fetch| known.fetches.contains(fetch))
        };
        rows(feeds) > 0 && self.verified.get().is_some_and(|all| all.iter().any(fed))
    }

    /// Has `run` wait in `lane` for others.
    pub(super) fn gather(self: &Arc<Self>, run: Run, lane: &Lane) -> Result<Submitted> {
        let rows = rows(&run.feeds);
        let (reply, parts) = unbounded_channel();
        let context = run.context.clone();
        let deadline = context.deadline;
        let (ends, places, task) = self.task(run, 0, reply);
        let queued = lane.queue(Gathered { of: self.clone(), ends, task }, &context)?;
        let waiting = Waiting::Scheduler(queued);
        Ok(Submitted {
            batch: None,
            outputs: Outputs { waiting, rows, places, deadline, parts, ended: false },
        })
    }

    /// Finds out what may be batched, by the rows seen during warm-up, and runs larger and larger sizes of it.
    pub(super) fn verify(&self) {
        let samples = std::mem::take(&mut *self.samples());
        let verified = samples.into_iter().filter(|(ends, row)| {
            let same = self.gives_the_same(ends, row).unwrap_or(false);
            if same {
                self.warm_sizes(ends, row);
            }
            same
        });
        // Set once: warm-up ends once.
        let _known = self.verified.set(verified.map(|(ends, _)| ends).collect());
    }

    /// Returns whether two different rows give the same together, in either order, as alone.
    fn gives_the_same(&self, ends: &Ends, row: &[Tensor]) -> Result<bool> {
        let other: Vec<Tensor> = row.iter().map(varied).collect();
        let alone = [self.run_rows(ends, &[row])?, self.run_rows(ends, &[&other])?];
        let together = [self.run_rows(ends, &[row, &other])?, self.run_rows(ends, &[&other, row])?];
        let same = |outputs: &[Tensor], order: [usize; 2]| {
            outputs.iter().enumerate().all(|(index, output)| {
                let singles = order.map(|which| &alone[which][index]);
                output.shape().first() == Some(&2)
                    && singles.iter().all(|single| single.shape().first() == Some(&1))
                    && (0..2).all(|row| are_close(&output.rows(row..row + 1), singles[row]))
            })
        };
        Ok(same(&together[0], [0, 1]) && same(&together[1], [1, 0]))
    }

    /// Runs more and more rows, as long as that takes little.
    fn warm_sizes(&self, ends: &Ends, row: &[Tensor]) {
        let bytes: usize = row.iter().map(Tensor::memory).sum();
        let mut rows = 2;
        while rows < MOST_ROWS && bytes.saturating_mul(2 * rows) <= MOST_BYTES {
            rows *= 2;
            let started = Instant::now();
            if self.run_rows(ends, &vec![row; rows]).is_err() || started.elapsed() > LONG {
                break;
            }
        }
    }

    fn run_rows(&self, ends: &Ends, rows: &[&[Tensor]]) -> Result<Vec<Tensor>> {
        let input = |index: usize| {
            let parts: Vec<&Tensor> = rows.iter().map(|row| &row[index]).collect();
            assemble::join(&parts, 0)
        };
        let feeds: Vec<_> =
            ends.feeds.iter().enumerate().map(|(index, endpoint)| (*endpoint, input(index))).collect();
        let options = RunOptions { threads: Threads::Pool, timeout: Some(LONGEST) };
        self.model.run(&feeds, &ends.fetches, options)
    }
}

/// Returns a row of other numbers, where that is safe: strings stay as they are.
fn varied(row: &Tensor) -> Tensor {
    let (shape, count) = (row.shape().to_vec(), row.len());
    let filled = |bytes: &[u8]| Tensor::numbers(row.dtype(), shape.clone(), bytes.repeat(count).into());
    match row.dtype() {
        DType::Float => filled(&0.25f32.to_ne_bytes()),
        DType::Double => filled(&0.25f64.to_ne_bytes()),
        DType::Int32 => filled(&1i32.to_ne_bytes()),
        DType::Int64 => filled(&1i64.to_ne_bytes()),
        DType::UInt8 | DType::Int8 => filled(&[1]),
        _ => row.clone(),
    }
}

/// Returns whether two outputs are the same but for how kernels round.
fn are_close(one: &Tensor, other: &Tensor) -> bool {
    if one.dtype() != other.dtype() || one.shape() != other.shape() {
        return false;
    }
    let close = |one: f64, other: f64| {
        (one.is_nan() && other.is_nan())
            || one == other
            || (one - other).abs() <= TOLERANCE * one.abs().max(other.abs()).max(1.0)
    };
    match (one.dtype(), one.data(), other.data()) {
        (DType::Float, Data::Numbers(one), Data::Numbers(other)) => {
            let values = |bytes: &[u8]| bytemuck::pod_collect_to_vec::<u8, f32>(bytes);
            values(one).into_iter().zip(values(other)).all(|(one, other)| close(one.into(), other.into()))
        }
        (DType::Double, Data::Numbers(one), Data::Numbers(other)) => {
            let values = |bytes: &[u8]| bytemuck::pod_collect_to_vec::<u8, f64>(bytes);
            values(one).into_iter().zip(values(other)).all(|(one, other)| close(one, other))
        }
        (_, Data::Numbers(one), Data::Numbers(other)) => one == other,
        (_, Data::Strings(one), Data::Strings(other)) => one.iter().eq(other.iter()),
        _ => false,
    }
}
