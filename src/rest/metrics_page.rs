//! The pages of metrics: TensorFlow Serving's, and that of all metrics.

use crate::http::head::Fields;
use crate::http::reply::{Body, Reply};
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

/// Answers with `page`. On TensorFlow Serving's, a query is refused, as it does.
pub(super) async fn answer(server: &Arc<ServerState>, page: MetricsPage, head: &Parts, path: &str) -> Reply {
    let wanted = server.options.prometheus_path.as_deref().unwrap_or_default();
    if page == MetricsPage::TensorFlow && path != wanted {
        let text = format!("Unexpected path: {path}. Should be {wanted}");
        return plain(400, HeaderValue::from_static("text/plain"), Body::plain(text.into_bytes()));
    }
    let accepts_gzip = page == MetricsPage::All && Fields::of(&head.headers).accepts_gzip;
    let accept: Vec<&str> =
        head.headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let (own, context, accept) = (server.clone(), Context::default(), accept.join(","));
    let made = server.scheduler.run(None, &context, move |_| {
        let page = match page {
            MetricsPage::TensorFlow => Some(exposition::tensorflow_page(&own)),
            MetricsPage::All => exposition::page(&own, &accept),
        };
        let Page { content_type, text } =
            page.unwrap_or(Page { content_type: "text/plain", text: String::new() });
        Ok((content_type, Body::packed(text.into_bytes(), accepts_gzip, &own.options)))
    });
    match made.await {
        Ok((content_type, body)) => plain(200, HeaderValue::from_static(content_type), body),
        Err(error) => error.into(),
    }
}

fn plain(status: u16, content_type: HeaderValue, body: Body) -> Reply {
    Reply { status, content_type, body, close: false, retry_after: None }
}
