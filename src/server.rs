//! Opens the ports, spreads connections over threads, and stops.
//!
//! One thread accepts; each of the others serves its share of the connections on a runtime of its own, so that a
//! request is answered by the thread that read it, without a hand-over.

mod accept;
mod cleartext;
mod console;
mod in_process;
mod newcomers;
mod ports;
mod proxied;
mod refused;
mod secure;

use crate::access::{AccessLog, AccessOptions};
use crate::auth::Auth;
use crate::batch::{Pool, Scheduler};
use crate::browsers::Browsers;
use crate::config::{ConsoleAt, Options};
use crate::connections::{Connection, Connections, Edge, Stage};
use crate::console::Console;
use crate::control_plane::ControlPlane;
use crate::error::{Error, Kind, Result};
use crate::grpc;
use crate::host::{self, priority};
use crate::http::unencrypted::Unencrypted;
use crate::http::{self, connection, last_response};
use crate::http2;
use crate::memory::{self, Account, Budget};
use crate::methods::ServerState;
use crate::methods::changes::Changes;
use crate::methods::demand::Demand;
use crate::methods::exposition;
use crate::methods::health::HealthPages;
use crate::methods::record::Recorder;
use crate::methods::shadow::Shadows;
use crate::metrics::{Metrics, Protocol};
use crate::open_inference::OpenInference;
use crate::open_inference::repository::ModelControl;
use crate::open_inference::shared_memory::SharedMemory;
use crate::payload::Payloads;
use crate::registry::Registry;
use crate::rest;
use crate::telemetry::{SentMetrics, Settings, Traces};
use crate::tls::{self, Offer};
use crate::traffic::History;
use accept::{Accepted, accept_all};
use cleartext::{Patience, begins_http2};
pub use in_process::Answering;
use in_process::{InProcess, OwnThreads};
use newcomers::Newcomers;
pub use ports::{Addresses, Port};
use ports::{Adopted, Spare};
use proxied::Peek;
use secure::{Begun, Secure};
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::io::AsyncWrite;
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Builder;
use tokio::sync::mpsc;

/// A running server.
pub struct Server {
    state: Arc<ServerState>,
    memory: Arc<Budget>,
    running: Mutex<Option<Running>>,
    ready: Arc<AtomicBool>,
    adopted: Mutex<Adopted>,
    /// Loads and unloads models for clients of the Open Inference Protocol, if that is allowed.
    model_control: OnceLock<ModelControl>,
    /// The regions of clients of the Open Inference Protocol, if they may register any.
    shared_memory: Option<Arc<SharedMemory>>,
    /// Sends the metrics to a collector, if they are to be sent.
    sent_metrics: Option<SentMetrics>,
    control_plane: Arc<ControlPlane>,
    /// What the console tells of traffic, if there is a console.
    history: Option<Arc<History>>,
    /// The console, once it is there.
    console: OnceLock<Arc<Console>>,
    /// Where requests of the process itself go on, if there are any.
    own_threads: OwnThreads,
}

struct Running {
    connections: Arc<Connections>,
    /// Copies of the listening sockets, for a server that takes them over.
    spare: Spare,
    acceptor: JoinHandle<()>,
    threads: Vec<JoinHandle<()>>,
    in_process: InProcess,
}

