//! Predict: bind inputs → run → outputs.

use super::Context;
use super::bind::unknown_signature;
use crate::error::{Error, Kind, Result};
use crate::metrics::Api;
use crate::servable::Servable;
use crate::tensor::Tensor;

/// Runs `signature` on `inputs`, one tensor per input in the signature's order (sorted by alias), and returns one
/// tensor per output of `outputs` (positions in the signature's outputs) with its alias, in that order.
pub(super) fn predict<'s>(
    servable: &'s Servable,
    signature: &str,
    inputs: Vec<Tensor>,
    outputs: &[usize],
    context: &Context,
) -> Result<Vec<(&'s str, Tensor)>> {
    let signature = servable.signature(signature).ok_or_else(|| unknown_signature(signature))?;
    let feeds = signature
        .inputs
        .iter()
        .zip(inputs)
        .map(|(spec, tensor)| Ok((servable.endpoint(spec)?, tensor)))
        .collect::<Result<Vec<_>>>()?;
    let wanted = || outputs.iter().map(|output| &signature.outputs[*output]);
    let fetches = wanted().map(|spec| servable.endpoint(spec)).collect::<Result<Vec<_>>>()?;
    let results = servable.run(Api::Predict, &signature.name, &feeds, &fetches, context)?;
    context.memory.grow(results.iter().map(Tensor::memory).sum())?;
    if results.len() == fetches.len() {
        Ok(wanted().map(|spec| spec.alias.as_str()).zip(results).collect())
    } else {
        Err(Error::new(Kind::Unknown, "Predict internal error"))
    }
}
