//! What is told of the server, of a version of a model, and of its configuration in Triton's form.

use super::{datatype, refusal};
use crate::engine::signature::{Signature, TensorSpec};
use crate::error::{Error, Result};
use crate::methods::{ModelSpec, ServerState, bind};
use crate::registry::{State, VersionChoice};
use crate::servable::Servable;
use crate::tensor::DType;

/// The name of the server.
pub const SERVER_NAME: &str = "servable";
/// Its version.
pub const SERVER_VERSION: &str = env!("CARGO_PKG_VERSION");

/// The extensions of the protocol that are offered by both REST and gRPC.
pub const EXTENSIONS: [&str; 5] =
    ["classification", "model_configuration", "model_repository", "parameters", "statistics"];

/// What is told of a version: the tensors of one signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelMetadata {
    /// The versions that can be asked, oldest first.
    pub versions: Vec<i64>,
    /// What the model is made for, in Triton's words.
    pub platform: &'static str,
    /// What runs it, in Triton's words.
    pub backend: &'static str,
    /// The inputs of the signature.
    pub inputs: Vec<TensorMetadata>,
    /// The outputs of the signature.
    pub outputs: Vec<TensorMetadata>,
}

/// An input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorMetadata {
    /// Its name.
    pub name: String,
    /// Its type.
    pub dtype: DType,
    /// Its dimensions, -1 for unknown ones. Of an unknown rank: `[-1]`.
    pub shape: Vec<i64>,
}

impl TensorMetadata {
    fn of(spec: &TensorSpec) -> TensorMetadata {
        // Unknown dimensions are -1 in signatures, but files may have other negative numbers.
        let shape = spec.shape.as_ref().map(|shape| shape.iter().map(|dim| (*dim).max(-1)).collect());
        TensorMetadata {
            name: spec.alias.clone(),
            dtype: spec.dtype,
            shape: shape.unwrap_or_else(|| vec![-1]),
        }
    }

    /// Returns the protocol's name of its type; TensorFlow's if the protocol has none.
    pub fn datatype(&self) -> &'static str {
        datatype::any_name(self.dtype)
    }
}

/// Returns what is told of `servable`, the version that `spec` names.
pub fn of_model(
    server: &ServerState,
    spec: &ModelSpec,
    servable: Result<&Servable, &Error>,
) -> Result<ModelMetadata> {
    let servable = super::served(server, spec, servable)?;
    let signature: &Signature = bind::signature(server, servable, &spec.signature_name)?;
    let versions = match &spec.choice {
        VersionChoice::Version(_) | VersionChoice::Label(_) => vec![servable.version()],
        VersionChoice::Latest => available(server, &spec.name)?,
    };
    let (platform, backend) = platform(servable.engine());
    Ok(ModelMetadata {
        versions,
        platform,
        backend,
        inputs: signature.inputs.iter().map(TensorMetadata::of).collect(),
        outputs: signature.outputs.iter().map(TensorMetadata::of).collect(),
    })
}

fn available(server: &ServerState, name: &str) -> Result<Vec<i64>> {
    let states = server.registry.status(name, None)?;
    let ready = states.iter().filter(|status| status.state == State::Available);
    Ok(ready.rev().map(|status| status.version).collect())
}

/// Returns the platform and the backend of an engine, in Triton's words where it has them.
fn platform(engine: &str) -> (&'static str, &'static str) {
    match engine {
        "tensorflow" => ("tensorflow_savedmodel", "tensorflow"),
        "onnx" => ("onnxruntime_onnx", "onnxruntime"),
        "openvino" => ("openvino", "openvino"),
        "tflite" => ("tflite", "tflite"),
        _ => ("", ""),
    }
}

/// Most rows that a request of a model is told to have, where all its tensors are rows of any number: there is no limit
/// but the size of a request.
pub const MAX_BATCH_SIZE: i32 = 65_536;

/// The configuration of a model in Triton's form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelConfig {
    /// What is told of the model.
    pub metadata: ModelMetadata,
    /// Most rows of a request; 0 if the model's tensors are no rows. Then their first dimension is not told.
    pub max_batch_size: i32,
}

impl ModelConfig {
    /// Returns the dimensions of an input or output without that of the rows.
    pub fn dims<'t>(&self, tensor: &'t TensorMetadata) -> &'t [i64] {
        if self.max_batch_size > 0 { &tensor.shape[1..] } else { &tensor.shape }
    }
}

/// Returns the configuration of `servable`, the version that `spec` names.
pub fn config(
    server: &ServerState,
    spec: &ModelSpec,
    servable: Result<&Servable, &Error>,
) -> Result<ModelConfig> {
    let metadata = of_model(server, spec, servable)?;
    let rows = are_rows(&metadata.inputs, &metadata.outputs);
    Ok(ModelConfig { max_batch_size: if rows { MAX_BATCH_SIZE } else { 0 }, metadata })
}

/// Returns whether the tensors of a signature are rows of any number.
pub fn is_in_rows(signature: &Signature) -> bool {
    let all = |specs: &[TensorSpec]| specs.iter().map(TensorMetadata::of).collect::<Vec<_>>();
    are_rows(&all(&signature.inputs), &all(&signature.outputs))
}

fn are_rows(inputs: &[TensorMetadata], outputs: &[TensorMetadata]) -> bool {
    // A row that is a single number has no dimensions, which Triton's tools do not take for an input. Of an unknown rank,
    // too, the shape is `[-1]`.
    !inputs.is_empty()
        && inputs.iter().all(|input| input.shape.len() > 1)
        && inputs.iter().chain(outputs).all(|tensor| tensor.shape.first() == Some(&-1))
}

/// Returns the name in a reply: `None` if the protocol cannot tell the type.
pub fn datatype_of(name: &str, tensor: &crate::tensor::Tensor) -> Result<&'static str> {
    datatype::name(tensor.dtype()).ok_or_else(|| refusal::unsayable(tensor, name))
}
