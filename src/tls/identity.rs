//! Keys and certificates in PEM, as configurations of rustls, and what is wrong with them.

use super::Offer;
use crate::error::Error;
use std::fmt::Display;
use std::sync::Arc;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

/// The texts of an identity. With `client_ca`, clients must present a certificate signed by one of its authorities.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Pem {
    pub(super) key: Vec<u8>,
    pub(super) certificate: Vec<u8>,
    pub(super) client_ca: Option<Vec<u8>>,
}

/// A server's identity: its configuration for each offer of protocols. They share everything but the offer.
#[derive(Debug)]
pub(crate) struct Identity([Arc<ServerConfig>; Offer::ALL.len()]);

impl Identity {
    /// Reads the texts.
    pub(super) fn new(pem: &Pem) -> Result<Identity, Problem> {
        let config = config(pem)?;
        Ok(Identity(Offer::ALL.map(|offer| {
            let mut config = config.clone();
            config.alpn_protocols = offer.names();
            Arc::new(config)
        })))
    }

    /// Returns the configuration of a port that offers `offer`.
    pub(super) fn config(&self, offer: Offer) -> Arc<ServerConfig> {
        self.0[offer as usize].clone()
    }
}

/// A part of an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Key,
    Certificate,
    ClientCa,
    /// Key and certificate, each of them readable.
    Pair,
}

/// What is wrong with a part.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) part: Part,
    pub(super) expected: &'static str,
    pub(super) got: String,
}

impl Problem {
    fn new(part: Part, got: impl Display) -> Problem {
        let expected = match part {
            Part::Key => "one private key",
            Part::Certificate => "a certificate, and those between it and its authority",
            Part::ClientCa => "certificates of authorities",
            Part::Pair => "a key and its certificate",
        };
        Problem { part, expected, got: got.to_string() }
    }

    /// Returns the error of a field of `--ssl_config_file`.
    pub(super) fn in_ssl_config(self) -> Error {
        let field = match self.part {
            Part::Key => "server_key",
            Part::Certificate => "server_cert",
            Part::ClientCa => "custom_ca",
            Part::Pair => "server_key and server_cert",
        };
        Error::invalid(format!(
            "{field} of the SSL config: expected {} in PEM (the text itself, not a path), got: {}",
            self.expected, self.got
        ))
    }
}

fn config(pem: &Pem) -> Result<ServerConfig, Problem> {
    let key = private_key(&pem.key)?;
    let chain = certificates(Part::Certificate, &pem.certificate)?;
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|why| Problem::new(Part::Pair, why))?;
    let builder = match &pem.client_ca {
        Some(authorities) => builder.with_client_cert_verifier(verifier(authorities, provider)?),
        None => builder.with_no_client_auth(),
    };
    builder.with_single_cert(chain, key).map_err(|why| Problem::new(Part::Pair, why))
}

fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, Problem> {
    if contains(pem, b"BEGIN ENCRYPTED PRIVATE KEY") || contains(pem, b"Proc-Type: 4,ENCRYPTED") {
        let got = "an encrypted one: decrypt it (openssl pkey -in KEY -out PLAIN_KEY)";
        return Err(Problem::new(Part::Key, got));
    }
    PrivateKeyDer::from_pem_slice(pem).map_err(|why| unread(Part::Key, pem, reason(&why)))
}

fn certificates(part: Part, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err(unread(part, pem, "none")),
        Ok(certificates) => Ok(certificates),
        Err(why) => Err(unread(part, pem, reason(&why))),
    }
}

fn verifier(pem: &[u8], provider: Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, Problem> {
    let mut roots = RootCertStore::empty();
    // A system's own list may contain some that are of no use.
    if roots.add_parsable_certificates(certificates(Part::ClientCa, pem)?).0 == 0 {
        return Err(Problem::new(Part::ClientCa, "none that can be used"));
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|why| Problem::new(Part::ClientCa, why))
}

/// Says why PEM could not be read, without anything of it: the library's own texts quote lines, which may be a key's.
fn reason(why: &pem::Error) -> &'static str {
    match why {
        pem::Error::MissingSectionEnd { .. } => "no -----END line for a -----BEGIN line",
        pem::Error::IllegalSectionStart { .. } => {
            "a -----BEGIN line that does not end in -----: are line ends missing?"
        }
        pem::Error::Base64Decode(_) => "something that is not base64 between -----BEGIN and -----END",
        pem::Error::NoItemsFound => "none",
        pem::Error::Io(_) | pem::Error::SectionTooLarge | _ => "something that cannot be read",
    }
}

/// Returns the problem with a `pem` in which nothing was found because of `why`.
fn unread(part: Part, pem: &[u8], why: &'static str) -> Problem {
    if pem.trim_ascii().is_empty() {
        return Problem::new(part, "nothing");
    }
    if !contains(pem, b"-----BEGIN ") {
        return Problem::new(part, "something else (PEM is text with -----BEGIN … and -----END … lines)");
    }
    Problem::new(part, why)
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(text, part).is_some()
}
