//! The memory of a parsed `tf.Example`: much more than on the wire if it holds many small values.

use crate::pb::wire::{Fields, Value};

/// Bytes of a parsed feature with its name and its place in the map.
const FEATURE: usize = 256;
/// Bytes of a parsed byte string; its contents stay in place.
const STRING: usize = 32;
/// Lists double as they grow, and are copied then.
const GROWTH: usize = 3;
/// Examples up to this size, in bytes, count as nothing.
const SMALL: usize = 256;

/// Returns an upper bound, in bytes, for a well-formed `Example`. Parsing a malformed one stops at the error.
pub(super) fn size(example: &[u8]) -> usize {
    if example.len() <= SMALL {
        return 0;
    }
    let features = inside(inside_all(example, 1), 1);
    let sizes = features.map(|feature| {
        let lists = inside(std::iter::once(feature), 2).flat_map(|feature| Fields::new(feature).flatten());
        FEATURE + lists.map(list).sum::<usize>()
    });
    sizes.sum()
}

/// Returns the contents of field `wanted` of a message.
fn inside_all(message: &[u8], wanted: u32) -> impl Iterator<Item = &[u8]> {
    Fields::new(message).flatten().filter_map(move |(number, value)| match value {
        Value::Bytes(bytes) if number == wanted => Some(bytes),
        Value::Bytes(_) | Value::Varint(_) | Value::Fixed64(_) | Value::Fixed32(_) => None,
    })
}

/// Returns the same for several messages.
fn inside<'a>(messages: impl Iterator<Item = &'a [u8]>, wanted: u32) -> impl Iterator<Item = &'a [u8]> {
    messages.flat_map(move |message| inside_all(message, wanted))
}

/// Returns the memory of a list of values: strings (1), floats (2) or integers (3).
fn list((number, value): (u32, Value<'_>)) -> usize {
    let Value::Bytes(list) = value else { return 0 };
    match number {
        1 => GROWTH * STRING * Fields::new(list).count(),
        2 => GROWTH * list.len(),
        // A varint of one byte becomes eight bytes.
        3 => GROWTH * 8 * list.len(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::tensorflow::{BytesList, Example, Feature, Features, Int64List, feature::Kind};
    use bytes::Bytes;
    use prost::Message;

    fn example(features: impl Iterator<Item = (String, Kind)>) -> Vec<u8> {
        let feature = features.map(|(name, kind)| (name, Feature { kind: Some(kind) })).collect();
        Example { features: Some(Features { feature }) }.encode_to_vec()
    }

    #[test]
    fn what_is_small_on_the_wire_is_counted_as_it_is_parsed() {
        let strings = Kind::BytesList(BytesList { value: vec![Bytes::new(); 1000] });
        let wire = example([("a".to_owned(), strings)].into_iter());
        assert!(size(&wire) >= 1000 * size_of::<Bytes>() && wire.len() < 2100);
        let numbers = Kind::Int64List(Int64List { value: vec![1; 1000] });
        assert!(size(&example([("a".to_owned(), numbers)].into_iter())) >= 8000);
        let nothing = |index| (format!("{index}"), Kind::BytesList(BytesList { value: Vec::new() }));
        assert!(size(&example((0..1000).map(nothing))) >= 1000 * 128);
        assert_eq!(size(&[0xff; 300]), 0);
    }
}
