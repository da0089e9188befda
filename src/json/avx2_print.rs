//! [`super::single`] with the instructions of AVX2: four values are converted at a time, and a shuffle brings the digits
//! of a value to their places.

use super::float::{self, Slot, put};
use super::layouts::{BATCH, Decimals, FRACTION, LAYOUTS, NEGATIVE, POWERS, UNDECIDED, UPPER};
use core::arch::x86_64::{
    __m128i, __m256i, _mm_add_epi8, _mm_set_epi64x, _mm_shuffle_epi8, _mm256_add_epi64, _mm256_and_si256,
    _mm256_blendv_epi8, _mm256_cmpeq_epi32, _mm256_cmpgt_epi64, _mm256_mul_epu32, _mm256_mulhi_epu16,
    _mm256_mullo_epi16, _mm256_or_si256, _mm256_set1_epi16, _mm256_set1_epi64x, _mm256_slli_epi16,
    _mm256_slli_epi32, _mm256_slli_epi64, _mm256_srli_epi16, _mm256_srli_epi64, _mm256_sub_epi16,
    _mm256_sub_epi64, _mm256_xor_si256,
};

/// Where digits go, and what is added to make characters of them: `0` to a digit; where there is none, the whole
/// character.
#[derive(Clone, Copy)]
#[repr(align(32))]
struct Shape {
    /// Places in a word of eight digits that is followed by the first one.
    from: [u8; 16],
    add: [u8; 16],
}

/// The shapes of numbers by the place of their first digit and of their point: those of [`super::layouts::Layout`].
static SHAPES: [Shape; SHAPE_COUNT] = {
    let mut shapes = [Shape { from: [0x80; 16], add: [b'0'; 16] }; SHAPE_COUNT];
    let mut shape = 0;
    while shape < SHAPE_COUNT {
        // `0.00ddddddddd` from the tenth on; the others `ddd.dddddd`.
        let (first, point) = if shape > 8 { (shape - 7, 1) } else { (0, shape + 1) };
        let mut digit = 0;
        while digit < 9 {
            let place = first + digit + (first == 0 && digit >= point) as usize;
            shapes[shape].from[place] = if digit == 0 { 8 } else { digit as u8 - 1 };
            digit += 1;
        }
        shapes[shape].add[point] = b'.';
        shape += 1;
    }
    shapes
};

/// Nine places of a point, and four numbers of zeros before the first digit.
const SHAPE_COUNT: usize = 13;

fearless_simd::kernel!(
    /// Prepares the values of `batch`.
    #[inline]
    pub(super) fn prepare(avx2: Avx2, batch: &mut Decimals) {
        let mut powers = [[0u64; 4]; BATCH / 4];
        let mut significands = [[0u64; 4]; BATCH / 4];
        for (index, value) in batch.values.iter().enumerate() {
            let bits = value.to_bits();
            let exponent = (bits >> 23 & 255) as usize;
            let significand = bits & ((1 << 23) - 1) | 1 << 23;
            let half = usize::from(significand >= UPPER[exponent]);
            powers[index / 4][index % 4] = POWERS[exponent][half];
            significands[index / 4][index % 4] = u64::from(significand);
            batch.codes[index] = (exponent << 2 | half << 1) as u64 + u64::from(bits >> 31) * NEGATIVE;
        }
        for four in 0..BATCH / 4 {
            let (digits, code) = decimals(bytemuck::cast(significands[four]), bytemuck::cast(powers[four]));
            let (first, rest) = split(digits);
            let code: [u64; 4] = bytemuck::cast(code);
            for (to, more) in batch.codes[4 * four..4 * four + 4].iter_mut().zip(code) {
                *to |= more;
            }
            batch.first[4 * four..4 * four + 4].copy_from_slice(&bytemuck::cast::<_, [u64; 4]>(first));
            batch.rest[4 * four..4 * four + 4].copy_from_slice(&bytemuck::cast::<_, [u64; 4]>(rest));
        }
    }
);

/// Returns the digits, nine of them or six and three zeros, and the lowest and [`UNDECIDED`] bits of the codes; see
/// [`super::single::decimal`].
#[target_feature(enable = "avx2")]
#[inline]
fn decimals(significand: __m256i, power: __m256i) -> (__m256i, __m256i) {
    let number = |number: u64| _mm256_set1_epi64x(number as i64);
    // `(significand << SPARE) * power >> 64`.
    let high = _mm256_mul_epu32(significand, _mm256_srli_epi64::<32>(power));
    let low = _mm256_mul_epu32(significand, power);
    let product = _mm256_add_epi64(_mm256_slli_epi64::<8>(high), _mm256_srli_epi64::<24>(low));
    let rounded = _mm256_add_epi64(product, number(1 << (FRACTION - 1)));
    let nine = _mm256_srli_epi64::<32>(rounded);
    // A thousandth is `274877907 / 2^38`, precise enough for 32 bits.
    let thousands = _mm256_mul_epu32(_mm256_add_epi64(nine, number(500)), number(274_877_907));
    let six = _mm256_mul_epu32(_mm256_srli_epi64::<38>(thousands), number(1000));
    let reach = _mm256_srli_epi64::<25>(power);
    let distance = distance(product, _mm256_slli_epi64::<32>(six));

    let is_six = _mm256_cmpgt_epi64(reach, distance);
    let near = self::distance(distance, reach);
    // The lower half of `rounded` is 0 or all ones.
    let half = _mm256_and_si256(_mm256_add_epi64(rounded, number(1)), number(0xFFFF_FFFE));
    let tie = _mm256_cmpeq_epi32(half, number(0));
    let large = _mm256_cmpgt_epi64(six, number(999_999_999));
    let unclear = _mm256_or_si256(_mm256_or_si256(tie, large), _mm256_cmpgt_epi64(number(4), near));
    let undecided = _mm256_and_si256(unclear, number(UNDECIDED));
    let code = _mm256_or_si256(_mm256_and_si256(is_six, number(1)), undecided);
    (_mm256_blendv_epi8(nine, six, is_six), code)
}

