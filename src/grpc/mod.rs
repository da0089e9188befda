//! TensorFlow Serving's gRPC API, and the Open Inference Protocol's beside it ([`v2`]), on [`crate::http2`].
//!
//! [`GrpcService::answer`] finds the method of a call by its path. [`rpc`] reads the message and asks the model
//! ([`crate::methods::ask`]): the message is checked against the model's signature ([`predict`], [`inference`]) and
//! run, and the answer is written ([`reply`]). Messages are framed here and not by tonic, so that tensors are read and
//! written in place on the wire; health and reflection are built on tonic ([`standard`]).

mod access;
mod call_body;
mod deadline;
mod health;
pub mod in_process;
mod inference;
mod info;
mod message;
mod model_call;
mod predict;
mod profiler;
mod reply;
mod rpc;
mod standard;
mod v2;

pub(crate) use call_body::{CallBody, broken};
pub(crate) use reply::{Body, Content, failed};

use crate::arriving::Arriving;
use crate::auth::Pass;
use crate::connections::{Connection, Stage};
use crate::error::{Error, Kind, Result};
use crate::exchange::{Asked, Exchange, REQUEST_ID};
use crate::http2::{self, flood::Floods, limits::ConnectionLimits};
use crate::methods::{Context, ServerState};
use crate::metrics::EdgeLimit;
use crate::open_inference::OpenInference;
use crate::open_inference::shared_memory::SharedMemory;
use crate::pb::tensorflow::serving as wire;
use crate::peer::Sender;
use crate::tls::Tls;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use reply::Reply;
use rpc::Rpc;
use standard::Standard;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Applies a serialized `tensorflow.serving.ModelServerConfig` and returns when it is in force; the second argument is
/// the client's timeout, if it set one. Called from threads that may block, possibly several at once.
pub type Reload = Arc<dyn Fn(Bytes, Option<Duration>) -> Result<()> + Send + Sync>;

/// Settings of the API.
#[derive(Clone)]
pub struct Settings {
    /// Largest accepted message, in bytes, compressed or not. Defaults to protobuf's own limit.
    pub max_message_bytes: usize,
    /// Largest reply sent, in bytes.
    pub max_reply_bytes: usize,
    /// Limits of each connection.
    pub limits: ConnectionLimits,
    /// True to serve `grpc.health.v1.Health`.
    pub health: bool,
    /// True to serve `tensorflow.ProfilerService`.
    pub profiler: bool,
    /// The folder below which profiles may be stored; with `None`, they are only returned to the caller.
    pub profile_folder: Option<PathBuf>,
    /// True to let clients list the services and their messages.
    pub reflection: bool,
    /// Encryption of connections, if any.
    pub tls: Option<Tls>,
    /// Handles `HandleReloadConfigRequest`; without it, that call is refused.
    pub reload: Option<Reload>,
    /// Serves the Open Inference Protocol, if it is on.
    pub open_inference: Option<OpenInference>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            max_message_bytes: i32::MAX as usize,
            max_reply_bytes: i32::MAX as usize,
            limits: ConnectionLimits::default(),
            health: true,
            profiler: true,
            profile_folder: None,
            reflection: true,
            tls: None,
            reload: None,
            open_inference: None,
        }
    }
}

/// The services on the gRPC port.
pub struct GrpcService {
    server: Arc<ServerState>,
    settings: Settings,
    standard: Vec<Standard>,
    sessions: profiler::Sessions,
    floods: Arc<Floods>,
    stages: watch::Receiver<Stage>,
}

impl GrpcService {
    /// Answers calls to `server`'s models. Streams that clients hold open end when the server closes.
    pub fn new(
        server: Arc<ServerState>,
        settings: Settings,
        stages: watch::Receiver<Stage>,
    ) -> Result<GrpcService> {
        let standard = standard::services(&server, &settings, &stages)?;
        let sessions = profiler::Sessions::default();
        Ok(GrpcService { server, settings, standard, sessions, floods: Arc::default(), stages })
    }

