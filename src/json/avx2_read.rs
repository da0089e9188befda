//! Several short numbers of a list, read in one call with the instructions of AVX2; elsewhere one by one, by
//! [`super::short_number`].
//!
//! In three passes, none of which waits for what it did for the number before: where the numbers in 64 bytes begin and end,
//! and what is between them; the digits of each, in places that do not depend on sign and point; and of all of these the
//! values, four at a time.

use crate::json::number::MOST_AT_ONCE;
use crate::json::rounding::EXACT_POWERS;
use crate::json::short_number::ShortNumber;
use core::arch::x86_64::{
    __m128i, __m256d, __m256i, _CMP_EQ_OQ, _bzhi_u64, _mm_cvtsi128_si64, _mm_madd_epi16, _mm_maddubs_epi16,
    _mm_packus_epi32, _mm_set1_epi8, _mm_set1_epi16, _mm_set1_epi32, _mm_shuffle_epi8, _mm_subs_epu8,
    _mm256_add_epi64, _mm256_add_pd, _mm256_and_pd, _mm256_andnot_pd, _mm256_blend_epi32, _mm256_cmp_pd,
    _mm256_cmpeq_epi8, _mm256_cmpeq_epi64, _mm256_cvtpd_ps, _mm256_div_pd, _mm256_madd_epi16,
    _mm256_maddubs_epi16, _mm256_min_epu8, _mm256_movemask_epi8, _mm256_mul_epu32, _mm256_or_pd,
    _mm256_or_si256, _mm256_packus_epi32, _mm256_permute4x64_epi64, _mm256_set1_epi8, _mm256_set1_epi16,
    _mm256_set1_epi32, _mm256_set1_epi64x, _mm256_set1_pd, _mm256_setzero_si256, _mm256_srli_epi64,
    _mm256_sub_epi8, _mm256_sub_pd, _mm256_subs_epu8,
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
static PLACES: [[[u8; WINDOW]; WINDOW]; WINDOW] = {
    let mut places = [[[0x80; WINDOW]; WINDOW]; WINDOW];
    let mut point = 0;
    while point < WINDOW {
        let mut length = 1;
        while length < WINDOW {
            places[point][length] = places_of(point, length);
            length += 1;
        }
        point += 1;
    }
    places
};

/// The same for numbers of [`WINDOW`] bytes.
static LONG_PLACES: [[u8; WINDOW]; WINDOW] = {
    let mut places = [[0x80; WINDOW]; WINDOW];
    let mut point = 0;
    while point < WINDOW {
        places[point] = places_of(point, WINDOW);
        point += 1;
    }
    places
};

const fn places_of(point: usize, length: usize) -> [u8; WINDOW] {
    let mut places = [0x80; WINDOW];
    let mut from = 0;
    while from < length {
        let passes_point = from < point && point < length;
        let to = WINDOW - length + from + passes_point as usize;
        if point == 0 || from != point {
            places[to] = from as u8;
        }
        from += 1;
    }
    places
}

/// No short number has its point here.
const LONG: usize = (WINDOW - 2) * WINDOW;

/// The number of digits after the point, and the power of ten that they make, by the same; from [`LONG`] on by the number
/// itself.
static FRACTIONS: [(u64, f64); WINDOW * WINDOW] = {
    let mut fractions = [(0, 1.0); WINDOW * WINDOW];
    let mut index = 0;
    while index < WINDOW * WINDOW {
        let (point, length) = (index / WINDOW, index % WINDOW);
        // There are digits after a point.
        if 0 < point && point + 1 < length {
            let fraction = length - 1 - point;
            fractions[index] = (fraction as u64, EXACT_POWERS[fraction]);
        } else if LONG <= index && index < LONG + EXACT_POWERS.len() {
            fractions[index] = ((index - LONG) as u64, EXACT_POWERS[index - LONG]);
        }
        index += 1;
    }
    fractions
};

/// What is between numbers.
#[derive(Clone, Copy)]
pub(crate) struct Between {
    /// Bytes between two numbers: a comma, or a comma and a space.
    pub(crate) gap: usize,
    /// The length of the rows in which the numbers are, each in brackets; 0 for numbers of one list.
    pub(crate) row: usize,
}

/// Numbers that were read at once.
pub(crate) struct Several {
    /// All digits of each as one integer.
    mantissas: [u64; SEVERAL],
    /// The highest bit of each is its sign.
    signs: [u64; SEVERAL],
    /// The index of each in [`FRACTIONS`].
    shapes: [u8; SEVERAL],
    /// The position after each.
    ends: [usize; SEVERAL],
    /// The digits of each, the last one at the end; of long numbers, the mantissa.
    digits: [[u8; WINDOW]; SEVERAL],
    /// The numbers of [`WINDOW`] bytes or more, a bit for each.
    long: u32,
    /// Those of them whose value takes more than a division.
    apart: u32,
}

impl Default for Several {
    fn default() -> Several {
        Several {
            mantissas: [0; SEVERAL],
            signs: [0; SEVERAL],
            shapes: [0; SEVERAL],
            ends: [0; SEVERAL],
            digits: [[0; WINDOW]; SEVERAL],
            long: 0,
            apart: 0,
        }
    }
}

impl Several {
    /// Returns the number at `index` (modulo [`SEVERAL`]).
    #[inline(always)]
    pub(crate) fn get(&self, index: usize) -> ShortNumber {
        let index = index % SEVERAL;
        let shape = usize::from(self.shapes[index]);
        ShortNumber {
            negative: self.signs[index] >> 63 != 0,
            mantissa: self.mantissas[index],
            fraction: FRACTIONS[shape].0 as usize,
            end: self.ends[index],
        }
    }
}

/// Returns the indices of the bits of `rest`.
fn bits(mut rest: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let index = rest.trailing_zeros() as usize;
        rest &= rest.wrapping_sub(1);
        (index < SEVERAL).then_some(index)
    })
}

