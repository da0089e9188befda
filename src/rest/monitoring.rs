//! Counts calls by how they end, and the page where Prometheus reads what was counted.

use super::path::{self, Verb};
use super::route::Post;
use crate::http::reply::{Body, Reply};
use crate::methods::Room;
use crate::metrics::{Api, Door, Model};
use http::Method;
use std::sync::Arc;
use std::time::Instant;

/// A call under way whose outcome will be counted.
pub(super) struct Watch {
    model: Arc<Model>,
    api: Api,
    started: Instant,
}

impl Watch {
    /// Begins to watch a call whose body was read, if anything is counted.
    pub(super) fn begin(room: &Room, post: &Post) -> Option<Watch> {
        let api = match post.verb {
            Verb::Predict => Api::Predict,
            Verb::Classify => Api::Classify,
            Verb::Regress => Api::Regress,
        };
        let metrics = room.metrics.as_ref()?;
        Some(Watch { model: metrics.asked(&post.name), api, started: Instant::now() })
    }

    /// Counts the call, which was answered by `reply`.
    pub(super) fn end(self, reply: &Reply) {
        if let Some(outcome) = reply.outcome {
            self.model.answered(Door::Rest, Some(self.api), self.started, outcome);
        }
    }
}

/// Counts a request that the head alone was enough to answer.
/// `started`: when it came, where anything is counted.
pub(super) fn answered_at_once(
    room: &Room,
    method: &Method,
    path: &str,
    started: Option<Instant>,
    reply: &Reply,
) {
    if let (Some(metrics), Some(started), Some(outcome)) = (&room.metrics, started, reply.outcome) {
        let get = matches!(*method, Method::GET | Method::HEAD);
        let name = if get { path::parse(false, path).name() } else { String::new() };
        metrics.asked(&name).answered(Door::Rest, Some(Api::Other), started, outcome);
    }
}

/// Whether `path` is the page of the metrics, with a query or without.
pub(super) fn is_page(room: &Room, path: &str) -> bool {
    let page = room.options.prometheus_path.as_deref();
    page.is_some_and(|page| path.split('?').next() == Some(page))
}

/// The page, whatever the method; a query is refused.
pub(super) async fn page(room: &Arc<Room>, path: &str) -> Reply {
    let page = room.options.prometheus_path.as_deref().unwrap_or_default();
    if path != page {
        return plain(400, format!("Unexpected path: {path}. Should be {page}"));
    }
    let own = room.clone();
    let text = room.compute.run(false, move || Ok(own.metrics.as_ref().map(crate::metrics::Metrics::text)));
    match text.await {
        Ok(text) => plain(200, text.unwrap_or_default()),
        Err(error) => error.into(),
    }
}

fn plain(status: u16, text: String) -> Reply {
    let body = Body::plain(text.into_bytes());
    Reply { status, content_type: "text/plain", body, close: false, retry: false, outcome: None }
}
