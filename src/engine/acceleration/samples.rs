//! Requests that succeeded, kept while a candidate is prepared: it has to answer them alike.

use super::probe::Feeds;
use crate::engine::Endpoint;
use crate::tensor::Tensor;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Most requests that are kept, and most bytes of all of them: the first may have any size up to that.
const MOST: usize = 8;
const MOST_BYTES: usize = 64 << 20;

/// The latest requests to a signature, and the first.
#[derive(Debug)]
pub(super) struct Samples {
    open: AtomicBool,
    offered: AtomicUsize,
    kept: Mutex<Vec<Feeds>>,
}

impl Samples {
    pub(super) fn new() -> Samples {
        Samples { open: AtomicBool::new(true), offered: AtomicUsize::new(0), kept: Mutex::default() }
    }

    /// Keeps a copy of `feeds` if samples are still taken. Never waits.
    pub(super) fn offer(&self, feeds: &[(Endpoint, Tensor)]) {
        if !self.open.load(Relaxed) {
            return;
        }
        let Ok(mut kept) = self.kept.try_lock() else { return };
        let bytes =
            |feeds: &[(Endpoint, Tensor)]| feeds.iter().map(|(_, tensor)| tensor.memory()).sum::<usize>();
        let before: usize = kept.iter().map(|feeds| bytes(feeds)).sum();
        // Asked again: it may have been closed meanwhile.
        if before + bytes(feeds) > MOST_BYTES || !self.open.load(Relaxed) {
            return;
        }
        let number = self.offered.fetch_add(1, Relaxed);
        let copy = feeds.iter().map(|(endpoint, tensor)| (*endpoint, tensor.copied())).collect();
        if kept.len() < MOST {
            kept.push(copy);
        } else {
            // The first stays: it is of the warm-up.
            kept[1 + number % (MOST - 1)] = copy;
        }
    }

    /// Returns the first one.
    pub(super) fn first(&self) -> Option<Feeds> {
        self.kept().first().cloned()
    }

    /// Returns those kept so far.
    pub(super) fn all(&self) -> Vec<Feeds> {
        self.kept().clone()
    }

    /// Frees those kept, and takes no more.
    pub(super) fn close(&self) {
        let mut kept = self.kept();
        self.open.store(false, Relaxed);
        *kept = Vec::new();
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Feeds>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DType;

    fn feeds(value: u8) -> Feeds {
        vec![(Endpoint(0), Tensor::numbers(DType::UInt8, vec![1], vec![value].into()))]
    }

    #[test]
    fn the_first_and_the_latest_are_kept_until_it_closes() {
        let samples = Samples::new();
        (0..20).for_each(|value| samples.offer(&feeds(value)));
        let values: Vec<u8> = samples.all().iter().map(|feeds| feeds[0].1.bytes()[0]).collect();
        assert_eq!((values.len(), values[0]), (MOST, 0));
        assert!(values[1..].iter().all(|value| *value >= 13));
        samples.close();
        samples.offer(&feeds(1));
        assert!(samples.all().is_empty());
    }

    #[test]
    fn large_requests_are_not_kept() {
        let samples = Samples::new();
        let large =
            Tensor::numbers(DType::UInt8, vec![MOST_BYTES as i64 + 1], vec![0; MOST_BYTES + 1].into());
        samples.offer(&[(Endpoint(0), large)]);
        assert!(samples.all().is_empty());
        let words = Tensor::strings(vec![2], ["a", "bc"].into_iter().collect());
        samples.offer(&[(Endpoint(0), words)]);
        let kept = samples.all();
        assert!(kept[0][0].1.as_strings().unwrap().iter().eq([b"a".as_slice(), b"bc"]));
    }
}
