//! Converts the protobuf requests of TensorFlow Serving's API, checked against one version: received by gRPC or read
//! from warm-up files.

use super::examples::{self, TaskMethod};
use super::{Context, ModelSpec, Request, ServerState, bind, parsed_example};
use crate::engine::signature::named;
use crate::error::{Error, Result};
use crate::pb::tensor;
use crate::pb::tensorflow::Example;
use crate::pb::tensorflow::serving::model_spec::VersionChoice as Choice;
use crate::pb::tensorflow::serving::{self as wire, InferenceTask, Input, PredictRequest, input};
use crate::profile::{self, Phase};
use crate::registry::VersionChoice;
use crate::servable::Servable;
use crate::tensor::Strings;
use bytes::Bytes;
use prost::Message;
use std::collections::BTreeSet;

/// Converts `request` to a request for signature `name`; its `model_spec` is ignored.
pub fn predict(
    server: &ServerState,
    servable: &Servable,
    name: &str,
    request: PredictRequest,
    context: &Context,
) -> Result<Request> {
    let signature = bind::signature(server, servable, name)?;
    let _decode = profile::phase(Phase::Decode);
    let inputs = bind::inputs(signature, request.inputs, |alias, proto| {
        let malformed = |_| Error::invalid(format!("tensor parsing error: {alias}"));
        let encoded = tensor::open(proto).map_err(malformed)?;
        context.memory.grow(encoded.drawn_out().saturating_add(encoded.copied()))?;
        encoded.read().map_err(malformed)
    })?;
    let outputs = bind::outputs(signature, request.output_filter.iter().map(Ok))?;
    Ok(Request::Predict { signature: signature.name.clone(), inputs, outputs })
}

/// Converts the examples of `input` for signature `name`, to be classified or regressed.
pub fn examples(name: String, input: Option<Input>, context: &Context) -> Result<examples::Input> {
    Ok(examples::Input { signature_name: name, examples: serialized(input, context)? })
}

/// Converts the examples of `input` and the tasks of `servable` for them.
pub fn multi_inference(
    server: &ServerState,
    servable: &Servable,
    tasks: Vec<InferenceTask>,
    input: Option<Input>,
    context: &Context,
) -> Result<Request> {
    let mut seen = BTreeSet::new();
    let mut checked: Vec<(ModelSpec, TaskMethod)> = Vec::with_capacity(tasks.len());
    for task in tasks {
        let spec = model_spec(task.model_spec.unwrap_or_default());
        let first = checked.first().map_or(&spec, |(first, _)| first);
        check_spec(servable, &spec, first, &mut seen)?;
        let method = examples::method(server, servable, &spec.signature_name, &task.method_name)?;
        checked.push((spec, method));
    }
    if checked.is_empty() {
        return Err(Error::invalid("Missing ModelSpec"));
    }
    Ok(Request::MultiInference { tasks: checked, examples: serialized(input, context)? })
}

/// Converts a `ModelSpec`.
pub fn model_spec(spec: wire::ModelSpec) -> ModelSpec {
    let choice = match spec.version_choice {
        None => VersionChoice::Latest,
        Some(Choice::Version(version)) => VersionChoice::Version(version),
        Some(Choice::VersionLabel(label)) => VersionChoice::Label(label),
    };
    ModelSpec { name: spec.name, choice, signature_name: spec.signature_name }
}

/// Returns one serialized Example per element, preceded by the context if there is one: protobuf merges concatenated
/// messages, and the later entry wins.
fn serialized(input: Option<Input>, context: &Context) -> Result<Strings> {
    let _decode = profile::phase(Phase::Decode);
    match input.and_then(|input| input.kind) {
        None => Ok(Strings::default()),
        Some(input::Kind::ExampleList(list)) => {
            list.examples
                .iter()
                .enumerate()
                .try_for_each(|(index, example)| check(&format!("{index}"), example, context))?;
            // The strings are joined.
            context.memory.grow(list.examples.iter().map(Bytes::len).sum())?;
            Ok(list.examples.iter().collect())
        }
        Some(input::Kind::ExampleListWithContext(list)) => {
            check("context", &list.context, context)?;
            list.examples
                .iter()
                .enumerate()
                .try_for_each(|(index, example)| check(&format!("{index}"), example, context))?;
            let repeated = list.context.len().saturating_mul(list.examples.len());
            let joined: usize = list.examples.iter().map(Bytes::len).sum();
            // Once per copy, and once in the joined strings.
            context.memory.grow(repeated.saturating_mul(2).saturating_add(joined))?;
            Ok(list.examples.iter().map(|example| [&list.context[..], example].concat()).collect())
        }
    }
}

/// Checks that `example` parses, and drops the result. Its memory, which may be much more than on the wire, is counted
/// meanwhile.
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

/// Checks a task's spec against the first one, the signatures `seen` before, and the servable.
fn check_spec(
    servable: &Servable,
    spec: &ModelSpec,
    first: &ModelSpec,
    seen: &mut BTreeSet<String>,
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
    if !seen.insert(signature.to_owned()) {
        return Err(Error::invalid(format!("Duplicate evaluation of signature: {signature}")));
    }
    if servable.signature(signature).is_none() {
        return Err(Error::invalid(format!("Requested signature not found in model graph: {signature}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Account, Budget, Reservation};
    use crate::pb::tensorflow::feature::Kind;
    use crate::pb::tensorflow::serving::{ExampleList, ExampleListWithContext};
    use crate::pb::tensorflow::{BytesList, Feature, Features};
    use std::sync::Arc;

    const SIZE: usize = 1 << 20;

    fn example() -> Bytes {
        let value = vec![Bytes::from(vec![0; SIZE])];
        let feature = Feature { kind: Some(Kind::BytesList(BytesList { value })) };
        let features = Features { feature: [("x".to_owned(), feature)].into() };
        Example { features: Some(features) }.encode_to_vec().into()
    }

    #[test]
    fn examples_count_once_more_when_they_are_joined() {
        let list = vec![example(); 2];
        let with_context = ExampleListWithContext { examples: list.clone(), context: Bytes::new() };
        for kind in [
            input::Kind::ExampleList(ExampleList { examples: list }),
            input::Kind::ExampleListWithContext(with_context),
        ] {
            let input = || Some(Input { kind: Some(kind.clone()) });
            let held = |budget| {
                let memory = Arc::new(Reservation::new(Account::new(Budget::new(budget))));
                let context = Context { memory, ..Context::default() };
                examples(String::new(), input(), &context).map(|_| context.memory.bytes())
            };
            assert!((2 * SIZE..3 * SIZE).contains(&held(16 * SIZE).unwrap()));
            assert_eq!(held(3 * SIZE).unwrap_err().http_status(), 413, "half of it is for one connection");
        }
    }
}