impl Server {
    /// Makes a server without models or open ports.
    pub fn new(options: Options) -> Result<Server> {
        let memory = Budget::new(options.max_memory_in_flight);
        let sends_metrics = options.telemetry.as_ref().is_some_and(Settings::sends_metrics);
        let is_told = options.prometheus_path.is_some() || options.metrics_path.is_some() || sends_metrics;
        let counts = is_told || options.console != ConsoleAt::Nowhere;
        let denials = options.auth.as_ref().map(Auth::denials);
        let metrics = counts.then(|| Metrics::new(memory.clone()).with_denials(denials));
        let refusals = metrics.as_ref().map(Metrics::refusals).unwrap_or_default();
        let splits = metrics.as_ref().map(Metrics::splits).unwrap_or_default();
        let scheduler = Scheduler::new(options.limits.clone(), refusals);
        let batches = match options.limits.batch_threads {
            0 => None,
            _ => {
                let counts = metrics.as_ref().map(Metrics::batches);
                Some(Arc::new(Pool::new(counts).map_err(|why| cannot_start(&why))?))
            }
        };
        let logs = Some(Account::of_logs(memory.clone()));
        let payloads = Payloads::new(options.payload_files, rest::payload_json::line, logs);
        let access = options.access.as_ref().map(open_access_log).transpose()?.map(Arc::new);
        let telemetry = options.telemetry.clone();
        let known = Arc::new(OnceLock::new());
        let demand = options.lazy_load.then(Demand::default);
        let traces = telemetry.as_ref().and_then(|settings| begin_traces(settings, metrics.as_ref(), &known));
        let state = Arc::new(ServerState {
            registry: Registry::counting(splits),
            scheduler,
            batches,
            options,
            metrics,
            recorder: Recorder::new(payloads),
            access,
            traces,
            changes: Changes::default(),
            shadows: Shadows::default(),
            demand,
        });
        state.shadows.serve(&state);
        let own = Arc::downgrade(&state);
        let observe = move || own.upgrade().and_then(|state| exposition::points(&state));
        let sent_metrics = telemetry.and_then(|settings| SentMetrics::start(&settings, observe));
        let prefix = state.options.shared_memory.as_deref();
        let in_place = state.options.shared_memory_in_place;
        let shared_memory = prefix.map(|prefix| Arc::new(SharedMemory::new(prefix).read_in_place(in_place)));
        let has_console = state.options.console != ConsoleAt::Nowhere;
        let history = has_console.then(|| History::begin(Arc::downgrade(&state))).transpose();
        let history = history.map_err(|why| cannot_start(&why))?.map(Arc::new);
        // Set once.
        let _set = known.set(Arc::downgrade(&state));
        Ok(Server {
            state,
            memory,
            running: Mutex::default(),
            ready: Arc::default(),
            adopted: Mutex::default(),
            model_control: OnceLock::new(),
            shared_memory,
            sent_metrics,
            control_plane: ControlPlane::new().map_err(|why| cannot_start(&why))?,
            history,
            console: OnceLock::new(),
            own_threads: OwnThreads::default(),
        })
    }

    /// Returns the state shared by all requests.
    pub fn state(&self) -> &Arc<ServerState> {
        &self.state
    }

    /// Returns the pages of health: requests to models are answered once the ports are open, until shutdown begins.
    pub fn health(&self) -> HealthPages {
        HealthPages::new(self.state.clone(), self.ready.clone())
    }

    /// Returns the threads on which the control plane answers.
    pub fn control_plane(&self) -> &Arc<ControlPlane> {
        &self.control_plane
    }

    /// Lets clients of the Open Inference Protocol load and unload models by `control`; to be called before
    /// [`Self::start`], once.
    pub fn allow_model_control(&self, control: ModelControl) {
        // A second one would be a fault of the caller's code; the first counts.
        let _first = self.model_control.set(control);
    }

    /// Returns the Open Inference Protocol's view of this server, if the protocol is on.
    fn open_inference(&self) -> Option<OpenInference> {
        let view = || {
            let (control, shared_memory) = (self.model_control.get().cloned(), self.shared_memory.clone());
            OpenInference::new(self.state.clone(), self.ready.clone(), control, shared_memory)
        };
        self.state.options.open_inference.then(view)
    }

    /// Has [`Self::start`] use `socket`, which listens already, instead of opening `port`.
    pub fn adopt(&self, port: Port, socket: OwnedFd) {
        self.adopted.lock().unwrap_or_else(PoisonError::into_inner).insert(port, socket);
    }

