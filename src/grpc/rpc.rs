//! One RPC: reads its message and has it answered by a model or by the server itself.

use super::call_body::CallBody;
use super::message::{self, Locate, Message, MessageLimits};
use super::model_call::{Method, ModelCall};
use super::reply::Reply;
use super::v2;
use super::{GrpcService, Left, deadline};
use crate::auth::Pass;
use crate::connections::{Answering, Connection};
use crate::error::{Error, Kind, Result};
use crate::exchange::Exchange;
use crate::methods::{self, Context, ServerState};
use crate::pb::infer::{self, InferRequest};
use crate::pb::wire::{Fields, Value};
use crate::profile::{self, Phase};
use crate::traffic_split::Keys;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue};
use std::sync::Arc;
use std::time::Instant;

/// An RPC whose headers have been read.
pub(super) struct Rpc<'a> {
    pub(super) service: &'a GrpcService,
    pub(super) head: &'a Parts,
    pub(super) body: CallBody,
    pub(super) client: &'a Arc<Connection>,
    /// Completes when the client has left, where it takes somebody to look for that.
    pub(super) left: Option<Left>,
    pub(super) exchange: &'a Exchange,
    /// What its token allows.
    pub(super) pass: Option<Pass>,
}

/// An RPC whose message, of type `M`, has been read.
pub(super) struct Received<M> {
    pub(super) message: M,
    /// The message as received.
    bytes: Bytes,
    pub(super) context: Context,
    /// Held while the client waits for the server and not the other way round.
    _answering: Answering,
}

impl Rpc<'_> {
    /// Asks a model.
    pub(super) async fn ask<M: Method>(mut self) -> Result<Reply> {
        let (server, left) = (&self.service.server, self.left.take());
        let Received { message, bytes, context, _answering } = self.receive::<M>(M::LOCATE).await?;
        let ended = ended(context.deadline, left);
        methods::ask(server, ModelCall::new(message, bytes), context, ended).await
    }

    /// Lets `answer` answer at once.
    pub(super) async fn tell<M: prost::Message + Default>(
        self,
        answer: impl FnOnce(&GrpcService, Received<M>) -> Result<Reply>,
    ) -> Result<Reply> {
        let service = self.service;
        answer(service, self.receive(None).await?)
    }

    /// Lets `answer` answer, as long as the client waits.
    pub(super) async fn wait<M: prost::Message + Default>(
        mut self,
        answer: impl AsyncFnOnce(&GrpcService, Received<M>) -> Result<Reply>,
    ) -> Result<Reply> {
        let (service, left) = (self.service, self.left.take());
        let received = self.receive(None).await?;
        let ended = ended(received.context.deadline, left);
        tokio::select! {
            biased;
            answer = answer(service, received) => answer,
            error = ended => Err(error),
        }
    }

    /// Asks a model by the Open Inference Protocol.
    pub(super) async fn infer(mut self) -> Result<Reply> {
        let (service, left) = (self.service, self.left.take());
        let server = &service.server;
        let Arrived { bytes, context, _answering } = self.arrive(Some(infer::locate)).await?;
        let ended = ended(context.deadline, left);
        let request = InferRequest::open(bytes).map_err(|_| v2::malformed())?;
        let call = v2::infer(&server.registry, request, false, service.shared_memory());
        methods::ask(server, call, context, ended).await
    }

    /// Reads the message and decodes it. `locate` finds the part worth aligning before it has arrived.
    async fn receive<M: prost::Message + Default>(self, locate: Option<Locate>) -> Result<Received<M>> {
        let Arrived { bytes, context, _answering } = self.arrive(locate).await?;
        let _decode = profile::phase(Phase::Decode);
        context.memory.grow(decoded(&bytes))?;
        let message = M::decode(bytes.clone()).map_err(|why| {
            Error::invalid(format!("The request is not the message that this method takes: {why}"))
        })?;
        Ok(Received { message, bytes, context, _answering })
    }

    /// Reads the message.
    async fn arrive(self, locate: Option<Locate>) -> Result<Arrived> {
        let memory = Arc::new(self.client.reserve());
        let limits = MessageLimits {
            bytes: self.service.settings.max_message_bytes,
            pace: self.service.settings.limits.pace,
            memory: memory.clone(),
            client: self.client,
        };
        let deadline = deadline::of(&self.head.headers);
        let read = message::read(&self.head.headers, self.body, limits, locate);
        let message = deadline::bounded(deadline, read).await?;
        let timeline = self.exchange.received(message.len());
        let answering = self.client.answering();
        let (entry, pass) = (self.exchange.entry().cloned(), self.pass);
        let keys = keys(&self.service.server, &self.head.headers);
        let context = Context { deadline, memory, entry, timeline, pass, keys, ..Context::default() };
        let bytes = unpacked(&self.service.server, message, &context).await?;
        Ok(Arrived { bytes, context, _answering: answering })
    }
}

/// An RPC whose message is there.
struct Arrived {
    bytes: Bytes,
    context: Context,
    /// Held while the client waits for the server and not the other way round.
    _answering: Answering,
}

/// Returns the bytes of `message`, unpacked on another thread if it is compressed.
pub(super) async fn unpacked(server: &ServerState, message: Message, context: &Context) -> Result<Bytes> {
    match message {
        Message::Plain(bytes) => Ok(bytes),
        Message::Packed(packed) => {
            let unpacked = server.scheduler.run(None, context, move |_| packed.unpack());
            deadline::bounded(context.deadline, unpacked).await
        }
    }
}

/// Returns the metadata that decide between versions, if there are any.
pub(super) fn keys(server: &ServerState, metadata: &HeaderMap) -> Option<Arc<Keys>> {
    server.registry.keys(|name| metadata.get(name).map(HeaderValue::as_bytes))
}

/// Waits until nobody waits for the answer any more; returns the reason.
async fn ended(deadline: Option<Instant>, left: Option<Left>) -> Error {
    let Some(left) = left else { return deadline::passed(deadline).await };
    tokio::select! {
        biased;
        () = left => Error::new(Kind::Cancelled, "The client left before it was answered"),
        late = deadline::passed(deadline) => late,
    }
}

/// Estimates the memory of the decoded fields of `message`, in bytes, if there are many: a name of one byte becomes a
/// string, a map entry a node, an example a slice.
pub(super) fn decoded(message: &Bytes) -> usize {
    /// Most memory of a field, in bytes.
    const EACH: usize = 128;
    /// Messages below this size, in bytes, have few fields.
    const FEW: usize = 4096;
    /// Requests hold lists of messages that hold lists; anything deeper is read without decoding.
    const LEVELS: usize = 3;
    if message.len() < FEW { 0 } else { EACH * fields(message, LEVELS) }
}

/// Counts the fields of `message` and of its fields, `levels` deep.
fn fields(message: &[u8], levels: usize) -> usize {
    let below = |field: Value<'_>| match field {
        Value::Bytes(bytes) if levels > 1 => fields(bytes, levels - 1),
        Value::Bytes(_) | Value::Varint(_) | Value::Fixed64(_) | Value::Fixed32(_) => 0,
    };
    Fields::new(message).map_while(Result::ok).map(|(_, field)| 1 + below(field)).sum()
}
