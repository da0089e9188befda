//! How a request looks as a line.

use super::{End, Ended};
use crate::log_format::{LogFormat, json_member, text_member, time};
use crate::peer::Address;
use crate::profile::Phase;
use std::borrow::Cow;
use std::time::Duration;

/// Appends the line of a request.
pub(super) fn write(out: &mut String, format: LogFormat, line: &Ended) {
    let members = members(line);
    begin(out, format, time(format, line.entry.at.into()));
    for (key, value) in &members {
        write_member(out, format, key, value);
    }
    end(out, format);
}

/// Appends a line that tells how many are missing.
pub(super) fn write_dropped(out: &mut String, format: LogFormat, dropped: u64) {
    begin(out, format, time(format, chrono::Local::now()));
    write_member(out, format, "dropped", &Value::Number(dropped.to_string()));
    end(out, format);
}

fn begin(out: &mut String, format: LogFormat, time: String) {
    match format {
        LogFormat::Text => {
            out.push_str(&time);
            out.push_str(" I access:");
        }
        LogFormat::Json => {
            out.push_str("{\"time\":\"");
            out.push_str(&time);
            out.push_str("\",\"level\":\"info\",\"logger\":\"access\"");
        }
    }
}

fn end(out: &mut String, format: LogFormat) {
    out.push_str(if format == LogFormat::Json { "}\n" } else { "\n" });
}

enum Value<'a> {
    Text(Cow<'a, str>),
    Number(String),
}

fn write_member(out: &mut String, format: LogFormat, key: &str, value: &Value<'_>) {
    match (format, value) {
        (LogFormat::Text, Value::Text(text)) => text_member(out, key, text),
        (LogFormat::Text, Value::Number(number)) => text_member(out, key, number),
        (LogFormat::Json, Value::Text(text)) => json_member(out, key, text),
        (LogFormat::Json, Value::Number(number)) => {
            out.push_str(",\"");
            out.push_str(key);
            out.push_str("\":");
            out.push_str(number);
        }
    }
}

/// Returns what the line tells; what is not known is left out.
fn members(line: &Ended) -> Vec<(&'static str, Value<'_>)> {
    let Ended { entry, end } = line;
    fn text(text: &str) -> Option<Value<'_>> {
        Some(Value::Text(Cow::Borrowed(text)))
    }
    let number = |number: String| Some(Value::Number(number));
    let address = |address: Address| Some(Value::Text(Cow::Owned(address.to_string())));
    let trace = entry.head.trace.map(|span| Cow::Owned(span.trace.to_string()));
    let (method, path) = entry.method();
    let phase = |phase| entry.timeline.time(phase).map(milliseconds).and_then(number);
    let known = [
        ("protocol", text(entry.head.protocol)),
        ("method", text(method)),
        ("path", path.and_then(text)),
        ("model", entry.model.get().and_then(|model| text(model))),
        ("version", entry.version().and_then(|version| number(version.to_string()))),
        ("signature", entry.signature.get().and_then(|signature| text(signature))),
        ("status", end.status.and_then(|status| number(status.to_string()))),
        ("code", code(end).and_then(text)),
        ("bytes_in", number(entry.timeline.bytes().to_string())),
        ("bytes_out", number(end.bytes.to_string())),
        ("ms", number(milliseconds(end.took))),
        ("decode_ms", phase(Phase::Decode)),
        ("queue_ms", phase(Phase::Queue)),
        ("run_ms", phase(Phase::Run)),
        ("encode_ms", phase(Phase::Encode)),
        ("peer", address(entry.head.sender.client)),
        ("proxy", entry.head.sender.proxy.and_then(address)),
        ("client", entry.client().and_then(text)),
        ("request_id", Some(Value::Text(String::from_utf8_lossy(&entry.head.id)))),
        ("trace_id", trace.map(Value::Text)),
    ];
    known.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
}

/// Returns the canonical code of the answer. A REST answer that no model gave has a status alone.
fn code(end: &End) -> Option<&'static str> {
    end.code.or_else(|| end.status.filter(|status| *status < 400).map(|_| "OK"))
}