/// What is known of 64 bytes, a bit for each, the first lowest.
struct Block {
    points: u64,
    minuses: u64,
    /// The first bytes of numbers.
    starts: u64,
    /// The first bytes after numbers that are well formed and followed by what has to be between numbers.
    ends: u64,
    /// The brackets that close a row.
    closing: u64,
    /// True if nothing that follows these numbers is to be read with them.
    is_last: bool,
}

impl Block {
    /// Returns the number of bytes from `end` to the next number.
    #[inline(always)]
    fn after(&self, end: usize) -> usize {
        (self.starts >> (end % BLOCK)).trailing_zeros() as usize
    }
}

fearless_simd::kernel!(
    /// Reads numbers from `start` on, where a row begins; returns how many were read. Fewer than there are, or none, says
    /// nothing about the text.
    #[inline]
    pub(crate) fn several(
        avx2: Avx2,
        text: &[u8],
        start: usize,
        between: Between,
        numbers: &mut Several,
    ) -> usize {
        let row = between.row;
        let most = SEVERAL.checked_div(row).map_or(SEVERAL, |rows| rows * row);
        let (mut count, mut base, mut row_end) = (0, start, row);
        (numbers.long, numbers.apart) = (0, 0);
        while let Some(bytes) = text.get(base..).and_then(|rest| rest.first_chunk::<LEAST_TEXT>()) {
            let block = block(bytes, between);
            let wanted = (block.ends.count_ones() as usize).min(most - count);
            let to = (&mut *numbers, count, base);
            let read = if row == 0 {
                numbers_of::<false>(bytes, &block, to, wanted, (0, &mut row_end))
            } else {
                numbers_of::<true>(bytes, &block, to, wanted, (row, &mut row_end))
            };
            count += read;
            if block.is_last || read == 0 || read < wanted || count == most {
                break;
            }
            // The next number may end in the next block.
            base =
                numbers.ends[(count - 1) % SEVERAL] + block.after(numbers.ends[(count - 1) % SEVERAL] - base);
        }
        mantissas(numbers, count);
        count
    }
);

