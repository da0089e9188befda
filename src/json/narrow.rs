//! `half` and `bfloat16`, which TensorFlow Serving's JSON has no form for (docs/spec/rest.md section 6.1).
//!
//! Reading: a literal is rounded once, to nearest, ties to even, whatever its length. A double that is near the middle of
//! two numbers does not tell on which side of it the literal is; then the literal's digits decide. Printing: the shortest
//! decimal number that reads back as the same value, laid out like a float.

use super::float::{self, Decimal, Slot, lay_out};
use crate::tensor::DType;
use std::cmp::Ordering;

/// A floating-point type of 16 bits, whose numbers are held as their representation.
pub trait Narrow {
    /// The dtype.
    const DTYPE: DType;
    /// Bits of the stored fraction.
    const FRACTION_BITS: u32;
    /// The exponent of the largest numbers.
    const MOST: i32 = (1 << (14 - Self::FRACTION_BITS)) - 1;
}

/// IEEE 754's binary16.
pub struct Half;

/// The upper half of a float.
pub struct BFloat16;

impl Narrow for Half {
    const DTYPE: DType = DType::Half;
    const FRACTION_BITS: u32 = 10;
}

impl Narrow for BFloat16 {
    const DTYPE: DType = DType::BFloat16;
    const FRACTION_BITS: u32 = 7;
}

/// The sign of a representation.
const SIGN: u16 = 0x8000;

/// Returns the number that `bits` represents.
#[inline(always)]
fn value<N: Narrow>(bits: u16) -> f64 {
    let magnitude = u64::from(bits & !SIGN);
    let (exponent, fraction) = (magnitude >> N::FRACTION_BITS, magnitude & ((1 << N::FRACTION_BITS) - 1));
    let magnitude = if exponent == 0 {
        fraction as f64 * power_of_2(1 - N::MOST - N::FRACTION_BITS as i32)
    } else {
        let is_finite = exponent as i32 <= 2 * N::MOST;
        let exponent = if is_finite { exponent + 1023 - N::MOST as u64 } else { 0x7FF };
        f64::from_bits(exponent << 52 | fraction << (52 - N::FRACTION_BITS))
    };
    f64::from_bits(magnitude.to_bits() | u64::from(bits & SIGN) << 48)
}

/// Returns `2^exponent`, a normal double.
#[inline(always)]
const fn power_of_2(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

/// A double between two neighbours of a narrow type, or on one.
struct Between {
    /// The sign, in its place.
    sign: u16,
    /// The representation of the neighbour that is nearer to zero, without sign. The other one is 1 more.
    lower: u16,
    /// The distance from it, and half of that between the two.
    rest: u64,
    half: u64,
}

impl Between {
    /// Finds the neighbours of `value`, which is no NaN. Beyond the largest number, the upper one is infinity.
    #[inline(always)]
    fn of<N: Narrow>(value: f64) -> Between {
        let bits = value.to_bits();
        let sign = (bits >> 48) as u16 & SIGN;
        let exponent = (bits >> 52) as i32 & 0x7FF;
        // A subnormal double counts as one, which is far below the least narrow number, too.
        let significand = bits & ((1 << 52) - 1) | 1 << 52;
        let exponent = exponent - 1023;
        if exponent > N::MOST {
            let infinity = (!SIGN >> N::FRACTION_BITS) << N::FRACTION_BITS;
            return Between { sign, lower: infinity, rest: 0, half: 1 << 32 };
        }
        let below = (1 - N::MOST - exponent).max(0) as u32;
        let shift = 52 - N::FRACTION_BITS + below;
        if shift > 60 {
            return Between { sign, lower: 0, rest: 0, half: 1 << 32 };
        }
        let kept = (significand >> shift) as u16;
        // The significand's first bit adds 1 to the exponent of a normal number.
        let exponent = if below > 0 { 0 } else { (exponent + N::MOST - 1) as u16 };
        let lower = (exponent << N::FRACTION_BITS) + kept;
        Between { sign, lower, rest: significand & ((1 << shift) - 1), half: 1 << (shift - 1) }
    }

    /// Returns whether the middle is so near that a double which is not rounded correctly may be on its other side, or on it.
    #[inline(always)]
    fn is_near_the_middle(&self) -> bool {
        /// In places of a double. The digits of the longest literal within its range, 309, and the powers of ten each cost
        /// one at most (see `rounding`).
        const NEAR: u64 = 4096;
        self.rest.abs_diff(self.half) <= NEAR
    }

    /// Returns the neighbour that is nearer to what compares to the middle like `order`.
    #[inline(always)]
    fn nearest(&self, order: Ordering) -> u16 {
        let up = match order {
            Ordering::Less => 0,
            Ordering::Equal => self.lower & 1,
            Ordering::Greater => 1,
        };
        self.sign | (self.lower + up)
    }
}

/// Returns the number nearest to a literal that was read as `value`; `None` if only the literal's digits can tell.
#[inline(always)]
pub(super) fn nearest<N: Narrow>(value: f64) -> Option<u16> {
    if value.is_nan() {
        return Some((!SIGN >> (N::FRACTION_BITS - 1)) << (N::FRACTION_BITS - 1));
    }
    let between = Between::of::<N>(value);
    let order = between.rest.cmp(&between.half);
    (!between.is_near_the_middle()).then(|| between.nearest(order))
}

/// Returns the number nearest to `value` itself.
#[inline(always)]
pub(crate) fn nearest_to_double<N: Narrow>(value: f64) -> u16 {
    nearest::<N>(value).unwrap_or_else(|| {
        let between = Between::of::<N>(value);
        between.nearest(between.rest.cmp(&between.half))
    })
}

/// Returns the number nearest to `literal`, which follows JSON's grammar for numbers and is within a double's range.
#[cold]
pub(crate) fn nearest_to_text<N: Narrow>(literal: &[u8]) -> u16 {
    let value: f64 = std::str::from_utf8(literal).ok().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN);
    // Correctly rounded, so that a double beside the middle is on the literal's side of it.
    let between = Between::of::<N>(value);
    let mut order = between.rest.cmp(&between.half);
    if order == Ordering::Equal {
        order = compared(literal, value.abs());
    }
    between.nearest(order)
}

