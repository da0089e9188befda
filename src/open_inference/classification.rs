//! Classification: the greatest elements of an output as strings `SCORE:INDEX`, best first.
//!
//! Of a tensor with at least two dimensions, each row of the first one is classified; of another, the whole. Triton adds a
//! label where the model has a file of labels, which models here have not.

use crate::error::Result;
use crate::memory::Reservation;
use crate::tensor::{DType, Shape, Strings, Tensor};
use std::cmp::Reverse;
use std::fmt::Write;

/// Most bytes of a class: the sign, 309 digits and a fraction of the least double, and the digits of an index.
const LONGEST: usize = 1 + 309 + 7 + 1 + 20;

/// Returns the `classes` greatest elements of each row of `tensor`, which has numbers: fewer where a row is shorter. Equal
/// ones are in the order of their indices; what is not a number is last. Counts what is allocated in `memory`.
pub fn of(tensor: &Tensor, classes: usize, memory: &Reservation) -> Result<Tensor> {
    let rows = if tensor.shape().len() < 2 { 1 } else { tensor.row_count() };
    let columns = tensor.len().checked_div(rows).unwrap_or(0);
    let wanted = classes.min(columns);
    let scores = Scores { dtype: tensor.dtype(), bytes: tensor.bytes() };
    // There are no more than elements of the tensor.
    memory.grow((columns + rows * wanted).saturating_mul(size_of::<usize>()))?;
    let (mut text, mut ends) = (String::new(), Vec::with_capacity(rows * wanted));
    let mut order: Vec<usize> = Vec::with_capacity(columns);
    // Rows without elements may be of any number.
    for row in 0..if wanted > 0 { rows } else { 0 } {
        let key = |index: &usize| (Reverse(scores.get(row * columns + index).rank()), *index);
        order.clear();
        order.extend(0..columns);
        if wanted < columns {
            order.select_nth_unstable_by_key(wanted - 1, key);
        }
        order.truncate(wanted);
        order.sort_unstable_by_key(key);
        for index in &order {
            make_room(&mut text, memory)?;
            scores.get(row * columns + index).write(&mut text);
            // Writing to a string succeeds.
            let _written = write!(text, ":{index}");
            ends.push(text.len());
        }
    }
    Ok(Tensor::strings(shape(tensor, wanted), Strings::new(text.into_bytes(), ends)))
}

/// Makes room for the longest class, counted before it is there.
fn make_room(text: &mut String, memory: &Reservation) -> Result<()> {
    if text.capacity() - text.len() < LONGEST {
        let more = text.capacity().max(LONGEST);
        memory.grow(more)?;
        text.reserve_exact(more);
    }
    Ok(())
}

#[allow(clippy::cast_possible_wrap)] // Of a tensor in memory.
fn shape(tensor: &Tensor, wanted: usize) -> Shape {
    let rows = (tensor.shape().len() >= 2).then(|| tensor.row_count() as i64);
    rows.into_iter().chain([wanted as i64]).collect()
}

/// The elements of a tensor.
struct Scores<'a> {
    dtype: DType,
    bytes: &'a [u8],
}

enum Score {
    Real(f64),
    Signed(i64),
    Unsigned(u64),
}

impl Scores<'_> {
    /// Returns element `index`; 0 for what has no scores, which nobody asks for.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the other dtypes have no scores")]
    fn get(&self, index: usize) -> Score {
        match self.dtype {
            DType::Float => Score::Real(f32::from_le_bytes(self.raw(index)).into()),
            DType::Double => Score::Real(f64::from_le_bytes(self.raw(index))),
            DType::Half => Score::Real(half(u16::from_le_bytes(self.raw(index)))),
            DType::BFloat16 => {
                Score::Real(f32::from_bits(u32::from(u16::from_le_bytes(self.raw(index))) << 16).into())
            }
            DType::Int8 => Score::Signed(i8::from_le_bytes(self.raw(index)).into()),
            DType::Int16 => Score::Signed(i16::from_le_bytes(self.raw(index)).into()),
            DType::Int32 => Score::Signed(i32::from_le_bytes(self.raw(index)).into()),
            DType::Int64 => Score::Signed(i64::from_le_bytes(self.raw(index))),
            DType::UInt8 => Score::Unsigned(u8::from_le_bytes(self.raw(index)).into()),
            DType::UInt16 => Score::Unsigned(u16::from_le_bytes(self.raw(index)).into()),
            DType::UInt32 => Score::Unsigned(u32::from_le_bytes(self.raw(index)).into()),
            DType::UInt64 => Score::Unsigned(u64::from_le_bytes(self.raw(index))),
            _ => Score::Unsigned(0),
        }
    }

    fn raw<const SIZE: usize>(&self, index: usize) -> [u8; SIZE] {
        let element = self.bytes.get(index * SIZE..).and_then(<[u8]>::first_chunk);
        element.copied().unwrap_or([0; SIZE])
    }
}

impl Score {
    /// Returns its place in an order of all scores of a tensor, which are of one kind.
    fn rank(&self) -> i128 {
        match self {
            Score::Real(number) if number.is_nan() => i128::MIN,
            Score::Real(number) => {
                // As `f64::total_cmp`, except that both zeros are equal.
                let bits = (number + 0.0).to_bits().cast_signed();
                (bits ^ ((bits >> 63).cast_unsigned() >> 1).cast_signed()).into()
            }
            Score::Signed(number) => (*number).into(),
            Score::Unsigned(number) => (*number).into(),
        }
    }

    /// Writes it as C's `std::to_string` does.
    fn write(&self, out: &mut String) {
        // Writing to a string succeeds.
        let _written = match self {
            Score::Real(number) if number.is_nan() => write!(out, "nan"),
            Score::Real(number) => write!(out, "{number:.6}"),
            Score::Signed(number) => write!(out, "{number}"),
            Score::Unsigned(number) => write!(out, "{number}"),
        };
    }
}

/// Returns the value of a half.
fn half(bits: u16) -> f64 {
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff));
    let size = match exponent {
        0 => fraction * (-24f64).exp2(),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1024.0 + fraction) * f64::from(exponent - 25).exp2(),
    };
    if bits >> 15 == 1 { -size } else { size }
}
