//! Decimal literals → doubles, rounded as TensorFlow Serving rounds them.
//!
//! Its JSON parser does not round correctly if a literal has more digits, or a larger exponent, than a double holds
//! exactly: it takes as many digits as fit 53 bits into an integer, further ones (17 in all) by `value × 10 + digit` in
//! doubles, and multiplies or divides once by a power of ten. The last place can be off by one, which is visible:
//! 9.902513662775497 sent to a model that returns its input is answered with 9.9025136627754957. A drop-in replacement
//! has to answer with the same digits; this is also the faster way.

use std::sync::LazyLock;

/// The powers of ten that a double holds exactly.
pub(super) const EXACT_POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];

/// 10⁰ … 10³⁰⁸, each correctly rounded.
static POWERS: LazyLock<Vec<f64>> =
    LazyLock::new(|| (0..=308).map(|power| format!("1e{power}").parse().unwrap_or(f64::INFINITY)).collect());

/// 2⁵³ - 1: all integers up to this one are exact as doubles.
pub(super) const LAST_EXACT: u64 = (1 << 53) - 1;
/// Number of significant digits; further ones change nothing.
pub(super) const SIGNIFICANT: u32 = 17;

/// Returns the magnitude of a literal with a fraction, an exponent, or more digits than 64 bits hold; `None` if it is
/// too large for a double. `literal` must follow JSON's grammar for numbers.
pub(super) fn magnitude(literal: &[u8]) -> Option<f64> {
    // Digits are taken exactly as long as they fit an integer of the literal's sign.
    let (literal, largest) = match literal.strip_prefix(b"-") {
        Some(magnitude) => (magnitude, 1 << 63),
        None => (literal, u64::MAX),
    };
    let mut scan = Scan { value: 0.0, exponent: 0, significant: 0 };
    let rest = scan.integer_part(literal, largest);
    let rest = match rest.split_first() {
        Some((b'.', fraction)) => scan.fraction(fraction),
        _ => rest,
    };
    let exponent = match rest.split_first() {
        Some((b'e' | b'E', exponent)) => power(exponent, scan.exponent)?,
        _ => 0,
    };
    let value = scaled(scan.value, exponent + scan.exponent);
    (value <= f64::MAX).then_some(value)
}

/// Returns `value` as a model receives it: subnormal numbers become zero, as in TensorFlow Serving's recorded replies.
#[inline(always)]
pub(crate) fn flushed_f32(value: f64) -> f32 {
    let single = value as f32;
    if single.is_subnormal() { 0f32.copysign(single) } else { single }
}

struct Scan {
    value: f64,
    /// Minus the number of fraction digits taken.
    exponent: i64,
    /// Number of digits taken, not counting the first one of the integer part.
    significant: u32,
}

impl Scan {
    /// Takes the digits before the point: exactly while they fit 64 bits, in doubles after that.
    fn integer_part<'t>(&mut self, text: &'t [u8], largest: u64) -> &'t [u8] {
        let (digits, rest) = split_digits(text);
        let mut exact = 0u64;
        for (taken, digit) in digits.iter().enumerate() {
            let digit = digit - b'0';
            let next = exact.checked_mul(10).and_then(|tens| tens.checked_add(u64::from(digit)));
            match next.filter(|next| *next <= largest) {
                Some(next) => exact = next,
                None => {
                    let start = exact as f64;
                    self.value = digits[taken..]
                        .iter()
                        .fold(start, |value, digit| value * 10.0 + f64::from(digit - b'0'));
                    self.significant = SIGNIFICANT;
                    return rest;
                }
            }
            self.significant += u32::from(taken > 0);
        }
        self.value = exact as f64;
        self.exact_fraction(exact, rest);
        rest
    }

    /// Takes the fraction's digits exactly while they fit, given that nothing was lost before the point.
    fn exact_fraction(&mut self, mut exact: u64, rest: &[u8]) {
        let Some((b'.', fraction)) = rest.split_first() else { return };
        for digit in split_digits(fraction).0 {
            if exact > LAST_EXACT {
                break;
            }
            exact = exact * 10 + u64::from(digit - b'0');
            self.exponent -= 1;
            self.significant += u32::from(exact != 0);
        }
        self.value = exact as f64;
    }

    /// Takes the digits after the point that were not taken exactly.
    fn fraction<'t>(&mut self, text: &'t [u8]) -> &'t [u8] {
        let (digits, rest) = split_digits(text);
        // At most the number of digits.
        let taken = usize::try_from(-self.exponent).unwrap_or(0);
        for digit in &digits[taken..] {
            if self.significant >= SIGNIFICANT {
                break;
            }
            self.value = self.value * 10.0 + f64::from(digit - b'0');
            self.exponent -= 1;
            self.significant += u32::from(self.value > 0.0);
        }
        rest
    }
}

