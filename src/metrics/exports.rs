//! Counts of the spans that are sent to a collector, and of those that are not.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What became of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanFate {
    /// The collector has it.
    Sent,
    /// Too many waited to be sent.
    QueueFull,
    /// It could not be sent.
    Failed,
    /// The collector did not take it.
    Rejected,
}

impl SpanFate {
    const ALL: [SpanFate; 4] = [SpanFate::Sent, SpanFate::QueueFull, SpanFate::Failed, SpanFate::Rejected];

    /// Returns the value of the label `outcome`.
    fn name(self) -> &'static str {
        match self {
            SpanFate::Sent => "sent",
            SpanFate::QueueFull => "queue_full",
            SpanFate::Failed => "failed",
            SpanFate::Rejected => "rejected",
        }
    }
}

/// The spans of one server, by what became of them.
#[derive(Debug, Default)]
pub struct Exports([AtomicU64; SpanFate::ALL.len()]);

impl Exports {
    /// Counts spans.
    pub fn count(&self, fate: SpanFate, spans: usize) {
        self.0[fate as usize].fetch_add(spans as u64, Relaxed);
    }

    /// Returns the number of spans by outcome.
    pub(super) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        SpanFate::ALL.into_iter().map(|fate| (fate.name(), self.0[fate as usize].load(Relaxed)))
    }
}
