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
use super::float::{Slot, eight_digits, put};
use super::layouts::{BATCH, Decimals, FRACTION, LAYOUTS, NEGATIVE, POWERS, SPARE, UNDECIDED, UPPER};
#[cfg(target_arch = "x86_64")]
use fearless_simd::{Avx2, Level};
use std::ops::Range;

/// Up to [`BATCH`] values, ready to be written.
pub(crate) struct Batch {
    decimals: Decimals,
    #[cfg(target_arch = "x86_64")]
    avx2: Option<Avx2>,
}

impl Batch {
    pub(crate) fn new() -> Batch {
        Batch {
            decimals: Decimals::new(),
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
        for (to, value) in self.decimals.values.iter_mut().zip(values) {
            *to = value;
        }
        #[cfg(target_arch = "x86_64")]
        if let Some(avx2) = self.avx2 {
            return avx2_print::prepare(avx2, &mut self.decimals);
        }
        let mut digits = [0; BATCH];
        for ((value, digits), code) in
            self.decimals.values.iter().zip(&mut digits).zip(&mut self.decimals.codes)
        {
            (*digits, *code) = decimal(*value);
        }
        for ((digits, first), rest) in
            digits.iter().zip(&mut self.decimals.first).zip(&mut self.decimals.rest)
        {
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
            return avx2_print::write(avx2, &self.decimals, range, room, separator, width);
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
        let code = self.decimals.codes[index];
        if code & UNDECIDED != 0 {
            return super::float::write(slot, self.decimals.values[index]);
        }
        lay_out(slot, code, self.decimals.first[index], self.decimals.rest[index])
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
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

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

    /// Every value's text, from both, is the one that [`float::write`] makes.
    ///
    /// `cargo test --release -- --ignored every_value_of_float`
    #[test]
    #[ignore = "takes five minutes of CPU time in a release build"]
    fn every_value_of_float() {
        let next = AtomicU32::new(0);
        let work = || {
            let (mut batches, mut expected) = ([Batch::new(), Batch::portable()], Vec::new());
            // From 0 to 2¹² - 1.
            for high in std::iter::from_fn(|| Some(next.fetch_add(1, Relaxed)).filter(|high| high >> 12 == 0))
            {
                for low in (0..1u32 << 20).step_by(BATCH) {
                    let values: [f32; BATCH] =
                        std::array::from_fn(|index| f32::from_bits(high << 20 | low | index as u32));
                    compare(&mut batches, &values, &mut expected);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..std::thread::available_parallelism().map_or(1, usize::from) {
                scope.spawn(work);
            }
            work();
        });
    }

    fn compare(batches: &mut [Batch; 2], values: &[f32; BATCH], expected: &mut Vec<u8>) {
        expected.clear();
        for value in values {
            let mut slot = [b'#'; 64];
            let length = float::write(&mut slot, *value);
            slot[length] = b'!';
            expected.extend_from_slice(&slot[..=length]);
        }
        for batch in batches {
            let mut room = [b'#'; BATCH * size_of::<Slot>()];
            batch.prepare(values.iter().copied());
            let length = batch.write_all(&mut room, 0..BATCH, &[b'!'; 32], 1);
            assert!(room[..length] == expected[..], "{values:?}");
        }
    }
}
