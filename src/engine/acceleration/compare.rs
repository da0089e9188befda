//! Whether two answers are the same: pure.
//!
//! Whole numbers, booleans and strings have to be equal. Floating-point numbers may differ by a part of the tensor's
//! largest value, for another order of additions rounds otherwise; NaN and infinities have to be where they were, and
//! the largest of each row has to stay the largest, unless the two differ by less than that.

use crate::tensor::{DType, Data, Tensor};

/// Returns the largest relative difference of any number, or what differs, for a person to read. `tolerance`: the
/// accepted difference, relative to a tensor's largest finite value.
pub fn difference(expected: &[Tensor], got: &[Tensor], tolerance: f64) -> Result<f64, String> {
    if expected.len() != got.len() {
        return Err(format!("{} outputs instead of {}", got.len(), expected.len()));
    }
    let mut largest = 0.0f64;
    for (expected, got) in expected.iter().zip(got) {
        largest = largest.max(of_tensor(expected, got, tolerance)?);
    }
    Ok(largest)
}

fn of_tensor(expected: &Tensor, got: &Tensor, tolerance: f64) -> Result<f64, String> {
    same_kind(expected, got)?;
    match (expected.data(), got.data()) {
        (Data::Strings(expected), Data::Strings(got)) => match expected.iter().eq(got.iter()) {
            true => Ok(0.0),
            false => Err("other strings".to_owned()),
        },
        _ => match (floats(expected), floats(got)) {
            (Some(one), Some(other)) => of_floats(&one, &other, row_length(expected), tolerance),
            _ if expected.bytes() == got.bytes() => Ok(0.0),
            _ => Err(format!("other values of {}", expected.dtype().name())),
        },
    }
}

/// Fails if the types or the shapes of two tensors differ.
pub(super) fn same_kind(expected: &Tensor, got: &Tensor) -> Result<(), String> {
    let kind = |tensor: &Tensor| format!("{} {:?}", tensor.dtype().name(), tensor.shape());
    if expected.dtype() != got.dtype() || expected.shape() != got.shape() {
        return Err(format!("{} instead of {}", kind(got), kind(expected)));
    }
    Ok(())
}

/// Returns the length of the last dimension, along which a class is chosen.
pub(super) fn row_length(tensor: &Tensor) -> usize {
    match tensor.shape() {
        [.., _, last] => usize::try_from(*last).unwrap_or(0),
        _ => 0,
    }
}

fn of_floats(expected: &[f64], got: &[f64], row: usize, tolerance: f64) -> Result<f64, String> {
    let scale =
        expected.iter().filter(|value| value.is_finite()).fold(0.0f64, |most, value| most.max(value.abs()));
    let mut largest = 0.0f64;
    for (expected, got) in expected.iter().zip(got) {
        if expected.is_finite() && got.is_finite() {
            largest = largest.max((expected - got).abs());
        } else if !same_special(*expected, *got) {
            return Err(format!("{got} instead of {expected}"));
        }
    }
    let relative = if largest == 0.0 { 0.0 } else { largest / scale };
    if relative > tolerance {
        return Err(format!(
            "a difference of {relative:.1e} of the largest value, more than {tolerance:.0e}"
        ));
    }
    if row > 1 && !same_largest(expected, got, row, scale * tolerance) {
        return Err("another largest value in a row".to_owned());
    }
    Ok(relative)
}

/// Fails if a number of `expected` is not finite and that of `got` is: what differs, for a person to read. Other
/// differences do not count.
pub(super) fn specials(expected: &[Tensor], got: &[Tensor]) -> Result<(), String> {
    for (expected, got) in expected.iter().zip(got) {
        same_kind(expected, got)?;
        let (Some(expected), Some(got)) = (floats(expected), floats(got)) else { continue };
        let found =
            expected.iter().zip(&got).find(|(expected, got)| !expected.is_finite() && got.is_finite());
        if let Some((expected, got)) = found {
            return Err(format!("{got} instead of {expected}, for very large or small inputs"));
        }
    }
    Ok(())
}

pub(super) fn same_special(expected: f64, got: f64) -> bool {
    (expected.is_nan() && got.is_nan()) || expected == got
}

/// Returns where the largest value of a row is.
pub(super) fn largest_place(row: &[f64]) -> Option<usize> {
    row.iter().enumerate().max_by(|one, other| one.1.total_cmp(other.1)).map(|(at, _)| at)
}

/// Returns whether the largest value of each row is where it was. `tie`: values this close may change places.
fn same_largest(expected: &[f64], got: &[f64], row: usize, tie: f64) -> bool {
    expected.chunks_exact(row).zip(got.chunks_exact(row)).all(|(expected, got)| {
        match (largest_place(expected), largest_place(got)) {
            (Some(one), Some(other)) => one == other || (expected[one] - expected[other]).abs() <= tie,
            _ => true,
        }
    })
}

/// Returns the values of a tensor of floating-point numbers; `None` for another one.
#[allow(clippy::wildcard_enum_match_arm)] // All others are no floats, also new ones.
pub(super) fn floats(tensor: &Tensor) -> Option<Vec<f64>> {
    let bytes = tensor.bytes();
    match tensor.dtype() {
        DType::Float => Some(numbers(bytes, |four| f64::from(f32::from_le_bytes(four)))),
        DType::Double => Some(numbers(bytes, f64::from_le_bytes)),
        DType::BFloat16 => {
            Some(numbers(bytes, |two: [u8; 2]| f64::from(f32::from_le_bytes([0, 0, two[0], two[1]]))))
        }
        DType::Half => Some(numbers(bytes, |two| half(u16::from_le_bytes(two)))),
        _ => None,
    }
}

