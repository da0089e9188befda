//! A call's deadline: read from its headers, and applied wherever the call waits.

use crate::error::{Error, Kind, Result};
use http::HeaderMap;
use http::header::HeaderName;
use std::time::{Duration, Instant};

/// Made once: a look-up by text parses the name each time.
static TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Returns the time when the client stops waiting, by its `grpc-timeout`; a malformed one is ignored, as in gRPC's own
/// libraries.
pub(super) fn of(headers: &HeaderMap) -> Option<Instant> {
    let timeout = parse(headers.get(&TIMEOUT)?.to_str().ok()?)?;
    Instant::now().checked_add(timeout)
}

/// Parses one to eight digits and a unit.
fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(value * 3600),
        "M" => Duration::from_secs(value * 60),
        "S" => Duration::from_secs(value),
        "m" => Duration::from_millis(value),
        "u" => Duration::from_micros(value),
        "n" => Duration::from_nanos(value),
        _ => return None,
    })
}

/// Returns a call's error once its `deadline` has passed; never, without one.
pub(super) async fn passed(deadline: Option<Instant>) -> Error {
    match deadline {
        None => std::future::pending().await,
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
    }
    Error::new(Kind::DeadlineExceeded, "Deadline Exceeded")
}

/// Waits for `answer` until `deadline`, then drops it.
pub(super) async fn bounded<T>(
    deadline: Option<Instant>,
    answer: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::select! {
        biased;
        answer = answer => answer,
        error = passed(deadline) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_have_up_to_eight_digits_and_a_unit() {
        assert_eq!(parse("1S"), Some(Duration::from_secs(1)));
        assert_eq!(parse("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(parse("20m"), Some(Duration::from_millis(20)));
        assert_eq!(parse("3u"), Some(Duration::from_micros(3)));
        assert_eq!(parse("0n"), Some(Duration::ZERO));
        for malformed in ["", "S", "1", "1x", "-1S", "+1S", "1.5S", "123456789S", "1é"] {
            assert_eq!(parse(malformed), None, "{malformed}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_is_dropped_at_its_deadline() {
        let deadline = tokio::time::Instant::now().into_std() + Duration::from_secs(5);
        let late = bounded::<()>(Some(deadline), std::future::pending()).await;
        assert_eq!(late.unwrap_err().kind, Kind::DeadlineExceeded);
        assert_eq!(bounded(Some(deadline), async { Ok(7) }).await, Ok(7));
    }
}
