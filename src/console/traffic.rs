//! The answer to `/console/api/traffic`: the history as JSON, in columns.

use super::API;
use crate::control_plane::{Answer, Handler, Question, Refused};
use crate::error::Kind;
use crate::json::writer::Writer;
use crate::traffic::{Column, History, INTERVAL, LONGEST, Point};
use percent_encoding::percent_decode_str;
use std::sync::Arc;
use std::time::Duration;

const PATH: &str = "traffic";
/// Bytes of an interval in the answer, about.
const OF_INTERVAL: usize = 100;
/// Digits of a time in milliseconds after the point, as a power of ten: microseconds.
const PRECISION: f64 = 1e3;

/// Returns a handler that answers what is asked of the traffic from `history`, and leaves all else to `handler`.
pub fn with_traffic(history: Arc<History>, handler: Handler) -> Handler {
    Arc::new(move |question: &Question| {
        let is_traffic = question.path.strip_prefix(API) == Some(PATH) && question.method == "GET";
        if is_traffic { answer(&history, &question.query) } else { handler(question) }
    })
}

fn answer(history: &History, query: &str) -> Result<Answer, Refused> {
    let Asked { model, within } = Asked::read(query)?;
    let column = history.column(model.as_deref(), within);
    Ok(Answer { content_type: "application/json".to_owned(), bytes: written(&column) })
}

/// What a query asks for.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    model: Option<String>,
    within: Duration,
}

impl Asked {
    /// Reads `model=NAME&seconds=N`, in any order; the last of a name counts.
    fn read(query: &str) -> Result<Asked, Refused> {
        let mut asked = Asked { model: None, within: LONGEST };
        for (name, value) in query.split('&').filter_map(|part| part.split_once('=')) {
            let value = value.replace('+', " ");
            let value = percent_decode_str(&value).decode_utf8_lossy();
            match name {
                "model" => asked.model = Some(value.into_owned()).filter(|model| !model.is_empty()),
                "seconds" => asked.within = seconds(&value)?,
                _ => {}
            }
        }
        Ok(asked)
    }
}

fn seconds(text: &str) -> Result<Duration, Refused> {
    let most = LONGEST.as_secs();
    let seconds = text.parse().ok().filter(|seconds| (1..=most).contains(seconds));
    seconds.map(Duration::from_secs).ok_or_else(|| {
        let shown: String = text.chars().take(100).collect();
        let message = format!("seconds expects a whole number from 1 to {most}, got {shown:?}");
        Refused::new(Kind::InvalidArgument, message)
    })
}

fn written(column: &Column) -> Vec<u8> {
    let mut out = Writer::with_room(256 + OF_INTERVAL * column.times.len());
    out.raw(b"{\"interval_seconds\": ");
    out.integer(INTERVAL.as_secs());
    array(&mut out, "t", &column.times, |out, at| decimal(out, Some(*at)));
    let points = &column.points;
    array(&mut out, "requests", points, |out, point| out.integer(point.requests));
    array(&mut out, "errors", points, |out, point| out.integer(point.errors));
    for (index, name) in ["p50_ms", "p90_ms", "p99_ms"].into_iter().enumerate() {
        let time = |point: &Point| point.milliseconds.map(|times| f64::from(times[index]));
        array(&mut out, name, points, |out, point| decimal(out, time(point)));
    }
    array(&mut out, "batch_rows", points, |out, point| decimal(out, point.batch_rows.map(f64::from)));
    array(&mut out, "queue_ms", points, |out, point| decimal(out, point.queue_ms.map(f64::from)));
    array(&mut out, "in_flight", points, |out, point| out.integer(point.in_flight));
    array(&mut out, "cpu_cores", &column.usage, |out, used| decimal(out, used.cpu_cores));
    array(&mut out, "resident_bytes", &column.usage, |out, used| match used.resident_bytes {
        Some(bytes) => out.integer(bytes),
        None => out.raw(b"null"),
    });
    array(&mut out, "models", &column.models, |out, name| out.ascii_string(name));
    out.raw(b"}\n");
    out.finish()
}

