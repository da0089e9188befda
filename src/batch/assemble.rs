//! Joins the rows of several requests into one tensor, and cuts a run's outputs into each request's rows.

use crate::error::{Error, Kind, Result};
use crate::tensor::{Aligned, Data, Shape, Strings, Tensor, append, element_count};

/// Highest rank that is padded, as in TensorFlow Serving.
const MAX_RANK: usize = 6;

/// Bytes up to which tensors are padded however much of it is padding.
const LITTLE: usize = 1 << 20;
/// How many times the elements that tensors have they may have once they are padded, beyond that.
const MOST_PADDING: usize = 4;

/// Returns whether two tensors can share a batch. With `pad`, the dimensions after the first may differ, though not so
/// much that the batch would be mostly padding; an empty tensor has nothing to be padded with.
pub(super) fn fit(one: &Tensor, other: &Tensor, pad: bool) -> bool {
    if one.dtype() != other.dtype() {
        return false;
    }
    let (inner, others) = (&one.shape()[1..], &other.shape()[1..]);
    inner == others
        || (pad
            && inner.len() == others.len()
            && inner.len() < MAX_RANK
            && !inner.contains(&0)
            && !others.contains(&0)
            && is_worth_padding(one, other))
}

fn is_worth_padding(one: &Tensor, other: &Tensor) -> bool {
    let rows = one.row_count() + other.row_count();
    let padded = element_count(&widest(&[one, other])).and_then(|elements| elements.checked_mul(rows));
    padded.is_some_and(|padded| {
        padded <= LITTLE / one.dtype().size().max(1) || padded / MOST_PADDING <= one.len() + other.len()
    })
}

/// Returns the dimensions after the first with room for each of `parts`.
fn widest(parts: &[&Tensor]) -> Shape {
    let mut inner = Shape::from(&parts[0].shape()[1..]);
    for part in parts {
        inner.iter_mut().zip(&part.shape()[1..]).for_each(|(most, dim)| *most = (*most).max(*dim));
    }
    inner
}

/// Returns the bytes that [`join`] allocates for each of `parts`, and the filler with the last; `None` if they are too
/// many to be counted.
pub(super) fn joined_sizes(parts: &[&Tensor], filler: usize) -> Option<Vec<usize>> {
    if parts.len() == 1 && filler == 0 {
        return Some(vec![0]);
    }
    let inner = widest(parts);
    let row = element_count(&inner)?;
    let size = |part: &&Tensor| {
        let joined = padded_size(part, row)?;
        // What is padded is made before it is joined.
        let copies = if part.shape()[1..] == inner[..] { 1 } else { 2 };
        joined.checked_mul(copies)
    };
    let mut sizes = parts.iter().map(size).collect::<Option<Vec<_>>>()?;
    let last = sizes.len() - 1;
    let filled = padded_size(&parts[last].rows(0..1), row)?.checked_mul(filler)?;
    sizes[last] = sizes[last].checked_add(filled)?;
    Some(sizes)
}

/// Returns the bytes of `tensor` once each of its rows has `row` elements.
fn padded_size(tensor: &Tensor, row: usize) -> Option<usize> {
    let elements = tensor.row_count().checked_mul(row)?;
    match tensor.data() {
        Data::Numbers(_) => elements.checked_mul(tensor.dtype().size()),
        Data::Strings(strings) if strings.len() == elements => Some(tensor.memory()),
        Data::Strings(strings) => {
            // Its content twice, as `Tensor::memory` counts it, and what an engine and this module have beside it.
            let each = strings.get(0).len().checked_mul(2)?.checked_add(64)?;
            elements.checked_sub(strings.len())?.checked_mul(each)?.checked_add(tensor.memory())
        }
    }
}

/// Concatenates `parts` by rows and appends `filler` rows, each like the first row of the last part. All parts [`fit`],
/// and none is without rows.
pub(super) fn join(parts: &[&Tensor], filler: usize) -> Tensor {
    let inner = widest(parts);
    let padded: Vec<_> = parts
        .iter()
        .map(|part| if part.shape()[1..] == inner[..] { (*part).clone() } else { pad(part, &inner) })
        .collect();
    let first_row = padded[padded.len() - 1].rows(0..1);
    let rows: usize = padded.iter().map(Tensor::row_count).sum();
    if let ([only], 0) = (&padded[..], filler) {
        return only.clone();
    }
    let all = padded.iter().chain(std::iter::repeat_n(&first_row, filler));
    let mut shape = inner;
    #[allow(clippy::cast_possible_wrap)] // Tensors in memory.
    shape.insert(0, (rows + filler) as i64);
    stacked(parts[0], shape, all)
}

/// Concatenates the values of `all`, which have the same dtype as `kind`.
fn stacked<'t>(kind: &Tensor, shape: Shape, all: impl Iterator<Item = &'t Tensor> + Clone) -> Tensor {
    match kind.data() {
        Data::Numbers(_) => {
            let bytes = all.clone().map(|tensor| tensor.bytes().len()).sum();
            let mut values: Aligned<u8> = Aligned::with_capacity(64, bytes);
            all.for_each(|tensor| append(&mut values, tensor.bytes()));
            Tensor::from_values(kind.dtype(), shape, values)
        }
        Data::Strings(_) => {
            let strings = all.filter_map(Tensor::as_strings).flat_map(Strings::iter).collect();
            Tensor::strings(shape, strings)
        }
    }
}

