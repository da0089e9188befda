//! gRPC load generator: identical for every server, and cheap, so that most of the machine is left to the server.
//!
//! ```text
//! grpc_load [HOST:]PORT REQUEST_FILE REPLY_FILE CONNECTIONS CALLS SECONDS bytes|length
//! ```
//!
//! Sends REQUEST_FILE, a serialized message, to the method in GRPC_METHOD of the environment (Predict of TensorFlow
//! Serving's API, if there is none) at PORT of HOST (127.0.0.1). The first answer is written
//! to REPLY_FILE; then, for SECONDS (0: not at all), CALLS calls are kept in flight over CONNECTIONS connections, and one
//! line of JSON reports the results. Any answer that is not OK, or differs from the first in its bytes (or, for models
//! whose last digits depend on the batch, in its length), counts as an error. With AUTHORIZATION in the environment, every
//! call has metadata of that name.

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper::header::{AUTHORIZATION, HeaderValue};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::error::Error;
use std::io::Write;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::runtime;
use tokio::task::{JoinSet, LocalSet};

type Failure = Box<dyn Error + Send + Sync>;

const USAGE: &str = "usage: grpc_load PORT REQUEST_FILE REPLY_FILE CONNECTIONS CALLS SECONDS bytes|length";
const PREDICT: &str = "/tensorflow.serving.PredictionService/Predict";
const WINDOW: u32 = 16 << 20;
const THREADS: usize = 2;

/// A request, its target, and how its answers are compared.
#[derive(Clone)]
struct Ask {
    address: String,
    method: String,
    message: Bytes,
    same_bytes: bool,
    authorization: Option<HeaderValue>,
}

impl Ask {
    fn is_like(&self, answer: &Bytes, expected: &Bytes) -> bool {
        answer == expected || !self.same_bytes && answer.len() == expected.len()
    }
}

/// The results of all calls: the time of each in nanoseconds, and the number of wrong answers.
#[derive(Default)]
struct Seen {
    took: Vec<u64>,
    errors: u64,
}

impl Seen {
    fn add(&mut self, mut other: Seen) {
        self.took.append(&mut other.took);
        self.errors += other.errors;
    }

    /// Returns a percentile in microseconds.
    fn percentile(&self, hundredths: usize) -> f64 {
        let index = (self.took.len() * hundredths / 100).min(self.took.len().saturating_sub(1));
        self.took.get(index).map_or(0.0, |nanos| *nanos as f64 / 1e3)
    }
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, request, reply, connections, calls, seconds, compared] = &arguments[..] else {
        return Err(USAGE.into());
    };
    let address = if address.contains(':') { address.clone() } else { format!("127.0.0.1:{address}") };
    let message = framed(&std::fs::read(request)?);
    let authorization = std::env::var("AUTHORIZATION").ok().map(HeaderValue::try_from).transpose()?;
    let method = std::env::var("GRPC_METHOD").unwrap_or_else(|_| PREDICT.to_owned());
    let ask = Ask { address, method, message, same_bytes: compared == "bytes", authorization };
    let expected = runtime()?.block_on(first(&ask))?;
    std::fs::write(reply, expected.get(5..).unwrap_or_default())?;
    let (connections, calls): (usize, usize) = (connections.parse()?, calls.parse()?);
    let duration = Duration::from_secs_f64(seconds.parse()?);
    let begun = Instant::now();
    let mut seen = Seen::default();
    if !duration.is_zero() {
        let threads = THREADS.min(connections);
        let started: Vec<_> = (0..threads)
            .map(|thread| {
                // Each connection's share of the calls.
                let shares: Vec<usize> = (thread..connections)
                    .step_by(threads)
                    .map(|each| calls / connections + usize::from(each < calls % connections))
                    .collect();
                let (ask, expected) = (ask.clone(), expected.clone());
                std::thread::spawn(move || run(&ask, &expected, &shares, begun + duration))
            })
            .collect();
        for thread in started {
            seen.add(thread.join().map_err(|_| "a thread of the load failed")??);
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    seen.took.sort_unstable();
    let [p50, p99, max] = [50, 99, 100].map(|hundredths| seen.percentile(hundredths));
    let (count, errors) = (seen.took.len(), seen.errors);
    let times = format!("\"p50_us\":{p50},\"p99_us\":{p99},\"max_us\":{max}");
    writeln!(
        std::io::stdout(),
        "{{\"requests\":{count},\"seconds\":{seconds},{times},\"errors\":{errors}}}"
    )?;
    Ok(())
}

fn framed(message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(5 + message.len());
    bytes.put_u8(0);
    bytes.put_u32(message.len() as u32);
    bytes.put_slice(message);
    bytes.freeze()
}

fn runtime() -> std::io::Result<runtime::Runtime> {
    runtime::Builder::new_current_thread().enable_all().build()
}

async fn first(ask: &Ask) -> Result<Bytes, Failure> {
    call(&mut connect(&ask.address).await?, ask).await
}

/// Runs one thread's connections, one per element of `shares`, with that many calls in flight each.
fn run(ask: &Ask, expected: &Bytes, shares: &[usize], until: Instant) -> Result<Seen, Failure> {
    LocalSet::new().block_on(&runtime()?, async {
        let mut callers = JoinSet::new();
        for share in shares {
            let connection = connect(&ask.address).await?;
            for _ in 0..*share {
                callers.spawn_local(call_until(connection.clone(), ask.clone(), expected.clone(), until));
            }
        }
        let mut seen = Seen::default();
        while let Some(caller) = callers.join_next().await {
            seen.add(caller?);
        }
        Ok(seen)
    })
}

async fn call_until(
    mut connection: SendRequest<Full<Bytes>>,
    ask: Ask,
    expected: Bytes,
    until: Instant,
) -> Seen {
    let mut seen = Seen::default();
    let mut now = Instant::now();
    while now < until {
        let answer = call(&mut connection, &ask).await;
        let then = std::mem::replace(&mut now, Instant::now());
        match answer {
            Ok(answer) if ask.is_like(&answer, &expected) => seen.took.push((now - then).as_nanos() as u64),
            Ok(_) => seen.errors += 1,
            Err(_) if connection.is_closed() => {
                seen.errors += 1;
                break;
            }
            Err(_) => seen.errors += 1,
        }
    }
    seen
}

async fn connect(address: &str) -> Result<SendRequest<Full<Bytes>>, Failure> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (connection, driven) = Builder::new(TokioExecutor::new())
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .handshake(TokioIo::new(stream))
        .await?;
    tokio::spawn(driven);
    Ok(connection)
}

/// Returns the framed reply; an error for any status but OK.
async fn call(connection: &mut SendRequest<Full<Bytes>>, ask: &Ask) -> Result<Bytes, Failure> {
    let mut request = Request::post(format!("http://{}{}", ask.address, ask.method))
        .header("te", "trailers")
        .header("content-type", "application/grpc")
        .body(Full::new(ask.message.clone()))?;
    if let Some(authorization) = &ask.authorization {
        request.headers_mut().insert(AUTHORIZATION, authorization.clone());
    }
    connection.ready().await?;
    let (head, body) = connection.send_request(request).await?.into_parts();
    let whole = body.collect().await?;
    let status = whole.trailers().and_then(|trailers| trailers.get("grpc-status")).cloned();
    if status.as_ref().is_none_or(|status| status != "0") {
        return Err(format!("not answered with OK: {head:?} {:?}", whole.trailers()).into());
    }
    Ok(whole.to_bytes())
}