/// Writes a further member: an array of `values`, each written by `write`.
fn array<T>(out: &mut Writer, name: &str, values: &[T], write: impl Fn(&mut Writer, &T)) {
    out.raw(format!(", \"{name}\": [").as_bytes());
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            out.raw(b",");
        }
        write(out, value);
    }
    out.raw(b"]");
}

/// Writes a number with three digits after the point.
fn decimal(out: &mut Writer, value: Option<f64>) {
    let rounded = value.map(|value| (value * PRECISION).round() / PRECISION);
    match rounded.filter(|value| value.is_finite()) {
        Some(value) => out.float(value),
        None => out.raw(b"null"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Options;
    use crate::methods::ServerState;
    use crate::traffic::Use;
    use proptest::prelude::*;

    #[test]
    fn a_query_says_which_model_and_for_how_long() {
        let asked = |query| Asked::read(query).map(|asked| (asked.model, asked.within.as_secs()));
        for (query, model, within) in [
            ("", None, 3600),
            ("seconds=60", None, 60),
            ("model=a%2Fb+c&seconds=3600", Some("a/b c"), 3600),
            ("x&model=&y=1&seconds=1", None, 1),
            ("model=%FF", Some("\u{FFFD}"), 3600),
        ] {
            assert_eq!(asked(query), Ok((model.map(str::to_owned), within)), "{query}");
        }
        for bad in ["seconds=0", "seconds=3601", "seconds=-5", "seconds=", "seconds=1e3", "seconds=%00"] {
            assert_eq!(asked(bad).unwrap_err().kind, Kind::InvalidArgument, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_query_breaks_it(query in ".{0,60}") {
            let _either = Asked::read(&query);
        }

        #[test]
        fn what_is_written_is_json(
            name in ".{0,20}",
            numbers in (any::<u32>(), any::<f32>(), any::<Option<f32>>(), any::<Option<u64>>(), any::<f64>()),
        ) {
            let (count, time, rows, resident_bytes, cores) = numbers;
            let point = Point {
                requests: count,
                milliseconds: rows.map(|_| [time; 3]),
                batch_rows: rows,
                ..Point::default()
            };
            let column = Column {
                times: vec![1_764_444_000.125, 2.0],
                points: vec![point, Point::default()],
                usage: vec![Use { cpu_cores: Some(cores), resident_bytes }, Use::default()],
                models: vec![name.clone(), "</script>\u{202e}".to_owned()],
            };
            let text = written(&column);
            prop_assert!(text.is_ascii());
            let read: serde_json::Value = serde_json::from_slice(&text).unwrap();
            prop_assert_eq!(&read["models"], &serde_json::json!([name, "</script>\u{202e}"]));
            prop_assert_eq!(&read["requests"], &serde_json::json!([count, 0]));
            prop_assert_eq!(&read["t"], &serde_json::json!([1_764_444_000.125, 2.0]));
            prop_assert_eq!(&read["resident_bytes"], &serde_json::json!([resident_bytes, null]));
            prop_assert_eq!(&read["queue_ms"], &serde_json::json!([null, null]));
            prop_assert_eq!(read.as_object().unwrap().len(), 13);
        }
    }

    #[test]
    fn everything_else_is_left_to_the_control_plane() {
        let server = Arc::new(ServerState::for_tests(Options::closed()));
        let history = Arc::new(History::begin(Arc::downgrade(&server)).unwrap());
        let other: Handler =
            Arc::new(|question: &Question| Err(Refused::new(Kind::NotFound, question.path.clone())));
        let handler = with_traffic(history, other);
        let ask = |method: &str, path: &str| {
            handler(&Question { method: method.to_owned(), path: path.to_owned(), ..Question::default() })
        };
        assert_eq!(ask("GET", "/console/api/traffic").unwrap().content_type, "application/json");
        for (method, path) in
            [("POST", "/console/api/traffic"), ("GET", "/console/api/traffic/x"), ("GET", "/traffic")]
        {
            assert_eq!(ask(method, path).unwrap_err().message, path);
        }
    }
}
