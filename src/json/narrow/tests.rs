//! All numbers, and the middles between them; rounding is checked against integers of any size.

use super::*;
use crate::json::cursor::Cursor;
use proptest::prelude::*;

/// Reads a literal as a client sends it.
fn read<N: Narrow>(text: &str) -> u16 {
    let mut cursor = Cursor { text: text.as_bytes(), at: 0 };
    let value = cursor.number().unwrap().as_f64();
    nearest::<N>(value).unwrap_or_else(|| nearest_to_text::<N>(text.as_bytes()))
}

fn written<N: Narrow>(bits: u16) -> String {
    let mut slot = [0; 64];
    let length = write::<N>(&mut slot, bits);
    String::from_utf8(slot[..length].to_vec()).unwrap()
}

/// The representation of infinity.
fn infinity<N: Narrow>() -> u16 {
    (!SIGN >> N::FRACTION_BITS) << N::FRACTION_BITS
}

fn every<N: Narrow>() -> impl Iterator<Item = u16> {
    (0..=u16::MAX).filter(|bits| bits & !SIGN <= infinity::<N>())
}

/// An integer of any size, its least 32 bits first.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Big(Vec<u32>);

impl Big {
    fn times(mut self, factor: u32) -> Big {
        let mut carry = 0u64;
        for limb in &mut self.0 {
            let product = u64::from(*limb) * u64::from(factor) + carry;
            *limb = product as u32;
            carry = product >> 32;
        }
        if carry > 0 {
            self.0.push(carry as u32);
        }
        self
    }

    fn times_power(self, base: u32, power: i32) -> Big {
        (0..power.max(0)).fold(self, |product, _| product.times(base))
    }

    fn of_digits(digits: &str) -> Big {
        digits.bytes().fold(Big(Vec::new()), |sum, digit| {
            let mut sum = sum.times(10);
            let mut carry = u64::from(digit - b'0');
            for limb in &mut sum.0 {
                carry += u64::from(*limb);
                *limb = carry as u32;
                carry >>= 32;
            }
            if carry > 0 {
                sum.0.push(carry as u32);
            }
            sum
        })
    }

    fn of(value: u64) -> Big {
        Big::of_digits(&value.to_string())
    }
}

/// Compares `digits × 10^exponent` with `significand × 2^power`.
fn exactly(digits: &str, exponent: i32, (significand, power): (u64, i32)) -> Ordering {
    let left = Big::of_digits(digits).times_power(10, exponent).times_power(2, -power);
    let right = Big::of(significand).times_power(2, power).times_power(10, -exponent);
    let trimmed = |mut big: Big| {
        while big.0.last() == Some(&0) {
            big.0.pop();
        }
        big.0
    };
    let (left, right) = (trimmed(left), trimmed(right));
    left.len().cmp(&right.len()).then_with(|| left.iter().rev().cmp(right.iter().rev()))
}

/// Returns the middle between the number that `lower` represents, which is not negative, and the next one.
fn middle<N: Narrow>(lower: u16) -> (u64, i32) {
    let exponent = i32::from(lower >> N::FRACTION_BITS);
    let fraction = u64::from(lower & ((1 << N::FRACTION_BITS) - 1));
    let significand = if exponent == 0 { fraction } else { fraction | 1 << N::FRACTION_BITS };
    (2 * significand + 1, exponent.max(1) - N::MOST - N::FRACTION_BITS as i32 - 1)
}

/// Returns the number nearest to `digits × 10^exponent`, by its definition.
fn expected<N: Narrow>(digits: &str, exponent: i32) -> u16 {
    let (mut least, mut most) = (0, infinity::<N>());
    // The least one above which the middle is not exceeded.
    while least < most {
        let lower = (least + most) / 2;
        match exactly(digits, exponent, middle::<N>(lower)) {
            Ordering::Greater => least = lower + 1,
            Ordering::Less => most = lower,
            Ordering::Equal => return lower + (lower & 1),
        }
    }
    least
}

/// Returns all digits of the middle above `lower`.
fn spelled<N: Narrow>(lower: u16) -> String {
    let (significand, power) = middle::<N>(lower);
    format!("{:.150}", significand as f64 * 2f64.powi(power))
}

fn every_number_reads_back<N: Narrow>() {
    for bits in every::<N>() {
        let text = written::<N>(bits);
        assert_eq!(read::<N>(&text), bits, "{text}");
    }
}

#[test]
fn every_number_reads_back_as_itself() {
    every_number_reads_back::<Half>();
    every_number_reads_back::<BFloat16>();
}

/// No number of fewer digits reads back, and none of as many that does is nearer.
fn texts_are_shortest<N: Narrow>() {
    for bits in (1..infinity::<N>()).step_by(97) {
        let number = value::<N>(bits);
        let shortest = (0..6).find_map(|precision| {
            let near = format!("{number:.precision$e}");
            let (digits, exponent) = near.split_once('e').unwrap();
            let (digits, exponent): (i64, i32) =
                (digits.replace('.', "").parse().unwrap(), exponent.parse().unwrap());
            let text = |digits: i64| format!("{digits}e{}", exponent - precision as i32);
            let texts = [0, 1, -1].map(|step| text(digits + step));
            texts.into_iter().find(|text| expected_of::<N>(text) == bits)
        });
        let (ours, theirs) = (written::<N>(bits), shortest.unwrap());
        let distance = |text: &str| (text.parse::<f64>().unwrap() - number).abs();
        let count = |text: &str| {
            let digits = text.split('e').next().unwrap().replace('.', "");
            digits.trim_matches('0').len()
        };
        assert!(count(&ours) <= count(&theirs), "{ours} {theirs}");
        assert!(distance(&ours) <= distance(&theirs) * 1.000_001, "{ours} {theirs}");
    }
}

