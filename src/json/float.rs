//! `float` and `double` as text, exactly as TensorFlow Serving prints them (docs/spec/rest.md section 7.3).
//!
//! The rule: printf's `%g`; if that does not read back as the same value, `%.9g` (`float`) or `%.17g` (`double`); then
//! `.0` if the result has neither a point nor an exponent. It is applied in integers, without printing twice and
//! without reading back: a value is `top × 2^e` with a 64-bit `top`, a power of ten is `power × 2^b` with a 64-bit
//! `power`, and their 128-bit product holds the nine or seventeen digits, the remainder that rounds them, and the
//! distance to the number of six digits, in units in which two neighbouring floats are `power << spare bits of top`
//! apart.
//!
//! The powers 10⁰ to 10²⁷ are exact in 64 bits, so values from 10⁻¹¹ to 10⁹ are always decided exactly. The other
//! powers are truncated; where that could matter (about one in 2³⁰ `float`s and one in a few hundred `double`s of such
//! sizes), and for subnormal values, `spelled_out` follows the rule to the letter.

use std::fmt::{LowerExp, Write as _};
use std::str::FromStr;

/// Room for one number; the longest is `-2.2250738585072014e-308`. Wide stores may write beyond the end of the text.
pub type Slot = [u8; 64];

/// A binary floating-point type, as far as printing is concerned.
pub trait Float: Copy + Default + PartialEq + FromStr + LowerExp {
    /// Number of significant digits that always read back.
    const DIGITS: u32;
    /// `10^(DIGITS - 6)`: the part that a number of six digits drops.
    const DROPPED: u64;
    /// In units of the last of `DIGITS` digits: a number of six digits further away than this never reads back. Half
    /// the step between two floats is at most `10^DIGITS / 2^(FRACTION_BITS + 1)`; rounding adds half a unit.
    const NEAR: u64;
    /// Bits of the stored fraction.
    const FRACTION_BITS: u32;
    /// Bits of the stored exponent.
    const EXPONENT_BITS: u32;

    /// Returns the IEEE representation, widened.
    fn bits(self) -> u64;
}

impl Float for f32 {
    const DIGITS: u32 = 9;
    const DROPPED: u64 = 1_000;
    const NEAR: u64 = 61;
    const FRACTION_BITS: u32 = 23;
    const EXPONENT_BITS: u32 = 8;

    #[inline]
    fn bits(self) -> u64 {
        u64::from(self.to_bits())
    }
}

impl Float for f64 {
    const DIGITS: u32 = 17;
    const DROPPED: u64 = 100_000_000_000;
    const NEAR: u64 = 13;
    const FRACTION_BITS: u32 = 52;
    const EXPONENT_BITS: u32 = 11;

    #[inline]
    fn bits(self) -> u64 {
        self.to_bits()
    }
}

/// Writes `value` to the start of `slot` and returns the length of its text.
#[inline]
pub fn write<F: Float>(slot: &mut Slot, value: F) -> usize {
    let bits = value.bits();
    let fraction = bits & ((1 << F::FRACTION_BITS) - 1);
    let highest = (1 << F::EXPONENT_BITS) - 1;
    let exponent = (bits >> F::FRACTION_BITS) as u32 & highest;
    let sign = usize::from(bits >> (F::FRACTION_BITS + F::EXPONENT_BITS) != 0);
    slot[0] = b'-';
    let body = &mut slot[sign..];
    if exponent == highest {
        return if fraction != 0 { put_all(slot, 0, b"NaN") } else { put_all(slot, sign, b"Infinity") };
    }
    if exponent == 0 && fraction == 0 {
        return put_all(slot, sign, b"0.0");
    }
    let decimal = if exponent == 0 { None } else { decimal::<F>(fraction, exponent) };
    sign + lay_out::<F>(body, decimal.unwrap_or_else(|| spelled_out(value, 6)))
}

/// Writes `text` at `start` and returns the index of its end.
#[cold]
fn put_all(slot: &mut Slot, start: usize, text: &[u8]) -> usize {
    slot[start..start + text.len()].copy_from_slice(text);
    start + text.len()
}

