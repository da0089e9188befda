//! One client connection: hyper's HTTP/1.1 on a stream with limits.

use super::client_stream::ClientStream;
use super::lingering::LingeringStream;
use super::own_wakes::OwnWaker;
use super::timed::Timed;
use super::transport::Transport;
use super::{Service, Settings};
use crate::connections::Connection;
use crate::metrics::EdgeLimit;
use crate::on_wake::OnWake;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

/// Once the server is closing, a connection that has been quiet for this long has no request on its way.
const QUIET: Duration = Duration::from_millis(500);

/// Serves `stream` until the client is done, until its place is needed, or until the server closes and no request is on
/// its way.
pub(crate) async fn serve<S: Service>(
    stream: impl Into<Transport>,
    service: Arc<S>,
    client: Arc<Connection>,
) {
    let Settings { headers_within, pace, max_header_bytes, idle } = service.settings();
    let stream = Arc::new(ClientStream::new(stream.into(), client.clone()));
    let io = TokioIo::new(Timed::new(stream.clone(), S::write_error, headers_within, pace));
    let mut builder = http1::Builder::new();
    builder
        // It would set a timer for every request; `ClientStream::waits_in_vain` sets one for the connection.
        .header_read_timeout(None)
        .max_buf_size(max_header_bytes.max(8192))
        .title_case_headers(true)
        // A client may close its sending side and still wait for the answer; the stream detects whether it does.
        .half_close(true);
    let of = stream.clone();
    let answer = service_fn(move |request: Request<Incoming>| {
        let (service, stream) = (service.clone(), of.clone());
        async move { Ok::<_, Infallible>(service.answer(stream, request).await) }
    });
    let mut connection = pin!(builder.serve_connection(LingeringStream::new(io, S::write_error), answer));
    let mut waker = OwnWaker::default();
    let own = poll_fn(|cx| connection.as_mut().poll(&mut Context::from_waker(waker.of(cx.waker()))));
    let result = tokio::select! {
        biased;
        result = own => result,
        over = OnWake::new(over(&client, &stream, idle)) => {
            if over == Over::Now || stream.is_idle() {
                return;
            }
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(why) = result {
        // The client left, or its HTTP was broken and it has been told: there is nothing left to do.
        tracing::debug!("connection ended: {why}");
    }
}

/// How a connection ends that its client does not end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    /// At once.
    Now,
    /// After the request in hand, once its answer has been taken.
    Soon,
}

/// Waits until the connection has to end.
async fn over(client: &Connection, stream: &ClientStream, idle: Option<Duration>) -> Over {
    let in_vain = async {
        match idle {
            Some(span) => stream.waits_in_vain(span).await,
            None => pending().await,
        }
        client.reached(EdgeLimit::Idle);
    };
    tokio::select! {
        biased;
        () = client.must_close() => Over::Now,
        () = client.is_closed_and_quiet(QUIET) => Over::Soon,
        () = in_vain => Over::Now,
    }
}
