//! The pages of metrics: TensorFlow Serving's, and that of all metrics.

use super::RestService;
use crate::error::Error;
use crate::http::head::Fields;
use crate::http::reply::{Body, Content, Reply};
use crate::methods::exposition::{self, Page};
use crate::methods::{Context, ServerState};
use http::header::ACCEPT;
use http::request::Parts;
use http::{HeaderValue, Method};
use std::sync::Arc;

/// A page of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MetricsPage {
    /// TensorFlow Serving's, for any method.
    TensorFlow,
    /// That of all metrics.
    All,
}

/// Returns the page that `method` and `path` ask for, with or without a query.
pub(super) fn at(server: &ServerState, method: &Method, path: &str) -> Option<MetricsPage> {
    let is_at =
        |page: &Option<String>| page.as_deref().is_some_and(|page| path.strip_prefix(page).is_some_and(ends));
    let looks = matches!(*method, Method::GET | Method::HEAD);
    match () {
        () if is_at(&server.options.prometheus_path) => Some(MetricsPage::TensorFlow),
        () if looks && is_at(&server.options.metrics_path) => Some(MetricsPage::All),
        () => None,
    }
}

/// Returns whether nothing or a query is left of a path.
fn ends(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with('?')
}

/// Answers with `page`.
pub(super) async fn answer(service: &RestService, page: MetricsPage, head: &Parts, path: &str) -> Reply {
    match page {
        MetricsPage::TensorFlow => answer_tensorflow(&service.server, path).await,
        MetricsPage::All => answer_all(service, head).await,
    }
}

/// Answers with TensorFlow Serving's page. A query is refused, as there.
async fn answer_tensorflow(server: &Arc<ServerState>, path: &str) -> Reply {
    let page = server.options.prometheus_path.as_deref().unwrap_or_default();
    if path != page {
        let text = format!("Unexpected path: {path}. Should be {page}");
        return plain(400, "text/plain", Body::plain(text.into_bytes()));
    }
    let (own, context) = (server.clone(), Context::default());
    let made = server.scheduler.run(None, &context, move |_| Ok(exposition::tensorflow_page(&own)));
    match made.await {
        Ok(Page { content_type, bytes }) => plain(200, content_type, Body::plain(bytes)),
        Err(error) => error.into(),
    }
}

/// Answers with the page of all metrics, in a thread of its own: who watches an overload does not wait for its end. One is
/// made at a time, however many clients ask.
async fn answer_all(service: &RestService, head: &Parts) -> Reply {
    let accepts = Fields::of(&head.headers).accepts(service.server.options.zstd);
    let accept = head.headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let (own, accept) = (service.server.clone(), accept.collect::<Vec<_>>().join(","));
    let turn = service.pages.clone().lock_owned().await;
    let made = tokio::task::spawn_blocking(move || {
        // A client that leaves does not end it.
        let _turn = turn;
        let page = exposition::page(&own, &accept)?;
        let body = Body::coded(Content::Written(page.bytes), accepts, &own.options);
        Some((page.content_type, body))
    });
    match made.await {
        Ok(Some((content_type, body))) => plain(200, content_type, body),
        Ok(None) | Err(_) => Error::internal("The page of metrics could not be made").into(),
    }
}

fn plain(status: u16, content_type: &'static str, body: Body) -> Reply {
    let content_type = HeaderValue::from_static(content_type);
    Reply { status, content_type, body, close: false, retry_after: None }
}
