//! The features that an operation which parses `tf.Example`s asks for, read from its attributes and constants.

use super::flow::{Flow, Port, Use, Value, data_inputs};
use crate::engine::content::{Content, Feature};
use crate::pb::tensor;
use crate::pb::tensorflow::attr_value::{ListValue, Value as Attr};
use crate::pb::tensorflow::{DataType, NodeDef, TensorShapeProto};
use crate::tensor::Tensor;
use std::collections::BTreeMap;

/// Most values of a feature.
const MOST_VALUES: usize = 1 << 20;

/// Returns the features that `of` parses, by key: as many values as it declares, one for each that may have any number.
/// `None` if a key is no constant. `content` says what the strings of a feature have to hold.
pub(super) fn features<'g>(
    flow: &Flow<'g>,
    of: &Use<'g>,
    content: &impl Fn(Value<'g>) -> Option<Content>,
) -> Option<BTreeMap<String, Feature>> {
    let keys = Keys::of(flow, of)?;
    let (node, list) = (of.node, |name: &str| list(of.node, name));
    let port = |name: &'g str, in_list: usize, before: usize| Value {
        scope: of.scope,
        node: &node.name,
        port: Port::One { name, in_list, of_all: before + in_list },
        decoded: 0,
    };
    let (sparse, dense, ragged) = (
        &list("sparse_types")?.r#type,
        &list("Tdense")?.r#type,
        list("ragged_value_types").map(|list| &list.r#type),
    );
    let (ragged, shapes) = (ragged.map_or(&[][..], Vec::as_slice), &list("dense_shapes")?.shape);
    // Outputs: indices, values and shapes of the sparse features, the dense ones, values and splits of the ragged ones.
    let open = |types: &'g [i32], keys: Vec<String>, name: &'g str, before: usize| {
        keys.into_iter().zip(types).enumerate().map(move |(place, (key, dtype))| {
            Some((key, feature(*dtype, 1, || content(port(name, place, before)))?))
        })
    };
    let fixed =
        keys.dense.into_iter().zip(dense).zip(shapes).enumerate().map(|(place, ((key, dtype), shape))| {
            let value = || content(port("dense_values", place, 3 * sparse.len()));
            Some((key, feature(*dtype, values(shape)?, value)?))
        });
    fixed
        .chain(open(sparse, keys.sparse, "sparse_values", sparse.len()))
        .chain(open(ragged, keys.ragged, "ragged_values", 3 * sparse.len() + dense.len()))
        .collect()
}

/// The keys of the features, in order.
struct Keys {
    sparse: Vec<String>,
    dense: Vec<String>,
    ragged: Vec<String>,
}

impl Keys {
    fn of(flow: &Flow<'_>, of: &Use<'_>) -> Option<Keys> {
        let inputs: Vec<&str> = data_inputs(of.node).collect();
        let constants = |from: usize, count: usize| -> Option<Vec<String>> {
            let inputs = inputs.get(from..from + count)?.iter();
            Some(inputs.map(|input| strings(flow, of.scope, input)).collect::<Option<Vec<_>>>()?.concat())
        };
        match of.node.op.as_str() {
            // Each key is an input, after the serialized examples and their names.
            "ParseExample" => {
                let (sparse, dense) =
                    (list(of.node, "sparse_types")?.r#type.len(), list(of.node, "Tdense")?.r#type.len());
                Some(Keys {
                    sparse: constants(2, sparse)?,
                    dense: constants(2 + sparse, dense)?,
                    ragged: Vec::new(),
                })
            }
            "ParseExampleV2" => {
                Some(Keys { sparse: constants(2, 1)?, dense: constants(3, 1)?, ragged: constants(4, 1)? })
            }
            "ParseSingleExample" => {
                let texts = |name: &str| -> Option<Vec<String>> {
                    list(of.node, name)?.s.iter().map(|key| text(key)).collect()
                };
                Some(Keys { sparse: texts("sparse_keys")?, dense: texts("dense_keys")?, ragged: Vec::new() })
            }
            _ => None,
        }
    }
}

/// Returns the strings of the constant that `input` is.
fn strings(flow: &Flow<'_>, scope: &str, input: &str) -> Option<Vec<String>> {
    let constant = flow.node(scope, input).filter(|node| node.op == "Const")?;
    let Some(Attr::Tensor(value)) = &constant.attr.get("value")?.value else { return None };
    tensor::decode(value).ok().as_ref().and_then(Tensor::as_strings)?.iter().map(text).collect()
}

fn text(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok()
}

/// Returns attribute `name` of `node`, a list; an empty list is not always written.
fn list<'g>(node: &'g NodeDef, name: &str) -> Option<&'g ListValue> {
    match &node.attr.get(name)?.value {
        Some(Attr::List(list)) => Some(list),
        _ => None,
    }
}

#[allow(clippy::wildcard_enum_match_arm)] // A `tf.Example` has no others.
fn feature(dtype: i32, values: usize, content: impl FnOnce() -> Option<Content>) -> Option<Feature> {
    match DataType::try_from(dtype).ok()? {
        DataType::DtFloat => Some(Feature::Floats(values)),
        DataType::DtInt64 => Some(Feature::Integers(values)),
        DataType::DtString => Some(Feature::Strings(values, content())),
        _ => None,
    }
}

/// Returns the number of values of a feature of `shape`, with 1 for an unknown first dimension.
fn values(shape: &TensorShapeProto) -> Option<usize> {
    let product = shape.dim.iter().try_fold(1usize, |product, dim| {
        product.checked_mul(usize::try_from(if dim.size < 0 { 1 } else { dim.size }).ok()?)
    });
    product.filter(|values| *values <= MOST_VALUES)
}
