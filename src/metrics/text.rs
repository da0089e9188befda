//! Prometheus's text format, and the one list of metric names (docs/spec/server.md, section 9).

use super::batches::BatchCounts;
use super::handshakes::Handshakes;
use super::histogram::{BATCH_SIZES, EXAMPLES, LATENCY, Merged, QUEUING};
use super::loads::Loads;
use super::model::{CODES, Counts, latency_index};
use super::refusals::Refusals;
use super::{Api, Protocol, code_name};
use crate::error::Kind;
use crate::memory::Budget;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Every metric with its type, sorted by name. That of request logs has no samples yet.
const METRICS: [(&str, &str, Rows); 23] = [
    ("/servable/memory_in_flight_bytes", "gauge", memory_in_flight),
    ("/servable/memory_in_flight_limit_bytes", "gauge", memory_limit),
    ("/servable/memory_in_flight_refusals", "counter", memory_refusals),
    ("/servable/scheduler_refusals", "counter", scheduler_refusals),
    ("/servable/tls_handshake_failures", "counter", handshake_failures),
    ("/tensorflow/cc/saved_model/load_attempt_count", "counter", load_attempts),
    ("/tensorflow/cc/saved_model/load_latency", "counter", load_latency),
    ("/tensorflow/core/graph_run_time_usecs", "counter", graph_run_time),
    ("/tensorflow/core/graph_runs", "counter", graph_runs),
    ("/tensorflow/serving/batching_session/input_batch_size", "histogram", input_sizes),
    ("/tensorflow/serving/batching_session/padding_size", "histogram", padding),
    ("/tensorflow/serving/batching_session/processed_batch_size", "histogram", processed_sizes),
    ("/tensorflow/serving/batching_session/queuing_latency", "histogram", queuing),
    ("/tensorflow/serving/batching_session/wrapped_run_count", "counter", batch_runs),
    ("/tensorflow/serving/mlmd_map", "gauge", none),
    ("/tensorflow/serving/model_warmup_latency", "histogram", warmup_latency),
    ("/tensorflow/serving/model_warmup_records_read", "counter", warmup_records),
    ("/tensorflow/serving/request_count", "counter", request_count),
    ("/tensorflow/serving/request_example_count_total", "counter", example_total),
    ("/tensorflow/serving/request_example_counts", "histogram", example_counts),
    ("/tensorflow/serving/request_latency", "histogram", request_latency),
    ("/tensorflow/serving/request_log_count", "counter", none),
    ("/tensorflow/serving/runtime_latency", "histogram", runtime_latency),
];

type Rows = fn(&mut Samples<'_>, &Counted<'_>);

/// All counts to print.
pub(super) struct Counted<'a> {
    pub(super) models: &'a BTreeMap<&'a str, Counts>,
    pub(super) loads: &'a Loads,
    pub(super) batches: &'a BatchCounts,
    pub(super) memory: &'a Budget,
    pub(super) refusals: &'a Refusals,
    pub(super) handshakes: &'a Handshakes,
}

/// Formats all metrics.
pub(super) fn of(counted: &Counted<'_>) -> String {
    let mut text = String::new();
    for (name, kind, rows) in METRICS {
        let name = metric_name(name);
        write(&mut text, format_args!("# TYPE {name} {kind}\n"));
        rows(&mut Samples { text: &mut text, name: &name }, counted);
    }
    text
}

/// Returns the value of the first sample of metric `name` in a complete text; 0 if there is none.
pub(super) fn first(text: &str, name: &str) -> i64 {
    let prefix = format!("{}{{", metric_name(name));
    let sample = text.lines().find(|line| line.starts_with(&prefix));
    sample.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
}

/// Writes the samples of one metric.
struct Samples<'a> {
    text: &'a mut String,
    name: &'a str,
}

type Labels<'a> = [(&'a str, &'a str)];

impl Samples<'_> {
    fn count(&mut self, labels: &Labels<'_>, value: u64) {
        write(self.text, format_args!("{}{{{}}} {value}\n", self.name, joined(labels)));
    }

    /// Writes a histogram unless it is empty.
    fn once(&mut self, labels: &Labels<'_>, limits: &[f64], merged: &Merged) {
        if merged.count() > 0 {
            self.histogram(labels, limits, merged);
        }
    }

    fn histogram(&mut self, labels: &Labels<'_>, limits: &[f64], merged: &Merged) {
        let (name, labels) = (self.name, joined(labels));
        let comma = if labels.is_empty() { "" } else { "," };
        let mut total = 0;
        let limits = limits.iter().map(|limit| general(*limit)).chain(["+Inf".to_owned()]);
        for (limit, count) in limits.zip(&merged.counts) {
            total += count;
            write(self.text, format_args!("{name}_bucket{{{labels}{comma}le=\"{limit}\"}} {total}\n"));
        }
        #[allow(clippy::cast_precision_loss)] // Printed with six digits.
        let sum = general(merged.sum as f64);
        write(self.text, format_args!("{name}_sum{{{labels}}} {sum}\n{name}_count{{{labels}}} {total}\n"));
    }
}

