//! The name of a client: what its certificate says, which an authority of the server's has signed.

use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Returns the common name of the certificate's subject or, if it has none, the first of its alternative names that is a
/// URI (such as a SPIFFE ID), a DNS name or a mail address.
pub(super) fn name_of(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let common = certificate.subject().iter_common_name().find_map(|name| name.as_str().ok());
    if let Some(name) = common.filter(|name| !name.is_empty()) {
        return Some(name.to_owned());
    }
    let alternatives = certificate.subject_alternative_name().ok()??;
    alternatives.value.general_names.iter().find_map(|name| {
        if let GeneralName::URI(name) | GeneralName::DNSName(name) | GeneralName::RFC822Name(name) = name {
            return Some((*name).to_owned());
        }
        None
    })
}