/// Returns milliseconds, to a microsecond.
fn milliseconds(time: Duration) -> String {
    format!("{:.3}", time.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::super::{Entry, Head};
    use super::*;
    use crate::peer::Sender;
    use crate::trace_context::TraceContext;
    use proptest::prelude::*;
    use std::sync::Arc;
    use std::time::Instant;

    fn line(model: &str, signature: &str, path: Option<&str>) -> Ended {
        let head = Head {
            protocol: "rest",
            sender: Sender {
                client: Address::Socket("192.0.2.7:5555".parse().unwrap()),
                proxy: Some(Address::Ip("10.0.0.1".parse().unwrap())),
            },
            certified: Some("them".into()),
            id: (&b"abc-1"[..]).into(),
            trace: TraceContext::parse(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            scheme: Some("http"),
        };
        let entry = Entry::begin(head, "predict", path, None, None);
        entry.names(model);
        entry.asks(signature);
        entry.is_for(3);
        entry.timeline.received(17);
        let began = Instant::now() + Duration::from_secs(3600);
        entry.timeline.enter(Phase::Run, began);
        entry.timeline.enter(Phase::Encode, began + Duration::from_micros(1500));
        let end = End { status: Some(200), code: None, bytes: 35, took: Duration::from_micros(2250) };
        Ended { entry: Arc::new(entry), end }
    }

    fn written(format: LogFormat, line: &Ended) -> String {
        let mut out = String::new();
        write(&mut out, format, line);
        out
    }

    #[test]
    fn a_line_tells_what_is_known() {
        let line = line("m", "serving_default", None);
        let text = written(LogFormat::Text, &line);
        let (before, after) = text.split_once(" decode_ms=").unwrap();
        assert_eq!(
            &before[23..],
            " I access: protocol=rest method=predict model=m version=3 signature=serving_default status=200 \
             code=OK bytes_in=17 bytes_out=35 ms=2.250"
        );
        assert_eq!(
            after.split_once(' ').unwrap().1,
            "run_ms=1.500 peer=192.0.2.7:5555 proxy=10.0.0.1 client=them request_id=abc-1 \
             trace_id=4bf92f3577b34da6a3ce929d0e0e4736\n"
        );
        let json: serde_json::Value = serde_json::from_str(&written(LogFormat::Json, &line)).unwrap();
        assert_eq!((json["version"].as_i64(), json["ms"].as_f64()), (Some(3), Some(2.25)));
        assert_eq!((json["model"].as_str(), json["logger"].as_str()), (Some("m"), Some("access")));
        assert!(json.get("path").is_none() && json.get("queue_ms").is_none());
    }

    #[test]
    fn what_is_missing_is_told() {
        let mut out = String::new();
        write_dropped(&mut out, LogFormat::Text, 7);
        assert_eq!(&out[23..], " I access: dropped=7\n");
        out.clear();
        write_dropped(&mut out, LogFormat::Json, 7);
        let json: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(json["dropped"], 7);
    }

    #[test]
    fn texts_of_clients_are_bounded() {
        let long = "ä".repeat(1 << 20);
        let text = written(LogFormat::Text, &line(&long, &long, Some(&long)));
        assert!(text.len() < 1000, "{}", text.len());
    }

    proptest! {
        #[test]
        fn nothing_that_a_client_says_ends_a_line_or_a_value(model: String, signature: String, path: String) {
            let line = line(&model, &signature, Some(&path));
            for format in [LogFormat::Text, LogFormat::Json] {
                let text = written(format, &line);
                prop_assert!(text.strip_suffix('\n').is_some_and(|line| !line.contains(char::is_control)));
            }
            let json: serde_json::Value = serde_json::from_str(&written(LogFormat::Json, &line)).unwrap();
            if !model.is_empty() && model.len() < 200 {
                prop_assert_eq!(json["model"].as_str(), Some(&model[..]));
            }
            if signature.len() < 200 {
                prop_assert_eq!(json["signature"].as_str(), Some(&signature[..]));
            }
        }
    }
}
