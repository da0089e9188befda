//! Warm-up: runs before a version is published, so that its first request is as fast as its hundredth.
//!
//! The first run of a signature builds its executor and optimises its graph (milliseconds to seconds). The requests of
//! a warm-up file do that in advance; without them, a synthetic call does, if that is safe: the signature must be known
//! to have no side effects. It is made of zeros of the declared shape (1 for every unknown dimension), and of strings
//! that hold what the model decodes: a picture, an example, text. Where that fails, larger values are tried. What stays
//! cold is logged. Short runs are repeated until the best place for the servable's requests is known
//! (`servable/placement.rs`). If requests are batched, every batch size runs as well (`batch/`).

mod recorded;
mod synthetic;

use super::Options;
use crate::error::{Result, guarded};
use crate::methods::ServerState;
use crate::servable::Servable;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// Time after which no call is repeated, once it is known where it is best done.
const ENOUGH: Duration = Duration::from_millis(20);
/// Time after which none is repeated in any case.
const LONGEST: Duration = Duration::from_millis(250);
/// Most repetitions; enough to know that runs are short.
pub(super) const MAX_CALLS: usize = 16;

/// Runs from here on are repeated in a thread that serves, if they end within [`LONGEST`]: shorter ones cost more to hand
/// over than they gain.
const LONG: Duration = Duration::from_millis(1);

/// Warms `servable`, whose files are in `folder`. Fails if a request of the warm-up file fails.
pub(super) fn warm(
    server: &Arc<ServerState>,
    servable: &Arc<Servable>,
    folder: &Path,
    options: &Options,
) -> Result<()> {
    let requests = if options.warmup {
        recorded::replay(server, servable, folder, options.warmup_iterations)?
    } else {
        BTreeMap::new()
    };
    let threads = || if server.registry.serves() { Threads::Own } else { Threads::Serving };
    for (signature, request) in &requests {
        if servable.changes_nothing(signature) {
            let (server, of, request) = (server.clone(), servable.clone(), request.clone());
            repeat(servable, signature, threads(), move || request.run(&server, &of))?;
        }
    }
    if options.synthetic_warmup {
        let cold = synthetic::call(servable, &threads, |signature| requests.contains_key(signature));
        synthetic::tell(servable, &cold);
    }
    servable.warm_batches();
    Ok(())
}

/// Where long runs are repeated: in a thread that serves only while nothing is served yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Threads {
    /// In the thread that loads.
    Own,
    /// In one that serves.
    Serving,
}

/// Calls `run`, a run of `signature`, until its duration and its best place are known well enough, or until it fails.
/// The first call does not count: it builds what later ones use.
fn repeat(
    servable: &Arc<Servable>,
    signature: &str,
    threads: Threads,
    run: impl Fn() -> Result<()> + Send + 'static,
) -> Result<()> {
    run()?;
    let begun = Instant::now();
    run()?;
    if threads == Threads::Serving && (LONG..=LONGEST).contains(&begun.elapsed()) {
        let (of, signature) = (servable.clone(), signature.to_owned());
        return in_serving_thread(servable, move || repeat_from(Instant::now(), &of, &signature, run));
    }
    repeat_from(begun, servable, signature, run)
}

/// Goes on with what was begun at `begun`, until it is enough.
fn repeat_from(
    begun: Instant,
    servable: &Servable,
    signature: &str,
    run: impl Fn() -> Result<()>,
) -> Result<()> {
    for _ in 1..MAX_CALLS {
        let enough = if servable.is_tried(signature) { LONGEST } else { ENOUGH };
        if begun.elapsed() > enough {
            break;
        }
        run()?;
    }
    Ok(())
}

/// Does `work` in a thread of the scheduler, and waits for it. Without such a thread it is left undone.
fn in_serving_thread(servable: &Servable, work: impl FnOnce() -> Result<()> + Send + 'static) -> Result<()> {
    let (answer, answered) = mpsc::channel();
    let work = move || {
        // Received as long as the load goes on, which waits for it.
        let _received = answer.send(guarded(work));
        // The time of several calls says nothing of one request.
        false
    };
    if servable.bodies().queue_alone(work).is_err() {
        return Ok(());
    }
    answered.recv().unwrap_or(Ok(()))
}

#[cfg(test)]
mod tests;
