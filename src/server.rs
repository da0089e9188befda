//! Opens the ports, spreads connections over threads, and stops.
//!
//! One thread accepts; each of the others serves its share of the connections on a runtime of its own, so that a
//! request is answered where it was read, without a hand-over.

use crate::compute::Compute;
use crate::config::Options;
use crate::error::{Error, Kind, Result};
use crate::methods::Room;
use crate::registry::Registry;
use crate::rest::connection::{self, stopped};
use socket2::{Domain, Protocol, Socket, Type};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::{mpsc, watch};

/// A running server.
pub struct Server {
    room: Arc<Room>,
    running: Mutex<Option<Running>>,
}

struct Running {
    stopping: watch::Sender<bool>,
    connections: Arc<Connections>,
    threads: Vec<JoinHandle<()>>,
}

/// The ports that opened.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    /// Where REST listens.
    pub rest: Option<SocketAddr>,
    /// Where gRPC listens.
    pub grpc: Option<SocketAddr>,
}

/// Counts open connections, so that stopping can wait for them.
#[derive(Default)]
struct Connections {
    open: Mutex<usize>,
    none_left: Condvar,
}

impl Connections {
    fn open(self: &Arc<Self>) -> OpenConnection {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        OpenConnection(self.clone())
    }

    /// Waits until none is open; whether that was so before `deadline`.
    fn wait(&self, deadline: Instant) -> bool {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let left = deadline.saturating_duration_since(Instant::now());
        let result = self.none_left.wait_timeout_while(open, left, |open| *open > 0);
        *result.unwrap_or_else(PoisonError::into_inner).0 == 0
    }
}

struct OpenConnection(Arc<Connections>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        *self.0.open.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.none_left.notify_all();
    }
}

impl Server {
    /// A server with no models and no open ports.
    pub fn new(options: Options) -> Result<Server> {
        let compute = Compute::new(options.compute_threads).map_err(|why| cannot_start(&why))?;
        let room = Arc::new(Room { registry: Registry::default(), compute, options });
        Ok(Server { room, running: Mutex::default() })
    }

    /// What its requests share.
    pub fn room(&self) -> &Arc<Room> {
        &self.room
    }

    /// Opens the ports and begins to serve.
    pub fn start(&self) -> Result<Addresses> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.is_some() {
            return Err(Error::new(Kind::FailedPrecondition, "The server was started already"));
        }
        let backlog = self.room.options.backlog;
        let rest = self.room.options.rest_address.map(|address| bind(address, backlog)).transpose()?;
        let addresses = Addresses { rest: rest.as_ref().and_then(|rest| rest.local_addr().ok()), grpc: None };
        let listeners = rest.into_iter().map(|rest| (Door::Rest, rest)).collect();
        let (stopping, stop) = watch::channel(false);
        let connections = Arc::new(Connections::default());
        let mut threads = Vec::new();
        let workers = (0..self.room.options.io_threads.max(1))
            .map(|index| worker(index, &self.room, &connections, &stop, &mut threads))
            .collect::<Result<Vec<_>>>()?;
        threads.push(spawn("servable-accept".to_owned(), move || accept_all(listeners, workers, stop))?);
        *running = Some(Running { stopping, connections, threads });
        Ok(addresses)
    }

    /// Stops accepting, lets requests in flight finish for up to `grace`, and closes. Whether all finished.
    pub fn stop(&self, grace: Duration) -> bool {
        let Some(running) = self.running.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return true;
        };
        running.stopping.send_replace(true);
        let finished = running.connections.wait(Instant::now() + grace);
        drop(running.stopping);
        if finished {
            for thread in running.threads {
                // A thread that panicked has nothing left to finish.
                let _panicked = thread.join();
            }
        }
        finished
    }
}

/// A thread that serves connections, and how to give it one.
struct Worker {
    connections: mpsc::UnboundedSender<Accepted>,
    load: Arc<AtomicUsize>,
}

/// A connection that is not yet tied to a runtime, with its weight on its worker.
struct Accepted {
    door: Door,
    stream: Stream,
    load: Load,
}

/// Which protocol a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    Rest,
}

enum Stream {
    Tcp(std::net::TcpStream),
}

/// One connection's weight on its worker.
struct Load(Arc<AtomicUsize>);

