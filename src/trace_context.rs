//! W3C Trace Context: the trace that a request's headers name, read strictly, and identifiers made here.

use crate::chance::random;
use opentelemetry::trace::{SpanId, TraceId, TraceState};
use std::str::FromStr;

/// Name of the header with the span that a request goes on from.
pub const TRACE_PARENT: &str = "traceparent";
/// Name of the header with what vendors add to that.
pub const TRACE_STATE: &str = "tracestate";

/// A span of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace.
    pub trace: TraceId,
    /// The span.
    pub span: SpanId,
    /// Whether it is recorded, as far as is known.
    pub sampled: bool,
}

impl TraceContext {
    /// Returns the span that a `traceparent` names: version 00, and what later versions keep of it.
    pub fn parse(traceparent: &[u8]) -> Option<TraceContext> {
        /// Length of version 00.
        const LENGTH: usize = 55;
        let (known, rest) = traceparent.split_at_checked(LENGTH)?;
        let version = hex(&known[..2])?;
        let complete =
            if version == 0 { rest.is_empty() } else { rest.first().is_none_or(|byte| *byte == b'-') };
        if [known[2], known[35], known[52]] != *b"---" || !complete || version == 0xff {
            return None;
        }
        let trace = TraceId::from(hex(&known[3..35])?);
        let span = SpanId::from(u64::try_from(hex(&known[36..52])?).ok()?);
        let flags = hex(&known[53..])?;
        let valid = trace != TraceId::INVALID && span != SpanId::INVALID;
        valid.then_some(TraceContext { trace, span, sampled: flags & 1 == 1 })
    }

    /// Returns the span that the headers name: none if there are several, as nobody knows which is meant.
    pub fn of<'h>(mut traceparents: impl Iterator<Item = &'h [u8]>) -> Option<TraceContext> {
        let only = traceparents.next()?;
        if traceparents.next().is_some() { None } else { TraceContext::parse(only) }
    }
}

/// Returns what vendors add to a trace: the `tracestate` headers as one, or nothing if they are not valid, or long.
pub fn state<'h>(headers: impl Iterator<Item = &'h [u8]>) -> Option<Box<str>> {
    /// What has to be passed on at least, by the specification.
    const MOST: usize = 512;
    const MEMBERS: usize = 32;
    let mut all = String::new();
    for header in headers {
        let text = std::str::from_utf8(header).ok()?;
        for member in text.split(',').map(|member| member.trim_matches([' ', '\t'])) {
            let comma = if all.is_empty() || member.is_empty() { "" } else { "," };
            if all.len() + comma.len() + member.len() > MOST {
                return None;
            }
            all.push_str(comma);
            all.push_str(member);
        }
    }
    let known = !all.is_empty() && all.split(',').count() <= MEMBERS && TraceState::from_str(&all).is_ok();
    known.then(|| all.into())
}

/// Returns an identifier for a new trace. By its lower half, samplers choose.
pub fn new_trace() -> TraceId {
    let [upper, lower] = [random(), random()];
    TraceId::from(u128::from(upper) << 64 | u128::from(lower.max(1)))
}

/// Returns an identifier for a new span.
pub fn new_span() -> SpanId {
    SpanId::from(random().max(1))
}

