//! Classify, Regress and MultiInference: resolve → decode → method → encode.

use super::reply::Reply;
use super::{Call, used};
use crate::error::Result;
use crate::methods::examples::{Answer, Classifications};
use crate::methods::{Context, ModelSpec, ServerState, messages};
use crate::pb::tensorflow::serving::{
    self as wire, ClassificationRequest, ClassificationResponse, ClassificationResult, InferenceResult,
    Input, MultiInferenceRequest, MultiInferenceResponse, RegressionRequest, RegressionResponse,
    RegressionResult, inference_result,
};
use crate::servable::Servable;

/// Answers for a servable what was asked with a spec and an input, in a context.
type Answering = fn(&ServerState, &Servable, ModelSpec, Option<Input>, &Context) -> Result<Reply>;

impl Call {
    pub(super) async fn classify(&self) -> Result<Reply> {
        let ClassificationRequest { model_spec, input } = self.decode()?;
        self.examples(model_spec, input, |server, servable, spec, input, context| {
            let name = spec.signature_name.clone();
            let result = Some(classes(messages::classify(server, servable, name, input, context)?));
            Reply::of(&ClassificationResponse { result, model_spec: Some(used(spec, servable)) })
        })
        .await
    }

    pub(super) async fn regress(&self) -> Result<Reply> {
        let RegressionRequest { model_spec, input } = self.decode()?;
        self.examples(model_spec, input, |server, servable, spec, input, context| {
            let name = spec.signature_name.clone();
            let result = Some(values(messages::regress(server, servable, name, input, context)?));
            Reply::of(&RegressionResponse { result, model_spec: Some(used(spec, servable)) })
        })
        .await
    }

    /// Resolves, and has `answer` do the rest where the servable's runs are done.
    async fn examples(
        &self,
        spec: Option<wire::ModelSpec>,
        input: Option<Input>,
        answer: Answering,
    ) -> Result<Reply> {
        let (spec, servable) = self.resolve(spec)?;
        let context = self.context.clone();
        let signature_name = spec.signature_name.clone();
        self.run(servable, &signature_name, move |server, servable| {
            answer(server, servable, spec, input, &context)
        })
        .await
    }

    pub(super) async fn multi_inference(&self) -> Result<Reply> {
        let MultiInferenceRequest { tasks, input } = self.decode()?;
        // The first task decides which servable is asked.
        let first = tasks.first().and_then(|task| task.model_spec.clone()).unwrap_or_default();
        let (spec, servable) = self.resolve(Some(first))?;
        let context = self.context.clone();
        self.run(servable, &spec.signature_name, move |server, servable| {
            let answers = messages::multi_inference(server, servable, &tasks, input, &context)?;
            let results = answers.into_iter();
            let results = results.map(|(spec, answer)| result(used(spec, servable), answer)).collect();
            Reply::of(&MultiInferenceResponse { results })
        })
        .await
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
