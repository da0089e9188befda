//! What a loaded version accepts and answers: names, dtypes and declared shapes.

use crate::tensor::{DType, Tensor};
use std::collections::BTreeMap;

/// The signature used when a request names none.
pub const DEFAULT_SIGNATURE: &str = "serving_default";

/// One input or output of a signature.
#[derive(Clone, Debug)]
pub struct TensorSpec {
    /// The name that clients use.
    pub alias: String,
    /// The graph's tensor, such as `x:0`.
    pub tensor: String,
    /// The declared dtype (of the value, also where the graph has a reference).
    pub dtype: DType,
    /// The declared shape, -1 for unknown dimensions; `None` where the rank is unknown.
    /// Never enforced before a run: TensorFlow Serving does not.
    pub shape: Option<Vec<i64>>,
}

/// One way to call a model.
#[derive(Clone, Debug)]
pub struct Signature {
    /// Its key in the SavedModel.
    pub name: String,
    /// `tensorflow/serving/predict`, `…/classify`, `…/regress` or anything else.
    pub method_name: String,
    /// Sorted by alias.
    pub inputs: Vec<TensorSpec>,
    /// Sorted by alias.
    pub outputs: Vec<TensorSpec>,
    /// Values for inputs that a request leaves out, by alias.
    pub defaults: BTreeMap<String, Tensor>,
}

impl Signature {
    /// The position of input `alias`.
    pub fn input(&self, alias: &str) -> Option<usize> {
        self.inputs.binary_search_by(|spec| spec.alias.as_str().cmp(alias)).ok()
    }

    /// The position of output `alias`.
    pub fn output(&self, alias: &str) -> Option<usize> {
        self.outputs.binary_search_by(|spec| spec.alias.as_str().cmp(alias)).ok()
    }
}
