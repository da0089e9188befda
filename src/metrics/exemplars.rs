//! Exemplars: for each bucket of a histogram of times, a request that it counts and whose trace is recorded.

use super::latencies::TIMES;
use crate::trace_context::TraceContext;
use std::array::from_fn;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

/// Number of buckets, the unlimited one included.
const BUCKETS: usize = TIMES.len() + 1;

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exemplar {
    /// Its span.
    pub(super) span: TraceContext,
    /// What it took, in nanoseconds.
    pub(super) nanos: u64,
    /// When it ended.
    pub(super) at: SystemTime,
}

/// The latest request of each bucket, as far as one has come; without memory until the first that is traced.
#[derive(Debug, Default)]
pub(super) struct Exemplars(OnceLock<Box<[Mutex<Option<Exemplar>>; BUCKETS]>>);

impl Exemplars {
    /// Keeps a request, unless another thread is just keeping one in the same bucket.
    pub(super) fn keep(&self, span: TraceContext, nanos: u64) {
        let buckets = self.0.get_or_init(|| Box::new(from_fn(|_| Mutex::default())));
        let bucket = TIMES.partition_point(|limit| *limit < nanos);
        if let Ok(mut kept) = buckets[bucket].try_lock() {
            *kept = Some(Exemplar { span, nanos, at: SystemTime::now() });
        }
    }
}

/// What was kept when it was read: none at all, or one place for each bucket.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept(pub(super) Vec<Option<Exemplar>>);

impl Kept {
    /// Adds what is kept in `exemplars`.
    pub(super) fn read(&mut self, exemplars: &Exemplars) {
        let Some(buckets) = exemplars.0.get() else { return };
        let all = buckets.iter().map(|kept| *kept.lock().unwrap_or_else(PoisonError::into_inner));
        self.merge(&Kept(all.collect()));
    }

    /// Adds `other`; of each bucket the latest stays.
    pub(super) fn merge(&mut self, other: &Kept) {
        self.0.resize(self.0.len().max(other.0.len()), None);
        for (kept, one) in self.0.iter_mut().zip(&other.0) {
            let is_later = |one: &Exemplar| kept.is_none_or(|kept| kept.at <= one.at);
            if let Some(one) = one.filter(is_later) {
                *kept = Some(one);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace_context::{new_span, new_trace};

    #[test]
    fn each_bucket_keeps_its_latest() {
        let span = || TraceContext { trace: new_trace(), span: new_span(), sampled: true };
        let (parts, mut kept) = ([Exemplars::default(), Exemplars::default()], Kept::default());
        kept.read(&parts[0]);
        assert!(kept.0.is_empty());
        let [first, last, longest] = [span(), span(), span()];
        parts[0].keep(first, 25_000);
        parts[1].keep(last, 24_000);
        parts[0].keep(longest, u64::MAX);
        parts.iter().for_each(|part| kept.read(part));
        let spans: Vec<_> = kept.0.iter().map(|kept| kept.map(|one| one.span)).collect();
        assert_eq!(
            (spans.len(), spans[0], spans[1], spans[BUCKETS - 1]),
            (19, Some(last), None, Some(longest))
        );
    }
}
