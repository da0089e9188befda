//! Answers as protobuf messages of TensorFlow Serving's API: sent by gRPC, or kept in the payload log.

use super::Answer;
use super::examples::{Classifications, TaskAnswer};
use crate::engine::signature::named;
use crate::methods::ModelSpec;
use crate::pb::tensor::Encoded;
use crate::pb::tensorflow::serving::model_spec::VersionChoice;
use crate::pb::tensorflow::serving::{
    self as wire, ClassificationResponse, ClassificationResult, InferenceResult, MultiInferenceResponse,
    PredictResponse, RegressionResponse, RegressionResult, inference_result,
};
use crate::pb::wire::Pieces;
use crate::servable::Servable;
use crate::tensor::Tensor;
use bytes::Bytes;
use prost::Message;

/// Returns the spec of what `servable` has answered: the name and signature as asked for, and its version.
pub fn used(name: &str, signature: &str, servable: &Servable) -> wire::ModelSpec {
    wire::ModelSpec {
        name: name.to_owned(),
        signature_name: named(signature).to_owned(),
        version_choice: Some(VersionChoice::Version(servable.version())),
    }
}

/// Returns the response of `servable` to a request for `signature`, serialized.
pub fn response(servable: &Servable, signature: &str, answer: &Answer<'_>) -> Bytes {
    let model_spec = || Some(used(servable.name(), signature, servable));
    let serialized = match answer {
        Answer::Outputs(outputs) => {
            let outputs =
                outputs.iter().map(|(alias, tensor)| ((*alias).to_owned(), proto(tensor))).collect();
            PredictResponse { outputs, model_spec: model_spec() }.encode_to_vec()
        }
        Answer::Classes(answer) => {
            let result = Some(classes(answer));
            ClassificationResponse { result, model_spec: model_spec() }.encode_to_vec()
        }
        Answer::Values(answer) => {
            let result = Some(values(answer));
            RegressionResponse { result, model_spec: model_spec() }.encode_to_vec()
        }
        Answer::Tasks(answers) => multi_inference(servable, answers).encode_to_vec(),
    };
    serialized.into()
}

/// Serializes a `TensorProto`.
pub(super) fn proto(tensor: &Tensor) -> Bytes {
    let encoded = Encoded::new(tensor, true);
    let mut out = Pieces::with_capacity(encoded.len());
    encoded.write(&mut out);
    out.joined()
}

/// Returns the response to a multi-inference.
pub fn multi_inference(servable: &Servable, answers: &[(ModelSpec, TaskAnswer)]) -> MultiInferenceResponse {
    let result = |(spec, answer): &(ModelSpec, TaskAnswer)| InferenceResult {
        model_spec: Some(used(&spec.name, &spec.signature_name, servable)),
        result: Some(match answer {
            TaskAnswer::Classes(answer) => inference_result::Result::ClassificationResult(classes(answer)),
            TaskAnswer::Values(answer) => inference_result::Result::RegressionResult(values(answer)),
        }),
    };
    MultiInferenceResponse { results: answers.iter().map(result).collect() }
}

/// Returns the classes of each example.
pub fn classes(answer: &Classifications) -> ClassificationResult {
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

/// Returns the number for each example.
pub fn values(answer: &[f32]) -> RegressionResult {
    RegressionResult { regressions: answer.iter().map(|value| wire::Regression { value: *value }).collect() }
}
