//! A call to a model over gRPC.

use super::message::Locate;
use super::reply::Reply;
use crate::engine::signature::named;
use crate::error::{Error, Result};
use crate::methods::messages::model_spec;
use crate::methods::observer::Counted;
use crate::methods::{Answer, Call, Context, ModelSpec, Request, ServerState};
use crate::metrics::Protocol;
use crate::pb::tensorflow::serving as wire;
use crate::pb::tensorflow::serving::model_spec::VersionChoice;
use crate::profile::{self, Phase};
use crate::servable::Servable;
use bytes::Bytes;

/// Largest message decoded in the thread that read it, in bytes (some 10 µs of work).
pub(super) const SMALL_MESSAGE: usize = 64 << 10;

/// The request message of a model's method: the parts specific to that method.
pub(super) trait Method: prost::Message + Default + 'static {
    /// Finds the part of the message worth aligning before it has arrived.
    const LOCATE: Option<Locate> = None;

    /// Takes the model spec out; `None` if the request has none.
    fn take_spec(&mut self) -> Option<wire::ModelSpec>;

    /// Returns how the call is counted.
    fn counted(&self) -> Counted;

    /// Checks the request against the version that answers. `signature` is the name in the request.
    fn request(
        self,
        server: &ServerState,
        servable: &Servable,
        signature: &str,
        context: &Context,
    ) -> Result<Request>;

    /// Writes the answer of `servable` to a request with this `spec`.
    fn reply(server: &ServerState, servable: &Servable, spec: ModelSpec, answer: Answer<'_>)
    -> Result<Reply>;
}

/// A call whose message has been read.
pub(super) struct ModelCall<M> {
    /// `None` if the message has none.
    spec: Option<ModelSpec>,
    request: M,
    message: Bytes,
}

impl<M: Method> ModelCall<M> {
    pub(super) fn new(mut request: M, message: Bytes) -> ModelCall<M> {
        ModelCall { spec: request.take_spec().map(model_spec), request, message }
    }
}

impl<M: Method> Call for ModelCall<M> {
    const PROTOCOL: Protocol = Protocol::Grpc;
    const BODY_FIRST: bool = false;
    type Reply = Reply;

    fn spec(&self) -> Result<&ModelSpec> {
        let spec = self.spec.as_ref().ok_or_else(missing_spec)?;
        if spec.name.is_empty() {
            return Err(Error::invalid("ModelSpec has no name specified."));
        }
        Ok(spec)
    }

    fn counted(&self) -> Counted {
        self.request.counted()
    }

    fn sent(reply: &Reply) -> usize {
        reply.message_len()
    }

    fn signature(&self) -> Option<&str> {
        Some(named(self.spec.as_ref().map_or("", |spec| &spec.signature_name)))
    }

    fn is_small(&self) -> bool {
        self.message.len() <= SMALL_MESSAGE
    }

    fn decode(
        &mut self,
        server: &ServerState,
        servable: Result<&Servable, &Error>,
        context: &Context,
    ) -> Result<Request> {
        let servable = servable.map_err(Error::clone)?;
        let signature = self.spec.as_ref().map_or("", |spec| &spec.signature_name);
        std::mem::take(&mut self.request).request(server, servable, signature, context)
    }

    fn record(&self, _: &Servable, _: &Request) -> Option<Bytes> {
        Some(self.message.clone())
    }

    fn encode(
        self,
        server: &ServerState,
        servable: &Servable,
        answer: Answer<'_>,
        context: &Context,
    ) -> Result<Reply> {
        let _encode = profile::phase(Phase::Encode);
        let reply = M::reply(server, servable, self.spec.ok_or_else(missing_spec)?, answer)?;
        reply.counted(context.memory.clone())
    }
}

/// Returns the error for a request that names no model.
pub(super) fn missing_spec() -> Error {
    Error::invalid("Missing ModelSpec")
}

/// Returns the spec reported in a reply: the name as requested, the version and the signature used.
pub(super) fn used(spec: ModelSpec, servable: &Servable) -> wire::ModelSpec {
    let signature_name = match spec.signature_name {
        none if none.is_empty() => named("").to_owned(),
        given => given,
    };
    wire::ModelSpec {
        signature_name,
        name: spec.name,
        version_choice: Some(VersionChoice::Version(servable.version())),
    }
}

/// Returns the error for an answer of another kind than the request.
pub(super) fn unexpected(answer: &Answer<'_>) -> Error {
    Error::internal(format!("The model's answer is of another kind than the request: {answer:?}"))
}
