//! OpenAPI 3.1: what the server and its models take and answer, for tools that make clients, forms and tests of it.
//!
//! [`Asked`] says which document is wanted: that of the [`server`], or of a version of a [`model`]. Both are a frame
//! ([`document`]) around the paths of TensorFlow Serving's API ([`v1`]) and of the Open Inference Protocol ([`v2`]), which
//! consist of operations ([`operation`]). The schemas of a signature are written by [`predict`], [`features`] and [`infer`]
//! from [`shape`] and [`element`], its requests by [`example`]; [`fixed`] has the schemas that do not depend on a model.
//! [`text`] writes JSON, and bounds it.
//!
//! A document depends on the configuration and the signatures alone, so it is the same text each time. It is made when it is
//! asked for, in a thread of its own, one at a time.

mod document;
mod element;
mod example;
mod features;
mod fixed;
mod infer;
mod model;
mod operation;
mod predict;
mod server;
mod shape;
mod text;
mod v1;
mod v2;

use super::RestService;
use super::reply;
use crate::auth::{Need, Pass};
use crate::config::NonUtf8;
use crate::connections::Connection;
use crate::context::late;
use crate::error::{Error, Kind, Result, guarded};
use crate::http::coding::Accepts;
use crate::http::reply::{Body, Content, Reply};
use crate::memory::Reservation;
use crate::methods::ServerState;
use crate::methods::observer::Observer;
use crate::metrics::Protocol;
use crate::registry::VersionChoice;
use crate::servable::Servable;
use std::sync::Arc;

/// What is configured, as far as it is described.
struct Facts {
    /// Requests need tokens.
    auth: bool,
    /// There are pages of health.
    health: bool,
    open_inference: bool,
    /// Clients of the Open Inference Protocol may load and unload models.
    control: bool,
    shared_memory: bool,
    /// The name of a signature's method has to say what it is for.
    method_names: bool,
    non_utf8: NonUtf8,
    metrics_path: Option<String>,
    prometheus_path: Option<String>,
}

/// Where a model is: the part of a path that names it, percent-encoded.
struct Place<'a> {
    path: String,
    /// What is appended to the identifiers of operations.
    suffix: &'static str,
    /// The parameters in the path.
    parameters: &'a [&'a str],
}

impl Place<'_> {
    fn id(&self, word: &str) -> String {
        format!("{word}{}", self.suffix)
    }
}

/// What calls offer; `None` where no signature is made for them.
#[derive(Default)]
struct Calls {
    predict: Vec<Example>,
    classify: Option<Vec<Example>>,
    regress: Option<Vec<Example>>,
    infer: Option<Vec<Example>>,
    /// Media types of predict, besides JSON.
    forms: Vec<&'static str>,
}

/// A request that works.
#[derive(Clone)]
struct Example {
    name: String,
    summary: String,
    json: Vec<u8>,
}

/// The document that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// That of the server.
    Server,
    /// That of a version of a model.
    Model(String, VersionChoice),
}

/// Returns whether `path` is that of the server's document.
pub(super) fn is_server(path: &str) -> bool {
    path == server::PATH
}

impl Asked {
    /// Returns the model's name, if there is one.
    fn model(&self) -> &str {
        match self {
            Asked::Server => "",
            Asked::Model(name, _) => name,
        }
    }

    /// Returns what a request for it needs of its token: what tells of a model is for who may call it.
    fn need(&self) -> Need<'_> {
        match self {
            Asked::Server => Need::Signatures,
            Asked::Model(name, _) => Need::SignaturesOf(name),
        }
    }
}

/// Answers with the document that `asked` names.
pub(super) async fn answer(
    service: &RestService,
    connection: &Connection,
    pass: Option<&Pass>,
    asked: Asked,
    accepts: Accepts,
) -> Reply {
    let observer = Observer::begin_simple(&service.server, Protocol::Rest, asked.model());
    let made = match service.server.check(pass, asked.need()) {
        Ok(()) => made(service, Arc::new(connection.reserve()), asked, accepts).await,
        Err(refused) => Err(refused),
    };
    observer.end(made.as_ref().map(Body::len).map_err(|error| error.kind));
    made.map_or_else(Reply::from, reply::json)
}

/// Makes a document in a thread of its own, one at a time, however many clients ask.
async fn made(
    service: &RestService,
    memory: Arc<Reservation>,
    asked: Asked,
    accepts: Accepts,
) -> Result<Body> {
    let (server, facts) = (service.server.clone(), Facts::of(service));
    // Held until the document is made.
    let held = match &asked {
        Asked::Model(name, choice) => Some(loaded(&server, name, choice).await?),
        Asked::Server => None,
    };
    let turn = service.documents.clone().lock_owned().await;
    let made = tokio::task::spawn_blocking(move || {
        // A client that leaves does not end it.
        let (_turn, _held) = (turn, held);
        guarded(|| {
            let text = of(&server, &facts, &asked)?;
            Body::coded(Content::Written(text), accepts, &server.options).counted(&memory)
        })
    });
    made.await.unwrap_or_else(|_| Err(Error::internal("The document could not be made")))
}

/// Waits for a version that is loaded on demand, as long as for a prediction at most.
async fn loaded(server: &ServerState, name: &str, choice: &VersionChoice) -> Result<Arc<Servable>> {
    let loaded = server.loaded(name, choice);
    match server.options.rest_timeout {
        Some(within) => tokio::time::timeout(within, loaded).await.unwrap_or_else(|_| Err(late())),
        None => loaded.await,
    }
}

fn of(server: &ServerState, facts: &Facts, asked: &Asked) -> Result<Vec<u8>> {
    let document = match asked {
        Asked::Server => server::document(facts),
        Asked::Model(name, choice) => {
            let servable = server.registry.resolve(name, choice)?;
            let version = model::Version {
                name,
                choice,
                number: servable.version(),
                signatures: servable.signatures(),
                exact: servable.engine() != "tflite",
                content: &|signature, input| servable.content(signature, input),
            };
            model::document(facts, &version)
        }
    };
    document.ok_or_else(|| {
        let message = format!("The document would be longer than {} bytes", document::LONGEST);
        Error::new(Kind::ResourceExhausted, message)
    })
}

impl Facts {
    fn of(service: &RestService) -> Facts {
        let (options, v2) = (&service.server.options, service.open_inference.as_ref());
        Facts {
            auth: options.auth.is_some(),
            health: service.health.is_some(),
            open_inference: v2.is_some(),
            control: v2.is_some_and(|view| view.has_control()),
            shared_memory: v2.is_some_and(|view| view.shared_memory().is_some()),
            method_names: options.method_name_check,
            non_utf8: options.non_utf8,
            metrics_path: options.metrics_path.clone(),
            prometheus_path: options.prometheus_path.clone(),
        }
    }
}

#[cfg(test)]
impl Facts {
    /// Nothing but TensorFlow Serving's API.
    fn none() -> Facts {
        Facts {
            auth: false,
            health: false,
            open_inference: false,
            control: false,
            shared_memory: false,
            method_names: false,
            non_utf8: NonUtf8::Raw,
            metrics_path: None,
            prometheus_path: None,
        }
    }
}
