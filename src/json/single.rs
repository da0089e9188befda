//! `float` as text without branches: the rule of [`super::float`] for nearly every normal value, in 64-bit integers.
//!
//! A float has 24 significant bits. Its product with a power of ten, scaled to a number of nine digits with 32 bits after
//! the point, is too small by less than two of the last units. That decides the rounding and the comparison with six digits
//! unless one of them is within a few units of its border, such as a tie; those values are left to [`super::float`].
//!
//! Values differ in sign, number of digits and place of the point at random, so that every branch on them would be
//! mispredicted: what depends on them is taken from tables and stored at computed places.

#[cfg(target_arch = "x86_64")]
use super::avx2_print;
use super::float::{Slot, binary_exponent, eight_digits, log10_of_power_of_2, power, put};
#[cfg(target_arch = "x86_64")]
use fearless_simd::{Avx2, Level};
use std::ops::Range;

/// The exponents of the normal floats, as stored.
const NORMAL: std::ops::RangeInclusive<usize> = 1..=254;
/// Bits below the 24 significant ones in a left-aligned word.
const SPARE: u32 = 40;

/// Bits after the point of a product.
pub(super) const FRACTION: u32 = 32;

/// The places of the parts of a number's text.
#[derive(Clone, Copy)]
#[repr(align(32))]
pub(super) struct Layout {
    /// Where the digits begin.
    digits: u8,
    point: u8,
    /// Where the digits after the point begin.
    after: u8,
    /// Half of the bits of the digits between the first one and the point.
    skipped: u8,
    /// Where the digits end, by the number of zeros that end them.
    pub(super) ends: [u8; 16],
    pub(super) exponent: [u8; 4],
    pub(super) exponent_length: u8,
    /// The index of what [`super::avx2_print`] does with it.
    #[cfg(target_arch = "x86_64")]
    pub(super) shape: u8,
}

/// The least significand that belongs to the upper half of each exponent.
pub(super) static UPPER: [u32; 256] = {
    let mut least = [u32::MAX; 256];
    // Subnormal values are those above zero.
    least[0] = (1 << 23) + 1;
    let mut exponent = *NORMAL.start();
    while exponent <= *NORMAL.end() {
        let binary = exponent as i32 - 127;
        let ten = least_decade(exponent) + 1;
        if binary_exponent(ten) + 63 == binary {
            // Rounded up: a power that is truncated has more bits further down.
            least[exponent] = ((power(ten) - 1) >> SPARE) as u32 + 1;
        }
        exponent += 1;
    }
    least
};

/// The powers of ten that scale the lower and the upper half of each exponent to nine digits. Zero leaves all values
/// undecided.
pub(super) static POWERS: [[u64; 2]; 256] = {
    let mut powers = [[0; 2]; 256];
    let mut exponent = *NORMAL.start();
    while exponent <= *NORMAL.end() {
        let ten = least_decade(exponent);
        powers[exponent] = [scale(exponent, ten), scale(exponent, ten + 1)];
        exponent += 1;
    }
    // Zero, as if it was a number of nine digits that are all zero.
    powers[0][0] = 16;
    // Floats are twice as close below powers of two. That matters only for 2^88 to 2^93.
    exponent = 88 + 127;
    while exponent <= 93 + 127 {
        powers[exponent][0] = 0;
        exponent += 1;
    }
    powers
};

/// The layouts for numbers of nine and of six digits, of lower and upper half of each exponent; that of zero first.
pub(super) static LAYOUTS: [Layout; 1024] = {
    let mut layouts = [layout(0, 9); 1024];
    let mut exponent = *NORMAL.start();
    while exponent <= *NORMAL.end() {
        let (at, ten) = (4 * exponent, least_decade(exponent));
        layouts[at] = layout(ten, 9);
        layouts[at + 1] = layout(ten, 6);
        layouts[at + 2] = layout(ten + 1, 9);
        layouts[at + 3] = layout(ten + 1, 6);
        exponent += 1;
    }
    layouts
};

/// Returns the power of ten of the least value with an exponent.
const fn least_decade(exponent: usize) -> i32 {
    log10_of_power_of_2(exponent as i32 - 127)
}

const fn scale(exponent: usize, ten: i32) -> u64 {
    let shift = -(exponent as i32 - 127 - 63 + binary_exponent(8 - ten)) - 64;
    // Masked because the upper half does not always exist.
    power(8 - ten) >> ((shift - FRACTION as i32) & 63)
}

