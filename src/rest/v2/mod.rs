//! The Open Inference Protocol (KServe v2) over HTTP, with Triton's extensions: binary tensors, model configuration, model
//! repository, statistics, classification.
//!
//! [`Asked::answer`] takes a request whose path begins with `/v2`: [`path`] says what it is for. An infer request becomes a
//! [`call`], which [`decode`] and [`encode`] read and write; [`tell`] answers what is asked of the server and of models;
//! [`control`] loads and unloads these; [`shared_memory`] registers regions. What this has in common with gRPC is in [`crate::open_inference`].

mod call;
mod control;
pub mod decode;
pub mod encode;
mod parameters;
mod path;
mod shared_memory;
mod tell;

use super::route::preflight;
use super::{Caller, drain, ended, keys, loaded, reply};
use crate::auth::Need;
use crate::error::{Error, Kind, Result};
use crate::exchange::Exchange;
use crate::http::body::{self, RequestBody, Unread};
use crate::http::coding::Accepts;
use crate::http::head::{self, Fields};
use crate::http::reply::{Body, Content, Refusal, Reply};
use crate::http::target;
use crate::memory::Reservation;
use crate::methods::observer::Observer;
use crate::methods::{Context, ModelSpec, ServerState, ask};
use crate::metrics::Protocol;
use crate::open_inference::OpenInference;
use crate::open_inference::refusal::shown;
use crate::open_inference::repository::Change;
use crate::open_inference::target::spec as spec_of;
use bytes::Bytes;
use call::Post;
use http::header::{CONTENT_TYPE, HeaderName, ORIGIN};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method};
use path::{Memory, Target, What};
use std::sync::Arc;
use std::time::Instant;

pub(super) use path::is_v2;

/// The word by which the access log and traces name infer requests.
const INFER: &str = "infer";
/// The content type of an answer with binary data.
const BINARY: HeaderValue = HeaderValue::from_static("application/octet-stream");
/// The header with the length of the JSON with which a body begins, of the Open Inference Protocol.
static JSON_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// Returns whether a GET of `path` needs no token: probes, which orchestrators send without headers.
pub(super) fn is_open(path: &str) -> bool {
    is_v2(path) && matches!(path::parse(path), Some(Target::Live | Target::Ready))
}

/// A request to the protocol, and who asks.
pub(super) struct Asked<'a> {
    pub(super) server: &'a Arc<ServerState>,
    pub(super) view: &'a OpenInference,
    pub(super) client: &'a Caller,
    pub(super) exchange: &'a Exchange,
}

