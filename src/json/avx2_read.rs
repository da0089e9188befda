//! Several short numbers of a list, read in one call with the instructions of AVX2; elsewhere one by one, by
//! [`super::short_number`].
//!
//! The places of all numbers in 64 bytes are found at once, so that no number waits for the one before it.

use crate::json::short_number::ShortNumber;
use core::arch::x86_64::{
    __m128i, __m256i, _mm_cvtsi128_si64, _mm_madd_epi16, _mm_maddubs_epi16, _mm_packus_epi32, _mm_set_epi16,
    _mm_set1_epi8, _mm_set1_epi16, _mm_set1_epi32, _mm_shuffle_epi8, _mm_subs_epu8, _mm256_cmpeq_epi8,
    _mm256_min_epu8, _mm256_movemask_epi8, _mm256_set1_epi8, _mm256_sub_epi8,
};

/// Most numbers read by one call.
pub(crate) const SEVERAL: usize = 32;

/// Fewest bytes of text, from the first number on, of which any are read.
pub(crate) const LEAST_TEXT: usize = BLOCK + WINDOW;

/// Bytes whose kinds are found at once.
const BLOCK: usize = 64;
/// Bytes that are looked at at once for one number; most are shorter.
const WINDOW: usize = 16;
/// The length of numbers that are too long.
const TOO_LONG: usize = 24;

/// Where the digits of a number go, so that the last one is at the end and the point is left out: by the place of the
/// point (0: none) and the length.
static PLACES: [[[u8; WINDOW]; WINDOW + 1]; WINDOW] = {
    let mut places = [[[0x80; WINDOW]; WINDOW + 1]; WINDOW];
    let mut point = 0;
    while point < WINDOW {
        let mut length = 0;
        while length <= WINDOW {
            let mut from = 0;
            while from < length {
                let passes_point = from < point && point < length;
                let to = WINDOW - length + from + passes_point as usize;
                if point == 0 || from != point {
                    places[point][length][to] = from as u8;
                }
                from += 1;
            }
            length += 1;
        }
        point += 1;
    }
    places
};

/// What is known of 64 bytes, a bit for each, the first lowest.
struct Block {
    /// Whatever is no part of a number without an exponent.
    ends: u64,
    points: u64,
    minuses: u64,
    /// The commas that are followed by this gap.
    commas: u64,
    /// The first byte that must not be in, or directly after, a number.
    limit: usize,
}

/// What is between numbers.
#[derive(Clone, Copy)]
pub(crate) struct Between {
    /// Bytes between two numbers: a comma, or a comma and a space.
    pub(crate) gap: usize,
    /// The length of the rows in which the numbers are, each in brackets; 0 for numbers of one list.
    pub(crate) row: usize,
}

fearless_simd::kernel!(
    /// Reads numbers from `start` on, where a row begins; returns how many were read to `numbers`. Fewer than there
    /// are, or none, says nothing about the text.
    #[inline]
    pub(crate) fn several(
        avx2: Avx2,
        text: &[u8],
        start: usize,
        between: Between,
        numbers: &mut [ShortNumber; SEVERAL],
    ) -> usize {
        let Between { gap, row } = between;
        let most = SEVERAL.checked_div(row).map_or(SEVERAL, |rows| rows * row);
        let (mut count, mut base, mut row_ends) = (0, start, if row == 0 { SEVERAL } else { row });
        while let Some(bytes) = text.get(base..).and_then(|rest| rest.first_chunk::<LEAST_TEXT>()) {
            let block = block(bytes, gap);
            let mut at = 0;
            // Numbers that begin later may end in the next block.
            while at <= BLOCK - WINDOW {
                let length = (block.ends >> at).trailing_zeros() as usize;
                if length >= WINDOW && at > BLOCK - TOO_LONG {
                    break;
                }
                let Some((number, end)) = number(bytes, &block, at, length) else { return count };
                numbers[count % SEVERAL] = ShortNumber { end: base + end, ..number };
                count += 1;
                if count == most {
                    return count;
                }
                if count == row_ends {
                    if !is_next_row(bytes, end, gap) {
                        return count;
                    }
                    row_ends += row;
                    at = end + gap + 2;
                } else if block.commas >> end & 1 == 0 {
                    return count;
                } else {
                    at = end + gap;
                }
            }
            base += at;
        }
        count
    }
);

/// Returns whether a row ends at `at` and another one begins after the gap.
#[inline(always)]
fn is_next_row(bytes: &[u8; BLOCK + WINDOW], at: usize, gap: usize) -> bool {
    let Some(next) = bytes[at..].first_chunk() else { return false };
    u32::from_le_bytes(*next) == u32::from_le_bytes(*b"], [") && gap == 2
        || next.starts_with(b"],[") && gap == 1
}

