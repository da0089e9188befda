//! The connection of one client.

use super::followed::Followed;
use super::frames::Frames;
use super::in_flight::{InFlight, TrackedBody};
use super::limits::{ConnectionLimits, jittered};
use super::{Service, Settings};
use crate::arriving::Arriving;
use crate::connections::Connection;
use crate::metrics::EdgeLimit;
use crate::on_wake::OnWake;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

/// Time after which a connection ends although the client has not reacted to the server's GOAWAY, if it waits for no
/// answer.
const GOOD_BYE: Duration = Duration::from_secs(5);
/// Time for a client to finish when a new connection needs its place.
const MAKE_ROOM: Duration = Duration::from_secs(1);

/// Serves `io`. Must be called on a runtime with time and I/O enabled, which
/// also runs the calls.
pub async fn serve<I, S: Service>(io: I, service: Arc<S>, connection: Arc<Connection>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let frames = Frames::new(service.settings().floods.clone()).late_farewell();
    serve_followed(io, service, connection, frames).await;
}

/// Serves a Unix socket like [`serve`]; clients there have no valid host to name.
pub async fn serve_local<I, S: Service>(io: I, service: Arc<S>, connection: Arc<Connection>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let frames = Frames::new(service.settings().floods.clone()).any_authority().late_farewell();
    serve_followed(io, service, connection, frames).await;
}

/// Serves `io`, following the client's frames.
async fn serve_followed<I, S: Service>(io: I, service: Arc<S>, connection: Arc<Connection>, frames: Frames)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let within = service.settings().limits.within();
    serve_http2(Followed::new(io, frames, connection.clone(), within), service, connection).await;
}

/// Serves `io` until the client ends the connection, or until its time is over and the calls in flight are answered.
async fn serve_http2<I, S: Service>(io: I, service: Arc<S>, client: Arc<Connection>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Settings { limits, dated, .. } = service.settings();
    let limits = limits.clone();
    let in_flight = InFlight::default();
    let (calls, of) = (in_flight.clone(), client.clone());
    let service = service_fn(move |request: Request<Incoming>| {
        let (service, client, call) = (service.clone(), of.clone(), calls.begin());
        // Boxed: a call's future takes some kilobytes and is moved several times on its way to its task.
        Box::pin(async move {
            let response = service.answer(request.map(Arriving::over_http2), &client).await;
            Ok::<_, Infallible>(response.map(|body| TrackedBody::new(body, call)))
        })
    });
    let mut http2 = limits.http2(client.clone());
    http2.auto_date_header(dated);
    let mut connection = pin!(http2.serve_connection(TokioIo::new(io), service));
    let result = tokio::select! {
        biased;
        result = connection.as_mut() => result,
        grace = OnWake::new(over(&limits, &client, &in_flight)) => {
            // The client is told to send no further calls here; once it has acknowledged that and the calls that
            // arrived are answered, the connection is done.
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                result = connection => result,
                () = in_flight.none_for(GOOD_BYE) => Ok(()),
                () = after(grace) => Ok(()),
                () = gives_way(&client) => Ok(()),
            }
        }
    };
    if let Err(why) = result {
        if why.is_timeout() {
            client.reached(EdgeLimit::Ping);
        }
        // The client left, or does not speak HTTP/2 and has been told.
        tracing::debug!("connection ended: {why}");
    }
}

/// Waits until the connection's time is over; returns the limit for its calls still in flight, if any. (When the server
/// stops, it limits them itself.)
async fn over(limits: &ConnectionLimits, client: &Connection, in_flight: &InFlight) -> Option<Duration> {
    let idle = async {
        match limits.max_idle {
            Some(span) => in_flight.none_for(jittered(span)).await,
            None => pending().await,
        }
        client.reached(EdgeLimit::Idle);
    };
    tokio::select! {
        biased;
        () = client.is_to_end() => None,
        () = client.must_close() => Some(MAKE_ROOM),
        () = after(limits.max_age.map(jittered)) => limits.max_age_grace,
        () = idle => None,
    }
}

/// Returns when a connection whose time is over anyway has had its moment to finish, as its place is needed. Its streams may
/// be held open for ever, and until it ends no other connection is closed in its stead.
async fn gives_way(client: &Connection) {
    client.must_close().await;
    tokio::time::sleep(MAKE_ROOM).await;
}

/// Returns after `span`; never, without one.
async fn after(span: Option<Duration>) {
    match span {
        Some(span) => tokio::time::sleep(span).await,
        None => pending().await,
    }
}
