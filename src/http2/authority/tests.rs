//! Header blocks made by hand, cut at any byte, and the hosts that remain in them.

use super::*;
use http::uri::Authority;
use proptest::prelude::*;

fn passed(block: &[u8], split: usize) -> Vec<u8> {
    let mut fields = Fields::new();
    let mut block = block.to_vec();
    let (first, second) = block.split_at_mut(split);
    fields.pass(first);
    fields.pass(second);
    block
}

fn number(first: u8, bits: u32, value: u32) -> Vec<u8> {
    let most = (1 << bits) - 1;
    if value < most {
        return vec![first | value as u8];
    }
    let mut bytes = vec![first | most as u8];
    let mut left = value - most;
    while left >= 0x80 {
        bytes.push(left as u8 | 0x80);
        left >>= 7;
    }
    bytes.push(left as u8);
    bytes
}

fn text(text: &[u8], coded: bool) -> Vec<u8> {
    [number(if coded { 0x80 } else { 0 }, 7, text.len() as u32), text.to_vec()].concat()
}

/// `%2Ftmp%2Fservable%2Fgrpc.sock` without its beginning, as sent by gRPC's C core.
const HOST: &[u8] = b"tmp%2Fservable%2Fgrpc.sock";
const PLAIN: &[u8] = b"tmpu2Fservableu2Fgrpc.sock";
/// The same, Huffman-coded.
const CODED: [u8; 19] = [
    0x4d, 0x35, 0xaa, 0x2c, 0x28, 0x2d, 0x9d, 0xc7, 0x1d, 0x05, 0x54, 0x58, 0x66, 0xb2, 0xb2, 0x2e, 0x83,
    0x93, 0xaf,
];

/// The first bytes of a literal field with its name as a text.
const LITERALS: [u8; 3] = [0x40, 0x00, 0x10];

#[test]
fn hosts_are_corrected_however_they_are_written() {
    for first in LITERALS {
        let names = [
            vec![first | INDEX as u8],
            [vec![first], text(NAME, false)].concat(),
            [vec![first], text(CODED_NAME, true)].concat(),
        ];
        for name in names {
            // An entry of the table, one in neither table, a size; then ours, then another field with the same value.
            let before = [number(0x80, 7, 8), number(0x80, 7, 1000), number(0x20, 5, 4096)].concat();
            let after = [number(first, if first == 0x40 { 6 } else { 4 }, 200), text(HOST, false)].concat();
            let block = |host: Vec<u8>| [&before[..], &name, &host, &after].concat();
            let filled: Vec<u8> = (0..19).map(|at| coded_host(19, at)).collect();
            for (host, corrected) in [
                (text(HOST, false), text(PLAIN, false)),
                (text(&CODED, true), text(&filled, true)),
                (text(b"localhost", false), text(b"localhost", false)),
                (text(b"", false), text(b"", false)),
            ] {
                let (host, corrected) = (block(host), block(corrected));
                for split in 0..host.len() {
                    assert_eq!(passed(&host, split), corrected, "split at {split}");
                }
            }
        }
    }
}

#[test]
fn other_names_are_not_ours() {
    let names: [(&[u8], bool); 7] = [
        (b":authorit", false),
        (b":authority:", false),
        (b":AUTHORITY", false),
        (b"", false),
        (CODED_NAME, false),
        (NAME, true),
        (&CODED_NAME[..7], true),
    ];
    for (name, coded) in names {
        let block = [vec![0], text(name, coded), text(HOST, false)].concat();
        for split in 0..block.len() {
            assert_eq!(passed(&block, split), block, "{name:?}");
        }
    }
}

#[test]
fn numbers_that_the_library_refuses_end_it() {
    let good = [vec![0x41], text(HOST, false)].concat();
    for first in [0xff, 0x7f, 0x3f, 0x0f, 0x1f] {
        let block = [&[first, 0x80, 0x80, 0x80, 0x80, 0][..], &good].concat();
        assert_eq!(passed(&block, 0), block);
    }
    // The largest numbers that the library accepts: a table entry, then a host that never ends.
    let block = [&[0xff, 0xff, 0xff, 0xff, 0x7f][..], &[0x41, 0x7f, 0xff, 0xff, 0xff, 0x7f], b"a%b"].concat();
    let corrected = [&block[..block.len() - 3], b"aub"].concat();
    for split in 0..block.len() {
        assert_eq!(passed(&block, split), corrected);
    }
}

/// Decodes a Huffman-coded host: tildes and zeros, then ones to the end of the byte.
fn decoded(bytes: &[u8]) -> String {
    let bits: String = bytes.iter().map(|byte| format!("{byte:08b}")).collect();
    let mut left = bits.as_str();
    let mut text = String::new();
    loop {
        if let Some(rest) = left.strip_prefix("1111111111101") {
            text.push('~');
            left = rest;
        } else if let Some(rest) = left.strip_prefix("00000") {
            text.push('0');
            left = rest;
        } else {
            assert!(left.len() < 8 && left.chars().all(|bit| bit == '1'), "{text} {left}");
            return text;
        }
    }
}

#[test]
fn coded_hosts_are_hosts_and_no_longer_than_any_other() {
    for length in 1..400 {
        let bytes: Vec<u8> = (0..length).map(|at| coded_host(length, at)).collect();
        let host = decoded(&bytes);
        host.parse::<Authority>().unwrap();
        // The fewest characters of at most 13 bits that fill that many bytes.
        let fewest = (8 * (length as usize - 1) + 1).div_ceil(13);
        assert!(host.len() <= fewest, "{host} in {length}");
    }
    assert_eq!(decoded(&[coded_host(1, 0)]), "0");
}

proptest! {
    #[test]
    fn whatever_is_written_for_a_host_becomes_one(host in prop::collection::vec(any::<u8>(), 1..200)) {
        let corrected: Vec<u8> = host.iter().map(|byte| plain_host(*byte)).collect();
        prop_assert!(Authority::try_from(&corrected[..]).is_ok());
    }

    #[test]
    fn all_but_the_hosts_goes_through_as_it_came(
        pieces in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..30), any::<bool>(), 0..4_usize), 1..8),
        split: prop::sample::Index,
    ) {
        let (mut block, mut corrected) = (Vec::new(), Vec::new());
        for (value, coded, name) in &pieces {
            let ours: &[u8] = &(0..value.len() as u32)
                .map(|at| if *coded { coded_host(value.len() as u32, at) } else { plain_host(value[at as usize]) })
                .collect::<Vec<_>>();
            let (name, value_after) = match name {
                0 => (vec![0x41], ours),
                1 => ([vec![0x10], text(CODED_NAME, true)].concat(), ours),
                2 => (number(0x00, 4, 31), &value[..]),
                _ => ([vec![0x40], text(value, *coded)].concat(), &value[..]),
            };
            // A name may be ours by chance.
            prop_assume!(!name.ends_with(NAME));
            block.extend([name.clone(), text(value, *coded)].concat());
            corrected.extend([name, text(value_after, *coded)].concat());
        }
        prop_assert_eq!(passed(&block, split.index(block.len())), corrected);
    }

    #[test]
    fn any_bytes_go_through_the_same_however_they_are_cut(block: Vec<u8>, split: prop::sample::Index) {
        let whole = passed(&block, 0);
        prop_assert_eq!(whole.len(), block.len());
        prop_assert_eq!(passed(&block, split.index(block.len() + 1)), whole);
    }
}
