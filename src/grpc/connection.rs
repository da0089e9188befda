//! One client's connection.

use super::Door;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

/// Unread bytes that a client may have on its way: for one call, and for all calls of a connection.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
/// Calls at once on one connection; further ones wait at the client.
const MAX_CALLS: u32 = 1024;
/// The largest block of headers (gRPC's own libraries take 8 KB by default).
const MAX_HEADERS: u32 = 16 << 10;
/// The largest piece that a message may come in. Of the default (16 KB) a message of 10 MB takes half again as much CPU
/// time on its way in: every piece is two reads.
const MAX_FRAME: u32 = 128 << 10;
/// A silent client is asked this often whether it is still there, and has so long to say so.
const ASKED_EVERY: Duration = Duration::from_secs(60);
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);

/// A client that says nothing to the server's good-bye, and waits for no answer, is let go after this long.
const GOOD_BYE: Duration = Duration::from_secs(5);

/// Serves `io`, encrypted if the door is set so. Must be called on a runtime with time and I/O enabled; calls run on
/// that runtime.
pub async fn serve<I>(io: I, door: Arc<Door>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Some(tls) = door.settings.tls.clone() else { return serve_plain(io, door).await };
    let mut stopping = door.stopping.clone();
    let accepted = tokio::select! {
        accepted = tls.accept(io) => accepted,
        () = stopped(&mut stopping) => return,
    };
    match accepted {
        Ok(io) => serve_plain(io, door).await,
        Err(why) => tracing::debug!("no TLS with a client: {why}"),
    }
}

/// Serves `io` until the client is done with it, or until the server stops and the calls in flight are answered.
async fn serve_plain<I>(io: I, door: Arc<Door>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut stopping = door.stopping.clone();
    let in_flight = InFlight::default();
    let calls = in_flight.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (door, call) = (door.clone(), calls.clone());
        // Boxed, because a call's future is some kilobytes and is moved several times on its way to its task.
        Box::pin(async move {
            let response = door.answer(request).await;
            Ok::<_, Infallible>(response.map(|body| body.of(call)))
        })
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_CALLS)
        .max_header_list_size(MAX_HEADERS)
        .max_frame_size(MAX_FRAME)
        .keep_alive_interval(ASKED_EVERY)
        .keep_alive_timeout(ANSWERED_WITHIN)
        .auto_date_header(false)
        .serve_connection(TokioIo::new(io), service);
    let mut connection = pin!(connection);
    let result = tokio::select! {
        biased;
        result = connection.as_mut() => result,
        () = stopped(&mut stopping) => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                result = connection => result,
                () = in_flight.none_for(GOOD_BYE) => Ok(()),
            }
        }
    };
    if let Err(why) = result {
        // The client left, or does not speak HTTP/2 and has been told.
        tracing::debug!("connection ended: {why}");
    }
}

/// Counts the calls of a connection by its clones: each call, and then its answer, holds one.
#[derive(Clone, Default)]
pub(super) struct InFlight(Arc<()>);

impl InFlight {
    /// Returns when no call is in flight at the end of a `pause`.
    async fn none_for(&self, pause: Duration) {
        loop {
            tokio::time::sleep(pause).await;
            // This one, and the one that the connection makes new ones of.
            if Arc::strong_count(&self.0) <= 2 {
                return;
            }
        }
    }
}

/// Returns when the server stops, or is gone.
pub(super) async fn stopped(stopping: &mut watch::Receiver<bool>) {
    let _stopped = stopping.wait_for(|stopping| *stopping).await;
}
