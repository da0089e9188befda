//! The part of a call shared by all protocols: [`ask`] takes it from the version that it names to its reply; one file
//! per kind of request implements the answer. None of it knows HTTP, JSON or gRPC.

mod ask;
pub mod bind;
pub mod changes;
mod copies;
mod debug_text;
pub mod demand;
pub mod examples;
pub mod exposition;
pub mod health;
pub mod info;
pub mod messages;
pub mod observer;
mod parsed_example;
pub mod record;
mod request;
pub mod responses;
pub(crate) mod sample;
pub mod shadow;

pub use crate::context::Context;
pub use ask::{Call, ask};
pub use request::{Answer, Plan, Positions, Reading, Request};

use crate::access::AccessLog;
use crate::auth::{Need, Pass};
use crate::batch::{self, Scheduler};
use crate::config::Options;
use crate::error::Result;
use crate::exchange::Observers;
use crate::metrics::Metrics;
use crate::registry::{Registry, VersionChoice};
use crate::servable::Servable;
use crate::telemetry::Traces;
use changes::Changes;
use demand::Demand;
use record::Recorder;
use shadow::Shadows;
use std::sync::Arc;

/// The state shared by all requests.
pub struct ServerState {
    /// The models.
    pub registry: Registry,
    /// The threads for work too long for a connection's own thread.
    pub scheduler: Scheduler,
    /// The queues of batches, if TensorFlow Serving's batching is enabled.
    pub batches: Option<Arc<batch::Pool>>,
    /// The options of the server.
    pub options: Options,
    /// The metrics, if enabled.
    pub metrics: Option<Metrics>,
    /// Records live requests on demand.
    pub recorder: Recorder,
    /// The access log, if there is one.
    pub access: Option<Arc<AccessLog>>,
    /// The traces, if there are any.
    pub traces: Option<Arc<Traces>>,
    /// The changes of what is served that clients have asked for.
    pub changes: Changes,
    /// Copies of requests whose answers are compared.
    pub shadows: Shadows,
    /// The loads that requests wait for; `None` if all models are loaded from the beginning.
    pub demand: Option<Demand>,
}

impl ServerState {
    /// Returns the version that a request is for, like [`Registry::resolve`]; waits for one that is loaded on demand. Whoever
    /// asks has to have checked that the client may.
    pub async fn loaded(&self, name: &str, choice: &VersionChoice) -> Result<Arc<Servable>> {
        let found = self.registry.resolve(name, choice);
        match &self.demand {
            Some(demand) if found.is_err() => demand.wait(&self.registry, name, choice).await,
            _ => found,
        }
    }

    /// Returns who wants to know of requests.
    pub fn observers(&self) -> Observers<'_> {
        Observers {
            log: self.access.as_ref(),
            traces: self.traces.as_ref(),
            metrics: self.metrics.is_some(),
            ids: self.options.request_ids,
        }
    }

    /// Returns whether senders of requests are told to anybody.
    pub fn tells_senders(&self) -> bool {
        self.access.is_some() || self.traces.is_some()
    }
}

impl ServerState {
    /// Checks whether a request with this pass has what it needs, if requests need anything.
    pub fn check(&self, pass: Option<&Pass>, need: Need<'_>) -> Result<()> {
        match &self.options.auth {
            Some(auth) => auth.check(pass, need),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
impl ServerState {
    /// A server without models and metrics.
    pub(crate) fn for_tests(options: Options) -> ServerState {
        let demand = options.lazy_load.then(Demand::default);
        ServerState {
            registry: Registry::default(),
            scheduler: Scheduler::with_slots(1),
            batches: None,
            options,
            metrics: None,
            recorder: Recorder::none(),
            access: None,
            traces: None,
            changes: Changes::default(),
            shadows: Shadows::default(),
            demand,
        }
    }
}

/// The servable, and its signature, that a request names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelSpec {
    /// The model's name.
    pub name: String,
    /// The choice of version.
    pub choice: VersionChoice,
    /// The signature; empty for the default one.
    pub signature_name: String,
}
