//! Replies: statuses, headers, and errors as JSON.

use super::deadline::Deadline;
use super::{METHODS, RequestPermit};
use crate::control_plane::{Answer, Refused};
use crate::error::{Error, Kind};
use crate::http::pieces::Pieces;
use crate::json::writer::Writer;
use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{Response, StatusCode};
use std::borrow::Cow;
use std::sync::Arc;

pub(super) const JSON: &str = "application/json";

/// HTTP status per error kind; 500 for all others.
const STATUSES: [(Kind, u16); 9] = [
    (Kind::InvalidArgument, 400),
    (Kind::Unauthenticated, 401),
    (Kind::PermissionDenied, 403),
    (Kind::NotFound, 404),
    (Kind::Unimplemented, 405),
    (Kind::FailedPrecondition, 409),
    (Kind::ResourceExhausted, 429),
    (Kind::Unavailable, 503),
    (Kind::DeadlineExceeded, 504),
];

/// The error reply to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    kind: Kind,
    message: String,
    hint: String,
    /// Overrides the kind's status.
    status: Option<u16>,
    /// True to close the connection, because the bytes that follow cannot be trusted.
    close: bool,
    /// The seconds after which the same request may succeed, if it may.
    retry_after: Option<u16>,
}

impl Refusal {
    /// Creates a refusal that keeps the connection open.
    pub(super) fn new(kind: Kind, message: impl Into<String>) -> Refusal {
        Refusal {
            kind,
            message: message.into(),
            hint: String::new(),
            status: None,
            close: false,
            retry_after: None,
        }
    }

    /// Adds advice on what to do about it.
    pub(super) fn hint(self, hint: impl Into<String>) -> Refusal {
        Refusal { hint: hint.into(), ..self }
    }

    /// Also closes the connection.
    pub(super) fn closing(self) -> Refusal {
        Refusal { close: true, ..self }
    }

    /// Replaces the kind's status with `status`.
    pub(super) fn with_status(self, status: u16) -> Refusal {
        Refusal { status: Some(status), ..self }
    }

    pub(super) fn status(&self) -> u16 {
        let of_kind = STATUSES.iter().find(|(kind, _)| *kind == self.kind).map_or(500, |(_, status)| *status);
        self.status.unwrap_or(of_kind)
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        let retry_after = error.seconds_to_retry();
        Refusal { retry_after, ..Refusal::new(error.kind, error.message) }
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Refusal {
        let Refused { kind, message, hint } = refused;
        Refusal::new(kind, message).hint(hint)
    }
}

/// Returns `refusal` as a JSON body.
pub(super) fn error(refusal: &Refusal) -> Vec<u8> {
    let Refusal { kind, message, hint, .. } = refusal;
    let mut out = Writer::with_room(message.len() + hint.len() + 64);
    out.raw(b"{\n  \"error\": ");
    out.ascii_string(message);
    out.raw(b",\n  \"code\": ");
    out.ascii_string(kind.name());
    if !hint.is_empty() {
        out.raw(b",\n  \"hint\": ");
        out.ascii_string(hint);
    }
    out.raw(b"\n}\n");
    out.finish()
}

/// A complete reply.
pub(super) struct Reply {
    pub(super) status: u16,
    content_type: Cow<'static, str>,
    bytes: Vec<u8>,
    pub(super) close: bool,
    retry_after: Option<u16>,
    permit: Option<RequestPermit>,
}

impl Reply {
    /// Makes the reply of the handler's `answer`; `permit` is held until the client has it.
    pub(super) fn of(answer: Answer, permit: RequestPermit) -> Reply {
        let Answer { content_type, bytes } = answer;
        Reply { content_type: content_type.into(), bytes, permit: Some(permit), ..Reply::json(200, b"") }
    }

    pub(super) fn json(status: u16, text: &[u8]) -> Reply {
        let (content_type, bytes) = (JSON.into(), text.to_vec());
        Reply { status, content_type, bytes, close: false, retry_after: None, permit: None }
    }

