//! JSON numbers: parsed eight digits at a time, rounded as TensorFlow Serving does (see [`rounding`]).

use crate::json::cursor::Cursor;
use crate::json::rounding::{self, LAST_EXACT, SIGNIFICANT};
use crate::json::syntax::{Problem, SyntaxError};

/// A number as the parser classifies it: a literal without `.` or exponent that fits 64 bits is an integer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Number {
    /// An integer within int64; `-0` is `0`.
    Int(i64),
    /// An integer above int64, within uint64.
    Big(u64),
    /// Everything else.
    Double(f64),
}

impl Number {
    /// Returns the value, rounded to nearest.
    #[inline(always)]
    pub(crate) fn as_f64(self) -> f64 {
        match self {
            Number::Int(value) => value as f64,
            Number::Big(value) => value as f64,
            Number::Double(value) => value,
        }
    }
}

pub(super) const POWERS: [u64; 8] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000];
/// The number of digits that always fit a `u64`.
const SAFE_DIGITS: usize = 19;

/// A scanned literal: `mantissa × 10^exponent`, if its digits fit.
#[derive(Clone, Copy)]
struct Literal {
    start: usize,
    negative: bool,
    /// All digits as one integer, modulo 2⁶⁴.
    mantissa: u64,
    /// Number of digits; beyond [`SAFE_DIGITS`], leading zeros are not counted.
    digits: usize,
    /// Number of digits after the point.
    fraction: usize,
    exponent: i64,
    /// True if there is neither a point nor an exponent.
    integer: bool,
}

impl Literal {
    /// Computes what [`rounding::magnitude`] finds digit by digit, provided that all digits fit `mantissa` and no power
    /// of ten leaves a double's range; otherwise `None`.
    #[inline(always)]
    fn magnitude(&self) -> Option<f64> {
        let (value, exponent) = if self.mantissa <= LAST_EXACT + 1 {
            (self.mantissa as f64, self.exponent)
        } else {
            let (value, left) = long_digits(self.mantissa, self.fraction);
            (value, self.exponent + left)
        };
        // The digits of a negative literal are taken exactly only up to 2⁶³.
        let fits = self.digits <= SAFE_DIGITS && !(self.negative && self.mantissa > 1 << 63);
        (fits && exponent.unsigned_abs() <= 288).then(|| rounding::scaled(value, exponent))
    }
}

/// The largest mantissa that [`long_digits`] takes in one step.
pub(super) const MOST_AT_ONCE: u64 = 10 * LAST_EXACT + 9;

/// Returns a number's digits, more than a double holds, as a value and how many of them were left out, where `fraction` of them
/// are after the point: they are taken exactly until the integer exceeds a double's exact range; a few more follow in doubles.
#[inline(always)]
pub(super) fn long_digits(mantissa: u64, fraction: usize) -> (f64, i64) {
    let (mut exact, mut left) = (mantissa, 0);
    while exact / 10 > LAST_EXACT && left < fraction {
        exact /= 10;
        left += 1;
    }
    let mut value = exact as f64;
    if left > 0 {
        (value, left) = inexact(mantissa, fraction, value, left);
    }
    (value, left as i64)
}

/// Takes the last `left` digits in doubles, as long as they are significant; returns how many are not.
fn inexact(mantissa: u64, fraction: usize, mut value: f64, mut left: usize) -> (f64, usize) {
    let significant = mantissa.ilog10() as usize + 1;
    // The first digit of the integer part is not counted.
    let integer = significant > fraction;
    let mut taken = significant - left - usize::from(integer);
    while left > 0 && taken < SIGNIFICANT as usize {
        left -= 1;
        let digit = mantissa / 10u64.pow(left as u32) % 10;
        value = value * 10.0 + digit as f64;
        taken += 1;
    }
    (value, left)
}

/// The result of a scan.
enum Scanned {
    Literal(Literal),
    /// `NaN` or an infinity.
    Special(f64),
}

