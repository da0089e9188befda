//! Calls of the process that the server is a part of: what a client would have sent over HTTP/2, without a connection.

use super::call_body::CallBody;
use super::reply::{Body, Content, GRPC, MESSAGE, PREFIX, STATUS, failed};
use super::{Caller, GrpcService};
use crate::connections::Connection;
use crate::error::{Error, Kind, Result};
use crate::memory::Reservation;
use bytes::{BufMut, Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri};
use http_body_util::BodyExt;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Largest message that is copied behind its prefix, in bytes. A larger one is gathered where the engine wants it.
const SMALL: usize = 16 << 10;
/// Longest time that a header can say, in milliseconds; who waits longer says none.
const LONGEST: u128 = 99_999_999;
/// Most metadata that a call may have.
const MAX_FIELDS: usize = 100;

/// A call.
#[derive(Debug)]
pub struct Asked<'a> {
    /// `/tensorflow.serving.PredictionService/Predict`.
    pub path: &'a str,
    /// The metadata. What is not text, and what gRPC itself says by them, is left out.
    pub metadata: Vec<(&'a str, &'a str)>,
    /// The serialized request.
    pub message: Bytes,
    /// How long the client waits.
    pub timeout: Option<Duration>,
}

/// Its answer.
pub struct Answered {
    /// The status.
    pub code: i32,
    /// What the status says.
    pub details: String,
    /// The metadata of the end of the call.
    metadata: HeaderMap,
    /// The serialized reply; nothing with another status than OK.
    pub message: VecDeque<Bytes>,
    /// Counts the reply until it is taken.
    _memory: Option<Arc<Reservation>>,
}

impl Answered {
    /// Returns the metadata that are text.
    pub fn metadata(&self) -> impl Iterator<Item = (&str, &str)> {
        self.metadata.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
    }

    fn of(head: HeaderMap, message: VecDeque<Bytes>, memory: Option<Arc<Reservation>>) -> Answered {
        let mut metadata = head;
        let code = metadata.remove(STATUS).and_then(|code| code.to_str().ok()?.parse().ok()).unwrap_or(0);
        let details = metadata.remove(MESSAGE);
        let details = details
            .map(|text| percent_encoding::percent_decode(text.as_bytes()).decode_utf8_lossy().into_owned());
        metadata.remove(CONTENT_TYPE);
        metadata.remove("grpc-accept-encoding");
        Answered { code, details: details.unwrap_or_default(), metadata, message, _memory: memory }
    }

    fn failed(error: Error) -> Answered {
        Answered::of(failed(error).into_parts().0.headers, VecDeque::new(), None)
    }
}

/// Reads a call.
pub(crate) fn read(asked: Asked<'_>) -> Result<Request<CallBody>> {
    let Asked { path, metadata, message, timeout } = asked;
    let uri = path.parse::<Uri>().ok().filter(|uri| uri.path() == path);
    let uri = uri.ok_or_else(|| Error::new(Kind::Unimplemented, "The call's path is malformed"))?;
    let length = u32::try_from(message.len()).map_err(|_| {
        Error::new(
            Kind::ResourceExhausted,
            format!("Received message larger than max ({} bytes)", message.len()),
        )
    })?;
    let mut request = Request::new(CallBody::Whole(framed(length, message)));
    (*request.method_mut(), *request.uri_mut()) = (Method::POST, uri);
    let headers = request.headers_mut();
    for (name, value) in metadata.into_iter().take(MAX_FIELDS) {
        let is_own = name.starts_with("grpc-") || name == CONTENT_TYPE.as_str();
        let field = HeaderName::from_bytes(name.as_bytes()).ok().zip(HeaderValue::from_str(value).ok());
        if let Some((name, value)) = field.filter(|_| !is_own) {
            headers.append(name, value);
        }
    }
    headers.insert(CONTENT_TYPE, GRPC);
    let millis = timeout.map(|timeout| timeout.as_millis()).filter(|millis| *millis <= LONGEST);
    if let Some(value) = millis.and_then(|millis| HeaderValue::from_str(&format!("{millis}m")).ok()) {
        headers.insert("grpc-timeout", value);
    }
    Ok(request)
}

/// Returns `message`, of this `length`, behind the prefix that announces it.
fn framed(length: u32, message: Bytes) -> VecDeque<Bytes> {
    let is_small = message.len() <= SMALL;
    let mut begin = BytesMut::with_capacity(PREFIX + if is_small { message.len() } else { 0 });
    begin.put_u8(0);
    begin.put_u32(length);
    if is_small {
        begin.put_slice(&message);
        return VecDeque::from([begin.freeze()]);
    }
    VecDeque::from([begin.freeze(), message])
}

