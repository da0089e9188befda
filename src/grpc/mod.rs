//! gRPC, over hyper's HTTP/2: the only place that knows it.
//!
//! [`connection`] speaks HTTP/2 with one client; [`GrpcService::answer`] finds what a call asks for and has it done. The
//! models' own calls are framed here ([`message`], [`reply`]) and not by tonic, so that a tensor is read from and
//! written to the wire where it lies; health and reflection stand on tonic ([`standard`]).

mod authority;
pub mod connection;
mod deadline;
pub(crate) mod flood;
mod followed;
mod frames;
mod health;
mod in_flight;
mod inference;
mod info;
pub mod limits;
mod message;
mod monitoring;
mod predict;
mod profiler;
mod reply;
mod rpc;
mod standard;
mod streams;
pub mod tls;

use crate::connections::{Connection, Stage};
use crate::error::{Error, Kind, Result};
use crate::methods::messages::{model_spec, named};
use crate::methods::{Context, ModelSpec, ServerState};
use crate::pb;
use crate::pb::tensorflow::serving::model_spec::VersionChoice as Choice;
use crate::pb::wire::{Fields, Value};
use crate::profile::{self, Phase};
use crate::servable::Servable;
use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use monitoring::Observer;
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

/// How gRPC is served.
#[derive(Clone)]
pub struct Settings {
    /// The largest message that is accepted, in bytes, compressed or not. Protobuf's own limit is the default.
    pub max_message_bytes: usize,
    /// The largest reply that is sent, in bytes.
    pub max_reply_bytes: usize,
    /// What each connection may take, and how long it may last.
    pub limits: limits::ConnectionLimits,
    /// Whether `grpc.health.v1.Health` answers.
    pub health: bool,
    /// Whether `tensorflow.ProfilerService` answers.
    pub profiler: bool,
    /// The folder below which profiles may be stored; none, and they go to the caller only.
    pub profile_folder: Option<PathBuf>,
    /// Whether clients may ask for the services and their messages.
    pub reflection: bool,
    /// Whether, and how, connections are encrypted.
    pub tls: Option<tls::Tls>,
    /// What `HandleReloadConfigRequest` does; without it, it is refused.
    pub reload: Option<Reload>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            max_message_bytes: i32::MAX as usize,
            max_reply_bytes: i32::MAX as usize,
            limits: limits::ConnectionLimits::default(),
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
    floods: Arc<flood::Floods>,
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
    pub(crate) fn floods(&self) -> Arc<flood::Floods> {
        self.floods.clone()
    }

    /// Answers one call of `client`.
    async fn answer(self: Arc<Self>, request: Request<Incoming>, client: &Arc<Connection>) -> Response<Body> {
        if let Some(refusal) = reply::refusal(&request) {
            return refusal;
        }
        if let Err(refusal) = self.settings.limits.check(request.headers()) {
            return reply::failed(refusal);
        }
        let path = request.uri().path();
        if let Some(rpc) = Rpc::at(path).filter(|rpc| self.settings.profiler || !rpc.profiles()) {
            let reply = self.answer_rpc(rpc, request, client).await;
            let reply = reply.and_then(|reply| reply.within(self.settings.max_reply_bytes));
            return reply.map_or_else(reply::failed, Reply::into_response);
        }
        match self.standard.iter().find(|service| path.starts_with(service.prefix)) {
            Some(service) => Body::streamed(service.call(request).await, self.stages.clone()),
            None => reply::failed(Error::new(Kind::Unimplemented, format!("There is no method {path}"))),
        }
    }