/// Writes `text` at `start`, as one store.
#[inline(always)]
pub(super) fn put<const N: usize>(slot: &mut Slot, start: usize, text: [u8; N]) {
    match slot[start..].first_chunk_mut() {
        Some(room) => *room = text,
        None => unreachable!("numbers and what follows them are short"),
    }
}

/// The decimal number to print: `digits × 10^(exponent + 1 - DIGITS)`, with `digits` in `10^(DIGITS - 1)..10^DIGITS`;
/// `precision` is that of the `%g` it results from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Decimal {
    pub(super) digits: u64,
    pub(super) exponent: i32,
    pub(super) precision: i32,
}

/// Returns the decimal number for a normal value, or `None` where the truncated power of ten could make a difference.
#[inline]
fn decimal<F: Float>(fraction: u64, exponent: u32) -> Option<Decimal> {
    let spare = 63 - F::FRACTION_BITS;
    let top = (fraction | 1 << F::FRACTION_BITS) << spare;
    // The value is `top × 2^binary`; the bias makes a fraction with its leading bit a number from 1 to 2.
    let binary = exponent as i32 - (1 << (F::EXPONENT_BITS - 1)) + 1 - 63;
    let mut ten = log10_of_power_of_2(binary + 63);
    // `&` rather than `&&`: a branch here would often be mispredicted.
    ten += i32::from((binary_exponent(ten + 1) == binary) & (top >= power(ten + 1)));

    let scale = F::DIGITS as i32 - 1 - ten;
    let (power, exact) = (power(scale), (0..=27).contains(&scale));
    let product = u128::from(top) * u128::from(power);
    // `digits = product / 2^(64 + shift)`: between 2^126 and 2^128 over up to 57 bits, so `shift` is 6 to 38.
    let shift = (-(binary + binary_exponent(scale)) - 64) as u32 & 63;
    let (high, low) = ((product >> 64) as u64, product as u64);
    let mut digits = ((high >> (shift - 1)) + 1) >> 1;
    let (rest, half) = (high & ((1 << shift) - 1), 1 << (shift - 1));
    if rest == half && exact && low == 0 {
        digits &= !1; // Ties go to even.
    } else if rest == half - 1 && !exact {
        // A truncated power makes the product too small by less than `top`, that is, by less than one unit of `high`.
        return None;
    }

    let six = (digits + F::NEAR) / F::DROPPED;
    if digits + F::NEAR - six * F::DROPPED <= 2 * F::NEAR {
        let target = u128::from(six * F::DROPPED) << (64 + shift);
        let mut reach = u128::from(power) << (spare - 1);
        if target < product && fraction == 0 && exponent > 1 {
            reach /= 2; // Below a power of two, floats are twice as close.
        }
        let distance = product.abs_diff(target);
        let error = if exact { 0 } else { 1 << 65 };
        if distance + error < reach || exact && distance == reach && fraction & 1 == 0 {
            return Some(Decimal { precision: 6, ..carried::<F>(six * F::DROPPED, ten) });
        }
        if distance <= reach + error && !exact {
            return None;
        }
    }
    Some(carried::<F>(digits, ten))
}

/// Reduces a number that was rounded up to `10^DIGITS` to `DIGITS` digits again.
#[inline]
fn carried<F: Float>(digits: u64, exponent: i32) -> Decimal {
    let precision = F::DIGITS as i32;
    if digits == 10u64.pow(F::DIGITS) {
        Decimal { digits: digits / 10, exponent: exponent + 1, precision }
    } else {
        Decimal { digits, exponent, precision }
    }
}

/// Follows the rule to the letter: prints exactly, with `short` digits and reads back, otherwise with all digits.
#[cold]
fn spelled_out<F: Float>(value: F, short: u32) -> Decimal {
    let text = Scientific::new(value, short);
    if text.text().parse().is_ok_and(|read: F| read == value) {
        let (digits, exponent) = text.parts();
        return Decimal { digits: digits * 10u64.pow(F::DIGITS - short), exponent, precision: short as i32 };
    }
    let (digits, exponent) = Scientific::new(value, F::DIGITS).parts();
    Decimal { digits, exponent, precision: F::DIGITS as i32 }
}

