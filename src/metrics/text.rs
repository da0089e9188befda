//! How samples are written: TensorFlow Serving's text (docs/spec/server.md, section 9.1), Prometheus's text format 0.0.4,
//! and OpenMetrics 1.0.

use super::exemplars::Exemplar;
use super::family::{Family, Type, metric_name};
use super::samples::{Buckets, Number, Sink};
use std::fmt::{Arguments, Display, Write};
use std::time::UNIX_EPOCH;

/// How a page is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// As TensorFlow Serving does: without explanations.
    TensorFlow,
    /// Prometheus's text format, version 0.0.4.
    Prometheus,
    /// OpenMetrics, version 1.0.0.
    OpenMetrics,
    /// Prometheus's protobuf format, which alone has native histograms.
    Protobuf,
}

impl Format {
    /// Returns the page's media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::TensorFlow => "text/plain",
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }

    /// Returns the format for a client that sent `accept` as its `Accept` header: the one that it prefers, and text if that
    /// is none of these.
    pub fn accepted(accept: &str) -> Format {
        const PROTOBUF: &[&str] = &["proto=io.prometheus.client.MetricFamily", "encoding=delimited"];
        let named: [(&str, &[&str], Format); 3] = [
            ("text/plain", &[], Format::Prometheus),
            ("application/openmetrics-text", &[], Format::OpenMetrics),
            ("application/vnd.google.protobuf", PROTOBUF, Format::Protobuf),
        ];
        let mut best = (0.0, Format::Prometheus);
        for (media_type, parameters, format) in named {
            let quality = quality(accept, media_type, parameters);
            if quality > 0.0 && quality >= best.0 {
                best = (quality, format);
            }
        }
        best.1
    }
}

/// Returns how much a client that sent `accept` wants `media_type` with these `parameters`, from 0 to 1.
fn quality(accept: &str, media_type: &str, parameters: &[&str]) -> f32 {
    let ranges = accept.split(',').filter_map(|range| {
        let (named, rest) = range.split_once(';').unwrap_or((range, ""));
        let given = || rest.split(';').map(str::trim);
        let has = |wanted: &&str| given().any(|one| one.replace('"', "").eq_ignore_ascii_case(wanted));
        let quality = given().find_map(|one| one.strip_prefix("q=").or(one.strip_prefix("Q=")));
        let quality = quality.map_or(Some(1.0), |quality| quality.parse::<f32>().ok())?;
        (named.trim().eq_ignore_ascii_case(media_type) && parameters.iter().all(has)).then_some(quality)
    });
    ranges.fold(0.0, f32::max)
}

/// Writes the samples of families, one after another.
pub(super) struct Text {
    pub(super) text: String,
    /// The name of the current family's samples.
    name: String,
    format: Format,
}

impl Text {
    pub(super) fn new(format: Format) -> Text {
        Text { text: String::new(), name: String::new(), format }
    }

    /// Announces `family`, whose samples follow.
    pub(super) fn begin(&mut self, family: &Family) {
        self.name = family.sample_name();
        let (announced, kind) = announcement(family, &self.name, self.format);
        if self.format != Format::TensorFlow {
            write(&mut self.text, format_args!("# HELP {announced} {}\n", explained(family.help)));
        }
        write(&mut self.text, format_args!("# TYPE {announced} {kind}\n"));
    }

    fn line(&mut self, suffix: &str, labels: &str, value: impl Display) {
        let name = &self.name;
        if labels.is_empty() && self.format != Format::TensorFlow {
            write(&mut self.text, format_args!("{name}{suffix} {value}\n"));
        } else {
            write(&mut self.text, format_args!("{name}{suffix}{{{labels}}} {value}\n"));
        }
    }

    /// Returns how `exemplar` is written after the value of its bucket: in OpenMetrics alone.
    fn exemplar(&self, exemplar: Option<&Exemplar>, scale: f64) -> String {
        let Some(Exemplar { span, nanos, at }) = exemplar.filter(|_| self.format == Format::OpenMetrics)
        else {
            return String::new();
        };
        #[allow(clippy::cast_precision_loss)] // Of nanoseconds, beyond a hundred days.
        let value = *nanos as f64 / scale;
        let at = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        format!(" # {{trace_id=\"{}\",span_id=\"{}\"}} {value:?} {at:.3}", span.trace, span.span)
    }
}

impl Sink for Text {
    fn number(&mut self, family: &Family, values: &[&str], value: Number) {
        let labels = joined(family.labels, values);
        self.line("", &labels, value);
    }

