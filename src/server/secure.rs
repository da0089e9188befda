//! Connections on ports with TLS: the handshake, and who does not get through it.

use crate::connections::Connection;
use crate::metrics::{HandshakeFailure, Handshakes};
use crate::tls::{self, Offer, Tls};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// Time for handshakes under way when the server closes.
const QUIET: Duration = Duration::from_millis(500);

/// The encryption of a port.
#[derive(Clone)]
pub(super) struct Secure {
    pub(super) tls: Tls,
    pub(super) offer: Offer,
    /// Longest time for a handshake.
    pub(super) within: Duration,
    pub(super) failures: Arc<Handshakes>,
}

/// What became of a connection.
pub(super) enum Begun {
    /// It is encrypted.
    Tls(Box<TlsStream<TcpStream>>),
    /// The client does not speak TLS.
    Plain(TcpStream),
}

impl Secure {
    /// Begins a connection on a port; `None` if it has ended.
    pub(super) async fn begin(&self, stream: TcpStream, client: &Connection) -> Option<Begun> {
        let begun = Instant::now();
        let begins = tokio::select! {
            begins = tokio::time::timeout(self.within, tls::begins(&stream)) => begins,
            () = given_up(client) => return None,
        };
        match begins {
            Ok(true) => {
                // What it said nothing in is part of the handshake's time.
                let left = self.within.saturating_sub(begun.elapsed());
                self.handshake(stream, client, left).await.map(Box::new).map(Begun::Tls)
            }
            Ok(false) => {
                self.failures.count(HandshakeFailure::NotTls);
                Some(Begun::Plain(stream))
            }
            Err(_late) => {
                self.failures.count(HandshakeFailure::Timeout);
                None
            }
        }
    }

    /// Performs the handshake; `None` if it fails, or the connection has to end first.
    pub(super) async fn encrypted<I>(&self, io: I, client: &Connection) -> Option<TlsStream<I>>
    where
        I: AsyncRead + AsyncWrite + Unpin,
    {
        self.handshake(io, client, self.within).await
    }

    async fn handshake<I>(&self, io: I, client: &Connection, within: Duration) -> Option<TlsStream<I>>
    where
        I: AsyncRead + AsyncWrite + Unpin,
    {
        let accepted = tokio::select! {
            accepted = self.tls.accept(io, self.offer, within) => accepted,
            () = given_up(client) => return None,
        };
        match accepted {
            Ok(stream) => {
                if let Some(name) = tls::peer_name(&stream) {
                    client.certify(&name);
                }
                Some(stream)
            }
            Err(failed) => {
                self.failures.count(failed.kind);
                tracing::debug!("no TLS with a client: {}", failed.why);
                None
            }
        }
    }
}

/// Returns when a connection has to end before its first request: its place is needed, or the server closes, and has left
/// it the time to finish what may be on its way.
pub(super) async fn given_up(client: &Connection) {
    tokio::select! {
        () = client.is_closed_and_quiet(QUIET) => {}
        () = client.must_close() => {}
    }
}