const fn layout(ten: i32, precision: i32) -> Layout {
    let size = ten.unsigned_abs() as u8;
    let plain = 0 <= ten && ten < precision;
    let small = -4 <= ten && ten < 0;
    let mut ends = [0; 16];
    let mut zeros = 0;
    while zeros < 9 {
        let count = 9 - zeros as u8;
        ends[zeros] = if small {
            count + size + 1
        } else if plain && count < size + 2 {
            size + 3
        } else if !plain && count == 1 {
            1
        } else {
            count + 1
        };
        zeros += 1;
    }
    let place = if plain { size } else { 0 };
    let digits = if small { size + 1 } else { 0 };
    Layout {
        digits,
        point: place + 1,
        after: if small { size + 2 } else { place + 2 },
        skipped: 4 * place,
        ends,
        exponent: [b'e', if ten < 0 { b'-' } else { b'+' }, b'0' + size / 10, b'0' + size % 10],
        exponent_length: if plain || small { 0 } else { 4 },
        #[cfg(target_arch = "x86_64")]
        shape: super::avx2_print::shape(digits, place + 1),
    }
}

/// Values that are converted together: each step of the conversion is done for all of them before the next one, because
/// the steps of one value wait for each other.
pub(crate) const BATCH: usize = 32;

/// Up to [`BATCH`] values, ready to be written.
pub(crate) struct Batch {
    pub(super) values: [f32; BATCH],
    /// The first digit of each.
    pub(super) first: [u64; BATCH],
    /// The other eight digits, as [`eight_digits`] returns them.
    pub(super) rest: [u64; BATCH],
    /// Sign, exponent, half of it and number of digits; see [`decimal`].
    pub(super) codes: [u64; BATCH],
    #[cfg(target_arch = "x86_64")]
    avx2: Option<Avx2>,
}

/// The bits of a code above the index of the layout.
pub(super) const NEGATIVE: u64 = 1 << 10;
pub(super) const UNDECIDED: u64 = 1 << 11;

impl Batch {
    pub(crate) fn new() -> Batch {
        Batch {
            values: [0.0; BATCH],
            first: [0; BATCH],
            rest: [0; BATCH],
            codes: [0; BATCH],
            #[cfg(target_arch = "x86_64")]
            avx2: Level::new().as_avx2(),
        }
    }

    /// Makes a batch that uses no instructions that this machine may lack.
    #[cfg(test)]
    fn portable() -> Batch {
        Batch {
            #[cfg(target_arch = "x86_64")]
            avx2: None,
            ..Batch::new()
        }
    }

    /// Prepares the next `values`, at most [`BATCH`].
    pub(crate) fn prepare(&mut self, values: impl Iterator<Item = f32>) {
        for (to, value) in self.values.iter_mut().zip(values) {
            *to = value;
        }
        #[cfg(target_arch = "x86_64")]
        if let Some(avx2) = self.avx2 {
            return avx2_print::prepare(avx2, self);
        }
        let mut digits = [0; BATCH];
        for ((value, digits), code) in self.values.iter().zip(&mut digits).zip(&mut self.codes) {
            (*digits, *code) = decimal(*value);
        }
        for ((digits, first), rest) in digits.iter().zip(&mut self.first).zip(&mut self.rest) {
            *first = u64::from(digits / 100_000_000);
            *rest = eight_digits(u64::from(digits % 100_000_000));
        }
    }

    /// Writes the values in `range` (modulo [`BATCH`]), each followed by the first `width` bytes of `separator`, to
    /// `room`, which has a [`Slot`] for each; returns the length of the text.
    #[inline(always)]
    pub(crate) fn write_all(
        &self,
        room: &mut [u8],
        range: Range<usize>,
        separator: &[u8; 32],
        width: usize,
    ) -> usize {
        #[cfg(target_arch = "x86_64")]
        if let Some(avx2) = self.avx2 {
            return avx2_print::write(avx2, self, range, room, separator, width);
        }
        let mut end = 0;
        for index in range {
            let Some(slot) = room[end..].first_chunk_mut() else {
                unreachable!("there is room for all values")
            };
            let length = self.write(slot, index);
            put(slot, length & 31, *separator);
            end += length + width;
        }
        end
    }

    /// Writes the value at `index` (modulo [`BATCH`]) to the start of `slot` and returns the length of its text.
    #[inline(always)]
    pub(crate) fn write(&self, slot: &mut Slot, index: usize) -> usize {
        let index = index % BATCH;
        let code = self.codes[index];
        if code & UNDECIDED != 0 {
            return super::float::write(slot, self.values[index]);
        }
        lay_out(slot, code, self.first[index], self.rest[index])
    }
}

/// Returns the digits of `value`, nine of them or six and three zeros, and its code.
#[inline(always)]
fn decimal(value: f32) -> (u32, u64) {
    let bits = value.to_bits();
    let fraction = bits & ((1 << 23) - 1);
    let exponent = (bits >> 23 & 255) as usize;
    let significand = fraction | 1 << 23;
    let half = usize::from(significand >= UPPER[exponent]);
    let power = POWERS[exponent][half];

    let product = ((u128::from(u64::from(significand) << SPARE) * u128::from(power)) >> 64) as u64;
    let rounded = product.wrapping_add(1 << (FRACTION - 1));
    let nine = (rounded >> FRACTION) as u32;
    let six = (nine + 500) / 1000 * 1000;
    // Half the step between floats.
    let reach = power >> (64 - SPARE + 1);
    let distance = product.abs_diff(u64::from(six) << FRACTION);
    // `|` rather than `||`: only the result is predictable.
    let undecided = ((rounded as u32).wrapping_add(1) <= 1)
        | (distance.wrapping_add(3).wrapping_sub(reach) <= 6)
        | (six >= 1_000_000_000);
    let is_six = distance < reach;
    let digits = if is_six { six } else { nine };
    let code = (exponent << 2 | half << 1 | usize::from(is_six)) as u64;
    let sign = u64::from(bits >> 31) * NEGATIVE;
    (digits, code | sign | (u64::from(undecided) * UNDECIDED))
}