    /// Returns the floods of the service's clients.
    pub(crate) fn floods(&self) -> Arc<Floods> {
        self.floods.clone()
    }

    /// Returns the encryption of connections, if any, and the time for its handshake.
    pub(crate) fn tls(&self) -> (Option<&Tls>, Duration) {
        (self.settings.tls.as_ref(), self.settings.limits.keys_within)
    }

    /// Passes the request to one of the services built on tonic.
    async fn standard(&self, request: Request<CallBody>, pass: Option<Pass>) -> Response<Body> {
        let path = request.uri().path();
        match self.standard.iter().find(|service| path.starts_with(service.prefix)) {
            Some(service) => Body::streamed(service.call(request).await, self.stages.clone(), pass),
            None => reply::failed(Error::new(Kind::Unimplemented, format!("There is no method {path}"))),
        }
    }
}

impl http2::Service for GrpcService {
    type Body = Body;

    fn settings(&self) -> http2::Settings<'_> {
        http2::Settings {
            limits: &self.settings.limits,
            floods: &self.floods,
            // gRPC has no use for it.
            dated: false,
        }
    }

    async fn answer(self: Arc<Self>, request: Request<Arriving>, client: &Arc<Connection>) -> Response<Body> {
        let caller = Caller { connection: client, left: None, takes_streams: true };
        self.call(request.map(CallBody::Plain), caller).await
    }
}

/// Completes when a client has left.
pub(crate) type Left = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The client of a call.
pub(crate) struct Caller<'a> {
    pub(crate) connection: &'a Arc<Connection>,
    /// Completes when the client has left: awaited once its message has been read. `None` where the call is dropped then,
    /// as HTTP/2 does.
    pub(crate) left: Option<Left>,
    /// False if only one answer can be brought to it.
    pub(crate) takes_streams: bool,
}

impl GrpcService {
    /// Answers a call, whatever has brought it here.
    pub(crate) async fn call(
        self: &Arc<Self>,
        request: Request<CallBody>,
        caller: Caller<'_>,
    ) -> Response<Body> {
        let exchange = self.begin(request.uri().path(), request.headers(), caller.connection);
        let mut response = self.answered(request, caller, &exchange).await;
        let (status, code) = reply::outcome(&response);
        let id = exchange.end(status, code, response.body().len());
        if let Some(id) = id.and_then(|id| HeaderValue::from_bytes(&id).ok()) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        response
    }