fn none(_: &mut Samples<'_>, _: &Counted<'_>) {}

fn load_attempts(samples: &mut Samples<'_>, counted: &Counted<'_>) {
    for folder in &counted.loads.0 {
        for (status, count) in [("fail", folder.failed_loads), ("success", folder.loads)] {
            if count > 0 {
                samples.count(&[("model_path", &folder.path), ("status", status)], count);
            }
        }
    }
}

fn load_latency(samples: &mut Samples<'_>, counted: &Counted<'_>) {
    for folder in counted.loads.0.iter().filter(|folder| folder.loads > 0) {
        samples.count(&[("model_path", &folder.path)], folder.load_micros);
    }
}

fn memory_in_flight(samples: &mut Samples<'_>, counted: &Counted<'_>) {
    samples.count(&[], counted.memory.used() as u64);
}

fn memory_limit(samples: &mut Samples<'_>, counted: &Counted<'_>) {
    samples.count(&[], counted.memory.limit() as u64);
}

fn memory_refusals(samples: &mut Samples<'_>, counted: &Counted<'_>) {
    samples.count(&[], counted.memory.refused());
}

fn scheduler_refusals(samples: &mut Samples<'_>, counted: &Counted<'_>) {
    for (reason, count) in counted.refusals.counts() {
        samples.count(&[("reason", reason)], count);
    }
}

fn handshake_failures(samples: &mut Samples<'_>, counted: &Counted<'_>) {
    for (reason, count) in counted.handshakes.counts() {
        samples.count(&[("reason", reason)], count);
    }
}

fn graph_run_time(samples: &mut Samples<'_>, counted: &Counted<'_>) {
    let alone: u64 = counted.models.values().map(|counts| counts.run_micros).sum();
    samples.count(&[], alone + counted.batches.run_micros);
}

fn graph_runs(samples: &mut Samples<'_>, counted: &Counted<'_>) {
    let alone: u64 = counted.models.values().map(|counts| counts.runs).sum();
    samples.count(&[], alone + counted.batches.runs);
}

fn warmup_latency(samples: &mut Samples<'_>, counted: &Counted<'_>) {
    for folder in &counted.loads.0 {
        for (status, warmups) in &folder.warmups {
            let labels = [("model_path", &*folder.path), ("status", *status)];
            samples.histogram(&labels, &LATENCY, &warmups.latency());
        }
    }
}

fn warmup_records(samples: &mut Samples<'_>, counted: &Counted<'_>) {
    for folder in &counted.loads.0 {
        for (status, warmups) in &folder.warmups {
            samples.count(&[("model_path", &folder.path), ("status", status)], warmups.records);
        }
    }
}

fn request_count(samples: &mut Samples<'_>, counted: &Counted<'_>) {
    for (name, counts) in counted.models {
        for code in (0..CODES).filter(|code| counts.outcomes[*code] > 0) {
            let code = i32::try_from(code).unwrap_or(0);
            let status = code_name(if code == 0 { Ok(()) } else { Err(Kind::from_code(code)) });
            samples.count(&[("model_name", name), ("status", status)], counts.outcomes[code as usize]);
        }
    }
}

fn example_total(samples: &mut Samples<'_>, counted: &Counted<'_>) {
    for (name, counts) in counted.models.iter().filter(|(_, counts)| counts.examples.count() > 0) {
        samples.count(&[("model", name)], counts.examples.sum);
    }
}

fn example_counts(samples: &mut Samples<'_>, counted: &Counted<'_>) {
    for (name, counts) in counted.models.iter().filter(|(_, counts)| counts.examples.count() > 0) {
        samples.histogram(&[("model", name)], &EXAMPLES, &counts.examples);
    }
}

