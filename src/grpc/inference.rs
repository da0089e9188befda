//! `PredictionService.Classify`, `Regress` and `MultiInference`.

use super::model_call::{Method, unexpected, used};
use super::reply::Reply;
use crate::error::Result;
use crate::methods::examples::{self, Classifications};
use crate::methods::observer::Counted;
use crate::methods::{Answer, Context, ModelSpec, Request, ServerState, messages};
use crate::metrics::Api;
use crate::pb::tensorflow::serving::{
    self as wire, ClassificationRequest, ClassificationResponse, ClassificationResult, InferenceResult,
    MultiInferenceRequest, MultiInferenceResponse, RegressionRequest, RegressionResponse, RegressionResult,
    inference_result, input,
};
use crate::servable::Servable;

impl Method for ClassificationRequest {
    fn take_spec(&mut self) -> Option<wire::ModelSpec> {
        self.model_spec.take()
    }

    fn counted(&self) -> Counted {
        Counted::Request(Api::Classify)
    }

    fn request(self, _: &ServerState, _: &Servable, signature: &str, context: &Context) -> Result<Request> {
        messages::examples(signature.to_owned(), self.input, context).map(Request::Classify)
    }

    fn reply(_: &ServerState, servable: &Servable, spec: ModelSpec, answer: Answer<'_>) -> Result<Reply> {
        let Answer::Classes(answer) = answer else { return Err(unexpected(&answer)) };
        let result = Some(classes(answer));
        Reply::of(&ClassificationResponse { result, model_spec: Some(used(spec, servable)) })
    }
}

impl Method for RegressionRequest {
    fn take_spec(&mut self) -> Option<wire::ModelSpec> {
        self.model_spec.take()
    }

    fn counted(&self) -> Counted {
        Counted::Request(Api::Regress)
    }

    fn request(self, _: &ServerState, _: &Servable, signature: &str, context: &Context) -> Result<Request> {
        messages::examples(signature.to_owned(), self.input, context).map(Request::Regress)
    }

    fn reply(_: &ServerState, servable: &Servable, spec: ModelSpec, answer: Answer<'_>) -> Result<Reply> {
        let Answer::Values(answer) = answer else { return Err(unexpected(&answer)) };
        let result = Some(values(answer));
        Reply::of(&RegressionResponse { result, model_spec: Some(used(spec, servable)) })
    }
}

impl Method for MultiInferenceRequest {
    /// Takes the model spec of the first task, which decides the servable.
    fn take_spec(&mut self) -> Option<wire::ModelSpec> {
        Some(self.tasks.first().and_then(|task| task.model_spec.clone()).unwrap_or_default())
    }

    fn counted(&self) -> Counted {
        Counted::Examples(match self.input.as_ref().and_then(|input| input.kind.as_ref()) {
            None => 0,
            Some(input::Kind::ExampleList(list)) => list.examples.len(),
            Some(input::Kind::ExampleListWithContext(list)) => list.examples.len(),
        })
    }

    fn request(
        self,
        server: &ServerState,
        servable: &Servable,
        _: &str,
        context: &Context,
    ) -> Result<Request> {
        messages::multi_inference(server, servable, self.tasks, self.input, context)
    }

    fn reply(_: &ServerState, servable: &Servable, _: ModelSpec, answer: Answer<'_>) -> Result<Reply> {
        let Answer::Tasks(answers) = answer else { return Err(unexpected(&answer)) };
        let results = answers.into_iter().map(|(spec, answer)| result(used(spec, servable), answer));
        Reply::of(&MultiInferenceResponse { results: results.collect() })
    }
}

fn result(model_spec: wire::ModelSpec, answer: examples::TaskAnswer) -> InferenceResult {
    let result = match answer {
        examples::TaskAnswer::Classes(answer) => {
            inference_result::Result::ClassificationResult(classes(answer))
        }
        examples::TaskAnswer::Values(answer) => inference_result::Result::RegressionResult(values(answer)),
    };
    InferenceResult { model_spec: Some(model_spec), result: Some(result) }
}

fn classes(answer: Classifications) -> ClassificationResult {
    let class = |index: usize| wire::Class {
        // A protobuf string cannot hold a label that is not UTF-8.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::tensorflow::serving::{ExampleListWithContext, Input};
    use bytes::Bytes;

    #[test]
    fn examples_are_counted_with_a_context_too() {
        let list = ExampleListWithContext { context: Bytes::new(), examples: vec![Bytes::new(); 3] };
        let input = Some(Input { kind: Some(input::Kind::ExampleListWithContext(list)) });
        let request = MultiInferenceRequest { tasks: Vec::new(), input };
        assert_eq!(request.counted(), Counted::Examples(3));
        assert_eq!(MultiInferenceRequest::default().counted(), Counted::Examples(0));
    }
}