/// Reads lower-case hexadecimal digits, 32 at most.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    #[test]
    fn a_valid_traceparent_is_taken() {
        for (valid, sampled) in [
            (format!("00-{TRACE}-00f067aa0ba902b7-01"), true),
            (format!("00-{TRACE}-00f067aa0ba902b7-00"), false),
            (format!("00-{TRACE}-00f067aa0ba902b7-02"), false),
            (format!("00-{TRACE}-00f067aa0ba902b7-ff"), true),
            (format!("01-{TRACE}-00f067aa0ba902b7-01"), true),
            (format!("fe-{TRACE}-00f067aa0ba902b7-01-later"), true),
        ] {
            let context = TraceContext::parse(valid.as_bytes()).unwrap();
            assert_eq!(context.trace.to_string(), TRACE);
            assert_eq!((context.span.to_string(), context.sampled), ("00f067aa0ba902b7".to_owned(), sampled));
        }
    }

    #[test]
    fn any_other_is_not() {
        for invalid in [
            String::new(),
            format!("00-{TRACE}-00f067aa0ba902b7"),
            format!("00-{TRACE}-00f067aa0ba902b7-01-more"),
            format!("00-{TRACE}-00f067aa0ba902b7-01-"),
            format!("00-{TRACE}-00f067aa0ba902b7-1"),
            format!("00-{TRACE}-00f067aa0ba902b7-0G"),
            format!("01-{TRACE}-00f067aa0ba902b7-01more"),
            format!("ff-{TRACE}-00f067aa0ba902b7-01"),
            format!("0-{TRACE}-00f067aa0ba902b7-01"),
            format!(" 00-{TRACE}-00f067aa0ba902b7-01"),
            format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
            format!("00-{}-00f067aa0ba902b7-01", TRACE.to_uppercase()),
            format!("00_{TRACE}-00f067aa0ba902b7-01"),
        ] {
            assert_eq!(TraceContext::parse(invalid.as_bytes()), None, "{invalid}");
        }
    }

    #[test]
    fn of_several_none_is_taken() {
        let one = format!("00-{TRACE}-00f067aa0ba902b7-01");
        assert!(TraceContext::of([one.as_bytes()].into_iter()).is_some());
        assert_eq!(TraceContext::of([one.as_bytes(), one.as_bytes()].into_iter()), None);
        assert_eq!(TraceContext::of([].into_iter()), None);
    }

    #[test]
    fn a_state_is_passed_on_if_it_is_valid() {
        let of = |headers: &[&str]| state(headers.iter().map(|header| header.as_bytes()));
        assert_eq!(of(&["a=1, b@v=2", "c=3"]).as_deref(), Some("a=1,b@v=2,c=3"));
        assert_eq!(of(&["a=1,,\t"]).as_deref(), Some("a=1"));
        let many: Vec<String> = (0..33).map(|number| format!("k{number}=1")).collect();
        assert!(of(&[&many[..32].join(",")]).is_some());
        for invalid in ["", " ", "a", "a=1,b", "\u{fc}=1", &many.join(","), &format!("a={}", "x".repeat(511))]
        {
            assert_eq!(of(&[invalid]), None, "{invalid}");
        }
    }

    #[test]
    fn identifiers_made_here_differ() {
        let all: std::collections::HashSet<_> = (0..1000).map(|_| (new_trace(), new_span())).collect();
        assert_eq!(all.len(), 1000);
        assert!(all.iter().all(|(trace, span)| *trace != TraceId::INVALID && *span != SpanId::INVALID));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_not(text: Vec<u8>) {
            let _none = TraceContext::parse(&text);
            if let Some(state) = state([&text[..]].into_iter()) {
                prop_assert!(state.len() <= 512);
            }
        }

        /// A damaged one is refused, or is whole again: the digits that it is read to are those that it holds.
        #[test]
        fn what_is_read_is_what_is_written(trace in 1u128.., span in 1u64.., flags: u8, at in 0usize..60, by: u8) {
            let whole = format!("00-{trace:032x}-{span:016x}-{flags:02x}");
            let read = TraceContext::parse(whole.as_bytes()).unwrap();
            prop_assert_eq!((read.trace, read.span), (TraceId::from(trace), SpanId::from(span)));
            prop_assert_eq!(read.sampled, flags & 1 == 1);
            let mut damaged = whole.into_bytes();
            if at < damaged.len() { damaged[at] = by } else { damaged.push(by) }
            if let Some(read) = TraceContext::parse(&damaged) {
                let text = std::str::from_utf8(&damaged[..52]).unwrap();
                prop_assert_eq!(&text[2..], format!("-{}-{}", read.trace, read.span));
            }
        }
    }
}
