//! TensorFlow Serving's REST API; beside it, the Open Inference Protocol ([`v2`]).
//!
//! [`RestService::answer`] takes a request, [`route`] evaluates its head, [`call`] reads the body and asks the model
//! ([`crate::methods::ask`]): the body is decoded against the model's signature ([`decode`]) and run, and the answer is
//! printed ([`encode`]).

mod access;
pub mod bodies;
mod call;
mod columns;
mod console;
pub mod decode;
pub mod encode;
pub mod features;
pub mod in_process;
mod metrics_page;
mod openapi;
mod over_http2;
mod path;
pub mod payload_json;
pub mod proto_json;
mod reply;
mod route;
mod rows;
pub mod v2;
mod verb;
mod wanted;

pub(crate) use over_http2::RestOverHttp2;

use crate::arriving::{Arriving, read_to_its_end};
use crate::auth::{Need, Pass};
use crate::browsers::{self, Browsers};
use crate::connections::Connection;
use crate::console::Console;
use crate::error::{Error, Kind, Result};
use crate::exchange::{Asked, Exchange, REQUEST_ID};
use crate::http::body::{self, RequestBody};
use crate::http::client_stream::{Client, ClientStream};
use crate::http::pieces::Pieces;
use crate::http::reply::{Body, Reply};
use crate::http::{Service, Settings, target};
use crate::methods::health::{HealthPages, Page, Subject};
use crate::methods::{Context, ModelSpec, ServerState, ask};
use crate::open_inference::OpenInference;
use crate::peer::Sender;
use crate::servable::Servable;
use crate::traffic_split::Keys;
use bytes::Bytes;
use call::RestCall;
use http::header::EXPECT;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, Version};
use hyper::body::{Body as _, Incoming};
use route::{Otherwise, Post, route};
use std::future::pending;
use std::ops::ControlFlow;
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
pub struct RestService {
    server: Arc<ServerState>,
    /// The pages of health, if they are served.
    health: Option<HealthPages>,
    /// The Open Inference Protocol, if it is on.
    open_inference: Option<OpenInference>,
    /// Held while a page of metrics is made.
    pages: Arc<tokio::sync::Mutex<()>>,
    /// The same for a description of the API.
    documents: Arc<tokio::sync::Mutex<()>>,
    /// What is done for browsers, if anything is.
    browsers: Option<Browsers>,
    /// The console, if it is here.
    console: Option<Arc<Console>>,
}

/// The client of one request.
struct Caller {
    connection: Arc<Connection>,
    /// Over HTTP/1.1, the stream that has brought this request alone. Over HTTP/2, the protocol drops the request of a
    /// client that has left it.
    stream: Option<Client>,
    /// What its token allows.
    pass: Option<Pass>,
    /// True if others have found out what that is.
    is_admitted: bool,
}

impl Caller {
    /// Returns when the client has left.
    async fn left(&self) {
        match &self.stream {
            Some(stream) => stream.left().await,
            None => pending().await,
        }
    }
}

impl RestService {
    pub(crate) fn new(
        server: Arc<ServerState>,
        health: Option<HealthPages>,
        open_inference: Option<OpenInference>,
        browsers: Option<Browsers>,
    ) -> RestService {
        let (pages, documents) = (Arc::default(), Arc::default());
        RestService { server, health, open_inference, pages, documents, browsers, console: None }
    }

    /// Also serves the console.
    pub(crate) fn with_console(self, console: Arc<Console>) -> RestService {
        RestService { console: Some(console), ..self }
    }

    /// Answers a request that has come to another service on `stream`, which has begun it and says what it allows.
    pub(crate) async fn answer_admitted(
        &self,
        stream: &Arc<ClientStream>,
        request: Request<Incoming>,
        pass: Option<Pass>,
    ) -> Response<Pieces> {
        let is_modern = request.version() == Version::HTTP_11;
        let client = Some(Client { stream: stream.clone(), is_modern });
        let connection = stream.connection.clone();
        let caller = Caller { connection, stream: client, pass, is_admitted: true };
        let request = request.map(|body| RequestBody::Arriving(Arriving::over_http1(body)));
        self.answer_api(caller, request).await
    }

    /// Answers a request of the process itself, whose body is there. What is done for browsers alone is not done.
    pub(crate) async fn answer_whole(
        &self,
        connection: Arc<Connection>,
        request: Request<Bytes>,
    ) -> Response<Pieces> {
        let caller = Caller { connection, stream: None, pass: None, is_admitted: false };
        self.answer_api(caller, request.map(RequestBody::whole)).await
    }

