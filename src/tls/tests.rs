//! Handshakes over streams in memory.

use super::*;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

pub(super) type Authority = CertifiedIssuer<'static, KeyPair>;

pub(super) fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Makes key and certificate of `localhost`, in PEM.
pub(super) fn signed_by(authority: &Authority) -> (String, String) {
    signed(authority, CertificateParams::new(vec!["localhost".to_owned()]).unwrap())
}

fn signed(authority: &Authority, params: CertificateParams) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    (key.serialize_pem(), params.signed_by(&key, authority).unwrap().pem())
}

/// A client's view: whom it trusts, what it shows, and what it offers.
struct Caller<'a> {
    trusts: &'a Authority,
    shows: Option<&'a (String, String)>,
    offers: &'a [&'a [u8]],
}

/// Returns both ends, the server's first, of an encrypted connection on this machine.
pub(crate) async fn pair() -> (TlsStream<TcpStream>, tokio_rustls::client::TlsStream<TcpStream>) {
    let ours = authority();
    let (key, certificate) = signed_by(&ours);
    let tls = Tls::new(&key, &certificate, "", false).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let far = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let near = listener.accept().await.unwrap().0;
    let config = Caller { trusts: &ours, shows: None, offers: &[] }.config();
    let connector = TlsConnector::from(Arc::new(config));
    let accepting = tls.accept(near, Offer::Http1, Duration::MAX);
    let (near, far) = tokio::join!(accepting, connector.connect("localhost".try_into().unwrap(), far));
    (near.unwrap(), far.unwrap())
}

/// What server and client saw of a connection that both accepted.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    http2: bool,
    peer: Option<String>,
}

impl Caller<'_> {
    fn config(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.trusts.pem().as_bytes()).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match self.shows {
            None => builder.with_no_client_auth(),
            Some((key, certificate)) => builder
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
                    PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
                )
                .unwrap(),
        };
        config.alpn_protocols = self.offers.iter().map(|name| name.to_vec()).collect();
        config
    }

    /// Connects to a server with `tls` and reads a byte from it.
    async fn talks(&self, tls: &Tls, offer: Offer) -> Result<Seen, HandshakeFailure> {
        let (near, far) = tokio::io::duplex(1 << 14);
        let name = "localhost".try_into().unwrap();
        let connector = TlsConnector::from(Arc::new(self.config()));
        let serving = async {
            let mut stream = tls.accept(far, offer, Duration::MAX).await.map_err(|failed| failed.kind)?;
            let _gone = stream.write_all(b"!").await;
            let _gone = stream.shutdown().await;
            Ok(Seen { http2: is_http2(&stream), peer: peer_name(&stream) })
        };
        let calling = async {
            match connector.connect(name, near).await {
                Ok(mut stream) => matches!(stream.read_u8().await, Ok(b'!')),
                Err(_) => false,
            }
        };
        let (served, got) = tokio::join!(serving, calling);
        assert!(got || served.is_err());
        served
    }
}

#[tokio::test]
async fn clients_are_checked_where_that_is_asked_for() {
    let (ours, others) = (authority(), authority());
    let (key, certificate) = signed_by(&ours);
    let (friend, stranger) = (signed_by(&ours), signed_by(&others));
    let open = Tls::new(&key, &certificate, "", false).unwrap();
    let caller = Caller { trusts: &ours, shows: None, offers: &[] };
    assert!(caller.talks(&open, Offer::Http2).await.is_ok());
    let astray = Caller { trusts: &others, ..caller };
    assert_eq!(astray.talks(&open, Offer::Http2).await, Err(HandshakeFailure::Other));

    let closed = Tls::new(&key, &certificate, &ours.pem(), true).unwrap();
    for (shows, allowed) in [(Some(&friend), true), (Some(&stranger), false), (None, false)] {
        let seen = Caller { trusts: &ours, shows, offers: &[] }.talks(&closed, Offer::Http2).await;
        assert_eq!(seen.is_ok(), allowed);
        assert!(allowed || seen == Err(HandshakeFailure::ClientCertificate), "{seen:?}");
    }
}

#[tokio::test]
async fn the_best_protocol_that_both_know_is_chosen() {
    let ours = authority();
    let (key, certificate) = signed_by(&ours);
    let tls = Tls::new(&key, &certificate, "", false).unwrap();
    let both: &[&[u8]] = &[b"http/1.1", b"h2"];
    for (offer, offers, expected) in [
        (Offer::Either, both, Some(true)),
        (Offer::Either, &both[..1], Some(false)),
        (Offer::Either, &[], Some(false)),
        (Offer::Http1, both, Some(false)),
        (Offer::Http2, both, Some(true)),
        (Offer::Http2, &both[..1], None),
    ] {
        let seen = Caller { trusts: &ours, shows: None, offers }.talks(&tls, offer).await;
        assert_eq!(seen.map(|seen| seen.http2).ok(), expected, "{offer:?} {offers:?}");
    }
}

#[tokio::test]
async fn a_client_has_the_name_in_its_certificate() {
    let ours = authority();
    let (key, certificate) = signed_by(&ours);
    let tls = Tls::new(&key, &certificate, &ours.pem(), true).unwrap();
    let uri = || SanType::URI("spiffe://example.org/trainer".try_into().unwrap());
    let dns = || SanType::DnsName("trainer.example.org".try_into().unwrap());
    for (common, alternatives, expected) in [
        (Some("trainer"), vec![uri()], Some("trainer")),
        (None, vec![uri(), dns()], Some("spiffe://example.org/trainer")),
        (None, vec![SanType::IpAddress([127, 0, 0, 1].into()), dns()], Some("trainer.example.org")),
        (None, vec![], None),
    ] {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(name) = common {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        params.subject_alt_names = alternatives;
        let shown = signed(&ours, params);
        let seen = Caller { trusts: &ours, shows: Some(&shown), offers: &[] }.talks(&tls, Offer::Http1).await;
        assert_eq!(seen.unwrap().peer.as_deref(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn who_does_not_speak_tls_or_says_nothing_is_let_go() {
    let (key, certificate) = signed_by(&authority());
    let tls = Tls::new(&key, &certificate, "", false).unwrap();
    for (said, expected) in
        [(&b"GET / HTTP/1.1\r\n\r\n"[..], HandshakeFailure::NotTls), (b"", HandshakeFailure::Timeout)]
    {
        let (mut near, far) = tokio::io::duplex(1 << 14);
        near.write_all(said).await.unwrap();
        let failed = tls.accept(far, Offer::Either, Duration::from_secs(20)).await.err().unwrap();
        assert_eq!(failed.kind, expected);
    }
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
