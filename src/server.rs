//! Opens the ports, spreads connections over threads, and stops.
//!
//! One thread accepts; each of the others serves its share of the connections on a runtime of its own, so that a
//! request is answered where it was read, without a hand-over.

use crate::batch::Pool;
use crate::compute::Compute;
use crate::config::Options;
use crate::engine::{memory, priority};
use crate::error::{Error, Kind, Result};
use crate::grpc;
use crate::methods::Room;
use crate::methods::record::Recorder;
use crate::metrics::Metrics;
use crate::registry::Registry;
use crate::rest::connection::{self, stopped};
use socket2::{Domain, Protocol, Socket, Type};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
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
    /// The Unix socket on which gRPC listens.
    pub grpc_socket: Option<PathBuf>,
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
        let metrics = options.prometheus_path.is_some().then(Metrics::default);
        let batches = match options.batch_threads {
            0 => None,
            threads => {
                let counts = metrics.as_ref().map(Metrics::batches);
                Some(Arc::new(Pool::new(threads, counts).map_err(|why| cannot_start(&why))?))
            }
        };
        let room = Arc::new(Room {
            registry: Registry::default(),
            compute,
            batches,
            options,
            metrics,
            recorder: Recorder::default(),
        });
        Ok(Server { room, running: Mutex::default() })
    }

    /// What its requests share.
    pub fn room(&self) -> &Arc<Room> {
        &self.room
    }

    /// Opens the ports and begins to serve. `settings`: how the gRPC door is built.
    pub fn start(&self, settings: grpc::Settings) -> Result<Addresses> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.is_some() {
            return Err(Error::new(Kind::FailedPrecondition, "The server was started already"));
        }
        let (listeners, addresses) = self.listen()?;
        let (stopping, stop) = watch::channel(false);
        let door = Arc::new(grpc::Door::new(self.room.clone(), settings, stop.clone())?);
        let doors = Doors { room: self.room.clone(), grpc: door, connections: Arc::default(), stop };
        let mut threads = Vec::new();
        let workers = (0..self.room.options.io_threads.max(1))
            .map(|index| worker(index, &doors, &mut threads))
            .collect::<Result<Vec<_>>>()?;
        let (connections, stop) = (doors.connections.clone(), doors.stop);
        threads.push(spawn("servable-accept".to_owned(), move || accept_all(listeners, workers, stop))?);
        *running = Some(Running { stopping, connections, threads });
        Ok(addresses)
    }

    /// Every port and socket that is asked for.
    fn listen(&self) -> Result<(Vec<Listener>, Addresses)> {
        let options = &self.room.options;
        let mut listeners = Vec::new();
        let mut addresses = Addresses::default();
        let doors = [
            (Door::Rest, options.rest_address, &mut addresses.rest),
            (Door::Grpc, options.grpc_address, &mut addresses.grpc),
        ];
        for (door, wanted, bound) in doors {
            if let Some(wanted) = wanted {
                let listener = bind(wanted, options.backlog)?;
                *bound = listener.local_addr().ok();
                listeners.push(Listener::Tcp(door, listener));
            }
        }
        if let Some(path) = &options.grpc_socket_path {
            listeners.push(Listener::Unix(bind_socket(path)?));
            addresses.grpc_socket = Some(path.clone());
        }
        Ok((listeners, addresses))
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
    stream: Stream,
    load: Load,
}

/// Which protocol a port speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    Rest,
    Grpc,
}

