//! The observer around gRPC calls: it counts them, and takes samples where requests are recorded.

use super::rpc::Rpc;
use crate::error::{Error, Kind};
use crate::methods::ServerState;
use crate::methods::record::{self, Sample};
use crate::metrics::{Api, ModelCounts, Protocol};
use crate::pb::wire::{Fields, Value};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Instant;

/// A call under way whose outcome matters; one that is dropped was cancelled.
pub(super) struct Observer {
    counts: Option<Counts>,
    sample: Option<Sample>,
}

/// Where a call will be counted.
struct Counts {
    model: Arc<ModelCounts>,
    started: Instant,
    counted: Counted,
    /// What is counted when the call is dropped: it was cancelled, unless it has ended.
    outcome: Result<(), Kind>,
}

impl Drop for Counts {
    fn drop(&mut self) {
        match (&self.counted, self.outcome) {
            (Counted::Request(api), outcome) => {
                self.model.answered(Protocol::Grpc, Some(*api), self.started, outcome);
            }
            (Counted::Examples(examples), Ok(())) => self.model.inferred(*examples),
            (Counted::Examples(_), Err(_)) => {}
        }
    }
}

enum Counted {
    Request(Api),
    /// Multi-inference: so many examples.
    Examples(usize),
}

impl Observer {
    /// Begins to observe a call whose `message` was read, if calls of this kind are counted or recorded.
    pub(super) fn begin(server: &ServerState, rpc: Rpc, message: &Bytes) -> Option<Observer> {
        let (counts, sample) = (Counts::begin(server, rpc, message), sample(server, rpc, message));
        (counts.is_some() || sample.is_some()).then_some(Observer { counts, sample })
    }

    /// The call ended with `outcome`.
    pub(super) fn end<T>(self, outcome: &Result<T, Error>) {
        if let Some(mut counts) = self.counts {
            counts.outcome = outcome.as_ref().map(|_| ()).map_err(|error| error.kind);
        }
        if let Some(sample) = self.sample.filter(|_| outcome.is_ok()) {
            sample.keep();
        }
    }
}

/// The request, where it is to be recorded.
fn sample(server: &ServerState, rpc: Rpc, message: &Bytes) -> Option<Sample> {
    if !server.recorder.is_active() {
        return None;
    }
    let (name, kind) = match rpc {
        Rpc::Predict => (model_name(message), record::Kind::Predict),
        Rpc::Classify => (model_name(message), record::Kind::Classify),
        Rpc::Regress => (model_name(message), record::Kind::Regress),
        Rpc::MultiInference => (field(message, 1).and_then(model_name), record::Kind::MultiInference),
        Rpc::GetModelMetadata
        | Rpc::GetModelStatus
        | Rpc::HandleReloadConfigRequest
        | Rpc::Profile
        | Rpc::Terminate
        | Rpc::Monitor => return None,
    };
    server.recorder.sample(name?, kind, || message.clone())
}

impl Counts {
    fn begin(server: &ServerState, rpc: Rpc, message: &[u8]) -> Option<Counts> {
        let metrics = server.metrics.as_ref()?;
        let (name, counted) = match rpc {
            Rpc::Predict => (model_name(message), Counted::Request(Api::Predict)),
            Rpc::Classify => (model_name(message), Counted::Request(Api::Classify)),
            Rpc::Regress => (model_name(message), Counted::Request(Api::Regress)),
            Rpc::MultiInference => {
                let examples = field(message, 2).map_or(0, examples);
                (field(message, 1).and_then(model_name), Counted::Examples(examples))
            }
            Rpc::GetModelMetadata
            | Rpc::GetModelStatus
            | Rpc::HandleReloadConfigRequest
            | Rpc::Profile
            | Rpc::Terminate
            | Rpc::Monitor => return None,
        };
        let model = metrics.asked(name.unwrap_or_default());
        Some(Counts { model, started: Instant::now(), counted, outcome: Err(Kind::Cancelled) })
    }
}

/// The name in the `ModelSpec` that is field 1 of a request or of an inference task.
fn model_name(message: &[u8]) -> Option<&str> {
    std::str::from_utf8(field(field(message, 1)?, 1)?).ok()
}

/// The first message or string in field `wanted`.
fn field(message: &[u8], wanted: u32) -> Option<&[u8]> {
    Fields::new(message).flatten().find_map(|(number, value)| match value {
        Value::Bytes(bytes) if number == wanted => Some(bytes),
        Value::Bytes(_) | Value::Varint(_) | Value::Fixed64(_) | Value::Fixed32(_) => None,
    })
}

/// How many examples an `Input` holds, with a context (field 2) or without (field 1): field 1 of either.
fn examples(input: &[u8]) -> usize {
    let list = field(input, 1).or_else(|| field(input, 2)).unwrap_or_default();
    Fields::new(list).flatten().filter(|(number, _)| *number == 1).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::tensorflow::serving::{
        ExampleListWithContext, InferenceTask, Input, ModelSpec, MultiInferenceRequest, PredictRequest, input,
    };
    use prost::Message;

    fn spec() -> Option<ModelSpec> {
        Some(ModelSpec { name: "m".to_owned(), signature_name: "s".to_owned(), ..ModelSpec::default() })
    }

    #[test]
    fn the_name_is_found_where_it_lies() {
        let request = PredictRequest { model_spec: spec(), ..PredictRequest::default() };
        assert_eq!(model_name(&request.encode_to_vec()), Some("m"));
        assert_eq!(model_name(&[]), None);
        assert_eq!(model_name(&[0x0a, 9, 1]), None);
    }

    #[test]
    fn examples_are_counted_with_a_context_too() {
        let list = ExampleListWithContext { context: Bytes::new(), examples: vec![Bytes::new(); 3] };
        let input = Some(Input { kind: Some(input::Kind::ExampleListWithContext(list)) });
        let task = InferenceTask { model_spec: spec(), ..InferenceTask::default() };
        let request = MultiInferenceRequest { tasks: vec![task], input }.encode_to_vec();
        assert_eq!(field(&request, 1).and_then(model_name), Some("m"));
        assert_eq!(field(&request, 2).map(examples), Some(3));
    }
}
