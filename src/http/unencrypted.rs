//! The answer to HTTP on a port that speaks HTTPS.

use super::client_stream::ClientStream;
use super::pieces::Pieces;
use super::{Service, Settings, WriteError};
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use std::marker::PhantomData;
use std::sync::Arc;

const MESSAGE: &str = "Bad Request: this port speaks HTTPS (TLS), and this is HTTP: ask https://…";

/// Answers every request with an error in the form of the service `S`, and ends the connection.
pub(crate) struct Unencrypted<S> {
    settings: Settings,
    _service: PhantomData<fn() -> S>,
}

impl<S: Service> Unencrypted<S> {
    /// Stands in for `service`.
    pub(crate) fn of(service: &S) -> Unencrypted<S> {
        Unencrypted { settings: service.settings(), _service: PhantomData }
    }
}

impl<S: Service> Service for Unencrypted<S> {
    fn settings(&self) -> Settings {
        self.settings
    }

    async fn answer(self: Arc<Self>, stream: Arc<ClientStream>, _: Request<Incoming>) -> Response<Pieces> {
        let _in_hand = stream.begin();
        let write_error: WriteError = S::write_error;
        let (content_type, body) = write_error(MESSAGE);
        let mut response = Response::new(Pieces::from(Bytes::from(body)));
        *response.status_mut() = StatusCode::BAD_REQUEST;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        response
    }

    fn write_error(message: &str) -> (&'static str, Vec<u8>) {
        S::write_error(message)
    }
}
