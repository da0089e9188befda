//! Classify, Regress and MultiInference: resolve → decode → method → encode.

use super::reply::Reply;
use super::{Call, model_spec, named, used};
use crate::error::{Error, Kind, Result};
use crate::methods::examples::{self, Answer, Classifications};
use crate::methods::{ModelSpec, Room};
use crate::pb::tensorflow::Example;
use crate::pb::tensorflow::serving::{
    self as wire, ClassificationRequest, ClassificationResponse, ClassificationResult, InferenceResult,
    InferenceTask, Input, MultiInferenceRequest, MultiInferenceResponse, RegressionRequest,
    RegressionResponse, RegressionResult, inference_result, input,
};
use crate::profile::{self, Phase};
use crate::servable::Servable;
use crate::tensor::Strings;
use bytes::Bytes;
use prost::Message;
use std::collections::BTreeSet;
use std::time::Instant;

impl Call {
    pub(super) async fn classify(&self) -> Result<Reply> {
        let ClassificationRequest { model_spec, input } = self.decode()?;
        self.examples(model_spec, input, |room, servable, spec, input, deadline| {
            let result = Some(classes(examples::classify(room, servable, input, deadline)?));
            Reply::of(&ClassificationResponse { result, model_spec: Some(used(spec, servable)) })
        })
        .await
    }

    pub(super) async fn regress(&self) -> Result<Reply> {
        let RegressionRequest { model_spec, input } = self.decode()?;
        self.examples(model_spec, input, |room, servable, spec, input, deadline| {
            let result = Some(values(examples::regress(room, servable, input, deadline)?));
            Reply::of(&RegressionResponse { result, model_spec: Some(used(spec, servable)) })
        })
        .await
    }

    /// Resolves, and has `answer` do the rest where the servable's runs are done.
    async fn examples(
        &self,
        spec: Option<wire::ModelSpec>,
        input: Option<Input>,
        answer: fn(&Room, &Servable, ModelSpec, examples::Input, Option<Instant>) -> Result<Reply>,
    ) -> Result<Reply> {
        let (spec, servable) = self.resolve(spec)?;
        let deadline = self.deadline;
        let signature_name = spec.signature_name.clone();
        self.run(servable, &spec.signature_name.clone(), move |room, servable| {
            let input = examples::Input { signature_name, examples: serialized(input)? };
            answer(room, servable, spec, input, deadline)
        })
        .await
    }

    pub(super) async fn multi_inference(&self) -> Result<Reply> {
        let MultiInferenceRequest { tasks, input } = self.decode()?;
        // The first task decides which servable is asked.
        let first = tasks.first().and_then(|task| task.model_spec.clone()).unwrap_or_default();
        let (spec, servable) = self.resolve(Some(first))?;
        let deadline = self.deadline;
        self.run(servable, &spec.signature_name, move |room, servable| {
            let specs = task_specs(servable, &tasks)?;
            let bound = tasks.iter().zip(&specs).map(|(task, spec)| bound_task(room, servable, task, spec));
            let bound = bound.collect::<Result<Vec<_>>>()?;
            // A request without tasks did not come this far: it names no model.
            let first = named(&specs[0].signature_name);
            let answers = examples::run(servable, first, &bound, serialized(input)?, deadline)?;
            let results = specs.iter().cloned().zip(answers);
            let results = results.map(|(spec, answer)| result(used(spec, servable), answer)).collect();
            Reply::of(&MultiInferenceResponse { results })
        })
        .await
    }
}

/// One serialized Example per element, the context in front where there is one: protobuf merges what is concatenated,
/// and the later entry wins.
fn serialized(input: Option<Input>) -> Result<Strings> {
    let _decode = profile::phase(Phase::Decode);
    match input.and_then(|input| input.kind) {
        None => Ok(Strings::default()),
        Some(input::Kind::ExampleList(list)) => {
            list.examples
                .iter()
                .enumerate()
                .try_for_each(|(index, example)| check(&format!("{index}"), example))?;
            Ok(list.examples.iter().collect())
        }
        Some(input::Kind::ExampleListWithContext(list)) => {
            check("context", &list.context)?;
            list.examples
                .iter()
                .enumerate()
                .try_for_each(|(index, example)| check(&format!("{index}"), example))?;
            Ok(list.examples.iter().map(|example| [&list.context[..], example].concat()).collect())
        }
    }
}

fn check(which: &str, example: &Bytes) -> Result<()> {
    match Example::decode(example.clone()) {
        Ok(_) => Ok(()),
        Err(why) => Err(Error::invalid(format!("Could not parse example input ({which}): {why}"))),
    }
}

/// What each task asks for, checked against the others and the servable.
fn task_specs(servable: &Servable, tasks: &[InferenceTask]) -> Result<Vec<ModelSpec>> {
    let specs: Vec<_> =
        tasks.iter().map(|task| model_spec(task.model_spec.clone().unwrap_or_default())).collect();
    let mut seen = BTreeSet::new();
    for spec in &specs {
        let signature = named(&spec.signature_name);
        if spec.name.is_empty() {
            return Err(Error::invalid("Found ModelSpec with an empty model name."));
        }
        if spec.name != specs[0].name {
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
    }
    Ok(specs)
}

fn bound_task<'s>(
    room: &Room,
    servable: &'s Servable,
    task: &InferenceTask,
    spec: &ModelSpec,
) -> Result<examples::Task<'s>> {
    let signature = examples::find(servable, &spec.signature_name)?;
    match task.method_name.as_str() {
        examples::CLASSIFY => examples::classify_task(room, servable, signature),
        examples::REGRESS => examples::regress_task(room, servable, signature),
        other => Err(Error::new(Kind::Unimplemented, format!("Unsupported signature method_name: {other}"))),
    }
}

fn result(model_spec: wire::ModelSpec, answer: Answer) -> InferenceResult {
    let result = match answer {
        Answer::Classes(answer) => inference_result::Result::ClassificationResult(classes(answer)),
        Answer::Values(answer) => inference_result::Result::RegressionResult(values(answer)),
    };
    InferenceResult { model_spec: Some(model_spec), result: Some(result) }
}

fn classes(answer: Classifications) -> ClassificationResult {
    let class = |index: usize| wire::Class {
        // A label that is not UTF-8 has no place in a protobuf string.
        label: answer
            .labels
            .as_ref()
            .map_or_else(String::new, |labels| String::from_utf8_lossy(labels.get(index)).into_owned()),
        score: answer.scores.as_ref().map_or(0.0, |scores| scores[index]),
    };
    let row = |row: usize| wire::Classifications {
        classes: (row * answer.columns..(row + 1) * answer.columns).map(class).collect(),
    };
    ClassificationResult { classifications: (0..answer.rows).map(row).collect() }
}

fn values(answer: Vec<f32>) -> RegressionResult {
    RegressionResult { regressions: answer.into_iter().map(|value| wire::Regression { value }).collect() }
}
