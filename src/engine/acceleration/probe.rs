//! Inputs by which a candidate is compared with the reference, made of requests that succeeded: pure.
//!
//! Of one request several are made: with 1, 2 and more rows, where the signature's inputs have a dimension for them, and
//! with random numbers, since the zeros of a synthetic warm-up say little; and with nothing but 0 and but -1, by which
//! logarithms, roots and quotients stop being finite. Strings are kept: they have to be what the
//! model decodes. Others hold the largest and smallest numbers ([`extremes`]).

use super::chain::LIMIT;
use crate::engine::Endpoint;
use crate::engine::signature::TensorSpec;
use crate::tensor::{Aligned, DType, Data, Strings, Tensor};

/// The feeds of a run, by endpoint of the reference.
pub(super) type Feeds = Vec<(Endpoint, Tensor)>;

/// The numbers of rows that are tried. The last one is the largest batch.
pub(super) const BATCHES: [usize; 3] = [1, 2, 8];

/// Random whole numbers are below this: indices of small tables are tried, too.
const MOST_RANDOM: u64 = 8;

/// Returns the inputs to try, made of `sample`, whose tensors are those of `inputs`. `made_up`: with other numbers, too;
/// not where a run may never end by some.
pub(super) fn inputs(inputs: &[TensorSpec], sample: &Feeds, made_up: bool) -> Vec<Feeds> {
    let mut made = vec![sample.clone()];
    let sizes: &[usize] = if has_rows(inputs, sample) { &BATCHES } else { &[0] };
    for (number, rows) in sizes.iter().enumerate() {
        let mut random = Random(number as u64 + 1);
        let of = |tensor: &Tensor, random: &mut Random| {
            let tensor = with_rows(tensor, *rows);
            if made_up { randomised(&tensor, random) } else { tensor }
        };
        made.push(sample.iter().map(|(endpoint, tensor)| (*endpoint, of(tensor, &mut random))).collect());
    }
    if made_up {
        let all =
            |value: f32| sample.iter().map(|(endpoint, tensor)| (*endpoint, filled(tensor, value))).collect();
        made.extend([all(0.0), all(-1.0)]);
    }
    made
}

/// Returns `sample` with random numbers in place of its floats: one that is blank says little of an answer.
pub(super) fn made_up(sample: &[(Endpoint, Tensor)]) -> Feeds {
    let mut random = Random(11);
    sample.iter().map(|(endpoint, tensor)| (*endpoint, randomised_floats(tensor, &mut random))).collect()
}

/// Returns `sample` with the largest numbers that another engine gets, and with the smallest that are not 0: what is no
/// number for the reference has to be none for it, too. Empty if there is no floating-point number in it.
pub(super) fn extremes(sample: &Feeds) -> Vec<Feeds> {
    let large = LIMIT / 2.0;
    let sequences =
        [[large, large], [-large, -large], [large, -large], [f32::MIN_POSITIVE, -f32::MIN_POSITIVE]];
    let of = |values: &[f32; 2]| {
        sample.iter().map(|(endpoint, tensor)| (*endpoint, alternating(tensor, *values))).collect()
    };
    let has_floats = sample.iter().any(|(_, tensor)| tensor.dtype() == DType::Float);
    sequences.iter().filter(|_| has_floats).map(of).collect()
}

/// Returns `tensor` with every floating-point number replaced by `value`.
fn filled(tensor: &Tensor, value: f32) -> Tensor {
    alternating(tensor, [value; 2])
}

/// Returns `tensor` with every floating-point number replaced, by both values in turn.
#[allow(clippy::wildcard_enum_match_arm)] // All others stay as they are, also new ones.
fn alternating(tensor: &Tensor, values: [f32; 2]) -> Tensor {
    match tensor.dtype() {
        DType::Float => of_bytes(tensor, (0..tensor.len()).flat_map(|at| values[at % 2].to_le_bytes())),
        _ => tensor.clone(),
    }
}

