//! The connections of one thread.

use super::http1::Http1;
use super::http2::{Channel, call};
use super::outcome::{Answer, Failed, Failure};
use super::target::{Prepared, Wire};
use crate::tls::outgoing::Connector;
use bytes::Bytes;
use h2::client::SendRequest;
use std::cell::{Cell, RefCell};

/// Those to one server.
pub(super) struct Pool {
    connector: Connector,
    lines: Lines,
    opened: Cell<u64>,
}

enum Lines {
    /// Connections that no request uses, the last used one last: it is taken first.
    Http1(RefCell<Vec<Http1>>),
    /// Those that all calls share by turns, and whose turn it is.
    Grpc(Vec<Channel>, Cell<usize>),
}

/// A connection, ready for one request.
pub(super) enum Line {
    Http1(Http1),
    Grpc(SendRequest<Bytes>),
}

impl Pool {
    /// Makes a pool; `shared`: the number of connections that calls of gRPC share.
    pub(super) fn new(connector: Connector, wire: Wire, shared: usize) -> Pool {
        let lines = match wire {
            Wire::Http1 => Lines::Http1(RefCell::default()),
            Wire::Grpc => Lines::Grpc((0..shared.max(1)).map(|_| Channel::new()).collect(), Cell::new(0)),
        };
        Pool { connector, lines, opened: Cell::new(0) }
    }

    /// Returns how many connections have been opened.
    pub(super) fn opened(&self) -> u64 {
        self.opened.get()
    }

    /// Returns a connection, opened if none is free, and whether it was opened.
    pub(super) async fn take(&self) -> Result<(Line, bool), Failed> {
        match &self.lines {
            Lines::Http1(idle) => {
                loop {
                    let kept = idle.borrow_mut().pop();
                    let Some(mut kept) = kept else { break };
                    if kept.is_open().await {
                        return Ok((Line::Http1(kept), false));
                    }
                }
                let failed = |text| Failed::new(Failure::Connect, text);
                let stream = self.connector.connect().await.map_err(failed)?;
                self.opened.set(self.opened.get() + 1);
                Ok((Line::Http1(Http1::new(stream)), true))
            }
            Lines::Grpc(channels, turn) => {
                turn.set(turn.get().wrapping_add(1));
                let channel = channels.get(turn.get() % channels.len());
                let none = || Failed::new(Failure::Connect, "there is no connection");
                let (sender, is_new) = channel.ok_or_else(none)?.ready(&self.connector).await?;
                self.opened.set(self.opened.get() + u64::from(is_new));
                Ok((Line::Grpc(sender), is_new))
            }
        }
    }

    /// Sends a request over a connection, which the pool takes back if it is still of use.
    pub(super) async fn ask(&self, line: Line, request: &Prepared, keep: usize) -> Result<Answer, Failed> {
        match (line, request) {
            (Line::Http1(mut connection), Prepared::Http1(bytes)) => {
                let answer = connection.exchange(bytes, keep).await;
                if let Lines::Http1(idle) = &self.lines
                    && connection.is_kept()
                {
                    idle.borrow_mut().push(connection);
                }
                answer
            }
            (Line::Grpc(mut sender), Prepared::Grpc(head, message)) => {
                call(&mut sender, head, message, keep).await
            }
            (Line::Http1(_), Prepared::Grpc(..)) | (Line::Grpc(_), Prepared::Http1(_)) => {
                Err(Failed::new(Failure::Malformed, "the request is for another protocol"))
            }
        }
    }
}
