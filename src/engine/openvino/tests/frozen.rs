//! Frozen TensorFlow graphs: small ones made here, and MobileNetV2, frozen by TensorFlow's Python where it is installed.

use super::super::Precision;
use super::{feed, floats, openvino, run, values};
use crate::engine::frozen::FrozenGraph;
use crate::engine::signature::TensorSpec;
use crate::engine::{Model, Termination};
use crate::error::{Kind, Result};
use crate::pb::tensorflow::attr_value::Value;
use crate::pb::tensorflow::{AttrValue, GraphDef, NodeDef, TensorShapeProto};
use crate::tensor::DType;
use bytes::Bytes;
use prost::Message;
use std::path::{Path, PathBuf};
use std::process::Command;

fn node(name: &str, op: &str, input: &[&str], attr: &[(&str, Value)]) -> NodeDef {
    let attr = attr.iter().map(|(key, value)| ((*key).to_owned(), AttrValue { value: Some(value.clone()) }));
    NodeDef {
        name: name.to_owned(),
        op: op.to_owned(),
        input: input.iter().map(|input| (*input).to_owned()).collect(),
        attr: attr.collect(),
        ..NodeDef::default()
    }
}

fn spec(alias: &str, tensor: &str) -> TensorSpec {
    let (alias, tensor) = (alias.to_owned(), tensor.to_owned());
    TensorSpec { alias, tensor, dtype: DType::Float, shape: Some(vec![-1, 2]) }
}

/// x float -> sum: x + [1, 2], positive: the sum, or 0 where it is negative, double: 2 sums.
pub(super) fn small() -> FrozenGraph {
    let float = Value::Type(1);
    // A TensorProto: float, of shape [2], with the bytes of 1.0 and 2.0.
    let mut constant = vec![0x08, 1, 0x12, 4, 0x12, 2, 0x08, 2, 0x22, 8];
    constant.extend([1.0_f32, 2.0].iter().flat_map(|value| value.to_le_bytes()));
    let of_float = [("T", float.clone())];
    let node = vec![
        node("x", "Placeholder", &[], &[("dtype", float.clone())]),
        node("c", "Const", &[], &[("dtype", float), ("value", Value::Tensor(Bytes::from(constant)))]),
        node("d", "AddV2", &["x", "c"], &of_float),
        node("d_1", "AddV2", &["d", "d"], &of_float),
        node("y", "Relu", &["d:0"], &of_float),
        node("unused", "Relu", &["x"], &of_float),
    ];
    FrozenGraph {
        graph: GraphDef { node, ..GraphDef::default() },
        inputs: vec![spec("x", "x:0")],
        outputs: vec![spec("double", "d_1:0"), spec("positive", "y:0"), spec("sum", "d:0")],
    }
}

fn open(frozen: &FrozenGraph, folder: &Path) -> Option<Result<Box<dyn Model>>> {
    Some(openvino()?.open_frozen(frozen, folder.to_owned(), Precision::F32))
}

#[test]
fn a_frozen_graph_has_the_names_of_its_signature_also_where_an_output_is_no_end() {
    let folder = tempfile::tempdir().unwrap();
    let frozen = small();
    // The second time from what was kept.
    for _ in 0..2 {
        let Some(model) = open(&frozen, folder.path()) else { return };
        let model = model.unwrap();
        assert!(model.changes_nothing("serving_default"));
        assert_eq!(model.termination("serving_default"), Termination::ByShapes);
        for spec in frozen.inputs.iter().chain(&frozen.outputs) {
            assert!(model.endpoint(&spec.tensor).is_some(), "{}", spec.tensor);
        }
        assert_eq!(model.endpoint("unused:0"), None);
        for rows in [0, 1, 3] {
            let fed = floats(&[rows, 2], &[0.5, -5.0].repeat(usize::try_from(rows).unwrap()));
            let out = run(&*model, &[("x", fed)], &["positive", "sum", "double"]).unwrap();
            let expected = [[1.5, 0.0], [1.5, -3.0], [3.0, -6.0]];
            for (out, expected) in out.iter().zip(expected) {
                assert_eq!(out.shape(), [rows, 2]);
                assert_eq!(values::<f32>(out), expected.repeat(usize::try_from(rows).unwrap()));
            }
        }
    }
    let kept: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(kept.len(), 4, "the graph, what was compiled of it, its checksum, and the lock");
}

/// Returns what was compiled in `folder`.
fn blob(folder: &Path) -> PathBuf {
    let mut all = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    all.find(|path| path.extension().is_some_and(|ending| ending == "blob")).unwrap()
}

#[test]
fn what_was_compiled_and_is_damaged_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let frozen = small();
    let Some(model) = open(&frozen, folder.path()) else { return };
    let kept = blob(folder.path());
    let whole = std::fs::read(&kept).unwrap();
    drop(model.unwrap());
    // The weights: a byte of the 2.0 that is added.
    let place = whole.windows(8).position(|eight| eight == [0, 0, 0x80, 0x3f, 0, 0, 0, 0x40]).unwrap() + 7;
    let flipped = [&whole[..place], &[whole[place] ^ 1], &whole[place + 1..]].concat();
    for damaged in [b"cut", &[][..], &whole[..whole.len() / 2], &flipped] {
        std::fs::write(&kept, damaged).unwrap();
        let model = open(&frozen, folder.path()).unwrap().unwrap();
        let out = run(&*model, &[("x", floats(&[1, 2], &[0.0; 2]))], &["sum"]).unwrap();
        assert_eq!(values::<f32>(&out[0]), [1.0, 2.0]);
        assert_eq!(std::fs::read(&kept).unwrap().len(), whole.len(), "it is kept again");
    }
}

