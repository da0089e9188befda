//! Statistics of models, from what is counted for metrics.

use super::metadata;
use crate::error::{Error, Kind, Result};
use crate::methods::ServerState;
use crate::metrics::{Metrics, VersionStatistics};
use crate::registry::{State, VersionChoice};

/// The statistics of one version.
#[derive(Clone, Debug)]
pub struct Statistics {
    /// The model.
    pub model: String,
    /// The version number.
    pub version: i64,
    /// What was counted.
    pub counts: VersionStatistics,
}

/// Returns the statistics of the versions of `model` that can be asked: of one if `choice` names it, of all models for an
/// empty name.
pub fn of(server: &ServerState, model: &str, choice: &VersionChoice) -> Result<Vec<Statistics>> {
    let Some(metrics) = &server.metrics else {
        return Err(Error::new(
            Kind::FailedPrecondition,
            "This server counts nothing: start it with --metrics_path=/metrics",
        ));
    };
    if model.is_empty() {
        let states = server.registry.states().into_iter();
        let available = states.filter(|(_, status)| status.state == State::Available);
        return Ok(available.map(|(name, status)| one(server, metrics, name, status.version)).collect());
    }
    let versions = match choice {
        VersionChoice::Latest => {
            let states = server.registry.status(model, None)?;
            let available = states.iter().rev().filter(|status| status.state == State::Available);
            available.map(|status| status.version).collect()
        }
        VersionChoice::Version(_) | VersionChoice::Label(_) => {
            vec![server.registry.resolve(model, choice)?.version()]
        }
    };
    Ok(versions.into_iter().map(|version| one(server, metrics, model.to_owned(), version)).collect())
}

fn one(server: &ServerState, metrics: &Metrics, model: String, version: i64) -> Statistics {
    let servable = server.registry.resolve(&model, &VersionChoice::Version(version)).ok();
    let signature = |name: &str| servable.as_ref().and_then(|servable| servable.signature(name));
    let in_rows = |name: &str| signature(name).is_some_and(metadata::is_in_rows);
    let counts = metrics.statistics(&model, version, in_rows);
    Statistics { model, version, counts }
}