impl Asked<'_> {
    /// Answers the request with this `head` and `body`.
    pub(super) async fn answer(&self, head: &Parts, body: RequestBody) -> Reply {
        let fields = Fields::of(&head.headers);
        let refusal = head::refusal(head, &fields, target::of(&head.uri), true);
        match refusal.map_or_else(|| self.post(head, &fields), |refusal| Err(refusal.into())) {
            Ok(Posted::Infer(post)) => self.infer(head, post, body).await,
            Ok(Posted::Repository(target)) => self.repository(target, &fields, body).await,
            Ok(Posted::Dormant(spec, target)) => {
                drain(head, body).await;
                let _answering = self.client.connection.answering();
                // Held, so that it is still there when it is told of.
                match Box::pin(loaded(self.server, self.client, &spec)).await {
                    Ok(_held) => self.tell(&target, self.accepts(&fields)),
                    Err(why) => why.into(),
                }
            }
            Err(reply) => {
                drain(head, body).await;
                reply
            }
        }
    }

    /// Returns what the head asks for that needs the body, or an immediate answer.
    fn post(&self, head: &Parts, fields: &Fields<'_>) -> Result<Posted, Reply> {
        let path = head.uri.path();
        if head.method == Method::OPTIONS {
            return Err(preflight(&head.headers).0);
        }
        let target = path::parse(path).ok_or_else(|| Refusal::new(404, not_found(path)))?;
        let is_post = head.method == Method::POST;
        let looks = matches!(head.method, Method::GET | Method::HEAD);
        if looks && let Some(spec) = self.dormant(&target) {
            return Ok(Posted::Dormant(spec, target));
        }
        match target {
            Target::Model(named, What::Infer) if is_post => {
                let spec = spec_of(&self.server.registry, &named.names())?;
                self.server.check(self.client.pass.as_ref(), Need::Predict(&spec.name))?;
                if let Some(entry) = self.exchange.entry() {
                    entry.calls(INFER);
                    entry.names(&spec.name);
                }
                let json = json_length(&head.headers)?;
                let (coding, accepts) = (fields.coding(self.server.options.zstd), self.accepts(fields));
                Ok(Posted::Infer(Post { named, json, coding, accepts }))
            }
            Target::Index | Target::Control(..) | Target::Memory(..) | Target::CudaMemory if is_post => {
                self.refuse_page(&head.headers, &target)?;
                Ok(Posted::Repository(target))
            }
            Target::Model(_, What::Infer)
            | Target::Control(..)
            | Target::Memory(Memory::Register | Memory::Unregister, _) => {
                Err(wrong_method(head, path, "POST"))
            }
            Target::Server
            | Target::Live
            | Target::Ready
            | Target::AllStatistics
            | Target::Model(..)
            | Target::Index
            | Target::ReadyIndex
            | Target::Memory(Memory::Status, _)
            | Target::CudaMemory => Err(if looks {
                self.tell(&target, self.accepts(fields))
            } else {
                wrong_method(head, path, "GET")
            }),
        }
    }

    /// Refuses a change that a web page asks for where nobody has to show a token: a browser sends such a request for any page,
    /// without asking the server before. Pages of `--cors_allowed_origins` may.
    fn refuse_page(&self, headers: &HeaderMap, target: &Target) -> Result<()> {
        let changes =
            matches!(target, Target::Control(..) | Target::Memory(Memory::Register | Memory::Unregister, _));
        let options = &self.server.options;
        let is_listed =
            |page: &HeaderValue| options.cors_origins.iter().any(|one| *page == **one || one == "*");
        match headers.get(ORIGIN).filter(|page| changes && options.auth.is_none() && !is_listed(page)) {
            None => Ok(()),
            Some(page) => Err(Error::new(
                Kind::PermissionDenied,
                format!(
                    "Pages of {} may not change what this server serves or shares: see --cors_allowed_origins and \
                     --auth_file",
                    shown(&page.as_bytes().escape_ascii().to_string())
                ),
            )),
        }
    }

    /// Returns the version that has to be loaded before `target` can be told, to whoever may know it.
    fn dormant(&self, target: &Target) -> Option<ModelSpec> {
        let Target::Model(named, What::Metadata | What::Config) = target else { return None };
        let spec = spec_of(&self.server.registry, &named.names()).ok()?;
        self.server.registry.dormant(&spec.name, &spec.choice)?;
        let allowed = self.server.check(self.client.pass.as_ref(), Need::SignaturesOf(&spec.name));
        allowed.is_ok().then_some(spec)
    }

    /// Returns the codings that the reply may have.
    fn accepts(&self, fields: &Fields<'_>) -> Accepts {
        fields.accepts(self.server.options.zstd)
    }

    /// Answers a request that needs no body, observed from outside.
    fn tell(&self, target: &Target, accepts: Accepts) -> Reply {
        let model = if let Target::Model(named, _) = target { named.model.as_str() } else { "" };
        if let Some(entry) = self.exchange.entry() {
            entry.names(model);
        }
        let observer = Observer::begin_simple(self.server, Protocol::Rest, model);
        let told = tell::about(self.server, self.view, self.client.pass.as_ref(), target);
        let outcome = told.as_ref().map(|_| ()).map_err(|error| error.kind);
        let packed = |body| Body::coded(Content::Written(body), accepts, &self.server.options);
        let json = |body| reply::json(packed(body));
        let reply = told.map_or_else(Reply::from, json);
        observer.end(outcome.map(|()| reply.body.len()));
        reply
    }

    /// Reads the body and asks the model.
    async fn infer(&self, head: &Parts, post: Post, body: RequestBody) -> Reply {
        let memory = Arc::new(self.client.connection.reserve());
        let body = match self.read(body, &memory, post.json.unwrap_or(0)).await {
            Ok(body) => body,
            Err(unread) => return unread.into(),
        };
        let (timeline, entry) = (self.exchange.received(body.len()), self.exchange.entry().cloned());
        let _answering = self.client.connection.answering();
        let timeout = self.server.options.rest_timeout;
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        let (pass, keys) = (self.client.pass.clone(), keys(self.server, head));
        let context = Context { deadline, memory, entry, timeline, pass, keys, ..Context::default() };
        let call = call::infer(&self.server.registry, post, body, self.view.shared_memory().cloned());
        match ask(self.server, call, context, ended(timeout, self.client)).await {
            Ok(body) => reply::json(body),
            Err(error) => error.into(),
        }
    }

    /// Reads a body whose binary data begin at `offset`.
    async fn read(&self, body: RequestBody, memory: &Reservation, offset: usize) -> Result<Bytes, Unread> {
        let read = body::read(body, &self.server.options, memory, offset).await;
        if let Some(limit) = read.as_ref().err().and_then(Unread::limit) {
            self.client.connection.reached(limit);
        }
        read
    }

    /// Answers a request to the repository, or about shared memory.
    async fn repository(&self, target: Target, fields: &Fields<'_>, body: RequestBody) -> Reply {
        let memory = self.client.connection.reserve();
        let body = match self.read(body, &memory, 0).await {
            Ok(body) => body,
            Err(unread) => return unread.into(),
        };
        let _answering = self.client.connection.answering();
        if let Target::Memory(Memory::Register | Memory::Unregister, _) = &target {
            let pass = self.client.pass.as_ref();
            let done = shared_memory::change(self.view, pass, &target, &body);
            return done.map_or_else(Reply::from, |()| reply::json(Body::plain(b"{}".to_vec())));
        }
        if matches!(target, Target::Memory(..) | Target::CudaMemory) {
            return self.tell(&target, self.accepts(fields));
        }
        let Target::Control(change, model) = target else {
            return match control::ready_only(&body) {
                Ok(false) => self.tell(&Target::Index, self.accepts(fields)),
                Ok(true) => self.tell(&Target::ReadyIndex, self.accepts(fields)),
                Err(error) => error.into(),
            };
        };
        let observer = Observer::begin_simple(self.server, Protocol::Rest, &model);
        let done = self.change(change, model, &body).await;
        observer.end(done.as_ref().map(|()| 0).map_err(|error| error.kind));
        done.map_or_else(Reply::from, |()| reply::json(Body::plain(b"{}".to_vec())))
    }

    /// Loads or unloads `model`, unless the client leaves first.
    async fn change(&self, change: Change, model: String, body: &[u8]) -> Result<()> {
        self.server.check(self.client.pass.as_ref(), Need::Manage)?;
        tokio::select! {
            biased;
            done = control::change(self.view, change, model, body) => done,
            left = ended(None, self.client) => Err(left),
        }
    }
}

