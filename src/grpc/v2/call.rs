//! An inference: from its message to the answer's.
//!
//! Raw contents are borrowed from the message, and outputs are sent from where they lie. Outputs come in the form of the
//! inputs: raw, unless the request has typed contents and all of its outputs can have such.

use super::super::model_call::SMALL_MESSAGE;
use super::super::reply::Reply;
use super::refusal;
use crate::engine::signature::Signature;
use crate::error::{Error, Result};
use crate::memory::Reservation;
use crate::methods::{Context, ModelSpec, Request, ServerState, bind};
use crate::metrics::Protocol;
use crate::open_inference::call::{Form, Inference};
use crate::open_inference::inputs::{Expected, Inputs};
use crate::open_inference::metadata;
use crate::open_inference::outputs::{Chosen, Outputs};
use crate::open_inference::parameters::{OfInput, OfOutput, OfRequest, Value};
use crate::open_inference::refusal::no_shared_memory;
use crate::open_inference::shared_memory::{BYTES, OFFSET, Placed, REGION, Regions, SharedMemory};
use crate::open_inference::target::{self, Names};
use crate::pb::infer::{Contents, Head, InferRequest, Input, Parameter, Response, has_field};
use crate::pb::inference::InferParameter;
use crate::pb::inference::infer_parameter::ParameterChoice as Choice;
use crate::pb::inference::model_infer_response::InferOutputTensor;
use crate::profile::{self, Phase};
use crate::registry::Registry;
use crate::servable::Servable;
use crate::tensor::Tensor;
use prost::Message;
use smallvec::SmallVec;
use std::sync::Arc;

/// An inference whose message has been read.
pub(in crate::grpc) struct Infer {
    request: InferRequest,
    /// True for a request on a stream.
    streamed: bool,
    /// True if the inputs were in fields for their datatypes.
    typed: bool,
    chosen: Chosen,
}

/// Makes the call of `request`. `streamed`: it is one of several on a stream. Its tensors may be in regions of `shared`, if
/// there are any.
pub(in crate::grpc) fn infer(
    registry: &Registry,
    request: InferRequest,
    streamed: bool,
    shared: Option<&Arc<SharedMemory>>,
) -> Inference<Infer> {
    let spec = spec(registry, &request);
    let form = Infer { request, streamed, typed: false, chosen: Chosen::default() };
    Inference::of(spec, form, shared.cloned())
}

/// Returns the error for bytes that are no such request.
pub(in crate::grpc) fn malformed() -> Error {
    refusal::malformed()
}

impl Infer {
    /// Returns a tensor for each input of `signature`.
    fn inputs(
        &mut self,
        signature: &Signature,
        shared: Option<Regions<'_>>,
        memory: &Reservation,
    ) -> Result<Vec<Tensor>> {
        let (request, model) = (&self.request, self.request.model_name());
        let (mut inputs, mut raw) = (Inputs::new(model, signature), request.raw());
        for input in request.inputs() {
            let input = input.map_err(|_| refusal::malformed())?;
            let place = of_input(&input)?.shared;
            let expected = inputs.expect(input.name, input.datatype, &input.shape)?;
            let index = expected.index();
            let tensor = if let Some(place) = place {
                if input.has_contents {
                    return Err(refusal::contents_and_region(model, input.name));
                }
                let regions = shared.ok_or_else(|| no_shared_memory(REGION))?;
                regions.read(&place, expected, memory)?
            } else if input.has_contents {
                if request.raw_count() > 0 {
                    return Err(refusal::contents_and_raw(model, input.name));
                }
                self.typed = true;
                typed(model, &input, expected, memory)?
            } else {
                let raw = raw.next().ok_or_else(|| refusal::no_data(model, input.name))?;
                expected.read(raw, memory)?
            };
            inputs.put(index, tensor);
        }
        if raw.next().is_some() {
            return Err(refusal::raw_count(model, request.input_count(), request.raw_count()));
        }
        inputs.finish()
    }

    /// Returns the outputs of `signature` that are asked for.
    fn outputs(&self, signature: &Signature, shared: Option<Regions<'_>>) -> Result<Chosen> {
        let mut outputs = Outputs::new(self.request.model_name(), signature);
        for output in self.request.outputs() {
            let output = output.map_err(|_| refusal::malformed())?;
            let mut wanted = OfOutput::default();
            for parameter in output.parameters() {
                let (name, value) = parameter.map_err(|_| refusal::malformed())?;
                wanted.take(name, &said(value))?;
            }
            outputs.add(output.name, wanted)?;
        }
        outputs.finish()?.placed(shared)
    }
}

