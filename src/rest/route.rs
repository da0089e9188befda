//! Routes a request by its head: to a model, which needs the body, or to an immediate answer.

use super::bodies::{Forms, OFFERED};
use super::path::{self, Target};
use super::verb::Verb;
use super::{encode, openapi, reply};
use crate::auth::{Need, Pass};
use crate::error::{Error, Kind, Result};
use crate::http::coding::{Accepts, Coding};
use crate::http::head::{self, Fields};
use crate::http::reply::{Body, Content, Refusal, Reply};
use crate::http::target;
use crate::methods::observer::Observer;
use crate::methods::{ModelSpec, ServerState, info};
use crate::metrics::{Api, Protocol};
use crate::registry::VersionChoice;
use http::header::{HeaderName, ORIGIN};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method};

/// Says what may be sent to a model (W3C, Linked Data Platform 1.0, section 7.1).
static ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");

/// The head of a POST to a model.
pub(super) struct Post {
    pub(super) verb: &'static Verb,
    pub(super) name: String,
    pub(super) choice: VersionChoice,
    /// The outputs that the query names, as they are there; empty for all.
    pub(super) outputs: Box<str>,
    /// The coding of the body.
    pub(super) coding: Option<Coding>,
    /// The codings that the reply may have.
    pub(super) accepts: Accepts,
    /// True if the reply should have no white space.
    pub(super) compact: bool,
    /// What there is beside JSON; `None` in most requests.
    pub(super) forms: Option<Box<Forms>>,
}

/// What is no POST to a model.
pub(super) enum Otherwise {
    /// Answered at once.
    Reply(Reply),
    /// A description of the API, which is still to be made.
    Document(openapi::Asked, Accepts),
    /// Routed again once this version is loaded.
    Dormant(ModelSpec),
}

impl From<Reply> for Otherwise {
    fn from(reply: Reply) -> Otherwise {
        Otherwise::Reply(reply)
    }
}

impl From<Refusal> for Otherwise {
    fn from(refusal: Refusal) -> Otherwise {
        Otherwise::Reply(refusal.into())
    }
}

impl From<Error> for Otherwise {
    fn from(error: Error) -> Otherwise {
        Otherwise::Reply(error.into())
    }
}

/// Returns the call that the head asks for, whose body is needed, or what is answered without.
pub(super) fn route(server: &ServerState, request: &Parts, pass: Option<&Pass>) -> Result<Post, Otherwise> {
    let path = target::of(&request.uri);
    let (api, fields) = (path::is_api(path), Fields::of(&request.headers));
    if let Some(refusal) = head::refusal(request, &fields, path, api) {
        return Err(refusal.into());
    }
    let accepts = || fields.accepts(server.options.zstd);
    let looks = matches!(request.method, Method::GET | Method::HEAD);
    if !api {
        return Err(if looks && server.options.openapi && openapi::is_server(path) {
            Otherwise::Document(openapi::Asked::Server, accepts())
        } else {
            Refusal::new(404, not_found(path)).into()
        });
    }
    if request.method == Method::POST
        && let (Target::Call(verb, name, choice), outputs) = path::parse_call(path)
    {
        server.check(pass, Need::Predict(&name))?;
        let forms = if verb.api == Api::Predict {
            Forms::of(fields.content_type, fields.accept, &request.headers)?
        } else {
            None
        };
        let zstd = server.options.zstd;
        let (coding, accepts, compact) = (fields.coding(zstd), accepts(), fields.wants_compact);
        return Ok(Post { verb, name, choice, outputs: outputs.into(), coding, accepts, compact, forms });
    }
    let known = looks || request.method == Method::POST;
    let mut target = if known { path::parse(!looks, path) } else { Target::Malformed };
    if let Target::OpenApi(name, choice) = target {
        if server.options.openapi {
            check_name(&name)?;
            return Err(Otherwise::Document(openapi::Asked::Model(name, choice), accepts()));
        }
        target = Target::Malformed;
    }
    if looks && let Some(spec) = dormant(server, pass, &target) {
        return Err(Otherwise::Dormant(spec));
    }
    Err(answered_at_once(server, request, pass, target, accepts()).into())
}