#[target_feature(enable = "avx2,bmi1,bmi2")]
#[inline]
fn block(bytes: &[u8; LEAST_TEXT], Between { gap, row }: Between) -> Block {
    let [low, high]: [__m256i; 2] = match bytes.first_chunk::<BLOCK>() {
        Some(bytes) => bytemuck::cast(*bytes),
        None => unreachable!(),
    };
    let both = |low: __m256i, high: __m256i| {
        let bits = |part| u64::from(_mm256_movemask_epi8(part) as u32);
        bits(low) | bits(high) << 32
    };
    let is = |byte: u8| {
        let byte = _mm256_set1_epi8(byte as i8);
        both(_mm256_cmpeq_epi8(low, byte), _mm256_cmpeq_epi8(high, byte))
    };
    let is_digit = |part| {
        let values = _mm256_sub_epi8(part, _mm256_set1_epi8(b'0' as i8));
        _mm256_cmpeq_epi8(values, _mm256_min_epu8(values, _mm256_set1_epi8(9)))
    };
    let (digits, points, minuses) = (both(is_digit(low), is_digit(high)), is(b'.'), is(b'-'));
    let inside = digits | points | minuses;
    let first_digits = digits & !((digits | points) << 1);
    // A point has digits around it, a minus begins a number, and no zero leads another digit. Of the last byte, that is not
    // known.
    let malformed = points & !(digits << 1 & digits >> 1)
        | minuses & (inside << 1 | !(digits >> 1))
        | is(b'0') & first_digits & digits >> 1;
    let malformed = malformed & (u64::MAX >> 1);

    let commas = is(b',');
    let spaces = if gap == 2 { is(b' ') } else { 0 };
    let to_number = if gap == 2 { commas & spaces >> 1 & inside >> 2 } else { commas & inside >> 1 };
    let (closing, to_row) = if row == 0 {
        (0, 0)
    } else if gap == 2 {
        (is(b']'), commas >> 1 & spaces >> 2 & is(b'[') >> 3 & inside >> 4)
    } else {
        (is(b']'), commas >> 1 & is(b'[') >> 2 & inside >> 3)
    };
    // So far that all of what follows a number is in the block.
    let reach = if row == 0 { gap } else { gap + 2 };
    let ends = !inside & inside << 1 & (u64::MAX >> reach);
    let stops = ends & !(to_number | closing) | malformed;
    let ends = ends & stops.wrapping_sub(1) & !stops;
    // A row that no other one follows is the last.
    let last = ends & closing & !to_row;
    Block {
        points,
        minuses,
        starts: if inside & 1 == 0 { 0 } else { inside & !(inside << 1) },
        ends: if inside & 1 == 0 { 0 } else { ends & (last ^ last.wrapping_sub(1)) },
        closing,
        is_last: stops | last != 0,
    }
}

/// Reads the first `wanted` numbers of a block at `base`, to `count` on; returns how many were read, which are fewer before a
/// number that is none or too long. With `ROWS`, rows have to have `row` numbers, the next one up to `row_end`.
#[target_feature(enable = "avx2,bmi1,bmi2")]
#[inline]
fn numbers_of<const ROWS: bool>(
    bytes: &[u8; LEAST_TEXT],
    block: &Block,
    (to, count, base): (&mut Several, usize, usize),
    wanted: usize,
    (row, row_end): (usize, &mut usize),
) -> usize {
    let (mut starts, mut ends) = (block.starts, block.ends);
    for index in count..count + wanted {
        let (at, end) = (starts.trailing_zeros() as usize % BLOCK, ends.trailing_zeros() as usize % BLOCK);
        (starts, ends) = (starts & starts.wrapping_sub(1), ends & ends.wrapping_sub(1));
        if ROWS {
            let closes = block.closing >> end & 1 != 0;
            if closes != (index + 1 == *row_end) {
                return index - count;
            }
            *row_end += if closes { row } else { 0 };
        }
        let slot = index % SEVERAL;
        let length = end.wrapping_sub(at);
        let points = _bzhi_u64(block.points >> at, length as u32);
        let point = points.trailing_zeros() as usize;
        to.signs[slot] = block.minuses >> at << 63;
        to.ends[slot] = base + end;
        if points & points.wrapping_sub(1) != 0 {
            return index - count;
        }
        if length < WINDOW {
            // A number without a point has it at 64, which is 0 here.
            let shape = (point * WINDOW + length) % (WINDOW * WINDOW);
            to.shapes[slot] = shape as u8;
            let places: __m128i = bytemuck::cast(PLACES.as_flattened()[shape]);
            let Some(window) = bytes[at..].first_chunk::<WINDOW>() else { return index - count };
            to.digits[slot] = bytemuck::cast(_mm_shuffle_epi8(bytemuck::cast(*window), places));
        } else if !long_number(bytes, (at, end), point % BLOCK, (to, slot)) {
            return index - count;
        }
    }
    wanted
}

/// Reads the number from `at` to `end`, of [`WINDOW`] bytes or more. Returns false if it is too long.
#[target_feature(enable = "avx2")]
#[inline]
fn long_number(
    bytes: &[u8; LEAST_TEXT],
    (at, end): (usize, usize),
    point: usize,
    (to, slot): (&mut Several, usize),
) -> bool {
    let length = end.wrapping_sub(at);
    let (Some(first), Some(last)) = (bytes[at..].first_chunk(), bytes[..end].last_chunk()) else {
        return false;
    };
    let negative = to.signs[slot] != 0;
    let fraction = if point == 0 { 0 } else { length - 1 - point };
    if length >= TOO_LONG {
        return false;
    }
    let (high, power, low) = long_mantissa([*first, *last], point, length);
    // No more digits than 64 bits hold, nor than `Cursor::number` takes exactly; zeros before the others do not count.
    let most = 10u64.pow(if fraction == 0 { 18 } else { 19 });
    if high >= most / power {
        return false;
    }
    let mantissa = high * power + low;
    to.digits[slot] = bytemuck::cast([mantissa, 0]);
    to.shapes[slot] = (LONG + fraction) as u8;
    to.long |= 1 << slot;
    to.apart |= u32::from(fraction > 0 && mantissa > MOST_AT_ONCE) << slot;
    !(negative && mantissa > 1 << 63)
}

