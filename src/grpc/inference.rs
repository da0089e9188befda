//! `PredictionService.Classify`, `Regress` and `MultiInference`.

use super::model_call::{Method, unexpected, used};
use super::reply::Reply;
use crate::error::Result;
use crate::methods::observer::Counted;
use crate::methods::{Answer, Context, ModelSpec, Request, ServerState, messages, responses};
use crate::metrics::Api;
use crate::pb::tensorflow::serving::{
    self as wire, ClassificationRequest, ClassificationResponse, MultiInferenceRequest, RegressionRequest,
    RegressionResponse, input,
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
        let result = Some(responses::classes(&answer));
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
        let result = Some(responses::values(&answer));
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
        Reply::of(&responses::multi_inference(servable, &answers))
    }
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