fn request_latency(samples: &mut Samples<'_>, counted: &Counted<'_>) {
    for (name, counts) in counted.models {
        for (protocol, api) in
            Protocol::ALL.into_iter().flat_map(|protocol| Api::ALL.map(|api| (protocol, api)))
        {
            let latency = &counts.latency[latency_index(protocol, api)];
            if latency.count() > 0 {
                let labels =
                    [("model_name", *name), ("API", api.label(protocol)), ("entrypoint", protocol.name())];
                samples.histogram(&labels, &LATENCY, latency);
            }
        }
    }
}

fn runtime_latency(samples: &mut Samples<'_>, counted: &Counted<'_>) {
    for (name, counts) in counted.models {
        for api in [Api::Predict, Api::Classify, Api::Regress] {
            let latency = &counts.runtime[api as usize];
            if latency.count() > 0 {
                let labels = [("model_name", *name), ("API", api.label(Protocol::Grpc)), ("runtime", "TF1")];
                samples.histogram(&labels, &LATENCY, latency);
            }
        }
    }
}

fn input_sizes(samples: &mut Samples<'_>, counted: &Counted<'_>) {
    samples.once(&[], &BATCH_SIZES, &counted.batches.inputs);
}

fn processed_sizes(samples: &mut Samples<'_>, counted: &Counted<'_>) {
    samples.once(&[], &BATCH_SIZES, &counted.batches.processed);
}

fn padding(samples: &mut Samples<'_>, counted: &Counted<'_>) {
    for (size, filler) in &counted.batches.padding {
        samples.once(&[("execution_batch_size", &size.to_string())], &BATCH_SIZES, filler);
    }
}

fn queuing(samples: &mut Samples<'_>, counted: &Counted<'_>) {
    samples.once(&[("thread_pool_name", "")], &QUEUING, &counted.batches.queuing);
}

fn batch_runs(samples: &mut Samples<'_>, counted: &Counted<'_>) {
    if counted.batches.runs > 0 {
        samples.count(&[], counted.batches.runs);
    }
}

/// Returns a name in Prometheus's spelling.
fn metric_name(name: &str) -> String {
    name.replace(|c: char| !c.is_ascii_alphanumeric() && c != '_', ":")
}

/// Formats labels as `name="value"`, comma-separated. The names here need no escaping.
fn joined(labels: &Labels<'_>) -> String {
    let quoted = |(name, value): &(_, &str)| format!("{name}=\"{}\"", escaped(value));
    labels.iter().map(quoted).collect::<Vec<_>>().join(",")
}

/// Escapes a label's value. TensorFlow Serving leaves line ends as they are, which would let a client write lines of
/// its own.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Formats a number like C's `%g`: six digits, with an exponent where that is shorter.
fn general(value: f64) -> String {
    let scientific = format!("{value:.5e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return scientific };
    match exponent.parse::<i32>() {
        Ok(exponent @ -4..6) => {
            let decimals = usize::try_from(5 - exponent).unwrap_or(0);
            without_zeros(&format!("{value:.decimals$}")).to_owned()
        }
        Ok(exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{}e{sign}{:02}", without_zeros(digits), exponent.unsigned_abs())
        }
        Err(_) => scientific,
    }
}

fn without_zeros(digits: &str) -> &str {
    if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits }
}

/// Writing to a string cannot fail.
fn write(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    let _infallible = text.write_fmt(arguments);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_sorted_by_name() {
        assert!(METRICS.is_sorted_by_key(|(name, ..)| *name));
    }

    #[test]
    fn the_first_series_of_a_metric_has_a_value() {
        let text =
            "# TYPE :a:b counter\n:a:b{x=\"1 2\"} 7\n:a:b{x=\"2\"} 8\n# TYPE :a:bc counter\n:a:bc{} 9\n";
        assert_eq!([first(text, "/a/b"), first(text, "/a/bc"), first(text, "/a")], [7, 9, 0]);
    }

    #[test]
    fn numbers_are_printed_as_c_does() {
        let cases = [
            (10.0, "10"),
            (32.4, "32.4"),
            (58.32, "58.32"),
            (104.976, "104.976"),
            (188.9568, "188.957"),
            (999_999.5, "1e+06"),
            (999_999.4, "999999"),
            (0.0, "0"),
            (123_456.0, "123456"),
            (1_234_567.0, "1.23457e+06"),
            (1.5e9, "1.5e+09"),
            (16384.0, "16384"),
        ];
        for (value, text) in cases {
            assert_eq!(general(value), text);
        }
    }

    #[test]
    fn label_values_are_escaped() {
        assert_eq!(joined(&[("a", "b\\c\"d\ne")]), r#"a="b\\c\"d\ne""#);
    }
}
