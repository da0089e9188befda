//! Proxies that may say whom they speak for: which ones ([`networks`]), in the headers of a request ([`forwarded`]), or
//! before a connection ([`header`], the PROXY protocol). Pure: reads no socket.

pub mod forwarded;
pub mod header;
mod networks;

pub use networks::Networks;

use crate::peer::Address;

/// What is made of the PROXY protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// Nothing: its bytes are no request.
    #[default]
    Off,
    /// A connection of a trusted proxy may begin with it.
    Accept,
    /// Every connection has to begin with it, and come from a trusted proxy.
    Require,
}

/// The proxies of a server.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    /// Those that are believed.
    pub trusted: Networks,
    /// What they may say, or must, before a connection.
    pub protocol: ProxyProtocol,
}

impl Proxies {
    /// Returns whether what comes from `peer` about others is believed.
    pub(crate) fn trust(&self, peer: &Address) -> bool {
        self.trusted.contain(peer)
    }
}
