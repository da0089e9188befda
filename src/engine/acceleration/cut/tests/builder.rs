//! Small graphs for tests.

use crate::engine::acceleration::cut::attributes;
use crate::engine::frozen::FrozenGraph;
use crate::engine::signature::TensorSpec;
use crate::pb::tensorflow::attr_value::Value;
use crate::pb::tensorflow::{AttrValue, GraphDef, NodeDef, TensorProto};
use crate::tensor::DType;
use bytes::Bytes;
use prost::Message;

/// A graph that grows node by node.
#[derive(Default)]
pub(super) struct Builder {
    nodes: Vec<NodeDef>,
    inputs: Vec<TensorSpec>,
}

/// Attributes that name a dtype, such as `T`.
pub(super) type Types<'a> = &'a [(&'a str, DType)];

impl Builder {
    /// Adds an input `name`.
    pub(super) fn input(&mut self, name: &str, dtype: DType, shape: &[i64]) -> &mut Builder {
        self.inputs.push(spec(name, dtype, Some(shape.to_vec())));
        self.node(name, "Placeholder", &[], &[("dtype", dtype)])
    }

    /// Adds a node.
    pub(super) fn node(&mut self, name: &str, op: &str, inputs: &[&str], types: Types<'_>) -> &mut Builder {
        let attr = types
            .iter()
            .map(|(name, dtype)| ((*name).to_owned(), AttrValue { value: Some(Value::Type(*dtype as i32)) }));
        self.nodes.push(NodeDef {
            name: name.to_owned(),
            op: op.to_owned(),
            input: inputs.iter().map(|input| (*input).to_owned()).collect(),
            attr: attr.collect(),
            ..NodeDef::default()
        });
        self
    }

    /// Adds a node of float32.
    pub(super) fn floats(&mut self, name: &str, op: &str, inputs: &[&str]) -> &mut Builder {
        self.node(name, op, inputs, &[("T", DType::Float)])
    }

    /// Gives the last node a further attribute.
    pub(super) fn with(&mut self, attribute: &str, value: Value) -> &mut Builder {
        let attr = &mut self.nodes.last_mut().unwrap().attr;
        attr.insert(attribute.to_owned(), AttrValue { value: Some(value) });
        self
    }

    /// Adds a constant of float32; its values do not matter.
    pub(super) fn weights(&mut self, name: &str, shape: &[i64]) -> &mut Builder {
        let count = usize::try_from(shape.iter().product::<i64>()).unwrap();
        self.constant(name, DType::Float, shape, vec![0; 4 * count])
    }

    /// Adds a constant of int32: one number is a scalar.
    pub(super) fn integers(&mut self, name: &str, values: &[i32]) -> &mut Builder {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(name, DType::Int32, &dims(values.len()), bytes)
    }

    /// Adds a constant of int64, likewise.
    pub(super) fn longs(&mut self, name: &str, values: &[i64]) -> &mut Builder {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(name, DType::Int64, &dims(values.len()), bytes)
    }

    /// Adds a constant.
    pub(super) fn constant(
        &mut self,
        name: &str,
        dtype: DType,
        shape: &[i64],
        values: Vec<u8>,
    ) -> &mut Builder {
        let Some(Value::Shape(shape)) = attributes::of_shape(Some(shape)).value else { unreachable!() };
        let value = TensorProto {
            dtype: dtype as i32,
            tensor_shape: Some(shape),
            tensor_content: values.into(),
            ..TensorProto::default()
        };
        let value = Value::Tensor(value.encode_to_vec().into());
        self.node(name, "Const", &[], &[("dtype", dtype)]).with("value", value)
    }

    /// Adds a product of `input`, a matrix of any number of rows and `width` columns, with weights.
    pub(super) fn dense(&mut self, name: &str, input: &str, width: i64) -> &mut Builder {
        let weights = format!("{name}/weights");
        self.weights(&weights, &[width, width]).floats(name, "MatMul", &[input, &weights])
    }

    /// Returns the graph with `outputs` of float32.
    pub(super) fn frozen(&self, outputs: &[&str]) -> FrozenGraph {
        self.with_outputs(&outputs.iter().map(|output| (*output, DType::Float)).collect::<Vec<_>>())
    }

    /// Returns the graph.
    pub(super) fn with_outputs(&self, outputs: &[(&str, DType)]) -> FrozenGraph {
        FrozenGraph {
            graph: GraphDef { node: self.nodes.clone(), ..GraphDef::default() },
            inputs: self.inputs.clone(),
            outputs: outputs.iter().map(|(name, dtype)| spec(name, *dtype, None)).collect(),
        }
    }
}

fn dims(count: usize) -> Vec<i64> {
    if count == 1 { Vec::new() } else { vec![i64::try_from(count).unwrap()] }
}

/// Makes the description of the first output of node `name`, or of a tensor.
pub(super) fn spec(name: &str, dtype: DType, shape: Option<Vec<i64>>) -> TensorSpec {
    let tensor = if name.contains(':') { name.to_owned() } else { format!("{name}:0") };
    TensorSpec { alias: name.to_owned(), tensor, dtype, shape }
}

/// A text attribute.
pub(super) fn text(value: &'static str) -> Value {
    Value::S(Bytes::from_static(value.as_bytes()))
}