#[target_feature(enable = "avx2,bmi1,bmi2")]
#[inline]
fn block(bytes: &[u8; BLOCK + WINDOW], gap: usize) -> Block {
    let [mut digits, mut points, mut minuses, mut zeros, mut exponents, mut commas, mut spaces] = [0; 7];
    for half in 0..2 {
        let mut part = [0; 32];
        part.copy_from_slice(&bytes[32 * half..32 * half + 32]);
        let part: __m256i = bytemuck::cast(part);
        let is = |byte| {
            let found = _mm256_cmpeq_epi8(part, _mm256_set1_epi8(byte as i8));
            u64::from(_mm256_movemask_epi8(found) as u32) << (32 * half)
        };
        let values = _mm256_sub_epi8(part, _mm256_set1_epi8(b'0' as i8));
        let is_digit = _mm256_cmpeq_epi8(values, _mm256_min_epu8(values, _mm256_set1_epi8(9)));
        digits |= u64::from(_mm256_movemask_epi8(is_digit) as u32) << (32 * half);
        points |= is(b'.');
        minuses |= is(b'-');
        zeros |= is(b'0');
        exponents |= is(b'e') | is(b'E');
        commas |= is(b',');
        spaces |= is(b' ');
    }
    let inside = digits | points | minuses;
    let first_digits = digits & !((digits | points) << 1);
    // A point has digits around it, a minus begins a number, and no zero leads another digit.
    let malformed = points & !(digits << 1 & digits >> 1)
        | minuses & (inside << 1 | !(digits >> 1))
        | zeros & first_digits & digits >> 1
        | exponents;
    let spaced = spaces >> 1 | u64::from(bytes[BLOCK] == b' ') << 63;
    Block {
        ends: !inside,
        points,
        minuses,
        commas: commas & if gap == 2 { spaced } else { !spaced },
        limit: malformed.trailing_zeros() as usize,
    }
}

/// Returns the number of `length` bytes at `at`, and its end.
#[target_feature(enable = "avx2,bmi1,bmi2")]
#[inline]
fn number(
    bytes: &[u8; BLOCK + WINDOW],
    block: &Block,
    at: usize,
    length: usize,
) -> Option<(ShortNumber, usize)> {
    let window: [u8; WINDOW] = *bytes[at..].first_chunk()?;
    let end = at + length;
    let points = (block.points >> at) & ((1 << (length % 64)) - 1);
    let many_points = points & points.wrapping_sub(1) != 0;
    if length.wrapping_sub(1) >= TOO_LONG - 1 || end >= block.limit || many_points {
        return None;
    }
    // 0 without a point.
    let point = points.trailing_zeros() as usize % BLOCK;
    let fraction = if point == 0 { 0 } else { length - 1 - point };
    let negative = block.minuses >> at & 1 != 0;
    let mantissa = if length < WINDOW {
        mantissa(window, point, length)
    } else {
        let last: [u8; WINDOW] = *bytes[end.wrapping_sub(WINDOW)..].first_chunk()?;
        // No more digits than 64 bits hold, nor than `Cursor::number` takes exactly.
        let digits = length - usize::from(point > 0) - usize::from(negative);
        let mantissa = long_mantissa([window, last], point, length);
        if digits > if fraction == 0 { 18 } else { 19 } || negative && mantissa > 1 << 63 {
            return None;
        }
        mantissa
    };
    Some((ShortNumber { negative, mantissa, fraction, end }, end))
}

/// Does the same as [`mantissa`] for a number of [`WINDOW`] bytes or more, by the first and the last of them; modulo 2⁶⁴.
#[target_feature(enable = "avx2")]
#[inline(never)]
fn long_mantissa([first, last]: [[u8; WINDOW]; 2], point: usize, length: usize) -> u64 {
    let before = length - WINDOW;
    // A point that is the first of the last bytes counts as a zero.
    let (high, low) = if point < before { (point, 0) } else { (0, point - before) };
    let power = if point > 0 && point >= before { 10u64.pow(15) } else { 10u64.pow(16) };
    mantissa(first, high, before).wrapping_mul(power).wrapping_add(mantissa(last, low, WINDOW))
}

