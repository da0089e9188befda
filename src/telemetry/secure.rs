//! How a collector is reached: over TCP, or TLS with the system's certificates or those of a file.

use super::settings::{Destination, Wire};
use crate::tls::outgoing::{Connector, Trust};

/// Prepares connections to the collector.
pub(super) fn connector(to: &Destination) -> Result<Connector, String> {
    let secure = to.address.scheme_str() == Some("https");
    let host = to.address.host().unwrap_or_default().trim_matches(['[', ']']);
    let port = to.address.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let trust = Trust {
        roots: to.roots.clone(),
        identity: to.identity.clone(),
        http2: to.protocol == Wire::Grpc,
        advice: "Name a file with OTEL_EXPORTER_OTLP_CERTIFICATE",
    };
    Connector::new(host, port, secure.then_some(&trust))
}
