//! Warm-up: what a version runs before it is published, so that its first request is as fast as its hundredth.
//!
//! The first run of a signature builds its executor and optimises its graph (milliseconds to seconds). A synthetic
//! call with zeros of the declared shape (1 for every unknown dimension) does that ahead, where it is safe: the
//! signature must be known to change nothing, and its inputs must be numbers. Short runs are repeated until it is
//! known where the servable's requests run best (`servable/placement.rs`).

use crate::engine::Endpoint;
use crate::metrics::Api;
use crate::servable::Servable;
use crate::servable::signature::Signature;
use crate::tensor::{DType, Tensor, element_count};
use std::time::{Duration, Instant};

/// The largest synthetic input; larger ones are left to the first request.
const MAX_ELEMENTS: usize = 16 << 20;
/// After this long no call is repeated.
const ENOUGH: Duration = Duration::from_millis(20);
/// So many calls are enough to know that runs are short.
const MAX_CALLS: usize = 12;

/// Calls every signature that can be called safely. Failures are no failures of the load: the model may want other
/// values than zeros.
pub(super) fn synthetic(servable: &Servable) {
    for signature in servable.signatures().values() {
        if !servable.changes_nothing(&signature.name) {
            continue;
        }
        if let Some((feeds, fetches)) = zeros(servable, signature) {
            call(servable, signature, &feeds, &fetches);
        }
    }
}

/// What is fed, and what is fetched.
type Call = (Vec<(Endpoint, Tensor)>, Vec<Endpoint>);

fn call(servable: &Servable, signature: &Signature, feeds: &[(Endpoint, Tensor)], fetches: &[Endpoint]) {
    let started = Instant::now();
    for _ in 0..MAX_CALLS {
        if let Err(why) = servable.run(Api::Other, &signature.name, feeds, fetches, None) {
            tracing::debug!("{} {}: warm-up with zeros: {why}", servable.name(), signature.name);
            return;
        }
        if started.elapsed() > ENOUGH {
            return;
        }
    }
}

/// Zeros for every input and all outputs, or nothing where that cannot be made.
fn zeros(servable: &Servable, signature: &Signature) -> Option<Call> {
    if signature.inputs.is_empty() || signature.outputs.is_empty() {
        return None;
    }
    let feeds = signature.inputs.iter().map(|spec| {
        let shape: Vec<i64> =
            spec.shape.as_ref()?.iter().map(|dim| if *dim < 0 { 1 } else { *dim }).collect();
        let elements = element_count(&shape).filter(|count| *count <= MAX_ELEMENTS)?;
        let size = spec.dtype.size();
        let plain = spec.dtype != DType::Invalid && size > 0;
        let bytes = plain.then(|| vec![0u8; elements * size])?;
        Some((servable.endpoint(spec).ok()?, Tensor::numbers(spec.dtype, shape, bytes.into())))
    });
    let fetches = signature.outputs.iter().map(|spec| servable.endpoint(spec).ok());
    Some((feeds.collect::<Option<Vec<_>>>()?, fetches.collect::<Option<Vec<_>>>()?))
}
