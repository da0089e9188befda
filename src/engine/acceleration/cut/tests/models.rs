//! Models that people serve, frozen, without their weights.

use super::builder::{Builder, spec};
use super::checks;
use crate::engine::acceleration::cut::attributes;
use crate::engine::acceleration::cut::parts::Parts;
use crate::engine::acceleration::cut::plan;
use crate::engine::acceleration::cut::refusal::Refusal;
use crate::engine::frozen::FrozenGraph;
use crate::pb::tensorflow::{GraphDef, NodeDef};
use crate::tensor::DType;
use flate2::read::GzDecoder;
use prost::Message;
use std::io::Read;

/// Cuts the model in `file`, with input `input` and one output.
fn cut(file: &[u8], input: (&str, DType, &[i64]), output: DType) -> Result<Parts, Refusal> {
    let mut bytes = Vec::new();
    GzDecoder::new(file).read_to_end(&mut bytes).unwrap();
    let (name, dtype, shape) = input;
    let mut graph = GraphDef::decode(bytes.as_slice()).unwrap();
    graph.node.iter_mut().for_each(with_small_number);
    let whole = FrozenGraph {
        graph,
        inputs: vec![spec(name, dtype, Some(shape.to_vec()))],
        outputs: vec![spec("Identity", output, None)],
    };
    let parts = plan(&whole)?;
    checks::well_formed(&whole, &parts);
    Ok(parts)
}

/// Gives a scalar of float32 a value: what is added to a variance, so that there is a root of it.
fn with_small_number(node: &mut NodeDef) {
    let is_scalar = attributes::constant_shape(node).is_some_and(|shape| shape.is_empty());
    if is_scalar && attributes::dtype(node, "dtype", 0) == Some(DType::Float) {
        let mut small = Builder::default();
        small.constant("small", DType::Float, &[], 1e-6f32.to_le_bytes().to_vec());
        let value = small.frozen(&[]).graph.node[0].attr["value"].clone();
        node.attr.insert("value".to_owned(), value);
    }
}

fn count(part: Option<&FrozenGraph>, op: &str) -> usize {
    part.map_or(0, |part| part.graph.node.iter().filter(|node| node.op == op).count())
}

#[test]
fn a_photo_is_decoded_and_labelled_by_tensorflow() {
    let file = include_bytes!("models/photo.pb.gz");
    let parts = cut(file, ("image_bytes", DType::String, &[-1]), DType::String).unwrap();
    let (before, after) = (parts.before.as_ref(), parts.after.as_ref());
    assert_eq!((count(before, "DecodeJpeg"), count(before, "Exit"), count(before, "Conv2D")), (1, 1, 0));
    assert_eq!((count(Some(&parts.fast), "Conv2D"), count(Some(&parts.fast), "Softmax")), (35, 1));
    assert_eq!((count(after, "ArgMax"), count(after, "GatherV2"), count(after, "Softmax")), (1, 1, 0));
    assert_eq!(parts.fast.inputs[0].shape, Some(vec![-1, 224, 224, 3]));
    assert_eq!((parts.fast.inputs.len(), parts.fast.outputs.len()), (1, 1));
}

#[test]
fn ids_are_looked_up_by_tensorflow() {
    let file = include_bytes!("models/transformer.pb.gz");
    let parts = cut(file, ("ids", DType::Int32, &[-1, 128]), DType::Float).unwrap();
    assert_eq!(count(parts.before.as_ref(), "GatherV2"), 1);
    assert_eq!((count(Some(&parts.fast), "MatMul"), count(Some(&parts.fast), "Einsum")), (9, 8));
    assert_eq!(parts.fast.inputs[0].shape, Some(vec![-1, 128, 256]));
    assert!(parts.after.is_none());
}

#[test]
fn networks_of_convolutions_are_moved_whole() {
    for (file, input) in [
        (&include_bytes!("models/mobilenet.pb.gz")[..], ("images", DType::Float, &[-1, 224, 224, 3][..])),
        (include_bytes!("models/conv1d.pb.gz"), ("samples", DType::Float, &[-1, 4000, 1])),
        (include_bytes!("models/unet.pb.gz"), ("images", DType::Float, &[-1, 128, 128, 3])),
    ] {
        let parts = cut(file, input, DType::Float).unwrap();
        assert!(parts.before.is_none() && parts.after.is_none(), "{}", input.0);
    }
}

#[test]
fn a_network_of_loops_stays() {
    let file = include_bytes!("models/lstm.pb.gz");
    let why = cut(file, ("steps", DType::Float, &[-1, 64, 32]), DType::Float).unwrap_err();
    assert!(why.to_string().starts_with("nothing worth moving: "), "{why}");
}
