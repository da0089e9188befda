//! How accurate answers are that were computed in lower precision: pure.
//!
//! Such answers differ from the reference's, so they are measured instead of compared (`compare`). What can be chosen
//! from an answer has to be the same nearly always: the largest of each row of floating-point numbers, each whole
//! number, boolean and string. An output of floating-point numbers without rows has to be near. NaN and infinities have
//! to be where they were.

use super::compare::{floats, largest_place, row_length, same_kind, same_special};
use crate::tensor::{Data, Tensor};

/// The smallest share of rows and values that have to agree.
const AGREEING: f64 = 0.9;
/// The largest difference of outputs that have no rows to choose from, relative to a tensor's largest value.
const NEAR: f64 = 0.1;

/// What was measured so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Accuracy {
    /// The largest difference of a number, relative to its tensor's largest.
    pub(super) difference: f64,
    /// The same, of outputs that have no rows.
    difference_without_rows: f64,
    /// Rows of floating-point numbers, and values of other types; and how many of them agree.
    choices: u64,
    agreeing: u64,
}

impl Accuracy {
    /// Adds the answer `got` to a request that the reference answered with `expected`. Fails, for a person to read, if it
    /// is of another kind, or if it is not finite where the reference's is.
    pub(super) fn add(&mut self, expected: &[Tensor], got: &[Tensor]) -> Result<(), String> {
        if expected.len() != got.len() {
            return Err(format!("{} outputs instead of {}", got.len(), expected.len()));
        }
        expected.iter().zip(got).try_for_each(|(expected, got)| self.add_tensor(expected, got))
    }

    fn add_tensor(&mut self, expected: &Tensor, got: &Tensor) -> Result<(), String> {
        same_kind(expected, got)?;
        match (expected.data(), got.data()) {
            (Data::Strings(expected), Data::Strings(got)) => {
                self.count(expected.iter().zip(got.iter()).map(|(one, other)| one == other));
            }
            _ => match (floats(expected), floats(got)) {
                (Some(one), Some(other)) => self.add_floats(&one, &other, row_length(expected))?,
                _ => {
                    let values = |tensor| Tensor::bytes(tensor).chunks_exact(expected.dtype().size().max(1));
                    self.count(values(expected).zip(values(got)).map(|(one, other)| one == other));
                }
            },
        }
        Ok(())
    }

    fn add_floats(&mut self, expected: &[f64], got: &[f64], row: usize) -> Result<(), String> {
        let (mut scale, mut largest) = (0.0f64, 0.0f64);
        for (expected, got) in expected.iter().zip(got) {
            if expected.is_finite() && got.is_finite() {
                scale = scale.max(expected.abs());
                largest = largest.max((expected - got).abs());
            } else if !same_special(*expected, *got) {
                return Err(format!("{got} instead of {expected}"));
            }
        }
        let relative = if largest == 0.0 { 0.0 } else { largest / scale };
        self.difference = self.difference.max(relative);
        if row > 1 {
            self.count(expected.chunks_exact(row).zip(got.chunks_exact(row)).map(|(expected, got)| {
                match (largest_place(expected), largest_place(got)) {
                    // Of two that are equal, either is the largest.
                    (Some(one), Some(other)) => one == other || expected[one] == expected[other],
                    _ => true,
                }
            }));
        } else {
            self.difference_without_rows = self.difference_without_rows.max(relative);
        }
        Ok(())
    }

    fn count(&mut self, choices: impl Iterator<Item = bool>) {
        for agrees in choices {
            self.choices += 1;
            self.agreeing += u64::from(agrees);
        }
    }

    /// Returns the share of rows and values that agree; `None` if no output has any.
    #[allow(clippy::cast_precision_loss)] // Counts of a few requests.
    pub(super) fn agreement(&self) -> Option<f64> {
        (self.choices > 0).then(|| self.agreeing as f64 / self.choices as f64)
    }