/// What needs a body.
enum Posted {
    Infer(Post),
    Repository(Target),
    /// Told once this version is loaded; there is no body.
    Dormant(ModelSpec, Target),
}

/// Describes an answer in which binary data follow after `json` bytes of JSON.
fn with_binary(body: Body, json: usize) -> Body {
    body.described(vec![(CONTENT_TYPE, BINARY), (JSON_LENGTH.clone(), HeaderValue::from(json))])
}

/// Returns the length of the JSON with which a body begins, if its head says it.
fn json_length(headers: &HeaderMap) -> Result<Option<usize>> {
    let Some(value) = headers.get(&JSON_LENGTH) else { return Ok(None) };
    let digits = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    digits.and_then(|digits| digits.parse().ok()).map(Some).ok_or_else(|| {
        let got = value.as_bytes().escape_ascii();
        Error::invalid(format!("Inference-Header-Content-Length expects a number of bytes, got {got}"))
    })
}

fn wrong_method(head: &Parts, path: &str, expected: &str) -> Reply {
    Refusal::new(405, format!("Method Not Allowed: {} {path}; {expected} is", head.method)).into()
}

fn not_found(path: &str) -> String {
    format!(
        "Not Found: {path}. The Open Inference Protocol is below /v2, such as POST /v2/models/NAME/infer, \
         GET /v2/models/NAME and GET /v2/health/ready"
    )
}
