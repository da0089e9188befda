//! A body that is the data of the only input, without any JSON: `Inference-Header-Content-Length: 0`.

use super::{Against, Infer};
use crate::engine::signature::{Signature, TensorSpec};
use crate::error::{Error, Result};
use crate::memory::Reservation;
use crate::open_inference::inputs::Inputs;
use crate::open_inference::outputs::Outputs;
use crate::open_inference::strings;
use crate::open_inference::{datatype, refusal};
use crate::tensor::{DType, Shape, Strings, element_count};
use bytes::Bytes;

/// Makes the request for `signature` of its only input's data: numbers, or one string. All outputs are wanted, in binary
/// form.
pub(super) fn infer<'s>(
    body: Bytes,
    against: Against<'s>,
    signature: &'s Signature,
    memory: &Reservation,
) -> Result<Infer<'s>> {
    let [spec] = signature.inputs.as_slice() else {
        return Err(Error::invalid(format!(
            "A body without JSON is for models with one input, which '{}' is not: its inputs are {}",
            refusal::shown(against.model),
            refusal::names(&signature.inputs)
        )));
    };
    let mut inputs = Inputs::new(against.model, signature);
    let datatype = datatype::any_name(spec.dtype);
    let expected = inputs.expect(&spec.alias, datatype, &shape(spec, body.len()))?;
    let tensor = if spec.dtype == DType::String {
        // Once more for the engine.
        memory.grow(2 * body.len() + strings::EACH)?;
        let ends = vec![body.len()];
        expected.of_strings(Strings::new(body, ends))?
    } else {
        expected.read(body, memory)?
    };
    inputs.put(0, tensor);
    let outputs = Outputs::new(against.model, signature).finish()?;
    Ok(Infer { id: None, signature, inputs: inputs.finish()?, outputs, binary_output: true })
}

/// Returns the shape of `bytes` of data: unknown dimensions are 1, except for the last of them, which is what makes that
/// many bytes. What does not fit is refused later.
fn shape(spec: &TensorSpec, bytes: usize) -> Shape {
    let is_text = spec.dtype == DType::String;
    let elements = if is_text { 1 } else { bytes.checked_div(spec.dtype.size()).unwrap_or(0) };
    let mut shape: Shape = spec.shape.as_deref().unwrap_or(&[-1]).into();
    let known: Shape = shape.iter().copied().filter(|dim| *dim >= 0).collect();
    let rest = element_count(&known).and_then(|known| elements.checked_div(known)).unwrap_or(0);
    let last = shape.iter().rposition(|dim| *dim < 0);
    for (index, dim) in shape.iter_mut().enumerate().filter(|(_, dim)| **dim < 0) {
        *dim = if Some(index) == last { i64::try_from(rest).unwrap_or(i64::MAX) } else { 1 };
    }
    shape
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_unknown_dimension_is_what_is_left() {
        let of = |dtype, dims: Option<&[i64]>, bytes| {
            let (alias, tensor) = (String::new(), String::new());
            let shape =
                super::shape(&TensorSpec { alias, tensor, dtype, shape: dims.map(<[i64]>::to_vec) }, bytes);
            shape.to_vec()
        };
        assert_eq!(of(DType::Float, Some(&[-1, 2, -1]), 24), [1, 2, 3]);
        assert_eq!(of(DType::Float, Some(&[-1, 2]), 24), [3, 2]);
        assert_eq!(of(DType::Float, None, 24), [6]);
        assert_eq!(of(DType::Float, Some(&[3, 2]), 4), [3, 2]);
        assert_eq!(of(DType::Float, Some(&[-1, 0]), 24), [0, 0]);
        assert_eq!(of(DType::String, Some(&[-1]), 24), [1]);
        assert_eq!(of(DType::String, Some(&[-1, 2]), 24), [0, 2]);
        assert_eq!(of(DType::String, Some(&[]), 24), [0; 0]);
        assert_eq!(of(DType::Int64, Some(&[i64::MAX, i64::MAX, -1]), 24), [i64::MAX, i64::MAX, 0]);
    }
}
