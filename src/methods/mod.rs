//! What both protocols call: one file per kind of request, none of which knows HTTP, JSON or gRPC.

pub mod bind;
mod debug_text;
pub mod examples;
pub mod info;
pub mod messages;
mod parsed_example;
pub mod predict;
pub mod record;

use crate::batch;
use crate::compute::Compute;
use crate::config::Options;
use crate::memory::Reservation;
use crate::metrics::Metrics;
use crate::registry::{Registry, VersionChoice};
use record::Recorder;
use std::sync::Arc;
use std::time::Instant;

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

/// What holds for one request, whatever it asks for.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// When its client stops waiting, if it said so.
    pub deadline: Option<Instant>,
    /// The memory that it holds.
    pub memory: Arc<Reservation>,
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
