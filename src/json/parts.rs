//! A long list of numbers, read in parts by several threads.
//!
//! The text is cut at commas that look as if they were between elements of one array: the outermost one, or one that is
//! the only element of those around it. Every part is then read as elements of an array. If all are, with one shape of
//! elements, then so is their sequence, and it has the same values as if it had been read at once, wherever the cuts were.
//! Otherwise nothing is said about the text, and it is read by one thread.

use super::cursor::Cursor;
use super::dense::{DenseReader, Elements};
use crate::parallel::{Part, Spare};
use memchr::memmem;

/// Length of the shortest text that is worth a part of its own. A list is cut if there is enough for four.
pub(super) const LEAST: usize = 64 << 10;
/// How many levels are tried for cuts.
const LEVELS: usize = 3;

/// What was read of a part.
struct Read<E> {
    elements: E,
    shape: Vec<usize>,
    /// Where the array ended, if it did.
    end: Option<usize>,
}

/// Consumes the list of numbers here and sets the shape of `reader`. `None`, with both unchanged, if it is not worth
/// it, or to be read by [`DenseReader::fill`]. Parts have `least` bytes or more; their elements, which `empty` collects,
/// are returned in order.
pub(super) fn fill<E: Elements + Send>(
    reader: &mut DenseReader,
    cursor: &mut Cursor<'_>,
    spare: &dyn Spare,
    least: usize,
    empty: impl Fn() -> E + Sync,
) -> Option<Vec<E>> {
    let length = cursor.text.len() - cursor.at;
    let threads = if length < 4 * least { 1 } else { 1 + spare.spare() };
    if threads == 1 {
        return None;
    }
    // More parts than threads, because they do not all begin at once.
    let wanted = (2 * threads).min(length / least);
    let starts = starts(*cursor);
    let (level, cuts) = (1..=starts.len().min(LEVELS)).find_map(|level| {
        let cuts = cuts(cursor.text, starts[level - 1], starts.len() - level, wanted);
        (cuts.len() > 1).then_some((level, cuts))
    })?;
    let inside = reader.inside(level - 1);
    let read = |(start, end): (usize, usize)| {
        let (mut reader, mut elements) = (inside.inside(0), empty());
        let mut cursor = Cursor { text: &cursor.text[..end], at: start };
        let ended = reader.fill_inside(&mut cursor, &mut elements)?;
        Some(Read { elements, shape: reader.shape().to_vec(), end: ended.then_some(cursor.at) })
    };
    let (elements, inner, end) = joined(read_all(&cuts, &read, spare))?;
    let mut after = Cursor { text: cursor.text, at: end };
    for _ in 1..level {
        if after.skip_space() != b']' {
            return None;
        }
        after.at += 1;
    }
    reader.set_shape([vec![1; level - 1], inner].concat());
    *cursor = after;
    Some(elements)
}

/// Returns the position after each of the brackets that open here.
fn starts(mut cursor: Cursor<'_>) -> Vec<usize> {
    let mut starts = Vec::new();
    // Beyond the levels that are tried, only their number matters; no more than any tensor has.
    while starts.len() < 256 && cursor.skip_space() == b'[' {
        cursor.at += 1;
        starts.push(cursor.at);
    }
    starts
}

/// Cuts the text from `start` on, at commas after `closing` brackets, into at most `wanted` ranges of about one length.
fn cuts(text: &[u8], start: usize, closing: usize, wanted: usize) -> Vec<(usize, usize)> {
    let pattern = [vec![b']'; closing], vec![b',']].concat();
    let finder = memmem::Finder::new(&pattern);
    let (mut cuts, mut from) = (Vec::with_capacity(wanted), start);
    let step = (text.len() - start) / wanted;
    for part in 1..wanted {
        let target = (start + part * step).max(from);
        let Some(found) = finder.find(&text[target..(start + (part + 1) * step).max(target)]) else {
            continue;
        };
        let comma = target + found + closing;
        cuts.push((from, comma));
        from = comma + 1;
    }
    cuts.push((from, text.len()));
    cuts
}