/// Formats JSON numbers as protobuf does: `%.<short>g`, or all digits if that does not read back; no `.0`.
pub fn short_or_exact<F: Float>(value: F, short: u32) -> String {
    let mut slot = [0; 64];
    let mut length = write(&mut slot, value);
    let finite = slot[..length].last().is_some_and(u8::is_ascii_digit);
    if finite && value != F::default() {
        let sign = usize::from(slot[0] == b'-');
        length = sign + lay_out::<F>(&mut slot[sign..], spelled_out(value, short));
    }
    let text = String::from_utf8_lossy(&slot[..length]);
    text.strip_suffix(".0").unwrap_or(&text).to_owned()
}

/// A value in scientific notation, exactly rounded to a given number of digits: `-1.5e-7`.
struct Scientific {
    bytes: [u8; 40],
    length: usize,
}

impl Scientific {
    fn new(value: impl LowerExp, digits: u32) -> Scientific {
        let mut text = Scientific { bytes: [0; 40], length: 0 };
        // Cannot fail: at most 17 digits, a sign, a point and an exponent of four characters.
        let _ = write!(text, "{value:.*e}", digits as usize - 1);
        text
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.length]).unwrap_or_default()
    }

    /// Returns all digits as one number, and the exponent of the first one.
    fn parts(&self) -> (u64, i32) {
        let (number, exponent) = self.text().split_once('e').unwrap_or_default();
        let digits = number.bytes().filter(u8::is_ascii_digit);
        (
            digits.fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')),
            exponent.parse().unwrap_or_default(),
        )
    }
}

impl std::fmt::Write for Scientific {
    fn write_str(&mut self, part: &str) -> std::fmt::Result {
        let room = self.bytes.get_mut(self.length..self.length + part.len()).ok_or(std::fmt::Error)?;
        room.copy_from_slice(part.as_bytes());
        self.length += part.len();
        Ok(())
    }
}

/// Writes a decimal number as `%g` does, with `.0` added, and returns the length. Only stores: digits are shifted in
/// registers, because reading back what was just stored elsewhere would stall.
#[inline]
pub(super) fn lay_out<F: Float>(slot: &mut [u8], decimal: Decimal) -> usize {
    let Decimal { exponent, precision, .. } = decimal;
    let Ascii { first, rest, count } = ascii::<F>(decimal.digits);
    if (0..precision).contains(&exponent) {
        let whole = exponent as usize;
        slot[0] = first;
        put_wide(slot, 1, rest);
        slot[whole + 1] = b'.';
        // In two halves, because the point may follow all digits. Zero digits are shifted in.
        let half = 4 * (exponent as u32 & 31);
        put_wide(slot, whole + 2, (rest >> half >> half) | WIDE_ZEROS);
        count.max(whole + 2) + 1
    } else if (-4..0).contains(&exponent) {
        let start = 1 + exponent.unsigned_abs() as usize;
        slot[..8].copy_from_slice(b"0.000000");
        slot[start] = first;
        put_wide(slot, start + 1, rest);
        start + count
    } else {
        slot[..2].copy_from_slice(&[first, b'.']);
        put_wide(slot, 2, rest);
        let end = if count == 1 { 1 } else { count + 1 };
        end + put_exponent(&mut slot[end..], exponent)
    }
}

/// Stores 16 characters, the first in the lowest byte.
#[inline]
fn put_wide(slot: &mut [u8], start: usize, text: u128) {
    slot[start..start + 16].copy_from_slice(&text.to_le_bytes());
}

/// Writes a sign and at least two digits (`e+06`, `e-324`) and returns the length.
#[inline]
fn put_exponent(slot: &mut [u8], exponent: i32) -> usize {
    let size = exponent.unsigned_abs();
    let [hundreds, tens, units] = [size / 100, size / 10 % 10, size % 10].map(|digit| b'0' + digit as u8);
    slot[..2].copy_from_slice(if exponent < 0 { b"e-" } else { b"e+" });
    if size < 100 {
        slot[2..4].copy_from_slice(&[tens, units]);
        4
    } else {
        slot[2..5].copy_from_slice(&[hundreds, tens, units]);
        5
    }
}

/// A number of `DIGITS` digits as text.
struct Ascii {
    first: u8,
    /// The other digits, the second in the lowest byte, followed by zeros.
    rest: u128,
    /// Number of digits without trailing zeros, at least one.
    count: usize,
}