/// Returns the exponent after `e`; `None` if it alone makes the number too large, whatever its digits.
fn power(text: &[u8], fraction: i64) -> Option<i64> {
    let (negative, digits) = match text.split_first() {
        Some((b'-', digits)) => (true, digits),
        Some((b'+', digits)) => (false, digits),
        _ => (false, text),
    };
    let value =
        digits.iter().fold(0i64, |value, digit| (value * 10 + i64::from(digit - b'0')).min(1_000_000_000));
    if negative {
        return Some(-value);
    }
    (value <= 308 - fraction).then_some(value)
}

#[inline(always)]
pub(super) fn scaled(value: f64, exponent: i64) -> f64 {
    // Below 10⁻³⁰⁸ in two steps, because the reciprocal of that power is not a double.
    if exponent < -308 { once(once(value, -308), exponent + 308) } else { once(value, exponent) }
}

#[inline(always)]
fn once(value: f64, exponent: i64) -> f64 {
    let Some(power) = power_of_ten(exponent.unsigned_abs()) else {
        return if exponent < 0 { 0.0 } else { f64::INFINITY };
    };
    if exponent < 0 { value / power } else { value * power }
}

#[inline(always)]
fn power_of_ten(power: u64) -> Option<f64> {
    let at = usize::try_from(power).ok()?;
    EXACT_POWERS.get(at).or_else(|| POWERS.get(at)).copied()
}

fn split_digits(text: &[u8]) -> (&[u8], &[u8]) {
    text.split_at(text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::magnitude;

    #[test]
    #[allow(clippy::excessive_precision)] // As the replies were recorded.
    fn the_recorded_replies_are_reproduced() {
        for (literal, recorded) in [
            ("9.902513662775497", 9.9025136627754957),
            ("-9.128507628962975", 9.1285076289629767),
            ("-5.913105121001965", 5.9131051210019647),
            ("7.37015e+28", 7.370149999999999e28),
            ("1e-45", 1.0000000000000001e-45),
            ("-125787776108852576051053306486", 1.2578777610885262e29),
        ] {
            assert_eq!(magnitude(literal.as_bytes()), Some(recorded), "{literal}");
        }
    }

    #[test]
    fn what_a_double_holds_exactly_stays_exact() {
        for (literal, value) in
            [("0.1", 0.1), ("123.456", 123.456), ("1e22", 1e22), ("5e-324", 0.0), ("0.0", 0.0)]
        {
            let want = if literal == "5e-324" { 5e-324 } else { value };
            assert_eq!(magnitude(literal.as_bytes()), Some(want), "{literal}");
        }
    }

    #[test]
    fn too_large_and_too_small() {
        assert_eq!(magnitude(b"1e309"), None);
        assert_eq!(magnitude(b"0e309"), None);
        assert_eq!(magnitude("9".repeat(400).as_bytes()), None);
        assert_eq!(magnitude(b"1e-400"), Some(0.0));
        assert_eq!(magnitude(b"1e-99999999999999999999"), Some(0.0));
        assert_eq!(magnitude(format!("0.{}1", "0".repeat(400)).as_bytes()), Some(0.0));
    }
}
