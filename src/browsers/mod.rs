//! What browsers need of the REST port: gRPC-Web ([`web`]), and leave for pages of other origins ([`cors`]).
//!
//! A browser cannot speak gRPC: it shows pages no trailers, and frames neither. gRPC-Web is what it can speak, over any
//! HTTP; the REST port has HTTP/1.1 and, with TLS, HTTP/2, and the gRPC port only the latter. Both are off unless flags
//! ask for them.

mod cors;
mod text;
mod web;

use crate::arriving::Arriving;
use crate::config::Options;
use crate::connections::Connection;
use crate::grpc::GrpcService;
use crate::http::client_stream::Client;
use crate::http::head::{self, Fields};
use crate::http::target;
use bytes::Bytes;
use cors::Cors;
pub(crate) use cors::{Leave, widen};
use http::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version};
use std::ops::ControlFlow;
use std::sync::Arc;
pub use text::Quanta;
use web::Form;

/// What the REST port does for browsers.
pub(crate) struct Browsers {
    /// Pages of which origins may use it, if there are any.
    cors: Option<Cors>,
    /// The calls of gRPC-Web, if they are answered.
    grpc: Option<Arc<GrpcService>>,
    /// True if replies of REST have TensorFlow Serving's headers for all origins, which stay as they are.
    has_own: bool,
}

/// What a request for browsers asks for.
enum Asked<'a> {
    /// Whether a page of another origin may send its request.
    Preflight(&'a Cors),
    /// A method of gRPC.
    Call(&'a Arc<GrpcService>),
}

impl Browsers {
    /// Returns what `options` ask for, with `grpc` answering calls; `None` if they ask for nothing.
    pub(crate) fn of(options: &Options, grpc: &Arc<GrpcService>) -> Option<Browsers> {
        let cors = Cors::of(&options.cors_origins);
        let grpc = options.grpc_web.then(|| grpc.clone());
        (cors.is_some() || grpc.is_some()).then_some(Browsers { cors, grpc, has_own: options.cors })
    }

    /// Answers a request of `client` that is for browsers alone, and gives back any other. `stream` has brought it, over
    /// HTTP/1.1.
    pub(crate) async fn answer(
        &self,
        client: &Arc<Connection>,
        stream: Option<&Client>,
        request: Request<Arriving>,
    ) -> ControlFlow<Response<Bytes>, Request<Arriving>> {
        let Some(asked) = self.asked(&request) else { return ControlFlow::Continue(request) };
        let (head, body) = request.into_parts();
        let (fields, version) = (Fields::of(&head.headers), head.version);
        if let Some(refused) = head::refusal(&head, &fields, target::of(&head.uri), true) {
            return ControlFlow::Break(refusal(refused.status, refused.message, refused.close, version));
        }
        let mut response = match asked {
            Asked::Preflight(cors) => cors.preflight(&head.headers),
            Asked::Call(grpc) => match Form::of(&head.headers).filter(|_| !fields.gzip && !fields.zstd) {
                Some(form) => {
                    let request = Request::from_parts(head, body);
                    web::call(grpc, form, client, stream, request).await
                }
                None => refusal(415, web::OTHER_TYPES.to_owned(), true, version),
            },
        };
        // While the server drains, the client should send its next request elsewhere.
        if client.is_draining() {
            close(&mut response, version);
        }
        ControlFlow::Break(response)
    }

    fn asked(&self, request: &Request<Arriving>) -> Option<Asked<'_>> {
        match *request.method() {
            Method::POST if web::is_call(request.headers()) => self.grpc.as_ref().map(Asked::Call),
            Method::OPTIONS if cors::is_preflight(request.headers()) => {
                let cors = self.cors.as_ref()?;
                self.is_shared(request.uri().path()).then_some(Asked::Preflight(cors))
            }
            _ => None,
        }
    }

    /// Returns what the answer to `request` tells browsers of other origins.
    pub(crate) fn leave(&self, request: &Request<Arriving>) -> Leave {
        match self.cors.as_ref().filter(|_| self.is_shared(request.uri().path())) {
            Some(cors) => cors.leave(request.headers()),
            None => Leave::default(),
        }
    }

    /// Returns whether pages of other origins may use what is at `path`.
    fn is_shared(&self, path: &str) -> bool {
        let below = |prefix: &str| {
            path.split_at_checked(prefix.len()).is_some_and(|(head, rest)| {
                head.eq_ignore_ascii_case(prefix) && (rest.is_empty() || rest.starts_with('/'))
            })
        };
        ((below("/v1") || below("/v2")) && !self.has_own) || (self.grpc.is_some() && web::is_method(path))
    }
}

/// Makes an answer without a call; with `closes`, nothing can follow it on the connection.
fn refusal(status: u16, message: String, closes: bool, version: Version) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(message));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    if closes {
        close(&mut response, version);
    }
    response
}

/// Says that the connection ends, where HTTP `version` has a header for that.
fn close(response: &mut Response<Bytes>, version: Version) {
    if version < Version::HTTP_2 {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_apis_are_shared_with_other_origins() {
        let shared = |has_own, path| Browsers { cors: None, grpc: None, has_own }.is_shared(path);
        for path in ["/v1/models/m:predict", "/V1/models/m", "/v2", "/v2/", "/v2/models/m/infer"] {
            assert!(shared(false, path), "{path}");
        }
        for path in
            ["/", "/v", "/v10/x", "/v2x", "/metrics", "/livez", "/monitoring/prometheus/metrics", "/é"]
        {
            assert!(!shared(false, path), "{path}");
        }
        // Without gRPC-Web, methods are none of it; TensorFlow Serving's own headers stay.
        assert!(!shared(false, "/tensorflow.serving.PredictionService/Predict"));
        assert!(!shared(true, "/v1/models/m:predict") && !shared(true, "/v2/models/m/infer"));
    }
}
