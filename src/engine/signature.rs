//! The inputs and outputs of a loaded version: names, dtypes and declared shapes.

use crate::tensor::{DType, Tensor};
use std::collections::BTreeMap;

/// The signature for requests that name none.
pub const DEFAULT_SIGNATURE: &str = "serving_default";

/// One input or output of a signature.
#[derive(Clone, Debug)]
pub struct TensorSpec {
    /// The name used by clients.
    pub alias: String,
    /// The tensor in the graph, such as `x:0`.
    pub tensor: String,
    /// The declared dtype (of the value, even if the graph has a reference).
    pub dtype: DType,
    /// The declared shape, -1 for unknown dimensions; `None` if the rank is unknown. Not checked before a run, as in
    /// TensorFlow Serving.
    pub shape: Option<Vec<i64>>,
}

/// One way to call a model.
#[derive(Clone, Debug)]
pub struct Signature {
    /// The key in the SavedModel.
    pub name: String,
    /// `tensorflow/serving/predict`, `…/classify`, `…/regress` or anything else.
    pub method_name: String,
    /// Sorted by alias.
    pub inputs: Vec<TensorSpec>,
    /// Sorted by alias.
    pub outputs: Vec<TensorSpec>,
    /// Values for inputs missing from a request, by alias.
    pub defaults: BTreeMap<String, Tensor>,
}

impl Signature {
    /// Returns the position of input `alias`.
    pub fn input(&self, alias: &str) -> Option<usize> {
        self.inputs.binary_search_by(|spec| spec.alias.as_str().cmp(alias)).ok()
    }

    /// Returns the position of output `alias`.
    pub fn output(&self, alias: &str) -> Option<usize> {
        self.outputs.binary_search_by(|spec| spec.alias.as_str().cmp(alias)).ok()
    }
}