impl GrpcService {
    /// Answers a call of the process itself, which counts as one of this `connection`. What streams is refused.
    pub(crate) async fn answer_own(
        self: Arc<Self>,
        read: Result<Request<CallBody>>,
        connection: Arc<Connection>,
    ) -> Answered {
        let request = match read {
            Ok(request) => request,
            Err(error) => return Answered::failed(error),
        };
        let caller = Caller { connection: &connection, left: None, takes_streams: false };
        let response = self.call(request, caller).await;
        taken(response).await.unwrap_or_else(Answered::failed)
    }
}

/// Takes a response apart.
async fn taken(response: Response<Body>) -> Result<Answered> {
    let (head, body) = response.into_parts();
    let mut metadata = head.headers;
    let (mut message, memory) = match body.content() {
        Content::Nothing => return Ok(Answered::of(metadata, VecDeque::new(), None)),
        Content::Message(pieces, memory) => (pieces, memory),
        // One message of some bytes: methods that stream are refused.
        Content::Streamed(body) => {
            let whole = body.collect().await;
            let whole = whole.map_err(|why| Error::internal(format!("The reply broke off: {why}")))?;
            metadata.extend(whole.trailers().cloned().unwrap_or_default());
            (VecDeque::from([whole.to_bytes()]), None)
        }
    };
    leave_out(&mut message, PREFIX);
    Ok(Answered::of(metadata, message, memory))
}

/// Leaves out the first `most` bytes.
fn leave_out(pieces: &mut VecDeque<Bytes>, most: usize) {
    let mut left = most;
    while let Some(first) = pieces.front_mut() {
        if first.len() > left {
            let _prefix = first.split_to(left);
            return;
        }
        left -= first.len();
        pieces.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_call_is_read_with_its_metadata_and_its_time() {
        let metadata = vec![
            ("authorization", "Bearer x"),
            ("grpc-encoding", "gzip"),
            ("content-type", "text/plain"),
            ("bad name", "x"),
            ("bad-value", "a\nb"),
        ];
        let timeout = Some(Duration::from_millis(1500));
        let asked = Asked { path: "/a.B/C", metadata, message: Bytes::from_static(b"abc"), timeout };
        let request = read(asked).unwrap();
        let headers = request.headers();
        assert_eq!((headers.len(), &headers["grpc-timeout"]), (3, &HeaderValue::from_static("1500m")));
        assert_eq!(
            (&headers[CONTENT_TYPE], &headers["authorization"]),
            (&GRPC, &"Bearer x".parse().unwrap())
        );
        assert_eq!((request.method(), request.uri().path()), (&Method::POST, "/a.B/C"));
    }

    #[test]
    fn a_path_that_is_none_is_no_method() {
        for path in ["", "a b", "//x/y", "http://h/a.B/C", "/a?b"] {
            let asked = Asked { path, metadata: Vec::new(), message: Bytes::new(), timeout: None };
            let refused = read(asked).map(|_| ()).map_err(|error| error.kind);
            // What parses as a path is looked up as one, and not found.
            assert!(refused == Err(Kind::Unimplemented) || path == "//x/y", "{path}");
        }
    }

    #[test]
    fn a_status_is_told_as_it_was_before_it_was_written() {
        let error = Error::new(Kind::NotFound, "100 %\nü");
        let answered = Answered::failed(error);
        assert_eq!((answered.code, answered.details.as_str()), (5, "100 %\nü"));
        assert!(answered.message.is_empty() && answered.metadata().next().is_none());
    }

    proptest! {
        #[test]
        fn the_prefix_is_left_out_wherever_pieces_end(cuts in prop::collection::vec(0usize..4, 0..8)) {
            let mut rest = Bytes::from_static(b"0123456789abcdef");
            let mut pieces: VecDeque<Bytes> = cuts.iter().map(|cut| rest.split_to((*cut).min(rest.len()))).collect();
            pieces.push_back(rest);
            leave_out(&mut pieces, PREFIX);
            prop_assert_eq!(pieces.iter().flatten().copied().collect::<Vec<_>>(), b"56789abcdef".to_vec());
        }

        #[test]
        fn a_message_follows_its_length(length in prop_oneof![0usize..64, SMALL - 2..SMALL + 3]) {
            let message = Bytes::from(vec![7u8; length]);
            let whole: Vec<u8> = framed(length as u32, message.clone()).iter().flatten().copied().collect();
            prop_assert_eq!(&whole[..PREFIX], &[0, 0, 0, (length >> 8) as u8, length as u8]);
            prop_assert_eq!(&whole[PREFIX..], &message[..]);
        }
    }
}
