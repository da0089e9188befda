//! The API over HTTP/2.

use super::{Caller, RestService, reply};
use crate::arriving::Arriving;
use crate::connections::Connection;
use crate::http::pieces::Pieces;
use crate::http::reply::{Refusal, Reply};
use crate::http2::flood::Floods;
use crate::http2::limits::ConnectionLimits;
use crate::http2::whole_body::WholeBody;
use crate::http2::{self, header_bytes};
use crate::metrics::EdgeLimit;
use http::header::{CONTENT_LENGTH, HeaderValue};
use http::{Method, Request, Response};
use std::sync::Arc;

/// Most fields of a request's head, as over HTTP/1.1: a field takes more memory here than it takes on its way.
const MAX_FIELDS: usize = 100;

/// The same service as over HTTP/1.1.
pub(crate) struct RestOverHttp2 {
    service: Arc<RestService>,
    limits: ConnectionLimits,
    floods: Arc<Floods>,
}

impl RestOverHttp2 {
    /// Serves `service`; `floods` are those of its clients.
    pub(crate) fn new(service: Arc<RestService>, floods: Arc<Floods>) -> RestOverHttp2 {
        let options = &service.server.options;
        let limits = ConnectionLimits {
            max_header_bytes: u32::try_from(options.max_header_bytes).unwrap_or(u32::MAX),
            headers_within: options.headers_within,
            pace: options.pace,
            max_idle: options.idle,
            ..ConnectionLimits::default()
        };
        RestOverHttp2 { service, limits, floods }
    }
}

impl http2::Service for RestOverHttp2 {
    type Body = WholeBody<Pieces>;

    fn settings(&self) -> http2::Settings<'_> {
        http2::Settings { limits: &self.limits, floods: &self.floods, dated: true }
    }

    async fn answer(
        self: Arc<Self>,
        request: Request<Arriving>,
        client: &Arc<Connection>,
    ) -> Response<WholeBody<Pieces>> {
        let (is_head, headers) = (request.method() == Method::HEAD, request.headers());
        let too_large = header_bytes(headers) > self.limits.max_header_bytes as usize;
        let response = if too_large || headers.len() > MAX_FIELDS {
            client.reached(EdgeLimit::Headers);
            let refusal = Reply::from(Refusal::new(431, reply::HEADERS_TOO_LARGE));
            let options = &self.service.server.options;
            refusal.into_response(options, false, request.version(), Default::default())
        } else {
            let caller = Caller { connection: client.clone(), stream: None, pass: None, is_admitted: false };
            self.service.answer_caller(caller, request).await
        };
        if is_head { without_body(response) } else { response.map(WholeBody::new) }
    }
}

/// Leaves out the body of an answer to HEAD, which HTTP/1.1 does by itself.
fn without_body(response: Response<Pieces>) -> Response<WholeBody<Pieces>> {
    let (mut head, body) = response.into_parts();
    head.headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    Response::from_parts(head, WholeBody::default())
}
