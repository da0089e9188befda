//! Who is at the other end of a connection, and who has sent a request.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Where a client is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Address {
    /// On the other side of a Unix socket, or nobody knows.
    #[default]
    Unix,
    /// At this address; the port is not known.
    Ip(IpAddr),
    /// At this address and port.
    Socket(SocketAddr),
}

impl Address {
    /// Returns the IP address, if it is known.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Address::Unix => None,
            Address::Ip(ip) => Some(*ip),
            Address::Socket(socket) => Some(socket.ip()),
        }
    }

    /// Returns the port, if it is known.
    pub fn port(&self) -> Option<u16> {
        match self {
            Address::Unix | Address::Ip(_) => None,
            Address::Socket(socket) => Some(socket.port()),
        }
    }

    /// Returns the address whose connections are counted together: an IPv6 client has a whole network (/64) to itself.
    pub fn counted_as(&self) -> Option<IpAddr> {
        self.ip().map(|ip| match ip {
            IpAddr::V4(_) => ip,
            IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
        })
    }
}

impl From<SocketAddr> for Address {
    /// Takes the address without IPv6 around an IPv4 one.
    fn from(socket: SocketAddr) -> Address {
        Address::Socket(SocketAddr::new(socket.ip().to_canonical(), socket.port()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix => to.write_str("unix"),
            Address::Ip(ip) => ip.fmt(to),
            Address::Socket(socket) => socket.fmt(to),
        }
    }
}

/// The sender of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sender {
    /// The client.
    pub client: Address,
    /// The proxy that named it, if one did.
    pub proxy: Option<Address>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_of_one_ipv6_network_are_counted_together() {
        let counted = |text: &str| Address::Ip(text.parse().unwrap()).counted_as().unwrap().to_string();
        assert_eq!(counted("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(counted("2001:db8:1:2::"), counted("2001:db8:1:2:ffff::1"));
        assert_ne!(counted("2001:db8:1:2::"), counted("2001:db8:1:3::"));
        assert_eq!(counted("192.0.2.7"), "192.0.2.7");
        assert_eq!(Address::Unix.counted_as(), None);
        let mapped: SocketAddr = "[::ffff:192.0.2.7]:80".parse().unwrap();
        assert_eq!(Address::from(mapped).to_string(), "192.0.2.7:80");
    }
}