impl Cursor<'_> {
    /// Consumes the number here. Anything that is not a number is an invalid value.
    #[inline]
    pub(crate) fn number(&mut self) -> Result<Number, SyntaxError> {
        match self.scan()? {
            Scanned::Literal(literal) if literal.integer => self.integer(literal),
            Scanned::Literal(literal) => self.double(literal).map(Number::Double),
            Scanned::Special(value) => Ok(Number::Double(value)),
        }
    }

    /// Skips the number here without computing its value.
    pub(crate) fn skip_number(&mut self) -> Result<(), SyntaxError> {
        if let Scanned::Literal(literal) = self.scan()? {
            // Only a number that may exceed a double's range needs a closer look.
            if literal.exponent.saturating_add_unsigned(literal.digits as u64) > 308 {
                self.rounded(literal)?;
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn scan(&mut self) -> Result<Scanned, SyntaxError> {
        let start = self.at;
        let negative = self.take(b'-');
        let mut mantissa = 0;
        let mut digits = match self.peek() {
            b'0' => {
                self.at += 1;
                1
            }
            b'1'..=b'9' => self.digits(&mut mantissa),
            _ => return self.special(negative).map(Scanned::Special),
        };
        let (mut fraction, mut exponent, mut integer) = (0, 0, true);
        if self.peek() == b'.' {
            self.at += 1;
            fraction = self.digits(&mut mantissa);
            if fraction == 0 {
                return Err(self.error(Problem::Fraction));
            }
            digits += fraction;
            (exponent, integer) = (-(fraction as i64), false);
        }
        if matches!(self.peek(), b'e' | b'E') {
            exponent += self.exponent()?;
            integer = false;
        }
        if digits > SAFE_DIGITS {
            digits -= self.leading_zeros(start);
        }
        Ok(Scanned::Literal(Literal { start, negative, mantissa, digits, fraction, exponent, integer }))
    }

    /// Counts the zeros before the first other digit of the literal from `start` to here.
    #[cold]
    fn leading_zeros(&self, start: usize) -> usize {
        let literal = &self.text[start..self.at];
        let first = literal.iter().position(|byte| matches!(byte, b'1'..=b'9' | b'e' | b'E'));
        literal[..first.unwrap_or(literal.len())].iter().filter(|byte| **byte == b'0').count()
    }

    #[inline(always)]
    fn double(&self, literal: Literal) -> Result<f64, SyntaxError> {
        match literal.magnitude() {
            Some(value) if literal.negative => Ok(-value),
            Some(value) => Ok(value),
            None => self.rounded(literal),
        }
    }

    #[inline(always)]
    fn integer(&self, literal: Literal) -> Result<Number, SyntaxError> {
        if literal.digits < SAFE_DIGITS {
            let value = literal.mantissa as i64;
            return Ok(Number::Int(if literal.negative { -value } else { value }));
        }
        self.long_integer(literal)
    }

    #[cold]
    fn long_integer(&self, literal: Literal) -> Result<Number, SyntaxError> {
        let text = self.ascii_from(literal.start);
        if let Ok(value) = text.parse() {
            return Ok(Number::Int(value));
        }
        match text.parse() {
            Ok(value) if !literal.negative => Ok(Number::Big(value)),
            _ => self.rounded(literal).map(Number::Double),
        }
    }

    /// Consumes decimal digits, adds them to `mantissa` (modulo 2⁶⁴) and returns their number.
    #[inline(always)]
    fn digits(&mut self, mantissa: &mut u64) -> usize {
        let start = self.at;
        loop {
            let (value, count) = leading_digits(self.eight());
            self.at += count;
            if count == 8 {
                *mantissa = mantissa.wrapping_mul(100_000_000).wrapping_add(value);
                continue;
            }
            *mantissa = mantissa.wrapping_mul(POWERS[count]).wrapping_add(value);
            return self.at - start;
        }
    }

    /// Returns the eight bytes from here on, the first lowest; NUL past the end of the text.
    #[inline(always)]
    fn eight(&self) -> u64 {
        match self.text.get(self.at..self.at + 8).and_then(|bytes| bytes.try_into().ok()) {
            Some(bytes) => u64::from_le_bytes(bytes),
            None => self.last_eight(),
        }
    }

    #[cold]
    fn last_eight(&self) -> u64 {
        let mut bytes = [0; 8];
        if let Some(rest) = self.text.get(self.at..) {
            bytes[..rest.len()].copy_from_slice(rest);
        }
        u64::from_le_bytes(bytes)
    }

    /// Consumes `e`, a sign and digits; the value saturates at ±10⁹.
    #[inline]
    fn exponent(&mut self) -> Result<i64, SyntaxError> {
        self.at += 1;
        let negative = self.take(b'-');
        if !negative {
            self.take(b'+');
        }
        let start = self.at;
        let mut value = 0;
        while let digit @ b'0'..=b'9' = self.peek() {
            value = (value * 10 + i64::from(digit - b'0')).min(1_000_000_000);
            self.at += 1;
        }
        if self.at == start {
            return Err(self.error(Problem::Exponent));
        }
        Ok(if negative { -value } else { value })
    }

    /// Consumes `NaN`, `Inf` or `Infinity`, with the optional minus already consumed; anything else is an error.
    #[cold]
    fn special(&mut self, negative: bool) -> Result<f64, SyntaxError> {
        if self.peek() == b'N' {
            self.literal(b"NaN")?;
            return Ok(f64::NAN);
        }
        self.literal(b"Inf")?;
        if self.peek() == b'i' {
            self.literal(b"inity")?;
        }
        Ok(if negative { f64::NEG_INFINITY } else { f64::INFINITY })
    }

    /// Returns the literal that ends here as a double, whatever its length.
    #[inline(never)]
    fn rounded(&self, literal: Literal) -> Result<f64, SyntaxError> {
        match rounding::magnitude(&self.text[literal.start..self.at]) {
            Some(value) => Ok(if literal.negative { -value } else { value }),
            None => Err(SyntaxError { problem: Problem::TooBig, at: literal.start }),
        }
    }

    fn ascii_from(&self, start: usize) -> &str {
        // Only digits, signs, points and `e` were consumed, so this never falls back.
        std::str::from_utf8(&self.text[start..self.at]).unwrap_or_default()
    }
}

/// Returns the value of the decimal digits at the start of `chunk` (first byte lowest), and their number.
#[inline(always)]
fn leading_digits(chunk: u64) -> (u64, usize) {
    let values = chunk ^ 0x3030_3030_3030_3030;
    // Sets the high bit of every byte above 9. Carries only reach later bytes, which no longer matter.
    let others = (values.wrapping_add(0x7676_7676_7676_7676) | values) & 0x8080_8080_8080_8080;
    let count = (others.trailing_zeros() / 8) as usize;
    if count == 0 {
        return (0, 0);
    }
    // Shifted up, the digits are the last of eight, preceded by zeros.
    (eight_digits(values << (64 - 8 * count)), count)
}

/// Combines eight digit values, the first in the lowest byte, into a number.
#[inline(always)]
pub(super) fn eight_digits(values: u64) -> u64 {
    const PAIRS: u64 = 0x0000_00FF_0000_00FF;
    let pairs = values.wrapping_mul(10).wrapping_add(values >> 8);
    let high = (pairs & PAIRS).wrapping_mul(100 + (1_000_000 << 32));
    let low = (pairs >> 16 & PAIRS).wrapping_mul(1 + (10_000 << 32));
    high.wrapping_add(low) >> 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<(Number, usize), (Problem, usize)> {
        let mut cursor = Cursor { text: text.as_bytes(), at: 0 };
        let number = cursor.number().map_err(|error| (error.problem, error.at))?;
        Ok((number, cursor.at))
    }

    fn skip(text: &str) -> Result<usize, (Problem, usize)> {
        let mut cursor = Cursor { text: text.as_bytes(), at: 0 };
        cursor.skip_number().map_err(|error| (error.problem, error.at))?;
        Ok(cursor.at)
    }

    #[test]
    fn classes() {
        for (text, number) in [
            ("0", Number::Int(0)),
            ("-0", Number::Int(0)),
            ("12345678", Number::Int(12345678)),
            ("-123456789", Number::Int(-123456789)),
            ("999999999999999999", Number::Int(999999999999999999)),
            ("9223372036854775807", Number::Int(i64::MAX)),
            ("-9223372036854775808", Number::Int(i64::MIN)),
            ("9223372036854775808", Number::Big(1 << 63)),
            ("18446744073709551615", Number::Big(u64::MAX)),
            ("18446744073709551616", Number::Double(18446744073709551616.0)),
            ("-9223372036854775809", Number::Double(-9223372036854775809.0)),
            ("1.0", Number::Double(1.0)),
            ("1e3", Number::Double(1000.0)),
            ("1E+3", Number::Double(1000.0)),
            ("25e-1", Number::Double(2.5)),
            ("Inf", Number::Double(f64::INFINITY)),
            ("Infinity", Number::Double(f64::INFINITY)),
            ("-Infinity", Number::Double(f64::NEG_INFINITY)),
            ("1e-400", Number::Double(0.0)),
            ("0.1e308", Number::Double(1e307)),
        ] {
            assert_eq!(read(text), Ok((number, text.len())), "{text}");
        }
        assert!(matches!(read("-0.0"), Ok((Number::Double(zero), 4)) if zero.is_sign_negative()));
        assert!(matches!(read("-NaN"), Ok((Number::Double(nan), 4)) if nan.is_nan()));
        assert_eq!(read("01"), Ok((Number::Int(0), 1)));
        assert_eq!(read("Infx"), Ok((Number::Double(f64::INFINITY), 3)));
    }

    #[test]
    fn errors_name_the_byte() {
        for (text, problem, at) in [
            ("", Problem::Value, 0),
            ("-", Problem::Value, 1),
            ("-x", Problem::Value, 1),
            ("+1", Problem::Value, 0),
            (".5", Problem::Value, 0),
            ("Na", Problem::Value, 2),
            ("-I", Problem::Value, 2),
            ("Infinit", Problem::Value, 7),
            ("1.", Problem::Fraction, 2),
            ("1.x", Problem::Fraction, 2),
            ("1e", Problem::Exponent, 2),
            ("1e+", Problem::Exponent, 3),
            ("1.5e-]", Problem::Exponent, 5),
            ("-1e400", Problem::TooBig, 0),
            ("1e99999999999999999999", Problem::TooBig, 0),
            ("0e400", Problem::TooBig, 0),
        ] {
            assert_eq!(read(text), Err((problem, at)), "{text}");
            assert_eq!(skip(text), Err((problem, at)), "{text}");
        }
    }

    #[test]
    fn long_literals_are_linear() {
        let long = "1".repeat(300) + "." + &"3".repeat(3_000_000) + "e-299";
        assert!(
            matches!(read(&long), Ok((Number::Double(value), end)) if end == long.len() && (value - 1.0 / 0.9).abs() < 1e-14)
        );
        let zeros = "0.".to_string() + &"0".repeat(3_000_000) + "1";
        assert_eq!(read(&zeros), Ok((Number::Double(0.0), zeros.len())));
        assert_eq!(read(&"9".repeat(3_000_000)), Err((Problem::TooBig, 0)));
    }

    #[test]
    fn cases_found_by_chance() {
        for text in ["-9223380238610994200e260", "-9223372036854775809e1", "9223380238610994200e260"] {
            check(text).unwrap();
        }
    }

    /// The value is what [`rounding::magnitude`] computes from the literal digit by digit, and within its error bound:
    /// half a place for each digit beyond what a double holds, and for each scaling.
    fn check(text: &str) -> Result<(), TestCaseError> {
        let magnitude = rounding::magnitude(text.as_bytes());
        prop_assert_eq!(skip(text).ok(), magnitude.map(|_| text.len()), "{}", text);
        let Some(magnitude) = magnitude else {
            prop_assert_eq!(read(text), Err((Problem::TooBig, 0)), "{}", text);
            return Ok(());
        };
        let (number, end) = read(text).unwrap();
        prop_assert_eq!(end, text.len());
        let (value, exact) = (number.as_f64(), text.parse::<f64>().unwrap());
        if let Number::Double(value) = number {
            prop_assert_eq!(value.abs().to_bits(), magnitude.to_bits(), "{}", text);
            prop_assert_eq!(value.is_sign_negative(), exact.is_sign_negative(), "{}", text);
        }
        let places = value.to_bits().abs_diff(exact.to_bits());
        prop_assert!(places <= 8, "{}: {} is {} places from {}", text, value, places, exact);
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn doubles_as_written_by_rust(value in proptest::num::f64::NORMAL | proptest::num::f64::SUBNORMAL) {
            check(&format!("{value:?}"))?;
            check(&format!("{value:e}"))?;
        }

        #[test]
        fn as_python_writes_them(value in -1.0f64..1.0, digits in 14usize..20) {
            check(&format!("{value}"))?;
            check(&format!("{:.digits$}", value * 10.0))?;
            check(&format!("{:.digits$}", value * 0.001))?;
        }

        #[test]
        fn any_decimal(text in "-?(0|[1-9][0-9]{0,22})\\.[0-9]{1,22}([eE][+-]?[0-9]{1,2})?") {
            check(&text)?;
        }

        #[test]
        fn near_the_limits(text in "-?[0-9]\\.?[0-9]{1,20}[eE][+-]?(2[6-9]|3[0-3])[0-9]") {
            prop_assume!(!text.trim_start_matches('-').starts_with('0') || text.contains('.'));
            prop_assume!(!text.contains(['-']) || text.rfind('-') == Some(0));
            check(&text)?;
        }

        #[test]
        fn zeros(text in "0\\.0{1,30}[0-9]{0,3}[eE][0-9]{1,3}") {
            check(&text)?;
        }

        #[test]
        fn any_integer(text in "(0|-?[1-9][0-9]{0,24})") {
            if text.parse::<i64>().is_err() && text.parse::<u64>().is_err() {
                return check(&text);
            }
            let (number, end) = read(&text).unwrap();
            prop_assert_eq!((end, skip(&text)), (text.len(), Ok(text.len())));
            match (text.parse(), text.parse()) {
                (Ok(value), _) => prop_assert_eq!(number, Number::Int(value)),
                (_, Ok(value)) => prop_assert_eq!(number, Number::Big(value)),
                _ => prop_assert!(false, "{}", text),
            }
        }

        #[test]
        fn digits_end_where_they_end(digits in "[0-9]{0,8}", other in any::<u8>()) {
            prop_assume!(!other.is_ascii_digit());
            let mut bytes = [other; 8];
            bytes[..digits.len()].copy_from_slice(digits.as_bytes());
            let value = digits.parse().unwrap_or(0);
            prop_assert_eq!(leading_digits(u64::from_le_bytes(bytes)), (value, digits.len()));
        }
    }
}
