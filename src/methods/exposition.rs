//! The page of all metrics: what was counted, with the states of versions and the process.

use super::ServerState;
use crate::error::Kind;
use crate::host::process;
use crate::metrics::content::{Logs, Process, Residence, SignatureEngine, Surroundings, VersionState};
use crate::metrics::family::Family;
use crate::metrics::{Format, Metrics, Point};
use crate::registry::{State, VersionChoice, VersionStatus};

/// A page of metrics.
#[derive(Clone, Debug)]
pub struct Page {
    /// The media type.
    pub content_type: &'static str,
    /// The page.
    pub bytes: Vec<u8>,
}

/// Returns the page for a client that sent `accept` as its `Accept` header; `None` if metrics are off.
pub fn page(server: &ServerState, accept: &str) -> Option<Page> {
    let format = Format::accepted(accept);
    let bytes = server.metrics.as_ref()?.page(&surroundings(server), format);
    Some(Page { content_type: format.content_type(), bytes })
}

/// Returns what that page tells as values; `None` if metrics are off.
pub fn points(server: &ServerState) -> Option<Vec<(&'static Family, Vec<Point>)>> {
    Some(server.metrics.as_ref()?.points(&surroundings(server)))
}

/// Returns the name of the engine that runs `signature` of a version now; `None` if that version is not served.
pub fn engine_of(server: &ServerState, model: &str, version: i64, signature: &str) -> Option<String> {
    let servable = server.registry.resolve(model, &VersionChoice::Version(version)).ok()?;
    let reports = servable.preparation().map(|preparation| preparation.reports()).unwrap_or_default();
    let report = reports.into_iter().find(|report| report.signature == signature);
    let moved = report.map(|report| report.engine).filter(|engine| !engine.is_empty());
    Some(moved.unwrap_or_else(|| servable.engine().to_owned())).filter(|engine| !engine.is_empty())
}

/// Returns TensorFlow Serving's page.
pub fn tensorflow_page(server: &ServerState) -> Page {
    let text = server.metrics.as_ref().map(Metrics::tensorflow_page).unwrap_or_default();
    Page { content_type: Format::TensorFlow.content_type(), bytes: text.into_bytes() }
}

fn surroundings(server: &ServerState) -> Surroundings {
    let states = server.registry.states();
    let residence = residence(server, &states);
    let available = states.iter().filter(|(_, status)| status.state == State::Available);
    let engines = available.flat_map(|(model, status)| engines(server, model, status.version)).collect();
    let versions = states.into_iter().filter_map(|(model, status)| version(model, &status)).collect();
    Surroundings { versions, engines, logs: logs(server), process: observed(), residence }
}

/// Returns what is told of models that are loaded on demand, if any may be.
fn residence(server: &ServerState, states: &[(String, VersionStatus)]) -> Option<Residence> {
    let demand = server.demand.as_ref()?;
    let count = |name| {
        let counted = states.iter().filter(|(_, status)| residence_state(status) == Some(name));
        (name, counted.count() as u64)
    };
    let taken = server.registry.available().into_iter().filter_map(|servable| {
        servable.taken().map(|bytes| (servable.name().to_owned(), servable.version(), bytes))
    });
    Some(Residence {
        versions: ["START", "LOADING", "AVAILABLE", "UNLOADING", "FAILED"].map(count).into(),
        taken: taken.collect(),
        budget: server.options.memory_budget,
        rests: demand.rests(),
        waits: demand.waits(),
        waiting: demand.waiting() as u64,
    })
}

/// Returns the state of a version, with those that are not loaded yet; `None` for one that is gone, or was withdrawn before
/// it was loaded.
fn residence_state(status: &VersionStatus) -> Option<&'static str> {
    match (status.state, &status.error) {
        (State::End, None) => None,
        (State::End, Some(error)) if error.kind == Kind::Cancelled => None,
        (State::End, Some(_)) => Some("FAILED"),
        (state, _) => Some(state.name()),
    }
}

fn logs(server: &ServerState) -> Logs {
    let (written, lost) = server.recorder.payloads.counts();
    let dropped = server.access.as_ref().map(|access| access.dropped());
    Logs { access_lines_lost: dropped, payload_records: written, payload_records_lost: lost }
}

/// Returns the state of a version, unless it is unloaded.
fn version(model: String, status: &VersionStatus) -> Option<VersionState> {
    // One of thousands, most likely; they are counted together.
    let sleeps = status.on_demand && status.state == State::Start;
    let state = residence_state(status).filter(|_| !sleeps)?;
    Some(VersionState { model, version: status.version, state })
}

/// Returns what runs the signatures of a version.
fn engines(server: &ServerState, model: &str, version: i64) -> Vec<SignatureEngine> {
    let Ok(servable) = server.registry.resolve(model, &VersionChoice::Version(version)) else {
        return Vec::new();
    };
    let reports = servable.preparation().map(|preparation| preparation.reports()).unwrap_or_default();
    let engine = |signature: &String| {
        let report = reports.iter().find(|report| report.signature == *signature);
        SignatureEngine {
            model: model.to_owned(),
            version,
            signature: signature.clone(),
            engine: report.map(|report| report.engine.clone()).unwrap_or_default(),
        }
    };
    servable.signatures().keys().map(engine).collect()
}

fn observed() -> Process {
    let memory = process::memory();
    Process {
        cpu: process::cpu_time(),
        resident_bytes: memory.map(|memory| memory.resident),
        virtual_bytes: memory.map(|memory| memory.mapped),
        open_descriptors: process::open_descriptors(),
        most_descriptors: process::most_descriptors(),
        started: process::started(),
        threads: process::threads(),
    }
}
