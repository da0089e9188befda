//! A list of networks.

use crate::error::{Error, Result};
use crate::peer::Address;
use std::net::IpAddr;

/// The networks of trusted proxies, and whether Unix sockets belong to them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    /// First address, its bits, and the number of those that count.
    ip: Vec<(IpAddr, u8)>,
    unix: bool,
}

impl Networks {
    /// Reads networks (`10.0.0.0/8`, `fd00::/8`), addresses, and `unix`.
    pub fn read<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Networks> {
        let mut networks = Networks::default();
        for text in texts {
            if text == "unix" {
                networks.unix = true;
                continue;
            }
            let network = network(text).ok_or_else(|| {
                Error::invalid(format!(
                    "trusted_proxies: expected an address, a network such as 10.0.0.0/8, or unix, got {text}"
                ))
            })?;
            networks.ip.push(network);
        }
        Ok(networks)
    }

    /// Returns whether `address` lies in one of them.
    pub(crate) fn contain(&self, address: &Address) -> bool {
        match address.ip() {
            None => self.unix,
            Some(ip) => {
                self.ip.iter().any(|(network, prefix)| bits_of(ip, *prefix) == bits_of(*network, *prefix))
            }
        }
    }
}

fn network(text: &str) -> Option<(IpAddr, u8)> {
    let (address, prefix) = match text.split_once('/') {
        None => (text, None),
        Some((address, prefix)) => (address, Some(prefix)),
    };
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix {
        None => most,
        Some(prefix) => prefix.parse().ok().filter(|prefix| *prefix <= most)?,
    };
    Some((address, prefix))
}

/// Returns the first `prefix` bits of an address, with its kind.
fn bits_of(address: IpAddr, prefix: u8) -> (bool, u128) {
    match address {
        IpAddr::V4(ip) => {
            (true, ip.to_bits().checked_shr(32 - u32::from(prefix.min(32))).unwrap_or(0).into())
        }
        IpAddr::V6(ip) => (false, ip.to_bits().checked_shr(128 - u32::from(prefix.min(128))).unwrap_or(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn contain(networks: &[&str], address: &str) -> bool {
        let networks = Networks::read(networks.iter().copied()).unwrap();
        networks.contain(&Address::Ip(address.parse().unwrap()))
    }

    #[test]
    fn an_address_lies_in_a_network_of_its_kind() {
        let networks = ["10.0.0.0/8", "192.0.2.7", "fd00::/8", "2001:db8::1"];
        for (address, expected) in [
            ("10.255.0.1", true),
            ("11.0.0.1", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("fdff::1", true),
            ("fe00::1", false),
            ("2001:db8::1", true),
            ("2001:db8::2", false),
        ] {
            assert_eq!(contain(&networks, address), expected, "{address}");
        }
        assert!(contain(&["0.0.0.0/0"], "192.0.2.7") && !contain(&["0.0.0.0/0"], "::1"));
        assert!(contain(&["::/0"], "::1") && !contain(&["::/0"], "192.0.2.7"));
    }

    #[test]
    fn unix_sockets_are_named() {
        assert!(Networks::read(["unix"]).unwrap().contain(&Address::Unix));
        assert!(!Networks::read(["0.0.0.0/0"]).unwrap().contain(&Address::Unix));
    }

    #[test]
    fn anything_else_is_refused() {
        for wrong in
            ["", "10.0.0.0/33", "::/129", "10.0.0", "10.0.0.0/", "10.0.0.0/8/8", "proxy.example", "Unix"]
        {
            assert!(Networks::read([wrong]).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn a_network_has_the_addresses_with_its_first_bits(network: u32, address: u32, prefix in 0u8..=32) {
            let text = format!("{}/{prefix}", std::net::Ipv4Addr::from_bits(network));
            let expected = prefix == 0 || network >> (32 - prefix) == address >> (32 - prefix);
            let address = std::net::Ipv4Addr::from_bits(address).to_string();
            prop_assert_eq!(contain(&[&text], &address), expected);
        }
    }
}