/// Returns the version that has to be loaded before `target` can be told, to whoever may know it.
fn dormant(server: &ServerState, pass: Option<&Pass>, target: &Target) -> Option<ModelSpec> {
    let Target::Metadata(name, choice) = target else { return None };
    server.registry.dormant(name, choice)?;
    server.check(pass, Need::SignaturesOf(name)).ok()?;
    Some(ModelSpec { name: name.clone(), choice: choice.clone(), signature_name: String::new() })
}

/// Answers a request that needs no body, observed from outside.
fn answered_at_once(
    server: &ServerState,
    request: &Parts,
    pass: Option<&Pass>,
    target: Target,
    accepts: Accepts,
) -> Reply {
    let (method, headers, path) = (&request.method, &request.headers, target::of(&request.uri));
    let model = if matches!(*method, Method::GET | Method::HEAD) { target.model() } else { "" };
    let observer = Observer::begin_simple(server, Protocol::Rest, model);
    let (reply, outcome) = if method == Method::OPTIONS {
        preflight(headers)
    } else {
        // Who asks for the signatures is about to call them.
        let offers = if matches!(target, Target::Metadata(..)) {
            vec![(ACCEPT_POST.clone(), OFFERED)]
        } else {
            vec![]
        };
        let answer = tell(server, pass, target).unwrap_or_else(|| Err(malformed(method, path)));
        let outcome = answer.as_ref().map(|_| ()).map_err(|error| error.kind);
        let packed = |body| Body::coded(Content::Written(body), accepts, &server.options);
        let json = |body| reply::json(packed(body).described(offers));
        (answer.map_or_else(Reply::from, json), outcome)
    };
    observer.end(outcome.map(|()| reply.body.len()));
    reply
}

/// Returns status or metadata, if `target` asks for one of these.
fn tell(server: &ServerState, pass: Option<&Pass>, target: Target) -> Option<Result<Vec<u8>>> {
    match target {
        Target::Status(name, choice) => Some(status(server, pass, &name, &choice)),
        Target::Metadata(name, choice) => Some(metadata(server, pass, &name, &choice)),
        Target::VersionTooLarge(digits) => Some(Err(version_too_large(&digits))),
        Target::Malformed | Target::Call(..) | Target::OpenApi(..) => None,
    }
}

fn status(server: &ServerState, pass: Option<&Pass>, name: &str, choice: &VersionChoice) -> Result<Vec<u8>> {
    check_name(name)?;
    server.check(pass, Need::Read(name))?;
    Ok(encode::status(&info::status(server, name, choice)?))
}

fn metadata(
    server: &ServerState,
    pass: Option<&Pass>,
    name: &str,
    choice: &VersionChoice,
) -> Result<Vec<u8>> {
    check_name(name)?;
    server.check(pass, Need::SignaturesOf(name))?;
    let (version, signatures) = info::metadata(server, name, choice)?;
    Ok(encode::metadata(name, version, &signatures))
}

fn check_name(name: &str) -> Result<()> {
    if name.is_empty() { Err(Error::invalid("Missing model name in request.")) } else { Ok(()) }
}

fn malformed(method: &Method, path: &str) -> Error {
    Error::invalid(format!("Malformed request: {method} {path}"))
}

fn version_too_large(digits: &str) -> Error {
    Error::invalid(format!("Failed to convert version: {digits} to numeric."))
}

fn not_found(path: &str) -> String {
    format!("Not Found: {path}. The API is below /v1/models/, such as POST /v1/models/NAME:predict")
}

/// Answers a browser's preflight request for another origin; also returns how to count it.
pub(super) fn preflight(headers: &HeaderMap) -> (Reply, Result<(), Kind>) {
    let origin = headers.get(ORIGIN).map_or(&b""[..], |value| value.as_bytes());
    let known = [&b"http://"[..], b"https://"].iter().any(|scheme| head::contains(origin, scheme));
    let content_type = HeaderValue::from_static("text/html; charset=ISO-8859-1");
    let (status, outcome) = if known { (200, Ok(())) } else { (400, Err(Kind::FailedPrecondition)) };
    (Reply { status, content_type, body: Body::default(), close: false, retry_after: None }, outcome)
}
