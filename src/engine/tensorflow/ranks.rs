//! Inputs whose shape could end the process.
//!
//! With fewer dimensions than declared, oneDNN's kernels of convolutions end it (`Check failed: index >= 0 && index <
//! num_total_dims` of `tensor_format.h` in TensorFlow 2.21), where TensorFlow's own give an error. TensorFlow uses oneDNN
//! by itself on processors with AVX512_VNNI. And what XLA compiles divides by dimensions, such as the channels of a
//! convolution in groups. Other sizes than declared are an error, or no fault at all.

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

/// What is asked of an input.
#[derive(Clone)]
struct Need {
    input: TensorSpec,
    /// As many dimensions as declared.
    rank: bool,
    /// No dimension of 0 where another size is declared.
    sizes: bool,
}

/// The inputs of which something is asked, by endpoint.
#[derive(Default)]
pub(super) struct Ranks(Vec<Option<Need>>);

impl Ranks {
    /// Returns what is asked of the inputs of `meta`, whose tensors have the names `endpoints`, sorted. Nothing where the
    /// model takes any shape.
    pub(super) fn of(meta: &Meta, endpoints: &[String], uses_onednn: bool) -> Ranks {
        let mut ranks = Ranks::default();
        for signature in meta.signatures.values() {
            let (rank, sizes) =
                (uses_onednn && meta.needs_ranks(&signature.name), meta.is_compiled(&signature.name));
            let inputs = signature.inputs.iter().filter(|input| (rank || sizes) && input.shape.is_some());
            for input in inputs {
                let Ok(at) = endpoints.binary_search(&input.tensor) else { continue };
                ranks.0.resize(endpoints.len(), None);
                let before = ranks.0[at].take();
                let (rank, sizes) =
                    before.map_or((rank, sizes), |need| (need.rank | rank, need.sizes | sizes));
                ranks.0[at] = Some(Need { input: input.clone(), rank, sizes });
            }
        }
        ranks
    }

    /// Fails if `tensor` has a shape that could end the process at `endpoint`.
    pub(super) fn check(&self, endpoint: Endpoint, tensor: &Tensor) -> Result<()> {
        let Some(Some(Need { input, rank, sizes })) = self.0.get(endpoint.0 as usize) else { return Ok(()) };
        let Some(declared) = &input.shape else { return Ok(()) };
        let (expected, came, alias) = (declared.len(), tensor.shape().len(), &input.alias);
        if *rank && expected != came {
            return Err(Error::invalid(format!(
                "Input \"{alias}\" must have {expected} dimensions, as the model declares: {declared:?}; it has {came}: {:?}",
                tensor.shape()
            )));
        }
        let mut dimensions = declared.iter().zip(tensor.shape());
        if *sizes && dimensions.any(|(declared, came)| *declared > 0 && *came == 0) {
            return Err(Error::invalid(format!(
                "Input \"{alias}\" must have no dimension of 0 where the model declares another: {declared:?}; its shape is {:?}",
                tensor.shape()
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::signature::Signature;
    use crate::engine::tensorflow::effects::{self, Effects};
    use crate::pb::tensorflow::attr_value::Value;
    use crate::pb::tensorflow::{AttrValue, GraphDef, NodeDef};
    use crate::tensor::DType;
    use std::collections::{BTreeMap, BTreeSet};

    fn effects_of(op: &str) -> Effects {
        let mut node = NodeDef { name: "y".to_owned(), op: op.to_owned(), ..NodeDef::default() };
        if op == "PartitionedCall" {
            let compiled = AttrValue { value: Some(Value::B(true)) };
            node.attr.insert("_XlaMustCompile".to_owned(), compiled);
        }
        let graph = GraphDef { node: vec![node], ..GraphDef::default() };
        effects::of(&graph, &BTreeSet::new(), std::iter::once("y:0"))
    }

    /// The ranks of a model whose inputs `a` and `b`, before its other endpoint, are declared so, and have this operation.
    fn ranks_of(op: &str, shape: Option<Vec<i64>>, uses_onednn: bool) -> Ranks {
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
        Ranks::of(&meta, &["a:0", "b:0", "c:0"].map(str::to_owned), uses_onednn)
    }

    fn ranks(op: &str, shape: Option<Vec<i64>>) -> Ranks {
        ranks_of(op, shape, true)
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

    #[test]
    fn without_onednn_its_convolutions_take_everything() {
        let ranks = ranks_of("Conv2D", Some(vec![-1, 8, 8, 3]), false);
        assert_eq!([checked(&ranks, 1, &[1]), checked(&ranks, 1, &[1, 8, 8, 0])], [Ok(()), Ok(())]);
    }

    #[test]
    fn what_is_compiled_gets_no_size_of_0_that_is_not_declared() {
        for uses_onednn in [false, true] {
            let ranks = ranks_of("PartitionedCall", Some(vec![-1, -1, 4]), uses_onednn);
            for good in [&[1, 8, 4][..], &[0, 0, 4], &[1, 1], &[]] {
                assert_eq!(checked(&ranks, 1, good), Ok(()));
            }
            let why = checked(&ranks, 1, &[1, 8, 0]).unwrap_err().message;
            assert!(why.ends_with("declares another: [-1, -1, 4]; its shape is [1, 8, 0]"), "{why}");
        }
    }
}