/// Returns what [`mantissa`] returns for the first and the last bytes of a number of [`WINDOW`] bytes or more, and in between
/// the power of ten by which the first has to be multiplied.
#[target_feature(enable = "avx2")]
#[inline]
fn long_mantissa([first, last]: [[u8; WINDOW]; 2], point: usize, length: usize) -> (u64, u64, u64) {
    let before = length - WINDOW;
    // A point that is the first of the last bytes counts as a zero.
    let (high, low) = if point < before { (point, 0) } else { (0, point - before) };
    let power = if point > 0 && point >= before { 10u64.pow(15) } else { 10u64.pow(16) };
    (mantissa(first, high, before), power, mantissa(last, low, WINDOW))
}

/// Returns the digits of a number of `length` bytes as one integer. The sign counts as a zero.
#[target_feature(enable = "avx2")]
#[inline]
fn mantissa(window: [u8; WINDOW], point: usize, length: usize) -> u64 {
    let point = point % WINDOW;
    let places = if length < WINDOW { &PLACES[point][length] } else { &LONG_PLACES[point] };
    let digits = _mm_shuffle_epi8(bytemuck::cast(window), bytemuck::cast(*places));
    let digits = _mm_subs_epu8(digits, _mm_set1_epi8(b'0' as i8));
    // Pairs, then fours, then eights.
    let pairs = _mm_maddubs_epi16(digits, _mm_set1_epi16(0x010A));
    let fours = _mm_madd_epi16(pairs, _mm_set1_epi32(0x0001_0064));
    let packed = _mm_packus_epi32(fours, fours);
    let eights = _mm_madd_epi16(packed, _mm_set1_epi32(0x0001_2710));
    let both = _mm_cvtsi128_si64(eights) as u64;
    (both & 0xFFFF_FFFF) * 100_000_000 + (both >> 32)
}

/// Makes the first `count` mantissas of the digits: what [`mantissa`] does, four at a time.
#[target_feature(enable = "avx2")]
#[inline]
fn mantissas(numbers: &mut Several, count: usize) {
    let fours = |two: [[u8; WINDOW]; 2]| {
        // What is no digit counts as a zero: the sign, and what the shuffle left out.
        let values = _mm256_subs_epu8(bytemuck::cast(two), _mm256_set1_epi8(b'0' as i8));
        let pairs = _mm256_maddubs_epi16(values, _mm256_set1_epi16(0x010A));
        _mm256_madd_epi16(pairs, _mm256_set1_epi32(0x0001_0064))
    };
    let (digits, _) = numbers.digits.as_chunks::<4>();
    let (mantissas, _) = numbers.mantissas.as_chunks_mut::<4>();
    for (to, [a, b, c, d]) in mantissas.iter_mut().zip(digits).take(count.div_ceil(4)) {
        // Each half has two numbers: the first and the third, the second and the fourth.
        let packed = _mm256_packus_epi32(fours([*a, *b]), fours([*c, *d]));
        let eights = _mm256_madd_epi16(packed, _mm256_set1_epi32(0x0001_2710));
        let high = _mm256_mul_epu32(eights, _mm256_set1_epi64x(100_000_000));
        let whole = _mm256_add_epi64(high, _mm256_srli_epi64::<32>(eights));
        *to = bytemuck::cast(_mm256_permute4x64_epi64::<0b11_01_10_00>(whole));
    }
    for index in bits(numbers.long) {
        [numbers.mantissas[index], _] = bytemuck::cast(numbers.digits[index]);
    }
}

fearless_simd::kernel!(
    /// Returns the values of the first `count` numbers; see [`ShortNumber::as_f64`].
    #[inline]
    pub(crate) fn doubles(avx2: Avx2, numbers: &Several, count: usize) -> [f64; SEVERAL] {
        let mut values = [0.0; SEVERAL];
        for (four, to) in values.as_chunks_mut::<4>().0.iter_mut().enumerate().take(count.div_ceil(4)) {
            *to = bytemuck::cast(four_values(numbers, four));
        }
        for index in bits(numbers.apart) {
            values[index] = numbers.get(index).as_f64();
        }
        values
    }
);

