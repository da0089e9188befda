//! Where the parts of a `float`'s text go, and the powers of ten that its digits come from: the tables of
//! [`super::single`].

use super::float::{binary_exponent, log10_of_power_of_2, power};

/// The exponents of the normal floats, as stored.
const NORMAL: std::ops::RangeInclusive<usize> = 1..=254;
/// Bits below the 24 significant ones in a left-aligned word.
pub(super) const SPARE: u32 = 40;

/// Bits after the point of a product.
pub(super) const FRACTION: u32 = 32;

/// The places of the parts of a number's text.
#[derive(Clone, Copy)]
#[repr(align(32))]
pub(super) struct Layout {
    /// Where the digits begin.
    pub(super) digits: u8,
    pub(super) point: u8,
    /// Where the digits after the point begin.
    pub(super) after: u8,
    /// Half of the bits of the digits between the first one and the point.
    pub(super) skipped: u8,
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
        shape: shape(digits, place + 1),
    }
}

/// Values that are converted together: each step of the conversion is done for all of them before the next one, because
/// the steps of one value wait for each other.
pub(crate) const BATCH: usize = 32;

/// Up to [`BATCH`] values as decimal numbers.
pub(super) struct Decimals {
    pub(super) values: [f32; BATCH],
    /// The first digit of each.
    pub(super) first: [u64; BATCH],
    /// The other eight digits, as [`super::float::eight_digits`] returns them.
    pub(super) rest: [u64; BATCH],
    /// Sign ([`NEGATIVE`]), whether there is more to decide ([`UNDECIDED`]), and the index of the layout: the exponent,
    /// half of it, and whether six digits are enough.
    pub(super) codes: [u64; BATCH],
}

impl Decimals {
    pub(super) fn new() -> Decimals {
        Decimals { values: [0.0; BATCH], first: [0; BATCH], rest: [0; BATCH], codes: [0; BATCH] }
    }
}

/// The bits of a code above the index of the layout.
pub(super) const NEGATIVE: u64 = 1 << 10;
pub(super) const UNDECIDED: u64 = 1 << 11;

/// Returns the index in `SHAPES` for numbers with `digits` places before their digits, and a point at `point`:
/// nine places of a point, and four numbers of zeros before the first digit.
#[cfg(target_arch = "x86_64")]
const fn shape(digits: u8, point: u8) -> u8 {
    if digits > 0 { digits + 7 } else { point - 1 }
}