fn numbers<const SIZE: usize>(bytes: &[u8], value: impl Fn([u8; SIZE]) -> f64) -> Vec<f64> {
    bytes.chunks_exact(SIZE).map(|chunk| value(chunk.try_into().unwrap_or([0; SIZE]))).collect()
}

/// Converts a number of 16 bits (IEEE 754 binary16).
fn half(bits: u16) -> f64 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023));
    sign * match exponent {
        0 => fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1.0 + fraction / 1024.0) * 2f64.powi(exponent - 15),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row(values: &[f32]) -> Tensor {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Tensor::numbers(DType::Float, vec![1, values.len() as i64], bytes.into())
    }

    fn compared(expected: &[f32], got: &[f32]) -> Result<f64, String> {
        difference(&[row(expected)], &[row(got)], 1e-5)
    }

    #[test]
    fn floats_may_differ_by_a_part_of_the_largest_value() {
        assert_eq!(compared(&[1.0, 2.0], &[1.0, 2.0]), Ok(0.0));
        assert!(compared(&[1.0, 100.0], &[1.0009, 100.0]).is_ok());
        assert_eq!(
            compared(&[1.0, 100.0], &[1.002, 100.0]),
            Err("a difference of 2.0e-5 of the largest value, more than 1e-5".to_owned())
        );
        assert!(compared(&[0.0, 0.0], &[1e-30, 0.0]).is_err(), "of nothing, nothing may differ");
    }

    #[test]
    fn nan_and_infinities_have_to_be_where_they_were() {
        let (nan, infinite) = (f32::NAN, f32::INFINITY);
        assert_eq!(compared(&[nan, infinite, -infinite, 1.0], &[nan, infinite, -infinite, 1.0]), Ok(0.0));
        for got in [[1.0, 0.0], [nan, nan], [infinite, 0.0]] {
            assert!(compared(&[1.0, infinite], &got).is_err(), "{got:?}");
        }
        assert!(compared(&[infinite], &[-infinite]).is_err());
    }

    #[test]
    fn what_is_no_number_may_not_become_one() {
        let (nan, infinite) = (f32::NAN, f32::INFINITY);
        let compared = |expected: &[f32], got: &[f32]| specials(&[row(expected)], &[row(got)]);
        assert_eq!(compared(&[1.0, nan, infinite, 3.0], &[5.0, infinite, nan, nan]), Ok(()));
        let why = "1 instead of inf, for very large or small inputs";
        assert_eq!(compared(&[1.0, infinite], &[1.0, 1.0]), Err(why.to_owned()));
        assert!(compared(&[1.0], &[1.0, 1.0]).is_err());
    }

    #[test]
    fn the_largest_of_a_row_stays_the_largest_unless_there_are_two() {
        assert!(compared(&[1.0, 0.999_999], &[0.999_999, 1.0]).is_ok(), "a tie");
        let wide = difference(&[row(&[1.0, 0.9])], &[row(&[0.9, 1.0])], 0.2);
        assert!(wide.is_ok(), "a tie by what is accepted");
        assert!(!same_largest(&[1.0, 0.9], &[0.9, 1.0], 2, 0.01));
    }

    #[test]
    fn whole_numbers_and_strings_are_equal_or_not() {
        let ints = |value: i64| Tensor::numbers(DType::Int64, vec![1], value.to_le_bytes().to_vec().into());
        assert_eq!(difference(&[ints(5)], &[ints(5)], 1.0), Ok(0.0));
        assert_eq!(difference(&[ints(5)], &[ints(6)], 1.0), Err("other values of int64".to_owned()));
        let words = |word: &str| Tensor::strings(vec![1], [word].into_iter().collect());
        assert_eq!(difference(&[words("a")], &[words("b")], 1.0), Err("other strings".to_owned()));
        assert_eq!(
            difference(&[ints(5)], &[row(&[5.0])], 1.0),
            Err("float [1, 1] instead of int64 [1]".to_owned())
        );
        assert_eq!(difference(&[ints(5)], &[], 1.0), Err("0 outputs instead of 1".to_owned()));
    }

    #[test]
    fn short_floats_are_read() {
        for (bits, value) in [(0x3c00, 1.0), (0xc000, -2.0), (0x0001, 2f64.powi(-24)), (0x7bff, 65504.0)] {
            assert_eq!(half(bits), value);
        }
        assert!(half(0x7e00).is_nan() && half(0xfc00) == f64::NEG_INFINITY);
        let two = |bytes: [u8; 2], dtype| Tensor::numbers(dtype, vec![1], bytes.to_vec().into());
        assert_eq!(floats(&two([0x80, 0x3f], DType::BFloat16)), Some(vec![1.0]));
        assert_eq!(floats(&two([0x00, 0x3c], DType::Half)), Some(vec![1.0]));
    }

    proptest! {
        #[test]
        fn what_is_equal_has_no_difference(values in prop::collection::vec(prop::num::f32::ANY, 1..40)) {
            prop_assert_eq!(compared(&values, &values), Ok(0.0));
        }

        #[test]
        fn what_differs_much_is_refused(values in prop::collection::vec(-1e3f32..1e3, 1..40), at in any::<prop::sample::Index>()) {
            let mut other = values.clone();
            let place = at.index(values.len());
            other[place] += 1.0;
            prop_assert!(compared(&values, &other).is_err());
        }
    }
}
