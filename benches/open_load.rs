//! Open-loop load: requests arrive at their times, whether or not the earlier ones have been answered.
//!
//! ```text
//! open_load rest|grpc HOST:PORT PATH BODY_FILE RATE SECONDS PATIENCE_SECONDS even|poisson
//! ```
//!
//! For SECONDS, RATE requests a second arrive, evenly spaced or as a Poisson process with a fixed seed. Each waits
//! PATIENCE_SECONDS for its answer. Over REST it has a connection of its own while it waits; an answered one is used
//! again, and giving up closes it. Over gRPC a few connections carry all calls, each with its deadline; giving up resets
//! the stream. One line of JSON reports what became of them; times are counted from the arrival. All of it runs in one
//! thread, since the server needs the cores.

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper::{HeaderMap, Request};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::cell::{Cell, RefCell};
use std::error::Error;
use std::io::Write;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::runtime;
use tokio::task::{AbortHandle, JoinSet, LocalSet};
use tokio::time::{Instant, sleep_until, timeout_at};

type Failure = Box<dyn Error + Send + Sync>;

const USAGE: &str =
    "usage: open_load rest|grpc HOST:PORT PATH BODY_FILE RATE SECONDS PATIENCE_SECONDS even|poisson";
const GRPC_CONNECTIONS: usize = 8;
const WINDOW: u32 = 16 << 20;
const SEED: u64 = 10;

/// What a server made of a request that it answered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    Good,
    Refused,
    Late,
    Failed,
}

/// A request's end: after `took`, counted from its arrival, and `at` since the load began.
struct End {
    answer: Answer,
    took: Duration,
    at: Duration,
}

/// The request, its target, and the connections to it.
struct Target {
    address: String,
    path: String,
    body: Bytes,
    patience: Duration,
    connections: Connections,
    failure: RefCell<Option<String>>,
}

enum Connections {
    /// Those that no request uses.
    Rest(RefCell<Vec<Http1>>),
    /// Those of all calls, and whose turn it is.
    Grpc(RefCell<Vec<http2::SendRequest<Full<Bytes>>>>, Cell<usize>),
}

/// A connection that closes when it is dropped, even while an answer is due.
struct Http1 {
    sender: http1::SendRequest<Full<Bytes>>,
    driver: AbortHandle,
}

impl Drop for Http1 {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [protocol, address, path, body, rate, seconds, patience, arrivals] = &arguments[..] else {
        return Err(USAGE.into());
    };
    let body = std::fs::read(body)?;
    let (body, connections) = match protocol.as_str() {
        "rest" => (Bytes::from(body), Connections::Rest(RefCell::default())),
        "grpc" => (framed(&body), Connections::Grpc(RefCell::default(), Cell::new(0))),
        _ => return Err(USAGE.into()),
    };
    let target = Target {
        address: address.clone(),
        path: path.clone(),
        body,
        patience: Duration::from_secs_f64(patience.parse()?),
        connections,
        failure: RefCell::default(),
    };
    let (rate, seconds): (f64, f64) = (rate.parse()?, seconds.parse()?);
    let gaps = Gaps { each: 1.0 / rate, poisson: arrivals == "poisson", state: SEED };
    let target = Rc::new(target);
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let ends = LocalSet::new().block_on(&runtime, storm(Rc::clone(&target), gaps, seconds));
    if let Some(failure) = &*target.failure.borrow() {
        writeln!(std::io::stderr(), "the last failure: {failure}")?;
    }
    writeln!(std::io::stdout(), "{}", report(&ends, Duration::from_secs_f64(seconds)))?;
    Ok(())
}

/// The seconds between arrivals.
struct Gaps {
    each: f64,
    poisson: bool,
    state: u64,
}

impl Gaps {
    fn next(&mut self) -> f64 {
        if !self.poisson {
            return self.each;
        }
        // SplitMix64, of which 53 bits make a number of (0, 1].
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let unit = ((mixed ^ (mixed >> 31)) >> 11) as f64 + 1.0;
        -(unit / (1u64 << 53) as f64).ln() * self.each
    }
}

/// Lets the requests arrive; returns when the last has ended.
async fn storm(target: Rc<Target>, mut gaps: Gaps, seconds: f64) -> Vec<End> {
    let begun = Instant::now();
    let mut asked = JoinSet::new();
    let mut at = gaps.next();
    while at < seconds {
        let due = begun + Duration::from_secs_f64(at);
        sleep_until(due).await;
        let target = Rc::clone(&target);
        asked.spawn_local(async move {
            let answer = timeout_at(due + target.patience, ask(&target)).await;
            let answer = match answer {
                Ok(Ok(answer)) => answer,
                Ok(Err(failure)) => {
                    *target.failure.borrow_mut() = Some(failure.to_string());
                    Answer::Failed
                }
                Err(_) => Answer::Late,
            };
            End { answer, took: due.elapsed(), at: begun.elapsed() }
        });
        at += gaps.next();
    }
    asked.join_all().await
}

async fn ask(target: &Target) -> Result<Answer, Failure> {
    match &target.connections {
        Connections::Rest(idle) => ask_rest(target, idle).await,
        Connections::Grpc(connections, turn) => ask_grpc(target, connections, turn).await,
    }
}