#[inline]
fn ascii<F: Float>(digits: u64) -> Ascii {
    let upper = digits / 100_000_000;
    let lower = eight_digits(digits % 100_000_000);
    let (first, rest) = if F::DIGITS == 9 {
        (upper, lower.into())
    } else {
        let middle = eight_digits(upper % 100_000_000);
        (upper / 100_000_000, u128::from(lower) << 64 | u128::from(middle))
    };
    let count = 17 - rest.leading_zeros() as usize / 8;
    Ascii { first: b'0' + first as u8, rest: rest | WIDE_ZEROS, count }
}

/// Sixteen `0` characters.
const WIDE_ZEROS: u128 = 0x3030_3030_3030_3030_3030_3030_3030_3030;

/// Returns the eight digits of `number` as eight bytes from 0 to 9, the first digit in the lowest byte. Halves twice,
/// all lanes at once: `10486 / 2^20` and `103 / 2^10` are a hundredth and a tenth, precise enough for their lanes.
#[inline]
pub(super) fn eight_digits(number: u64) -> u64 {
    let fours = (number / 10_000) | ((number % 10_000) << 32);
    let hundreds = ((fours * 10_486) >> 20) & 0x7F_0000_007F;
    let twos = hundreds | ((fours - hundreds * 100) << 16);
    let tens = ((twos * 103) >> 10) & 0x0F_000F_000F_000F;
    tens | ((twos - tens * 10) << 8)
}

/// `floor(log10(2^exponent))`, for the exponents of doubles.
#[inline]
pub(super) const fn log10_of_power_of_2(exponent: i32) -> i32 {
    (exponent * 315_653) >> 20
}

/// The `b` for which `10^ten = power × 2^b` with a `power` of 64 bits, for the exponents of doubles.
#[inline]
pub(super) const fn binary_exponent(ten: i32) -> i32 {
    ((ten * 217_706) >> 16) - 63
}

/// Returns the leading 64 bits of `10^ten`, truncated.
#[inline]
pub(super) const fn power(ten: i32) -> u64 {
    POWERS[(ten - LOWEST_POWER) as usize]
}

/// The decade above the least normal `f64`.
const LOWEST_POWER: i32 = -307;
/// The power that scales that decade to 17 digits.
const HIGHEST_POWER: i32 = 324;
const LIMBS: usize = 13;

/// The leading 64 bits of every power of ten, which are those of the power of five.
static POWERS: [u64; (HIGHEST_POWER - LOWEST_POWER + 1) as usize] = {
    let mut powers = [0; (HIGHEST_POWER - LOWEST_POWER + 1) as usize];
    // Upwards, exact. Downwards, 5^-n is 2^831 divided by five n times, truncated, which leaves more than 64 bits.
    let mut up = [0; LIMBS];
    up[0] = 1;
    let mut ten = 0;
    while ten <= HIGHEST_POWER {
        powers[(ten - LOWEST_POWER) as usize] = leading_bits(&up);
        up = times_five(up);
        ten += 1;
    }
    let mut down = [0; LIMBS];
    down[LIMBS - 1] = 1 << 63;
    ten = 0;
    while ten >= LOWEST_POWER {
        powers[(ten - LOWEST_POWER) as usize] = leading_bits(&down);
        down = divided_by_five(down);
        ten -= 1;
    }
    powers
};

/// Returns the leading 64 bits of a non-zero number, lowest limb first.
const fn leading_bits(limbs: &[u64; LIMBS]) -> u64 {
    let mut top = LIMBS - 1;
    while limbs[top] == 0 {
        top -= 1;
    }
    let spare = limbs[top].leading_zeros();
    if spare == 0 || top == 0 {
        limbs[top] << spare
    } else {
        limbs[top] << spare | limbs[top - 1] >> (64 - spare)
    }
}

const fn times_five(mut limbs: [u64; LIMBS]) -> [u64; LIMBS] {
    let (mut carry, mut limb) = (0, 0);
    while limb < LIMBS {
        let product = limbs[limb] as u128 * 5 + carry;
        limbs[limb] = product as u64;
        carry = product >> 64;
        limb += 1;
    }
    limbs
}

