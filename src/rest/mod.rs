//! TensorFlow Serving's REST API.
//!
//! [`RestService::answer`] takes a request, [`route`] evaluates its head, [`call`] reads the body and asks the model
//! ([`crate::methods::ask`]): the body is decoded against the model's signature ([`decode`]) and run, and the answer is
//! printed ([`encode`]).

mod call;
mod columns;
pub mod decode;
pub mod encode;
pub mod features;
mod metrics_page;
mod path;
pub mod payload_json;
pub mod proto_json;
mod reply;
mod route;
mod rows;
mod verb;

use crate::access::{Asked, Entry, Exchange, REQUEST_ID};
use crate::error::{Error, Kind};
use crate::http::body;
use crate::http::client_stream::{Client, ClientStream};
use crate::http::reply::Reply;
use crate::http::{Service, Settings, target};
use crate::methods::{Context, ServerState, ask};
use bytes::Bytes;
use call::RestCall;
use http::header::EXPECT;
use http::request::Parts;
use http::{HeaderValue, Request, Response, Version};
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use route::{Post, route};
use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The two formats of a predict request and its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `instances` → `predictions`: a list of rows.
    Row,
    /// `inputs` → `outputs`: a tensor per name.
    Columnar,
}

/// The API and the models behind it.
pub(crate) struct RestService {
    server: Arc<ServerState>,
}

impl RestService {
    pub(crate) fn new(server: Arc<ServerState>) -> RestService {
        RestService { server }
    }
}

impl Service for RestService {
    fn settings(&self) -> Settings {
        let options = &self.server.options;
        Settings {
            headers_within: options.headers_within,
            pace: options.pace,
            max_header_bytes: options.max_header_bytes,
        }
    }

    async fn answer(
        self: Arc<Self>,
        stream: Arc<ClientStream>,
        request: Request<Incoming>,
    ) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let client = Client { stream, is_modern: head.version == Version::HTTP_11 };
        let _in_hand = client.stream.begin();
        let path = target::of(&head.uri);
        let exchange = begin(&self.server, &client, &head, path);
        let is_page = metrics_page::is_at(&self.server, path);
        let api = !is_page && path::is_api(path);
        let mut reply = if is_page {
            drain(&head, body).await;
            metrics_page::answer(&self.server, path).await
        } else {
            answered(&self.server, &client, &head, &exchange, body).await
        };
        // While the server drains, the client should send its next request elsewhere.
        reply.close |= client.stream.connection.is_draining();
        let Exchange { id, logged } = exchange;
        if let Some(logged) = logged {
            logged.end(reply.status, None, reply.body.len() as u64);
        }
        let mut response = reply.into_response(&self.server.options, api, head.headers);
        if let Some(id) = id.and_then(|id| HeaderValue::from_bytes(&id).ok()) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        response
    }

    fn write_error(message: &str) -> (&'static str, Vec<u8>) {
        (reply::JSON, encode::error(message))
    }
}

/// Begins a request for the access log. A query is left out of it, as it may hold secrets.
fn begin(server: &ServerState, client: &Client, head: &Parts, path: &str) -> Exchange {
    let asked = Asked {
        protocol: "rest",
        peer: client.stream.connection.peer(),
        method: head.method.as_str(),
        path: path.split('?').next(),
    };
    let header = |name| head.headers.get(name).map(HeaderValue::as_bytes);
    Exchange::begin(server.access.as_ref(), server.options.request_ids, asked, header)
}

/// Answers a request of `client` whose `head` has been read.
async fn answered(
    server: &Arc<ServerState>,
    client: &Client,
    head: &Parts,
    exchange: &Exchange,
    body: Incoming,
) -> Reply {
    let path = target::of(&head.uri);
    match route(server, head, path, path::is_api(path)) {
        Ok(post) => call(server, client, post, exchange.entry(), body).await,
        Err(reply) => {
            drain(head, body).await;
            reply
        }
    }
}

/// Reads and discards a body. A client that asked first whether to send it has not sent it.
async fn drain(head: &Parts, body: Incoming) {
    if !body.is_end_stream() && !head.headers.contains_key(EXPECT) {
        body::drain(body).await;
    }
}

/// Reads the body and asks the model.
async fn call(
    server: &Arc<ServerState>,
    client: &Client,
    post: Post,
    entry: Option<Arc<Entry>>,
    body: Incoming,
) -> Reply {
    if let Some(entry) = &entry {
        entry.calls(post.verb.word);
        entry.names(&post.name);
    }
    let memory = Arc::new(client.stream.connection.reserve());
    let body = match body::read(body, &server.options, &memory).await {
        Ok(body) => body,
        Err(unread) => return unread.into(),
    };
    if let Some(entry) = &entry {
        entry.received(body.len());
    }
    let _answering = client.stream.connection.answering();
    let timeout = server.options.rest_timeout;
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    let context = Context { deadline, memory, entry, ..Context::default() };
    match ask(server, RestCall::new(post, body), context, ended(timeout, client)).await {
        Ok(body) => reply::json(body),
        Err(error) => error.into(),
    }
}

/// Waits until nobody waits for the answer any more; returns the reason.
async fn ended(timeout: Option<Duration>, client: &Client) -> Error {
    let late = async {
        match timeout {
            Some(timeout) => tokio::time::sleep(timeout).await,
            None => pending().await,
        }
        timeout.unwrap_or_default().as_millis()
    };
    tokio::select! {
        biased;
        () = client.left() => Error::new(Kind::Cancelled, "The client left before it was answered"),
        millis = late => Error::new(
            Kind::DeadlineExceeded,
            format!(
                "Timed out: no answer within {millis} ms. Send less at once, or raise --rest_api_timeout_in_ms"
            ),
        ),
    }
}

#[cfg(test)]
mod tests;
