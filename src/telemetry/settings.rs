//! What is sent, and where: OpenTelemetry's variables as they are meant.

use super::environment::{Environment, address, headers, pairs};
use crate::chance::random;
use http::{HeaderName, HeaderValue, Uri};
use opentelemetry_sdk::trace::Sampler;
use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;
use std::time::Duration;

/// What is sent to a collector.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What the server says of itself.
    pub(super) resource: Vec<(String, String)>,
    pub(super) traces: Option<TraceSettings>,
    pub(super) metrics: Option<MetricSettings>,
}

/// How traces are made and sent.
#[derive(Clone, Debug)]
pub(super) struct TraceSettings {
    pub(super) to: Destination,
    pub(super) sampling: Sampling,
    /// The spans that may wait, and those that are sent at once.
    pub(super) most_waiting: usize,
    pub(super) most_at_once: usize,
    /// From one message to the next.
    pub(super) pause: Duration,
}

/// How metrics are sent.
#[derive(Clone, Debug)]
pub(super) struct MetricSettings {
    pub(super) to: Destination,
    pub(super) interval: Duration,
}

/// Which requests are traced.
#[derive(Clone, Debug)]
pub(super) struct Sampling {
    /// Chooses among those without a parent.
    pub(super) root: Sampler,
    /// True if those with a parent are traced if it is.
    pub(super) by_parent: bool,
    /// True if parents are taken from clients at all.
    pub(super) takes_parent: bool,
    name: String,
}

/// Where messages go, and how.
#[derive(Clone, Debug)]
pub(super) struct Destination {
    pub(super) protocol: Wire,
    pub(super) address: Uri,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// Longest time of a message, tries included.
    pub(super) within: Duration,
    pub(super) gzip: bool,
    /// The file with the certificates that the collector's is signed by; `None`: those of the system.
    pub(super) roots: Option<PathBuf>,
    /// The files with a certificate and a key to show.
    pub(super) identity: Option<(PathBuf, PathBuf)>,
}

/// How messages are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    /// gRPC.
    Grpc,
    /// Protobuf over HTTP.
    Http,
}

/// What messages tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// Spans.
    Traces,
    /// Metrics.
    Metrics,
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Signal::Traces => "TRACES",
            Signal::Metrics => "METRICS",
        }
    }

    /// Returns the path of messages over HTTP, and that of gRPC's method.
    fn paths(self) -> (&'static str, &'static str) {
        match self {
            Signal::Traces => ("v1/traces", "/opentelemetry.proto.collector.trace.v1.TraceService/Export"),
            Signal::Metrics => {
                ("v1/metrics", "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export")
            }
        }
    }
}

impl Settings {
    /// Reads the variables of this process, and logs what is wrong with them and what they ask for.
    pub fn of_environment() -> Option<Settings> {
        let (settings, warnings) = Settings::read(&|name| std::env::var(name).ok());
        warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        if let Some(traces) = settings.as_ref().and_then(|settings| settings.traces.as_ref()) {
            tracing::info!("traces go to {}, sampled by {}", traces.to, traces.sampling.name);
        }
        if let Some(metrics) = settings.as_ref().and_then(|settings| settings.metrics.as_ref()) {
            tracing::info!("metrics go to {}, every {} s", metrics.to, metrics.interval.as_secs_f64());
        }
        settings
    }

    /// Reads what `variable` returns; also returns what is wrong with it.
    pub(super) fn read(variable: &dyn Fn(&str) -> Option<String>) -> (Option<Settings>, Vec<String>) {
        let environment = Environment::new(variable);
        let disabled = environment.is_true(&one("OTEL_SDK_DISABLED"));
        let settings = if disabled { None } else { Settings::of(&environment) };
        (settings, environment.warnings())
    }

