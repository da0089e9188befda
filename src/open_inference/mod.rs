//! The Open Inference Protocol (KServe v2), as far as REST and gRPC have it in common: names, checks, texts. No HTTP, no
//! JSON, no gRPC.
//!
//! An infer request is a [`call::Inference`] (a `Call`, see [`crate::methods::ask`]), of which a protocol brings the
//! [`call::Form`]. It goes through these steps:
//!
//! 1. The names in a request become a [`ModelSpec`] by [`target::spec`]: model, version or label, signature. What the
//!    parameters of the request say of it is read by [`parameters::OfRequest`].
//! 2. [`served`] gives the error of a missing version in the protocol's words. Then `Form::read` finds the signature by
//!    `bind::signature`.
//! 3. [`inputs::Inputs`] takes one input after the other: `expect` checks name, datatype and shape, and returns what its
//!    data has to be; [`inputs::Expected::read`] makes a tensor of binary data, which is borrowed if it is numbers; `put`
//!    keeps it; `finish` returns the tensors in the order of the signature.
//! 4. [`outputs::Outputs`] takes the outputs asked for, with the number of classes wanted of each; `finish` returns their
//!    positions. With the inputs, that is a `Request::Predict`, which is placed, batched, counted and logged as any.
//! 5. `Form::write` gets the outputs, in the order of the positions. [`outputs::Chosen::classified`] turns a tensor into
//!    classes where these are wanted; [`strings`] writes BYTES; [`datatype`] has the names.
//!
//! Besides: [`metadata`] (of a version: tensors, platform, and Triton's configuration), [`statistics`], [`repository`]
//! (index, load, unload), and in [`OpenInference`] whether the server or a model is ready. [`refusal`] has the texts of
//! errors. [`shared_memory`] has the regions that clients register: [`shared_memory::Regions::read`] makes the tensor of an
//! input there, [`outputs::Chosen::placed`] finds the places of outputs, and [`shared_memory::Placed::write`] writes one.

pub mod call;
pub mod classification;
pub mod datatype;
pub mod inputs;
pub mod metadata;
pub mod outputs;
pub mod parameters;
pub mod refusal;
pub mod repository;
pub mod shared_memory;
pub mod statistics;
pub mod strings;
pub mod target;

use crate::auth::{Need, Pass, Scope};
use crate::error::{Error, Kind, Result};
use crate::methods::health::Health;
use crate::methods::{ModelSpec, ServerState, bind};
use crate::registry::{Registry, VersionChoice};
use crate::servable::Servable;
use repository::ModelControl;
use shared_memory::{Regions, SharedMemory};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// The protocol's view of a server. Where there is none, the protocol is off.
#[derive(Clone)]
pub struct OpenInference {
    server: Arc<ServerState>,
    /// True while requests to models are answered.
    ready: Arc<AtomicBool>,
    control: Option<ModelControl>,
    shared_memory: Option<Arc<SharedMemory>>,
}

impl OpenInference {
    /// Makes the view of `server`. `ready`: true while requests to models are answered. `control` loads and unloads models;
    /// without it, clients cannot. `shared_memory` has the regions of clients on the same machine, if they may register any.
    pub fn new(
        server: Arc<ServerState>,
        ready: Arc<AtomicBool>,
        control: Option<ModelControl>,
        shared_memory: Option<Arc<SharedMemory>>,
    ) -> OpenInference {
        OpenInference { server, ready, control, shared_memory }
    }

    /// Returns the regions of shared memory, if clients may register any.
    pub fn shared_memory(&self) -> Option<&Arc<SharedMemory>> {
        self.shared_memory.as_ref()
    }

    /// Returns the regions of who shows the token `pass`, who has to be allowed to call models. Regions whose owners have no
    /// token any more are forgotten: nobody else could do that, and they keep others from their files.
    pub fn regions_of<'a>(&'a self, pass: Option<&'a Pass>) -> Result<Regions<'a>> {
        self.server.check(pass, Need::Of(Scope::Predict))?;
        let shared = self.shared_memory().ok_or_else(refusal::no_regions)?;
        if let Some(auth) = &self.server.options.auth {
            shared.keep_owners(|name| auth.lists(name));
        }
        Ok(shared.of(pass.map(Pass::name)))
    }

    /// Returns whether requests can be answered.
    pub fn is_ready(&self) -> bool {
        Health::of_server(&self.server.registry, self.ready.load(Relaxed)) == Health::Ready
    }

    /// Returns whether requests to what `spec` names can be answered. Fails if there is no such model, version or signature.
    pub fn is_model_ready(&self, spec: &ModelSpec) -> Result<bool> {
        let registry = &self.server.registry;
        let available = is_available(registry, spec).ok_or_else(|| refusal::unknown_model(spec))?;
        if available && !spec.signature_name.is_empty() {
            let servable = registry.resolve(&spec.name, &spec.choice);
            bind::signature(
                &self.server,
                served(&self.server, spec, servable.as_deref())?,
                &spec.signature_name,
            )?;
        }
        Ok(available && self.ready.load(Relaxed))
    }

    /// Loads or unloads a model, as far as that is allowed; returns once it is done. Who drops this waits for it no longer.
    pub async fn change(&self, change: repository::Change, model: String) -> Result<()> {
        let control = self.control.clone().ok_or_else(refusal::no_control)?;
        self.server.changes.run(move |asker| control(change, &model, asker)).await
    }

    /// Returns whether clients may load and unload models at all.
    pub fn has_control(&self) -> bool {
        self.control.is_some()
    }
}

/// Returns the version that answers, or why there is none: `NOT_FOUND` if it is not known, `UNAVAILABLE` if it is not
/// ready.
pub fn served<'s>(
    server: &ServerState,
    spec: &ModelSpec,
    servable: Result<&'s Servable, &Error>,
) -> Result<&'s Servable> {
    servable.map_err(|why| match is_available(&server.registry, spec) {
        // As for a label that is not known.
        _ if why.kind != Kind::NotFound => why.clone(),
        Some(false) => refusal::not_ready(spec),
        Some(true) | None => refusal::unknown_model(spec),
    })
}

/// Returns whether what `spec` names is available; `None` if it is not known.
fn is_available(registry: &Registry, spec: &ModelSpec) -> Option<bool> {
    match &spec.choice {
        VersionChoice::Latest => registry.is_available(&spec.name, None),
        VersionChoice::Version(version) => registry.is_available(&spec.name, Some(*version)),
        VersionChoice::Label(label) => {
            let version = *registry.labels(&spec.name).get(label)?;
            registry.is_available(&spec.name, Some(version))
        }
    }
}

#[cfg(test)]
mod tests;
