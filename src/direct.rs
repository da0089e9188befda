//! Calls from the process that the server is a part of: `PredictionService.Predict`, without a message and a socket.
//!
//! They take the way of every call ([`methods::ask`]), so that versions, queues, batches, limits and counts are those of
//! clients. They are counted and told of with gRPC's, and need no token: who runs the process may do anything with it.

use crate::engine::signature::named;
use crate::error::{Error, Kind, Result};
use crate::exchange::{Asked, Exchange};
use crate::methods::observer::Counted;
use crate::methods::{self, Answer, Call, Context, ModelSpec, Request, ServerState, bind, record};
use crate::metrics::{Api, Protocol};
use crate::peer::Sender;
use crate::profile::{self, Phase};
use crate::servable::Servable;
use crate::tensor::Tensor;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::iter::empty;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

/// The method that clients of gRPC call.
const METHOD: &str = "Predict";
const PATH: &str = "/tensorflow.serving.PredictionService/Predict";

/// What is asked of a model.
#[derive(Debug)]
pub struct Question {
    /// The version and the signature.
    pub spec: ModelSpec,
    /// The inputs by alias.
    pub inputs: BTreeMap<String, Tensor>,
    /// The aliases of the outputs wanted, in this order; none for all.
    pub outputs: Vec<String>,
    /// The memory of inputs that the caller has only lent: it may change them once it has its answer.
    pub lent: Vec<Range<usize>>,
}

/// The answer of a version.
#[derive(Debug)]
pub struct Reply {
    /// The version.
    pub version: i64,
    /// The outputs with their aliases, in the order of the question. None is in memory that was lent.
    pub outputs: Vec<(String, Tensor)>,
}

impl Reply {
    fn bytes(&self) -> usize {
        self.outputs.iter().map(|(_, tensor)| tensor.memory()).sum()
    }
}

/// Asks, and waits until `deadline` at most.
pub async fn ask(server: &Arc<ServerState>, question: Question, deadline: Option<Instant>) -> Result<Reply> {
    let sender = Sender::default();
    let asked =
        Asked { protocol: "grpc", sender, certified: None, method: METHOD, path: Some(PATH), scheme: None };
    let exchange = Exchange::begin(&server.observers(), asked, |_| empty::<&[u8]>());
    let bytes: usize = question.inputs.values().map(Tensor::memory).sum();
    let (entry, timeline) = (exchange.entry().cloned(), exchange.received(bytes));
    let context = Context { deadline, entry, timeline, ..Context::default() };
    context.memory.grow(bytes)?;
    let reply = methods::ask(server, question, context, passed(deadline)).await;
    let (code, sent) = reply.as_ref().map_or_else(|why| (why.kind.name(), 0), |reply| ("OK", reply.bytes()));
    // Answered as over gRPC: the status of HTTP says nothing of the code.
    let _nobody_to_return_it_to = exchange.end(200, Some(code), sent as u64);
    reply
}

/// Returns a call's error once its `deadline` has passed; never, without one.
async fn passed(deadline: Option<Instant>) -> Error {
    match deadline {
        None => std::future::pending().await,
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
    }
    Error::new(Kind::DeadlineExceeded, "Deadline Exceeded")
}

impl Call for Question {
    const PROTOCOL: Protocol = Protocol::Grpc;
    const BODY_FIRST: bool = false;
    const IS_OWN: bool = true;
    type Reply = Reply;

    fn spec(&self) -> Result<&ModelSpec> {
        if self.spec.name.is_empty() {
            return Err(Error::invalid("ModelSpec has no name specified."));
        }
        Ok(&self.spec)
    }

    fn counted(&self) -> Counted {
        Counted::Request(Api::Predict)
    }

    fn sent(reply: &Reply) -> usize {
        reply.bytes()
    }

    fn signature(&self) -> Option<&str> {
        Some(named(&self.spec.signature_name))
    }

    /// Nothing is decoded: the inputs are tensors.
    fn is_small(&self) -> bool {
        true
    }

    fn decode(
        &mut self,
        server: &ServerState,
        servable: Result<&Servable, &Error>,
        _: &Context,
    ) -> Result<Request> {
        let servable = servable.map_err(Error::clone)?;
        let signature = bind::signature(server, servable, &self.spec.signature_name)?;
        let _decode = profile::phase(Phase::Decode);
        // What changes the model may keep its inputs.
        let keeps = !self.lent.is_empty() && !servable.changes_nothing(&signature.name);
        let given = |_: &str, tensor: &Tensor| Ok(if keeps { tensor.copied() } else { tensor.clone() });
        let inputs = bind::inputs(signature, std::mem::take(&mut self.inputs), given)?;
        let outputs = bind::outputs(signature, self.outputs.iter().map(Ok))?;
        Ok(Request::Predict { signature: signature.name.clone(), inputs, outputs })
    }

    fn record(&self, servable: &Servable, request: &Request) -> Option<Bytes> {
        let Request::Predict { signature, inputs, .. } = request else { return None };
        Some(record::predict_request(servable.name(), servable.signature(signature)?, inputs))
    }

    fn encode(self, _: &ServerState, servable: &Servable, answer: Answer<'_>, _: &Context) -> Result<Reply> {
        let _encode = profile::phase(Phase::Encode);
        let Answer::Outputs(outputs) = answer else {
            return Err(Error::internal("The model's answer is of another kind than the question"));
        };
        let own = |(alias, tensor): (&str, Tensor)| (alias.to_owned(), apart(tensor, &self.lent));
        Ok(Reply { version: servable.version(), outputs: outputs.into_iter().map(own).collect() })
    }
}

/// Returns the tensor in memory that is not `lent`: engines may return an input, or a part of it, as an output.
fn apart(tensor: Tensor, lent: &[Range<usize>]) -> Tensor {
    let memory = tensor.bytes().as_ptr_range();
    let (start, end) = (memory.start as usize, memory.end as usize);
    let is_lent = lent.iter().any(|lent| start < lent.end && lent.start < end);
    if is_lent { tensor.copied() } else { tensor }
}

#[cfg(test)]
mod tests;
