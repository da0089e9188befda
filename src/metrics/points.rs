//! The list of metrics as values, for a collector.

use super::family::Family;
pub use super::samples::Number;
use super::samples::{Buckets, Sink};
use crate::trace_context::TraceContext;
use std::time::SystemTime;

/// A sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// The labels that are not empty.
    pub labels: Vec<(&'static str, String)>,
    /// The value.
    pub value: Value,
}

/// The value of a sample.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A number.
    Number(Number),
    /// A histogram.
    Histogram(Histogram),
}

/// The counts of a histogram, in the unit of its metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// Finite limits, each of which belongs to the bucket that it ends.
    pub limits: Vec<f64>,
    /// The values in each bucket, the unlimited one last.
    pub counts: Vec<u64>,
    /// Their sum.
    pub sum: f64,
    /// Some of them, with their traces: the value, and when it was.
    pub exemplars: Vec<(TraceContext, f64, SystemTime)>,
}

/// Collects samples.
#[derive(Default)]
pub(super) struct Points(pub(super) Vec<Point>);

impl Sink for Points {
    fn number(&mut self, family: &Family, values: &[&str], value: Number) {
        self.0.push(Point { labels: labels(family, values), value: Value::Number(value) });
    }

    fn histogram(&mut self, family: &Family, values: &[&str], buckets: &Buckets<'_>) {
        let Buckets { limits, merged, scale, exemplars, .. } = buckets;
        #[allow(clippy::cast_precision_loss)] // Of nanoseconds, beyond a hundred days.
        let scaled = |number: u64| number as f64 / scale;
        let kept = exemplars.0.iter().flatten();
        self.0.push(Point {
            labels: labels(family, values),
            value: Value::Histogram(Histogram {
                limits: limits.iter().map(|limit| limit / scale).collect(),
                counts: merged.counts.clone(),
                sum: scaled(merged.sum),
                exemplars: kept.map(|one| (one.span, scaled(one.nanos), one.at)).collect(),
            }),
        });
    }
}

fn labels(family: &Family, values: &[&str]) -> Vec<(&'static str, String)> {
    let named = family.labels.iter().zip(values).filter(|(_, value)| !value.is_empty());
    named.map(|(name, value)| (*name, (*value).to_owned())).collect()
}
