//! Connections to others, over TCP, or TLS with the system's certificates or those of a file: to a collector, and from
//! the load generator.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// What TLS is done with.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// The file with the certificates that the other's is signed by; `None`: those of the system.
    pub roots: Option<PathBuf>,
    /// The files with the own certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Whether HTTP/2 is asked for.
    pub http2: bool,
    /// What to do where the system has no certificates.
    pub advice: &'static str,
}

/// Opens connections to one place.
pub(crate) struct Connector {
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// A connection.
pub(crate) enum Stream {
    /// Without TLS.
    Plain(TcpStream),
    /// With it.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connector {
    /// Prepares connections to `host` (without brackets) and `port`, with TLS if there is `trust`.
    pub(crate) fn new(host: &str, port: u16, trust: Option<&Trust>) -> Result<Connector, String> {
        let tls = match trust {
            Some(trust) => Some((connector(trust)?, name(host)?)),
            None => None,
        };
        Ok(Connector { host: host.to_owned(), port, tls })
    }

    /// Opens a connection.
    pub(crate) async fn connect(&self) -> Result<Stream, String> {
        let failed = |why: io::Error| format!("there is no connection to {}:{}: {why}", self.host, self.port);
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(failed)?;
        // Messages are written as a whole.
        let _slower = stream.set_nodelay(true);
        match &self.tls {
            None => Ok(Stream::Plain(stream)),
            Some((tls, name)) => {
                let stream = tls.connect(name.clone(), stream).await.map_err(failed)?;
                Ok(Stream::Tls(Box::new(stream)))
            }
        }
    }
}

fn name(host: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(host.to_owned()).map_err(|why| format!("{host} is no name of a server: {why}"))
}

fn connector(trust: &Trust) -> Result<TlsConnector, String> {
    let mut roots = RootCertStore::empty();
    match &trust.roots {
        Some(file) => roots.add_parsable_certificates(certificates(file)?),
        None => roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs),
    };
    if roots.is_empty() {
        return Err(format!("there is no certificate to verify the other's by. {}", trust.advice));
    }
    let config = ClientConfig::builder().with_root_certificates(roots);
    let mut config = match &trust.identity {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => {
            let key_of = PrivateKeyDer::from_pem_file(key);
            let key = key_of.map_err(|why| format!("{} has no key: {why}", key.display()))?;
            let config = config.with_client_auth_cert(certificates(certificate)?, key);
            config.map_err(|why| format!("{} cannot be shown: {why}", certificate.display()))?
        }
    };
    if trust.http2 {
        config.alpn_protocols = vec![b"h2".to_vec()];
    }
    Ok(TlsConnector::from(Arc::new(config)))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(format!("{} has no certificate", file.display())),
        Err(why) => Err(format!("{} has no certificate: {why}", file.display())),
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, into),
            Stream::Tls(stream) => Pin::new(stream).poll_read(context, into),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write(context, from),
            Stream::Tls(stream) => Pin::new(stream).poll_write(context, from),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