/// Enlarges the dimensions of `tensor` after the first to `inner`, filling up with its own first element.
fn pad(tensor: &Tensor, inner: &[i64]) -> Tensor {
    let mut shape = tensor.shape().to_vec();
    shape[1..].copy_from_slice(inner);
    let sizes =
        |shape: &[i64]| shape.iter().map(|dim| usize::try_from(*dim).unwrap_or(0)).collect::<Vec<_>>();
    let (from, to) = (sizes(tensor.shape()), sizes(&shape));
    match tensor.data() {
        Data::Numbers(bytes) => {
            let size = tensor.dtype().size();
            let mut values: Aligned<u8> = Aligned::with_capacity(64, to.iter().product::<usize>() * size);
            place(&from, &to, 0, &mut |run, filler| {
                append(&mut values, &bytes[run.start * size..run.end * size]);
                (0..filler).for_each(|_| values.extend_from_slice(&bytes[..size]));
            });
            Tensor::from_values(tensor.dtype(), shape, values)
        }
        Data::Strings(strings) => {
            let mut values = Vec::new();
            place(&from, &to, 0, &mut |run, filler| {
                values.extend(run.map(|index| strings.get(index)));
                values.extend(std::iter::repeat_n(strings.get(0), filler));
            });
            Tensor::strings(shape, values.into_iter().collect())
        }
    }
}

/// Calls `put` in order with the next run of elements and the number of filler elements after it, to enlarge the
/// dimensions `from` to `to`. `start` is the index of the first element.
fn place(from: &[usize], to: &[usize], start: usize, put: &mut impl FnMut(std::ops::Range<usize>, usize)) {
    match (from, to) {
        ([from], [to]) => put(start..start + from, to - from),
        ([outer, from @ ..], [more, to @ ..]) => {
            let stride: usize = from.iter().product();
            (0..*outer).for_each(|index| place(from, to, start + index * stride, put));
            put(start..start, (more - outer) * to.iter().product::<usize>());
        }
        _ => {}
    }
}

/// Smallest rows, in bytes, that answers keep where they are: what is smaller is copied into these.
const KEPT: usize = 16 << 10;

