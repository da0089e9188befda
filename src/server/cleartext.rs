//! Connections without TLS on the REST port: whether they begin with HTTP/2, as clients do that know of it beforehand (RFC
//! 9113, section 3.3).
//!
//! Nothing is taken from the stream: one look tells, as the second byte of HTTP/1.1 is another.

use super::secure::given_up;
use crate::connections::Connection;
use crate::metrics::EdgeLimit;
use std::future::pending;
use std::io;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// What HTTP/2 begins with, and no method of HTTP/1.1 that is known.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The part of it that is waited for.
const TOLD_BY: usize = 4;
/// First and longest pause while that part is missing. Clients send it at once.
const PAUSE: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(50)];

/// The longest times that a connection is waited for.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    /// For its first byte.
    pub(super) idle: Option<Duration>,
    /// For the bytes that tell.
    pub(super) begun: Duration,
}

/// Returns whether a connection begins with HTTP/2; `None` if it has to end before that is known.
pub(super) async fn begins_http2(
    stream: &TcpStream,
    client: &Connection,
    patience: Patience,
) -> Option<bool> {
    let in_vain = async {
        match patience.idle {
            Some(span) => sleep(span).await,
            None => pending().await,
        }
    };
    let begun = tokio::select! {
        biased;
        begun = look(stream) => begun,
        () = given_up(client) => return None,
        () = in_vain => {
            client.reached(EdgeLimit::Idle);
            return None;
        }
    };
    match begun {
        Ok(Some(told)) => Some(told),
        Ok(None) => tokio::select! {
            // What does not go on is left to HTTP/1.1, which has a limit for that.
            told = timeout(patience.begun, look_again(stream)) => Some(told.unwrap_or(Ok(false)).unwrap_or(false)),
            () = given_up(client) => None,
        },
        // Whoever reads the stream finds out.
        Err(_) => Some(false),
    }
}

/// Waits for bytes; returns what they tell, `None` if there are too few.
async fn look(stream: &TcpStream) -> io::Result<Option<bool>> {
    let mut first = [0; TOLD_BY];
    let seen = stream.peek(&mut first).await?;
    let begins = PREFACE.starts_with(&first[..seen]) && seen > 0;
    Ok((!begins || seen == TOLD_BY).then_some(begins))
}

async fn look_again(stream: &TcpStream) -> io::Result<bool> {
    let mut pause = PAUSE[0];
    loop {
        // What has come stays readable, so that nothing tells when more has.
        sleep(pause).await;
        if let Some(told) = look(stream).await? {
            return Ok(told);
        }
        pause = (2 * pause).min(PAUSE[1]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connections::Connections;
    use crate::memory::Budget;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    const PATIENCE: Patience = Patience { idle: None, begun: Duration::from_secs(60) };

    /// Has a client send these pieces, each once the one before has been looked at; returns what they tell, and what can
    /// be read afterwards.
    async fn told(pieces: &[&[u8]], patience: Patience) -> (Option<bool>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut far = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut near = listener.accept().await.unwrap().0;
        let slot = Connections::new(1, Budget::new(1 << 30)).accepted();
        let sending = async {
            for piece in pieces {
                far.write_all(piece).await.unwrap();
                sleep(PAUSE[0]).await;
            }
        };
        let (told, ()) = tokio::join!(begins_http2(&near, &slot.connection, patience), sending);
        drop(far);
        let mut read = Vec::new();
        near.read_to_end(&mut read).await.unwrap();
        (told, read)
    }

    #[tokio::test]
    async fn a_look_tells_and_takes_nothing() {
        let cases: [(&[&[u8]], bool); 7] = [
            (&[PREFACE], true),
            (&[b"P", b"R", b"I *"], true),
            (&[b"POST / HTTP/1.1\r\n"], false),
            (&[b"P", b"OST / HTTP/1.1\r\n"], false),
            (&[b"PR", b"OPFIND / HTTP/1.1\r\n"], false),
            (&[b"GET"], false),
            (&[b"\r\n"], false),
        ];
        for (pieces, expected) in cases {
            assert_eq!(told(pieces, PATIENCE).await, (Some(expected), pieces.concat()), "{pieces:?}");
        }
    }

    #[tokio::test]
    async fn who_says_nothing_or_too_little_is_not_waited_for() {
        let short = Duration::from_millis(1);
        assert_eq!(told(&[], Patience { idle: Some(short), ..PATIENCE }).await.0, None);
        assert_eq!(
            told(&[b"PR"], Patience { begun: short, ..PATIENCE }).await,
            (Some(false), b"PR".to_vec())
        );
    }

    #[tokio::test]
    async fn who_leaves_has_not_begun() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        drop(TcpStream::connect(listener.local_addr().unwrap()).await.unwrap());
        let near = listener.accept().await.unwrap().0;
        let slot = Connections::new(1, Budget::new(1 << 30)).accepted();
        assert_eq!(begins_http2(&near, &slot.connection, PATIENCE).await, Some(false));
    }
}
