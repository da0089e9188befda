//! TLS: certificates from texts or from files that are followed, handshakes, and the names of clients. No HTTP.
//!
//! [`Tls::accept`] performs a handshake with the certificate that is current, [`files`] replaces it, [`identity`] reads
//! keys and certificates, [`peer`] the name in a client's. [`outgoing`] is the other side: connections to others.

mod files;
mod identity;
pub mod outgoing;
mod peer;

pub use files::TlsFiles;

use crate::error::Result;
use crate::metrics::HandshakeFailure;
use arc_swap::ArcSwap;
use identity::{Identity, Pem};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{self, ServerConnection};
use tokio_rustls::server::TlsStream;

/// The application protocols that a port offers (ALPN). A client that names none gets the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// HTTP/1.1 alone.
    Http1,
    /// HTTP/2 alone.
    Http2,
    /// HTTP/2, or else HTTP/1.1.
    Either,
}

impl Offer {
    const ALL: [Offer; 3] = [Offer::Http1, Offer::Http2, Offer::Either];

    fn names(self) -> Vec<Vec<u8>> {
        let names: &[&[u8]] = match self {
            Offer::Http1 => &[b"http/1.1"],
            Offer::Http2 => &[H2],
            Offer::Either => &[H2, b"http/1.1"],
        };
        names.iter().map(|name| name.to_vec()).collect()
    }
}

const H2: &[u8] = b"h2";

/// The server's certificate, and the clients it accepts. Clones share what is current.
#[derive(Clone, Debug)]
pub struct Tls(Arc<ArcSwap<Identity>>);

impl Tls {
    /// Takes the PEM texts of the server's key and certificate chain. With `client_verify`, clients must present a
    /// certificate signed by `custom_ca`, also a PEM text.
    pub fn new(server_key: &str, server_cert: &str, custom_ca: &str, client_verify: bool) -> Result<Tls> {
        let pem = Pem {
            key: server_key.into(),
            certificate: server_cert.into(),
            client_ca: client_verify.then(|| custom_ca.into()),
        };
        Ok(Tls::of(Identity::new(&pem).map_err(|problem| problem.in_ssl_config())?))
    }

    fn of(identity: Identity) -> Tls {
        Tls(Arc::new(ArcSwap::from_pointee(identity)))
    }

    /// Performs the handshake with the client at the other end of `io`, limited to `within`.
    pub async fn accept<I>(&self, io: I, offer: Offer, within: Duration) -> Result<TlsStream<I>, Failure>
    where
        I: AsyncRead + AsyncWrite + Unpin,
    {
        let acceptor = TlsAcceptor::from(self.0.load().config(offer));
        match tokio::time::timeout(within, acceptor.accept(io)).await {
            Ok(accepted) => accepted.map_err(|why| Failure { kind: kind_of(&why), why }),
            Err(late) => Err(Failure { kind: HandshakeFailure::Timeout, why: late.into() }),
        }
    }
}

/// The reason why there is no encrypted connection.
#[derive(Debug)]
pub struct Failure {
    /// How it is counted.
    pub kind: HandshakeFailure,
    /// The error.
    pub why: io::Error,
}

fn kind_of(why: &io::Error) -> HandshakeFailure {
    match why.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::NoCertificatesPresented | rustls::Error::InvalidCertificate(_)) => {
            HandshakeFailure::ClientCertificate
        }
        Some(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)) => {
            HandshakeFailure::NotTls
        }
        _ => HandshakeFailure::Other,
    }
}

/// Waits for the client's first byte, which stays to be read; returns whether TLS begins with it. True for a client that
/// sends nothing: its handshake tells why.
pub async fn begins(stream: &TcpStream) -> bool {
    /// The type of a handshake's records (RFC 8446, section 5.1).
    const HANDSHAKE: u8 = 22;
    let mut first = [0];
    !matches!(stream.peek(&mut first).await, Ok(1) if first[0] != HANDSHAKE)
}

/// Returns whether the client has chosen HTTP/2.
pub fn is_http2<I>(stream: &TlsStream<I>) -> bool {
    session(stream).alpn_protocol() == Some(H2)
}

/// Returns the name in the client's certificate, if it has shown one.
pub fn peer_name<I>(stream: &TlsStream<I>) -> Option<String> {
    peer::name_of(session(stream).peer_certificates()?.first()?)
}

fn session<I>(stream: &TlsStream<I>) -> &ServerConnection {
    stream.get_ref().1
}

#[cfg(test)]
pub(crate) mod tests;