    /// Converts to an HTTP response and restarts the client's `deadline`.
    pub(super) fn into_response(self, deadline: &Arc<Deadline>) -> Response<Pieces> {
        let Reply { status, content_type, bytes, close, retry_after, permit } = self;
        deadline.restart();
        let mut response = Response::new(unsent(Bytes::from(bytes).into(), deadline, permit));
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        let any = HeaderValue::from_static("application/octet-stream");
        headers.insert(CONTENT_TYPE, HeaderValue::from_str(&content_type).unwrap_or(any));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == 401 {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(methods) = (status == 405).then(allowed).flatten() {
            headers.insert(ALLOW, methods);
        }
        if let Some(seconds) = retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if close {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

fn allowed() -> Option<HeaderValue> {
    HeaderValue::from_str(&METHODS.each_ref().map(|method| method.as_str()).join(", ")).ok()
}

impl From<Refusal> for Reply {
    fn from(refusal: Refusal) -> Reply {
        let Refusal { close, retry_after, .. } = refusal;
        Reply { close, retry_after, ..Reply::json(refusal.status(), &error(&refusal)) }
    }
}

/// Makes a body of `pieces`; once it is sent, the time of the client runs again from its beginning.
pub(super) fn unsent(pieces: Pieces, deadline: &Arc<Deadline>, permit: Option<RequestPermit>) -> Pieces {
    let deadline = deadline.clone();
    pieces.held(|bytes| Bytes::from_owner(UnsentBody { bytes, deadline, _permit: permit }))
}

/// A response body until it has been sent. The client has as long to read it as to send its next request.
struct UnsentBody {
    bytes: Bytes,
    deadline: Arc<Deadline>,
    _permit: Option<RequestPermit>,
}

impl AsRef<[u8]> for UnsentBody {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for UnsentBody {
    fn drop(&mut self) {
        self.deadline.restart();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_look_as_python_prints_them() {
        let refusal = Refusal::new(Kind::NotFound, "There is no \"ü\u{1f600}\"\n\u{1f}\u{7f}");
        let text = "{\n  \"error\": \"There is no \\\"\\u00fc\\ud83d\\ude00\\\"\\n\\u001f\u{7f}\",\n  \"code\": \"NOT_FOUND\"";
        assert_eq!(String::from_utf8(error(&refusal)).unwrap(), format!("{text}\n}}\n"));
        let hinted = error(&refusal.hint("look"));
        assert_eq!(String::from_utf8(hinted).unwrap(), format!("{text},\n  \"hint\": \"look\"\n}}\n"));
    }

    #[test]
    fn what_has_no_status_of_its_own_is_a_failure_of_the_server() {
        for (kind, status) in [(Kind::FailedPrecondition, 409), (Kind::Aborted, 500), (Kind::Unknown, 500)] {
            assert_eq!(Refusal::new(kind, "").status(), status);
        }
        assert_eq!(Refusal::new(Kind::Unimplemented, "").with_status(501).status(), 501);
    }

    #[test]
    fn time_runs_again_when_the_answer_is_made_and_when_it_is_taken() {
        let deadline = Arc::new(Deadline::new(std::time::Duration::from_secs(30)));
        deadline.lift();
        let response = Reply::json(200, b"{}").into_response(&deadline);
        assert!(deadline.is_running());
        deadline.lift();
        drop(response);
        assert!(deadline.is_running());
    }

    #[test]
    fn headers_belong_to_statuses() {
        let deadline = Arc::new(Deadline::new(std::time::Duration::from_secs(30)));
        let headers = |kind| Reply::from(Refusal::new(kind, "")).into_response(&deadline).headers().clone();
        let not_allowed = headers(Kind::Unimplemented);
        assert_eq!(not_allowed[ALLOW], "GET, HEAD, PUT, POST, PATCH, DELETE");
        assert_eq!(not_allowed[CACHE_CONTROL], "no-store");
        let unknown = headers(Kind::Unauthenticated);
        assert_eq!(unknown[WWW_AUTHENTICATE], "Bearer");
        assert!(!unknown.contains_key(ALLOW) && !unknown.contains_key(CONNECTION));
    }
}