/// Returns inputs with `rows` rows each, for measuring; those of `sample` if it has no dimension for them.
pub(super) fn of_rows(inputs: &[TensorSpec], sample: &Feeds, rows: usize, made_up: bool) -> Feeds {
    let rows = if has_rows(inputs, sample) { rows } else { 0 };
    let mut random = Random(7);
    let mut of = |tensor: &Tensor| {
        let tensor = with_rows(tensor, rows);
        if made_up { randomised_floats(&tensor, &mut random) } else { tensor }
    };
    sample.iter().map(|(endpoint, tensor)| (*endpoint, of(tensor))).collect()
}

/// Returns whether the first dimension of every input counts rows: it is not declared, and the same for all.
fn has_rows(inputs: &[TensorSpec], sample: &Feeds) -> bool {
    let open = |spec: &TensorSpec| spec.shape.as_ref().is_some_and(|shape| shape.first() == Some(&-1));
    let rows = sample.first().map_or(0, |(_, tensor)| tensor.row_count());
    rows > 0 && inputs.iter().all(open) && sample.iter().all(|(_, tensor)| tensor.row_count() == rows)
}

/// Returns `tensor` with `rows` rows, which repeat its own; as it is for 0.
fn with_rows(tensor: &Tensor, rows: usize) -> Tensor {
    if rows == 0 || tensor.row_count() == rows {
        return tensor.clone();
    }
    let mut shape = tensor.shape().to_vec();
    #[allow(clippy::cast_possible_wrap)] // A few.
    let count = rows as i64;
    shape[0] = count;
    let each = tensor.len() / tensor.row_count();
    match tensor.data() {
        Data::Numbers(bytes) => {
            let row = each * tensor.dtype().size();
            let mut all: Aligned<u8> = Aligned::new(64);
            (0..rows).for_each(|index| {
                let at = index % tensor.row_count() * row;
                all.extend_from_slice(&bytes[at..at + row]);
            });
            Tensor::from_values(tensor.dtype(), shape, all)
        }
        Data::Strings(strings) => {
            let at = |index: usize| strings.get(index % strings.len());
            Tensor::strings(shape, (0..rows * each).map(at).collect::<Strings>())
        }
    }
}

/// Returns `tensor` with random numbers in place of its own; strings stay.
#[allow(clippy::wildcard_enum_match_arm)] // All others stay as they are, also new ones.
fn randomised(tensor: &Tensor, random: &mut Random) -> Tensor {
    let size = match tensor.dtype() {
        DType::Int8 | DType::UInt8 => 1,
        DType::Int16 | DType::UInt16 => 2,
        DType::Int32 | DType::UInt32 => 4,
        DType::Int64 | DType::UInt64 => 8,
        _ => return randomised_floats(tensor, random),
    };
    let values = (0..tensor.len()).map(|_| random.next() % MOST_RANDOM);
    of_bytes(tensor, values.flat_map(|value| value.to_le_bytes().into_iter().take(size)))
}

/// Like [`randomised`], for floating-point numbers only: whole numbers may be the indices of something.
#[allow(clippy::wildcard_enum_match_arm)] // All others stay as they are, also new ones.
fn randomised_floats(tensor: &Tensor, random: &mut Random) -> Tensor {
    match tensor.dtype() {
        DType::Float => {
            let (from, to) = range(tensor);
            let values = (0..tensor.len()).map(|_| from + (to - from) * random.part());
            of_bytes(tensor, values.flat_map(f32::to_le_bytes))
        }
        _ => tensor.clone(),
    }
}

/// Returns the range of the values of `tensor`; from -1 to 1 if there is none.
fn range(tensor: &Tensor) -> (f32, f32) {
    let values =
        tensor.bytes().chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap_or([0; 4])));
    let finite = values.filter(|value| value.is_finite());
    let (from, to) = finite.fold((f32::MAX, f32::MIN), |(from, to), value| (from.min(value), to.max(value)));
    if from < to { (from, to) } else { (-1.0, 1.0) }
}

fn of_bytes(like: &Tensor, bytes: impl Iterator<Item = u8>) -> Tensor {
    let mut all: Aligned<u8> = Aligned::new(64);
    bytes.for_each(|byte| all.push(byte));
    Tensor::from_values(like.dtype(), like.shape().to_vec(), all)
}

