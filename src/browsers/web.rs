//! gRPC-Web: calls of gRPC over any HTTP, with the trailers as the last frame of the body, and in base64 for clients that
//! read text alone. The calls themselves are [`crate::grpc`]'s; one answer is brought for each.

use super::text::{self, Decoded};
use crate::arriving::Arriving;
use crate::connections::Connection;
use crate::error::{Error, Result};
use crate::grpc::{self, CallBody, Caller, Content, GrpcService, Left};
use crate::http::client_stream::Client;
use crate::memory::{Held, Reservation};
use bytes::{BufMut, Bytes, BytesMut};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt;
use std::collections::VecDeque;
use std::sync::Arc;

/// What is told of media types that cannot be read.
pub(super) const OTHER_TYPES: &str = "Unsupported Media Type: expected Content-Type application/grpc-web, \
                                      application/grpc-web-text, or either with +proto, and no Content-Encoding";

/// Marks the frame that holds trailers.
const TRAILERS: u8 = 0x80;
/// The trailers of a call that has succeeded.
const OK: &[u8] = b"grpc-status:0\r\n";
/// Largest reply that is written in the thread that answers, in bytes (some 300 µs of work).
const SMALL: usize = 256 << 10;

/// How frames are carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As they are.
    Binary,
    /// In base64.
    Text,
}

impl Form {
    /// Returns the form of a request's body; `None` if it cannot be read.
    pub(super) fn of(headers: &HeaderMap) -> Option<Form> {
        Form::named(headers.get(CONTENT_TYPE)?.as_bytes())
    }

    /// Returns the form that an answer has: the one that is accepted, or that of the request.
    fn wanted(headers: &HeaderMap, of_request: Form) -> Form {
        let accepted = headers.get(ACCEPT).map_or(&b""[..], |accept| accept.as_bytes());
        accepted.split(|byte| *byte == b',').find_map(Form::named).unwrap_or(of_request)
    }

    fn named(media_type: &[u8]) -> Option<Form> {
        let name = media_type.split(|byte| *byte == b';').next()?.trim_ascii();
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        if is(b"application/grpc-web") || is(b"application/grpc-web+proto") {
            Some(Form::Binary)
        } else if is(b"application/grpc-web-text") || is(b"application/grpc-web-text+proto") {
            Some(Form::Text)
        } else {
            None
        }
    }

    fn media_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Form::Binary => "application/grpc-web+proto",
            Form::Text => "application/grpc-web-text+proto",
        })
    }
}

/// Returns whether a POST with these headers is a call, in a form that can be read or not.
pub(super) fn is_call(headers: &HeaderMap) -> bool {
    const BEGIN: &[u8] = b"application/grpc-web";
    let media_type = headers.get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    media_type.get(..BEGIN.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(BEGIN))
}

/// Returns whether `path` is that of a method: `/PACKAGE.Service/Method`.
pub(super) fn is_method(path: &str) -> bool {
    let parts = path.strip_prefix('/').and_then(|path| path.split_once('/'));
    parts
        .is_some_and(|(service, method)| service.contains('.') && !method.is_empty() && !method.contains('/'))
}

/// Answers a call whose body has this `form`.
pub(super) async fn call(
    grpc: &Arc<GrpcService>,
    form: Form,
    client: &Arc<Connection>,
    stream: Option<&Client>,
    request: Request<Arriving>,
) -> Response<Bytes> {
    let wanted = Form::wanted(request.headers(), form);
    let left = stream.cloned().map(|stream| -> Left { Box::pin(async move { stream.left().await }) });
    let request = request.map(|body| match form {
        Form::Binary => CallBody::Plain(body),
        Form::Text => CallBody::Decoded(Decoded::new(body).boxed_unsync()),
    });
    let caller = Caller { connection: client, left, takes_streams: false };
    let (mut head, body) = grpc.call(request, caller).await.into_parts();
    if head.status != StatusCode::OK {
        return Response::from_parts(head, Bytes::new());
    }
    let body = framed(grpc, body, wanted).await.unwrap_or_else(|error| {
        let failed = grpc::failed(error).into_parts().0;
        head.headers.extend(failed.headers);
        Bytes::new()
    });
    head.headers.insert(CONTENT_TYPE, wanted.media_type());
    Response::from_parts(head, body)
}

/// Returns `body` with its trailers; empty if the status is in the headers.
async fn framed(grpc: &GrpcService, body: grpc::Body, form: Form) -> Result<Bytes> {
    let (mut pieces, memory, trailers) = match body.content() {
        Content::Nothing => return Ok(Bytes::new()),
        Content::Message(pieces, memory) => (pieces, memory, frame(OK)),
        // One message of some bytes: methods that stream are refused.
        Content::Streamed(body) => {
            let whole = body.collect().await;
            let whole = whole.map_err(|why| Error::internal(format!("The reply broke off: {why}")))?;
            let Some(trailers) = whole.trailers().map(lines) else { return Ok(Bytes::new()) };
            (VecDeque::from([whole.to_bytes()]), None, frame(&trailers))
        }
    };
    pieces.push_back(trailers);
    let length = pieces.iter().map(Bytes::len).sum();
    if length <= SMALL {
        return joined(pieces, length, memory, form);
    }
    grpc.finish(move || joined(pieces, length, memory, form)).await
}