    fn of(environment: &Environment<'_>) -> Option<Settings> {
        let is_told = |name: &str| environment.text(name).is_some();
        let endpoint =
            is_told("OTEL_EXPORTER_OTLP_ENDPOINT") || is_told("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
        let sends = environment.exporters("OTEL_TRACES_EXPORTER");
        // Without an exporter, only an address that can be understood turns traces on.
        let traces = match sends {
            Some(false) => None,
            None if !endpoint => None,
            sends => TraceSettings::of(environment, sends.is_some()),
        };
        let metrics = environment.exporters("OTEL_METRICS_EXPORTER").unwrap_or(false);
        let metrics = metrics.then(|| MetricSettings::of(environment)).flatten();
        (traces.is_some() || metrics.is_some()).then(|| Settings {
            resource: resource(environment),
            traces,
            metrics,
        })
    }

    /// Returns whether metrics are sent.
    pub fn sends_metrics(&self) -> bool {
        self.metrics.is_some()
    }
}

impl TraceSettings {
    fn of(environment: &Environment<'_>, by_default: bool) -> Option<TraceSettings> {
        let to = Destination::of(environment, Signal::Traces, by_default)?;
        let count = |name, otherwise| environment.count(&one(name), "spans", otherwise);
        let most_waiting = count("OTEL_BSP_MAX_QUEUE_SIZE", 2048).min(1 << 20);
        let at_once = count("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512);
        let name = "OTEL_BSP_MAX_EXPORT_BATCH_SIZE";
        if at_once > most_waiting && environment.text(name).is_some() {
            environment.warn(
                name,
                format_args!("is above the {most_waiting} spans that may wait. So many are sent at once"),
            );
        }
        let within = environment.limit(&one("OTEL_BSP_EXPORT_TIMEOUT"), 30_000);
        #[allow(clippy::cast_possible_truncation)] // A million at most.
        let [most_waiting, most_at_once] =
            [most_waiting, at_once.min(most_waiting)].map(|count| count as usize);
        Some(TraceSettings {
            to: Destination { within: to.within.min(within), ..to },
            sampling: Sampling::of(environment),
            most_waiting,
            most_at_once,
            pause: environment.pause(&one("OTEL_BSP_SCHEDULE_DELAY"), 5_000),
        })
    }
}

impl MetricSettings {
    fn of(environment: &Environment<'_>) -> Option<MetricSettings> {
        let to = Destination::of(environment, Signal::Metrics, true)?;
        let within = environment.limit(&one("OTEL_METRIC_EXPORT_TIMEOUT"), 30_000);
        let preference = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE";
        if environment.text(preference).is_some_and(|value| !value.eq_ignore_ascii_case("cumulative")) {
            environment
                .warn(preference, "is not cumulative. Metrics are sent as sums since the start all the same");
        }
        Some(MetricSettings {
            to: Destination { within: to.within.min(within), ..to },
            interval: environment.milliseconds(&one("OTEL_METRIC_EXPORT_INTERVAL"), 60_000),
        })
    }
}

impl Destination {
    /// Returns where messages of `signal` go; to the usual place if none is named and `by_default`.
    fn of(environment: &Environment<'_>, signal: Signal, by_default: bool) -> Option<Destination> {
        let both = |name: &str| {
            [format!("OTEL_EXPORTER_OTLP_{}_{name}", signal.name()), format!("OTEL_EXPORTER_OTLP_{name}")]
        };
        let protocol = |value: &str| match value.to_ascii_lowercase().as_str() {
            "grpc" => Ok(Wire::Grpc),
            "http/protobuf" => Ok(Wire::Http),
            _ => Err(format!("is {value:?}. Known are grpc and http/protobuf")),
        };
        let protocol = environment.first(&both("PROTOCOL"), protocol).map_or(Wire::Http, |(_, found)| found);
        let insecure = environment.is_true(&both("INSECURE"));
        let full = |value: &str| match protocol {
            // gRPC's addresses may come without a scheme.
            Wire::Grpc if !value.contains("://") => {
                address(&format!("{}://{value}", if insecure { "http" } else { "https" }))
            }
            Wire::Grpc | Wire::Http => address(value),
        };
        let named = environment.first(&both("ENDPOINT"), full);
        if named.is_none() && !by_default {
            return None;
        }
        let address =
            place(protocol, signal, named.as_ref().map(|(name, address)| (name.as_str(), address)))?;
        let gzip = |value: &str| match value.to_ascii_lowercase().as_str() {
            "gzip" => Ok(true),
            "none" => Ok(false),
            _ => Err(format!("is {value:?}. Known are gzip and none")),
        };
        let file = |name: &str| {
            let is_file = |path: &str| {
                let why = |why| format!("is {path:?}, which cannot be read: {why}");
                std::fs::File::open(path).map(|_| PathBuf::from(path)).map_err(why)
            };
            environment.first(&both(name), is_file).map(|(_, path)| path)
        };
        let (certificate, key) = (file("CLIENT_CERTIFICATE"), file("CLIENT_KEY"));
        if certificate.is_some() != key.is_some() {
            environment.warn(
                "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
                "and OTEL_EXPORTER_OTLP_CLIENT_KEY are needed both. The one that there is, is ignored",
            );
        }
        Some(Destination {
            protocol,
            address,
            headers: environment.first(&both("HEADERS"), headers).map(|(_, found)| found).unwrap_or_default(),
            within: environment.limit(&both("TIMEOUT"), 10_000),
            gzip: environment.first(&both("COMPRESSION"), gzip).is_some_and(|(_, gzip)| gzip),
            roots: file("CERTIFICATE"),
            identity: certificate.zip(key),
        })
    }
}

impl Display for Destination {
    fn fmt(&self, text: &mut Formatter<'_>) -> fmt::Result {
        let by = match self.protocol {
            Wire::Grpc => "gRPC",
            Wire::Http => "HTTP",
        };
        let (scheme, authority) = (self.address.scheme_str(), self.address.authority());
        write!(text, "{}://", scheme.unwrap_or_default())?;
        write!(text, "{}", authority.map_or("", |authority| authority.as_str()))?;
        if self.protocol == Wire::Http {
            write!(text, "{}", self.address.path())?;
        }
        write!(text, " by {by}")
    }
}

/// Returns the address of messages: that of one signal is taken as it is, the one of all is where paths begin.
fn place(protocol: Wire, signal: Signal, named: Option<(&str, &Uri)>) -> Option<Uri> {
    let (http, grpc) = signal.paths();
    let Some((name, address)) = named else {
        let usual = match protocol {
            Wire::Grpc => format!("http://localhost:4317{grpc}"),
            Wire::Http => format!("http://localhost:4318/{http}"),
        };
        return usual.parse().ok();
    };
    let path = match protocol {
        Wire::Grpc => grpc.to_owned(),
        Wire::Http if name.contains(signal.name()) => return Some(address.clone()),
        Wire::Http => format!("{}/{http}", address.path().trim_end_matches('/')),
    };
    let mut parts = address.clone().into_parts();
    parts.path_and_query = path.parse().ok();
    Uri::from_parts(parts).ok()
}

impl Sampling {
    fn of(environment: &Environment<'_>) -> Sampling {
        let share = |value: &str| match value.parse::<f64>() {
            Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
            _ => Err(format!("is {value:?}, which is no number from 0 to 1")),
        };
        let ratio =
            || environment.first(&one("OTEL_TRACES_SAMPLER_ARG"), share).map_or(1.0, |(_, share)| share);
        let read = |given: &str| {
            let value = given.to_ascii_lowercase();
            let (root, by_parent) = match value.strip_prefix("parentbased_") {
                Some(root) => (root, true),
                None => (value.as_str(), false),
            };
            match root {
                "always_on" => Ok((Sampler::AlwaysOn, by_parent, value)),
                "always_off" => Ok((Sampler::AlwaysOff, by_parent, value)),
                "traceidratio" => {
                    let share = ratio();
                    Ok((Sampler::TraceIdRatioBased(share), by_parent, format!("{value} of {share}")))
                }
                _ => Err(format!(
                    "is {given:?}. Known are always_on, always_off and traceidratio, and each with parentbased_ \
                     before it"
                )),
            }
        };
        let found = environment.first(&one("OTEL_TRACES_SAMPLER"), read).map(|(_, found)| found);
        let usual = || (Sampler::AlwaysOn, true, "parentbased_always_on".to_owned());
        let (root, by_parent, name) = found.unwrap_or_else(usual);
        Sampling { root, by_parent, takes_parent: takes_parent(environment), name }
    }
}

/// Returns whether the headers of W3C Trace Context are among those to be taken.
fn takes_parent(environment: &Environment<'_>) -> bool {
    let name = "OTEL_PROPAGATORS";
    let Some(value) = environment.text(name) else { return true };
    let mut takes = false;
    for propagator in value.split(',').map(str::trim) {
        match propagator.to_ascii_lowercase().as_str() {
            "tracecontext" => takes = true,
            // Nothing here reads it.
            "baggage" | "none" | "" => {}
            _ => {
                environment.warn(name, format_args!("names {propagator:?}. Only tracecontext is known here"))
            }
        }
    }
    takes
}

/// Returns what the server says of itself.
fn resource(environment: &Environment<'_>) -> Vec<(String, String)> {
    let told = environment.first(&one("OTEL_RESOURCE_ATTRIBUTES"), pairs);
    let named = environment.text("OTEL_SERVICE_NAME").map(|name| ("service.name".to_owned(), name));
    let mut resource: Vec<(String, String)> = Vec::new();
    for (key, value) in told.into_iter().flat_map(|(_, pairs)| pairs).chain(named) {
        // The last value of a key counts: no key may be sent twice.
        resource.retain(|(known, _)| *known != key);
        resource.push((key, value));
    }
    for (key, value) in [
        ("service.name", "servable"),
        ("service.instance.id", &instance()),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("telemetry.sdk.name", "servable"),
        ("telemetry.sdk.language", "rust"),
        ("telemetry.sdk.version", env!("CARGO_PKG_VERSION")),
    ] {
        if !resource.iter().any(|(known, _)| known == key) {
            resource.push((key.to_owned(), value.to_owned()));
        }
    }
    resource
}

/// Returns a name for this run of the server: a random UUID, by which the metrics of replicas are told apart.
fn instance() -> String {
    let [upper, lower] = [random(), random()];
    // Version 4, and the variant of RFC 9562.
    let (upper, lower) = (upper & !0xf000 | 0x4000, lower & (u64::MAX >> 2) | 1 << 63);
    let (first, second, third) = (upper >> 32, upper >> 16 & 0xffff, upper & 0xffff);
    format!("{first:08x}-{second:04x}-{third:04x}-{:04x}-{:012x}", lower >> 48, lower & 0xffff_ffff_ffff)
}

fn one(name: &str) -> [String; 1] {
    [name.to_owned()]
}

#[cfg(test)]
mod tests;
