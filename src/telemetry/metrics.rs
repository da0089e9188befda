//! Metrics for a collector: the list of the page, sent now and then by a thread of its own.

use super::attributes::{self, Attributes, whole};
use super::delivery::Delivery;
use super::rejection;
use super::settings::{MetricSettings, Settings};
use crate::log_queue::{Limits, LogQueue, Sink};
use crate::metrics::family::{Family, Type};
use crate::metrics::{HistogramValue, Number, Point, Value};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Exemplar, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
    ResourceMetrics, ScopeMetrics, Sum, exemplar, metric, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What is known now, of each metric of the list.
pub type Observed = Vec<(&'static Family, Vec<Point>)>;

/// Sends metrics until it is dropped.
pub struct SentMetrics(LogQueue<()>);

impl SentMetrics {
    /// Starts the thread, if `settings` ask for metrics; `observe` reads them. What cannot be used is told of, and none
    /// are sent.
    pub fn start(
        settings: &Settings,
        observe: impl Fn() -> Option<Observed> + Send + 'static,
    ) -> Option<SentMetrics> {
        let MetricSettings { to, interval } = settings.metrics.as_ref()?;
        let started = || {
            let sender = Sender {
                delivery: Delivery::new(to, "metrics")?,
                resource: attributes::resource(&settings.resource),
                observe,
                began: SystemTime::now(),
                interval: *interval,
                next: Instant::now() + *interval,
            };
            LogQueue::start("servable-metrics", Limits::NONE, sender).map_err(|why| why.to_string())
        };
        started().inspect_err(|why| tracing::warn!("no metrics are sent: {why}")).ok().map(SentMetrics)
    }

    /// Sends them a last time, `within` at most. Returns whether that is done or given up.
    pub fn finish(&self, within: Duration) -> bool {
        self.0.finish(within)
    }
}

struct Sender<O> {
    delivery: Delivery,
    resource: Resource,
    observe: O,
    began: SystemTime,
    interval: Duration,
    next: Instant,
}

impl<O: Fn() -> Option<Observed> + Send + 'static> Sink<()> for Sender<O> {
    /// Called when it is time, and at the end.
    fn write(&mut self, _: Vec<()>, _: u64) {
        self.next = Instant::now() + self.interval;
        let Some(observed) = (self.observe)() else { return };
        let metrics = messages(&observed, self.began, SystemTime::now());
        let of_scope = ScopeMetrics { scope: Some(attributes::scope()), metrics, ..ScopeMetrics::default() };
        let of_server = ResourceMetrics {
            resource: Some(self.resource.clone()),
            scope_metrics: vec![of_scope],
            ..ResourceMetrics::default()
        };
        let message = ExportMetricsServiceRequest { resource_metrics: vec![of_server] }.encode_to_vec();
        let Some(answer) = self.delivery.deliver(&message) else { return };
        let answer = ExportMetricsServiceResponse::decode(answer).unwrap_or_default();
        if let Some(part) = answer.partial_success.filter(|part| part.rejected_data_points > 0) {
            let (rejected, why) = (part.rejected_data_points, part.error_message);
            self.delivery.tell(&rejection("points", rejected, &why));
        }
    }

    fn next_call(&self) -> Option<Instant> {
        Some(self.next)
    }
}

/// Returns metrics that were counted since `began`, and read at `now`. Those without a sample are left out.
fn messages(observed: &Observed, began: SystemTime, now: SystemTime) -> Vec<Metric> {
    let times = [nanos(began), nanos(now)];
    let told = observed.iter().filter(|(_, points)| !points.is_empty());
    told.map(|(family, points)| Metric {
        name: family.sample_name(),
        description: family.help.to_owned(),
        unit: unit(family.name).to_owned(),
        data: Some(data(family.kind, points, times)),
        ..Metric::default()
    })
    .collect()
}

fn data(kind: Type, points: &[Point], times: [u64; 2]) -> metric::Data {
    let temporality = AggregationTemporality::Cumulative.into();
    let numbers = || points.iter().filter_map(|point| number(point, times)).collect();
    match kind {
        Type::Counter => metric::Data::Sum(Sum {
            data_points: numbers(),
            aggregation_temporality: temporality,
            is_monotonic: true,
        }),
        Type::Gauge | Type::Info => metric::Data::Gauge(Gauge { data_points: numbers() }),
        Type::Histogram => metric::Data::Histogram(Histogram {
            data_points: points.iter().filter_map(|point| histogram(point, times)).collect(),
            aggregation_temporality: temporality,
        }),
    }
}

fn number(point: &Point, [began, now]: [u64; 2]) -> Option<NumberDataPoint> {
    let Value::Number(number) = &point.value else { return None };
    let value = match number {
        Number::Whole(number) => number_data_point::Value::AsInt(whole(*number)),
        Number::Real(number) => number_data_point::Value::AsDouble(*number),
    };
    Some(NumberDataPoint {
        attributes: labels(point),
        start_time_unix_nano: began,
        time_unix_nano: now,
        value: Some(value),
        ..NumberDataPoint::default()
    })
}

fn histogram(point: &Point, [began, now]: [u64; 2]) -> Option<HistogramDataPoint> {
    let Value::Histogram(HistogramValue { limits, counts, sum, exemplars }) = &point.value else {
        return None;
    };
    let exemplar = |(span, value, at): &(crate::trace_context::TraceContext, f64, SystemTime)| Exemplar {
        time_unix_nano: nanos(*at),
        trace_id: span.trace.to_bytes().to_vec(),
        span_id: span.span.to_bytes().to_vec(),
        value: Some(exemplar::Value::AsDouble(*value)),
        ..Exemplar::default()
    };
    Some(HistogramDataPoint {
        attributes: labels(point),
        start_time_unix_nano: began,
        time_unix_nano: now,
        count: counts.iter().sum(),
        sum: Some(*sum),
        bucket_counts: counts.clone(),
        explicit_bounds: limits.clone(),
        exemplars: exemplars.iter().map(exemplar).collect(),
        ..HistogramDataPoint::default()
    })
}

fn labels(point: &Point) -> Vec<opentelemetry_proto::tonic::common::v1::KeyValue> {
    let mut labels = Attributes::default();
    point.labels.iter().for_each(|(name, value)| labels.text(name, Some(value)));
    labels.0
}

/// Returns the unit that a metric's name ends with.
fn unit(name: &str) -> &'static str {
    let name = name.trim_end_matches("_total");
    match name {
        _ if name.ends_with("_seconds") => "s",
        _ if name.ends_with("_bytes") => "By",
        _ => "",
    }
}

fn nanos(time: SystemTime) -> u64 {
    u64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}