    /// Answers a request, whatever HTTP has brought it.
    async fn answer_caller(&self, client: Caller, request: Request<Arriving>) -> Response<Pieces> {
        match &self.browsers {
            None => self.answer_api(client, request.map(RequestBody::Arriving)).await,
            // Boxed: a call of gRPC takes some kilobytes, which no other request should have to hold.
            Some(browsers) => Box::pin(self.answer_browser(browsers, client, request)).await,
        }
    }

    /// The same where something is done for browsers.
    async fn answer_browser(
        &self,
        browsers: &Browsers,
        client: Caller,
        request: Request<Arriving>,
    ) -> Response<Pieces> {
        let leave = browsers.leave(&request);
        let mut response = match browsers.answer(&client.connection, client.stream.as_ref(), request).await {
            ControlFlow::Break(response) => response.map(Pieces::from),
            ControlFlow::Continue(request) => {
                self.answer_api(client, request.map(RequestBody::Arriving)).await
            }
        };
        leave.put(response.headers_mut());
        response
    }

    /// Answers a request to the API.
    async fn answer_api(&self, mut client: Caller, request: Request<RequestBody>) -> Response<Pieces> {
        let (head, body) = request.into_parts();
        let path = target::of(&head.uri);
        let exchange = begin(&self.server, &client, &head, path);
        let page = metrics_page::at(&self.server, &head.method, path);
        let open_inference = self.open_inference.as_ref().filter(|_| v2::is_v2(path));
        let api = page.is_none() && (path::is_api(path) || open_inference.is_some());
        let admitted = access::admit(self, &client, &head, &exchange).map(|pass| client.pass = pass);
        let mut reply = if let Err(refused) = admitted {
            access::refused(refused, &head, body).await
        } else if let Some(page) = page {
            drain(&head, body).await;
            match self.server.check(client.pass.as_ref(), Need::ReadAll) {
                Ok(()) => {
                    let _answering = client.connection.answering();
                    metrics_page::answer(self, page, &head, path).await
                }
                Err(refused) => refused.into(),
            }
        } else if let Some(page) = self.health_page(&head, client.pass.as_ref()) {
            drain(&head, body).await;
            match page {
                Ok((status, page)) => Reply { status, ..reply::json(Body::plain(page.to_vec())) },
                Err(refused) => refused.into(),
            }
        } else if let Some(view) = open_inference {
            v2::Asked { server: &self.server, view, client: &client, exchange: &exchange }
                .answer(&head, body)
                .await
        } else if let Some(console) = self.console_at(&head) {
            drain(&head, body).await;
            console::answer(console, &self.server, &head, &client).await
        } else {
            answered(self, &client, &head, &exchange, body).await
        };
        // While the server drains, the client should send its next request elsewhere.
        reply.close |= client.connection.is_draining();
        let id = exchange.end(reply.status, None, reply.body.len() as u64);
        let is_widened = self.server.options.cors && open_inference.is_some();
        let mut response = reply.into_response(&self.server.options, api, head.version, head.headers);
        if is_widened {
            browsers::widen(response.headers_mut());
        }
        if let Some(id) = id.and_then(|id| HeaderValue::from_bytes(&id).ok()) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        response
    }

    /// Returns the console if the head asks for something of it.
    fn console_at(&self, head: &Parts) -> Option<&Console> {
        self.console.as_deref().filter(|_| crate::console::is_at(head.uri.path()))
    }

    /// Returns the page of health that the head asks for. That of a model needs a token.
    fn health_page(&self, head: &Parts, pass: Option<&Pass>) -> Option<Result<Page>> {
        let health = self.health.as_ref().filter(|_| matches!(head.method, Method::GET | Method::HEAD))?;
        let subject = Subject::at(head.uri.path())?;
        let allowed = health.need(&subject).map_or(Ok(()), |need| self.server.check(pass, need));
        Some(allowed.map(|()| health.of(&subject)))
    }
}

impl Service for RestService {
    fn settings(&self) -> Settings {
        let options = &self.server.options;
        Settings {
            headers_within: options.headers_within,
            pace: options.pace,
            max_header_bytes: options.max_header_bytes,
            idle: options.idle,
        }
    }

    async fn answer(
        self: Arc<Self>,
        stream: Arc<ClientStream>,
        request: Request<Incoming>,
    ) -> Response<Pieces> {
        let _in_hand = stream.begin();
        let is_modern = request.version() == Version::HTTP_11;
        let connection = stream.connection.clone();
        let stream = Some(Client { stream: stream.clone(), is_modern });
        let client = Caller { connection, stream, pass: None, is_admitted: false };
        self.answer_caller(client, request.map(Arriving::over_http1)).await
    }

    fn write_error(message: &str) -> (&'static str, Vec<u8>) {
        (reply::JSON, encode::error(message))
    }
}