    /// Runs `work` on a reply that is too long to be worked on in the thread that answers.
    pub(crate) async fn finish<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.server.scheduler.run(None, &Context::default(), move |_| work()).await
    }

    /// Begins a call.
    fn begin(&self, path: &str, headers: &HeaderMap, client: &Connection) -> Exchange {
        let asked = Asked {
            protocol: "grpc",
            sender: self.sender(headers, client),
            certified: client.certified(),
            method: path.rsplit('/').next().unwrap_or(path),
            path: Some(path),
            scheme: None,
        };
        let header = |name| headers.get_all(name).iter().map(HeaderValue::as_bytes);
        Exchange::begin(&self.server.observers(), asked, header)
    }

    /// Returns the sender of a call, if it may be told.
    fn sender(&self, headers: &HeaderMap, client: &Connection) -> Sender {
        let header = |name| headers.get_all(name).into_iter().map(HeaderValue::as_bytes);
        if self.server.tells_senders() { client.sender(header) } else { Sender::default() }
    }

    /// Returns the Open Inference Protocol's view of the server; an error if the protocol is off.
    fn open_inference(&self) -> Result<&OpenInference> {
        let off = || Error::new(Kind::Unimplemented, "The Open Inference Protocol is off");
        self.settings.open_inference.as_ref().ok_or_else(off)
    }

    /// Returns the regions of shared memory, if clients may register any.
    fn shared_memory(&self) -> Option<&Arc<SharedMemory>> {
        self.settings.open_inference.as_ref()?.shared_memory()
    }

    /// Returns the method of the Open Inference Protocol at `path`, if it is one and the protocol is on.
    fn of_open_inference<'p>(&self, path: &'p str) -> Option<&'p str> {
        self.settings.open_inference.as_ref().and_then(|_| path.strip_prefix(v2::PREFIX))
    }

    async fn answered(
        self: &Arc<Self>,
        request: Request<CallBody>,
        caller: Caller<'_>,
        exchange: &Exchange,
    ) -> Response<Body> {
        let Caller { connection: client, left, takes_streams } = caller;
        if let Some(refusal) = reply::refusal(&request) {
            return refusal;
        }
        if !takes_streams && standard::streams(request.uri().path()) {
            return reply::failed(no_streams(request.uri().path()));
        }
        if let Err(refusal) = check_metadata(request.headers(), self.settings.limits.max_header_bytes) {
            client.reached(EdgeLimit::Headers);
            return reply::failed(refusal);
        }
        let (mut head, body) = request.into_parts();
        let entry = exchange.entry().map(|entry| &**entry);
        let admitted = access::admit(self, head.uri.path(), &head.headers, entry);
        let pass = match admitted {
            Ok(None) => None,
            Ok(Some(shown)) => {
                let pass = shown.0.clone().ok();
                head.extensions.insert(shown);
                pass
            }
            Err(refused) => return reply::failed(refused),
        };
        let method = self.of_open_inference(head.uri.path());
        if method == Some(v2::STREAM) {
            return v2::stream::open(self.clone(), head, body, client.clone(), pass);
        }
        let rpc = Rpc { service: self, head: &head, body, client, left, exchange, pass };
        if let Some(method) = method {
            return self.sent(v2::answer(rpc, method).await);
        }
        let profiler = self.settings.profiler;
        let reply = match head.uri.path() {
            "/tensorflow.serving.PredictionService/Predict" => rpc.ask::<wire::PredictRequest>().await,
            "/tensorflow.serving.PredictionService/Classify" => {
                rpc.ask::<wire::ClassificationRequest>().await
            }
            "/tensorflow.serving.PredictionService/Regress" => rpc.ask::<wire::RegressionRequest>().await,
            "/tensorflow.serving.PredictionService/MultiInference" => {
                rpc.ask::<wire::MultiInferenceRequest>().await
            }
            "/tensorflow.serving.PredictionService/GetModelMetadata" => rpc.wait(info::metadata).await,
            "/tensorflow.serving.ModelService/GetModelStatus" => rpc.tell(info::status).await,
            "/tensorflow.serving.ModelService/HandleReloadConfigRequest" => rpc.wait(info::reload).await,
            "/tensorflow.ProfilerService/Profile" if profiler => rpc.wait(profiler::profile).await,
            "/tensorflow.ProfilerService/Terminate" if profiler => rpc.tell(profiler::terminate).await,
            "/tensorflow.ProfilerService/Monitor" if profiler => rpc.wait(profiler::monitor).await,
            _ => {
                let (body, pass) = (rpc.body, rpc.pass);
                return self.standard(Request::from_parts(head, body), pass).await;
            }
        };
        self.sent(reply)
    }

    /// Returns the response that sends `reply`.
    fn sent(&self, reply: Result<Reply>) -> Response<Body> {
        let reply = reply.and_then(|reply| reply.within(self.settings.max_reply_bytes));
        reply.map_or_else(reply::failed, Reply::into_response)
    }
}

fn no_streams(path: &str) -> Error {
    Error::new(
        Kind::Unimplemented,
        format!("{path} streams, and gRPC-Web brings one answer for each call here: call it over gRPC"),
    )
}

/// Refuses a call with more than `max` bytes of headers.
fn check_metadata(headers: &HeaderMap, max: u32) -> Result<()> {
    let bytes = http2::header_bytes(headers);
    if bytes > max as usize {
        return Err(Error::new(
            Kind::ResourceExhausted,
            format!(
                "Received metadata larger than max ({bytes} vs. {max}). Send less, or set grpc.max_metadata_size in \
                 --grpc_channel_arguments"
            ),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