/// Returns the digits of a number of `length` bytes as one integer. The sign counts as a zero.
#[target_feature(enable = "avx2")]
#[inline]
fn mantissa(window: [u8; WINDOW], point: usize, length: usize) -> u64 {
    let digits = _mm_subs_epu8(bytemuck::cast(window), _mm_set1_epi8(b'0' as i8));
    let places: __m128i = bytemuck::cast(PLACES[point % WINDOW][length.min(WINDOW)]);
    let digits = _mm_shuffle_epi8(digits, places);
    // Pairs, then fours, then eights.
    let pairs = _mm_maddubs_epi16(digits, _mm_set1_epi16(0x010A));
    let fours = _mm_madd_epi16(pairs, _mm_set1_epi32(0x0001_0064));
    let packed = _mm_packus_epi32(fours, fours);
    let eights = _mm_madd_epi16(packed, _mm_set_epi16(1, 10_000, 1, 10_000, 1, 10_000, 1, 10_000));
    let both = _mm_cvtsi128_si64(eights) as u64;
    (both & 0xFFFF_FFFF) * 100_000_000 + (both >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::cursor::Cursor;
    use fearless_simd::Level;
    use proptest::prelude::*;

    /// Whatever is read at once is what [`Cursor::number`] reads, with the gaps in between; returns how many.
    fn check(text: &[u8], between: Between) -> Result<usize, TestCaseError> {
        let Some(avx2) = Level::new().as_avx2() else { return Ok(0) };
        let mut numbers = [ShortNumber::default(); SEVERAL];
        let count = several(avx2, text, 0, between, &mut numbers);
        let comma: &[u8] = if between.gap == 2 { b", " } else { b"," };
        let mut cursor = Cursor { text, at: 0 };
        for (index, short) in numbers[..count].iter().enumerate() {
            let after_row = between.row > 0 && index > 0 && index % between.row == 0;
            for part in [if after_row { b"]" } else { &b""[..] }, comma, if after_row { b"[" } else { b"" }] {
                if index > 0 {
                    prop_assert!(text[cursor.at..].starts_with(part));
                    cursor.at += part.len();
                }
            }
            let number =
                cursor.number().map_err(|error| TestCaseError::fail(format!("{:?}", error.problem)))?;
            prop_assert_eq!(short.end, cursor.at);
            prop_assert_eq!(short.as_f64().to_bits(), number.as_f64().to_bits());
            let integer =
                if let crate::json::number::Number::Int(value) = number { Some(value) } else { None };
            prop_assert_eq!(short.as_i64(), integer);
        }
        Ok(count)
    }

    fn flat(gap: usize) -> Between {
        Between { gap, row: 0 }
    }

    #[test]
    fn numbers_of_every_length_are_read() {
        let rest = " ".repeat(BLOCK + WINDOW);
        let digits = "1234567890123456789";
        let mut read = Vec::new();
        for length in 1..=19 {
            for point in 0..length {
                let (whole, fraction) = digits[..length].split_at(point);
                let text = if point == 0 { fraction.to_owned() } else { format!("{whole}.{fraction}") };
                for text in [format!("-{text}"), text.clone(), format!("0.{}", &digits[..length.min(18)])] {
                    let count = check(format!("{text}, {text},{rest}").as_bytes(), flat(2)).unwrap();
                    // Nineteen digits without a point may be too many for 64 bits.
                    assert_eq!(
                        count,
                        if length == 19 && point == 0 && !text.contains('.') { 0 } else { 2 },
                        "{text}"
                    );
                    read.push(count);
                }
            }
        }
        assert_eq!(read.len(), 570);
    }

    #[test]
    fn others_are_left() {
        let rest = ",1".repeat(BLOCK);
        for text in
            ["", "-", "01", "-01", ".5", "1.", "1.e", "1e5", "1.5E5", "+1", "--1", "1-", "1.2.3", "1..2", "/"]
        {
            assert_eq!(check(format!("{text}{rest}").as_bytes(), flat(1)).unwrap(), 0, "{text}");
        }
        assert_eq!(check(b"1,2,3,4", flat(1)).unwrap(), 0);
        let least = format!("-9.223372036854775808{rest}");
        assert!(check(least.as_bytes(), flat(1)).unwrap() > 0, "all of its digits fit into 64 bits");
        let last = format!("-9999999999999999.999{rest}");
        assert_eq!(check(last.as_bytes(), flat(1)).unwrap(), 0);
    }

    #[test]
    fn rows_end_where_they_have_to() {
        let rest = " ".repeat(BLOCK + WINDOW);
        let count =
            |text: &str, gap, row| check(format!("{text}{rest}").as_bytes(), Between { gap, row }).unwrap();
        assert_eq!(count("1,2],[3,4],[5,6]", 1, 2), 6);
        assert_eq!(count("1, 2], [3, 4], [5, 6]", 2, 2), 6);
        assert_eq!(count("1], [2], [3]", 2, 1), 3);
        assert_eq!(count("1, 2], [3, 4, 5], [6]", 2, 2), 4);
        assert_eq!(count("1, 2], [3], [4, 5]", 2, 2), 3);
        assert_eq!(count("1, 2],[3, 4]", 2, 2), 2);
        assert_eq!(count("1, 2, 3", 2, 2), 2);
        assert_eq!(count(&"1,2,3],[".repeat(20), 1, 3), 30);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5000))]

        #[test]
        fn numbers_are_those_of_the_cursor(
            texts in prop::collection::vec("-?(0|[1-9][0-9]{0,11})(\\.[0-9]{1,18})?", 1..20), spaced in any::<bool>(),
        ) {
            let text = texts.join(if spaced { ", " } else { "," }) + "]" + &" ".repeat(BLOCK + WINDOW);
            let short = texts.iter().take_while(|text| text.len() < WINDOW).count();
            prop_assert!(check(text.as_bytes(), flat(1 + usize::from(spaced)))? >= short);
        }

        #[test]
        fn anything_else_is_left_or_read_alike(
            text in "[-0-9.,eE\\[\\] /]{80,160}", gap in 1usize..3, row in 0usize..4,
        ) {
            check(text.as_bytes(), Between { gap, row })?;
        }

        #[test]
        fn any_bytes(
            bytes in prop::collection::vec(prop_oneof![any::<u8>(), b'0'..=b'9', Just(b'.'), Just(b',')], 80..120),
        ) {
            check(&bytes, flat(1))?;
        }
    }
}
