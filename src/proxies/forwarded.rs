//! The client that trusted proxies name in `Forwarded` (RFC 7239) or `X-Forwarded-For`.
//!
//! Each proxy adds whom it got a request from at the right, and a client may have sent anything to the left of that. So the
//! rightmost address that is no trusted proxy's is the client's, and nothing to the left of it is looked at. Where it cannot
//! be read, there is no client, and the proxy's own address has to do.

use super::Networks;
use crate::peer::Address;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The headers' names.
pub(crate) const FORWARDED: &str = "forwarded";
pub(crate) const X_FORWARDED_FOR: &str = "x-forwarded-for";

/// Most addresses that are looked at.
const MOST: usize = 64;

/// Whom a header names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    /// There is no such header.
    Absent,
    /// Nobody that can be told.
    Nobody,
    Client(Address),
}

/// Returns the client that the values of the headers name. Where both headers are there, they have to agree: most proxies
/// write one of them and pass the other on, which may be a client's own.
pub fn client<'h, I>(trusted: &Networks, forwarded: I, x_forwarded_for: I) -> Option<Address>
where
    I: DoubleEndedIterator<Item = &'h [u8]>,
{
    let standard = named(trusted, forwarded, elements);
    let usual = named(trusted, x_forwarded_for, |line| Some(line.split(',').map(plain_node)));
    match (standard, usual) {
        (Named::Client(client), Named::Absent) | (Named::Absent, Named::Client(client)) => Some(client),
        (Named::Client(client), Named::Client(other)) if client.ip() == other.ip() => Some(client),
        _ => None,
    }
}

/// What stands for a proxy or a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    /// Nothing: an empty element of a list.
    Empty,
    /// Something that is no address.
    Hidden,
    At(Address),
}

/// Walks over the `lines` of a header from the right; `nodes` reads one of them, `None` if it is broken.
fn named<'h, N>(
    trusted: &Networks,
    lines: impl DoubleEndedIterator<Item = &'h [u8]>,
    nodes: impl Fn(&'h str) -> Option<N>,
) -> Named
where
    N: DoubleEndedIterator<Item = Node>,
{
    let (mut last, mut seen) = (Named::Absent, 0);
    for line in lines.rev() {
        let Some(nodes) = std::str::from_utf8(line).ok().and_then(&nodes) else { return Named::Nobody };
        for node in nodes.rev() {
            seen += 1;
            match node {
                _ if seen > MOST => return Named::Nobody,
                Node::Empty => {}
                Node::Hidden => return Named::Nobody,
                Node::At(address) => {
                    last = Named::Client(address);
                    if !trusted.contain(&address) {
                        return last;
                    }
                }
            }
        }
    }
    last
}

/// Reads an address as `X-Forwarded-For` has it: with a port or without, IPv6 in brackets or not.
fn plain_node(text: &str) -> Node {
    let text = text.trim_matches([' ', '\t']);
    match text.parse::<IpAddr>() {
        Ok(ip) => Node::At(Address::Ip(ip.to_canonical())),
        Err(_) if text.is_empty() => Node::Empty,
        Err(_) => node(text),
    }
}

