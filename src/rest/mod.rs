//! TensorFlow Serving's REST API.
//!
//! A request's way: [`RestService::answer`] reads its head, [`route`] finds what it asks for, [`call`] resolves the model;
//! the body is decoded against the model's signature ([`decode`]), [`crate::methods`] runs it, and the answer is printed
//! ([`encode`]).

mod call;
mod columns;
pub mod decode;
pub mod encode;
pub mod features;
mod monitoring;
mod path;
pub mod proto_json;
mod reply;
mod route;
mod rows;

use crate::compute::guarded;
use crate::error::{Error, Kind, Result};
use crate::http::body::{self, Unpacked};
use crate::http::client_stream::{Client, ClientStream};
use crate::http::reply::Reply;
use crate::http::{Service, Settings, target};
use crate::methods::{Context, ServerState};
use bytes::Bytes;
use call::Call;
use http::header::{CONNECTION, EXPECT};
use http::request::Parts;
use http::{HeaderValue, Request, Response, Version};
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use monitoring::Observer;
use route::{Post, route};
use std::sync::Arc;
use std::time::Instant;

/// The two shapes of a predict request and of its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `instances` → `predictions`: a list of rows.
    Row,
    /// `inputs` → `outputs`: a tensor per name.
    Columnar,
}

/// Up to this many bytes a body is decoded in the thread that read it (some 30 µs).
const SMALL_BODY: usize = 16 << 10;

/// The API, with the models behind it.
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
        let _in_hand = stream.begin();
        let client = stream.connection.clone();
        let (head, body) = request.into_parts();
        let path = target::of(&head.uri);
        let mut response = answered(&self.server, stream, &head, &path, body).await;
        if client.is_draining() {
            // The next request is to go elsewhere.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    fn write_error(message: &str) -> (&'static str, Vec<u8>) {
        (reply::JSON, encode::error(message))
    }
}

/// Answers a request whose `head` and `path` were read.
async fn answered(
    server: &Arc<ServerState>,
    stream: Arc<ClientStream>,
    head: &Parts,
    path: &str,
    body: Incoming,
) -> Response<Full<Bytes>> {
    if monitoring::is_page(server, path) {
        drain(head, body).await;
        return monitoring::page(server, path).await.into_response(&server.options, false);
    }
    let started = server.metrics.is_some().then(Instant::now);
    let api = path::is_api(path);
    let reply = match route(server, head, path, api) {
        Ok(post) => {
            let client = Client { stream, is_modern: head.version == Version::HTTP_11 };
            watched(server, &client, post, body).await
        }
        Err(reply) => {
            monitoring::answered_at_once(server, &head.method, path, started, &reply);
            drain(head, body).await;
            reply
        }
    };
    reply.into_response(&server.options, api)
}

/// Reads a body that nobody wants. Who asked whether to send one at all has not sent it.
async fn drain(head: &Parts, body: Incoming) {
    if !body.is_end_stream() && !head.headers.contains_key(EXPECT) {
        body::drain(body).await;
    }
}

/// Reads the body, then has the call answered, counted around.
async fn watched(server: &Arc<ServerState>, client: &Client, post: Post, body: Incoming) -> Reply {
    let memory = Arc::new(client.stream.connection.reserve());
    let body = match body::read(body, &server.options, &memory).await {
        Ok(body) => body,
        Err(unread) => return unread.into(),
    };
    let _answering = client.stream.connection.answering();
    let observer = Observer::begin(server, &post);
    let context = Context { deadline: deadline(server), memory };
    let reply = call(server, client, post, body, context).await;
    if let Some(observer) = observer {
        observer.end(&reply);
    }
    reply
}

/// Predicts, classifies or regresses, here or on a compute thread.
async fn call(
    server: &Arc<ServerState>,
    client: &Client,
    post: Post,
    body: Bytes,
    context: Context,
) -> Reply {
    let Post { verb, name, choice, gzip, accepts_gzip } = post;
    let options = &server.options;
    let small = !gzip && body.len() <= SMALL_BODY;
    let call =
        Call { server: server.clone(), verb, servable: server.registry.resolve(&name, &choice), context };
    let answer = if small {
        // Decoding takes less than a hand-over; where it runs is the signature's to say.
        match guarded(|| call.decode(&body)) {
            Ok(request) => {
                let in_caller = request.in_caller();
                let run = server.compute.run(in_caller, move || call.run(request, accepts_gzip));
                // What runs in the caller is over when it is first polled.
                if in_caller { run.await } else { bounded(server, client, run).await }
            }
            Err(error) => Err(error),
        }
    } else {
        let limit = options.max_body_bytes;
        let expected = match gzip.then(|| Unpacked::expect(&body, limit, &call.context.memory)).transpose() {
            Ok(expected) => expected,
            Err(error) => return error.into(),
        };
        let work = move || {
            let request = match expected {
                Some(expected) => {
                    call.decode(&body::unpacked(&body, limit, &expected, &call.context.memory)?)
                }
                None => call.decode(&body),
            }?;
            drop(body);
            call.run(request, accepts_gzip)
        };
        bounded(server, client, server.compute.run(false, work)).await
    };
    match answer {
        Ok(body) => reply::json(body),
        Err(error) => error.into(),
    }
}

fn deadline(server: &ServerState) -> Option<Instant> {
    server.options.rest_timeout.map(|timeout| Instant::now() + timeout)
}

/// Waits for `run` no longer than REST requests may take, and than the client does.
async fn bounded<T>(
    server: &ServerState,
    client: &Client,
    run: impl Future<Output = Result<T>>,
) -> Result<T> {
    let run = async {
        tokio::select! {
            biased;
            done = run => done,
            () = client.left() => Err(Error::new(Kind::Cancelled, "The client left before it was answered")),
        }
    };
    match server.options.rest_timeout {
        None => run.await,
        Some(timeout) => tokio::time::timeout(timeout, run).await.unwrap_or_else(|_| {
            Err(Error::new(
                Kind::DeadlineExceeded,
                format!(
                    "Timed out: no answer within {} ms. Send less at once, or raise --rest_api_timeout_in_ms",
                    timeout.as_millis()
                ),
            ))
        }),
    }
}

#[cfg(test)]
mod tests;
