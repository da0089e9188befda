//! The spans of a request that has ended, made of its record: its own, one for each of its phases, and those of a batch.

use super::attributes::{Attributes, whole};
use super::server_span::{self, EngineOf};
use super::span::{flags, named};
use crate::access::{Ended, Traced};
use crate::profile::Phase;
use crate::timeline::{BatchRun, Step};
use crate::trace_context::{TraceContext, new_span};
use opentelemetry_proto::tonic::trace::v1::span::{Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};
use std::ops::Range;
use std::time::{Instant, UNIX_EPOCH};

/// Returns about the number of spans of a request.
pub(super) fn count(ended: &Ended) -> usize {
    let batches = ended.entry.batches().len();
    1 + ended.entry.timeline.steps().len() + 3 * batches
}

/// Returns the spans of a request that is traced.
pub(super) fn of(ended: &Ended, engine_of: &EngineOf) -> Vec<Span> {
    let Some(traced) = ended.entry.traced() else { return Vec::new() };
    let times = Times::of(ended);
    let batches = ended.entry.batches();
    let mut spans = vec![server_span::of(ended, traced, times.all.clone(), engine_of)];
    let child = |name: &str, parent: TraceContext, time: Range<u64>| Span {
        parent_span_id: parent.span.to_bytes().to_vec(),
        flags: flags(false),
        ..named(name, SpanKind::Internal, TraceContext { span: new_span(), ..traced.span }, time, traced)
    };
    for Step { phase, from, to } in ended.entry.timeline.steps() {
        // The runs of a batch, and the time in which its rows are put together, are told by the batch.
        let runs_alone = phase != Phase::Run || batches.is_empty();
        let (from, mut to) = (times.of_nanos(from), times.of_nanos(to));
        if phase == Phase::Queue {
            // Until its batch begins: the first that begins after it.
            let begins = batches.iter().map(|batch| times.at(batch.began)).filter(|begins| *begins > from);
            to = begins.min().map_or(to, |begins| begins.min(to));
        }
        if runs_alone {
            spans.push(child(phase.name(), traced.span, from..to));
        }
    }
    for batch in batches {
        let ended = batch.ended();
        let to = ended.cut.or(ended.ran.map(|[_, to]| to)).map_or(times.all.end, |to| times.at(to));
        let mut span = child("batch", traced.span, times.at(batch.began)..to);
        span.links.push(link(batch.span));
        let own = TraceContext { span: id_of(&span), ..traced.span };
        spans.push(span);
        if let Some([from, to]) = ended.ran {
            spans.push(child("run", own, times.at(from)..times.at(to)));
        }
        // One that still runs, as its client has left meanwhile, is told by another of its requests.
        if batch.is_done() && batch.tell() {
            spans.extend(of_batch(&batch, &times));
        }
    }
    spans
}

/// Returns the spans of a batch, which are a trace of their own.
fn of_batch(batch: &BatchRun, times: &Times) -> Vec<Span> {
    let ended = batch.ended();
    let no_parent = Traced { span: batch.span, parent: None, state: None };
    let end = ended.cut.or(ended.ran.map(|[_, to]| to)).unwrap_or(batch.began);
    let time = times.exactly(batch.began)..times.exactly(end);
    let mut span = named("batch", SpanKind::Internal, batch.span, time, &no_parent);
    span.flags = flags(false);
    span.links = batch.links.iter().copied().map(link).collect();
    let mut attributes = Attributes::default();
    attributes.number("servable.batch.requests", Some(whole(batch.requests)));
    attributes.number("servable.batch.rows", Some(whole(batch.rows)));
    attributes.number("servable.batch.size", Some(whole(batch.size)));
    span.attributes = attributes.0;
    if ended.cut.is_none() {
        span.status = Some(Status { code: StatusCode::Error.into(), message: "the run failed".to_owned() });
    }
    let run = ended.ran.map(|[from, to]| Span {
        parent_span_id: batch.span.span.to_bytes().to_vec(),
        flags: flags(false),
        ..named(
            "run",
            SpanKind::Internal,
            TraceContext { span: new_span(), ..batch.span },
            times.exactly(from)..times.exactly(to),
            &no_parent,
        )
    });
    std::iter::once(span).chain(run).collect()
}

fn link(to: TraceContext) -> Link {
    Link {
        trace_id: to.trace.to_bytes().to_vec(),
        span_id: to.span.to_bytes().to_vec(),
        flags: flags(false),
        ..Link::default()
    }
}

fn id_of(span: &Span) -> opentelemetry::trace::SpanId {
    let bytes = span.span_id.as_slice().try_into().unwrap_or_default();
    opentelemetry::trace::SpanId::from_bytes(bytes)
}

/// The times of a request in nanoseconds since 1970, of which none is outside of its own.
struct Times {
    began: Instant,
    all: Range<u64>,
}

impl Times {
    fn of(ended: &Ended) -> Times {
        let nanos = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let start = nanos(ended.entry.at.duration_since(UNIX_EPOCH).unwrap_or_default());
        let all = start..start.saturating_add(nanos(ended.end.took));
        Times { began: ended.entry.timeline.began(), all }
    }

    /// Returns the time `nanos` after the request began.
    fn of_nanos(&self, nanos: u64) -> u64 {
        self.all.start.saturating_add(nanos).min(self.all.end)
    }

    fn at(&self, instant: Instant) -> u64 {
        self.exactly(instant).clamp(self.all.start, self.all.end)
    }

    /// The same, also outside of the request's time.
    fn exactly(&self, instant: Instant) -> u64 {
        let nanos = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        match instant.checked_duration_since(self.began) {
            Some(after) => self.all.start.saturating_add(nanos(after)),
            None => self.all.start.saturating_sub(nanos(self.began.duration_since(instant))),
        }
    }
}
