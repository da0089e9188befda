//! One collector's connection: sends a message, by HTTP/1.1 or as a call of gRPC, and returns the answer.

use super::secure;
use super::settings::{Destination, Wire};
use crate::tls::outgoing::Connector;
use bytes::{BufMut, Bytes, BytesMut};
use chrono::{DateTime, Utc};
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HOST, RETRY_AFTER, TE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::error::Error as _;
use std::io::Write;
use std::time::Duration;

/// Most bytes of an answer.
const MOST_ANSWERED: usize = 1 << 20;
/// Bytes before a message of gRPC: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// The collector.
pub(super) struct Client {
    to: Destination,
    connector: Connector,
    open: Option<Open>,
}

/// An open connection.
enum Open {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// The reason why a message was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) why: String,
    /// Whether it may be taken later, and how much later at least.
    pub(super) again: Option<Duration>,
}

impl Refusal {
    fn for_now(why: String) -> Refusal {
        Refusal { why, again: Some(Duration::ZERO) }
    }

    fn for_ever(why: String) -> Refusal {
        Refusal { why, again: None }
    }
}

impl Client {
    pub(super) fn new(to: Destination) -> Result<Client, String> {
        let connector = secure::connector(&to)?;
        Ok(Client { to, connector, open: None })
    }

    /// Sends `message`; returns the message of the answer. A connection that was closed meanwhile is opened again.
    pub(super) async fn send(&mut self, message: &[u8]) -> Result<Bytes, Refusal> {
        let body = self.body(message);
        if let Some(mut open) = self.open.take()
            && let Ok(answer) = self.exchange(&mut open, body.clone()).await
        {
            self.open = Some(open);
            return self.answer(answer).await;
        }
        let mut open = self.connect().await.map_err(Refusal::for_now)?;
        let answer = self.exchange(&mut open, body).await.map_err(Refusal::for_now)?;
        self.open = Some(open);
        self.answer(answer).await
    }

    /// Returns the body with `message`.
    fn body(&self, message: &[u8]) -> Bytes {
        let packed = self.to.gzip.then(|| packed(message)).flatten();
        let (flag, content) = packed.as_deref().map_or((0, message), |packed| (1, packed));
        match self.to.protocol {
            Wire::Http => Bytes::copy_from_slice(content),
            Wire::Grpc => {
                let mut body = BytesMut::with_capacity(PREFIX + content.len());
                body.put_u8(flag);
                body.put_u32(u32::try_from(content.len()).unwrap_or(u32::MAX));
                body.put_slice(content);
                body.freeze()
            }
        }
    }

    async fn connect(&self) -> Result<Open, String> {
        let stream = TokioIo::new(self.connector.connect().await?);
        match self.to.protocol {
            Wire::Http => {
                let (sender, connection) = http1::handshake(stream).await.map_err(|why| told(&why))?;
                tokio::spawn(connection);
                Ok(Open::Http1(sender))
            }
            Wire::Grpc => {
                let shaken = http2::handshake(TokioExecutor::new(), stream).await;
                let (sender, connection) = shaken.map_err(|why| told(&why))?;
                tokio::spawn(connection);
                Ok(Open::Http2(sender))
            }
        }
    }

    async fn exchange(&self, open: &mut Open, body: Bytes) -> Result<Response<Incoming>, String> {
        let mut request =
            Request::post(self.target()).body(Full::new(body)).map_err(|why| why.to_string())?;
        self.fill(request.headers_mut());
        let sent = match open {
            Open::Http1(sender) => match sender.ready().await {
                Ok(()) => sender.send_request(request).await,
                Err(why) => Err(why),
            },
            Open::Http2(sender) => match sender.ready().await {
                Ok(()) => sender.send_request(request).await,
                Err(why) => Err(why),
            },
        };
        sent.map_err(|why| told(&why))
    }

    /// Returns the target of requests: the path alone in HTTP/1.1.
    fn target(&self) -> Uri {
        let path = self.to.address.path_and_query().map_or("/", |path| path.as_str());
        match self.to.protocol {
            Wire::Http => path.parse().unwrap_or_default(),
            Wire::Grpc => self.to.address.clone(),
        }
    }