    /// Opens the ports and starts serving. `settings` are those of gRPC.
    pub fn start(&self, settings: grpc::Settings) -> Result<Addresses> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.is_some() {
            return Err(Error::new(Kind::FailedPrecondition, "The server was started already"));
        }
        let options = &self.state.options;
        let adopted = std::mem::take(&mut *self.adopted.lock().unwrap_or_else(PoisonError::into_inner));
        let (listeners, addresses) = ports::listen_all(options, adopted)?;
        let spare = Spare::of(&listeners)?;
        let edge = Edge {
            most: most_connections(options.max_connections),
            most_of_peer: options.max_connections_per_peer,
            proxies: options.proxies.clone(),
            counts: self.state.metrics.as_ref().map(Metrics::edge).unwrap_or_default(),
        };
        let connections = Connections::at(edge, self.memory.clone());
        let settings = grpc::Settings { open_inference: self.open_inference(), ..settings };
        let grpc = Arc::new(grpc::GrpcService::new(self.state.clone(), settings, connections.stages())?);
        let floods = grpc.floods();
        let services = self.services(grpc);
        let over_http2 = services.rest_tls.is_some() || options.http2_cleartext;
        let mut threads = Vec::new();
        let workers = (0..self.state.options.io_threads.max(1))
            .map(|index| worker(index, &services, &connections, &mut threads))
            .collect::<Result<Vec<_>>>()?;
        let accepting = connections.clone();
        let acceptor = spawn("servable-accept".to_owned(), move || {
            accept_all(listeners, workers, accepting, floods, over_http2)
        })?;
        let in_process = InProcess { rest: services.rest, grpc: services.grpc };
        *running = Some(Running { connections, spare, acceptor, threads, in_process });
        self.ready.store(true, Relaxed);
        Ok(addresses)
    }

    fn services(&self, grpc: Arc<grpc::GrpcService>) -> Services {
        let options = &self.state.options;
        let failures = self.state.metrics.as_ref().map(Metrics::handshakes).unwrap_or_default();
        let health = options.health_pages.then(|| self.health());
        let browsers = Browsers::of(options, &grpc);
        let open_inference = self.open_inference();
        let rest = rest::RestService::new(self.state.clone(), health, open_inference, browsers);
        let rest = Arc::new(match self.console_on_rest() {
            Some(console) => rest.with_console(console),
            None => rest,
        });
        let over_http2 = Arc::new(rest::RestOverHttp2::new(rest.clone(), grpc.floods()));
        let (of_grpc, keys_within) = grpc.tls();
        let secure = |tls: &tls::Tls, offer, within| Secure {
            tls: tls.clone(),
            offer,
            within,
            failures: failures.clone(),
        };
        let begun_within = options.headers_within.unwrap_or(keys_within).min(keys_within);
        Services {
            rest_tls: options.tls.as_ref().map(|tls| secure(tls, Offer::Either, begun_within)),
            grpc_tls: of_grpc.map(|tls| secure(tls, Offer::Http2, keys_within)),
            rest,
            over_http2,
            cleartext: options
                .http2_cleartext
                .then_some(Patience { idle: options.idle, begun: begun_within }),
            grpc,
            begun_within,
        }
    }

    /// From now on, tells every client to send its next request elsewhere; requests are still answered, on new
    /// connections too.
    pub fn drain(&self) {
        self.ready.store(false, Relaxed);
        if let Some(running) = &*self.running.lock().unwrap_or_else(PoisonError::into_inner) {
            running.connections.enter(Stage::Draining);
        }
    }

    /// Returns copies of the listening sockets, for a server that takes them over.
    pub fn listeners(&self) -> Result<Vec<(Port, OwnedFd)>> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.as_ref().map_or_else(|| Ok(Vec::new()), |running| running.spare.copies())
    }

    /// Accepts no connection from now on, and leaves those that wait to others who have the listening sockets. A server
    /// that does not drain yet tells its clients to come again, and its health stays as it is: there is one that answers.
    pub fn pass_on(&self) {
        if let Some(running) = &mut *self.running.lock().unwrap_or_else(PoisonError::into_inner) {
            running.spare = Spare::default();
            running.connections.pass_on();
        }
    }

    /// Waits until no connection is open; returns whether that happened `within` this time.
    pub fn wait_for_clients(&self, within: Duration) -> bool {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let connections = running.as_ref().map(|running| running.connections.clone());
        drop(running);
        connections.is_none_or(|connections| connections.wait(Instant::now() + within))
    }

    /// Writes what waits in the access log and the payload logs, and sends traces and metrics, `within` at most; nothing
    /// is logged or sent afterwards.
    pub fn finish_logs(&self, within: Duration) {
        let until = Instant::now() + within;
        let left = || until.saturating_duration_since(Instant::now());
        let state = &self.state;
        let written = state.access.as_ref().is_none_or(|access| access.finish(left()));
        if !(state.recorder.payloads.finish(left()) && written) {
            tracing::warn!("not all of the access log and the payload logs could be written in time");
        }
        let sent = state.traces.as_ref().is_none_or(|traces| traces.finish(left()));
        if !(self.sent_metrics.as_ref().is_none_or(|metrics| metrics.finish(left())) && sent) {
            tracing::warn!("not all traces and metrics could be sent in time");
        }
    }

    /// Stops accepting, lets requests that are in flight or on their way finish for up to `grace`, and closes. Returns
    /// whether all finished; changes of what is served and questions of consoles, whose clients have left, are not waited
    /// for.
    pub fn stop(&self, grace: Duration) -> bool {
        self.ready.store(false, Relaxed);
        self.history.iter().for_each(|history| history.end());
        self.state.shadows.end();
        let Some(running) = self.running.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return true;
        };
        let deadline = Instant::now() + grace;
        // No copy may keep the ports open.
        drop(running.spare);
        running.connections.enter(Stage::Closing);
        // Connections that waited to be accepted are now counted. A thread that panicked has nothing left to finish.
        let _panicked = running.acceptor.join();
        let finished = running.connections.wait(deadline);
        // The serving threads end once the sender of stages is dropped.
        drop(running.connections);
        if finished {
            for thread in running.threads {
                // A thread that panicked has nothing left to finish.
                let _panicked = thread.join();
            }
        }
        let are_asked = self.console.get().is_some_and(|console| !console.close());
        finished && !are_asked && !self.state.changes.are_under_way()
    }
}