    fn histogram(&mut self, family: &Family, values: &[&str], buckets: &Buckets<'_>) {
        let Buckets { limits, merged, scale, exemplars, .. } = buckets;
        let labels = joined(family.labels, values);
        let comma = if labels.is_empty() { "" } else { "," };
        let number = |number: f64| {
            if family.is_own() { format!("{:?}", number / scale) } else { general(number / scale) }
        };
        let limits = limits.iter().map(|limit| number(*limit)).chain(["+Inf".to_owned()]);
        let mut total = 0;
        for (bucket, (limit, count)) in limits.zip(&merged.counts).enumerate() {
            total += count;
            let exemplar = self.exemplar(exemplars.0.get(bucket).and_then(Option::as_ref), *scale);
            let value = format!("{total}{exemplar}");
            self.line("_bucket", &format!("{labels}{comma}le=\"{limit}\""), value);
        }
        #[allow(clippy::cast_precision_loss)] // Of nanoseconds, beyond a hundred days.
        let sum = number(merged.sum as f64);
        self.line("_sum", &labels, sum);
        self.line("_count", &labels, total);
    }
}

/// Returns the name and the type by which `family` is announced. OpenMetrics leaves out the endings that its types
/// require; TensorFlow Serving's counters do not have them, and keep their names as what has no type.
fn announcement<'a>(family: &Family, name: &'a str, format: Format) -> (&'a str, &'static str) {
    let is_open = format == Format::OpenMetrics;
    match family.kind {
        Type::Counter if is_open && family.is_own() => (name.trim_end_matches("_total"), "counter"),
        Type::Counter if is_open => (name, "unknown"),
        Type::Info if is_open => (name.trim_end_matches("_info"), "info"),
        Type::Info => (name, "gauge"),
        Type::Counter | Type::Gauge | Type::Histogram => (name, family.kind.name()),
    }
}

/// Returns the value of the first sample of metric `name` in TensorFlow Serving's text; 0 if there is none.
pub(super) fn first(text: &str, name: &str) -> i64 {
    let prefix = format!("{}{{", metric_name(name));
    let sample = text.lines().find(|line| line.starts_with(&prefix));
    sample.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
}

/// Formats labels as `name="value"`, comma-separated. The names need no escaping.
fn joined(names: &[&str], values: &[&str]) -> String {
    debug_assert_eq!(names.len(), values.len());
    let mut labels = String::with_capacity(32 * names.len());
    for (name, value) in names.iter().zip(values) {
        let comma = if labels.is_empty() { "" } else { "," };
        write(&mut labels, format_args!("{comma}{name}=\"{}\"", escaped(value)));
    }
    labels
}

/// Escapes a label's value. TensorFlow Serving leaves line ends as they are, which would let a client write lines of
/// its own.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Escapes an explanation, for both formats.
fn explained(help: &str) -> String {
    help.replace('\\', "\\\\").replace('\n', "\\n")
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
fn write(text: &mut String, arguments: Arguments<'_>) {
    let _infallible = text.write_fmt(arguments);
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(joined(&["a", "b"], &["b\\c\"d\ne", ""]), r#"a="b\\c\"d\ne",b="""#);
    }

    #[test]
    fn clients_get_what_they_prefer() {
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;\
                          q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let native = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,\
                      application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let newer = "application/vnd.google.protobuf; proto=\"io.prometheus.client.MetricFamily\"; \
                     encoding=delimited; q=0.6, application/openmetrics-text;version=1.0.0;q=0.5";
        let cases = [
            ("", Format::Prometheus),
            ("*/*", Format::Prometheus),
            ("text/html,application/xhtml+xml", Format::Prometheus),
            ("application/openmetrics-text", Format::OpenMetrics),
            ("Application/OpenMetrics-Text; version=1.0.0; charset=utf-8", Format::OpenMetrics),
            ("text/plain, application/openmetrics-text; q=0.9", Format::Prometheus),
            ("text/plain;q=0.5, application/openmetrics-text;q=0.9", Format::OpenMetrics),
            ("application/openmetrics-text;q=0", Format::Prometheus),
            ("application/openmetrics-text;q=x", Format::Prometheus),
            (prometheus, Format::OpenMetrics),
            (native, Format::Protobuf),
            (newer, Format::Protobuf),
            ("application/vnd.google.protobuf", Format::Prometheus),
            ("application/vnd.google.protobuf;proto=other;encoding=delimited", Format::Prometheus),
        ];
        for (accept, format) in cases {
            assert_eq!(Format::accepted(accept), format, "{accept}");
        }
    }
}