/// Cuts an output of a run of `rows` rows into the rows of each request, as many as `counts` says. The remaining rows
/// belong to filler. No request keeps more than twice its own: a client that is slow to take them would keep all.
pub(super) fn cut(output: &Tensor, counts: &[usize], rows: usize) -> Result<Vec<Tensor>> {
    if output.shape().is_empty() {
        return Err(Error::new(Kind::FailedPrecondition, "Batched output tensor has 0 dimensions"));
    }
    if output.row_count() != rows {
        return Err(Error::new(
            Kind::FailedPrecondition,
            "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the input \
             tensors",
        ));
    }
    let mut next = 0;
    Ok(counts
        .iter()
        .map(|count| {
            let first = next;
            next += count;
            let own = output.rows(first..next);
            if own.memory() >= KEPT && 2 * own.memory() < output.memory() { own.copied() } else { own }
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DType;

    fn ints(shape: &[i64], values: &[i32]) -> Tensor {
        let mut aligned: Aligned<i32> = Aligned::new(64);
        aligned.extend_from_slice(values);
        Tensor::from_values(DType::Int32, shape.to_vec(), aligned)
    }

    fn values(tensor: &Tensor) -> Vec<i32> {
        bytemuck::pod_collect_to_vec(tensor.bytes())
    }

    fn words(shape: &[i64], words: &[&str]) -> Tensor {
        Tensor::strings(shape.to_vec(), words.iter().collect())
    }

    #[test]
    fn rows_are_stacked_and_filled_up_with_the_last_parts_first() {
        let (one, two) = (ints(&[1, 2], &[1, 2]), ints(&[2, 2], &[3, 4, 5, 6]));
        let joined = join(&[&one, &two], 2);
        assert_eq!(joined.shape(), [5, 2]);
        assert_eq!(values(&joined), [1, 2, 3, 4, 5, 6, 3, 4, 3, 4]);
        assert_eq!(joined.bytes().as_ptr() as usize % 64, 0);
        let joined = join(&[&words(&[2], &["a", ""]), &words(&[1], &["bc"])], 1);
        assert_eq!(joined.as_strings().unwrap().iter().collect::<Vec<_>>(), [&b"a"[..], b"", b"bc", b"bc"]);
    }

    #[test]
    fn one_part_is_not_copied() {
        let one = ints(&[2, 2], &[1, 2, 3, 4]);
        assert_eq!(join(&[&one], 0).bytes().as_ptr(), one.bytes().as_ptr());
    }

    #[test]
    fn what_differs_is_padded_with_each_tensors_own_first_element() {
        let (one, two) = (ints(&[1, 1, 3], &[1, 2, 3]), ints(&[2, 2, 1], &[7, 8, 9, 10]));
        assert!(fit(&one, &two, true));
        let joined = join(&[&one, &two], 0);
        assert_eq!(joined.shape(), [3, 2, 3]);
        assert_eq!(values(&joined), [1, 2, 3, 1, 1, 1, 7, 7, 7, 8, 7, 7, 9, 7, 7, 10, 7, 7]);
        let joined = join(&[&words(&[1, 1], &["a"]), &words(&[1, 2], &["b", "c"])], 0);
        assert_eq!(joined.as_strings().unwrap().iter().collect::<Vec<_>>(), [b"a", b"a", b"b", b"c"]);
    }

    #[test]
    fn what_does_not_fit_never_meets() {
        let one = ints(&[1, 2], &[1, 2]);
        assert!(!fit(&one, &ints(&[1, 3], &[1, 2, 3]), false));
        assert!(fit(&one, &ints(&[3, 2], &[0; 6]), false));
        assert!(!fit(&one, &ints(&[2], &[1, 2]), true), "another rank");
        assert!(!fit(&one, &ints(&[1, 0], &[]), true), "nothing to pad with");
        assert!(!fit(&one, &words(&[1, 2], &["a", "b"]), true), "another dtype");
        let (wide, high) = (ints(&[1, 1, 4000], &[0; 4000]), ints(&[1, 4000, 1], &[0; 4000]));
        assert!(!fit(&wide, &high, true), "mostly padding");
        assert!(fit(&wide, &ints(&[1, 1, 1], &[0]), true), "little of it");
        let deep = |last: i64| ints(&[1, 1, 1, 1, 1, 1, last], &vec![0; usize::try_from(last).unwrap()]);
        assert!(!fit(&deep(1), &deep(2), true), "rank 7");
    }

    #[test]
    fn large_rows_of_a_larger_batch_are_cut_into_memory_of_their_own() {
        const ROW: usize = KEPT / 4;
        let output = ints(&[4, ROW as i64], &vec![7; 4 * ROW]);
        let is_within = |own: &Tensor| output.bytes().as_ptr_range().contains(&own.bytes().as_ptr());
        let cut = |counts: &[usize]| cut(&output, counts, 4).unwrap();
        assert!(cut(&[2, 2]).iter().all(is_within));
        let rows = cut(&[1, 3]);
        assert_eq!((is_within(&rows[0]), is_within(&rows[1])), (false, true));
        assert_eq!((rows[0].shape(), values(&rows[0])), (&[1, ROW as i64][..], vec![7; ROW]));
        let small = ints(&[4], &[1, 2, 3, 4]);
        let row = &super::cut(&small, &[1], 4).unwrap()[0];
        assert_eq!(row.bytes().as_ptr(), small.bytes().as_ptr());
    }

    #[test]
    fn what_is_joined_is_counted_before() {
        let (one, two) = (ints(&[1, 1, 3], &[1, 2, 3]), ints(&[2, 2, 1], &[7, 8, 9, 10]));
        assert_eq!(joined_sizes(&[&one], 0), Some(vec![0]), "it is not copied");
        // Six elements a row, once padded and once joined.
        assert_eq!(joined_sizes(&[&one, &two], 0), Some(vec![2 * 24, 2 * 48]));
        assert_eq!(joined_sizes(&[&one, &two], 3), Some(vec![2 * 24, 2 * 48 + 3 * 24]));
        assert_eq!(joined_sizes(&[&one, &one], 2), Some(vec![12, 12 + 24]));
        let (a, bc) = (words(&[1, 1], &["a"]), words(&[1, 2], &["b", "c"]));
        let sizes = joined_sizes(&[&a, &bc], 1).unwrap();
        assert!(sizes.iter().sum::<usize>() >= join(&[&a, &bc], 1).memory(), "{sizes:?}");
        assert_eq!(joined_sizes(&[&one], usize::MAX), None);
    }

    #[test]
    fn outputs_are_cut_by_rows() {
        let output = ints(&[4, 2], &[1, 2, 3, 4, 5, 6, 7, 8]);
        let parts = cut(&output, &[1, 2], 4).unwrap();
        assert_eq!((parts[0].shape(), values(&parts[0])), (&[1, 2][..], vec![1, 2]));
        assert_eq!((parts[1].shape(), values(&parts[1])), (&[2, 2][..], vec![3, 4, 5, 6]));
        let parts = cut(&words(&[3], &["a", "bc", ""]), &[2, 1], 3).unwrap();
        assert_eq!(parts[0].as_strings().unwrap().iter().collect::<Vec<_>>(), [&b"a"[..], b"bc"]);
        assert_eq!(parts[1].as_strings().unwrap().iter().collect::<Vec<_>>(), [b""]);
    }

    #[test]
    fn an_output_without_the_rows_is_refused() {
        for output in [ints(&[], &[1]), ints(&[1], &[1]), ints(&[3], &[1, 2, 3])] {
            let error = cut(&output, &[1, 1], 2).unwrap_err();
            assert_eq!(error.kind, Kind::FailedPrecondition);
        }
    }
}