async fn ask_rest(target: &Target, idle: &RefCell<Vec<Http1>>) -> Result<Answer, Failure> {
    let mut connection = rest_connection(target, idle).await?;
    let request = Request::post(&target.path)
        .header("host", &target.address)
        .header("content-type", "application/json")
        .body(Full::new(target.body.clone()))?;
    let (head, body) = connection.sender.send_request(request).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    idle.borrow_mut().push(connection);
    match head.status.as_u16() {
        200 => Ok(Answer::Good),
        429 | 503 => Ok(Answer::Refused),
        408 | 504 => Ok(Answer::Late),
        status => Err(format!("{status} {}", String::from_utf8_lossy(&body)).into()),
    }
}

/// Returns a connection that is idle, or a new one.
async fn rest_connection(target: &Target, idle: &RefCell<Vec<Http1>>) -> Result<Http1, Failure> {
    loop {
        let kept = idle.borrow_mut().pop();
        let Some(mut connection) = kept else { break };
        if connection.sender.ready().await.is_ok() {
            return Ok(connection);
        }
    }
    let (sender, driven) = http1::handshake(TokioIo::new(connect(target).await?)).await?;
    let driver = tokio::spawn(driven).abort_handle();
    Ok(Http1 { sender, driver })
}

async fn ask_grpc(
    target: &Target,
    connections: &RefCell<Vec<http2::SendRequest<Full<Bytes>>>>,
    turn: &Cell<usize>,
) -> Result<Answer, Failure> {
    turn.set(turn.get() + 1);
    let kept = {
        let mut connections = connections.borrow_mut();
        connections.retain(|connection| !connection.is_closed());
        let full = connections.len() >= GRPC_CONNECTIONS;
        full.then(|| connections[turn.get() % GRPC_CONNECTIONS].clone())
    };
    let mut connection = match kept {
        Some(connection) => connection,
        None => {
            let connection = grpc_connection(target).await?;
            connections.borrow_mut().push(connection.clone());
            connection
        }
    };
    let request = Request::post(format!("http://{}{}", target.address, target.path))
        .header("te", "trailers")
        .header("content-type", "application/grpc")
        .header("grpc-timeout", format!("{}m", target.patience.as_millis()))
        .body(Full::new(target.body.clone()))?;
    connection.ready().await?;
    let (head, body) = connection.send_request(request).await?.into_parts();
    let body = body.collect().await?;
    let status = |headers: &HeaderMap| Some(headers.get("grpc-status")?.to_str().ok()?.to_owned());
    let said = status(&head.headers).or_else(|| body.trailers().and_then(status));
    match said.as_deref() {
        Some("0") => Ok(Answer::Good),
        Some("8" | "14") => Ok(Answer::Refused), // RESOURCE_EXHAUSTED, UNAVAILABLE
        Some("4") => Ok(Answer::Late),           // DEADLINE_EXCEEDED
        _ => Err(format!("{head:?} {:?}", body.trailers()).into()),
    }
}

async fn grpc_connection(target: &Target) -> Result<http2::SendRequest<Full<Bytes>>, Failure> {
    let (connection, driven) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .handshake(TokioIo::new(connect(target).await?))
        .await?;
    tokio::spawn(driven);
    Ok(connection)
}

async fn connect(target: &Target) -> Result<TcpStream, Failure> {
    let stream = TcpStream::connect(&target.address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn framed(message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(5 + message.len());
    bytes.put_u8(0);
    bytes.put_u32(message.len() as u32);
    bytes.put_slice(message);
    bytes.freeze()
}

/// Returns the line of JSON. `good_within` counts the good answers that came while requests arrived.
fn report(ends: &[End], seconds: Duration) -> String {
    let times = |answer: Answer| {
        let mut took: Vec<_> =
            ends.iter().filter(|end| end.answer == answer).map(|end| end.took.as_secs_f64() * 1e3).collect();
        took.sort_unstable_by(f64::total_cmp);
        took
    };
    let (good, refused) = (times(Answer::Good), times(Answer::Refused));
    let within = ends.iter().filter(|end| end.answer == Answer::Good && end.at <= seconds).count();
    let counts = format!(
        "\"sent\":{},\"good\":{},\"good_within\":{within},\"refused\":{},\"late\":{},\"failed\":{}",
        ends.len(),
        good.len(),
        refused.len(),
        times(Answer::Late).len(),
        times(Answer::Failed).len(),
    );
    format!("{{{counts},{},{}}}", percentiles("good", &good), percentiles("refused", &refused))
}

fn percentiles(name: &str, sorted: &[f64]) -> String {
    let at = |hundredths: usize| {
        let index = (sorted.len() * hundredths / 100).min(sorted.len().saturating_sub(1));
        sorted.get(index).copied().unwrap_or(0.0)
    };
    format!(
        "\"{name}_p50_ms\":{:.3},\"{name}_p99_ms\":{:.3},\"{name}_max_ms\":{:.3}",
        at(50),
        at(99),
        at(100)
    )
}
