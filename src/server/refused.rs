//! The answer to a client that has too many connections: it is told why, at little cost, and the connection ends.

use crate::connections::Connection;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The answer with TLS: an alert before any handshake, fatal, access_denied (RFC 8446, section 6).
pub(super) const ALERT: &[u8] = &[21, 3, 3, 0, 2, 2, 49];
/// The text of the answer without.
pub(super) const MESSAGE: &str = "Too Many Requests: this client has as many connections open as one may \
    (--max_connections_per_peer): close some, or use them for more requests";

/// Time in which the client may read the answer, and most bytes that are read of what it has sent: a connection with unread
/// bytes would be reset, and the answer lost.
const LINGER: Duration = Duration::from_millis(500);
const MOST: u64 = 64 << 10;

/// Sends `answer`, and ends the connection.
pub(super) async fn tell<I>(mut stream: I, client: &Connection, answer: &[u8])
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let told = async {
        // An empty socket buffer takes these few bytes at once. Who has left needs no answer.
        if stream.write_all(answer).await.is_ok() && stream.shutdown().await.is_ok() {
            let _ended = tokio::io::copy(&mut (&mut stream).take(MOST), &mut tokio::io::sink()).await;
        }
    };
    tokio::select! {
        _ended = tokio::time::timeout(LINGER, told) => {}
        () = client.must_close() => {}
    }
}
