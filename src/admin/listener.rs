//! The administration's listener, on a thread and a runtime of its own.
//!
//! No client can keep the next one from being accepted, or the listener from closing: a request must arrive in full in
//! time, however slowly it is sent, and with too many connections the one idle for longest is closed. Requests being
//! answered are never cut off; there are fewer of them than connections, so that one can always be closed and a health
//! probe gets through.

use super::deadline::Deadline;
use super::guard::Guard;
use super::{AdminConnection, Behind, Options, Shared};
use crate::connections::{Connection, Connections, Edge, Slot, Stage};
use crate::http::connection;
use crate::http::unencrypted::Unencrypted;
use crate::listen::listen;
use crate::memory::Budget;
use crate::metrics::EdgeLimit;
use crate::tls::{self, Offer, Tls};
use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::{Notify, mpsc, oneshot};

/// Most connections waiting to be accepted.
const BACKLOG: u32 = 128;
/// Memory budget per connection, in bytes: twice the largest body, so that a body is never refused because of those of
/// other connections.
const MEMORY_EACH: usize = 2 << 20;
/// Longest time for closing the listener.
const CLOSED_WITHIN: Duration = Duration::from_secs(1);

/// A listening administration, until it is closed or dropped.
#[derive(Debug)]
pub struct Administration {
    address: SocketAddr,
    /// A copy of the listening socket, for a server that takes it over, until the administration is closed.
    spare: Mutex<Option<std::net::TcpListener>>,
    passed_on: Arc<Notify>,
    close: Mutex<Option<oneshot::Sender<Closed>>>,
}

/// Receives, once the listener is closed, true if no request is being answered.
type Closed = std::sync::mpsc::Sender<bool>;

impl Administration {
    /// Returns the address of the listener.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns a copy of the listening socket; `None` once it is closed.
    pub fn listener(&self) -> io::Result<Option<std::net::TcpListener>> {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        spare.as_ref().map(std::net::TcpListener::try_clone).transpose()
    }

    /// Accepts no connection from now on, and leaves those that wait to others who have the listening socket. Open ones
    /// go on, and their clients are told to come again.
    pub fn pass_on(&self) {
        drop(self.spare.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.passed_on.notify_one();
    }

    /// Stops listening and closes every connection without a request being answered. Those requests continue; returns
    /// true if there are none.
    pub fn close(&self) -> bool {
        drop(self.spare.lock().unwrap_or_else(PoisonError::into_inner).take());
        let Some(close) = self.close.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return true;
        };
        let (closed, is_closed) = std::sync::mpsc::channel();
        // If the thread has ended, nothing is left to close.
        close.send(closed).is_err() || is_closed.recv_timeout(CLOSED_WITHIN).unwrap_or(false)
    }
}

/// Starts listening, and answers with what is `behind`.
pub fn serve(options: &Options, behind: Behind) -> io::Result<Administration> {
    serve_on(listen(options.address, BACKLOG)?, options, behind)
}

/// Serves on `listener`, which listens already.
pub fn serve_on(
    listener: std::net::TcpListener,
    options: &Options,
    behind: Behind,
) -> io::Result<Administration> {
    listener.set_nonblocking(true)?;
    let spare = Mutex::new(Some(listener.try_clone()?));
    let address = listener.local_addr()?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let scheme = if options.tls.is_some() { "https" } else { "http" };
    let guard = Guard::new(&options.token, &options.name, address.ip()).accepting(options.auth.clone());
    let shared = Arc::new(Shared {
        guard: guard.with_pages(behind.console.is_some().then_some(scheme)),
        guards_models: options.auth.is_some(),
        metrics_path: options.metrics_path.clone(),
        behind,
    });
    let budget = Budget::new(options.max_connections * MEMORY_EACH);
    let edge = Edge {
        most: options.max_connections,
        most_of_peer: None,
        proxies: None,
        counts: options.counts.clone(),
    };
    let connections = Connections::at(edge, budget);
    let listener = {
        let _within = runtime.enter();
        TcpListener::from_std(listener)?
    };
    let (ended, all_ended) = mpsc::channel(1);
    let tls = options.tls.clone();
    let acceptor =
        Acceptor { shared, connections, tls, request_within: options.request_within, _open: ended };
    let (close, closing) = oneshot::channel();
    let passed_on = Arc::new(Notify::new());
    let ends = Ends { passed_on: passed_on.clone(), closing };
    std::thread::Builder::new().name("servable-admin".to_owned()).spawn(move || {
        runtime.block_on(run(acceptor, listener, ends, all_ended));
        runtime.shutdown_background();
    })?;
    Ok(Administration { address, spare, passed_on, close: Mutex::new(Some(close)) })
}