    fn fill(&self, headers: &mut HeaderMap) {
        let agent = concat!("OTel-OTLP-Exporter-servable/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        match self.to.protocol {
            Wire::Http => {
                let host = self.to.address.authority().map_or("", |authority| authority.as_str());
                headers.extend(HeaderValue::from_str(host).ok().map(|host| (HOST, host)));
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
                if self.to.gzip {
                    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                }
            }
            Wire::Grpc => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
                headers.insert(TE, HeaderValue::from_static("trailers"));
                if self.to.gzip {
                    headers.insert("grpc-encoding", HeaderValue::from_static("gzip"));
                }
            }
        }
        for (name, value) in &self.to.headers {
            headers.insert(name, value.clone());
        }
    }

    /// Returns the message of an answer that is good.
    async fn answer(&mut self, answer: Response<Incoming>) -> Result<Bytes, Refusal> {
        let (head, body) = answer.into_parts();
        let read = Limited::new(body, MOST_ANSWERED).collect().await;
        let body = read.map_err(|why| {
            // The rest of it would be taken for the next answer.
            self.open = None;
            Refusal::for_now(format!("the answer could not be read: {why}"))
        })?;
        // Some collectors, and what stands before them, answer 202 or 204 for OTLP's 200.
        let is_good = match self.to.protocol {
            Wire::Http => head.status.is_success(),
            Wire::Grpc => head.status == StatusCode::OK,
        };
        if !is_good {
            return Err(refused_by_http(head.status, &head.headers));
        }
        if self.to.protocol == Wire::Http {
            return Ok(body.to_bytes());
        }
        let trailers = body.trailers().cloned();
        check_grpc(trailers.as_ref().unwrap_or(&head.headers))?;
        let bytes = body.to_bytes();
        Ok(if bytes.len() > PREFIX { bytes.slice(PREFIX..) } else { Bytes::new() })
    }
}

fn refused_by_http(status: StatusCode, headers: &HeaderMap) -> Refusal {
    let why = format!("it answered {status}");
    if !matches!(status.as_u16(), 429 | 502 | 503 | 504) {
        return Refusal::for_ever(why);
    }
    let later = headers.get(RETRY_AFTER).and_then(|text| time_until(text.to_str().ok()?, Utc::now()));
    Refusal { why, again: Some(later.unwrap_or(Duration::ZERO)) }
}

/// Reads a `Retry-After` header: seconds, or a date (RFC 9110, section 10.2.3), which may have passed.
fn time_until(text: &str, now: DateTime<Utc>) -> Option<Duration> {
    let seconds = || text.parse().ok().map(Duration::from_secs);
    let date = || DateTime::parse_from_rfc2822(text).ok();
    seconds().or_else(|| Some(date()?.signed_duration_since(now).to_std().unwrap_or(Duration::ZERO)))
}

/// Fails unless a call has ended well.
fn check_grpc(trailers: &HeaderMap) -> Result<(), Refusal> {
    let text = |name| trailers.get(name).and_then(|value| value.to_str().ok());
    let why = || match text("grpc-message") {
        Some(message) => {
            let message = percent_encoding::percent_decode_str(message).decode_utf8_lossy();
            format!("it answered {} {:?}", text("grpc-status").unwrap_or_default(), message)
        }
        None => format!("it answered {}", text("grpc-status").unwrap_or("without a status")),
    };
    match text("grpc-status") {
        Some("0") => Ok(()),
        // CANCELLED, DEADLINE_EXCEEDED, ABORTED, OUT_OF_RANGE, UNAVAILABLE, DATA_LOSS.
        Some("1" | "4" | "10" | "11" | "14" | "15") => Err(Refusal::for_now(why())),
        _ => Err(Refusal::for_ever(why())),
    }
}

fn packed(message: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    // Into memory: it cannot fail.
    encoder.write_all(message).ok()?;
    encoder.finish().ok()
}

/// Returns an error with its causes.
fn told(why: &hyper::Error) -> String {
    why.source().map_or_else(|| why.to_string(), |cause| format!("{why}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(of: &[(&'static str, &'static str)]) -> HeaderMap {
        of.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn what_may_pass_is_tried_again() {
        let refused = |status, headers: &HeaderMap| {
            refused_by_http(StatusCode::from_u16(status).unwrap(), headers).again
        };
        let none = HeaderMap::new();
        assert_eq!([400, 401, 404, 500].map(|status| refused(status, &none)), [None; 4]);
        assert_eq!([429, 502, 503, 504].map(|status| refused(status, &none)), [Some(Duration::ZERO); 4]);
        assert_eq!(refused(503, &headers(&[("retry-after", "7")])), Some(Duration::from_secs(7)));
        let date = |text| {
            time_until(
                text,
                DateTime::parse_from_rfc3339("1994-11-06T08:49:30Z").unwrap().with_timezone(&Utc),
            )
        };
        assert_eq!(date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::from_secs(7)));
        assert_eq!(date("Sun, 06 Nov 1994 08:49:07 GMT"), Some(Duration::ZERO));
        assert_eq!(["", "soon", "-1"].map(date), [None; 3]);
        let of = |status| check_grpc(&headers(&[("grpc-status", status), ("grpc-message", "a%20b")]));
        assert_eq!(of("0"), Ok(()));
        assert!(of("14").unwrap_err().again.is_some() && of("7").unwrap_err().again.is_none());
        assert_eq!(of("16").unwrap_err().why, "it answered 16 \"a b\"");
        assert!(check_grpc(&none).unwrap_err().again.is_none());
    }
}