fearless_simd::kernel!(
    /// Returns the same, rounded.
    #[inline]
    pub(crate) fn singles(avx2: Avx2, numbers: &Several, count: usize) -> [f32; SEVERAL] {
        let mut values = [0.0; SEVERAL];
        for (four, to) in values.as_chunks_mut::<4>().0.iter_mut().enumerate().take(count.div_ceil(4)) {
            *to = bytemuck::cast(_mm256_cvtpd_ps(four_values(numbers, four)));
        }
        for index in bits(numbers.apart) {
            values[index] = numbers.get(index).as_f64() as f32;
        }
        values
    }
);

/// Returns the values of four numbers, unless they are long ones.
#[target_feature(enable = "avx2")]
#[inline]
fn four_values(numbers: &Several, four: usize) -> __m256d {
    let four = 4 * (four % (SEVERAL / 4));
    let of =
        |from: &[u64; SEVERAL]| bytemuck::cast([from[four], from[four + 1], from[four + 2], from[four + 3]]);
    let power = |index: usize| FRACTIONS[usize::from(numbers.shapes[four + index])].1;
    let powers: __m256d = bytemuck::cast([power(0), power(1), power(2), power(3)]);
    let mantissas: __m256i = of(&numbers.mantissas);
    let magnitudes = _mm256_div_pd(rounded(mantissas), powers);
    // As an integer, `-0` is `0`.
    let whole = _mm256_cmp_pd::<_CMP_EQ_OQ>(powers, _mm256_set1_pd(1.0));
    let zero = bytemuck::cast(_mm256_cmpeq_epi64(mantissas, _mm256_setzero_si256()));
    let signs: __m256i = of(&numbers.signs);
    _mm256_or_pd(magnitudes, _mm256_andnot_pd(_mm256_and_pd(whole, zero), bytemuck::cast(signs)))
}

/// Returns 64-bit integers as doubles, rounded once.
#[target_feature(enable = "avx2")]
#[inline]
fn rounded(integers: __m256i) -> __m256d {
    // Both halves are the low bits of a double that is so large that its last bit is 1, or 2³². What that adds is
    // subtracted from the upper one, without rounding.
    let [low, high] = [2f64.powi(52), 2f64.powi(84)];
    let bits = |number: f64| _mm256_set1_epi64x(number.to_bits() as i64);
    let lower = _mm256_blend_epi32::<0b1010_1010>(integers, bits(low));
    let upper = _mm256_or_si256(_mm256_srli_epi64::<32>(integers), bits(high));
    let upper = _mm256_sub_pd(bytemuck::cast(upper), _mm256_set1_pd(high + low));
    _mm256_add_pd(upper, bytemuck::cast(lower))
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
        let mut numbers = Several::default();
        let count = several(avx2, text, 0, between, &mut numbers);
        let values = (doubles(avx2, &numbers, count), singles(avx2, &numbers, count));
        let comma: &[u8] = if between.gap == 2 { b", " } else { b"," };
        let mut cursor = Cursor { text, at: 0 };
        for index in 0..count {
            let short = numbers.get(index);
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
            let value = number.as_f64();
            prop_assert_eq!(short.as_f64().to_bits(), value.to_bits());
            prop_assert_eq!(values.0[index].to_bits(), value.to_bits());
            prop_assert_eq!(values.1[index].to_bits(), (value as f32).to_bits());
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
                    let count = check(format!("{text}, {text}, {text}{rest}").as_bytes(), flat(2)).unwrap();
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
        let text = "0.0012345678901234567,-0.00012345678901234567,0.000123456789012345678,1";
        assert_eq!(check(format!("{text}{rest}").as_bytes(), flat(1)).unwrap(), 3, "zeros do not count");
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
        assert_eq!(count("1, 2], [3, 4, 5], [6]", 2, 2), 3);
        assert_eq!(count("1, 2], [3], [4, 5]", 2, 2), 2);
        assert_eq!(count("1, 2],[3, 4]", 2, 2), 2);
        assert_eq!(count("1, 2]], [[3, 4]", 2, 2), 2);
        assert_eq!(count("1, 2, 3", 2, 2), 1);
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
            // What follows the last one is no number.
            prop_assert!(check(text.as_bytes(), flat(1 + usize::from(spaced)))? >= short.min(texts.len() - 1));
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
