//! The numbers that are read at once are those that are read one by one.

use super::*;
use proptest::prelude::*;

/// Reads `text` with and without the instructions that this machine may lack.
fn check<T: Value>(text: &str) -> Result<(), TestCaseError> {
    let read = |avx2| {
        let mut numbers = Numbers { avx2, ..Numbers::<T>::new(true) };
        let (mut reader, mut cursor) = (DenseReader::new(6), Cursor { text: text.as_bytes(), at: 0 });
        let filled = reader.fill(&mut cursor, &mut numbers);
        let bytes: Vec<u8> = bytemuck::cast_slice(&numbers.values).to_vec();
        // After a fault, what was read is of no use.
        (filled, filled.is_ok().then(|| (bytes, reader.shape().to_vec(), cursor.at)))
    };
    prop_assert_eq!(read(Level::new().as_avx2()), read(None), "{}", text);
    Ok(())
}

#[test]
fn what_is_between_long_numbers_is_seen_too() {
    for (separator, gap) in [(",", 1), (", ", 2)] {
        for wrong in [1, 2] {
            let row = format!("[{}]", ["0.12345678901234567"; 3].join(separator));
            let text = format!("[{}]{}", vec![row; 20].join(separator), " ".repeat(100));
            let mut numbers = Numbers::<f32> { gap: wrong, ..Numbers::new(true) };
            let mut cursor = Cursor { text: text.as_bytes(), at: 0 };
            assert_eq!(DenseReader::new(6).fill(&mut cursor, &mut numbers), Ok(()));
            assert_eq!((numbers.values.len(), numbers.gap), (60, gap), "{separator:?} after {wrong}");
        }
    }
}

#[test]
fn there_is_room_for_all_that_is_read_at_once() {
    for (long, short) in (1..40).flat_map(|long| (1..60).map(move |short| (long, short))) {
        let numbers = [vec!["0.12345678901234567890123"; long], vec!["1"; short]].concat();
        for padding in [0, 30, 100] {
            check::<f32>(&format!("[{}]{}", numbers.join(","), " ".repeat(padding))).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn rows_are_read_as_other_lists(
        width in 1usize..6,
        numbers in prop::collection::vec(
            prop_oneof![4 => "-?[0-9]{1,2}(\\.[0-9]{1,5})?", 1 => "[0-9]{1,9}", 1 => "0\\.[0-9]{15,19}"], 1..120,
        ),
        integers in any::<bool>(),
        separator in prop_oneof![Just(","), Just(", "), Just(" ,")],
        changes in prop::collection::vec((any::<prop::sample::Index>(), "[-0-9\\[\\],. e]{0,3}"), 0..3),
        padding in prop_oneof![0usize..100, Just(100)],
    ) {
        let number = |text: &String| text.split('.').take(if integers { 1 } else { 2 }).collect::<Vec<_>>().join(".");
        let numbers: Vec<String> = numbers.iter().map(number).collect();
        let rows: Vec<_> =
            numbers.chunks(width).map(|row| format!("[{}]", row.join(separator))).collect();
        let mut text = format!("[[{}]]}}", rows.join(separator)) + &" ".repeat(padding);
        for (index, change) in changes {
            let at = index.index(text.len() - padding);
            text.replace_range(at..(at + change.len()).min(text.len()), &change);
        }
        check::<f32>(&text)?;
        check::<f64>(&text)?;
        check::<i32>(&text)?;
        check::<Half>(&text)?;
        check::<BFloat16>(&text)?;
    }
}
