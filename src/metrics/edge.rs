//! Counts of the server's edge: its connections, and the limits that clients reached there.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A limit that a client reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EdgeLimit {
    /// Connections in all: one that waited for its client gave way to a new one.
    Connections,
    /// Connections of one peer.
    PeerConnections,
    /// The time for a request's head, or for an HTTP/2 frame that is no piece of a message.
    HeaderTime,
    /// The time for a body or a message.
    BodyTime,
    /// The time to take a reply.
    ReplyTime,
    /// The time without a request.
    Idle,
    /// The time to answer a ping.
    Ping,
    /// The bytes or the number of a request's headers.
    Headers,
    /// The bytes of a body or a message.
    BodyBytes,
    /// HTTP/2 frames that ask for nothing.
    Frames,
    /// A header of the PROXY protocol that is broken, late or missing.
    ProxyProtocol,
    /// One from a peer that is not trusted.
    UntrustedProxy,
}

impl EdgeLimit {
    const ALL: [EdgeLimit; 12] = [
        EdgeLimit::Connections,
        EdgeLimit::PeerConnections,
        EdgeLimit::HeaderTime,
        EdgeLimit::BodyTime,
        EdgeLimit::ReplyTime,
        EdgeLimit::Idle,
        EdgeLimit::Ping,
        EdgeLimit::Headers,
        EdgeLimit::BodyBytes,
        EdgeLimit::Frames,
        EdgeLimit::ProxyProtocol,
        EdgeLimit::UntrustedProxy,
    ];

    /// Returns the value of the label `limit`.
    fn name(self) -> &'static str {
        match self {
            EdgeLimit::Connections => "connections",
            EdgeLimit::PeerConnections => "connections_per_peer",
            EdgeLimit::HeaderTime => "header_time",
            EdgeLimit::BodyTime => "body_time",
            EdgeLimit::ReplyTime => "reply_time",
            EdgeLimit::Idle => "idle",
            EdgeLimit::Ping => "ping",
            EdgeLimit::Headers => "headers",
            EdgeLimit::BodyBytes => "body_bytes",
            EdgeLimit::Frames => "frames",
            EdgeLimit::ProxyProtocol => "proxy_protocol",
            EdgeLimit::UntrustedProxy => "untrusted_proxy",
        }
    }
}

/// The counts of one server.
#[derive(Debug, Default)]
pub struct EdgeCounts {
    accepted: AtomicU64,
    closed: AtomicU64,
    limits: [AtomicU64; EdgeLimit::ALL.len()],
}

impl EdgeCounts {
    /// Counts an accepted connection.
    pub fn opened(&self) {
        self.accepted.fetch_add(1, Relaxed);
    }

    /// Counts the end of one.
    pub fn closed(&self) {
        self.closed.fetch_add(1, Relaxed);
    }

    /// Counts a client that reached `limit`, `times` times.
    pub fn reached(&self, limit: EdgeLimit, times: u64) {
        self.limits[limit as usize].fetch_add(times, Relaxed);
    }

    /// Returns the number of connections that were accepted.
    pub(super) fn accepted(&self) -> u64 {
        self.accepted.load(Relaxed)
    }

    /// Returns the number of open connections.
    pub(super) fn open(&self) -> u64 {
        // The ends before the beginnings: there are never fewer of these.
        let closed = self.closed.load(Relaxed);
        self.accepted.load(Relaxed).saturating_sub(closed)
    }

    /// Returns how often each limit was reached.
    pub(super) fn limits(&self) -> impl Iterator<Item = (&'static str, u64)> {
        EdgeLimit::ALL.into_iter().map(|limit| (limit.name(), self.limits[limit as usize].load(Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_has_its_own_count_and_name() {
        let counts = EdgeCounts::default();
        for (index, limit) in EdgeLimit::ALL.into_iter().enumerate() {
            assert_eq!(limit as usize, index);
            counts.reached(limit, index as u64);
        }
        let told: Vec<_> = counts.limits().collect();
        assert!(told.iter().enumerate().all(|(index, (_, count))| *count == index as u64), "{told:?}");
        let names: std::collections::BTreeSet<_> = told.iter().map(|(name, _)| *name).collect();
        assert_eq!(names.len(), told.len());
    }

    #[test]
    fn who_has_left_is_not_open() {
        let counts = EdgeCounts::default();
        (0..3).for_each(|_| counts.opened());
        counts.closed();
        assert_eq!((counts.accepted(), counts.open()), (3, 2));
    }
}
