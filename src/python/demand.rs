//! Models that are loaded on demand, for Python's manager: what requests wait for, and what became of it.

use crate::error::{Error, Kind};
use crate::methods::ServerState;
use crate::methods::demand::Version;
use std::time::Duration;

/// A code and a message.
pub(super) type Failure = (String, String);

/// Says whether a request has a version loaded. One that is announced has no failure yet.
pub(super) fn set(server: &ServerState, name: &str, version: i64, on_demand: bool) {
    server.registry.set_on_demand(name, version, on_demand);
    if let Some(demand) = &server.demand {
        demand.forget_failure(&(name.into(), version));
    }
}

/// Waits for a version that is asked for.
pub(super) fn next(server: &ServerState, seconds: f64) -> Option<(String, i64)> {
    let (name, version) = server.demand.as_ref()?.next(span(seconds))?;
    Some((name.into(), version))
}

pub(super) fn loaded(server: &ServerState, name: &str, version: i64) {
    if let Some(demand) = &server.demand {
        demand.loaded(&server.registry, (name.into(), version));
    }
}

pub(super) fn failed(server: &ServerState, version: Version, (code, message): Failure, seconds: f64) {
    if let Some(demand) = &server.demand {
        let why = Error::new(Kind::from_name(&code).unwrap_or(Kind::Unknown), message);
        demand.failed(version, why, span(seconds));
    }
}

pub(super) fn end(server: &ServerState) {
    if let Some(demand) = &server.demand {
        demand.end();
    }
}

/// A loaded version, as [`uses`] tells of it.
pub(super) type Told = (String, i64, f64, u64, i64);

pub(super) fn uses(server: &ServerState) -> Vec<Told> {
    let told = server.registry.available().into_iter().filter_map(|servable| {
        let usage = servable.usage()?;
        let (idle, grown) = (usage.idle.as_secs_f64(), servable.grown());
        Some((servable.name().to_owned(), servable.version(), idle, usage.steps, grown))
    });
    told.collect()
}

fn span(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}
