//! The HTTP side of the administration: access control, health, and the format of replies. The operations are in
//! Python, behind a [`Handler`]: [`crate::control_plane`].
//!
//! It has its own address and thread ([`listener`]), so that serving models cannot delay it. [`body`] reads the whole
//! request, the pages of health are answered to everyone (with `--auth_file`, those of models to its tokens), [`guard`] checks
//! all other requests, the handler answers
//! them on a thread that may block, and [`answer`] writes the response. Where the console is, its files, and the API by which
//! it calls models, are REST's ([`console`]).

mod answer;
mod body;
mod console;
mod deadline;
mod guard;
mod listener;

pub use listener::{Administration, serve, serve_on};

use crate::auth::{Auth, Need, Pass};
use crate::connections::{Answering, Connection};
use crate::control_plane::{Desk, Handler, NoPlace, Place, Question};
use crate::error::Kind;
use crate::http::client_stream::ClientStream;
use crate::http::pieces::Pieces;
use crate::http::{Service, Settings};
use crate::methods::health::{HealthPages, Subject};
use crate::metrics::EdgeCounts;
use crate::rest::RestService;
use crate::tls::Tls;
use answer::{Refusal, Reply};
use deadline::Deadline;
use guard::Guard;
use http::header::ACCEPT;
use http::request::Parts;
use http::{Method, Request, Response};
use hyper::body::Incoming;
use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

/// Settings of the administration.
#[derive(Clone, Debug)]
pub struct Options {
    /// The address to listen on; port 0 takes any free port.
    pub address: SocketAddr,
    /// The configured host name.
    pub name: String,
    /// A bearer token that clients may send; empty for none.
    pub token: String,
    /// Other tokens that they may send, if there are any. With neither, they need none.
    pub auth: Option<Auth>,
    /// The path of all metrics, for which a token that may read is enough.
    pub metrics_path: Option<String>,
    /// Encryption of connections, if any.
    pub tls: Option<Tls>,
    /// Longest time from the opening of a connection, or its last reply, until the next request has arrived in full;
    /// also the time for a client to read a reply.
    pub request_within: Duration,
    /// Most connections open at once.
    pub max_connections: usize,
    /// What is counted of connections.
    pub counts: Arc<EdgeCounts>,
}

/// What an administration answers with.
pub struct Behind {
    /// The pages that everybody may see.
    pub health: HealthPages,
    /// Answers all that is authorized.
    pub handler: Handler,
    /// Where it does; with fewer places than there may be connections, so that one can always be closed.
    pub desk: Desk,
    /// The console, and the API by which it calls models, if it is here.
    pub console: Option<Arc<RestService>>,
}

/// Largest head of a request, in bytes: large enough for a path that is too long for HTTP, so that the reply can say
/// so.
const MAX_HEAD: usize = 128 << 10;
/// Allowed methods.
const METHODS: [Method; 6] =
    [Method::GET, Method::HEAD, Method::PUT, Method::POST, Method::PATCH, Method::DELETE];
/// The other methods of HTTP.
const OTHER_METHODS: [Method; 3] = [Method::OPTIONS, Method::TRACE, Method::CONNECT];

/// State shared by all connections.
struct Shared {
    guard: Guard,
    /// True if health of models is told to holders of tokens only.
    guards_models: bool,
    metrics_path: Option<String>,
    behind: Behind,
}

/// One client's connection.
struct AdminConnection {
    shared: Arc<Shared>,
    client: IpAddr,
    deadline: Arc<Deadline>,
}

/// Held by a request from its start in the handler until the client has its reply; keeps the connection open meanwhile.
struct RequestPermit {
    _place: Place,
    _answering: Answering,
    _pass: Option<Pass>,
}

impl Service for AdminConnection {
    /// Sets no time limits: the [`Deadline`] does.
    fn settings(&self) -> Settings {
        Settings { headers_within: None, pace: None, max_header_bytes: MAX_HEAD, idle: None }
    }

