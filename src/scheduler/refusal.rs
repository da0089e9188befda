//! How a client is told that its request was refused.

use super::queues::Refused;
use crate::error::{Error, Kind};
use std::time::Duration;

/// The HTTP status of every refusal.
const STATUS: u16 = 503;

/// Returns the error for a request to `model` that was refused.
pub(super) fn error(why: Refused, model: &str) -> Error {
    let (message, again) = match why {
        Refused::TooLate(wait) => (
            format!(
                "The request would wait {} for model {model}, longer than its deadline allows",
                said(wait)
            ),
            wait,
        ),
        Refused::TooLong(wait) => (
            format!(
                "The request would wait {} for model {model}, longer than --max_queue_milliseconds allows",
                said(wait)
            ),
            wait,
        ),
        Refused::Leaving(wait) => (
            format!(
                "Model {model} is overloaded: the request would wait {}, and clients leave before they are answered",
                said(wait)
            ),
            wait,
        ),
        Refused::TooMany(most) => (
            format!("The server has {most} requests in flight, as many as --max_requests_in_flight allows"),
            Duration::ZERO,
        ),
        Refused::TooManyOfModel(most) => (
            format!(
                "Model {model} has {most} requests in flight, as many as --max_requests_in_flight_per_model allows"
            ),
            Duration::ZERO,
        ),
        Refused::TooMuchOfModel(most) => (
            format!(
                "The requests in flight to model {model} hold as much memory as --max_memory_in_flight_per_model \
                 allows: {most} bytes"
            ),
            Duration::ZERO,
        ),
        Refused::Hanging(since) => (
            format!(
                "Model {model} does not answer: all runs of this kind hang, the first for {}",
                said(since)
            ),
            HANGING,
        ),
    };
    let message = format!("{message}. Send it again later, or to another server");
    Error::new(Kind::ResourceExhausted, message).with_status(STATUS).retry_after(again)
}

/// When to try a model again that does not answer.
const HANGING: Duration = Duration::from_secs(10);

fn said(time: Duration) -> String {
    format!("{} ms", time.as_millis())
}