impl Drop for Load {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

fn worker(
    index: usize,
    room: &Arc<Room>,
    connections: &Arc<Connections>,
    stop: &watch::Receiver<bool>,
    threads: &mut Vec<JoinHandle<()>>,
) -> Result<Worker> {
    let (sender, mut accepted) = mpsc::unbounded_channel::<Accepted>();
    let runtime = Builder::new_current_thread().enable_all().build().map_err(|why| cannot_start(&why))?;
    let (room, connections, stop) = (room.clone(), connections.clone(), stop.clone());
    threads.push(spawn(format!("servable-io-{index}"), move || {
        runtime.block_on(async move {
            while let Some(Accepted { door, stream, load }) = accepted.recv().await {
                let (room, stop, open) = (room.clone(), stop.clone(), connections.open());
                tokio::spawn(async move {
                    serve(door, stream, room, stop).await;
                    drop((load, open));
                });
            }
            // The acceptor is gone: the server stops. Connections end by themselves, or with the process.
            let mut stop = stop;
            while stop.changed().await.is_ok() {}
        });
    })?);
    Ok(Worker { connections: sender, load: Arc::default() })
}

async fn serve(door: Door, stream: Stream, room: Arc<Room>, stop: watch::Receiver<bool>) {
    match (door, stream) {
        (Door::Rest, Stream::Tcp(stream)) => {
            if let Ok(stream) = TcpStream::from_std(stream) {
                connection::serve(stream, room, stop).await;
            }
        }
    }
}

fn accept_all(
    listeners: Vec<(Door, std::net::TcpListener)>,
    workers: Vec<Worker>,
    mut stop: watch::Receiver<bool>,
) {
    let Ok(runtime) = Builder::new_current_thread().enable_all().build() else {
        tracing::error!("no thread can accept connections: the system gives no more descriptors");
        return;
    };
    let workers = Arc::new(workers);
    runtime.block_on(async move {
        for (door, listener) in listeners {
            if let Ok(listener) = TcpListener::from_std(listener) {
                tokio::spawn(accept(door, listener, workers.clone()));
            }
        }
        // The listeners close with the runtime.
        stopped(&mut stop).await;
    });
}

async fn accept(door: Door, listener: TcpListener, workers: Arc<Vec<Worker>>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => hand_over(door, stream, &workers),
            Err(why) => {
                // Out of descriptors, mostly: connections that end free some.
                tracing::warn!("a connection could not be accepted: {why}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Gives `stream` to the worker with the fewest connections.
fn hand_over(door: Door, stream: TcpStream, workers: &[Worker]) {
    let _only_slower = stream.set_nodelay(true);
    let Some(worker) = workers.iter().min_by_key(|worker| worker.load.load(Relaxed)) else { return };
    let Ok(stream) = stream.into_std() else { return };
    worker.load.fetch_add(1, Relaxed);
    let load = Load(worker.load.clone());
    // A worker that is gone means that the server stops: the stream closes.
    let _gone = worker.connections.send(Accepted { door, stream: Stream::Tcp(stream), load });
}

/// Listens on `address`; where the machine has no IPv6, the IPv6 wildcard falls back to the IPv4 one.
fn bind(address: SocketAddr, backlog: u32) -> Result<std::net::TcpListener> {
    let bound = listen(address, backlog);
    let bound = match bound {
        Err(why) if address.is_ipv6() && address.ip().is_unspecified() && is_no_ipv6(&why) => {
            listen(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port()), backlog)
        }
        bound => bound,
    };
    bound.map_err(|why| {
        let kind =
            if why.kind() == std::io::ErrorKind::AddrInUse { Kind::AlreadyExists } else { Kind::Unavailable };
        Error::new(kind, format!("Cannot listen on {address}: {why}"))
    })
}

fn is_no_ipv6(why: &std::io::Error) -> bool {
    matches!(why.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

fn listen(address: SocketAddr, backlog: u32) -> std::io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_keepalive(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn spawn(name: String, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name).spawn(run).map_err(|why| cannot_start(&why))
}

fn cannot_start(why: &std::io::Error) -> Error {
    Error::new(Kind::ResourceExhausted, format!("The server's threads could not be started: {why}"))
}
