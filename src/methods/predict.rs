//! THE HOT PATH: bind inputs → run → outputs.

use super::Context;
use crate::error::{Error, Kind, Result};
use crate::metrics::Api;
use crate::servable::Servable;
use crate::servable::signature::Signature;
use crate::tensor::Tensor;

/// Runs `signature` on `inputs`, one tensor per input in the signature's order (sorted by alias), and returns one
/// tensor per output of `outputs` (positions in the signature's outputs), in that order.
pub fn predict(
    servable: &Servable,
    signature: &Signature,
    inputs: Vec<Tensor>,
    outputs: &[usize],
    context: &Context,
) -> Result<Vec<Tensor>> {
    let feeds = signature
        .inputs
        .iter()
        .zip(inputs)
        .map(|(spec, tensor)| Ok((servable.endpoint(spec)?, tensor)))
        .collect::<Result<Vec<_>>>()?;
    let fetches = outputs
        .iter()
        .map(|output| servable.endpoint(&signature.outputs[*output]))
        .collect::<Result<Vec<_>>>()?;
    let results = servable.run(Api::Predict, &signature.name, &feeds, &fetches, context.deadline)?;
    context.memory.grow(results.iter().map(Tensor::memory).sum())?;
    if results.len() == fetches.len() {
        Ok(results)
    } else {
        Err(Error::new(Kind::Unknown, "Predict internal error"))
    }
}