    /// Returns why this is not accurate enough; `None` if it is.
    pub(super) fn refusal(&self) -> Option<String> {
        let (choices, agreeing) = (self.choices, self.agreeing);
        if self.agreement().is_some_and(|share| share < AGREEING) {
            let least = AGREEING * 100.0;
            return Some(format!(
                "only {agreeing} of {choices} rows and values agree with TensorFlow's, fewer than {least:.0} %"
            ));
        }
        // Not `>`: a difference of nothing has no size.
        (self.difference_without_rows.is_nan() || self.difference_without_rows > NEAR).then(|| {
            let difference = self.difference_without_rows;
            format!("a difference of {difference:.1e} of the largest value, more than {NEAR:.0e}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DType;
    use proptest::prelude::*;

    fn tensor(shape: &[i64], values: &[f32]) -> Tensor {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Tensor::numbers(DType::Float, shape.to_vec(), bytes.into())
    }

    fn measured(expected: Tensor, got: Tensor) -> Result<Accuracy, String> {
        let mut accuracy = Accuracy::default();
        accuracy.add(&[expected], &[got]).map(|()| accuracy)
    }

    #[test]
    fn the_largest_of_nearly_all_rows_has_to_stay() {
        let rows = |others: usize| {
            let mut accuracy = Accuracy::default();
            for row in 0..20 {
                let got = if row < others { [0.1, 0.9] } else { [0.6, 0.4] };
                accuracy.add(&[tensor(&[1, 2], &[0.9, 0.1])], &[tensor(&[1, 2], &got)]).unwrap();
            }
            accuracy
        };
        assert_eq!((rows(2).agreement(), rows(2).refusal()), (Some(0.9), None));
        assert!((rows(2).difference - 0.8 / 0.9).abs() < 1e-6, "shown, and no reason to refuse");
        let why = "only 17 of 20 rows and values agree with TensorFlow's, fewer than 90 %";
        assert_eq!(rows(3).refusal().unwrap(), why);
        let tie = measured(tensor(&[1, 2], &[1.0, 1.0]), tensor(&[1, 2], &[0.9, 1.0])).unwrap();
        assert_eq!(tie.agreement(), Some(1.0));
    }

    #[test]
    fn numbers_without_rows_have_to_be_near() {
        for shape in [&[2][..], &[2, 1]] {
            let near = measured(tensor(shape, &[10.0, 1.0]), tensor(shape, &[9.5, 1.0])).unwrap();
            assert_eq!((near.agreement(), near.refusal()), (None, None));
            let far = measured(tensor(shape, &[10.0, 1.0]), tensor(shape, &[8.0, 1.0])).unwrap();
            assert_eq!(far.refusal().unwrap(), "a difference of 2.0e-1 of the largest value, more than 1e-1");
        }
        let of_nothing = measured(tensor(&[1], &[0.0]), tensor(&[1], &[1.0])).unwrap();
        assert!(of_nothing.refusal().is_some());
    }

    #[test]
    fn what_is_not_finite_has_to_be_where_it_was() {
        let nan = f32::NAN;
        assert!(measured(tensor(&[2], &[nan, 1.0]), tensor(&[2], &[nan, 1.0])).is_ok());
        for got in [nan, f32::INFINITY] {
            assert!(measured(tensor(&[2], &[1.0, 1.0]), tensor(&[2], &[got, 1.0])).is_err());
        }
        assert!(measured(tensor(&[1], &[nan]), tensor(&[1], &[1.0])).is_err());
    }

    #[test]
    fn whole_numbers_and_strings_are_counted_one_by_one() {
        let ints = |values: [i32; 4]| {
            Tensor::numbers(DType::Int32, vec![4], bytemuck::cast_slice(&values).to_vec().into())
        };
        let counted = measured(ints([1, 2, 3, 4]), ints([1, 2, 3, 5])).unwrap();
        assert_eq!((counted.agreement(), counted.difference), (Some(0.75), 0.0));
        let words = |words: [&str; 2]| Tensor::strings(vec![2], words.into_iter().collect());
        let counted = measured(words(["a", "b"]), words(["a", "c"])).unwrap();
        assert_eq!(counted.agreement(), Some(0.5));
        assert!(measured(words(["a", "b"]), ints([1, 2, 3, 4])).is_err());
        assert!(Accuracy::default().add(&[ints([1, 2, 3, 4])], &[]).is_err());
    }

    proptest! {
        #[test]
        fn the_same_answer_is_accurate(values in prop::collection::vec(prop::num::f32::ANY, 1..40), rows in any::<bool>()) {
            let length = values.len() as i64;
            let shape = if rows { vec![1, length] } else { vec![length] };
            let one = tensor(&shape, &values);
            let accuracy = measured(one.clone(), one).unwrap();
            prop_assert_eq!((accuracy.difference, accuracy.refusal()), (0.0, None));
            prop_assert!(accuracy.agreement().is_none_or(|share| share == 1.0));
        }
    }
}