    async fn answer_rpc(
        &self,
        rpc: Rpc,
        request: Request<Incoming>,
        client: &Arc<Connection>,
    ) -> Result<Reply> {
        let deadline = deadline::of(request.headers());
        let memory = Arc::new(client.reserve());
        let mut observer = None;
        let answer = deadline::bounded(deadline, async {
            let limits = message::MessageLimits {
                bytes: self.settings.max_message_bytes,
                pace: self.settings.limits.pace,
                memory: memory.clone(),
            };
            let message = message::read(request, limits, rpc.locate()).await?;
            let _answering = client.answering();
            let message = match message {
                message::Message::Plain(message) => message,
                message::Message::Packed(packed) => {
                    self.server.compute.run(false, move || packed.unpack()).await?
                }
            };
            observer = Observer::begin(&self.server, rpc, &message);
            let context = Context { deadline, memory: memory.clone() };
            let call = Call { server: self.server.clone(), message, context };
            match rpc {
                Rpc::Predict => call.predict().await,
                Rpc::Classify => call.classify().await,
                Rpc::Regress => call.regress().await,
                Rpc::MultiInference => call.multi_inference().await,
                Rpc::GetModelMetadata => call.metadata(),
                Rpc::GetModelStatus => call.status(),
                Rpc::HandleReloadConfigRequest => call.reload(self.settings.reload.clone()).await,
                Rpc::Profile => call.profile(self).await,
                Rpc::Terminate => call.terminate(self),
                Rpc::Monitor => call.monitor().await,
            }
        })
        .await;
        let answer = answer.and_then(|reply| reply.counted(memory));
        if let Some(observer) = observer {
            observer.end(&answer);
        }
        answer
    }
}

/// The bytes that the fields of `message` take once they are decoded, where they are many: a name of one byte becomes a
/// string, an entry of a map a node, an example a slice of its own.
fn decoded(message: &Bytes) -> usize {
    /// What each takes at most.
    const EACH: usize = 128;
    /// In less there are few.
    const FEW: usize = 4096;
    /// Requests hold lists of messages that hold lists; what is in these is read without decoding.
    const LEVELS: usize = 3;
    if message.len() < FEW { 0 } else { EACH * fields(message, LEVELS) }
}

/// How many fields `message` has, with those of its fields, so many `levels` down.
fn fields(message: &[u8], levels: usize) -> usize {
    let below = |field: Value<'_>| match field {
        Value::Bytes(bytes) if levels > 1 => fields(bytes, levels - 1),
        Value::Bytes(_) | Value::Varint(_) | Value::Fixed64(_) | Value::Fixed32(_) => 0,
    };
    Fields::new(message).map_while(Result::ok).map(|(_, field)| 1 + below(field)).sum()
}

/// One call with its message read.
struct Call {
    server: Arc<ServerState>,
    message: Bytes,
    context: Context,
}

/// Messages up to this size are decoded in the thread that read them (some 10 µs of work).
const SMALL_MESSAGE: usize = 64 << 10;

impl Call {
    /// The call's message as an `M`.
    fn decode<M: prost::Message + Default>(&self) -> Result<M> {
        let _decode = profile::phase(Phase::Decode);
        self.context.memory.grow(decoded(&self.message))?;
        M::decode(self.message.clone()).map_err(|why| {
            Error::invalid(format!("The request is not the message that this method takes: {why}"))
        })
    }

    /// Has `work` done with `servable`: at once where runs of `signature` are known to be short, else on a compute
    /// thread.
    async fn run<T: Send + 'static>(
        &self,
        servable: Arc<Servable>,
        signature: &str,
        work: impl FnOnce(&ServerState, &Servable) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let in_caller = self.message.len() <= SMALL_MESSAGE && servable.in_caller(named(signature));
        let server = self.server.clone();
        self.server.compute.run(in_caller, move || work(&server, &servable)).await
    }

    /// The servable that `spec` names.
    fn resolve(
        &self,
        spec: Option<pb::tensorflow::serving::ModelSpec>,
    ) -> Result<(ModelSpec, Arc<Servable>)> {
        let spec = model_spec(spec.ok_or_else(|| Error::invalid("Missing ModelSpec"))?);
        if spec.name.is_empty() {
            return Err(Error::invalid("ModelSpec has no name specified."));
        }
        let servable = self.server.registry.resolve(&spec.name, &spec.choice)?;
        Ok((spec, servable))
    }
}

/// What a reply says was used: the name as requested, the version, the signature's name.
fn used(spec: ModelSpec, servable: &Servable) -> pb::tensorflow::serving::ModelSpec {
    pb::tensorflow::serving::ModelSpec {
        signature_name: named(&spec.signature_name).to_owned(),
        name: spec.name,
        version_choice: Some(Choice::Version(servable.version())),
    }
}

#[cfg(test)]
mod tests;
