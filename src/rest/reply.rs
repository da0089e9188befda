//! Replies in TensorFlow Serving's form: JSON, and errors as `{"error": …}`.

use super::encode;
use crate::error::Error;
use crate::http::body::Unread;
use crate::http::reply::{Body, Refusal, Reply};
use http::HeaderValue;

pub(super) const JSON: &str = "application/json";
/// The error of a head that is larger than allowed.
pub(super) const HEADERS_TOO_LARGE: &str = "Request Header Fields Too Large: send fewer or shorter headers";
const JSON_TYPE: HeaderValue = HeaderValue::from_static(JSON);

/// Makes the reply of a successful call.
pub(super) fn json(body: Body) -> Reply {
    Reply { status: 200, content_type: JSON_TYPE, body, close: false, retry_after: None }
}

impl From<Error> for Reply {
    fn from(error: Error) -> Reply {
        let body = Body::plain(encode::error(&error.message));
        let status = error.http_status();
        let retry_after = error.seconds_to_retry();
        Reply { status, content_type: JSON_TYPE, body, close: false, retry_after }
    }
}

impl From<Refusal> for Reply {
    fn from(refusal: Refusal) -> Reply {
        let body = Body::plain(encode::error(&refusal.message));
        let Refusal { status, close, .. } = refusal;
        Reply { status, content_type: JSON_TYPE, body, close, retry_after: None }
    }
}

impl From<Unread> for Reply {
    fn from(unread: Unread) -> Reply {
        match unread {
            Unread::Refused(refusal) => refusal.into(),
            Unread::NoRoom(error) => Reply { close: true, ..error.into() },
        }
    }
}
