//! An inference as a [`Call`]: what REST and gRPC have in common. A [`Form`] has the rest.

use super::served;
use super::shared_memory::{ReadInPlace, Regions, SMALL, SharedMemory};
use crate::auth::Pass;
use crate::engine::signature::named;
use crate::error::{Error, Result};
use crate::methods::observer::Counted;
use crate::methods::{Answer, Call, Context, ModelSpec, Request, ServerState, record};
use crate::metrics::{Api, Protocol};
use crate::profile::{self, Phase};
use crate::servable::Servable;
use crate::tensor::Tensor;
use bytes::Bytes;
use std::sync::Arc;

/// A request in the form of its protocol.
pub trait Form: Send + 'static {
    /// The protocol.
    const PROTOCOL: Protocol;
    /// The protocol's reply type.
    type Reply: Send + 'static;

    /// Returns the bytes of a reply.
    fn sent(reply: &Self::Reply) -> usize;

    /// See [`Call::is_small`]; what is in shared memory comes on top of that.
    fn is_small(&self) -> bool;

    /// Returns the bytes in regions of shared memory that the inputs name, at most.
    fn shared_bytes(&self) -> usize;

    /// Reads the request, which is to the `named` version, as its names say. `shared`: the regions that the client may use, if
    /// there are any.
    fn read(
        &mut self,
        server: &ServerState,
        named: (&ModelSpec, &Servable),
        shared: Option<Regions<'_>>,
        context: &Context,
    ) -> Result<Request>;

    /// Writes the answer of `servable`: the outputs that are wanted, by name.
    fn write(
        self,
        server: &ServerState,
        servable: &Servable,
        outputs: Vec<(&str, Tensor)>,
        context: &Context,
    ) -> Result<Self::Reply>;
}

/// An inference whose body or message is there.
pub struct Inference<F> {
    spec: Result<ModelSpec>,
    form: F,
    /// The regions of shared memory, if there are any.
    shared: Option<Arc<SharedMemory>>,
    /// What of them the model reads where it is.
    in_place: ReadInPlace,
}

impl<F: Form> Inference<F> {
    /// Makes the call of a request for what `spec` names. Its tensors may be in regions of `shared`, if there are any.
    pub fn of(spec: Result<ModelSpec>, form: F, shared: Option<Arc<SharedMemory>>) -> Inference<F> {
        Inference { spec, form, shared, in_place: ReadInPlace::default() }
    }
}

impl<F: Form> Call for Inference<F> {
    const PROTOCOL: Protocol = F::PROTOCOL;
    const BODY_FIRST: bool = true;
    type Reply = F::Reply;

    fn spec(&self) -> Result<&ModelSpec> {
        self.spec.as_ref().map_err(Error::clone)
    }

    fn counted(&self) -> Counted {
        Counted::Request(Api::Infer)
    }

    fn sent(reply: &F::Reply) -> usize {
        F::sent(reply)
    }

    fn signature(&self) -> Option<&str> {
        self.spec.as_ref().ok().map(|spec| named(&spec.signature_name))
    }

    fn is_small(&self) -> bool {
        // Regions are read in the thread that decodes.
        self.form.is_small() && (self.shared.is_none() || self.form.shared_bytes() <= SMALL)
    }

    fn decode(
        &mut self,
        server: &ServerState,
        servable: Result<&Servable, &Error>,
        context: &Context,
    ) -> Result<Request> {
        let _decode = profile::phase(Phase::Decode);
        let spec = self.spec.as_ref().map_err(Error::clone)?;
        let servable = served(server, spec, servable)?;
        let owner = context.pass.as_ref().map(Pass::name);
        // What changes the model may keep its inputs.
        let copies = || !servable.changes_nothing(named(&spec.signature_name));
        let shared = self.shared.as_ref().map(|shared| match shared.of(owner) {
            regions if !shared.reads_in_place() || copies() => regions,
            regions => regions.known_to(&self.in_place),
        });
        self.form.read(server, (spec, servable), shared, context)
    }

    fn record(&self, servable: &Servable, request: &Request) -> Option<Bytes> {
        let Request::Predict { signature, inputs, .. } = request else { return None };
        Some(record::predict_request(servable.name(), servable.signature(signature)?, inputs))
    }

    fn encode(
        self,
        server: &ServerState,
        servable: &Servable,
        answer: Answer<'_>,
        context: &Context,
    ) -> Result<F::Reply> {
        let Answer::Outputs(outputs) = answer else {
            return Err(Error::internal("The model's answer is of another kind than the request"));
        };
        self.in_place.check()?;
        self.form.write(server, servable, outputs, context)
    }
}
