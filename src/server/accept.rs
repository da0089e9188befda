//! Accepts connections on every port and gives each to the thread with the fewest connections.

use super::ports::Listener;
use super::{Load, Stream, Worker};
use crate::connections::{Connections, Slot, Stage, reached};
use crate::host;
use crate::http2::flood::Floods;
use crate::memory;
use crate::metrics::Protocol;
use crate::peer::Address;
use crate::throttled::Throttled;
use socket2::{SockFilter, SockRef};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Builder;
use tokio::task::JoinSet;

/// First and longest pause after connections that could not be accepted.
const PAUSE: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(1)];
/// Pause after each connection that may speak HTTP/2 while clients flood: clients that are cut off reconnect at once, and opening
/// connections costs the server more than it costs them.
const FLOOD_PAUSE: Duration = Duration::from_millis(2);
/// Interval, in seconds, at which the same warning is repeated.
const QUIET_SECONDS: u64 = 30;

/// A connection that is not yet tied to a runtime, with its weight on its worker.
pub(super) struct Accepted {
    pub(super) stream: Stream,
    pub(super) slot: Slot,
    pub(super) load: Load,
}

/// Accepts until the server closes, and then accepts the connections that are still waiting; those of ports that are
/// passed on are left to others.
pub(super) fn accept_all(
    listeners: Vec<Listener>,
    workers: Vec<Worker>,
    connections: Arc<Connections>,
    floods: Arc<Floods>,
    rest_over_http2: bool,
) {
    let Ok(runtime) = Builder::new_current_thread().enable_all().build() else {
        tracing::error!("no thread can accept connections: the system gives no more descriptors");
        return;
    };
    let workers: Arc<[Worker]> = workers.into();
    runtime.block_on(async move {
        let mut ports = JoinSet::new();
        for listener in listeners {
            ports.spawn(
                Acceptor {
                    workers: workers.clone(),
                    connections: connections.clone(),
                    floods: floods.clone(),
                    rest_over_http2,
                }
                .run(listener),
            );
        }
        tokio::spawn(keep_memory_small());
        while ports.join_next().await.is_some() {}
        // The housekeeping task ends with the runtime.
        reached(&mut connections.stages(), Stage::Closing).await;
    });
}

/// Hands memory back to the system when large requests have left some behind.
async fn keep_memory_small() {
    let mut every = tokio::time::interval(Duration::from_secs(1));
    loop {
        every.tick().await;
        if memory::is_left_behind() {
            // `tidy` reports its own failures; the next tick waits for it.
            let _ended = tokio::task::spawn_blocking(host::memory::tidy).await;
        }
    }
}

/// Accepts on one port.
struct Acceptor {
    workers: Arc<[Worker]>,
    connections: Arc<Connections>,
    floods: Arc<Floods>,
    /// True if clients may choose HTTP/2 for REST.
    rest_over_http2: bool,
}

impl Acceptor {
    async fn run(self, listener: Listener) {
        let open = match Open::new(listener) {
            Ok(open) => open,
            Err(why) => return tracing::error!("a port cannot be served: {why}"),
        };
        let mut stages = self.connections.stages();
        tokio::select! {
            biased;
            () = reached(&mut stages, Stage::PassedOn) => {}
            () = self.accept(&open) => {}
        }
        if self.connections.are_ports_passed_on() {
            return;
        }
        for (stream, peer) in open.close() {
            self.hand_over(stream, peer);
        }
    }

    async fn accept(&self, open: &Open) {
        let mut pause = PAUSE[0];
        loop {
            self.make_room().await;
            match open.next().await {
                Ok((stream, peer)) => {
                    self.hand_over(stream, peer);
                    pause = PAUSE[0];
                    if (open.speaks_grpc() || self.rest_over_http2) && self.floods.go_on(Instant::now()) {
                        tokio::time::sleep(FLOOD_PAUSE).await;
                    }
                }
                // The client has already left.
                Err(why) if why.kind() == ErrorKind::ConnectionAborted => {}
                Err(why) => {
                    // Usually out of descriptors: connections that end free some.
                    warn(&NOT_ACCEPTED, &format!("connections could not be accepted: {why}"));
                    tokio::time::sleep(pause).await;
                    pause = (2 * pause).min(PAUSE[1]);
                }
            }
        }
    }

