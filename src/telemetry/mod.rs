//! Traces and metrics for an OpenTelemetry collector, by OTLP.
//!
//! Nothing is made of a request on its way but identifiers, and that only if it is sampled ([`Traces::sample`]). Once it
//! has ended, its record waits in a bounded queue for a thread that makes spans of it ([`spans`], [`server_span`]) and
//! sends them ([`delivery`]). Another thread sends the metrics now and then ([`metrics`]). A collector that is away, slow
//! or refuses holds up these threads alone; what does not fit into the queue meanwhile is dropped and counted.
//!
//! The messages are OpenTelemetry's own (`opentelemetry-proto`), as is the sampling (`opentelemetry_sdk`). Its exporters
//! are not used: histograms that were counted elsewhere cannot be given to them, and their connections send nothing
//! else; so both kinds of messages share one client ([`client`]) on the HTTP library that the server uses anyway.

mod attributes;
mod client;
mod delivery;
mod environment;
mod metrics;
mod secure;
mod server_span;
mod settings;
mod span;
mod spans;

pub use metrics::{Observed, SentMetrics};
pub use server_span::EngineOf;
pub use settings::Settings;

use crate::access::Ended;
use crate::log_queue::{Limits, LogQueue, Sink};
use crate::metrics::{Exports, SpanFate};
use crate::trace_context::{TraceContext, new_span, new_trace};
use delivery::Delivery;
use opentelemetry::trace::{SpanId, SpanKind};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use opentelemetry_sdk::trace::{SamplingDecision, ShouldSample};
use prost::Message;
use settings::{Sampling, TraceSettings};
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

/// The traces of a server.
pub struct Traces {
    sampling: Sampling,
    queue: LogQueue<Ended>,
    /// The spans that may wait.
    most_waiting: usize,
    counts: Arc<Exports>,
}

impl Traces {
    /// Starts the thread that sends them, if `settings` ask for traces. What cannot be used is told of, and there are
    /// none.
    pub fn start(settings: &Settings, counts: Arc<Exports>, engine_of: EngineOf) -> Option<Arc<Traces>> {
        let traces = settings.traces.as_ref()?;
        let started = Traces::started(settings, traces, counts, engine_of);
        started.inspect_err(|why| tracing::warn!("there are no traces: {why}")).ok().map(Arc::new)
    }

    fn started(
        settings: &Settings,
        traces: &TraceSettings,
        counts: Arc<Exports>,
        engine_of: EngineOf,
    ) -> Result<Traces, String> {
        let TraceSettings { most_waiting, most_at_once, pause, .. } = *traces;
        let delivery = Delivery::new(&traces.to, "spans")?;
        let resource = attributes::resource(&settings.resource);
        let sink =
            Sender { delivery, resource, engine_of, most_at_once, spans: Vec::new(), counts: counts.clone() };
        // Measured in spans.
        let hurry = most_waiting.div_ceil(most_at_once);
        let limits = Limits { items: most_waiting, bytes: most_waiting, pause, hurry };
        let queue = LogQueue::start("servable-traces", limits, sink).map_err(|why| why.to_string())?;
        Ok(Traces { sampling: traces.sampling.clone(), queue, most_waiting, counts })
    }

    /// Begins the trace of a request, or goes on with that of `parent`, if it is to be traced. Also returns the parent.
    pub fn sample(&self, parent: Option<TraceContext>) -> Option<(TraceContext, Option<SpanId>)> {
        let parent = parent.filter(|_| self.sampling.takes_parent);
        let trace = parent.map_or_else(new_trace, |parent| parent.trace);
        let sampled = match parent {
            Some(parent) if self.sampling.by_parent => parent.sampled,
            _ => {
                let asked = self.sampling.root.should_sample(None, trace, "", &SpanKind::Server, &[], &[]);
                asked.decision == SamplingDecision::RecordAndSample
            }
        };
        let span = || TraceContext { trace, span: new_span(), sampled: true };
        sampled.then(|| (span(), parent.map(|parent| parent.span)))
    }

    /// Takes a request that has ended, and is traced. Never waits.
    pub fn offer(&self, ended: Ended) {
        let spans = spans::count(&ended);
        // One request fits in any case.
        if !self.queue.offer(ended, spans.min(self.most_waiting)) {
            self.counts.count(SpanFate::QueueFull, spans);
        }
    }

    /// Sends what waits, `within` at most; takes nothing any more. Returns whether all is sent or given up.
    pub fn finish(&self, within: Duration) -> bool {
        self.queue.finish(within)
    }
}

/// Makes spans and sends them.
struct Sender {
    delivery: Delivery,
    resource: Resource,
    engine_of: EngineOf,
    most_at_once: usize,
    spans: Vec<Span>,
    counts: Arc<Exports>,
}

impl Sink<Ended> for Sender {
    fn write(&mut self, items: Vec<Ended>, dropped: u64) {
        if dropped > 0 {
            self.delivery.tell_too_many(dropped);
        }
        for ended in items {
            self.spans.extend(spans::of(&ended, &self.engine_of));
            drop(ended);
            if self.spans.len() >= self.most_at_once {
                self.send();
            }
        }
        self.send();
    }
}

impl Sender {
    /// Sends the spans that are made.
    fn send(&mut self) {
        let mut all = std::mem::take(&mut self.spans);
        while !all.is_empty() {
            let later = all.split_off(all.len().min(self.most_at_once));
            self.send_at_once(all);
            all = later;
        }
    }

    fn send_at_once(&mut self, spans: Vec<Span>) {
        let count = spans.len();
        let of_scope = ScopeSpans { scope: Some(attributes::scope()), spans, ..ScopeSpans::default() };
        let of_server = ResourceSpans {
            resource: Some(self.resource.clone()),
            scope_spans: vec![of_scope],
            ..ResourceSpans::default()
        };
        let message = ExportTraceServiceRequest { resource_spans: vec![of_server] }.encode_to_vec();
        let Some(answer) = self.delivery.deliver(&message) else {
            return self.counts.count(SpanFate::Failed, count);
        };
        let partial =
            ExportTraceServiceResponse::decode(answer).ok().and_then(|answer| answer.partial_success);
        let (rejected, why) =
            partial.map_or((0, String::new()), |part| (part.rejected_spans, part.error_message));
        let rejected = usize::try_from(rejected).unwrap_or(0).min(count);
        if rejected > 0 {
            self.delivery.tell(&rejection("spans", rejected, &why));
        }
        self.counts.count(SpanFate::Rejected, rejected);
        self.counts.count(SpanFate::Sent, count - rejected);
    }
}

/// Says how many of `what` a collector did not take, and why if it tells that.
fn rejection(what: &str, rejected: impl Display, why: &str) -> String {
    let colon = if why.is_empty() { "" } else { ": " };
    format!("{rejected} {what} were rejected{colon}{why}")
}

#[cfg(test)]
mod tests;