    async fn answer(
        self: Arc<Self>,
        stream: Arc<ClientStream>,
        request: Request<Incoming>,
    ) -> Response<Pieces> {
        let _in_hand = stream.begin();
        let request = match self.beside(&stream, request).await {
            ControlFlow::Break(response) => return response,
            ControlFlow::Continue(request) => request,
        };
        let (head, body) = request.into_parts();
        let mut who = None;
        let reply = self.reply(&stream.connection, &head, body, &mut who).await;
        let mut reply = reply.unwrap_or_else(Reply::from);
        reply.close |= stream.connection.is_draining();
        self.log(&head, reply.status, who.as_deref().unwrap_or("-"));
        let mut response = reply.into_response(&self.deadline);
        if self.shared.behind.console.is_some() {
            crate::console::protect(response.headers_mut());
        }
        response
    }

    fn write_error(message: &str) -> (&'static str, Vec<u8>) {
        (answer::JSON, answer::error(&Refusal::new(Kind::InvalidArgument, message)))
    }
}

impl AdminConnection {
    async fn reply(
        &self,
        connection: &Arc<Connection>,
        head: &Parts,
        body: Incoming,
        who: &mut Option<Arc<str>>,
    ) -> Result<Reply, Refusal> {
        check_method(&head.method)?;
        let memory = connection.reserve();
        let body = body::read(body, &memory).await?;
        let path = path_of(head.uri.path());
        let shared = &*self.shared;
        if let Some(subject) = Subject::at(&path).filter(|_| is_look(&head.method)) {
            if let Some(need) = shared.behind.health.need(&subject).filter(|_| shared.guards_models) {
                let _in_flight = shared.guard.check(&head.headers, need)?;
            }
            let (status, page) = shared.behind.health.of(&subject);
            return Ok(Reply::json(status, page));
        }
        let is_metrics = is_look(&head.method) && shared.metrics_path.as_deref() == Some(&*path);
        let need = if is_metrics { Need::ReadAll } else { Need::Manage };
        let pass = shared.guard.check(&head.headers, need)?;
        *who = pass.as_ref().map(|pass| pass.name().clone());
        let method = if head.method == Method::HEAD { Method::GET } else { head.method.clone() };
        let method = method.as_str().to_owned();
        let query = head.uri.query().unwrap_or_default().to_owned();
        let accept = head.headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
        let accept = accept.unwrap_or_default().to_owned();
        let question = Question { method, path: path.into_owned(), query, body, accept };
        self.handled(connection, question, pass).await
    }

    /// Calls the handler on a thread of its own and returns its reply.
    async fn handled(
        &self,
        connection: &Arc<Connection>,
        question: Question,
        pass: Option<Pass>,
    ) -> Result<Reply, Refusal> {
        if connection.is_closing() {
            // Nobody would see the reply.
            return Err(Refusal::new(Kind::Unavailable, "The connection gave way to another").closing());
        }
        let Behind { desk, handler, .. } = &self.shared.behind;
        let permit = self.permit(connection, pass)?;
        self.deadline.lift();
        let handler = handler.clone();
        // The permit moves along: the handler continues after the client has left.
        let (answer, permit) = desk.run(move || (handler(&question), permit)).await?;
        Ok(Reply::of(answer?, permit))
    }

    /// Takes a place at the desk.
    fn permit(&self, connection: &Arc<Connection>, pass: Option<Pass>) -> Result<RequestPermit, Refusal> {
        let desk = &self.shared.behind.desk;
        let place = desk.take().map_err(|why| match why {
            NoPlace::Closed => Refusal::new(Kind::Unavailable, "The server is stopping"),
            NoPlace::Taken => {
                let message = format!("{} administrative requests are being answered", desk.most());
                Refusal::new(Kind::Unavailable, message).hint("try again")
            }
        })?;
        Ok(RequestPermit { _place: place, _answering: connection.answering(), _pass: pass })
    }

    /// Logs a line, at level info for changes and debug for reads. `who`: the name of the token.
    fn log(&self, head: &Parts, status: u16, who: &str) {
        let (client, method, target, version) = (self.client, &head.method, &head.uri, head.version);
        if is_look(method) {
            tracing::debug!("{client} \"{method} {target} {version:?}\" {status} {who}");
        } else {
            tracing::info!("{client} \"{method} {target} {version:?}\" {status} {who}");
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

/// Returns `path` with repeated leading slashes reduced to one.
fn path_of(path: &str) -> Cow<'_, str> {
    if path.starts_with("//") {
        Cow::Owned(format!("/{}", path.trim_start_matches('/')))
    } else {
        Cow::Borrowed(path)
    }
}

#[cfg(test)]
mod tests;