/// Returns what `request` is for, by its names and its parameters.
fn spec(registry: &Registry, request: &InferRequest) -> Result<ModelSpec> {
    let mut of = OfRequest::default();
    for parameter in request.parameters() {
        let (name, value) = parameter.map_err(|_| refusal::malformed())?;
        of.take(name, &said(value))?;
    }
    let names = Names {
        model: request.model_name(),
        version: request.model_version(),
        label: &of.version_label,
        signature: &of.signature_name,
    };
    target::spec(registry, &names)
}

/// Returns what the parameters of an input say.
fn of_input(input: &Input<'_>) -> Result<OfInput> {
    let mut of = OfInput::default();
    for parameter in input.parameters() {
        let (name, value) = parameter.map_err(|_| refusal::malformed())?;
        of.take(name, &said(value))?;
    }
    Ok(of)
}

fn said(value: Parameter<'_>) -> Value<'_> {
    match value {
        Parameter::Bool(flag) => Value::Bool(flag),
        Parameter::Integer(number) => Value::Integer(number),
        Parameter::Unsigned(number) => i64::try_from(number).map_or(Value::Other, Value::Integer),
        Parameter::Text(text) => Value::Text(text.into()),
        Parameter::Other => Value::Other,
    }
}

/// Makes the tensor of an input with contents.
fn typed(model: &str, input: &Input<'_>, expected: Expected<'_>, memory: &Reservation) -> Result<Tensor> {
    let opened = Contents::open(input, expected.spec.dtype, expected.count);
    let contents = opened.map_err(|wrong| refusal::contents(model, &expected, wrong))?;
    memory.grow(contents.allocates())?;
    contents.read(expected.shape.clone()).map_err(|wrong| refusal::contents(model, &expected, wrong))
}

/// Returns the parameters, as serialized fields, of an output of `bytes` bytes that was put into shared memory.
fn placed(place: &Placed, bytes: usize) -> Vec<u8> {
    let number = |number: usize| Choice::Int64Param(i64::try_from(number).unwrap_or(i64::MAX));
    let parameters = [
        (REGION, Choice::StringParam(place.name().to_owned())),
        (OFFSET, number(place.offset())),
        (BYTES, number(bytes)),
    ];
    let parameters =
        parameters.map(|(name, choice)| (name.to_owned(), InferParameter { parameter_choice: Some(choice) }));
    InferOutputTensor { parameters: parameters.into(), ..InferOutputTensor::default() }.encode_to_vec()
}

impl Form for Infer {
    const PROTOCOL: Protocol = Protocol::Grpc;
    type Reply = Reply;

    fn sent(reply: &Reply) -> usize {
        reply.message_len()
    }

    fn is_small(&self) -> bool {
        self.request.len() <= SMALL_MESSAGE
    }

    fn shared_bytes(&self) -> usize {
        let inputs = self.request.inputs().filter_map(Result::ok);
        let said = inputs.filter_map(|input| of_input(&input).ok()?.shared?.bytes);
        said.fold(0, usize::saturating_add)
    }

    fn read(
        &mut self,
        server: &ServerState,
        (spec, servable): (&ModelSpec, &Servable),
        shared: Option<Regions<'_>>,
        context: &Context,
    ) -> Result<Request> {
        let signature = bind::signature(server, servable, &spec.signature_name)?;
        let inputs = self.inputs(signature, shared, &context.memory)?;
        self.chosen = self.outputs(signature, shared)?;
        let outputs = self.chosen.positions.clone();
        Ok(Request::Predict { signature: signature.name.clone(), inputs, outputs })
    }

    fn write(
        self,
        _: &ServerState,
        servable: &Servable,
        mut outputs: Vec<(&str, Tensor)>,
        context: &Context,
    ) -> Result<Reply> {
        let _encode = profile::phase(Phase::Encode);
        for (index, (_, tensor)) in outputs.iter_mut().enumerate() {
            if let Some(classes) = self.chosen.classified(index, tensor, &context.memory)? {
                *tensor = classes;
            }
        }
        let mut version = itoa::Buffer::new();
        let head = Head {
            model_name: self.request.model_name(),
            model_version: version.format(servable.version()),
            id: self.request.id(),
            streamed: self.streamed,
        };
        let mut told: SmallVec<[(&str, &'static str, &Tensor); 4]> = SmallVec::new();
        for (name, tensor) in &outputs {
            told.push((name, metadata::datatype_of(name, tensor)?, tensor));
        }
        let typed = self.typed && outputs.iter().all(|(_, tensor)| has_field(tensor.dtype()));
        let places = || outputs.iter().enumerate().filter_map(|(index, _)| self.chosen.place(index));
        let mut response = Response::new(head, told.into_iter(), typed && places().next().is_none());
        for (index, (name, tensor)) in outputs.iter().enumerate() {
            if let Some(place) = self.chosen.place(index) {
                let bytes = place.write(name, tensor, &context.memory)?;
                response.put_elsewhere(index, placed(place, bytes));
            }
        }
        Reply::written(response.len(), |out| response.write(out))?.counted(context.memory.clone())
    }
}