fn expected_of<N: Narrow>(text: &str) -> u16 {
    let (digits, exponent) = text.split_once('e').unwrap();
    expected::<N>(digits, exponent.parse().unwrap())
}

#[test]
fn no_shorter_number_reads_back() {
    texts_are_shortest::<Half>();
    texts_are_shortest::<BFloat16>();
}

fn middles_go_to_even<N: Narrow>() {
    for lower in (0..infinity::<N>()).step_by(13) {
        let middle = spelled::<N>(lower);
        assert_eq!(read::<N>(&middle), lower + (lower & 1), "{middle}");
        assert_eq!(read::<N>(&format!("{middle}{}1", "0".repeat(200))), lower + 1, "{middle}");
        assert_eq!(read::<N>(&format!("-{middle}{}1e0", "0".repeat(20))), SIGN | (lower + 1), "{middle}");
        let (digits, last) = middle.trim_end_matches('0').split_at(middle.trim_end_matches('0').len() - 1);
        let (last, digits) =
            if last == "." { ("0", format!("{digits}.")) } else { (last, digits.to_owned()) };
        if last != "0" {
            let below = format!("{digits}{}{}", last.parse::<u8>().unwrap() - 1, "9".repeat(30));
            assert_eq!(read::<N>(&below), lower, "{below}");
        }
    }
}

#[test]
fn the_middle_of_two_numbers_goes_to_the_even_one_and_what_is_beside_it_does_not() {
    middles_go_to_even::<Half>();
    middles_go_to_even::<BFloat16>();
}

#[test]
fn limits() {
    for (text, bits) in [
        ("65504", 0x7BFF),
        ("65519.9999999999999999999999999999999", 0x7BFF),
        ("65520", 0x7C00),
        ("-1e39", 0xFC00),
        ("Infinity", 0x7C00),
        ("-Inf", 0xFC00),
        ("NaN", 0x7E00),
        ("-0", 0),
        ("-0.0", 0x8000),
        ("1e-400", 0),
        ("5.960464477539063e-8", 1),
        ("2.98023223876953125e-8", 0),
        ("2.98023223876953126e-8", 1),
        ("18446744073709551615", 0x7C00),
    ] {
        assert_eq!(read::<Half>(text), bits, "{text}");
    }
    for (text, bits) in [
        ("3.3895313892515355e38", 0x7F7F),
        ("3.3961775292304601e38", 0x7F80),
        ("3.39e38", 0x7F7F),
        ("NaN", 0x7FC0),
        ("9.2e-41", 1),
        ("4.5e-41", 0),
        ("257", 0x4380),
        ("257.0000000000000000001", 0x4381),
        ("9007199254740993", 0x5A00),
    ] {
        assert_eq!(read::<BFloat16>(text), bits, "{text}");
    }
}

#[test]
fn texts_look_like_those_of_floats() {
    for (bits, text) in
        [(0, "0.0"), (0x8000, "-0.0"), (0x3C00, "1.0"), (0x2E66, "0.1"), (0x7BFF, "65500.0"), (1, "6e-08")]
    {
        assert_eq!(written::<Half>(bits), text);
    }
    for (bits, text) in [(0x3FC0, "1.5"), (0x4B80, "1.68e+07"), (0x7F80, "Infinity"), (0xFF80, "-Infinity")] {
        assert_eq!(written::<BFloat16>(bits), text);
    }
    assert_eq!((written::<Half>(0x7E01), written::<Half>(0xFE00)), ("NaN".to_owned(), "NaN".to_owned()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_decimal_is_rounded_once(digits in "[1-9][0-9]{0,40}", exponent in -90i32..40) {
        let text = format!("{digits}e{exponent}");
        prop_assert_eq!(read::<Half>(&text), expected::<Half>(&digits, exponent), "{}", text);
        prop_assert_eq!(read::<BFloat16>(&text), expected::<BFloat16>(&digits, exponent), "{}", text);
    }

    /// Around the middles, where a double does not tell enough.
    #[test]
    fn near_the_middle_of_two_numbers_too(
        half in 0u16..0x7C00, brain in 0u16..0x7F80, cut in 1usize..170, tail in "[0-9]{0,3}",
    ) {
        fn check<N: Narrow>(lower: u16, cut: usize, tail: &str) -> Result<(), TestCaseError> {
            let all = spelled::<N>(lower);
            let text = format!("{}{tail}", &all[..all.len().min(cut.max(all.find('.').unwrap() + 2))]);
            let fraction = text.len() - text.find('.').unwrap() - 1;
            let digits = text.replace('.', "");
            prop_assert_eq!(read::<N>(&text), expected::<N>(&digits, -(fraction as i32)), "{}", text);
            Ok(())
        }
        check::<Half>(half, cut, &tail)?;
        check::<BFloat16>(brain, cut, &tail)?;
    }
}
