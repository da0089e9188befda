//! The lower bound of a request: hyper, reading the request and answering with the same bytes every time.
//!
//! ```text
//! floor_http REPLY_FILE [THREADS]
//! ```
//!
//! Listens on a free port of 127.0.0.1, which it prints, and runs until it is killed. Threads are as in the server: one
//! accepts; each of the others (one per core, unless THREADS is given) serves its share of the connections on a runtime
//! of its own. Bodies are read to their end and dropped.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::error::Error;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let reply =
        Bytes::from(std::fs::read(arguments.next().ok_or("usage: floor_http REPLY_FILE [THREADS]")?)?);
    let threads = match arguments.next() {
        Some(count) => count.parse()?,
        None => std::thread::available_parallelism()?.get(),
    };
    let workers = (0..threads).map(|_| worker(reply.clone())).collect::<Result<Vec<_>, Failure>>()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?.port())?;
    for next in workers.iter().cycle() {
        let (stream, _) = listener.accept()?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        next.send(stream)?;
    }
    Ok(())
}

fn worker(reply: Bytes) -> Result<UnboundedSender<TcpStream>, Failure> {
    let (sender, accepted) = unbounded_channel();
    let runtime = Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().spawn(move || runtime.block_on(serve_all(accepted, reply)))?;
    Ok(sender)
}

async fn serve_all(mut accepted: UnboundedReceiver<TcpStream>, reply: Bytes) {
    while let Some(stream) = accepted.recv().await {
        let Ok(stream) = tokio::net::TcpStream::from_std(stream) else { continue };
        let reply = reply.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, reply.clone()));
            // A client that leaves is the usual end of a connection.
            let _left = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(mut request: Request<Incoming>, reply: Bytes) -> Result<Response<Full<Bytes>>, Failure> {
    while let Some(frame) = request.body_mut().frame().await {
        drop(frame?);
    }
    Ok(Response::builder().header("Content-Type", "application/json").body(Full::new(reply))?)
}