/// Reads a node (RFC 7239, section 6).
fn node(text: &str) -> Node {
    let (name, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((name, port)) => (name.parse::<Ipv6Addr>().map(IpAddr::from).ok(), port),
        None => {
            let (name, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            (name.parse::<Ipv4Addr>().map(IpAddr::from).ok(), port)
        }
    };
    let Some(ip) = name.map(|ip| ip.to_canonical()) else { return Node::Hidden };
    match port.strip_prefix(':') {
        None if port.is_empty() => Node::At(Address::Ip(ip)),
        None => Node::Hidden,
        Some(port) if is_obfuscated(port) => Node::At(Address::Ip(ip)),
        Some(port) => match port.parse::<u16>() {
            Ok(number) if port.bytes().all(|byte| byte.is_ascii_digit()) && port.len() <= 5 => {
                Node::At(Address::Socket(SocketAddr::new(ip, number)))
            }
            _ => Node::Hidden,
        },
    }
}

fn is_obfuscated(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    text.len() > 1 && text.starts_with('_') && text.bytes().all(allowed)
}

/// Reads the elements of a `Forwarded`: whom each is for. `None` if the line is broken anywhere, as then nobody knows where
/// an element ends; also if there are more than are looked at.
fn elements(line: &str) -> Option<std::vec::IntoIter<Node>> {
    let (mut nodes, mut rest) = (Vec::new(), line);
    loop {
        let (node, after) = element(rest)?;
        nodes.push(node);
        match after {
            Some(after) if nodes.len() < MOST => rest = after,
            Some(_) => return None,
            None => return Some(nodes.into_iter()),
        }
    }
}

/// Reads one element; returns it with what follows its comma, if there is one.
fn element(mut text: &str) -> Option<(Node, Option<&str>)> {
    let (mut pairs, mut named) = (0, None);
    loop {
        text = text.trim_start_matches([' ', '\t']);
        let end = text.bytes().position(|byte| !is_token(byte)).unwrap_or(text.len());
        if end > 0 {
            let (name, after) = text.split_at(end);
            let (value, after) = value(after.strip_prefix('=')?)?;
            pairs += 1;
            if name.eq_ignore_ascii_case("for") && named.replace(value).is_some() {
                return None;
            }
            text = after.trim_start_matches([' ', '\t']);
        }
        let node = || match &named {
            Some(name) => node(name),
            None if pairs == 0 => Node::Empty,
            None => Node::Hidden,
        };
        match text.as_bytes().first() {
            None => return Some((node(), None)),
            Some(b',') => return Some((node(), Some(&text[1..]))),
            Some(b';') => text = &text[1..],
            Some(_) => return None,
        }
    }
}

/// Reads a value, a token or a quoted string, and returns it with what follows it.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.bytes().position(|byte| !is_token(byte)).unwrap_or(text.len());
        return (end > 0).then(|| (text[..end].to_owned(), &text[end..]));
    };
    let (mut value, mut letters) = (String::new(), quoted.char_indices());
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(letters.next().map(|(_, letter)| letter).filter(|letter| is_text(*letter))?),
            letter if is_text(letter) => value.push(letter),
            _ => return None,
        }
    }
    None
}

fn is_text(letter: char) -> bool {
    letter == '\t' || !letter.is_control()
}

