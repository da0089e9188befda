//! What every protocol calls: [`ask`] takes a call from the version that it names to its reply; one file per kind of
//! request says how that is answered. None of it knows HTTP, JSON or gRPC.

mod ask;
pub mod bind;
mod debug_text;
pub mod examples;
pub mod info;
pub mod messages;
pub mod observer;
mod parsed_example;
mod predict;
pub mod record;
mod request;

pub use crate::context::Context;
pub use ask::{Call, ask};
pub use request::{Answer, Request};

use crate::batch;
use crate::compute::Compute;
use crate::config::Options;
use crate::metrics::Metrics;
use crate::registry::{Registry, VersionChoice};
use record::Recorder;
use std::sync::Arc;

/// What every request may use.
pub struct ServerState {
    /// The models.
    pub registry: Registry,
    /// The threads for work that is too long for a connection's own.
    pub compute: Compute,
    /// The threads for runs of several requests, where requests are batched.
    pub batches: Option<Arc<batch::Pool>>,
    /// How the server was started.
    pub options: Options,
    /// What is counted, where it is asked for.
    pub metrics: Option<Metrics>,
    /// Whoever asks for live requests gets them here.
    pub recorder: Recorder,
}

/// Which servable, and which signature of it, a request names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelSpec {
    /// The model's name.
    pub name: String,
    /// Which version.
    pub choice: VersionChoice,
    /// The signature; empty for the default one.
    pub signature_name: String,
}
