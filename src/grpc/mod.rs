//! TensorFlow Serving's gRPC API, on [`crate::http2`].
//!
//! A call's way: [`GrpcService::answer`] finds the method by its path, [`rpc`] reads the message and asks the model
//! ([`crate::methods::ask`]): the message is checked against the model's signature ([`predict`], [`inference`]), run, and
//! the answer is written ([`reply`]). Messages are framed here and not by tonic, so that a tensor is read from and written
//! to the wire where it lies; health and reflection stand on tonic ([`standard`]).

mod deadline;
mod health;
mod inference;
mod info;
mod message;
mod model_call;
mod predict;
mod profiler;
mod reply;
mod rpc;
mod standard;

use crate::connections::{Connection, Stage};
use crate::error::{Error, Kind, Result};
use crate::http2::{self, flood::Floods, limits::ConnectionLimits, tls::Tls};
use crate::methods::ServerState;
use crate::pb::tensorflow::serving::{
    ClassificationRequest, MultiInferenceRequest, PredictRequest, RegressionRequest,
};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use reply::{Body, Reply};
use rpc::Rpc;
use standard::Standard;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Applies a serialized `tensorflow.serving.ModelServerConfig` and returns when it is in force; the second argument is
/// how long the client waits, if it said so. Called from a thread that may block; several calls may come at once.
pub type Reload = Arc<dyn Fn(Bytes, Option<Duration>) -> Result<()> + Send + Sync>;

/// How the API is served.
#[derive(Clone)]
pub struct Settings {
    /// The largest message that is accepted, in bytes, compressed or not. Protobuf's own limit is the default.
    pub max_message_bytes: usize,
    /// The largest reply that is sent, in bytes.
    pub max_reply_bytes: usize,
    /// What each connection may take, and how long it may last.
    pub limits: ConnectionLimits,
    /// Whether `grpc.health.v1.Health` answers.
    pub health: bool,
    /// Whether `tensorflow.ProfilerService` answers.
    pub profiler: bool,
    /// The folder below which profiles may be stored; none, and they go to the caller only.
    pub profile_folder: Option<PathBuf>,
    /// Whether clients may ask for the services and their messages.
    pub reflection: bool,
    /// Whether, and how, connections are encrypted.
    pub tls: Option<Tls>,
    /// What `HandleReloadConfigRequest` does; without it, it is refused.
    pub reload: Option<Reload>,
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
        }
    }
}

/// Everything that is answered on the gRPC port.
pub struct GrpcService {
    server: Arc<ServerState>,
    settings: Settings,
    standard: Vec<Standard>,
    sessions: profiler::Sessions,
    floods: Arc<Floods>,
    stages: watch::Receiver<Stage>,
}

impl GrpcService {
    /// The calls to `server`'s models. Streams that a client holds open end when the server closes.
    pub fn new(
        server: Arc<ServerState>,
        settings: Settings,
        stages: watch::Receiver<Stage>,
    ) -> Result<GrpcService> {
        let standard = standard::services(&settings, &stages)?;
        let sessions = profiler::Sessions::default();
        Ok(GrpcService { server, settings, standard, sessions, floods: Arc::default(), stages })
    }

    /// The floods of its clients.
    pub(crate) fn floods(&self) -> Arc<Floods> {
        self.floods.clone()
    }

    /// Has one of the services that stand on tonic answer.
    async fn standard(&self, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path();
        match self.standard.iter().find(|service| path.starts_with(service.prefix)) {
            Some(service) => Body::streamed(service.call(request).await, self.stages.clone()),
            None => reply::failed(Error::new(Kind::Unimplemented, format!("There is no method {path}"))),
        }
    }
}

impl http2::Service for GrpcService {
    type Body = Body;

    fn settings(&self) -> http2::Settings<'_> {
        http2::Settings {
            limits: &self.settings.limits,
            tls: self.settings.tls.as_ref(),
            floods: &self.floods,
            stages: &self.stages,
        }
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>, client: &Arc<Connection>) -> Response<Body> {
        if let Some(refusal) = reply::refusal(&request) {
            return refusal;
        }
        if let Err(refusal) = check_metadata(request.headers(), self.settings.limits.max_header_bytes) {
            return reply::failed(refusal);
        }
        let (head, body) = request.into_parts();
        let rpc = Rpc { service: &self, head: &head, body, client };
        let profiler = self.settings.profiler;
        let reply = match head.uri.path() {
            "/tensorflow.serving.PredictionService/Predict" => rpc.ask::<PredictRequest>().await,
            "/tensorflow.serving.PredictionService/Classify" => rpc.ask::<ClassificationRequest>().await,
            "/tensorflow.serving.PredictionService/Regress" => rpc.ask::<RegressionRequest>().await,
            "/tensorflow.serving.PredictionService/MultiInference" => {
                rpc.ask::<MultiInferenceRequest>().await
            }
            "/tensorflow.serving.PredictionService/GetModelMetadata" => rpc.tell(info::metadata).await,
            "/tensorflow.serving.ModelService/GetModelStatus" => rpc.tell(info::status).await,
            "/tensorflow.serving.ModelService/HandleReloadConfigRequest" => rpc.wait(info::reload).await,
            "/tensorflow.ProfilerService/Profile" if profiler => rpc.wait(profiler::profile).await,
            "/tensorflow.ProfilerService/Terminate" if profiler => rpc.tell(profiler::terminate).await,
            "/tensorflow.ProfilerService/Monitor" if profiler => rpc.wait(profiler::monitor).await,
            _ => {
                let body = rpc.body;
                return self.standard(Request::from_parts(head, body)).await;
            }
        };
        let reply = reply.and_then(|reply| reply.within(self.settings.max_reply_bytes));
        reply.map_or_else(reply::failed, Reply::into_response)
    }
}

/// Refuses a call whose headers are more than `max` bytes.
fn check_metadata(headers: &HeaderMap, max: u32) -> Result<()> {
    /// What HTTP/2 counts for each header beside its name and value.
    const EACH: usize = 32;
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + EACH).sum();
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
