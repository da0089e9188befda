//! The inputs and outputs of a loaded version: names, dtypes and declared shapes.

use crate::tensor::{DType, Tensor};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The signature for requests that name none.
pub const DEFAULT_SIGNATURE: &str = "serving_default";

/// Returns the name of the signature that a request means; an empty one is the default.
pub fn named(signature: &str) -> &str {
    if signature.is_empty() { DEFAULT_SIGNATURE } else { signature }
}

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
    /// The key in the SavedModel; shared with the requests for it.
    pub name: Arc<str>,
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
