//! Inputs that need the number of dimensions that their model declares.
//!
//! With fewer, oneDNN's kernels of convolutions end the process (`Check failed: index >= 0 && index < num_total_dims` of
//! `tensor_format.h` in TensorFlow 2.21), where TensorFlow's own give an error. TensorFlow uses oneDNN by itself on
//! processors with AVX512_VNNI. Other sizes than declared are an error with either, or no fault at all.

use super::saved_model::Meta;
use crate::engine::Endpoint;
use crate::engine::signature::TensorSpec;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// Operations that end the process, also as a part of another's name (`_FusedConv2D`). Found by trying oneDNN's kernels, one by
/// one, with inputs of every number of dimensions.
const OPERATIONS: [&str; 4] = ["Conv2D", "Conv3D", "DepthwiseConv2dNative", "MaxPool3D"];

/// Returns whether `op` is one of these operations.
pub(super) fn are_needed_by(op: &str) -> bool {
    OPERATIONS.iter().any(|part| op.contains(part))
}

/// The inputs that need it, by endpoint.
#[derive(Default)]
pub(super) struct Ranks(Vec<Option<TensorSpec>>);

impl Ranks {
    /// Returns what the signatures of `meta` declare; `endpoints` are the names of its tensors, sorted. Nothing for those
    /// without such an operation, and for inputs of any number of dimensions.
    pub(super) fn of(meta: &Meta, endpoints: &[String]) -> Ranks {
        let mut ranks = Ranks::default();
        let signatures = meta.signatures.values().filter(|signature| meta.needs_ranks(&signature.name));
        let inputs = signatures.flat_map(|signature| &signature.inputs);
        for input in inputs.filter(|input| input.shape.is_some()) {
            let Ok(at) = endpoints.binary_search(&input.tensor) else { continue };
            ranks.0.resize(endpoints.len(), None);
            ranks.0[at] = Some(input.clone());
        }
        ranks
    }

    /// Fails if `tensor` has another number of dimensions than is declared for `endpoint`.
    pub(super) fn check(&self, endpoint: Endpoint, tensor: &Tensor) -> Result<()> {
        let Some(Some(input)) = self.0.get(endpoint.0 as usize) else { return Ok(()) };
        let Some(declared) = &input.shape else { return Ok(()) };
        let (expected, came) = (declared.len(), tensor.shape().len());
        if expected == came {
            return Ok(());
        }
        let (alias, shape) = (&input.alias, tensor.shape());
        Err(Error::invalid(format!(
            "Input \"{alias}\" must have {expected} dimensions, as the model declares: {declared:?}; it has {came}: {shape:?}"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::signature::Signature;
    use crate::engine::tensorflow::effects::{self, Effects};
    use crate::pb::tensorflow::{GraphDef, NodeDef};
    use crate::tensor::DType;
    use std::collections::{BTreeMap, BTreeSet};

    fn effects_of(op: &str) -> Effects {
        let node = NodeDef { name: "y".to_owned(), op: op.to_owned(), ..NodeDef::default() };
        let graph = GraphDef { node: vec![node], ..GraphDef::default() };
        effects::of(&graph, &BTreeSet::new(), std::iter::once("y:0"))
    }

    /// The ranks of a model whose inputs `a` and `b`, before its other endpoint, are declared so, and have this operation.
    fn ranks(op: &str, shape: Option<Vec<i64>>) -> Ranks {
        let input = |alias: &str, shape: &Option<Vec<i64>>| TensorSpec {
            alias: alias.to_owned(),
            tensor: format!("{alias}:0"),
            dtype: DType::Int8,
            shape: shape.clone(),
        };
        let signature = Signature {
            name: "f".into(),
            method_name: String::new(),
            inputs: vec![input("a", &None), input("b", &shape)],
            outputs: vec![],
            defaults: BTreeMap::new(),
        };
        let meta = Meta {
            signatures: [("f".to_owned(), signature)].into(),
            effects: [("f".to_owned(), effects_of(op))].into(),
            ..Meta::default()
        };
        Ranks::of(&meta, &["a:0", "b:0", "c:0"].map(str::to_owned))
    }

    fn checked(ranks: &Ranks, endpoint: u32, shape: &[i64]) -> Result<()> {
        let length = usize::try_from(shape.iter().product::<i64>()).unwrap();
        ranks.check(Endpoint(endpoint), &Tensor::numbers(DType::Int8, shape.to_vec(), vec![0; length].into()))
    }

    #[test]
    fn only_another_number_of_dimensions_is_refused() {
        for op in ["Conv2D", "_FusedConv2D", "Conv3D", "DepthwiseConv2dNative", "MaxPool3D"] {
            let ranks = ranks(op, Some(vec![-1, 8, 8, 3]));
            for good in [[1, 8, 8, 3], [2, 1, 9, 0], [0, 0, 0, 0]] {
                assert_eq!(checked(&ranks, 1, &good), Ok(()), "{op}");
            }
            for bad in [&[][..], &[3], &[1, 1], &[8, 8, 3], &[1, 1, 1, 1, 1]] {
                let why = checked(&ranks, 1, bad).unwrap_err().message;
                let (came, shape) = (bad.len(), format!("{bad:?}"));
                assert_eq!(
                    why,
                    format!(
                        "Input \"b\" must have 4 dimensions, as the model declares: [-1, 8, 8, 3]; it has {came}: {shape}"
                    )
                );
            }
            assert_eq!([checked(&ranks, 0, &[1]), checked(&ranks, 2, &[1])], [Ok(()), Ok(())]);
        }
    }

    #[test]
    fn without_such_an_operation_or_a_declaration_everything_passes() {
        for (op, shape) in [("MatMul", Some(vec![-1, 4])), ("MaxPool", Some(vec![])), ("Conv2D", None)] {
            assert_eq!(checked(&ranks(op, shape), 1, &[1, 2, 3]), Ok(()), "{op}");
        }
    }
}
