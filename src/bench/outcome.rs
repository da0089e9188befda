//! How a request can end.

/// A reply that is good.
#[derive(Debug)]
pub(super) struct Answer {
    /// Bytes received.
    pub(super) received: u64,
    /// The first bytes of the body or message, as many as wanted.
    pub(super) body: Vec<u8>,
}

/// A kind of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// HTTP answered this status, not a 2xx.
    Status(u16),
    /// gRPC answered this code, not OK.
    Code(u16),
    /// There was no connection.
    Connect,
    /// There was no answer in time.
    Timeout,
    /// The connection was closed or reset before the answer.
    Lost,
    /// What came is no answer of the protocol.
    Malformed,
    /// As many requests as allowed were under way, or its time was over: it was not sent.
    Unsent,
}

impl Failure {
    /// Returns the kind's name, and the status or code; 0 for those without.
    pub fn parts(self) -> (&'static str, u16) {
        match self {
            Failure::Status(status) => ("status", status),
            Failure::Code(code) => ("code", code),
            Failure::Connect => ("connect", 0),
            Failure::Timeout => ("timeout", 0),
            Failure::Lost => ("lost", 0),
            Failure::Malformed => ("malformed", 0),
            Failure::Unsent => ("unsent", 0),
        }
    }
}

/// A failure, and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Its kind.
    pub kind: Failure,
    /// What the server or the system said; may be empty.
    pub text: String,
}

impl Failed {
    pub(super) fn new(kind: Failure, text: impl Into<String>) -> Failed {
        Failed { kind, text: text.into() }
    }
}