/// Writes `pieces`, of `length` bytes together, in one; counts them in `memory` until the client has taken them.
fn joined(
    pieces: VecDeque<Bytes>,
    length: usize,
    memory: Option<Arc<Reservation>>,
    form: Form,
) -> Result<Bytes> {
    let length = match form {
        Form::Binary => length,
        Form::Text => length.div_ceil(3) * 4,
    };
    if let Some(memory) = &memory {
        memory.grow(length)?;
    }
    let mut bytes = Vec::with_capacity(length);
    match form {
        Form::Binary => pieces.into_iter().for_each(|piece| bytes.extend_from_slice(&piece)),
        Form::Text => text::encode(pieces, &mut bytes)?,
    }
    Ok(match memory {
        Some(memory) => {
            memory.resize(length)?;
            Bytes::from_owner(Held { bytes, memory })
        }
        None => bytes.into(),
    })
}

/// Makes the frame of these trailers.
fn frame(trailers: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(5 + trailers.len());
    frame.put_u8(TRAILERS);
    frame.put_u32(u32::try_from(trailers.len()).unwrap_or_default());
    frame.put_slice(trailers);
    frame.freeze()
}

/// Writes trailers as HTTP/1.1 has headers.
fn lines(trailers: &HeaderMap) -> Vec<u8> {
    let line = |(name, value): (&http::HeaderName, &HeaderValue)| {
        [name.as_str().as_bytes(), b":", value.as_bytes(), b"\r\n"].concat()
    };
    trailers.iter().flat_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers(content_type: &str, accept: Option<&str>) -> HeaderMap {
        let of = |(name, value): (_, &str)| (name, value.parse().unwrap());
        let accept = accept.map(|accept| of((ACCEPT, accept)));
        [of((CONTENT_TYPE, content_type))].into_iter().chain(accept).collect()
    }

    #[test]
    fn forms_follow_from_media_types() {
        for (named, form) in [
            ("application/grpc-web", Some(Form::Binary)),
            ("application/grpc-web+proto", Some(Form::Binary)),
            ("Application/gRPC-Web+Proto; charset=utf-8", Some(Form::Binary)),
            ("application/grpc-web-text", Some(Form::Text)),
            ("application/grpc-web-text+proto ;x=y", Some(Form::Text)),
            ("application/grpc-web+json", None),
            ("application/grpc-web-text+thrift", None),
            ("application/grpc-website", None),
        ] {
            let headers = headers(named, None);
            assert!(is_call(&headers), "{named}");
            assert_eq!(Form::of(&headers), form, "{named}");
        }
        for other in ["application/grpc", "application/grpc+proto", "text/plain", "x application/grpc-web"] {
            assert!(!is_call(&headers(other, None)), "{other}");
        }
    }

    #[test]
    fn an_answer_has_the_form_that_is_accepted() {
        let wanted = |accept, form| Form::wanted(&headers("application/grpc-web", accept), form);
        for (accept, form) in [
            (Some("application/grpc-web-text"), Form::Text),
            (Some("*/*, application/grpc-web-text;q=1"), Form::Text),
            (Some("application/grpc-web+proto"), Form::Binary),
        ] {
            assert_eq!((wanted(accept, Form::Text), wanted(accept, Form::Binary)), (form, form));
        }
        for accept in [None, Some("*/*"), Some("application/json"), Some("")] {
            assert_eq!(wanted(accept, Form::Text), Form::Text);
            assert_eq!(wanted(accept, Form::Binary), Form::Binary);
        }
    }

    #[test]
    fn methods_have_a_package_and_two_parts() {
        assert!(is_method("/tensorflow.serving.PredictionService/Predict"));
        for other in ["", "/", "/a.b", "/a.b/", "/v1/models", "/a.b/c/d", "a.b/c"] {
            assert!(!is_method(other), "{other}");
        }
    }

    #[test]
    fn trailers_are_written_as_headers_are() {
        assert_eq!(frame(OK), b"\x80\0\0\0\x0fgrpc-status:0\r\n"[..]);
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("5"));
        trailers.insert("grpc-message", HeaderValue::from_static("no%20such"));
        assert_eq!(lines(&trailers), b"grpc-status:5\r\ngrpc-message:no%20such\r\n");
    }

    proptest! {
        /// Whatever pieces a reply has, it is joined into what they say, and counted until it is dropped.
        #[test]
        fn pieces_are_joined(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..4000), 0..5)) {
            let plain = pieces.concat();
            let pieces: VecDeque<Bytes> = pieces.into_iter().map(Bytes::from).collect();
            let memory = Arc::new(Reservation::default());
            let binary = joined(pieces.clone(), plain.len(), Some(memory.clone()), Form::Binary).unwrap();
            prop_assert_eq!(&binary[..], &plain[..]);
            prop_assert_eq!(memory.bytes(), plain.len());
            let text = joined(pieces, plain.len(), None, Form::Text).unwrap();
            let (mut quanta, mut decoded) = (text::Quanta::default(), Vec::new());
            quanta.decode(&text, &mut decoded).unwrap();
            quanta.end().unwrap();
            prop_assert_eq!(decoded, plain);
        }
    }
}
