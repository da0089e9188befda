//! What a connection may take, and how long it may last.

use super::followed::Within;
use super::streams::Streams;
use crate::connections::Connection;
use crate::pace::Pace;
use hyper::server::conn::http2;
use hyper_util::rt::TokioTimer;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

/// Unread bytes that a client may have on its way for all calls of a connection; at least what one call may have.
const CONNECTION_WINDOW: u32 = 16 << 20;
/// HTTP/2 takes header blocks so many times as large as a call may have: such a call alone is refused, with a status. Of
/// what is larger HTTP/2 knows no better than to end the connection, and other calls with it.
const HEADER_ROOM: u32 = 8;
/// An age that is set is missed by up to this share in either direction, as by gRPC's C core, so that clients that came
/// together do not come back together.
const JITTER: f64 = 0.1;

/// The limits of a connection. Those that HTTP/2 announces to the client must be values that HTTP/2 has room for.
#[derive(Clone, Debug)]
pub struct ConnectionLimits {
    /// Calls at once; further ones wait at the client.
    pub max_calls: u32,
    /// The largest block of headers that a call may have, in bytes as HTTP/2 counts them.
    pub max_header_bytes: u32,
    /// What is remembered of earlier headers so that the client need not send them again, in bytes.
    pub header_table_bytes: u32,
    /// The largest piece that a message may come in: 16384 to 16777215 bytes.
    pub max_frame_bytes: u32,
    /// Unread bytes that a client may have on its way for one call; below 2³¹.
    pub call_window: u32,
    /// A silent client is asked this often whether it is still there…
    pub asked_every: Option<Duration>,
    /// … and has so long to say so.
    pub answered_within: Duration,
    /// A client that has not agreed on keys (TLS) after this long is let go.
    pub keys_within: Duration,
    /// A call's headers, once begun, have to come within this time.
    pub headers_within: Option<Duration>,
    /// How fast messages have to come, and replies to be taken.
    pub pace: Option<Pace>,
    /// A connection without calls is ended after this long.
    pub max_idle: Option<Duration>,
    /// A connection is ended after this long: the client opens another one, calls in flight finish…
    pub max_age: Option<Duration>,
    /// … unless they take longer than this.
    pub max_age_grace: Option<Duration>,
}

impl Default for ConnectionLimits {
    fn default() -> ConnectionLimits {
        ConnectionLimits {
            max_calls: 1024,
            // gRPC's own libraries take 8 KB by default.
            max_header_bytes: 16 << 10,
            header_table_bytes: 4 << 10,
            // Of HTTP/2's default (16 KB) a message of 10 MB takes half again as much CPU time on its way in: every
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
    /// What a client has begun has to come within these.
    pub(super) fn within(&self) -> Within {
        Within { headers: self.headers_within, message: self.pace }
    }

    /// HTTP/2 with these limits, on `connection`.
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
            .keep_alive_timeout(self.answered_within)
            .auto_date_header(false);
        builder
    }
}

/// `span`, give or take some.
pub(super) fn jittered(span: Duration) -> Duration {
    // The standard library's one source of chance.
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
