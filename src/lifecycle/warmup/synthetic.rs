//! Warm-up without known requests: a call with zeros.

use super::repeat;
use crate::context::Context;
use crate::engine::signature::{Signature, TensorSpec};
use crate::metrics::Api;
use crate::servable::{Run, Servable};
use crate::tensor::{DType, Tensor, element_count};
use std::time::{Duration, Instant};

/// Most elements of a synthetic input; larger inputs are left to the first request.
const MAX_ELEMENTS: usize = 16 << 20;

/// Time after which a call is given up.
const LONGEST: Duration = Duration::from_secs(5);

/// Calls every signature that is safe to call, except those already `warm`. A failure does not fail the load: the model
/// may need values other than zeros.
pub(super) fn call(servable: &Servable, warm: impl Fn(&str) -> bool) {
    for signature in servable.signatures().values() {
        if warm(&signature.name)
            || !servable.changes_nothing(&signature.name)
            || !servable.ends(&signature.name)
        {
            continue;
        }
        let Some(zeros) = zeros(servable, signature) else { continue };
        let run = || {
            // With zeros, a loop may never end.
            let context = Context { deadline: Instant::now().checked_add(LONGEST), ..Context::default() };
            servable.run(zeros.clone(), &context)
        };
        if let Err(why) = repeat(|| run().map(drop)) {
            tracing::debug!("{} {}: warm-up with zeros: {why}", servable.name(), signature.name);
        }
    }
}

/// Makes zeros for every input, and fetches all outputs; `None` if that is impossible.
fn zeros(servable: &Servable, signature: &Signature) -> Option<Run> {
    if signature.inputs.is_empty() || signature.outputs.is_empty() {
        return None;
    }
    let feed = |spec: &TensorSpec| {
        let shape: Vec<i64> =
            spec.shape.as_ref()?.iter().map(|dim| if *dim < 0 { 1 } else { *dim }).collect();
        let elements = element_count(&shape).filter(|count| *count <= MAX_ELEMENTS)?;
        let size = spec.dtype.size();
        let plain = spec.dtype != DType::Invalid && size > 0;
        let bytes = plain.then(|| vec![0u8; elements * size])?;
        Some((servable.endpoint(spec).ok()?, Tensor::numbers(spec.dtype, shape, bytes.into())))
    };
    Some(Run {
        api: Api::Other,
        signature: signature.name.clone(),
        feeds: signature.inputs.iter().map(feed).collect::<Option<_>>()?,
        fetches: signature.outputs.iter().map(|spec| servable.endpoint(spec).ok()).collect::<Option<_>>()?,
    })
}
