//! Doubles in error texts, by the Grisu2 algorithm (Florian Loitsch, "Printing floating-point numbers quickly and
//! accurately with integers", PLDI 2010).
//!
//! The result always reads back as the same double. TensorFlow Serving's JSON library prints with this algorithm, so the
//! numbers quoted in its errors have exactly these digits. The shortest closest digits, which Rust prints, would not do:
//! of a million doubles from 0 to 1, 0.04 % are longer here and 25 % end in another digit (of random bit patterns 0.08 %
//! and 32 %). Numbers of up to six digits are the same.

use std::sync::LazyLock;

/// A 64-bit significand and a power of two.
#[derive(Clone, Copy)]
struct Float {
    significand: u64,
    exponent: i32,
}

impl Float {
    fn normalized(self) -> Float {
        let shift = self.significand.leading_zeros();
        // At most 63.
        Float { significand: self.significand << shift, exponent: self.exponent - shift as i32 }
    }

    /// Returns the product, rounded to 64 bits.
    fn times(self, other: Float) -> Float {
        let product = u128::from(self.significand) * u128::from(other.significand);
        let rounded = (product >> 64) as u64 + ((product >> 63) as u64 & 1);
        Float { significand: rounded, exponent: self.exponent + other.exponent + 64 }
    }
}

const FIRST_POWER: i32 = -348;
const POWER_STEP: i32 = 8;

/// 10⁻³⁴⁸, 10⁻³⁴⁰, … 10³⁴⁰, each rounded to 64 bits.
static POWERS: LazyLock<Vec<Float>> =
    LazyLock::new(|| (0..87).map(|index| power_of_ten(FIRST_POWER + POWER_STEP * index)).collect());

/// Returns the digits of `value`, which must be finite and positive, and the power of ten of the last digit.
pub(super) fn digits(value: f64) -> (Vec<u8>, i32) {
    let (exact, lower, upper) = boundaries(value);
    let index = power_index(upper.exponent);
    let power = POWERS[index];
    let exact = exact.times(power);
    let mut upper = upper.times(power);
    let mut lower = lower.times(power);
    // Each product may be off by one unit: the interval shrinks by that much, to be safe.
    lower.significand += 1;
    upper.significand -= 1;
    let last = -(FIRST_POWER + POWER_STEP * index as i32);
    generate(exact, upper, upper.significand - lower.significand, last)
}

/// Returns `value` and the ends of the interval of texts that read back as it, all with one exponent.
fn boundaries(value: f64) -> (Float, Float, Float) {
    const HIDDEN: u64 = 1 << 52;
    let bits = value.to_bits();
    let (fraction, biased) = (bits & (HIDDEN - 1), (bits >> 52 & 0x7ff) as i32);
    let exact = match biased {
        0 => Float { significand: fraction, exponent: 1 - 1075 },
        _ => Float { significand: fraction | HIDDEN, exponent: biased - 1075 },
    };
    let upper =
        Float { significand: (exact.significand << 1) + 1, exponent: exact.exponent - 1 }.normalized();
    let lower = if exact.significand == HIDDEN {
        // Below a power of two, doubles are twice as close.
        Float { significand: (exact.significand << 2) - 1, exponent: exact.exponent - 2 }
    } else {
        Float { significand: (exact.significand << 1) - 1, exponent: exact.exponent - 1 }
    };
    let shift = lower.exponent - upper.exponent;
    let lower = Float { significand: lower.significand << shift, exponent: upper.exponent };
    (exact.normalized(), lower, upper)
}

/// Returns the index of the power that brings a significand with `exponent` to an integer part of at most ten digits.
fn power_index(exponent: i32) -> usize {
    let decimal = f64::from(-61 - exponent) * std::f64::consts::LOG10_2 + 347.0;
    (decimal.ceil() as usize >> 3) + 1
}

