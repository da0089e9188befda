//! Warm-up: what a version runs before it is published, so that its first request is as fast as its hundredth.
//!
//! The first run of a signature builds its executor and optimises its graph (milliseconds to seconds). The requests of
//! a warm-up file do that ahead, or else a synthetic call with zeros of the declared shape (1 for every unknown
//! dimension), where it is safe: the signature must be known to change nothing, and its inputs must be numbers. Short
//! runs are repeated until it is known where the servable's requests run best (`servable/placement.rs`). Where requests
//! are batched, every size of batch is run, too (`batch/`).

mod recorded;
mod synthetic;

use super::Options;
use crate::error::Result;
use crate::methods::ServerState;
use crate::servable::Servable;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// After this long no call is repeated.
const ENOUGH: Duration = Duration::from_millis(20);
/// So many calls are enough to know that runs are short.
pub(super) const MAX_CALLS: usize = 16;

/// Warms `servable`, whose files are in `folder`. A request of the warm-up file that fails is an error.
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
            repeat(|| request.run(server, servable))?;
        }
    }
    if options.synthetic_warmup {
        synthetic::call(servable, |signature| requests.contains_key(signature));
    }
    servable.warm_batches();
    Ok(())
}

/// Calls `run` until enough is known of how long it takes, or until it fails. The first call does not count: it builds
/// what all further ones use.
fn repeat(mut run: impl FnMut() -> Result<()>) -> Result<()> {
    run()?;
    let started = Instant::now();
    for _ in 0..MAX_CALLS {
        run()?;
        if started.elapsed() > ENOUGH {
            break;
        }
    }
    Ok(())
}