    async fn make_room(&self) {
        let closed = self.connections.make_room().await;
        if closed > 0 {
            warn(
                &NO_ROOM,
                "as many connections are open as may be: those that waited for their clients for longest were closed \
                 for new ones. See --max_connections, and the limit on open files (ulimit -n)",
            );
        }
    }

    /// Gives `stream`, of a client at `peer`, to the worker with the fewest connections.
    fn hand_over(&self, stream: Stream, peer: Address) {
        let Some(worker) = self.workers.iter().min_by_key(|worker| worker.load.load(Relaxed)) else { return };
        worker.load.fetch_add(1, Relaxed);
        let (slot, load) = (self.connections.accepted_from(peer), Load(worker.load.clone()));
        // A worker that is gone means that the server is stopping: the stream closes.
        let _gone = worker.connections.send(Accepted { stream, slot, load });
    }
}

static NOT_ACCEPTED: Throttled = Throttled::new(QUIET_SECONDS);
static NO_ROOM: Throttled = Throttled::new(QUIET_SECONDS);

fn warn(throttled: &Throttled, what: &str) {
    match throttled.pass() {
        None => {}
        Some(0) => tracing::warn!("{what}"),
        Some(more) => tracing::warn!("{what} ({more} times more since this was said last)"),
    }
}

/// A listener tied to the acceptor's runtime.
enum Open {
    Tcp(Protocol, TcpListener),
    Unix(UnixListener),
}

impl Open {
    fn speaks_grpc(&self) -> bool {
        !matches!(self, Open::Tcp(Protocol::Rest, _))
    }

    fn new(listener: Listener) -> io::Result<Open> {
        Ok(match listener {
            Listener::Tcp(protocol, listener) => Open::Tcp(protocol, TcpListener::from_std(listener)?),
            Listener::Unix(listener) => Open::Unix(UnixListener::from_std(listener)?),
        })
    }

    /// Accepts a connection. Where its client is has to be known now: the system does not tell it of one that has left, and
    /// what that one has sent is still answered for.
    async fn next(&self) -> io::Result<(Stream, Address)> {
        match self {
            Open::Tcp(protocol, listener) => {
                let (stream, peer) = listener.accept().await?;
                let _only_slower = stream.set_nodelay(true);
                Ok((Stream::Tcp(*protocol, stream.into_std()?), peer.into()))
            }
            Open::Unix(listener) => Ok((Stream::Unix(listener.accept().await?.0.into_std()?), Address::Unix)),
        }
    }

    /// Closes the port. Clients whose connections were established by then are still served, because their requests may
    /// be on their way. Later ones are refused.
    fn close(self) -> Vec<(Stream, Address)> {
        match self {
            Open::Tcp(protocol, listener) => {
                // Closing a socket resets the connections that wait to be accepted; so none may arrive between the last
                // look and the close. Where the system has no such filter, that is a window of microseconds.
                const DROP_ALL: SockFilter = SockFilter::new(0x06, 0, 0, 0);
                let _filtered = SockRef::from(&listener).attach_filter(&[DROP_ALL]);
                let Ok(listener) = listener.into_std() else { return Vec::new() };
                let next = || listener.accept().ok();
                let accepted =
                    |(stream, peer): (_, SocketAddr)| (prepared(Stream::Tcp(protocol, stream)), peer.into());
                std::iter::from_fn(next).map(accepted).collect()
            }
            Open::Unix(listener) => {
                let Ok(listener) = listener.into_std() else { return Vec::new() };
                let next = || listener.accept().ok();
                let accepted = |(stream, _)| (prepared(Stream::Unix(stream)), Address::Unix);
                std::iter::from_fn(next).map(accepted).collect()
            }
        }
    }
}

/// Sets the options that `next` sets on other streams.
fn prepared(stream: Stream) -> Stream {
    match &stream {
        Stream::Tcp(_, tcp) => {
            let _only_slower = tcp.set_nodelay(true);
            let _refused_later = tcp.set_nonblocking(true);
        }
        Stream::Unix(unix) => {
            let _refused_later = unix.set_nonblocking(true);
        }
    }
    stream
}