/// Compares the magnitude of `literal` with `middle`, to which it is equal when rounded to a double.
fn compared(literal: &[u8], middle: f64) -> Ordering {
    /// More digits than any of these has: the least, 2⁻¹³⁴, has 94.
    const ALL: usize = 160;
    let exact = format!("{middle:.ALL$e}");
    let (literal, exact) = (Digits::of(literal), Digits::of(exact.as_bytes()));
    literal.exponent.cmp(&exact.exponent).then_with(|| {
        let (mut left, mut right) = (literal.significant(), exact.significant());
        loop {
            match (left.next(), right.next()) {
                (None, None) => return Ordering::Equal,
                (left, right) => match left.unwrap_or(b'0').cmp(&right.unwrap_or(b'0')) {
                    Ordering::Equal => {}
                    other @ (Ordering::Less | Ordering::Greater) => return other,
                },
            }
        }
    })
}

/// The digits of a decimal number that is not zero.
struct Digits<'t> {
    /// Up to the exponent, with leading zeros and a point.
    text: &'t [u8],
    /// That of the first digit that is not zero.
    exponent: i64,
}

impl Digits<'_> {
    fn of(literal: &[u8]) -> Digits<'_> {
        let end = memchr::memchr2(b'e', b'E', literal).unwrap_or(literal.len());
        let (text, exponent) = literal.split_at(end);
        let exponent = std::str::from_utf8(exponent.get(1..).unwrap_or_default()).unwrap_or_default();
        // Beyond 64 bits, the number would not be near any that is narrow.
        let exponent: i64 = exponent.trim_start_matches('+').parse().unwrap_or(0);
        let text = text.strip_prefix(b"-").unwrap_or(text);
        let point = memchr::memchr(b'.', text).unwrap_or(text.len()) as i64;
        let first = text.iter().position(|byte| (b'1'..=b'9').contains(byte)).unwrap_or(0) as i64;
        let place = if first < point { point - first - 1 } else { point - first };
        Digits { text, exponent: exponent + place }
    }

    fn significant(&self) -> impl Iterator<Item = u8> {
        self.text.iter().copied().filter(u8::is_ascii_digit).skip_while(|digit| *digit == b'0')
    }
}

/// Writes the number that `bits` represents to the start of `slot`, and returns the length of its text.
pub(super) fn write<N: Narrow>(slot: &mut Slot, bits: u16) -> usize {
    let number = value::<N>(bits);
    if !number.is_finite() || number == 0.0 {
        return float::write(slot, number);
    }
    let sign = usize::from(bits & SIGN != 0);
    slot[0] = b'-';
    sign + lay_out::<f32>(&mut slot[sign..], shortest::<N>(bits & !SIGN))
}

/// Returns the decimal number of the fewest digits that reads back as the positive number that `bits` represents; of
/// several, the nearest.
fn shortest<N: Narrow>(bits: u16) -> Decimal {
    /// As many are always enough.
    const MOST_DIGITS: i32 = 5;
    let number = value::<N>(bits);
    let mut exponent = number.log10().floor() as i32;
    exponent -= i32::from(number < times_power_of_10(1.0, exponent));
    for digits in 1..=MOST_DIGITS {
        let scale = digits - 1 - exponent;
        let scaled = times_power_of_10(number, scale);
        let down = scaled.floor();
        let (near, far) = if scaled - down <= 0.5 { (down, down + 1.0) } else { (down + 1.0, down) };
        for candidate in [near, far] {
            if reads_back::<N>(bits, candidate, scale) {
                return decimal(candidate as u64, exponent, digits as u32);
            }
        }
    }
    // Never: with so many digits, neighbours differ.
    decimal(0, 0, 1)
}

/// Returns whether the integer `digits`, times `10^-scale`, reads back as what `bits` represents.
fn reads_back<N: Narrow>(bits: u16, digits: f64, scale: i32) -> bool {
    let read = nearest::<N>(times_power_of_10(digits, -scale));
    read.unwrap_or_else(|| nearest_to_text::<N>(format!("{digits}e{}", -scale).as_bytes())) == bits
}

/// Returns the decimal number with these `count` digits, of which the first has the `exponent`.
fn decimal(digits: u64, exponent: i32, count: u32) -> Decimal {
    /// Those of a [`Decimal`].
    const ROOM: u32 = 9;
    // Rounded up, they may be one more.
    let carry = u32::from(digits == 10u64.pow(count));
    let digits = digits * 10u64.pow(ROOM - count - carry);
    Decimal { digits, exponent: exponent + carry as i32, precision: 6 }
}

/// Returns `value × 10^exponent`, rounded twice at most; the exponent is that of a float.
#[inline(always)]
fn times_power_of_10(value: f64, exponent: i32) -> f64 {
    super::rounding::scaled(value, exponent.into())
}

#[cfg(test)]
mod tests;