/// The input of a thread that serves connections, and its load.
struct Worker {
    connections: mpsc::UnboundedSender<Accepted>,
    load: Arc<AtomicUsize>,
}

enum Stream {
    Tcp(Protocol, std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

/// The services behind the ports, for each thread that serves connections.
#[derive(Clone)]
struct Services {
    rest: Arc<rest::RestService>,
    /// The same over HTTP/2, which clients may choose with TLS.
    over_http2: Arc<rest::RestOverHttp2>,
    /// Set if they may begin with it without.
    cleartext: Option<Patience>,
    rest_tls: Option<Secure>,
    grpc: Arc<grpc::GrpcService>,
    grpc_tls: Option<Secure>,
    /// Longest time for what comes before a connection's first request.
    begun_within: Duration,
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
    services: &Services,
    connections: &Connections,
    threads: &mut Vec<JoinHandle<()>>,
) -> Result<Worker> {
    let (sender, mut accepted) = mpsc::unbounded_channel::<Accepted>();
    let runtime = Builder::new_current_thread().enable_all().build().map_err(|why| cannot_start(&why))?;
    let (services, mut stages) = (services.clone(), connections.stages());
    threads.push(spawn(format!("servable-io-{index}"), move || {
        priority::prompt();
        runtime.block_on(async move {
            tokio::spawn(keep_heap_small());
            let newcomers = Arc::new(Newcomers::default());
            let turns = newcomers.clone();
            tokio::spawn(async move { turns.give_turns().await });
            while let Some(Accepted { stream, slot, load }) = accepted.recv().await {
                let (services, newcomers) = (services.clone(), newcomers.clone());
                tokio::spawn(async move {
                    newcomers.serve(pin!(services.serve(stream, slot.connection.clone()))).await;
                    drop((load, slot));
                });
            }
            // The acceptor is gone: the server is stopping. Connections end on their own, or with the process.
            while stages.changed().await.is_ok() {}
        });
    })?);
    Ok(Worker { connections: sender, load: Arc::default() })
}

/// Returns free heap memory of this thread to the system, whenever that is done for the others.
async fn keep_heap_small() {
    let mut every = tokio::time::interval(Duration::from_secs(1));
    let mut before = memory::turn();
    loop {
        every.tick().await;
        let now = memory::turn();
        if now != before {
            host::memory::collect();
            before = now;
        }
    }
}

impl Services {
    async fn serve(self, stream: Stream, client: Arc<Connection>) {
        match stream {
            Stream::Tcp(protocol, stream) => match (protocol, TcpStream::from_std(stream)) {
                (protocol, Ok(stream)) => {
                    let Some(stream) = self.let_in(stream, &client, protocol).await else { return };
                    match protocol {
                        Protocol::Rest => self.rest(stream, client).await,
                        Protocol::Grpc => self.grpc(stream, client).await,
                    }
                }
                (_, Err(why)) => tracing::warn!("a connection could not be served: {why}"),
            },
            Stream::Unix(stream) => match UnixStream::from_std(stream) {
                Ok(stream) => {
                    let Some(stream) = self.let_in(stream, &client, Protocol::Grpc).await else { return };
                    self.grpc_socket(stream, client).await;
                }
                Err(why) => tracing::warn!("a connection could not be served: {why}"),
            },
        }
    }

    /// Learns who the client is and whether it may have another connection; `None` if the connection has ended.
    async fn let_in<I>(&self, mut stream: I, client: &Connection, protocol: Protocol) -> Option<I>
    where
        I: Peek + AsyncWrite,
    {
        // Who speaks for nobody else is counted before anything is waited for.
        let tells_first = client.may_be_proxy();
        if tells_first && !proxied::begin(&mut stream, client, self.begun_within).await {
            return None;
        }
        if !client.admit() {
            refused::tell(stream, client, &too_many(self.is_encrypted(protocol))).await;
            return None;
        }
        let goes_on = tells_first || proxied::begin(&mut stream, client, self.begun_within).await;
        goes_on.then_some(stream)
    }

    fn is_encrypted(&self, protocol: Protocol) -> bool {
        match protocol {
            Protocol::Rest => self.rest_tls.is_some(),
            Protocol::Grpc => self.grpc_tls.is_some(),
        }
    }

    async fn rest(self, stream: TcpStream, client: Arc<Connection>) {
        let Some(secure) = &self.rest_tls else {
            let is_http2 = match self.cleartext {
                Some(patience) => begins_http2(&stream, &client, patience).await,
                None => Some(false),
            };
            return match is_http2 {
                Some(true) => http2::connection::serve(stream, self.over_http2, client).await,
                Some(false) => connection::serve(stream, self.rest, client).await,
                None => {}
            };
        };
        match secure.begin(stream, &client).await {
            Some(Begun::Tls(stream)) if tls::is_http2(&*stream) => {
                http2::connection::serve(*stream, self.over_http2, client).await;
            }
            Some(Begun::Tls(stream)) => connection::serve(*stream, self.rest, client).await,
            Some(Begun::Plain(stream)) => {
                connection::serve(stream, Arc::new(Unencrypted::of(&*self.rest)), client).await;
            }
            None => {}
        }
    }

    async fn grpc(self, stream: TcpStream, client: Arc<Connection>) {
        let Some(secure) = &self.grpc_tls else {
            return http2::connection::serve(stream, self.grpc, client).await;
        };
        // A client without TLS learns from the end of the connection that it is not understood.
        if let Some(Begun::Tls(stream)) = secure.begin(stream, &client).await {
            http2::connection::serve(*stream, self.grpc, client).await;
        }
    }

    async fn grpc_socket(self, stream: UnixStream, client: Arc<Connection>) {
        let Some(secure) = &self.grpc_tls else {
            return http2::connection::serve_local(stream, self.grpc, client).await;
        };
        if let Some(stream) = secure.encrypted(stream, &client).await {
            http2::connection::serve_local(stream, self.grpc, client).await;
        }
    }
}

/// Returns the answer to a client that has too many connections. It is HTTP/1.1 for gRPC's, too: they report the status, and
/// wait before they connect again. After a GOAWAY they would do so at once, and for ever.
fn too_many(encrypted: bool) -> Vec<u8> {
    const LINES: &[u8] = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\n";
    if encrypted {
        return refused::ALERT.to_vec();
    }
    last_response(LINES, refused::MESSAGE, <rest::RestService as http::Service>::write_error)
}

/// Returns `wanted`, limited by the available descriptors; a share of these is reserved for everything else: the
/// administration, model files, listeners.
fn most_connections(wanted: usize) -> usize {
    /// Assumed number of free descriptors if the system does not report it.
    const UNKNOWN: usize = 1 << 10;
    /// Limit if the system has practically none: some hundred megabytes of connections.
    const MOST: usize = 1 << 16;
    /// Minimum and maximum of the reserve.
    const KEPT: [usize; 2] = [8, 256];
    let free = match (descriptor_limit(), descriptors_in_use()) {
        (Some(limit), Some(used)) => limit.saturating_sub(used),
        _ => UNKNOWN,
    };
    let most = free.saturating_sub((free / 4).clamp(KEPT[0], KEPT[1])).clamp(1, MOST);
    match wanted {
        0 => most,
        wanted => wanted.min(most),
    }
}

/// Returns the limit on this process's open descriptors (Linux).
fn descriptor_limit() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let soft =
        limits.lines().find_map(|line| line.strip_prefix("Max open files"))?.split_whitespace().next()?;
    Some(if soft == "unlimited" { usize::MAX } else { soft.parse().ok()? })
}

fn descriptors_in_use() -> Option<usize> {
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count())
}

fn spawn(name: String, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name).spawn(run).map_err(|why| cannot_start(&why))
}

fn open_access_log(options: &AccessOptions) -> Result<AccessLog> {
    AccessLog::open(options).map_err(|why| {
        let message = format!(
            "The access log cannot be written to {}: {why}. Name a file that can be with --access_log_file",
            options.output
        );
        Error::new(Kind::FailedPrecondition, message)
    })
}

/// Begins the traces that `settings` ask for, of the server that `known` will name.
fn begin_traces(
    settings: &Settings,
    metrics: Option<&Metrics>,
    known: &Arc<OnceLock<Weak<ServerState>>>,
) -> Option<Arc<Traces>> {
    let (counts, known) = (metrics.map(Metrics::exports).unwrap_or_default(), known.clone());
    let engine_of = move |model: &str, version, signature: &str| {
        exposition::engine_of(&*known.get()?.upgrade()?, model, version, signature)
    };
    Traces::start(settings, counts, Arc::new(engine_of))
}

fn cannot_start(why: &std::io::Error) -> Error {
    Error::new(Kind::ResourceExhausted, format!("The server's threads could not be started: {why}"))
}

#[cfg(test)]
mod tests;