#[test]
fn two_names_of_one_output_are_one_endpoint() {
    let folder = tempfile::tempdir().unwrap();
    let mut frozen = small();
    frozen.outputs = vec![spec("a", "y:0"), spec("b", "y:0")];
    let Some(model) = open(&frozen, folder.path()) else { return };
    let out = run(&*model.unwrap(), &[("x", floats(&[1, 2], &[0.0, 1.0]))], &["a", "b"]).unwrap();
    assert_eq!((values::<f32>(&out[0]), values::<f32>(&out[1])), (vec![1.0, 3.0], vec![1.0, 3.0]));
}

#[test]
fn a_graph_that_openvino_has_otherwise_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |change: &dyn Fn(&mut FrozenGraph)| -> Option<String> {
        let mut frozen = small();
        change(&mut frozen);
        let why = open(&frozen, folder.path())?.err().expect("it must be refused");
        assert_eq!(why.kind, Kind::Unimplemented, "{why}");
        Some(why.message.into_owned())
    };
    let Some(why) = refused(&|frozen| frozen.inputs[0].dtype = DType::Half) else { return };
    assert!(why.contains("\"x\" is float instead of half"), "{why}");
    let why = refused(&|frozen| frozen.outputs[0].dtype = DType::Int32).unwrap();
    assert!(why.contains("does not take this graph"), "{why}");
    let why = refused(&|frozen| {
        let scalar = AttrValue { value: Some(Value::Shape(TensorShapeProto::default())) };
        frozen.graph.node[0].attr.insert("shape".to_owned(), scalar);
        frozen.inputs.clear();
    })
    .unwrap();
    assert!(why.contains("other inputs or outputs"), "{why}");
    let why = refused(&|frozen| frozen.graph.node[3].op = "DecodeJpeg".to_owned()).unwrap();
    assert!(why.contains("DecodeJpeg"), "{why}");
    let why = refused(&|frozen| frozen.graph.node[2].op = "HashTableV2".to_owned()).unwrap();
    assert!(why.contains("does not take this graph"), "{why}");
    let openvino = openvino().unwrap();
    let nowhere = openvino.open_frozen(&small(), folder.path().join("none"), Precision::F32);
    assert_eq!(nowhere.err().unwrap().kind, Kind::Unavailable);
}

/// Freezes MobileNetV2 and asks TensorFlow for an answer: writes the graph, the names of input and output, and both
/// values to the folder that it is given.
const FREEZE: &str = r#"
import sys, pathlib, numpy as np, tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2 as freeze
model = tf.saved_model.load(sys.argv[1])
function = freeze(model.signatures["serving_default"])
x = np.random.default_rng(1).random((2, 224, 224, 3), np.float32)
y = function(tf.constant(x))[0].numpy()
folder = pathlib.Path(sys.argv[2])
(folder / "frozen.pb").write_bytes(function.graph.as_graph_def().SerializeToString())
(folder / "names").write_text(function.inputs[0].name + " " + function.outputs[0].name)
(folder / "x").write_bytes(x.tobytes())
(folder / "y").write_bytes(y.tobytes())
"#;

/// Returns MobileNetV2 with what [`FREEZE`] has written to `folder`.
pub(super) fn mobilenet(folder: &Path) -> Option<FrozenGraph> {
    let library = std::env::var_os("SERVABLE_OPENVINO_LIBRARY")?;
    let python = Path::new(&library).ancestors().nth(6)?.join("bin/python");
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/mobilenet/mobilenet_v2_float");
    let model =
        std::fs::read_dir(&shared).ok()?.flatten().map(|entry| entry.path()).find(|path| path.is_dir());
    let model = if shared.join("saved_model.pb").exists() { shared } else { model? };
    let done = Command::new(python).args(["-c", FREEZE]).args([&*model, folder]).output();
    if !done.is_ok_and(|done| done.status.success()) {
        return None;
    }
    let graph = GraphDef::decode(&std::fs::read(folder.join("frozen.pb")).unwrap()[..]).unwrap();
    let names = std::fs::read_to_string(folder.join("names")).unwrap();
    let (input, output) = names.split_once(' ').unwrap();
    let spec = |alias: &str, tensor: &str| TensorSpec { shape: None, ..spec(alias, tensor) };
    Some(FrozenGraph {
        graph,
        inputs: vec![spec("images", input)],
        outputs: vec![spec("probabilities", output)],
    })
}

#[test]
fn mobilenet_frozen_answers_as_tensorflow_does() {
    let Some(openvino) = openvino() else { return };
    let folder = tempfile::tempdir().unwrap();
    let Some(frozen) = mobilenet(folder.path()) else {
        crate::skipped::because("MobileNetV2 could not be frozen: there is no TensorFlow, or no ../shared");
        return;
    };
    let read = |name| -> Vec<f32> {
        bytemuck::pod_collect_to_vec(&std::fs::read(folder.path().join(name)).unwrap())
    };
    let (x, y) = (read("x"), read("y"));
    for precision in [Precision::F32, Precision::F32, Precision::Bf16] {
        let model = openvino.open_frozen(&frozen, folder.path().to_owned(), precision).unwrap();
        let model = &*model;
        assert_eq!(model.endpoint(&frozen.inputs[0].tensor), Some(feed(model, "images")));
        let out = run(model, &[("images", floats(&[2, 224, 224, 3], &x))], &["probabilities"]).unwrap();
        let largest = y.iter().copied().fold(0.0, f32::max);
        let differs =
            values::<f32>(&out[0]).iter().zip(&y).map(|(one, other)| (one - other).abs()).fold(0.0, f32::max);
        let tolerance = if precision == Precision::F32 { 1e-5 } else { 0.05 };
        assert!(differs <= tolerance * largest, "{precision:?}: {differs} of {largest}");
    }
}
