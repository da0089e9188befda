//! What every span begins with.

use crate::access::Traced;
use crate::trace_context::TraceContext;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::{Span, SpanFlags};
use std::ops::Range;

/// Returns a span without attributes.
pub(super) fn named(
    name: &str,
    kind: SpanKind,
    context: TraceContext,
    time: Range<u64>,
    traced: &Traced,
) -> Span {
    Span {
        trace_id: context.trace.to_bytes().to_vec(),
        span_id: context.span.to_bytes().to_vec(),
        trace_state: traced.state.as_deref().unwrap_or_default().to_owned(),
        name: name.to_owned(),
        kind: kind.into(),
        start_time_unix_nano: time.start,
        end_time_unix_nano: time.end.max(time.start),
        ..Span::default()
    }
}

/// Returns the flags of a span that is recorded.
pub(super) fn flags(is_parent_remote: bool) -> u32 {
    let remote = if is_parent_remote { SpanFlags::ContextIsRemoteMask as u32 } else { 0 };
    1 | SpanFlags::ContextHasIsRemoteMask as u32 | remote
}
