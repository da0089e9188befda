//! Reads a node's attributes.

use crate::pb::tensor;
use crate::pb::tensorflow::attr_value::Value;
use crate::pb::tensorflow::{AttrValue, NodeDef, TensorShapeProto, tensor_shape_proto};
use crate::tensor::{DType, Tensor};
use bytes::Bytes;

fn value<'g>(node: &'g NodeDef, name: &str) -> Option<&'g Value> {
    node.attr.get(name)?.value.as_ref()
}

/// Returns a dtype; a list's is the one at `place`.
#[allow(clippy::wildcard_enum_match_arm)] // The other kinds of attributes.
pub(super) fn dtype(node: &NodeDef, name: &str, place: usize) -> Option<DType> {
    match value(node, name)? {
        Value::Type(number) => DType::from_number(*number),
        Value::List(list) => DType::from_number(*list.r#type.get(place)?),
        _ => None,
    }
}

/// Returns an integer; one that is not written is `None`.
#[allow(clippy::wildcard_enum_match_arm)] // The other kinds of attributes.
pub(super) fn int(node: &NodeDef, name: &str) -> Option<i64> {
    match value(node, name)? {
        Value::I(value) => Some(*value),
        _ => None,
    }
}

/// Returns a list of integers; one that is not written is empty.
pub(super) fn ints<'g>(node: &'g NodeDef, name: &str) -> &'g [i64] {
    match value(node, name) {
        Some(Value::List(list)) => &list.i,
        _ => &[],
    }
}

/// Returns a flag; one that is not written is false.
pub(super) fn flag(node: &NodeDef, name: &str) -> bool {
    matches!(value(node, name), Some(Value::B(true)))
}

/// Returns a text.
#[allow(clippy::wildcard_enum_match_arm)] // The other kinds of attributes.
pub(super) fn text<'g>(node: &'g NodeDef, name: &str) -> Option<&'g [u8]> {
    match value(node, name)? {
        Value::S(value) => Some(value),
        _ => None,
    }
}

/// Returns whether an attribute is a function.
pub(super) fn calls(node: &NodeDef) -> bool {
    node.attr.values().any(|attr| match &attr.value {
        Some(Value::Func(_)) => true,
        Some(Value::List(list)) => !list.func.is_empty(),
        _ => false,
    })
}

/// The value of a constant, encoded.
#[allow(clippy::wildcard_enum_match_arm)] // The other kinds of attributes.
fn content(node: &NodeDef) -> Option<&Bytes> {
    match value(node, "value")? {
        Value::Tensor(value) if node.op == "Const" => Some(value),
        _ => None,
    }
}

/// Returns the shape of a constant.
pub(super) fn constant_shape(node: &NodeDef) -> Option<Vec<i64>> {
    Some(tensor::open(content(node)?).ok()?.shape().to_vec())
}

/// Returns the integers of a constant of at most `most` elements.
pub(super) fn constant_integers(node: &NodeDef, most: usize) -> Option<Vec<i64>> {
    let opened = tensor::open(content(node)?).ok()?;
    let count = opened.shape().iter().try_fold(1usize, |count, dim| count.checked_mul(*dim as usize))?;
    if count > most || !matches!(opened.dtype(), DType::Int32 | DType::Int64) {
        return None;
    }
    let tensor: Tensor = opened.read().ok()?;
    let (numbers, bytes) = (tensor.bytes(), tensor.dtype().size());
    Some(numbers.chunks_exact(bytes).map(integer).collect())
}

/// Returns the numbers of a constant of float32 of at most `most` elements.
pub(super) fn constant_floats(node: &NodeDef, most: usize) -> Option<Vec<f32>> {
    let opened = tensor::open(content(node)?).ok()?;
    let count = opened.shape().iter().try_fold(1usize, |count, dim| count.checked_mul(*dim as usize))?;
    if count > most || opened.dtype() != DType::Float {
        return None;
    }
    let tensor: Tensor = opened.read().ok()?;
    let (numbers, _) = tensor.bytes().as_chunks::<4>();
    Some(numbers.iter().map(|four| f32::from_le_bytes(*four)).collect())
}

/// Reads a little-endian integer of 4 or 8 bytes.
fn integer(bytes: &[u8]) -> i64 {
    match *bytes {
        [a, b, c, d] => i64::from(i32::from_le_bytes([a, b, c, d])),
        [a, b, c, d, e, f, g, h] => i64::from_le_bytes([a, b, c, d, e, f, g, h]),
        _ => 0,
    }
}

/// Makes the attribute of a dtype.
pub(super) fn of_dtype(dtype: DType) -> AttrValue {
    AttrValue { value: Some(Value::Type(dtype as i32)) }
}

/// Makes the attribute of a shape; `None` is one of unknown rank.
pub(super) fn of_shape(shape: Option<&[i64]>) -> AttrValue {
    let dim = shape.unwrap_or_default().iter();
    let dim = dim.map(|size| tensor_shape_proto::Dim { size: *size, name: String::new() }).collect();
    AttrValue { value: Some(Value::Shape(TensorShapeProto { dim, unknown_rank: shape.is_none() })) }
}
