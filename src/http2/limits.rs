//! The limits of a connection: sizes, times and pace.

use super::followed::Within;
use super::streams::Streams;
use crate::connections::Connection;
use crate::pace::Pace;
use hyper::server::conn::http2;
use hyper_util::rt::TokioTimer;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

/// Unread bytes that a client may send over all calls of a connection; at least the limit of one call.
const CONNECTION_WINDOW: u32 = 16 << 20;
/// Factor by which HTTP/2 accepts larger header blocks than a call may have: such a call alone is refused, with a
/// status. Beyond that, HTTP/2 can only end the connection, and other calls with it.
const HEADER_ROOM: u32 = 8;
/// Largest relative deviation from a set age, as in gRPC's C core, so that clients that connected together do not
/// reconnect together.
const JITTER: f64 = 0.1;

/// The limits of a connection. Those announced to the client must be valid HTTP/2 settings.
#[derive(Clone, Debug)]
pub struct ConnectionLimits {
    /// Concurrent calls; further ones wait at the client.
    pub max_calls: u32,
    /// Largest header block of a call, in bytes as HTTP/2 counts them.
    pub max_header_bytes: u32,
    /// Size of the table of earlier headers, which the client need not repeat, in bytes.
    pub header_table_bytes: u32,
    /// Largest piece of a message: 16384 to 16777215 bytes.
    pub max_frame_bytes: u32,
    /// Unread bytes that a client may send for one call; below 2³¹.
    pub call_window: u32,
    /// Interval at which a silent client is pinged…
    pub asked_every: Option<Duration>,
    /// … and the time in which it must answer.
    pub answered_within: Duration,
    /// Time for the TLS handshake.
    pub keys_within: Duration,
    /// Time for a call's headers to arrive, once begun.
    pub headers_within: Option<Duration>,
    /// Required pace of messages and replies.
    pub pace: Option<Pace>,
    /// Time after which a connection without calls is ended.
    pub max_idle: Option<Duration>,
    /// Age at which a connection is ended: the client opens another one, calls in flight finish…
    pub max_age: Option<Duration>,
    /// … unless they take longer than this.
    pub max_age_grace: Option<Duration>,
}

impl Default for ConnectionLimits {
    fn default() -> ConnectionLimits {
        ConnectionLimits {
            max_calls: 1024,
            // gRPC's own libraries default to 8 KB.
            max_header_bytes: 16 << 10,
            header_table_bytes: 4 << 10,
            // With HTTP/2's default (16 KB), receiving a message of 10 MB takes half again as much CPU time: every
            // piece is two reads.
            max_frame_bytes: 128 << 10,
            call_window: 4 << 20,
            asked_every: Some(Duration::from_secs(60)),
            answered_within: Duration::from_secs(20),
            keys_within: Duration::from_secs(20),
            headers_within: None,
            pace: None,
            max_idle: None,
            max_age: None,
            max_age_grace: None,
        }
    }
}

impl ConnectionLimits {
    /// Returns the time limits for what a client has begun.
    pub(super) fn within(&self) -> Within {
        Within { headers: self.headers_within, message: self.pace }
    }

    /// Configures HTTP/2 with these limits, on `connection`.
    pub(super) fn http2(&self, connection: Arc<Connection>) -> http2::Builder<Streams> {
        let mut builder = http2::Builder::new(Streams { pace: self.pace, connection });
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(self.call_window)
            .initial_connection_window_size(CONNECTION_WINDOW.max(self.call_window))
            .max_concurrent_streams(self.max_calls)
            .max_header_list_size(self.max_header_bytes.saturating_mul(HEADER_ROOM))
            .header_table_size(self.header_table_bytes)
            .max_frame_size(self.max_frame_bytes)
            .keep_alive_interval(self.asked_every)
            .keep_alive_timeout(self.answered_within);
        builder
    }
}

/// Returns `span` with random jitter.
pub(super) fn jittered(span: Duration) -> Duration {
    // The standard library's only source of randomness.
    let random = RandomState::new().build_hasher().finish();
    let share = random as f64 / u64::MAX as f64;
    span.mul_f64(1.0 - JITTER + 2.0 * JITTER * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_differ_by_a_tenth_at_most() {
        let ages: Vec<_> = (0..100).map(|_| jittered(Duration::from_secs(100)).as_secs_f64()).collect();
        assert!(ages.iter().all(|age| (90.0..=110.0).contains(age)), "{ages:?}");
        assert!(ages.iter().any(|age| *age < 99.0) && ages.iter().any(|age| *age > 101.0), "{ages:?}");
    }
}
