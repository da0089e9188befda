//! Counts of batches, for all models together.

use super::histogram::{BATCH_SIZES, Histogram, Merged, QUEUING};
use super::micros;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The counts of all batches.
#[derive(Debug, Default)]
pub struct Batches {
    queuing: Histogram<52>,
    inputs: Histogram<14>,
    processed: Histogram<14>,
    runs: AtomicU64,
    run_micros: AtomicU64,
    /// By the number of rows a batch was run with.
    padding: Mutex<BTreeMap<usize, Histogram<14>>>,
}

/// A snapshot of the counts.
#[derive(Clone, Debug, Default)]
pub(super) struct BatchCounts {
    pub(super) queuing: Merged,
    pub(super) inputs: Merged,
    pub(super) processed: Merged,
    pub(super) runs: u64,
    pub(super) run_micros: u64,
    pub(super) padding: BTreeMap<usize, Merged>,
}

impl Batches {
    /// Counts a run of `size` rows, filler included, that took `took`; `rows` and `waits` are the rows of its requests
    /// and the times they waited.
    pub fn ran(&self, rows: &[usize], size: usize, took: Duration, waits: impl Iterator<Item = Duration>) {
        self.runs.fetch_add(1, Relaxed);
        self.run_micros.fetch_add(micros(took), Relaxed);
        self.processed.add(&BATCH_SIZES, size as u64);
        rows.iter().for_each(|rows| self.inputs.add(&BATCH_SIZES, *rows as u64));
        waits.for_each(|wait| self.queuing.add(&QUEUING, micros(wait)));
        let filler = size.saturating_sub(rows.iter().sum());
        let mut padding = self.padding.lock().unwrap_or_else(PoisonError::into_inner);
        padding.entry(size).or_default().add(&BATCH_SIZES, filler as u64);
    }

    /// Returns the rows of all requests, the number of runs, and the rows of all runs.
    #[cfg(test)]
    pub(crate) fn sizes(&self) -> (u64, u64, u64) {
        let counts = self.counts();
        (counts.inputs.sum, counts.runs, counts.processed.sum)
    }

    pub(super) fn counts(&self) -> BatchCounts {
        let padding = self.padding.lock().unwrap_or_else(PoisonError::into_inner);
        BatchCounts {
            queuing: Merged::of(&self.queuing),
            inputs: Merged::of(&self.inputs),
            processed: Merged::of(&self.processed),
            runs: self.runs.load(Relaxed),
            run_micros: self.run_micros.load(Relaxed),
            padding: padding.iter().map(|(size, histogram)| (*size, Merged::of(histogram))).collect(),
        }
    }
}