/// Returns whether `byte` may be in a token (RFC 9110, section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn networks() -> Networks {
        Networks::read(["10.0.0.0/8", "fd00::/8"]).unwrap()
    }

    /// Returns the client that the lines name; empty if there is none.
    fn client(forwarded: &[&str], usual: &[&str]) -> String {
        let lines = |of: &[&str]| of.iter().map(|line| line.as_bytes().to_vec()).collect::<Vec<_>>();
        let (forwarded, usual) = (lines(forwarded), lines(usual));
        let client =
            super::client(&networks(), forwarded.iter().map(Vec::as_slice), usual.iter().map(Vec::as_slice));
        client.map(|client| client.to_string()).unwrap_or_default()
    }

    #[test]
    fn the_rightmost_address_that_is_no_proxys_is_the_clients() {
        for (lines, expected) in [
            (&["192.0.2.7"][..], "192.0.2.7"),
            (&["6.6.6.6, 192.0.2.7"], "192.0.2.7"),
            (&["6.6.6.6, 192.0.2.7, 10.1.2.3,10.0.0.1"], "192.0.2.7"),
            (&["6.6.6.6", "192.0.2.7", "10.0.0.1"], "192.0.2.7"),
            (&["garbage, , 192.0.2.7 ,"], "192.0.2.7"),
            (&["10.0.0.2, 10.0.0.1"], "10.0.0.2"),
            (&["192.0.2.7:5555"], "192.0.2.7:5555"),
            (&["2001:db8::1"], "2001:db8::1"),
            (&["[2001:db8::1]"], "2001:db8::1"),
            (&["[2001:db8::1]:80, fd00::7"], "[2001:db8::1]:80"),
            (&["::ffff:192.0.2.7"], "192.0.2.7"),
        ] {
            assert_eq!(client(&[], lines), expected, "{lines:?}");
        }
        for (lines, expected) in [
            (&["for=192.0.2.7"][..], "192.0.2.7"),
            (&["For=192.0.2.7;proto=http;by=203.0.113.43"], "192.0.2.7"),
            (&["proto=https; for=\"192.0.2.7:5555\""], "192.0.2.7:5555"),
            (&["for=6.6.6.6, for=192.0.2.7, for=10.0.0.1"], "192.0.2.7"),
            (&["for=6.6.6.6", "for=192.0.2.7, for=10.0.0.1"], "192.0.2.7"),
            (&["for=\"[2001:db8::1]\""], "2001:db8::1"),
            (&["for=\"[2001:db8::1]:4711\",for=\"[fd00::1]\""], "[2001:db8::1]:4711"),
            (&["for=\"192.0.2.7:_port\""], "192.0.2.7"),
            (&["for=\"192.0.\\2.7\""], "192.0.2.7"),
            (&["for=_hidden, for=192.0.2.7"], "192.0.2.7"),
            (&["for=\"a,b;for=6.6.6.6\", for=192.0.2.7"], "192.0.2.7"),
            (&["secret=\"6.6.6.6\\\", for=6.6.6.6\";for=192.0.2.7"], "192.0.2.7"),
            (&["for=6.6.6.6, for=\"x", "for=192.0.2.7"], "192.0.2.7"),
            (&[", for=192.0.2.7;,"], "192.0.2.7"),
        ] {
            assert_eq!(client(lines, &[]), expected, "{lines:?}");
        }
    }

    #[test]
    fn where_it_cannot_be_read_there_is_none() {
        for usual in [
            "",
            " , ",
            "unknown",
            "_hidden",
            "192.0.2.7, unknown",
            "192.0.2.7, 10.0.0.1 10.0.0.2",
            "192.0.2.256",
        ] {
            assert_eq!(client(&[], &[usual]), "", "{usual}");
        }
        for usual in
            ["192.0.2.7:", "192.0.2.7:65536", "192.0.2.7:+1", "192.0.2.7:000080", "[::1", "::1]", "[::1]80"]
        {
            assert_eq!(client(&[], &[usual]), "", "{usual}");
        }
        for forwarded in [
            "",
            "for=unknown",
            "for=_hidden",
            "for=192.0.2.7, for=unknown",
            "for=192.0.2.7, proto=http",
            "for=192.0.2.7;for=192.0.2.8",
            "for=192.0.2.7:80",
            "for=[::1]",
            "for=\"::1\"",
            "for = 192.0.2.7",
            "for=",
            "for",
            "=192.0.2.7",
            "for=\"192.0.2.7",
            "for=\"192.0.2.7\\",
            "for=\"192.0.2.7\"x",
            "for=\"x, for=192.0.2.7",
            "for=6.6.6.6;by=\", for=\"192.0.2.7\"",
            "for=192.0.2.7 for=192.0.2.8",
            "for=\u{e9}",
            "for=192.0.2.7\u{e9}",
        ] {
            assert_eq!(client(&[forwarded], &[]), "", "{forwarded}");
        }
        let many = vec!["10.0.0.1"; MOST + 1].join(",");
        assert_eq!(client(&[], &[&format!("192.0.2.7,{many}")]), "");
        let many = vec!["for=10.0.0.1"; MOST + 1].join(",");
        assert_eq!(client(&[&many], &[]), "");
    }

    #[test]
    fn two_headers_have_to_agree() {
        assert_eq!(client(&["for=\"192.0.2.7:80\""], &["192.0.2.7"]), "192.0.2.7:80");
        assert_eq!(client(&["for=192.0.2.7"], &["192.0.2.8"]), "");
        assert_eq!(client(&["for=192.0.2.7"], &["unknown"]), "");
        assert_eq!(client(&["for=\"broken"], &["192.0.2.8"]), "");
    }

    proptest! {
        /// Whatever a client sends itself, it is the address that the proxy adds.
        #[test]
        fn a_client_cannot_name_another(sent in "[ -~]{0,60}", address: std::net::Ipv4Addr) {
            prop_assume!(address.octets()[0] != 10);
            prop_assert_eq!(client(&[], &[&format!("{sent}, {address}")]), address.to_string());
            prop_assert_eq!(client(&[], &[&sent, &address.to_string()]), address.to_string());
            prop_assert_eq!(client(&[&sent, &format!("for={address}")], &[]), address.to_string());
            let one = client(&[&format!("{sent}, for={address}")], &[]);
            prop_assert!(one.is_empty() || one == address.to_string(), "{}", one);
        }

        #[test]
        fn nothing_breaks_it(lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..4)) {
            let lines = || lines.iter().map(Vec::as_slice);
            let _any = super::client(&networks(), lines(), lines());
        }

        /// What is quoted is read as it was written.
        #[test]
        fn quotes_are_undone(text in "[ -~]{0,30}") {
            let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
            let whole = format!("\"{quoted}\";x");
            prop_assert_eq!(value(&whole), Some((text, ";x")));
        }
    }
}
