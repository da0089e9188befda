//! Counts of the TLS handshakes that failed.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The reason why a handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeFailure {
    /// The client does not speak TLS.
    NotTls,
    /// It took too long.
    Timeout,
    /// The client's certificate is missing, or not accepted.
    ClientCertificate,
    /// Anything else: the client left, does not accept the server's certificate, or knows no common version.
    Other,
}

impl HandshakeFailure {
    const ALL: [HandshakeFailure; 4] = [
        HandshakeFailure::NotTls,
        HandshakeFailure::Timeout,
        HandshakeFailure::ClientCertificate,
        HandshakeFailure::Other,
    ];

    /// Returns the value of the label `reason`.
    fn name(self) -> &'static str {
        match self {
            HandshakeFailure::NotTls => "not_tls",
            HandshakeFailure::Timeout => "timeout",
            HandshakeFailure::ClientCertificate => "client_certificate",
            HandshakeFailure::Other => "other",
        }
    }
}

/// The failed handshakes of one server, by reason.
#[derive(Debug, Default)]
pub struct Handshakes([AtomicU64; HandshakeFailure::ALL.len()]);

impl Handshakes {
    /// Counts a failure.
    pub fn count(&self, failure: HandshakeFailure) {
        self.0[failure as usize].fetch_add(1, Relaxed);
    }

    /// Returns the number of failures by reason.
    pub(super) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        HandshakeFailure::ALL
            .into_iter()
            .map(|failure| (failure.name(), self.0[failure as usize].load(Relaxed)))
    }
}
