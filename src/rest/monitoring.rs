//! Counts calls by how they end, and the page where Prometheus reads what was counted.

use super::path::{self, Verb};
use super::route::Post;
use crate::http::reply::{Body, Reply};
use crate::methods::ServerState;
use crate::metrics::{Api, ModelCounts, Protocol};
use http::Method;
use std::sync::Arc;
use std::time::Instant;

/// A call under way whose outcome will be counted.
pub(super) struct Observer {
    model: Arc<ModelCounts>,
    api: Api,
    started: Instant,
}

impl Observer {
    /// Begins to observe a call whose body was read, if anything is counted.
    pub(super) fn begin(server: &ServerState, post: &Post) -> Option<Observer> {
        let api = match post.verb {
            Verb::Predict => Api::Predict,
            Verb::Classify => Api::Classify,
            Verb::Regress => Api::Regress,
        };
        let metrics = server.metrics.as_ref()?;
        Some(Observer { model: metrics.asked(&post.name), api, started: Instant::now() })
    }

    /// Counts the call, which was answered by `reply`.
    pub(super) fn end(self, reply: &Reply) {
        if let Some(outcome) = reply.outcome {
            self.model.answered(Protocol::Rest, Some(self.api), self.started, outcome);
        }
    }
}

/// Counts a request that the head alone was enough to answer.
/// `started`: when it came, where anything is counted.
pub(super) fn answered_at_once(
    server: &ServerState,
    method: &Method,
    path: &str,
    started: Option<Instant>,
    reply: &Reply,
) {
    if let (Some(metrics), Some(started), Some(outcome)) = (&server.metrics, started, reply.outcome) {
        let get = matches!(*method, Method::GET | Method::HEAD);
        let name = if get { path::parse(false, path).name() } else { String::new() };
        metrics.asked(&name).answered(Protocol::Rest, Some(Api::Other), started, outcome);
    }
}

/// Whether `path` is the page of the metrics, with a query or without.
pub(super) fn is_page(server: &ServerState, path: &str) -> bool {
    let page = server.options.prometheus_path.as_deref();
    page.is_some_and(|page| path.split('?').next() == Some(page))
}

/// The page, whatever the method; a query is refused.
pub(super) async fn page(server: &Arc<ServerState>, path: &str) -> Reply {
    let page = server.options.prometheus_path.as_deref().unwrap_or_default();
    if path != page {
        return plain(400, format!("Unexpected path: {path}. Should be {page}"));
    }
    let own = server.clone();
    let text = server.compute.run(false, move || Ok(own.metrics.as_ref().map(crate::metrics::Metrics::text)));
    match text.await {
        Ok(text) => plain(200, text.unwrap_or_default()),
        Err(error) => error.into(),
    }
}

fn plain(status: u16, text: String) -> Reply {
    let body = Body::plain(text.into_bytes());
    Reply { status, content_type: "text/plain", body, close: false, retry: false, outcome: None }
}
