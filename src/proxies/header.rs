//! The header of the PROXY protocol, versions 1 and 2 (HAProxy's proxy-protocol.txt). Strict, and bounded.
//!
//! Decoded here and not by a crate: what has come so far has to be told apart from what cannot become a header any more,
//! without consuming it, and the crates there are read whole headers.

use crate::peer::Address;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Longest header of version 1, and the longest of version 2 that is accepted: addresses, and what proxies add to them.
const MOST_1: usize = 107;
const MOST_2: usize = 4 << 10;

const START_1: &[u8] = b"PROXY ";
const START_2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Length of what begins a header of version 2: its start, command, family and length.
const HEAD_2: usize = 16;

/// Whom a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// The proxy itself, which looks whether the server is there; or nobody that it knows.
    Itself,
    /// This client.
    Client(Address),
}

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Not a header, whatever follows.
    Other,
    /// The beginning of one, of which at most so many bytes are to be seen.
    Part(usize),
    /// A header that is broken or too long.
    Broken,
    /// A header of `length` bytes.
    Header {
        /// Its bytes.
        length: usize,
        /// Whom it names.
        told: Told,
    },
}

/// Says what `bytes` are, which are the first of a connection.
pub fn start(bytes: &[u8]) -> Start {
    for (start, decode) in
        [(START_1, version_1 as fn(&[u8]) -> Start), (START_2, version_2 as fn(&[u8]) -> Start)]
    {
        if bytes.starts_with(start) {
            return decode(bytes);
        }
        if start.starts_with(bytes) {
            return Start::Part(HEAD_2);
        }
    }
    Start::Other
}

fn version_1(bytes: &[u8]) -> Start {
    let seen = &bytes[..bytes.len().min(MOST_1)];
    let Some(end) = memchr::memchr(b'\n', seen) else {
        return if seen.len() < MOST_1 { Start::Part(MOST_1) } else { Start::Broken };
    };
    let line = std::str::from_utf8(&seen[START_1.len()..end]).ok().and_then(|line| line.strip_suffix('\r'));
    match line.and_then(told_in_line) {
        Some(told) => Start::Header { length: end + 1, told },
        None => Start::Broken,
    }
}

fn told_in_line(line: &str) -> Option<Told> {
    if line == "UNKNOWN" || line.starts_with("UNKNOWN ") {
        return Some(Told::Itself);
    }
    let mut words = line.split(' ');
    let mut next = || words.next().filter(|word| !word.is_empty());
    let [family, from, to, from_port, to_port] = [next()?, next()?, next()?, next()?, next()?];
    let address = |text: &str| -> Option<IpAddr> {
        match family {
            "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::from),
            "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::from),
            _ => None,
        }
    };
    let (from, _to) = (address(from)?, address(to)?);
    let (from_port, _to_port) = (port(from_port)?, port(to_port)?);
    words.next().is_none().then(|| Told::Client(SocketAddr::new(from, from_port).into()))
}

/// Reads a port as version 1 writes it: without a sign, and without zeros before it.
fn port(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if is_plain { text.parse().ok() } else { None }
}

fn version_2(bytes: &[u8]) -> Start {
    let Some((head, _)) = bytes.split_first_chunk::<HEAD_2>() else { return Start::Part(HEAD_2) };
    let [.., command, family, high, low] = *head;
    let length = HEAD_2 + usize::from(u16::from_be_bytes([high, low]));
    if length > MOST_2 || command >> 4 != 2 {
        return Start::Broken;
    }
    let Some(told) = bytes.get(HEAD_2..length) else { return Start::Part(length) };
    match told_in_bytes(command & 0xf, family, told) {
        Some(told) => Start::Header { length, told },
        None => Start::Broken,
    }
}

/// Reads the addresses; what follows them (TLVs) is skipped.
fn told_in_bytes(command: u8, family: u8, bytes: &[u8]) -> Option<Told> {
    const LOCAL: u8 = 0;
    const PROXY: u8 = 1;
    /// A path of 108 bytes for each side.
    const UNIX: usize = 216;
    match (command, family) {
        (LOCAL, _) | (PROXY, 0x00) => Some(Told::Itself),
        (PROXY, 0x11) => {
            let ([a, b, c, d, _, _, _, _, high, low, _, _], _) = bytes.split_first_chunk::<12>()?;
            Some(client(Ipv4Addr::new(*a, *b, *c, *d).into(), [*high, *low]))
        }
        (PROXY, 0x21) => {
            let (from, rest) = bytes.split_first_chunk::<16>()?;
            let ([high, low, _, _], _) = rest.get(16..)?.split_first_chunk::<4>()?;
            Some(client(Ipv6Addr::from(*from).into(), [*high, *low]))
        }
        (PROXY, 0x31) => (bytes.len() >= UNIX).then_some(Told::Client(Address::Unix)),
        _ => None,
    }
}

