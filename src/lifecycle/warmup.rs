//! Warm-up: runs before a version is published, so that its first request is as fast as its hundredth.
//!
//! The first run of a signature builds its executor and optimises its graph (milliseconds to seconds). The requests of
//! a warm-up file do that in advance; without them, a synthetic call does, if that is safe: the signature must be known
//! to have no side effects. It is made of zeros of the declared shape (1 for every unknown dimension), and of strings
//! that hold what the model decodes: a picture, an example, text. Where that fails, larger values are tried. What stays
//! cold is logged. Short runs are repeated until the best place for the servable's requests is known
//! (`servable/placement.rs`). If requests are batched, every batch size runs as well (`batch/`).

mod picture;
mod recorded;
mod sample;
mod synthetic;

use super::Options;
use crate::error::Result;
use crate::methods::ServerState;
use crate::servable::Servable;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// Time after which no call is repeated, once it is known where it is best done.
const ENOUGH: Duration = Duration::from_millis(20);
/// Time after which none is repeated in any case.
const LONGEST: Duration = Duration::from_millis(250);
/// Most repetitions; enough to know that runs are short.
pub(super) const MAX_CALLS: usize = 16;

/// Warms `servable`, whose files are in `folder`. Fails if a request of the warm-up file fails.
pub(super) fn warm(
    server: &ServerState,
    servable: &Servable,
    folder: &Path,
    options: &Options,
) -> Result<()> {
    let requests = if options.warmup {
        recorded::replay(server, servable, folder, options.warmup_iterations)?
    } else {
        BTreeMap::new()
    };
    for (signature, request) in &requests {
        if servable.changes_nothing(signature) {
            repeat(servable, signature, || request.run(server, servable))?;
        }
    }
    if options.synthetic_warmup {
        let cold = synthetic::call(servable, |signature| requests.contains_key(signature));
        synthetic::tell(servable, &cold);
    }
    servable.warm_batches();
    Ok(())
}

/// Calls `run`, a run of `signature`, until its duration and its best place are known well enough, or until it fails.
/// The first call does not count: it builds what later ones use.
fn repeat(servable: &Servable, signature: &str, mut run: impl FnMut() -> Result<()>) -> Result<()> {
    run()?;
    let started = Instant::now();
    for _ in 0..MAX_CALLS {
        run()?;
        let enough = if servable.is_tried(signature) { LONGEST } else { ENOUGH };
        if started.elapsed() > enough {
            break;
        }
    }
    Ok(())
}