/// Calls `read` for every range.
fn read_all<R: Send>(
    ranges: &[(usize, usize)],
    read: &(impl Fn((usize, usize)) -> Option<R> + Sync),
    spare: &dyn Spare,
) -> Vec<Option<R>> {
    let mut results: Vec<Option<R>> = ranges.iter().map(|_| None).collect();
    let parts = ranges
        .iter()
        .zip(&mut results)
        .map(|(range, result)| -> Part<'_> { Box::new(move || *result = read(*range)) });
    spare.join(parts.collect());
    results
}

/// Joins the parts up to the one in which the array ends: the elements, their shape and the end.
fn joined<E>(parts: Vec<Option<Read<E>>>) -> Option<(Vec<E>, Vec<usize>, usize)> {
    let last = parts.iter().position(|part| part.as_ref().is_none_or(|part| part.end.is_some()))?;
    let parts: Vec<Read<E>> = parts.into_iter().take(last + 1).collect::<Option<_>>()?;
    let end = parts.last()?.end?;
    let mut shape = parts.first()?.shape.clone();
    if parts.iter().any(|part| part.shape[1..] != shape[1..]) {
        return None;
    }
    shape[0] = parts.iter().map(|part| part.shape[0]).sum();
    Some((parts.into_iter().map(|part| part.elements).collect(), shape, end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::column::{Column, Numbers};
    use crate::parallel::Alone;
    use proptest::prelude::*;

    /// Says that there are threads, and runs the parts in reverse order.
    struct Pretended(usize);

    impl Spare for Pretended {
        fn spare(&self) -> usize {
            self.0
        }

        fn join(&self, parts: Vec<Part<'_>>) {
            parts.into_iter().rev().for_each(|part| part());
        }
    }

    /// Reads `text` in parts and at once; returns whether the parts were of use.
    fn check(text: &str, threads: usize, least: usize) -> Result<bool, TestCaseError> {
        let start = Cursor { text: text.as_bytes(), at: 0 };
        let (mut reader, mut numbers, mut cursor) = (DenseReader::new(6), Numbers::<f32>::new(true), start);
        let filled = numbers.fill(&mut reader, &mut cursor);
        let (mut together, mut end) = (DenseReader::new(6), start);
        let spare = Pretended(threads);
        let Some(parts) = fill(&mut together, &mut end, &spare, least, || Numbers::<f32>::new(true)) else {
            prop_assert_eq!(end.at, 0);
            return Ok(false);
        };
        prop_assert_eq!(filled, Ok(()), "{}", text);
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        prop_assert_eq!(bits(&Numbers::joined(parts)), bits(&numbers.values), "{}", text);
        prop_assert_eq!((together.shape(), end.at), (reader.shape(), cursor.at), "{}", text);
        Ok(true)
    }

    fn list(dims: &[usize], separator: &str, next: &mut impl FnMut() -> String) -> String {
        let Some((dim, inner)) = dims.split_first() else { return next() };
        let items: Vec<String> = (0..*dim).map(|_| list(inner, separator, next)).collect();
        format!("[{}]", items.join(separator))
    }

    fn counting() -> impl FnMut() -> String {
        let mut count = 0;
        move || {
            count += 1;
            format!("{}", f64::from(count) / 8.0)
        }
    }

    #[test]
    fn lists_of_usual_shapes_are_read_in_parts() {
        for (dims, separator) in [
            (&[40][..], ","),
            (&[40], ", "),
            (&[8, 5], ", "),
            (&[1, 8, 5, 3], ","),
            (&[1, 1, 40], ", "),
            (&[8, 1, 5], ","),
            (&[40], ",\n "),
        ] {
            let text = list(dims, separator, &mut counting());
            for tail in ["", "}", ", \"other\": [1, 2, 3, 4, 5, 6, 7, 8, 9]}"] {
                assert!(check(&format!("{text}{tail}"), 2, 8).unwrap(), "{text}{tail}");
            }
        }
    }

    #[test]
    fn others_are_not() {
        for text in [
            "[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,]",
            "[1, 2, 3, 4, 5, 6, 7, 8,, 9, 10, 11, 12]",
            "[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12",
            "[[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11], [12, 13, 14, 15]]",
            "[[1, 2, 3, 4], [5, 6, 7, 8], 9, 10, 11, [12, 13, 14, 15]]",
            "[\"1, 2, 3, 4, 5, 6, 7, 8, 9, [10, 11, 12], [13, 14, 15]\"]",
            "[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], [11, 12, 13, 14, 15]]]",
            "12345678, 90, 12345678",
        ] {
            for least in 1..10 {
                let sequential = check(text, 3, least).unwrap();
                assert!(!sequential || text.starts_with("[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]"), "{text}");
            }
        }
        let text = list(&[40], ",", &mut counting());
        let mut cursor = Cursor { text: text.as_bytes(), at: 0 };
        let empty = || Numbers::<f32>::new(true);
        assert!(fill(&mut DenseReader::new(6), &mut cursor, &Alone, 1, empty).is_none());
        let deep = "[".repeat(500_000) + "1,2" + &"]".repeat(500_000);
        assert!(!check(&deep, 3, 8).unwrap());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3000))]

        /// With every shape, threads and cuts, in whole and with some bytes replaced.
        #[test]
        fn parts_are_read_as_the_whole(
            dims in prop::collection::vec(0usize..7, 1..5),
            separator in prop_oneof![Just(","), Just(", "), Just(" ,\n")],
            threads in 1usize..5,
            least in 1usize..30,
            changes in prop::collection::vec((any::<prop::sample::Index>(), "[-0-9\\[\\],. e\"{}]{0,3}"), 0..4),
            tail in prop_oneof![Just(""), Just("}"), Just(", \"x\": [[1, 2], [3, 4]]}")],
        ) {
            let mut text = list(&dims, separator, &mut counting()) + tail;
            for (index, change) in changes {
                let at = index.index(text.len());
                text.replace_range(at..(at + change.len()).min(text.len()), &change);
            }
            check(&text, threads, least)?;
        }
    }
}
