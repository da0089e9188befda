//! The answer to a client that has too many connections: it is told why, at little cost, and the connection ends.

use crate::connections::Connection;
use crate::http::{Service, last_response};
use crate::metrics::Protocol;
use crate::rest::RestService;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// A plain alert of TLS before any handshake: fatal, access_denied (RFC 8446, section 6).
const ALERT: &[u8] = &[21, 3, 3, 0, 2, 2, 49];
/// An HTTP/2 server's first frame: SETTINGS, of which it has none.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
const GOAWAY: u8 = 7;
const ENHANCE_YOUR_CALM: u8 = 0xb;
const MESSAGE: &str = "Too Many Requests: this client has as many connections open as one may \
                       (--max_connections_per_peer): close some, or use them for more requests";

/// Time in which the client may read the answer, and most bytes that are read of what it has sent: a connection with unread
/// bytes would be reset, and the answer lost.
const LINGER: Duration = Duration::from_millis(500);
const MOST: u64 = 64 << 10;

/// Tells the client, in the terms of the port.
pub(super) async fn tell<I>(mut stream: I, client: &Connection, protocol: Protocol, encrypted: bool)
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let answer = match (encrypted, protocol) {
        (true, _) => ALERT.to_vec(),
        (false, Protocol::Rest) => {
            last_response(b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\n", MESSAGE, RestService::write_error)
        }
        (false, Protocol::Grpc) => [SETTINGS, &goaway()].concat(),
    };
    let told = async {
        // An empty socket buffer takes these few bytes at once. Who has left needs no answer.
        if stream.write_all(&answer).await.is_ok() && stream.shutdown().await.is_ok() {
            let _ended = tokio::io::copy(&mut (&mut stream).take(MOST), &mut tokio::io::sink()).await;
        }
    };
    tokio::select! {
        _ended = tokio::time::timeout(LINGER, told) => {}
        () = client.must_close() => {}
    }
}

fn goaway() -> Vec<u8> {
    let length = u8::try_from(MESSAGE.len() + 8).unwrap_or(8);
    let text = &MESSAGE.as_bytes()[..usize::from(length) - 8];
    [&[0, 0, length, GOAWAY, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ENHANCE_YOUR_CALM][..], text].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goaway_holds_the_whole_text() {
        let frame = goaway();
        assert_eq!(usize::from(frame[2]) + 9, frame.len());
        assert!(frame.ends_with(MESSAGE.as_bytes()));
    }
}
