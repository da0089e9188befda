//! Calls of gRPC over one connection of HTTP/2, which is opened when it is needed, and again when it is lost.

use super::outcome::{Answer, Failed, Failure};
use crate::tls::outgoing::{Connector, Stream};
use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use http::{HeaderMap, Request, StatusCode};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// As much may be under way to this side: the server never waits for the load generator.
const WINDOW: u32 = 16 << 20;
const FRAME: u32 = 1 << 20;
/// Bytes before a message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// A connection that many calls share.
pub(super) struct Channel {
    /// Held while a connection is opened: others wait for it.
    opening: tokio::sync::Mutex<()>,
    open: RefCell<Option<Open>>,
}

#[derive(Clone)]
struct Open {
    sender: SendRequest<Bytes>,
    is_closed: Rc<Cell<bool>>,
}

impl Channel {
    pub(super) fn new() -> Channel {
        Channel { opening: tokio::sync::Mutex::new(()), open: RefCell::new(None) }
    }

    /// Returns a handle for a call, and whether a connection had to be opened for it.
    pub(super) async fn ready(&self, connector: &Connector) -> Result<(SendRequest<Bytes>, bool), Failed> {
        if let Some(sender) = self.current().await {
            return Ok((sender, false));
        }
        let _alone = self.opening.lock().await;
        if let Some(sender) = self.current().await {
            return Ok((sender, false));
        }
        let failed = |text| Failed::new(Failure::Connect, text);
        let stream = connector.connect().await.map_err(failed)?;
        let open = shake(stream).await.map_err(|why| failed(format!("no HTTP/2: {why}")))?;
        let sender = open.sender.clone().ready().await.map_err(|why| failed(why.to_string()))?;
        *self.open.borrow_mut() = Some(open);
        Ok((sender, true))
    }

    /// Returns a handle of the connection that is open, if one is.
    async fn current(&self) -> Option<SendRequest<Bytes>> {
        let open = self.open.borrow().clone().filter(|open| !open.is_closed.get())?;
        // An error: the server is about to close it.
        open.sender.ready().await.ok()
    }
}

async fn shake(stream: Stream) -> Result<Open, h2::Error> {
    let mut builder = Builder::new();
    builder.initial_window_size(WINDOW).initial_connection_window_size(WINDOW).max_frame_size(FRAME);
    builder.enable_push(false);
    let (sender, connection) = builder.handshake::<_, Bytes>(stream).await?;
    let is_closed = Rc::new(Cell::new(false));
    let closes = Rc::clone(&is_closed);
    tokio::task::spawn_local(async move {
        // The calls that it ends say why.
        let _ended = connection.await;
        closes.set(true);
    });
    Ok(Open { sender, is_closed })
}

/// Makes a call and returns its answer, with up to `keep` bytes of the message.
pub(super) async fn call(
    sender: &mut SendRequest<Bytes>,
    head: &Request<()>,
    message: &Bytes,
    keep: usize,
) -> Result<Answer, Failed> {
    let (reply, mut stream) = sender.send_request(head.clone(), false).map_err(lost)?;
    // Whoever refuses a call may reset its stream before the message has come: the answer is there all the same.
    let _refused = stream.send_data(message.clone(), true);
    let (head, mut body) = reply.await.map_err(lost)?.into_parts();
    if head.status != StatusCode::OK {
        return Err(Failed::new(Failure::Status(head.status.as_u16()), "gRPC is answered with 200"));
    }
    if let Some(end) = status(&head.headers) {
        return end.map(|()| Answer { received: 0, body: Vec::new() });
    }
    let mut answer = Answer { received: 0, body: Vec::new() };
    while let Some(data) = body.data().await {
        let data = data.map_err(lost)?;
        let _closed = body.flow_control().release_capacity(data.len());
        answer.received += data.len() as u64;
        let room = (keep + PREFIX).saturating_sub(answer.body.len());
        if keep > 0 {
            answer.body.extend_from_slice(data.get(..room).unwrap_or(&data));
        }
    }
    let trailers = body.trailers().await.map_err(lost)?;
    let none = || Err(Failed::new(Failure::Malformed, "the call ended without a grpc-status"));
    trailers.as_ref().and_then(status).unwrap_or_else(none)?;
    answer.body.drain(..PREFIX.min(answer.body.len()));
    Ok(answer)
}

fn lost(why: h2::Error) -> Failed {
    Failed::new(Failure::Lost, why.to_string())
}

/// Returns how a call ended, if these headers tell.
fn status(headers: &HeaderMap) -> Option<Result<(), Failed>> {
    let code = headers.get("grpc-status")?;
    if code == "0" {
        return Some(Ok(()));
    }
    let Some(code) = code.to_str().ok().and_then(|code| code.parse().ok()) else {
        return Some(Err(Failed::new(Failure::Malformed, format!("its grpc-status is {code:?}"))));
    };
    let text = headers.get("grpc-message").map(http::HeaderValue::as_bytes).unwrap_or_default();
    let text = percent_encoding::percent_decode(text).decode_utf8_lossy();
    Some(Err(Failed::new(Failure::Code(code), text)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn a_call_ends_as_its_trailers_say() {
        let told = |code: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-status", HeaderValue::from_static(code));
            headers.insert("grpc-message", HeaderValue::from_static("no%20such%20model"));
            status(&headers).unwrap()
        };
        assert_eq!(told("0"), Ok(()));
        assert_eq!(told("5"), Err(Failed::new(Failure::Code(5), "no such model")));
        assert_eq!(told("five").unwrap_err().kind, Failure::Malformed);
        assert!(status(&HeaderMap::new()).is_none());
    }
}
