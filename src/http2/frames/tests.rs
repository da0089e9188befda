//! Streams of frames, cut at any byte.

use super::*;
use proptest::prelude::*;

fn passed(bytes: &[u8], split: usize) -> Vec<u8> {
    let mut frames = Frames::new(Arc::default()).late_farewell().any_authority();
    let mut bytes = bytes.to_vec();
    let (first, second) = bytes.split_at_mut(split);
    frames.pass(first);
    frames.pass(second);
    bytes
}

#[test]
fn a_farewell_is_hidden_where_it_is_a_frame() {
    let data = [&[0, 0, 17, 0, 0, 0, 0, 0, 1], FAREWELL].concat();
    let stream = [PREFACE, &data, &[0, 0, 0, 4, 1, 0, 0, 0, 0], FAREWELL, &data, FAREWELL].concat();
    let first = PREFACE.len() + data.len() + HEAD;
    let second = first + FAREWELL.len() + data.len();
    for split in 0..stream.len() {
        let mut hidden = stream.clone();
        for start in [first, second] {
            if !(start + 1..start + FAREWELL.len()).contains(&split) {
                hidden[start + KIND] = NO_KIND;
            }
        }
        assert_eq!(passed(&stream, split), hidden, "split at {split}");
    }
}

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
}

/// A header block with an invalid authority, and its correction.
const BLOCK: &[u8] = b"\x86\x41\x05a%2Fb\x83";
const CORRECTED: &[u8] = b"\x86\x41\x05au2Fb\x83";

#[test]
fn header_blocks_are_found_in_their_frames_and_nowhere_else() {
    const BOTH: u8 = PADDED | PRIORITY;
    /// Wraps a block in frames.
    type Put = fn(&[u8]) -> Vec<u8>;
    let whole: Put = |block| frame(HEADERS, END_HEADERS, block);
    let in_two: Put =
        |block| [frame(HEADERS, 0, &block[..5]), frame(CONTINUATION, END_HEADERS, &block[5..])].concat();
    let in_many: Put = |block| {
        let begun = [frame(HEADERS, PADDED, &[0]), frame(CONTINUATION, 0, &[])].concat();
        let pieces = block.iter().flat_map(|byte| frame(CONTINUATION, 0, &[*byte]));
        begun.into_iter().chain(pieces).chain(frame(CONTINUATION, END_HEADERS, &[])).collect()
    };
    let between: Put = |block| {
        let payload = [&[3, 0x41, 2, b'%', b'%', 0], block, &[0x41, 1, b'%']].concat();
        frame(HEADERS, END_HEADERS | BOTH, &payload)
    };
    let again: Put =
        |block| [frame(HEADERS, END_HEADERS, &block[..4]), frame(HEADERS, END_HEADERS, block)].concat();
    let other =
        [frame(0, END_HEADERS, BLOCK), frame(3, 0, &[]), frame(CONTINUATION, END_HEADERS, BLOCK)].concat();
    for put in [whole, in_two, in_many, between, again] {
        let stream = [PREFACE, &other, &put(BLOCK), &other].concat();
        let corrected = [PREFACE, &other, &put(CORRECTED), &other].concat();
        for split in 0..stream.len() {
            assert_eq!(passed(&stream, split), corrected, "split at {split}");
        }
    }
}

#[test]
fn what_cannot_be_followed_is_left_alone() {
    let begun = frame(HEADERS, 0, &[]);
    let good = frame(HEADERS, END_HEADERS, BLOCK);
    let broken = [
        // Anything but a continuation in the middle of a block.
        [&begun[..], &frame(0, 0, &[1]), &good].concat(),
        [&begun[..], &good].concat(),
        // More padding than payload, a frame without its priority, one without the length of its padding.
        [frame(HEADERS, END_HEADERS | PADDED, &[9, 0x41, 1, b'%']), good.clone()].concat(),
        [frame(HEADERS, END_HEADERS | PRIORITY, &[0x41, 1, b'%']), good.clone()].concat(),
        [frame(HEADERS, END_HEADERS | PADDED, &[]), good.clone()].concat(),
    ];
    for broken in broken {
        let stream = [PREFACE, &broken].concat();
        for split in 0..stream.len() {
            assert_eq!(passed(&stream, split), stream, "{broken:?} split at {split}");
        }
    }
}

/// Makes a header block frame or any other frame.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop_oneof![Just(HEADERS), Just(CONTINUATION), any::<u8>()];
    let literals = prop::collection::vec(prop_oneof![Just(0x41), Just(b'%'), 0..6_u8, any::<u8>()], 0..40);
    (kind, any::<u8>(), literals).prop_map(|(kind, flags, payload)| frame(kind, flags, &payload))
}

proptest! {
    #[test]
    fn what_is_not_http2_is_left_alone(bytes: Vec<u8>, cut in 0..PREFACE.len(), split: prop::sample::Index) {
        let stream = [&PREFACE[..cut], b"x", &bytes, FAREWELL].concat();
        prop_assert_eq!(&passed(&stream, split.index(stream.len())), &stream);
    }

    #[test]
    fn any_frames_go_through_the_same_however_they_are_cut(
        frames in prop::collection::vec(any_frame(), 0..6),
        bytes: Vec<u8>,
        split: prop::sample::Index,
    ) {
        let stream = [PREFACE, &frames.concat(), &bytes].concat();
        let whole = passed(&stream, 0);
        prop_assert_eq!(whole.len(), stream.len());
        prop_assert_eq!(passed(&stream, split.index(stream.len())), whole);
    }
}
