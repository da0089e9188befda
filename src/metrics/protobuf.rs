//! How samples are written for a Prometheus that takes native histograms: its protobuf format, the only one that has them.
//! Messages of `io.prometheus.client`, each with its length before it:
//! <https://github.com/prometheus/client_model/blob/master/io/prometheus/client/metrics.proto>

use super::exemplars;
use super::family::{Family, Type};
use super::native::{self, SCHEMA, Times, ZERO_THRESHOLD};
use super::samples::{Buckets, Number, Sink};
use prost::Message;
use prost_types::Timestamp;

#[derive(Clone, PartialEq, Message)]
struct MetricFamily {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    help: String,
    #[prost(int32, optional, tag = "3")]
    kind: Option<i32>,
    #[prost(message, repeated, tag = "4")]
    metrics: Vec<Metric>,
}

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, optional, tag = "2")]
    gauge: Option<Value>,
    #[prost(message, optional, tag = "3")]
    counter: Option<Value>,
    #[prost(message, optional, tag = "7")]
    histogram: Option<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(double, optional, tag = "1")]
    value: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(uint64, optional, tag = "1")]
    count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    sum: Option<f64>,
    #[prost(message, repeated, tag = "3")]
    buckets: Vec<Bucket>,
    #[prost(sint32, optional, tag = "5")]
    schema: Option<i32>,
    #[prost(double, optional, tag = "6")]
    zero_threshold: Option<f64>,
    #[prost(uint64, optional, tag = "7")]
    zero_count: Option<u64>,
    #[prost(message, repeated, tag = "12")]
    spans: Vec<BucketSpan>,
    /// Each bucket's count, less that of the one before.
    #[prost(sint64, repeated, tag = "13")]
    deltas: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct Bucket {
    #[prost(uint64, optional, tag = "1")]
    cumulative_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    upper_bound: Option<f64>,
    #[prost(message, optional, tag = "3")]
    exemplar: Option<Exemplar>,
}

#[derive(Clone, PartialEq, Message)]
struct BucketSpan {
    /// Of the first span, the index of its first bucket; of others, the empty buckets before it.
    #[prost(sint32, optional, tag = "1")]
    offset: Option<i32>,
    #[prost(uint32, optional, tag = "2")]
    length: Option<u32>,
}

#[derive(Clone, PartialEq, Message)]
struct Exemplar {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(double, optional, tag = "2")]
    value: Option<f64>,
    #[prost(message, optional, tag = "3")]
    timestamp: Option<Timestamp>,
}

/// Writes the samples of families, one after another.
#[derive(Default)]
pub(super) struct Protobuf {
    written: Vec<u8>,
    current: MetricFamily,
}

impl Protobuf {
    /// Announces `family`, whose samples follow.
    pub(super) fn begin(&mut self, family: &Family) {
        self.end();
        let kind = match family.kind {
            Type::Counter => 0,
            Type::Gauge | Type::Info => 1,
            Type::Histogram => 4,
        };
        let (name, help) = (family.sample_name(), family.help.to_owned());
        self.current = MetricFamily { name, help, kind: Some(kind), metrics: Vec::new() };
    }

    /// Returns what was written.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.end();
        self.written
    }

    /// Writes the current family; one without samples is left out, as the format demands.
    fn end(&mut self) {
        let family = std::mem::take(&mut self.current);
        if !family.metrics.is_empty() {
            self.written.extend(family.encode_length_delimited_to_vec());
        }
    }
}

impl Sink for Protobuf {
    fn number(&mut self, family: &Family, values: &[&str], value: Number) {
        let value = Some(Value { value: Some(value.into()) });
        let labels = labels(family.labels.iter().zip(values));
        self.current.metrics.push(match family.kind {
            Type::Counter => Metric { labels, counter: value, ..Metric::default() },
            Type::Gauge | Type::Info | Type::Histogram => {
                Metric { labels, gauge: value, ..Metric::default() }
            }
        });
    }

    fn histogram(&mut self, family: &Family, values: &[&str], buckets: &Buckets<'_>) {
        let mut histogram = classic(buckets);
        if let Some(times) = buckets.native {
            add_native(&mut histogram, times);
        }
        let labels = labels(family.labels.iter().zip(values));
        self.current.metrics.push(Metric { labels, histogram: Some(histogram), ..Metric::default() });
    }
}

fn labels<'a>(named: impl Iterator<Item = (&'a &'a str, &'a &'a str)>) -> Vec<Label> {
    named.map(|(name, value)| Label { name: (*name).to_owned(), value: (*value).to_owned() }).collect()
}

fn classic(buckets: &Buckets<'_>) -> Histogram {
    let Buckets { limits, merged, scale, exemplars, .. } = buckets;
    let limits = limits.iter().map(|limit| limit / scale).chain([f64::INFINITY]);
    let mut total = 0;
    let bucket = |(place, (limit, count)): (usize, (f64, &u64))| {
        total += count;
        let exemplar = exemplars.0.get(place).and_then(Option::as_ref).map(|one| exemplar(one, *scale));
        Bucket { cumulative_count: Some(total), upper_bound: Some(limit), exemplar }
    };
    let buckets = limits.zip(&merged.counts).enumerate().map(bucket).collect();
    #[allow(clippy::cast_precision_loss)] // Of nanoseconds, beyond a hundred days.
    let sum = merged.sum as f64 / scale;
    Histogram { count: Some(total), sum: Some(sum), buckets, ..Histogram::default() }
}

/// Adds the native buckets. Their sum is the number of values: Prometheus refuses a histogram where it is not, and the
/// classic ones were read a moment before.
fn add_native(histogram: &mut Histogram, times: &Times) {
    histogram.count = Some(times.count());
    histogram.schema = Some(SCHEMA);
    histogram.zero_threshold = Some(ZERO_THRESHOLD);
    histogram.zero_count = Some(times.zero);
    let (mut end, mut before) = (0, 0);
    for native::Span { first, counts } in times.spans() {
        let length = i32::try_from(counts.len()).unwrap_or(i32::MAX);
        histogram.spans.push(BucketSpan { offset: Some(first - end), length: Some(length.unsigned_abs()) });
        end = first + length;
        for count in counts {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            histogram.deltas.push(count - before);
            before = count;
        }
    }
    if histogram.spans.is_empty() {
        // By this it is known as a native one.
        histogram.spans.push(BucketSpan { offset: Some(0), length: Some(0) });
    }
}

fn exemplar(exemplar: &exemplars::Exemplar, scale: f64) -> Exemplar {
    let named = [("trace_id", exemplar.span.trace.to_string()), ("span_id", exemplar.span.span.to_string())];
    let labels = named.into_iter().map(|(name, value)| Label { name: name.to_owned(), value });
    #[allow(clippy::cast_precision_loss)] // Of nanoseconds, beyond a hundred days.
    let value = exemplar.nanos as f64 / scale;
    Exemplar { labels: labels.collect(), value: Some(value), timestamp: Some(exemplar.at.into()) }
}