/// A sequence of numbers that look random, the same for the same seed (SplitMix64, <https://prng.di.unimi.it/splitmix64.c>).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// Returns a number from 0 to below 1.
    #[allow(clippy::cast_precision_loss)] // 24 bits, exactly.
    fn part(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 24) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::acceleration::chain::is_moderate;
    use proptest::prelude::*;

    fn spec(dtype: DType, shape: &[i64]) -> TensorSpec {
        TensorSpec { alias: "x".to_owned(), tensor: "x:0".to_owned(), dtype, shape: Some(shape.to_vec()) }
    }

    fn feeds(tensor: Tensor) -> Feeds {
        vec![(Endpoint(0), tensor)]
    }

    #[test]
    fn rows_are_repeated_and_numbers_are_random() {
        let sample = feeds(Tensor::numbers(DType::Float, vec![1, 2], vec![0; 8].into()));
        let made = inputs(&[spec(DType::Float, &[-1, 2])], &sample, true);
        let shapes: Vec<_> = made.iter().map(|feeds| feeds[0].1.shape().to_vec()).collect();
        assert_eq!(shapes, [[1, 2], [1, 2], [2, 2], [8, 2], [1, 2], [1, 2]]);
        assert_eq!((made[0][0].1.bytes(), made[4][0].1.bytes()), (&[0; 8][..], &[0; 8][..]));
        assert!(made[1..4].iter().all(|feeds| feeds[0].1.bytes().iter().any(|byte| *byte != 0)));
        assert_eq!(inputs(&[spec(DType::Float, &[1, 2])], &sample, true).len(), 4, "no dimension for rows");
        let kept = inputs(&[spec(DType::Float, &[-1, 2])], &sample, false);
        assert!(kept.iter().all(|feeds| feeds[0].1.bytes().iter().all(|byte| *byte == 0)));
    }

    #[test]
    fn strings_are_kept_and_whole_numbers_are_small() {
        let pictures = feeds(Tensor::strings(vec![1], ["jpeg"].into_iter().collect()));
        let made = inputs(&[spec(DType::String, &[-1])], &pictures, true);
        let all: Vec<_> = made.iter().flat_map(|feeds| feeds[0].1.as_strings().unwrap().iter()).collect();
        assert_eq!(all, [b"jpeg"; 14]);
        let ids = feeds(Tensor::numbers(DType::Int32, vec![1, 3], vec![0; 12].into()));
        let made = inputs(&[spec(DType::Int32, &[-1, 3])], &ids, true);
        let values = |feeds: &Feeds| bytemuck::pod_collect_to_vec::<u8, i32>(feeds[0].1.bytes());
        assert!(made.iter().all(|feeds| values(feeds).iter().all(|id| (0..8).contains(id))));
        assert_eq!(values(&of_rows(&[spec(DType::Int32, &[-1, 3])], &ids, 2, true)), [0; 6]);
    }

    #[test]
    fn extremes_are_as_large_and_as_small_as_they_come() {
        let floats = feeds(Tensor::numbers(DType::Float, vec![3], vec![0; 12].into()));
        let made = extremes(&floats);
        let values = |feeds: &Feeds| bytemuck::pod_collect_to_vec::<u8, f32>(feeds[0].1.bytes());
        assert_eq!(values(&made[2]), [LIMIT / 2.0, -LIMIT / 2.0, LIMIT / 2.0]);
        assert!(made.iter().all(|feeds| is_moderate(&feeds[0].1)));
        assert!(extremes(&feeds(Tensor::numbers(DType::Int32, vec![1], vec![0; 4].into()))).is_empty());
    }

    proptest! {
        #[test]
        fn any_sample_makes_tensors_of_its_kind(rows in 0usize..4, width in 0usize..4, dtype in 0usize..4) {
            let dtype = [DType::Float, DType::Int64, DType::Bool, DType::Half][dtype];
            let bytes = vec![1; rows * width * dtype.size()];
            let sample = feeds(Tensor::numbers(dtype, vec![rows as i64, width as i64], bytes.into()));
            for feeds in inputs(&[spec(dtype, &[-1, -1])], &sample, true) {
                prop_assert_eq!((feeds[0].1.dtype(), feeds[0].1.shape()[1]), (dtype, width as i64));
            }
        }
    }
}