fn client(ip: IpAddr, port: [u8; 2]) -> Told {
    Told::Client(SocketAddr::new(ip, u16::from_be_bytes(port)).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v2(command: u8, family: u8, told: &[u8]) -> Vec<u8> {
        let length = u16::try_from(told.len()).unwrap().to_be_bytes();
        [START_2, &[command, family], &length, told].concat()
    }

    fn named(text: &str) -> Told {
        Told::Client(text.parse::<SocketAddr>().unwrap().into())
    }

    #[test]
    fn headers_of_version_1() {
        for (line, told) in [
            ("PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\n", named("192.0.2.7:56324")),
            ("PROXY TCP6 2001:db8::1 ::1 0 65535\r\n", named("[2001:db8::1]:0")),
            ("PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n", named("192.0.2.7:1")),
            ("PROXY UNKNOWN\r\n", Told::Itself),
            ("PROXY UNKNOWN ffff::1 whatever else\r\n", Told::Itself),
        ] {
            let with_more = format!("{line}GET / HTTP/1.1\r\n");
            assert_eq!(start(with_more.as_bytes()), Start::Header { length: line.len(), told }, "{line}");
        }
    }

    #[test]
    fn broken_lines() {
        for line in [
            "PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 56324 443 \r\n",
            "PROXY TCP4 192.0.2.7  10.0.0.1 56324 443\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 56324\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 056324 443\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 +1 443\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 65536 443\r\n",
            "PROXY TCP4 192.0.2.07 10.0.0.1 1 443\r\n",
            "PROXY TCP4 ::1 ::1 1 443\r\n",
            "PROXY TCP6 192.0.2.7 10.0.0.1 1 443\r\n",
            "PROXY TCP6 fe80::1%eth0 ::1 1 443\r\n",
            "PROXY UDP4 192.0.2.7 10.0.0.1 1 443\r\n",
            "PROXY UNKNOWNS\r\n",
            "PROXY \r\n",
            "PROXY TCP4 \u{e9}\r\n",
        ] {
            assert_eq!(start(line.as_bytes()), Start::Broken, "{line}");
        }
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(MOST_1));
        assert_eq!(start(long.as_bytes()), Start::Broken);
        let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(MOST_1 - 16));
        assert_eq!(start(longest.as_bytes()), Start::Header { length: MOST_1, told: Told::Itself });
    }

    #[test]
    fn headers_of_version_2() {
        let v4 = [192, 0, 2, 7, 10, 0, 0, 1, 0xdc, 4, 1, 187];
        let mut v6 = [0; 36];
        (v6[0], v6[1], v6[15], v6[33]) = (0x20, 1, 9, 80);
        for (header, told) in [
            (v2(0x21, 0x11, &v4), named("192.0.2.7:56324")),
            (v2(0x21, 0x11, &[&v4[..], b"\x03\x00\x04abcd"].concat()), named("192.0.2.7:56324")),
            (v2(0x21, 0x21, &v6), named("[2001::9]:80")),
            (v2(0x21, 0x31, &[b'/'; 216]), Told::Client(Address::Unix)),
            (v2(0x21, 0x00, b"anything"), Told::Itself),
            (v2(0x20, 0x00, b""), Told::Itself),
            (v2(0x20, 0x11, &v4), Told::Itself),
            (v2(0x21, 0x00, &[0; MOST_2 - HEAD_2]), Told::Itself),
        ] {
            let with_more = [&header[..], b"\x16\x03"].concat();
            assert_eq!(start(&with_more), Start::Header { length: header.len(), told }, "{header:?}");
        }
    }

    #[test]
    fn broken_bytes() {
        for header in [
            v2(0x11, 0x11, &[0; 12]),
            v2(0x22, 0x11, &[0; 12]),
            v2(0x21, 0x11, &[0; 11]),
            v2(0x21, 0x12, &[0; 12]),
            v2(0x21, 0x21, &[0; 35]),
            v2(0x21, 0x31, &[0; 215]),
            v2(0x21, 0x41, &[0; 36]),
            v2(0x21, 0x00, &[0; MOST_2 - HEAD_2 + 1]),
        ] {
            assert_eq!(start(&header), Start::Broken, "{header:?}");
        }
    }

    #[test]
    fn what_is_not_one_is_known_at_once() {
        for other in [&b"PRI * HTTP/2.0"[..], b"POST /", b"PUT", b"\x16\x03\x01", b"\r\n\r\nGET", b"PROXIES"]
        {
            assert_eq!(start(other), Start::Other, "{other:?}");
        }
        for part in [&b""[..], b"P", b"PR", b"PROXY", b"\r", b"\r\n\r\n\0\r\nQUIT"] {
            assert_eq!(start(part), Start::Part(HEAD_2), "{part:?}");
        }
    }

    proptest! {
        /// Every beginning of a header asks for more than has come, and what follows does not change it.
        #[test]
        fn a_header_is_known_when_it_is_whole(from: SocketAddr, more: Vec<u8>, tlvs in prop::collection::vec(any::<u8>(), 0..40)) {
            let (family, to) = if from.is_ipv4() { (4, "127.0.0.1") } else { (6, "::1") };
            let line = format!("PROXY TCP{family} {} {to} {} 1\r\n", from.ip(), from.port()).into_bytes();
            let bytes = match from.ip() {
                IpAddr::V4(ip) => [&ip.octets()[..], &[127, 0, 0, 1], &from.port().to_be_bytes(), &[0, 1], &tlvs].concat(),
                IpAddr::V6(ip) => [&ip.octets()[..], &[0; 16], &from.port().to_be_bytes(), &[0, 1], &tlvs].concat(),
            };
            let plain = SocketAddr::new(from.ip(), from.port());
            for header in [line, v2(0x21, if from.is_ipv4() { 0x11 } else { 0x21 }, &bytes)] {
                let whole = Start::Header { length: header.len(), told: Told::Client(plain.into()) };
                for length in 0..header.len() {
                    let part = start(&header[..length]);
                    prop_assert!(matches!(part, Start::Part(most) if most > length), "{length} bytes: {part:?}");
                }
                prop_assert_eq!(start(&[&header[..], &more].concat()), whole);
            }
        }

        #[test]
        fn nothing_breaks_it(bytes: Vec<u8>, version in 0usize..3) {
            let begun = [[START_1, START_2, b""][version], &bytes].concat();
            if let Start::Header { length, .. } = start(&begun) {
                prop_assert!(length <= begun.len());
            }
        }
    }
}
