//! The format of log lines: the same as the control plane's (`python/servable/serving/log_format.py`).

use std::fmt;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// `2026-01-02 03:04:05.678 I rest: text`, in local time.
pub(crate) struct LogLine;

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
        let time = chrono::Local::now().format("%Y-%m-%d %H:%M:%S%.3f");
        write!(writer, "{time} {} {}: ", letter(*metadata.level()), name(metadata.target()))?;
        context.field_format().format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
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

    #[test]
    fn a_line_has_time_level_name_and_text() {
        let lines = Lines::default();
        let writer = lines.clone();
        let log =
            tracing_subscriber::fmt().event_format(LogLine).with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(log, || tracing::warn!("text {}", 7));
        let line = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let (time, rest) = line.split_at(23);
        let shape: String = time.chars().map(|char| if char.is_ascii_digit() { '0' } else { char }).collect();
        assert_eq!(shape, "0000-00-00 00:00:00.000");
        assert_eq!(rest, " W log_line: text 7\n");
    }

    #[test]
    fn other_libraries_are_named() {
        assert_eq!(name("hyper::proto::h1"), "hyper");
        assert_eq!(name("servable"), "servable");
    }
}
