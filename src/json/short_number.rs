//! JSON numbers of up to fifteen characters, read in one step without branches on their digits.
//!
//! Numbers of one list differ in sign, length and place of the point, so that every branch on these would often be
//! mispredicted. All of them follow from the places of the first two bytes that are no digits.

use crate::json::number::{POWERS, eight_digits, long_digits};
use crate::json::rounding::{self, EXACT_POWERS, LAST_EXACT};

/// Eight `0` characters.
const ZEROS: u64 = 0x3030_3030_3030_3030;
/// Bytes that are looked at.
const WINDOW: usize = 16;

/// A number without an exponent, of at most nineteen digits, or eighteen without a point.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct ShortNumber {
    pub(crate) negative: bool,
    /// All digits as one integer.
    pub(crate) mantissa: u64,
    /// Number of digits after the point; 0 without a point.
    pub(crate) fraction: usize,
    /// The position after the number.
    pub(crate) end: usize,
}

impl ShortNumber {
    /// Returns the value of an integer.
    #[inline(always)]
    pub(crate) fn as_i64(self) -> Option<i64> {
        let value = self.mantissa as i64;
        (self.fraction == 0).then(|| if self.negative { -value } else { value })
    }

    /// Returns the value. Up to fifteen digits are exact in a double, and so is the power of ten.
    #[inline(always)]
    pub(crate) fn as_f64(self) -> f64 {
        let magnitude = if self.mantissa <= LAST_EXACT || self.fraction == 0 {
            self.mantissa as i64 as f64 / EXACT_POWERS[self.fraction.min(EXACT_POWERS.len() - 1)]
        } else {
            let (value, left) = long_digits(self.mantissa, self.fraction);
            rounding::scaled(value, left - self.fraction as i64)
        };
        // As an integer, `-0` is `0`.
        let negative = self.negative & ((self.fraction > 0) | (self.mantissa > 0));
        f64::from_bits(magnitude.to_bits() | u64::from(negative) << 63)
    }
}

/// Returns the number at `at`. `None`, which says nothing about the text, if it is longer than that or no number.
#[inline(always)]
pub(crate) fn short_number(text: &[u8], at: usize) -> Option<ShortNumber> {
    let rest = text.get(at..)?;
    let padded;
    let window = match rest.first_chunk::<WINDOW>() {
        Some(window) => window,
        None => {
            padded = last_window(rest);
            &padded
        }
    };
    let (low, high) = (word(window, 0)?, word(window, 8)?);
    let negative = low as u8 == b'-';
    let sign = usize::from(negative);
    // Without the sign; another byte that is no digit remains at 0.
    let others = (other(low) | other(high) << 8 | !0 << WINDOW) >> sign;
    let (low, high) = ((low >> (8 * sign)) | ((high << 56) * sign as u64), high >> (8 * sign));
    let point = others.trailing_zeros() as usize;
    let second = (others & others.wrapping_sub(1)).trailing_zeros() as usize;

    let has_point = (low >> (8 * point % 64)) as u8 == b'.';
    let end = if has_point { second } else { point };
    let fraction = if has_point { second.wrapping_sub(point + 1) } else { 0 };
    // One digit or several without a leading zero, up to the point in the lower half; digits after a point; an end.
    let leading_zero = (low as u8 == b'0') & (point != 1);
    if point == 0 || point > 7 || leading_zero || end >= WINDOW - sign || has_point && fraction == 0 {
        return None;
    }
    // No exponent.
    if window[(end + sign) % WINDOW] | 0x20 == b'e' {
        return None;
    }
    // Without the point: what follows it moves down by a byte.
    let before = (1u64 << (8 * point)) - 1;
    let joined = (low & before) | ((low >> 8 | high << 56) & !before);
    let digits = end - usize::from(has_point);
    let mantissa = if digits <= 8 {
        value(joined, digits)
    } else {
        value(joined, 8) * POWERS[(digits - 8) % 8] + value(high >> 8, digits - 8)
    };
    Some(ShortNumber { negative, mantissa, fraction, end: at + sign + end })
}

/// Returns the last bytes of a text, followed by NULs, which end a number as the end of the text does.
#[cold]
fn last_window(rest: &[u8]) -> [u8; WINDOW] {
    let mut window = [0; WINDOW];
    window[..rest.len()].copy_from_slice(rest);
    window
}

/// Returns the value of the first `count` digits, 1 to 8, of `text` (first byte lowest).
#[inline(always)]
fn value(text: u64, count: usize) -> u64 {
    eight_digits((text ^ ZEROS) << ((64 - 8 * count) % 64))
}

#[inline(always)]
fn word(window: &[u8], start: usize) -> Option<u64> {
    window.get(start..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

/// Returns a bit for each byte of `text` that is no digit, the first lowest. Unreliable after a byte above 127, which
/// ends a number.
#[inline(always)]
fn other(text: u64) -> u32 {
    let values = text ^ ZEROS;
    // Sets the high bit of every byte above 9; carries only come from bytes above 127.
    let high = (values.wrapping_add(0x7676_7676_7676_7676) | values) & 0x8080_8080_8080_8080;
    // Brings the bits together in the highest byte.
    ((high >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::cursor::Cursor;
    use crate::json::number::Number;
    use proptest::prelude::*;

    /// Whatever is read in one step is what [`Cursor::number`] reads.
    fn check(text: &[u8]) -> Result<bool, TestCaseError> {
        let Some(short) = short_number(text, 0) else { return Ok(false) };
        let mut cursor = Cursor { text, at: 0 };
        let number = cursor.number().map_err(|error| TestCaseError::fail(format!("{:?}", error.problem)))?;
        prop_assert_eq!(short.end, cursor.at);
        prop_assert_eq!(short.as_f64().to_bits(), number.as_f64().to_bits());
        let integer = if let Number::Int(value) = number { Some(value) } else { None };
        prop_assert_eq!(short.as_i64(), integer);
        Ok(true)
    }

    #[test]
    fn short_numbers_are_read_and_others_are_left() {
        let read = |text: &str| short_number(format!("{text}, 1.0, 2.0, 3.0").as_bytes(), 0).is_some();
        for text in
            ["0", "-0", "-0.0", "7", "1234567", "-1234567", "0.1234567890123", "1234567.8", "-0.123456789012"]
        {
            assert!(read(text), "{text}");
        }
        for text in [
            "",
            "-",
            "01",
            "-01",
            ".5",
            "1.",
            "1.e",
            "1e5",
            "1.5E5",
            "+1",
            "12345678",
            "0.12345678901234",
            "--1",
        ] {
            assert!(!read(text), "{text}");
        }
        assert!(short_number(b"", 0).is_none());
        assert!(short_number(b"", 1).is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5000))]

        #[test]
        fn numbers_are_those_of_the_cursor(
            text in "-?(0|[1-9][0-9]{0,6})(\\.[0-9]{1,5})?", rest in "([,\\] }\n][0-9.,e -]{0,20})?",
        ) {
            let text = text + &rest;
            prop_assert!(check(text.as_bytes())?, "{}", text);
        }

        #[test]
        fn anything_else_is_left_or_read_alike(text in "[-0-9.,eE\\[ ]{0,24}") {
            check(text.as_bytes())?;
        }

        #[test]
        fn any_bytes(bytes in prop::collection::vec(prop_oneof![any::<u8>(), b'0'..=b'9', Just(b'.')], 0..24)) {
            check(&bytes)?;
        }
    }
}