/// Accepts connections and serves each.
#[derive(Clone)]
struct Acceptor {
    shared: Arc<Shared>,
    connections: Arc<Connections>,
    tls: Option<Tls>,
    request_within: Duration,
    /// Dropped with the last connection.
    _open: mpsc::Sender<()>,
}

/// What ends the accepting, and then everything.
struct Ends {
    passed_on: Arc<Notify>,
    closing: oneshot::Receiver<Closed>,
}

/// Accepts until told to close, then waits for the requests being answered.
async fn run(acceptor: Acceptor, listener: TcpListener, mut ends: Ends, mut all_ended: mpsc::Receiver<()>) {
    let told = tokio::select! {
        biased;
        closed = &mut ends.closing => Some(closed.ok()),
        () = ends.passed_on.notified() => None,
        never = acceptor.accept(&listener) => match never {},
    };
    drop(listener);
    let closed = match told {
        Some(closed) => closed,
        None => {
            acceptor.connections.enter(Stage::Draining);
            (&mut ends.closing).await.ok()
        }
    };
    // From here on no request reaches the handler.
    let none_is_answered = acceptor.shared.behind.desk.close();
    acceptor.connections.enter(Stage::Closing);
    acceptor.connections.close_waiting(usize::MAX);
    if let Some(closed) = closed {
        // The caller of `close` may have stopped waiting.
        let _told = closed.send(none_is_answered);
    }
    drop(acceptor);
    while all_ended.recv().await.is_some() {}
}

impl Acceptor {
    async fn accept(&self, listener: &TcpListener) -> Infallible {
        loop {
            self.connections.make_room().await;
            match listener.accept().await {
                Ok((stream, client)) => {
                    let _only_slower = stream.set_nodelay(true);
                    let slot = self.connections.accepted();
                    tokio::spawn(self.clone().serve(stream, client.ip(), slot));
                }
                // The client has already left.
                Err(why) if why.kind() == ErrorKind::ConnectionAborted => {}
                Err(why) => {
                    // Usually out of file descriptors. The listener stays readable meanwhile.
                    tracing::debug!("a connection could not be accepted: {why}");
                    self.connections.free_one().await;
                }
            }
        }
    }

    async fn serve(self, stream: TcpStream, client: IpAddr, slot: Slot) {
        let deadline = Arc::new(Deadline::new(self.request_within));
        let service =
            Arc::new(AdminConnection { shared: self.shared.clone(), client, deadline: deadline.clone() });
        tokio::select! {
            biased;
            () = talk(stream, self.tls, service, slot.connection.clone()) => {}
            () = deadline.passed() => {
                slot.connection.reached(EdgeLimit::HeaderTime);
                tracing::debug!("connection of {client} ended: no whole request in time");
            }
        }
    }
}

/// Serves the connection, encrypted if there is a `tls`.
async fn talk(stream: TcpStream, tls: Option<Tls>, service: Arc<AdminConnection>, client: Arc<Connection>) {
    let Some(tls) = tls else { return connection::serve(stream, service, client).await };
    let encrypted = async {
        if !tls::begins(&stream).await {
            return Some(Err(stream));
        }
        // The deadline for a request is also that for the handshake.
        let accepted = tls.accept(stream, Offer::Http1, Duration::MAX).await;
        accepted.inspect_err(|failed| tracing::debug!("no TLS with a client: {}", failed.why)).ok().map(Ok)
    };
    let encrypted = tokio::select! {
        encrypted = encrypted => encrypted,
        () = client.must_close() => None,
    };
    match encrypted {
        Some(Ok(stream)) => connection::serve(stream, service, client).await,
        Some(Err(plain)) => connection::serve(plain, Arc::new(Unencrypted::of(&*service)), client).await,
        None => {}
    }
}
