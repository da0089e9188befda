//! What is known of a version's acceleration, as Python reads it.

use crate::engine::acceleration::report::{Candidate, Report, Times};

/// Wall and CPU time in seconds, each of the reference and of the candidate: alone, then together.
type Timed = ((f64, f64), (f64, f64), (f64, f64), (f64, f64));
/// Engine, difference, agreement, times, refusal.
type Tried = (String, Option<f64>, Option<f64>, Option<Timed>, String);
/// Signature, progress, engine, reason, runs refused, candidates.
pub(super) type Told = (String, &'static str, String, String, u64, Vec<Tried>);

/// Converts a report to tuples.
pub(super) fn told(report: Report) -> Told {
    let Report { signature, progress, engine, reason, candidates, refused } = report;
    (signature, progress.name(), engine, reason, refused, candidates.into_iter().map(tried).collect())
}

fn tried(candidate: Candidate) -> Tried {
    let Candidate { engine, difference, agreement, times, refusal } = candidate;
    let timed = |Times { alone, together }| (alone.wall, alone.cpu, together.wall, together.cpu);
    (engine, difference, agreement, times.map(timed), refusal)
}