/// Returns the distance of numbers below 2⁶³.
#[target_feature(enable = "avx2")]
#[inline]
fn distance(one: __m256i, other: __m256i) -> __m256i {
    let difference = _mm256_sub_epi64(one, other);
    let less = _mm256_cmpgt_epi64(other, one);
    _mm256_sub_epi64(_mm256_xor_si256(difference, less), less)
}

/// Returns the first of nine digits and the others, as [`super::float::eight_digits`] does.
#[target_feature(enable = "avx2")]
#[inline]
fn split(digits: __m256i) -> (__m256i, __m256i) {
    let number = |number: i64| _mm256_set1_epi64x(number);
    // 10⁻⁸ is `1441151881 / 2^57`, precise enough for 30 bits; 10⁻⁴ is `3518437209 / 2^45`, for 32 bits.
    let first = _mm256_srli_epi64::<57>(_mm256_mul_epu32(digits, number(1_441_151_881)));
    let eight = _mm256_sub_epi64(digits, _mm256_mul_epu32(first, number(100_000_000)));
    let upper = _mm256_srli_epi64::<45>(_mm256_mul_epu32(eight, number(3_518_437_209)));
    let lower = _mm256_sub_epi64(eight, _mm256_mul_epu32(upper, number(10_000)));
    let fours = _mm256_or_si256(upper, _mm256_slli_epi64::<32>(lower));
    let wide = |number: i16| _mm256_set1_epi16(number);
    // A hundredth of 14 bits is `5243 / 2^19`; a tenth of 7 bits is `6554 / 2^16`.
    let hundreds = _mm256_srli_epi16::<3>(_mm256_mulhi_epu16(fours, wide(5243)));
    let twos = _mm256_sub_epi16(fours, _mm256_mullo_epi16(hundreds, wide(100)));
    let twos = _mm256_or_si256(hundreds, _mm256_slli_epi32::<16>(twos));
    let tens = _mm256_mulhi_epu16(twos, wide(6554));
    let ones = _mm256_sub_epi16(twos, _mm256_mullo_epi16(tens, wide(10)));
    (first, _mm256_or_si256(tens, _mm256_slli_epi16::<8>(ones)))
}

/// Bytes that may be written for a value and a separator.
const ROOM: usize = size_of::<Slot>();

fearless_simd::kernel!(
    /// Writes the values in `range`, each followed by the first `width` bytes of
    /// `separator`; returns the length of the text.
    #[inline]
    pub(super) fn write(
        avx2: Avx2,
        batch: &Decimals,
        range: std::ops::Range<usize>,
        room: &mut [u8],
        separator: &[u8; 32],
        width: usize,
    ) -> usize {
        let mut end = 0;
        for index in range {
            let Some(slot) = room.get_mut(end..).and_then(|room| room.first_chunk_mut::<ROOM>()) else {
                unreachable!("there is room for all values");
            };
            let index = index % BATCH;
            let code = batch.codes[index];
            let length = if code & UNDECIDED != 0 {
                float::write(slot, batch.values[index])
            } else {
                lay_out(slot, code, batch.first[index], batch.rest[index])
            };
            match slot[length & 31..].first_chunk_mut() {
                Some(after) => *after = *separator,
                None => unreachable!(),
            }
            end += length + width;
        }
        end
    }
);

#[target_feature(enable = "avx2,lzcnt")]
#[inline]
fn lay_out(slot: &mut Slot, code: u64, first: u64, rest: u64) -> usize {
    let layout = &LAYOUTS[(code & (NEGATIVE - 1)) as usize];
    let shape = &SHAPES[usize::from(layout.shape) % 16 % SHAPE_COUNT];
    let sign = usize::from(code & NEGATIVE != 0);
    slot[0] = b'-';
    let digits = _mm_set_epi64x(first as i64, rest as i64);
    let digits: __m128i = _mm_shuffle_epi8(digits, bytemuck::cast(shape.from));
    let text: [u8; 16] = bytemuck::cast(_mm_add_epi8(digits, bytemuck::cast(shape.add)));
    put(slot, sign, text);
    let end = sign + usize::from(layout.ends[rest.leading_zeros() as usize / 8] & 31);
    put(slot, end, layout.exponent);
    end + usize::from(layout.exponent_length)
}
