//! The page of metrics for Prometheus.

use crate::http::reply::{Body, Reply};
use crate::methods::{Context, ServerState};
use crate::metrics::Metrics;
use http::HeaderValue;
use std::sync::Arc;

/// Returns whether `path` is that of the page, with or without a query.
pub(super) fn is_at(server: &ServerState, path: &str) -> bool {
    let page = server.options.prometheus_path.as_deref();
    page.is_some_and(|page| path.split('?').next() == Some(page))
}

/// Answers with the page, whatever the method; a query is refused.
pub(super) async fn answer(server: &Arc<ServerState>, path: &str) -> Reply {
    let page = server.options.prometheus_path.as_deref().unwrap_or_default();
    if path != page {
        return plain(400, format!("Unexpected path: {path}. Should be {page}"));
    }
    let (own, context) = (server.clone(), Context::default());
    let text = server.scheduler.run(None, &context, move |_| Ok(own.metrics.as_ref().map(Metrics::text)));
    match text.await {
        Ok(text) => plain(200, text.unwrap_or_default()),
        Err(error) => error.into(),
    }
}

fn plain(status: u16, text: String) -> Reply {
    let body = Body::plain(text.into_bytes());
    Reply {
        status,
        content_type: HeaderValue::from_static("text/plain"),
        body,
        close: false,
        retry_after: None,
    }
}
