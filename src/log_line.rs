//! The lines of the core's log, the same as the control plane's (`python/servable/serving/log_format.py`).

use crate::log_format::{LogFormat, json_member, json_string, time};
use std::fmt;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// The lines of the core's own log.
pub(crate) struct LogLine(pub(crate) LogFormat);

impl<S, N> FormatEvent<S, N> for LogLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let (level, name) = (*metadata.level(), name(metadata.target()));
        if self.0 == LogFormat::Json {
            let mut fields = Fields::default();
            event.record(&mut fields);
            let line = json_line(level_name(level), name, &fields.message, &fields.others);
            return writeln!(writer, "{line}");
        }
        write!(writer, "{} {} {name}: ", time(LogFormat::Text, chrono::Local::now()), letter(level))?;
        context.field_format().format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

/// The message of an event, and its other fields.
#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, String)>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        match field.name() {
            "message" => self.message = text,
            other => self.others.push((other, text)),
        }
    }
}

/// Returns a line of the log as JSON, without its end.
pub(crate) fn json_line(level: &str, logger: &str, message: &str, others: &[(&str, String)]) -> String {
    let mut line = String::with_capacity(96 + message.len());
    line.push_str("{\"time\":");
    json_string(&mut line, &time(LogFormat::Json, chrono::Local::now()));
    for (key, value) in [("level", level), ("logger", logger), ("message", message)] {
        json_member(&mut line, key, value);
    }
    others.iter().for_each(|(key, value)| json_member(&mut line, key, value));
    line.push('}');
    line
}

/// Returns the origin of a line: the module of the core, or another library.
fn name(target: &str) -> &str {
    let mut parts = target.split("::");
    match (parts.next(), parts.next()) {
        (Some("servable"), Some(module)) => module,
        (Some(other), _) => other,
        (None, _) => target,
    }
}

fn letter(level: Level) -> char {
    match level {
        Level::ERROR => 'E',
        Level::WARN => 'W',
        Level::INFO => 'I',
        Level::DEBUG | Level::TRACE => 'D',
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warning",
        Level::INFO => "info",
        Level::DEBUG | Level::TRACE => "debug",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, work: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let log = tracing_subscriber::fmt()
            .event_format(LogLine(format))
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(log, work);
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_line_has_time_level_name_and_text() {
        let line = logged(LogFormat::Text, || tracing::warn!("text {}", 7));
        let (time, rest) = line.split_at(23);
        let shape: String = time.chars().map(|char| if char.is_ascii_digit() { '0' } else { char }).collect();
        assert_eq!(shape, "0000-00-00 00:00:00.000");
        assert_eq!(rest, " W log_line: text 7\n");
    }

    #[test]
    fn the_same_as_json_is_one_object_on_one_line() {
        let line = logged(LogFormat::Json, || tracing::warn!(code = 7, "two\nlines \"{}\"", "quoted"));
        let (line, rest) = line.split_once('\n').unwrap();
        assert_eq!(rest, "");
        let read: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(read["message"], "two\nlines \"quoted\"");
        assert_eq!(
            (read["level"].as_str(), read["logger"].as_str(), read["code"].as_str()),
            (Some("warning"), Some("log_line"), Some("7"))
        );
        assert!(chrono::DateTime::parse_from_rfc3339(read["time"].as_str().unwrap()).is_ok());
    }

    #[test]
    fn other_libraries_are_named() {
        assert_eq!(name("hyper::proto::h1"), "hyper");
        assert_eq!(name("servable"), "servable");
    }
}