enum Stream {
    Tcp(Door, std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

/// A port or socket that is open. A Unix socket speaks gRPC.
enum Listener {
    Tcp(Door, std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

/// What is behind the ports, for each thread that serves connections.
#[derive(Clone)]
struct Doors {
    room: Arc<Room>,
    grpc: Arc<grpc::Door>,
    connections: Arc<Connections>,
    stop: watch::Receiver<bool>,
}

/// One connection's weight on its worker.
struct Load(Arc<AtomicUsize>);

impl Drop for Load {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

fn worker(index: usize, doors: &Doors, threads: &mut Vec<JoinHandle<()>>) -> Result<Worker> {
    let (sender, mut accepted) = mpsc::unbounded_channel::<Accepted>();
    let runtime = Builder::new_current_thread().enable_all().build().map_err(|why| cannot_start(&why))?;
    let doors = doors.clone();
    threads.push(spawn(format!("servable-io-{index}"), move || {
        priority::prompt();
        runtime.block_on(async move {
            while let Some(Accepted { stream, load }) = accepted.recv().await {
                let (doors, open) = (doors.clone(), doors.connections.open());
                tokio::spawn(async move {
                    doors.serve(stream).await;
                    drop((load, open));
                });
            }
            // The acceptor is gone: the server stops. Connections end by themselves, or with the process.
            let mut stop = doors.stop;
            while stop.changed().await.is_ok() {}
        });
    })?);
    Ok(Worker { connections: sender, load: Arc::default() })
}

impl Doors {
    async fn serve(self, stream: Stream) {
        match stream {
            Stream::Tcp(door, stream) => match (door, TcpStream::from_std(stream)) {
                (Door::Rest, Ok(stream)) => connection::serve(stream, self.room, self.stop).await,
                (Door::Grpc, Ok(stream)) => grpc::connection::serve(stream, self.grpc).await,
                (_, Err(why)) => tracing::warn!("a connection could not be served: {why}"),
            },
            Stream::Unix(stream) => match UnixStream::from_std(stream) {
                Ok(stream) => grpc::connection::serve_local(stream, self.grpc).await,
                Err(why) => tracing::warn!("a connection could not be served: {why}"),
            },
        }
    }
}

fn accept_all(listeners: Vec<Listener>, workers: Vec<Worker>, mut stop: watch::Receiver<bool>) {
    let Ok(runtime) = Builder::new_current_thread().enable_all().build() else {
        tracing::error!("no thread can accept connections: the system gives no more descriptors");
        return;
    };
    let workers = Arc::new(workers);
    runtime.block_on(async move {
        for listener in listeners {
            tokio::spawn(accept(listener, workers.clone()));
        }
        tokio::spawn(keep_memory_small());
        // The listeners close with the runtime.
        stopped(&mut stop).await;
    });
}

/// Hands memory back to the system when large requests have left some behind.
async fn keep_memory_small() {
    let mut every = tokio::time::interval(Duration::from_secs(1));
    loop {
        every.tick().await;
        if memory::is_left_behind() {
            // Its failures are its own to tell; the next tick waits for it.
            let _ended = tokio::task::spawn_blocking(memory::tidy).await;
        }
    }
}

async fn accept(listener: Listener, workers: Arc<Vec<Worker>>) {
    let opened = match listener {
        Listener::Tcp(door, listener) => TcpListener::from_std(listener).map(|tcp| Open::Tcp(door, tcp)),
        Listener::Unix(listener) => UnixListener::from_std(listener).map(Open::Unix),
    };
    let listener = match opened {
        Ok(listener) => listener,
        Err(why) => return tracing::error!("a port cannot be served: {why}"),
    };
    loop {
        match listener.next().await {
            Ok(stream) => hand_over(stream, &workers),
            Err(why) => {
                // Out of descriptors, mostly: connections that end free some.
                tracing::warn!("a connection could not be accepted: {why}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// A listener tied to the acceptor's runtime.
enum Open {
    Tcp(Door, TcpListener),
    Unix(UnixListener),
}

impl Open {
    async fn next(&self) -> std::io::Result<Stream> {
        match self {
            Open::Tcp(door, listener) => {
                let (stream, _) = listener.accept().await?;
                let _only_slower = stream.set_nodelay(true);
                Ok(Stream::Tcp(*door, stream.into_std()?))
            }
            Open::Unix(listener) => Ok(Stream::Unix(listener.accept().await?.0.into_std()?)),
        }
    }
}

/// Gives `stream` to the worker with the fewest connections.
fn hand_over(stream: Stream, workers: &[Worker]) {
    let Some(worker) = workers.iter().min_by_key(|worker| worker.load.load(Relaxed)) else { return };
    worker.load.fetch_add(1, Relaxed);
    let load = Load(worker.load.clone());
    // A worker that is gone means that the server stops: the stream closes.
    let _gone = worker.connections.send(Accepted { stream, load });
}

/// Listens on the Unix socket `path`. A socket file that nobody listens on any more is taken over.
fn bind_socket(path: &Path) -> Result<std::os::unix::net::UnixListener> {
    use std::os::unix::fs::FileTypeExt;
    use std::os::unix::net::{UnixListener, UnixStream};
    let failed = |why: std::io::Error| {
        Error::new(Kind::Unavailable, format!("Cannot listen on the socket {}: {why}", path.display()))
    };
    let stale = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    if stale {
        if UnixStream::connect(path).is_ok() {
            let message = format!("Cannot listen on the socket {}: another process does", path.display());
            return Err(Error::new(Kind::AlreadyExists, message));
        }
        std::fs::remove_file(path).map_err(failed)?;
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
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
