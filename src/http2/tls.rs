//! TLS on the gRPC port and socket: converts the contents of `--ssl_config_file` for rustls.

use crate::error::{Error, Result};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;

/// The server's certificate, and the clients it accepts.
#[derive(Clone)]
pub struct Tls(TlsAcceptor);

impl Tls {
    /// Takes the PEM texts of the server's key and certificate chain. With `client_verify`, clients must present a
    /// certificate signed by `custom_ca`, also a PEM text.
    pub fn new(server_key: &str, server_cert: &str, custom_ca: &str, client_verify: bool) -> Result<Tls> {
        let key = PrivateKeyDer::from_pem_slice(server_key.as_bytes())
            .map_err(|why| refused("server_key", "one private key", &why))?;
        let chain = certificates("server_cert", server_cert)?;
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|why| Error::internal(format!("TLS could not be set up: {why}")))?;
        let builder = if client_verify {
            builder.with_client_cert_verifier(verifier(custom_ca, provider)?)
        } else {
            builder.with_no_client_auth()
        };
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(|why| refused("server_key and server_cert", "a key and its certificate", &why))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Tls(TlsAcceptor::from(Arc::new(config))))
    }

    /// Performs the handshake with the client at the other end of `io`, limited to `within`.
    pub(super) async fn accept<I>(&self, io: I, within: Duration) -> io::Result<TlsStream<I>>
    where
        I: AsyncRead + AsyncWrite + Unpin,
    {
        tokio::time::timeout(within, self.0.accept(io)).await?
    }
}

fn verifier(
    custom_ca: &str,
    provider: Arc<tokio_rustls::rustls::crypto::CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>> {
    let mut roots = RootCertStore::empty();
    // A system's own list may contain some that are of no use.
    if roots.add_parsable_certificates(certificates("custom_ca", custom_ca)?).0 == 0 {
        return Err(refused("custom_ca", "certificates of authorities", &"none that can be used"));
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|why| refused("custom_ca", "certificates of authorities", &why))
}

fn certificates(field: &str, pem: &str) -> Result<Vec<CertificateDer<'static>>> {
    let certificates =
        CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<std::result::Result<Vec<_>, _>>();
    match certificates {
        Ok(certificates) if certificates.is_empty() => {
            Err(refused(field, "at least one certificate", &"none"))
        }
        Ok(certificates) => Ok(certificates),
        Err(why) => Err(refused(field, "certificates", &why)),
    }
}

fn refused(field: &str, expected: &str, why: &dyn std::fmt::Display) -> Error {
    Error::invalid(format!(
        "{field} of the SSL config: expected {expected} in PEM (the text itself, not a path), got: {why}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_rustls::TlsConnector;
    use tokio_rustls::rustls::ClientConfig;

    type Authority = CertifiedIssuer<'static, KeyPair>;

    fn authority() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    /// Makes key and certificate of `localhost`, in PEM.
    fn signed_by(authority: &Authority) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        (key.serialize_pem(), params.signed_by(&key, authority).unwrap().pem())
    }

    /// Returns whether a client that trusts `ca`, and presents `own` if given, gets one byte from a server with `tls`.
    async fn talks(tls: Tls, ca: &str, own: Option<&(String, String)>) -> bool {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some((key, certificate)) => builder
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
                    PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
                )
                .unwrap(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        let (near, far) = tokio::io::duplex(1 << 14);
        tokio::spawn(async move {
            if let Ok(mut stream) = tls.accept(far, Duration::MAX).await {
                let _gone = stream.write_all(b"!").await;
                let _gone = stream.shutdown().await;
            }
        });
        let name = "localhost".try_into().unwrap();
        match TlsConnector::from(Arc::new(config)).connect(name, near).await {
            Ok(mut stream) => matches!(stream.read_u8().await, Ok(b'!')),
            Err(_) => false,
        }
    }

    #[tokio::test]
    async fn clients_are_checked_where_that_is_asked_for() {
        let (ours, others) = (authority(), authority());
        let (key, certificate) = signed_by(&ours);
        let (friend, stranger) = (signed_by(&ours), signed_by(&others));
        let open = Tls::new(&key, &certificate, "", false).unwrap();
        assert!(talks(open.clone(), &ours.pem(), None).await);
        assert!(!talks(open, &others.pem(), None).await, "a server that the client must not trust");

        let closed = Tls::new(&key, &certificate, &ours.pem(), true).unwrap();
        assert!(talks(closed.clone(), &ours.pem(), Some(&friend)).await);
        assert!(!talks(closed.clone(), &ours.pem(), Some(&stranger)).await);
        assert!(!talks(closed, &ours.pem(), None).await);
    }

    #[test]
    fn texts_that_are_no_pem_are_named() {
        let (key, certificate) = signed_by(&authority());
        let (other_key, _) = signed_by(&authority());
        for (key, certificate, ca, field) in [
            ("/etc/key.pem", certificate.as_str(), "", "server_key"),
            (&key, "", "", "server_cert"),
            (&key, &certificate, "", "custom_ca"),
            (&other_key, &certificate, "", "server_key and server_cert"),
        ] {
            let refused = Tls::new(key, certificate, ca, field == "custom_ca").err().unwrap();
            assert!(refused.message.starts_with(field), "{refused}");
        }
    }
}
