//! What is known of runs by the shapes of their inputs.

use crate::tensor::Tensor;
use smallvec::SmallVec;
use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

/// The shapes of all inputs of a run, each led by its number of dimensions.
pub(super) type Shapes = SmallVec<[i64; 8]>;

/// Returns the shapes of `tensors`.
pub(super) fn shapes_of<'t>(tensors: impl IntoIterator<Item = &'t Tensor>) -> Shapes {
    let mut shapes = Shapes::new();
    for tensor in tensors {
        shapes.push(i64::try_from(tensor.shape().len()).unwrap_or(i64::MAX));
        shapes.extend_from_slice(tensor.shape());
    }
    shapes
}

/// Most shapes that are remembered: with one more, all are forgotten.
const MOST: usize = 4096;

/// Shapes with which a model has run, each with whether that was well.
#[derive(Default)]
pub(super) struct KnownShapes(RwLock<HashMap<Shapes, bool>>);

impl KnownShapes {
    /// Returns whether runs of `shapes` were well; `None` if they are new.
    pub(super) fn get(&self, shapes: &Shapes) -> Option<bool> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.get(shapes).copied()
    }

    /// Keeps whether a run was well. What was not stays so, until it is forgotten.
    pub(super) fn learn(&self, shapes: Shapes, is_well: bool) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = known.get_mut(&shapes) {
            *before &= is_well;
            return;
        }
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(shapes, is_well);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DType;

    fn of(shapes: &[&[i64]]) -> Shapes {
        let empty = |shape: &[i64]| Tensor::numbers(DType::Int8, [shape, &[0]].concat(), vec![].into());
        let tensors: Vec<Tensor> = shapes.iter().map(|shape| empty(shape)).collect();
        shapes_of(&tensors)
    }

    #[test]
    fn shapes_are_told_apart() {
        let all =
            [of(&[]), of(&[&[6]]), of(&[&[2, 3]]), of(&[&[2], &[3]]), of(&[&[6], &[]]), of(&[&[], &[6]])];
        for (at, one) in all.iter().enumerate() {
            assert!(all[..at].iter().all(|other| other != one), "{one:?}");
        }
    }

    #[test]
    fn what_was_not_well_stays_so() {
        let known = KnownShapes::default();
        let shapes = of(&[&[2, 3]]);
        let mut seen = vec![known.get(&shapes)];
        for is_well in [true, false, true] {
            known.learn(shapes.clone(), is_well);
            seen.push(known.get(&shapes));
        }
        assert_eq!(seen, [None, Some(true), Some(false), Some(false)]);
    }

    #[test]
    fn with_too_many_all_are_forgotten() {
        let known = KnownShapes::default();
        let shapes = |count: usize| Shapes::from_slice(&[1, i64::try_from(count).unwrap()]);
        (0..MOST).for_each(|count| known.learn(shapes(count), true));
        known.learn(shapes(0), false);
        assert_eq!([MOST, 0, 1].map(|count| known.get(&shapes(count))), [None, Some(false), Some(true)]);
        known.learn(shapes(MOST), true);
        assert_eq!([MOST, 0, 1].map(|count| known.get(&shapes(count))), [Some(true), None, None]);
    }
}