/// Returns whether `path` is one of TensorFlow Serving's API.
pub(crate) fn is_call(path: &str) -> bool {
    path::is_api(path)
}

/// Begins a request. A query is left out of what is told of it, as it may hold secrets.
fn begin(server: &ServerState, client: &Caller, head: &Parts, path: &str) -> Exchange {
    let asked = Asked {
        protocol: "rest",
        sender: sender(server, client, head),
        certified: client.connection.certified(),
        method: head.method.as_str(),
        path: path.split('?').next(),
        // A port that speaks TLS speaks nothing else.
        scheme: Some(if server.options.tls.is_some() { "https" } else { "http" }),
    };
    let header = |name| head.headers.get_all(name).iter().map(HeaderValue::as_bytes);
    Exchange::begin(&server.observers(), asked, header)
}

/// Returns the sender of a request, if it may be told.
fn sender(server: &ServerState, client: &Caller, head: &Parts) -> Sender {
    let header = |name| head.headers.get_all(name).into_iter().map(HeaderValue::as_bytes);
    if server.tells_senders() { client.connection.sender(header) } else { Sender::default() }
}

/// Answers a request of `client` whose `head` has been read.
async fn answered(
    service: &RestService,
    client: &Caller,
    head: &Parts,
    exchange: &Exchange,
    body: RequestBody,
) -> Reply {
    let routed = || route(&service.server, head, client.pass.as_ref());
    let otherwise = match routed() {
        Ok(post) => return call(service, client, (head, post), exchange, body).await,
        Err(otherwise) => otherwise,
    };
    drain(head, body).await;
    match otherwise {
        Otherwise::Reply(reply) => reply,
        Otherwise::Dormant(spec) => {
            let _answering = client.connection.answering();
            // Held, so that it is still there when it is told of.
            match Box::pin(loaded(&service.server, client, &spec)).await {
                Ok(_held) => {
                    let Err(Otherwise::Reply(reply)) = routed() else {
                        return Error::internal("What was loaded is not there").into();
                    };
                    reply
                }
                Err(why) => why.into(),
            }
        }
        // Boxed: no other request should have to hold it.
        Otherwise::Document(asked, accepts) => {
            let _answering = client.connection.answering();
            Box::pin(openapi::answer(service, &client.connection, client.pass.as_ref(), asked, accepts)).await
        }
    }
}

/// Waits for a version that is loaded on demand, as long as `client` would for a prediction.
async fn loaded(server: &ServerState, client: &Caller, spec: &ModelSpec) -> Result<Arc<Servable>> {
    tokio::select! {
        biased;
        loaded = server.loaded(&spec.name, &spec.choice) => loaded,
        error = ended(server.options.rest_timeout, client) => Err(error),
    }
}

/// Reads and discards a body. A client that asked first whether to send it has not sent it.
async fn drain(head: &Parts, body: RequestBody) {
    if !body.is_end_stream() && !head.headers.contains_key(EXPECT) {
        read_to_its_end(body).await;
    }
}

/// Reads the body and asks the model.
async fn call(
    service: &RestService,
    client: &Caller,
    (head, post): (&Parts, Post),
    exchange: &Exchange,
    body: RequestBody,
) -> Reply {
    let server = &service.server;
    let entry = exchange.entry();
    if let Some(entry) = entry {
        entry.calls(post.verb.word);
        entry.names(&post.name);
    }
    let memory = Arc::new(client.connection.reserve());
    // Whatever has numbers as they are has them at a multiple of the engines' alignment from its start.
    let body = match body::read(body, &server.options, &memory, 0).await {
        Ok(body) => body,
        Err(unread) => {
            if let Some(limit) = unread.limit() {
                client.connection.reached(limit);
            }
            return unread.into();
        }
    };
    let (timeline, entry) = (exchange.received(body.len()), entry.cloned());
    let _answering = client.connection.answering();
    let timeout = server.options.rest_timeout;
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    let (pass, keys) = (client.pass.clone(), keys(server, head));
    let context = Context { deadline, memory, entry, timeline, pass, keys, ..Context::default() };
    match ask(server, RestCall::new(post, body), context, ended(timeout, client)).await {
        Ok(body) => reply::json(body),
        Err(error) => error.into(),
    }
}

/// Returns the headers that decide between versions, if there are any.
fn keys(server: &ServerState, head: &Parts) -> Option<Arc<Keys>> {
    server.registry.keys(|name| head.headers.get(name).map(HeaderValue::as_bytes))
}

/// Waits until nobody waits for the answer any more; returns the reason.
async fn ended(timeout: Option<Duration>, client: &Caller) -> Error {
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
