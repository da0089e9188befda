//! The samples of a metric on their way from the list to a page, or to a collector.

use super::exemplars::Kept;
use super::family::Family;
use super::histogram::Merged;
use super::native;
use std::fmt::{Display, Formatter};

/// A value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// A count.
    Whole(u64),
    /// Anything else.
    Real(f64),
}

impl Display for Number {
    fn fmt(&self, text: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Number::Whole(number) => number.fmt(text),
            Number::Real(number) => number.fmt(text),
        }
    }
}

impl From<u64> for Number {
    fn from(number: u64) -> Number {
        Number::Whole(number)
    }
}

impl From<usize> for Number {
    fn from(number: usize) -> Number {
        Number::Whole(number as u64)
    }
}

impl From<Number> for f64 {
    #[allow(clippy::cast_precision_loss)] // Far below where doubles skip integers, or of no matter.
    fn from(number: Number) -> f64 {
        match number {
            Number::Whole(number) => number as f64,
            Number::Real(number) => number,
        }
    }
}

impl From<f64> for Number {
    fn from(number: f64) -> Number {
        Number::Real(number)
    }
}

/// A histogram.
pub(super) struct Buckets<'a> {
    /// Finite limits, in the unit of what was counted.
    pub(super) limits: &'a [f64],
    pub(super) merged: &'a Merged,
    /// Number of these units in one of the metric's.
    pub(super) scale: f64,
    /// In nanoseconds; none, or one place for each bucket.
    pub(super) exemplars: &'a Kept,
    /// The same values in native buckets, if they are counted so.
    pub(super) native: Option<&'a native::Times>,
}

/// What becomes of the samples of a family.
pub(super) trait Sink {
    /// Takes a sample; `values` are those of the family's labels.
    fn number(&mut self, family: &Family, values: &[&str], value: Number);

    /// Takes a histogram.
    fn histogram(&mut self, family: &Family, values: &[&str], buckets: &Buckets<'_>);
}

/// Takes the samples of one family.
pub(super) struct Samples<'a> {
    pub(super) family: &'a Family,
    pub(super) sink: &'a mut dyn Sink,
}

impl Samples<'_> {
    /// Takes a sample; `values` are those of the family's labels.
    pub(super) fn sample(&mut self, values: &[&str], value: impl Into<Number>) {
        self.sink.number(self.family, values, value.into());
    }

    /// Takes a histogram between `limits`, in units of which the metric's has `scale`.
    pub(super) fn histogram(&mut self, values: &[&str], limits: &[f64], merged: &Merged, scale: f64) {
        self.buckets(values, &Buckets { limits, merged, scale, exemplars: &Kept::default(), native: None });
    }

    /// The same with exemplars.
    pub(super) fn buckets(&mut self, values: &[&str], buckets: &Buckets<'_>) {
        self.sink.histogram(self.family, values, buckets);
    }
}
