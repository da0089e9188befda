//! The administration's HTTP: who may administer, health, and the form of answers. What can be done is Python's: a
//! [`Handler`] does it.
//!
//! It listens on an address and a thread of its own ([`listener`]), so that nothing that serves models holds it up. A
//! request's way: [`body`] reads it whole, `/livez` and `/readyz` are answered to everyone, [`guard`] says who may ask for
//! more, the handler answers on a thread that may block, and [`answer`] writes that down.

mod answer;
mod body;
mod deadline;
mod guard;
mod listener;

pub use answer::{Answer, Refusal};
pub use listener::{Administration, serve};

use crate::connections::{Answering, Connection};
use crate::error::Kind;
use crate::http::client_stream::ClientStream;
use crate::http::{Service, Settings};
use answer::Reply;
use bytes::Bytes;
use deadline::Deadline;
use guard::Guard;
use http::request::Parts;
use http::{Method, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

/// How the administration is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens; port 0 takes any free one.
    pub address: SocketAddr,
    /// The name of this machine that was configured.
    pub name: String,
    /// What clients have to show; empty for nothing.
    pub token: String,
    /// From the opening of a connection, or its last answer, until the next request has come whole; and until an answer
    /// is taken.
    pub request_within: Duration,
    /// Connections that may be open at once.
    pub max_connections: usize,
    /// Requests that the handler may answer at once; fewer than connections, so that there is always one to give way.
    pub max_answered: usize,
}

/// A request that may administer.
#[derive(Clone, Debug)]
pub struct Asked {
    /// HEAD is GET.
    pub method: Method,
    /// With its percent-encodings.
    pub path: String,
    /// What follows the `?`, or nothing.
    pub query: String,
    /// The whole body.
    pub body: Bytes,
}

/// Answers what may administer; may block for as long as it takes.
pub type Handler = Arc<dyn Fn(&Asked) -> Result<Answer, Refusal> + Send + Sync>;

/// The largest head of a request: a path that is too long for HTTP fits in, so that the answer can say so.
const MAX_HEAD: usize = 128 << 10;
/// What is answered at all.
const METHODS: [Method; 6] =
    [Method::GET, Method::HEAD, Method::PUT, Method::POST, Method::PATCH, Method::DELETE];
/// What HTTP knows besides.
const OTHER_METHODS: [Method; 3] = [Method::OPTIONS, Method::TRACE, Method::CONNECT];

/// What all connections share.
struct Shared {
    guard: Guard,
    /// Whether requests to models are answered.
    ready: Arc<AtomicBool>,
    handler: Handler,
    /// One for each request that the handler may answer now.
    permits: Arc<Semaphore>,
    max_answered: usize,
}

/// One client's connection.
struct Visit {
    shared: Arc<Shared>,
    client: IpAddr,
    deadline: Arc<Deadline>,
}

/// A request that the handler answers, until its answer is taken: its connection does not give way meanwhile.
struct Turn {
    _permit: OwnedSemaphorePermit,
    _answering: Answering,
}

impl Service for Visit {
    /// Time is limited by the [`Deadline`].
    fn settings(&self) -> Settings {
        Settings { headers_within: None, pace: None, max_header_bytes: MAX_HEAD }
    }

    async fn answer(
        self: Arc<Self>,
        stream: Arc<ClientStream>,
        request: Request<Incoming>,
    ) -> Response<Full<Bytes>> {
        let _in_hand = stream.begin();
        let (head, body) = request.into_parts();
        let mut reply = self.reply(&stream.connection, &head, body).await.unwrap_or_else(Reply::from);
        reply.close |= stream.connection.is_draining();
        self.log(&head, reply.status);
        reply.into_response(&self.deadline)
    }

    fn write_error(message: &str) -> (&'static str, Vec<u8>) {
        (answer::JSON, answer::error(&Refusal::new(Kind::InvalidArgument, message)))
    }
}

impl Visit {
    async fn reply(
        &self,
        connection: &Arc<Connection>,
        head: &Parts,
        body: Incoming,
    ) -> Result<Reply, Refusal> {
        check_method(&head.method)?;
        let memory = connection.reserve();
        let body = body::read(body, &memory).await?;
        let path = path_of(head.uri.path());
        if is_look(&head.method)
            && let Some(reply) = health(&path, self.shared.ready.load(Relaxed))
        {
            return Ok(reply);
        }
        self.shared.guard.check(&head.headers)?;
        let method = if head.method == Method::HEAD { Method::GET } else { head.method.clone() };
        let query = head.uri.query().unwrap_or_default().to_owned();
        self.handled(connection, Asked { method, path: path.into_owned(), query, body }).await
    }

    /// What the handler answers, on a thread of its own.
    async fn handled(&self, connection: &Arc<Connection>, asked: Asked) -> Result<Reply, Refusal> {
        if connection.is_closing() {
            // Nobody would see the answer.
            return Err(Refusal::new(Kind::Unavailable, "The connection gave way to another").closing());
        }
        let permit = match self.shared.permits.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(TryAcquireError::Closed) => {
                return Err(Refusal::new(Kind::Unavailable, "The server is stopping"));
            }
            Err(TryAcquireError::NoPermits) => {
                let most = self.shared.max_answered;
                let message = format!("{most} administrative requests are being answered");
                return Err(Refusal::new(Kind::Unavailable, message).hint("try again"));
            }
        };
        let turn = Turn { _permit: permit, _answering: connection.answering() };
        self.deadline.lift();
        let handler = self.shared.handler.clone();
        // The turn goes along: the handler goes on where the client has left.
        let work = move || (handler(&asked), turn);
        let (answer, turn) = tokio::task::spawn_blocking(work).await.map_err(|_panicked| {
            Refusal::new(Kind::Internal, "The server failed on this request; its log has the reason")
        })?;
        Ok(Reply::of(answer?, turn))
    }

    /// One line at level info for changes, debug for looks.
    fn log(&self, head: &Parts, status: u16) {
        let (client, method, target, version) = (self.client, &head.method, &head.uri, head.version);
        if is_look(method) {
            tracing::debug!("{client} \"{method} {target} {version:?}\" {status} -");
        } else {
            tracing::info!("{client} \"{method} {target} {version:?}\" {status} -");
        }
    }
}

fn is_look(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

fn check_method(method: &Method) -> Result<(), Refusal> {
    if METHODS.contains(method) {
        return Ok(());
    }
    let refusal = Refusal::new(Kind::Unimplemented, format!("Unsupported method ('{method}')")).closing();
    Err(if OTHER_METHODS.contains(method) { refusal } else { refusal.with_status(501) })
}

/// `path` with one slash at its beginning.
fn path_of(path: &str) -> Cow<'_, str> {
    if path.starts_with("//") {
        Cow::Owned(format!("/{}", path.trim_start_matches('/')))
    } else {
        Cow::Borrowed(path)
    }
}

/// The answer to `/livez` and `/readyz`, `None` for other paths.
fn health(path: &str, ready: bool) -> Option<Reply> {
    match path {
        "/livez" => Some(Reply::json(200, b"{\n  \"live\": true\n}\n")),
        "/readyz" if ready => Some(Reply::json(200, b"{\n  \"ready\": true\n}\n")),
        "/readyz" => Some(Reply::json(503, b"{\n  \"ready\": false\n}\n")),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
