//! What a request asks for, by its head: a call to a model, whose body is needed, or an answer at once.

use super::path::{self, Target, Verb};
use super::{encode, reply};
use crate::error::{Error, Kind, Result};
use crate::http::head;
use crate::http::reply::{Body, Refusal, Reply};
use crate::methods::{ServerState, info};
use crate::registry::VersionChoice;
use http::header::ORIGIN;
use http::request::Parts;
use http::{HeaderMap, Method};

/// A POST to a model: what its head says.
pub(super) struct Post {
    pub(super) verb: Verb,
    pub(super) name: String,
    pub(super) choice: VersionChoice,
    pub(super) gzip: bool,
    pub(super) accepts_gzip: bool,
}

/// Finds what is asked for: a call, whose body is needed, or an answer that the head alone is enough for.
pub(super) fn route(server: &ServerState, request: &Parts, path: &str, api: bool) -> Result<Post, Reply> {
    if let Some(refusal) = head::refusal(request, path, api) {
        return Err(refusal.into());
    }
    if !api {
        return Err(Refusal::new(404, not_found(path)).into());
    }
    let accepts_gzip = head::accepts_gzip(&request.headers);
    let answer = match request.method {
        Method::GET | Method::HEAD => ask(server, path::parse(false, path)),
        Method::POST => match path::parse(true, path) {
            Target::Call(verb, name, choice) => {
                return Ok(Post { verb, name, choice, gzip: head::is_gzip(&request.headers), accepts_gzip });
            }
            Target::VersionTooLarge(digits) => Some(Err(version_too_large(&digits))),
            Target::Malformed | Target::Status(..) | Target::Metadata(..) => None,
        },
        Method::OPTIONS => return Err(preflight(&request.headers)),
        _ => None,
    };
    Err(match answer {
        Some(Ok(body)) => reply::json(Body::packed(body, accepts_gzip, &server.options)),
        Some(Err(error)) => error.into(),
        None => malformed(&request.method, path).into(),
    })
}

/// A GET: status or metadata.
fn ask(server: &ServerState, target: Target) -> Option<Result<Vec<u8>>> {
    let missing = |name: &str| name.is_empty().then(|| Err(Error::invalid("Missing model name in request.")));
    match target {
        Target::Status(name, choice) => {
            Some(missing(&name).unwrap_or_else(|| Ok(encode::status(&info::status(server, &name, &choice)?))))
        }
        Target::Metadata(name, choice) => Some(missing(&name).unwrap_or_else(|| {
            let (version, signatures) = info::metadata(server, &name, &choice)?;
            Ok(encode::metadata(&name, version, &signatures))
        })),
        Target::VersionTooLarge(digits) => Some(Err(version_too_large(&digits))),
        Target::Malformed | Target::Call(..) => None,
    }
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

/// A browser's question whether it may send a request from another origin.
fn preflight(headers: &HeaderMap) -> Reply {
    let origin = headers.get(ORIGIN).map_or(&b""[..], |value| value.as_bytes());
    let known = [&b"http://"[..], b"https://"].iter().any(|scheme| head::contains(origin, scheme));
    let content_type = "text/html; charset=ISO-8859-1";
    let (status, outcome) = if known { (200, Ok(())) } else { (400, Err(Kind::FailedPrecondition)) };
    Reply { status, content_type, body: Body::default(), close: false, retry: false, outcome: Some(outcome) }
}
