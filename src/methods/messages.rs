//! The requests of TensorFlow Serving's API as protobuf messages, answered for one servable: what gRPC receives, and
//! what warm-up files hold.

use super::examples::{self, Answer, Classifications};
use super::{Context, ModelSpec, ServerState, bind, parsed_example, predict};
use crate::error::{Error, Kind, Result};
use crate::pb::tensor;
use crate::pb::tensorflow::Example;
use crate::pb::tensorflow::serving::model_spec::VersionChoice as Choice;
use crate::pb::tensorflow::serving::{self as wire, InferenceTask, Input, PredictRequest, input};
use crate::profile::{self, Phase};
use crate::registry::VersionChoice;
use crate::servable::Servable;
use crate::servable::signature::DEFAULT_SIGNATURE;
use crate::tensor::{Strings, Tensor};
use bytes::Bytes;
use prost::Message;
use std::collections::BTreeSet;

/// Outputs by alias, in the order asked for.
pub type Outputs<'s> = Vec<(&'s str, Tensor)>;

/// Answers `request` by signature `name`; its `model_spec` is not looked at.
pub fn predict<'s>(
    server: &ServerState,
    servable: &'s Servable,
    name: &str,
    request: PredictRequest,
    context: &Context,
) -> Result<Outputs<'s>> {
    let signature = bind::signature(server, servable, name)?;
    let decoding = profile::phase(Phase::Decode);
    let inputs = bind::inputs(signature, request.inputs, |alias, proto| {
        let malformed = |_| Error::invalid(format!("tensor parsing error: {alias}"));
        let encoded = tensor::open(proto).map_err(malformed)?;
        context.memory.grow(encoded.drawn_out())?;
        encoded.read().map_err(malformed)
    })?;
    let outputs = bind::outputs(signature, &request.output_filter)?;
    drop(decoding);
    let tensors = predict::predict(servable, signature, inputs, &outputs, context)?;
    let aliases = outputs.iter().map(|output| signature.outputs[*output].alias.as_str());
    Ok(aliases.zip(tensors).collect())
}

/// Classifies the examples of `input` by signature `name`.
pub fn classify(
    server: &ServerState,
    servable: &Servable,
    name: String,
    input: Option<Input>,
    context: &Context,
) -> Result<Classifications> {
    let input = examples::Input { signature_name: name, examples: serialized(input, context)? };
    examples::classify(server, servable, input, context)
}

/// A number for each example of `input`, by signature `name`.
pub fn regress(
    server: &ServerState,
    servable: &Servable,
    name: String,
    input: Option<Input>,
    context: &Context,
) -> Result<Vec<f32>> {
    let input = examples::Input { signature_name: name, examples: serialized(input, context)? };
    examples::regress(server, servable, input, context)
}

/// Answers each of `tasks`, by one run for all.
pub fn multi_inference(
    server: &ServerState,
    servable: &Servable,
    tasks: &[InferenceTask],
    input: Option<Input>,
    context: &Context,
) -> Result<Vec<(ModelSpec, Answer)>> {
    let specs: Vec<_> =
        tasks.iter().map(|task| model_spec(task.model_spec.clone().unwrap_or_default())).collect();
    let mut seen = BTreeSet::new();
    let mut bound = Vec::with_capacity(tasks.len());
    for (task, spec) in tasks.iter().zip(&specs) {
        check_spec(servable, spec, &specs[0], &mut seen)?;
        bound.push(bound_task(server, servable, task, spec)?);
    }
    let first = specs.first().ok_or_else(|| Error::invalid("Missing ModelSpec"))?;
    let answers =
        examples::run(servable, named(&first.signature_name), &bound, serialized(input, context)?, context)?;
    Ok(specs.into_iter().zip(answers).collect())
}

/// What a `ModelSpec` asks for.
pub fn model_spec(spec: wire::ModelSpec) -> ModelSpec {
    let choice = match spec.version_choice {
        None => VersionChoice::Latest,
        Some(Choice::Version(version)) => VersionChoice::Version(version),
        Some(Choice::VersionLabel(label)) => VersionChoice::Label(label),
    };
    ModelSpec { name: spec.name, choice, signature_name: spec.signature_name }
}

/// The name of the signature that a request means.
pub fn named(signature: &str) -> &str {
    if signature.is_empty() { DEFAULT_SIGNATURE } else { signature }
}

/// One serialized Example per element, the context in front where there is one: protobuf merges what is concatenated,
/// and the later entry wins.
fn serialized(input: Option<Input>, context: &Context) -> Result<Strings> {
    let _decode = profile::phase(Phase::Decode);
    match input.and_then(|input| input.kind) {
        None => Ok(Strings::default()),
        Some(input::Kind::ExampleList(list)) => {
            list.examples
                .iter()
                .enumerate()
                .try_for_each(|(index, example)| check(&format!("{index}"), example, context))?;
            Ok(list.examples.iter().collect())
        }
        Some(input::Kind::ExampleListWithContext(list)) => {
            check("context", &list.context, context)?;
            list.examples
                .iter()
                .enumerate()
                .try_for_each(|(index, example)| check(&format!("{index}"), example, context))?;
            let repeated = list.context.len().saturating_mul(list.examples.len());
            // Once as it is, once as part of all.
            context.memory.grow(repeated.saturating_mul(2))?;
            Ok(list.examples.iter().map(|example| [&list.context[..], example].concat()).collect())
        }
    }
}

/// Parsed, an example may take much more than on the wire; it is parsed and dropped.
fn check(which: &str, example: &Bytes, context: &Context) -> Result<()> {
    let before = context.memory.bytes();
    context.memory.grow(parsed_example::size(example))?;
    let parsed = Example::decode(example.clone());
    context.memory.resize(before)?;
    match parsed {
        Ok(_) => Ok(()),
        Err(why) => Err(Error::invalid(format!("Could not parse example input ({which}): {why}"))),
    }
}

/// Checks what a task asks for against the first one, those `seen` before it, and the servable.
fn check_spec<'s>(
    servable: &Servable,
    spec: &'s ModelSpec,
    first: &ModelSpec,
    seen: &mut BTreeSet<&'s str>,
) -> Result<()> {
    let signature = named(&spec.signature_name);
    if spec.name.is_empty() {
        return Err(Error::invalid("Found ModelSpec with an empty model name."));
    }
    if spec.name != first.name {
        return Err(Error::invalid(
            "All ModelSpecs in a MultiInferenceRequest must access the same model name.",
        ));
    }
    if !seen.insert(signature) {
        return Err(Error::invalid(format!("Duplicate evaluation of signature: {signature}")));
    }
    if servable.signature(signature).is_none() {
        return Err(Error::invalid(format!("Requested signature not found in model graph: {signature}")));
    }
    Ok(())
}

fn bound_task<'s>(
    server: &ServerState,
    servable: &'s Servable,
    task: &InferenceTask,
    spec: &ModelSpec,
) -> Result<examples::Task<'s>> {
    let signature = examples::find(servable, &spec.signature_name)?;
    match task.method_name.as_str() {
        examples::CLASSIFY => examples::classify_task(server, servable, signature),
        examples::REGRESS => examples::regress_task(server, servable, signature),
        other => Err(Error::new(Kind::Unimplemented, format!("Unsupported signature method_name: {other}"))),
    }
}