const fn divided_by_five(mut limbs: [u64; LIMBS]) -> [u64; LIMBS] {
    let (mut remainder, mut limb) = (0, LIMBS);
    while limb > 0 {
        limb -= 1;
        let dividend = remainder << 64 | limbs[limb] as u128;
        limbs[limb] = (dividend / 5) as u64;
        remainder = dividend % 5;
    }
    limbs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text<F: Float>(value: F) -> String {
        let mut slot = [0; 64];
        let length = write(&mut slot, value);
        String::from_utf8(slot[..length].to_vec()).unwrap()
    }

    /// printf's `%.<precision>g`, from its definition.
    fn general<F: Float>(value: F, precision: usize) -> String {
        let scientific = format!("{:.*e}", precision - 1, value);
        let (number, exponent) = scientific.split_once('e').unwrap();
        let exponent: i32 = exponent.parse().unwrap();
        let trim = |text: &str| match text.contains('.') {
            true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
            false => text.to_owned(),
        };
        if exponent < -4 || exponent >= precision as i32 {
            let sign = if exponent < 0 { '-' } else { '+' };
            return format!("{}e{sign}{:02}", trim(number), exponent.abs());
        }
        let (sign, number) = number.strip_prefix('-').map_or(("", number), |rest| ("-", rest));
        let digits = number.replace('.', "");
        let plain = if exponent < 0 {
            format!("0.{}{digits}", "0".repeat(-exponent as usize - 1))
        } else {
            format!("{}.{}", &digits[..=exponent as usize], &digits[exponent as usize + 1..])
        };
        format!("{sign}{}", trim(&plain))
    }

    /// The rule of docs/spec/rest.md section 7.3, to the letter.
    fn by_the_rule<F: Float>(value: F) -> String {
        let mut text = general(value, 6);
        if !text.parse().is_ok_and(|read: F| read == value) {
            text = general(value, F::DIGITS as usize);
        }
        if !text.contains(['.', 'e']) {
            text += ".0";
        }
        text
    }

    #[track_caller]
    fn check<F: Float>(value: F) {
        assert_eq!(text(value), by_the_rule(value), "bits {:#x}", value.bits());
    }

    /// A fixed sequence of well-mixed numbers (SplitMix64).
    fn numbers() -> impl Iterator<Item = u64> {
        let mut state = 0u64;
        std::iter::repeat_with(move || {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mixed = (state ^ state >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
            mixed ^ mixed >> 31
        })
    }

    fn check_float_bits(bits: u32) {
        let value = f32::from_bits(bits);
        if value.is_finite() {
            check(value);
        }
    }

    fn check_double_bits(bits: u64) {
        let value = f64::from_bits(bits);
        if value.is_finite() {
            check(value);
        }
    }

    #[test]
    fn the_table_of_the_specification() {
        let floats = [
            (0.0f32, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (-1.5, "-1.5"),
            (100_000.0, "100000.0"),
            (1_000_000.0, "1e+06"),
            (9_000_000.0, "9e+06"),
            (999_999.0, "999999.0"),
            (1_234_567.0, "1234567.0"),
            (16_777_216.0, "16777216.0"),
            (0.000_01, "1e-05"),
            (0.0001, "0.0001"),
            (1.0 / 3.0, "0.333333343"),
            (1e-45, "1.4013e-45"),
            (61_730.395, "61730.3945"),
            (f32::MAX, "3.40282347e+38"),
            (f32::MIN_POSITIVE, "1.17549435e-38"),
            (f32::NAN, "NaN"),
            (-f32::NAN, "NaN"),
            (f32::INFINITY, "Infinity"),
            (f32::NEG_INFINITY, "-Infinity"),
        ];
        for (value, expected) in floats {
            assert_eq!(text(value), expected);
        }
        let doubles = [
            (1.0 / 3.0, "0.33333333333333331"),
            (0.1, "0.1"),
            (123_456_789.0, "123456789.0"),
            (5e-324, "4.94066e-324"),
            (1e22, "1e+22"),
            (0.123_456_789_012_3, "0.12345678901230001"),
            (1e100, "1e+100"),
            (-2.5, "-2.5"),
            (-f64::MIN_POSITIVE, "-2.2250738585072014e-308"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ];
        for (value, expected) in doubles {
            assert_eq!(text(value), expected);
        }
    }

    #[test]
    fn the_powers_are_those_of_ten() {
        for ten in LOWEST_POWER..=HIGHEST_POWER {
            let expected = (f64::from(ten) * std::f64::consts::LOG2_10).floor() as i32 - 63;
            assert_eq!(binary_exponent(ten), expected);
            assert_eq!(power(ten) >> 63, 1);
            if (0..=27).contains(&ten) {
                let (power, binary) = (u128::from(power(ten)), binary_exponent(ten));
                assert_eq!(power << binary.max(0), 10u128.pow(ten as u32) << (-binary).max(0));
            }
            // A truncated power is never mistaken for the exact value: its last bits, which a double has to spare, are
            // not zero.
            assert!((0..=27).contains(&ten) || !power(ten).is_multiple_of(1 << 11));
        }
        for exponent in -1074..1024 {
            let expected = (f64::from(exponent) * std::f64::consts::LOG10_2).floor() as i32;
            assert_eq!(log10_of_power_of_2(exponent), expected);
        }
        assert_eq!(power(-1), 0xCCCC_CCCC_CCCC_CCCC);
        assert_eq!(power(28), 0x813F_3978_F894_0984);
    }

    #[test]
    fn eight_digits_are_split() {
        for number in numbers().take(10_000).map(|number| number % 100_000_000).chain([0, 99_999_999]) {
            assert_eq!(
                eight_digits(number).to_le_bytes().map(|digit| digit + b'0'),
                format!("{number:08}").as_bytes()
            );
        }
    }

    #[test]
    fn edges_of_every_exponent() {
        for exponent in 0..255u32 {
            for fraction in [0, 1, 2, 3, 1 << 22, (1 << 22) + 1, (1 << 23) - 2, (1 << 23) - 1] {
                check_float_bits(exponent << 23 | fraction);
                check_float_bits(1 << 31 | exponent << 23 | fraction);
            }
        }
        for exponent in 0..2047u64 {
            for fraction in [0, 1, 2, 1 << 51, (1 << 52) - 2, (1 << 52) - 1] {
                check_double_bits(exponent << 52 | fraction);
            }
        }
    }

    #[test]
    fn around_numbers_of_few_digits() {
        for (random, ten) in numbers().zip((-46..40).cycle()).take(30_000) {
            for digits in [1, 10, 100, 100_000, 1_000_000, 10_000_000] {
                let text = format!("{}e{ten}", random % digits);
                let float: f32 = text.parse().unwrap();
                let double: f64 = text.parse().unwrap();
                for step in 0..3 {
                    check_float_bits(float.to_bits().wrapping_add(step).wrapping_sub(1));
                    check_double_bits(double.to_bits().wrapping_add(step.into()).wrapping_sub(1));
                }
            }
        }
    }

    #[test]
    fn ties_are_rounded_to_even() {
        for random in numbers().take(20_000) {
            // Few fraction bits give exact decimals that end in 5, at every number of digits.
            let (whole, bits) = (random % (1 << 24), random >> 24 & 31);
            check(whole as f32 / (1u64 << bits) as f32);
            check(whole as f32 * (1u64 << bits) as f32);
            let (whole, bits) = (random % (1 << 53), random >> 56 & 63);
            check(whole as f64 / (1u64 << bits) as f64);
            check(whole as f64 * (1u64 << bits) as f64);
        }
    }

    #[test]
    fn random_bits() {
        for bits in numbers().take(200_000) {
            check_float_bits(bits as u32);
            check_double_bits(bits);
        }
    }

    #[test]
    fn random_fractions_and_logits() {
        for random in numbers().take(100_000) {
            let unit = (random >> 40) as f32 / (1 << 24) as f32;
            check(unit);
            check((unit - 0.5) * 255.0);
            check(f64::from(unit) * 1e-3);
            check((random >> 11) as f64 / (1u64 << 53) as f64);
        }
    }

    /// [`random_bits`] with more values than a debug build has time for: `cargo test --release -- --ignored float`.
    #[test]
    #[ignore = "takes a minute in a release build"]
    fn many_random_bits() {
        for bits in numbers().take(20_000_000) {
            check_float_bits(bits as u32);
            check_double_bits(bits);
        }
    }
}