/// Generates digits of `upper` until the remainder is inside the interval of width `delta` below it.
fn generate(exact: Float, upper: Float, mut delta: u64, mut last: i32) -> (Vec<u8>, i32) {
    let shift = -upper.exponent as u32;
    let one = 1u64 << shift;
    let distance = upper.significand - exact.significand;
    let mut whole = upper.significand >> shift;
    let mut part = upper.significand & (one - 1);
    let mut text = Vec::with_capacity(17);
    for place in (0..whole.checked_ilog10().map_or(0, |most| most + 1)).rev() {
        let unit = 10u64.pow(place);
        push(&mut text, whole / unit);
        whole %= unit;
        let rest = (whole << shift) + part;
        if rest <= delta {
            last += place as i32;
            round(&mut text, delta, rest, unit << shift, distance);
            return (text, last);
        }
    }
    for fraction in 1u32.. {
        part *= 10;
        delta *= 10;
        push(&mut text, part >> shift);
        part &= one - 1;
        last -= 1;
        if part < delta {
            // The original library stops approaching here: its table of powers ends.
            let distance = if fraction < 9 { distance * 10u64.pow(fraction) } else { 0 };
            round(&mut text, delta, part, one, distance);
            break;
        }
    }
    (text, last)
}

fn push(text: &mut Vec<u8>, digit: u64) {
    if digit != 0 || !text.is_empty() {
        text.push(b'0' + digit as u8);
    }
}

/// Decrements the last digit as long as that comes closer to the exact value.
fn round(text: &mut [u8], delta: u64, mut rest: u64, unit: u64, distance: u64) {
    let Some(last) = text.last_mut() else { return };
    while rest < distance
        && delta - rest >= unit
        && (rest + unit < distance || distance - rest > rest + unit - distance)
    {
        *last -= 1;
        rest += unit;
    }
}

/// 10^`power`: computed exactly, then rounded once.
fn power_of_ten(power: i32) -> Float {
    // A large integer in 32-bit limbs, lowest first: 10^p itself, or 2^1280 / 10^-p.
    let mut limbs = vec![0u32; 48];
    let mut exponent = 0;
    if power >= 0 {
        limbs[0] = 1;
        for _ in 0..power {
            let mut carry = 0u64;
            for limb in &mut limbs {
                let product = u64::from(*limb) * 10 + carry;
                *limb = product as u32;
                carry = product >> 32;
            }
        }
    } else {
        limbs[40] = 1;
        exponent = -40 * 32;
        for _ in power..0 {
            let mut remainder = 0u64;
            for limb in limbs.iter_mut().rev() {
                let dividend = remainder << 32 | u64::from(*limb);
                *limb = (dividend / 10) as u32;
                remainder = dividend % 10;
            }
        }
    }
    let top = limbs.iter().rposition(|limb| *limb != 0).unwrap_or(0);
    let limb = |at: usize| top.checked_sub(at).map_or(0, |at| limbs[at]);
    let wide =
        [limb(0), limb(1), limb(2), limb(3)].iter().fold(0u128, |wide, limb| wide << 32 | u128::from(*limb));
    let shift = wide.leading_zeros();
    let wide = wide << shift;
    let (high, half) = ((wide >> 64) as u64, (wide >> 63) as u64 & 1);
    let exponent = exponent + 32 * (top as i32 - 3) - shift as i32 + 64;
    match high.checked_add(half) {
        Some(significand) => Float { significand, exponent },
        None => Float { significand: 1 << 63, exponent: exponent + 1 },
    }
}

#[cfg(test)]
mod tests {
    use super::{digits, power_of_ten};
    use proptest::prelude::*;

    fn text(value: f64) -> String {
        let (text, last) = digits(value);
        format!("{}e{last}", String::from_utf8(text).unwrap())
    }

    #[test]
    fn powers_are_those_of_the_paper() {
        assert_eq!(power_of_ten(0).significand, 1 << 63);
        assert_eq!(power_of_ten(-348).significand, 0xfa8f_d5a0_081c_0288);
        assert_eq!(power_of_ten(-348).exponent, -1220);
        assert_eq!(power_of_ten(340).significand, 0xaf87_023b_9bf0_ee6b);
        assert_eq!(power_of_ten(340).exponent, 1066);
    }

    #[test]
    fn digits_as_recorded() {
        // The literal is not a double; the parser's rounding of it is part of the record.
        assert_eq!(text(26866918220660204.0 / 1e16), "26866918220660205e-16");
        assert_eq!(text(1.0), "1e0");
        assert_eq!(text(0.1), "1e-1");
        assert_eq!(text(123456.0), "123456e0");
        assert_eq!(text(5e-324), "5e-324");
        assert_eq!(text(f64::MAX), "17976931348623157e292");
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(value in proptest::num::f64::NORMAL | proptest::num::f64::SUBNORMAL) {
            let value = value.abs();
            prop_assert_eq!(text(value).parse::<f64>().unwrap(), value);
        }
    }
}