/// Writes a number of nine digits. Only stores, at fixed widths, the later ones over what the earlier ones left behind.
#[inline(always)]
fn lay_out(slot: &mut Slot, code: u64, first: u64, rest: u64) -> usize {
    const ZEROS: u64 = 0x3030_3030_3030_3030;
    let layout = &LAYOUTS[(code & (NEGATIVE - 1)) as usize];
    let sign = usize::from(code & NEGATIVE != 0);
    let at = |place: u8| sign + usize::from(place & 15);
    slot[0] = b'-';
    put(slot, sign, *b"0.000000");
    slot[at(layout.digits)] = b'0' + first as u8;
    put(slot, at(layout.digits) + 1, (rest | ZEROS).to_le_bytes());
    slot[at(layout.point)] = b'.';
    // In two halves, because the point may follow all digits.
    let half = u32::from(layout.skipped) & 63;
    put(slot, at(layout.after), (rest >> half >> half | ZEROS).to_le_bytes());
    let end = sign + usize::from(layout.ends[rest.leading_zeros() as usize / 8] & 31);
    put(slot, end, layout.exponent);
    end + usize::from(layout.exponent_length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::float;

    /// The text of every value is the one that [`float::write`] makes.
    fn check(values: impl Iterator<Item = u32>) {
        let values: Vec<f32> = values.map(f32::from_bits).collect();
        let separator = [b'!'; 32];
        // As this machine does it, and as every machine can.
        for mut batch in [Batch::new(), Batch::portable()] {
            // Whatever was there before.
            let (mut room, mut expected) = ([b'#'; BATCH * size_of::<Slot>()], Vec::new());
            for values in values.chunks(BATCH) {
                batch.prepare(values.iter().copied());
                let length = batch.write_all(&mut room, 0..values.len(), &separator, 1);
                expected.clear();
                for (index, value) in values.iter().enumerate() {
                    let mut slots = [[b'#'; 64]; 2];
                    let lengths = [float::write(&mut slots[0], *value), batch.write(&mut slots[1], index)];
                    expected.extend_from_slice(&slots[0][..lengths[0]]);
                    expected.push(b'!');
                    assert_eq!(slots[0][..lengths[0]], slots[1][..lengths[1]], "bits {:#x}", value.to_bits());
                }
                assert!(room[..length] == expected, "{:?}", values);
            }
        }
    }

    fn with_sign(bits: u32) -> [u32; 2] {
        [bits, bits | 1 << 31]
    }

    #[test]
    fn edges_of_every_exponent() {
        let fractions = [0, 1, 2, 3, 1 << 22, (1 << 22) + 1, (1 << 23) - 2, (1 << 23) - 1];
        check(
            (0..256u32)
                .flat_map(|exponent| fractions.map(|fraction| exponent << 23 | fraction))
                .flat_map(with_sign),
        );
    }

    #[test]
    fn around_numbers_of_few_digits() {
        let numbers =
            [1u32, 2, 5, 10, 99, 123, 5005, 100_001, 123_456, 999_999, 9_999_995, 10_000_005, 999_999_999];
        let near = |(ten, number): (i32, u32)| {
            let bits = format!("{number}e{ten}").parse::<f32>().unwrap_or(0.0).to_bits();
            (0..9).map(move |step| bits.wrapping_add(step).wrapping_sub(4))
        };
        check((-50..40).flat_map(|ten| numbers.map(|number| (ten, number))).flat_map(near));
    }

    #[test]
    fn decimals_fractions_and_ties() {
        let decimals = (0..100_000u32).map(|number| (number as f32 / 1e4 - 5.0).to_bits());
        let bytes = (0..256u32).map(|number| (number as f32 / 255.0).to_bits());
        let binary = (0..20_000u32)
            .flat_map(|number| (0..20).map(move |bits| (number as f32 / (1 << bits) as f32).to_bits()));
        check(decimals.chain(bytes).chain(binary));
    }

    #[test]
    fn a_sample_of_all_values() {
        // An odd step, so that all exponents and all ends of fractions occur.
        check((0..1 << 20).map(|index: u32| index.wrapping_mul(4099)));
    }

    /// `cargo test --release -- --ignored every_value_of_float`
    #[test]
    #[ignore = "takes ten minutes in a release build"]
    fn every_value_of_float() {
        for high in 0..1 << 12 {
            check((0..1 << 20).map(|low: u32| high << 20 | low));
        }
    }
}
