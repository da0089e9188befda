//! The engine against the real library. Needs `SERVABLE_ONNX_LIBRARY` (the path of `libonnxruntime.so.1.…`); if it is
//! missing, prints why it skips.

pub(super) mod forms;
pub(crate) mod model;
mod runs;

use super::Onnx;
use crate::engine::{Endpoint, Engine, LoadOptions, Model, RunOptions, Termination, Threads, contract};
use crate::error::{Error, Kind};
use crate::tensor::{Aligned, DType, Tensor};
use model::{Dim, graph, initializer, node, value};
use std::path::{Path, PathBuf};

const CALLER: RunOptions = RunOptions { threads: Threads::Caller, timeout: None };

/// ONNX's numbers of types of elements.
const FLOAT: i64 = 1;
const INT64: i64 = 7;
const STRING: i64 = 8;
const BOOL: i64 = 9;

fn onnx() -> Option<Onnx> {
    let Some(library) = std::env::var_os("SERVABLE_ONNX_LIBRARY") else {
        crate::skipped::because("SERVABLE_ONNX_LIBRARY is not set");
        return None;
    };
    Some(Onnx::open(&PathBuf::from(library)).unwrap())
}

/// Loads a model from its bytes.
fn load(onnx: Onnx, bytes: &[u8]) -> Result<Box<dyn Model>, Error> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("model.onnx"), bytes).unwrap();
    onnx.load(folder.path(), &LoadOptions::default())
}

/// Returns why a model cannot be loaded.
fn refusal(onnx: Onnx, bytes: &[u8]) -> Error {
    load(onnx, bytes).err().expect("the model must not load")
}

fn floats(shape: &[i64], values: &[f32]) -> Tensor {
    let mut aligned: Aligned<f32> = Aligned::new(64);
    aligned.extend_from_slice(values);
    Tensor::from_values(DType::Float, shape, aligned)
}

fn ints(shape: &[i64], values: &[i64]) -> Tensor {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Tensor::numbers(DType::Int64, shape, bytes.into())
}

fn as_floats(tensor: &Tensor) -> Vec<f32> {
    bytemuck::pod_collect_to_vec(tensor.bytes())
}

fn endpoint(model: &dyn Model, name: &str) -> Endpoint {
    model.endpoint(name).unwrap()
}

/// Runs `x` to `y`.
fn x_to_y(model: &dyn Model, x: Tensor) -> Result<Tensor, Error> {
    let mut all = model.run(&[(endpoint(model, "x"), x)], &[endpoint(model, "y")], CALLER)?;
    Ok(all.remove(0))
}

#[test]
fn it_keeps_the_contract() {
    let Some(onnx) = onnx() else { return };
    let ints = |values: [i32; 2]| {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Tensor::numbers(DType::Int32, vec![2], bytes.into())
    };
    let example = contract::Example {
        folder: &Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/onnx_pair/1"),
        signature: "serving_default",
        inputs: &[("a", floats(&[2], &[1.5, 2.0])), ("b", ints([3, 5]))],
        outputs: &[("sum", floats(&[2], &[4.5, 7.0])), ("twice", ints([6, 10]))],
    };
    contract::check(&onnx, &LoadOptions::default(), &example);
}

#[test]
fn only_one_library_is_open() {
    let Some(onnx) = onnx() else { return };
    assert!(onnx.version().starts_with("1."));
    let why = Onnx::open(Path::new("/another/libonnxruntime.so")).err().unwrap();
    assert_eq!(why.kind, Kind::FailedPrecondition);
    assert!(why.message.contains("a process can hold one"), "{why}");
}

#[test]
fn a_foreign_library_is_refused() {
    let refused = |path: &Path| super::ffi::open(path).err().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("libonnxruntime.so.1");
    std::fs::write(&text, "no library").unwrap();
    assert!(refused(&text).message.starts_with("Cannot open ONNX Runtime's library"));
    let why = refused(Path::new("libc.so.6"));
    assert!(why.message.contains("is not ONNX Runtime's library"), "{why}");
    assert_eq!(why.kind, Kind::FailedPrecondition);
}

#[test]
fn the_signature_is_the_models() {
    let Some(onnx) = onnx() else { return };
    // `w` is a constant, although it is listed among the inputs too.
    let weights = initializer("w", FLOAT, &[2], &[0; 8]);
    let fixed = [Dim::Any, Dim::Of(2)];
    let bytes = model::model(&graph(
        &[node("Add", &["x", "w"], &["y"]), node("Identity", &["z"], &["a"])],
        &[weights],
        &[value("x", FLOAT, Some(&fixed)), value("w", FLOAT, Some(&[Dim::Of(2)])), value("z", INT64, None)],
        &[value("y", FLOAT, Some(&fixed)), value("a", INT64, None)],
    ));
    let model = load(onnx, &bytes).unwrap();
    assert_eq!(model.signatures().len(), 1);
    let signature = &model.signatures()["serving_default"];
    assert_eq!(signature.method_name, "tensorflow/serving/predict");
    let listed = |specs: &[crate::engine::signature::TensorSpec]| {
        specs.iter().map(|spec| (spec.alias.clone(), spec.dtype, spec.shape.clone())).collect::<Vec<_>>()
    };
    let x = ("x".to_owned(), DType::Float, Some(vec![-1, 2]));
    assert_eq!(listed(&signature.inputs), [x, ("z".to_owned(), DType::Int64, None)]);
    let y = ("y".to_owned(), DType::Float, Some(vec![-1, 2]));
    assert_eq!(listed(&signature.outputs), [("a".to_owned(), DType::Int64, None), y]);
    assert!(model.endpoint("w").is_none());
    let scalar = load(onnx, &model::model(&model::identity(FLOAT, Some(&[])))).unwrap();
    assert_eq!(scalar.signatures()["serving_default"].inputs[0].shape, Some(vec![]));
}

#[test]
fn a_file_is_served_by_itself() {
    let Some(onnx) = onnx() else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("anything.onnx");
    std::fs::write(&file, model::model(&model::identity(FLOAT, Some(&[Dim::Any])))).unwrap();
    let model = onnx.load(&file, &LoadOptions::default()).unwrap();
    assert_eq!(as_floats(&x_to_y(&*model, floats(&[1], &[2.5])).unwrap()), [2.5]);
}

#[test]
fn weights_that_are_cut_while_it_runs_change_nothing() {
    const COUNT: u16 = u16::MAX;
    let Some(onnx) = onnx() else { return };
    let any = Some(&[Dim::Any][..]);
    let weights = |name, location| model::external(name, FLOAT, &[1 << 16], location);
    let constant = node("Constant", &[], &["c"])
        .bytes(5, model::Message::default().bytes(1, "value").bytes(5, weights("", "c.bin")).number(20, 4));
    let nodes = [constant, node("Add", &["x", "w"], &["s"]), node("Mul", &["s", "c"], &["y"])];
    let bytes = graph(&nodes, &[weights("w", "w.bin")], &[value("x", FLOAT, any)], &[value("y", FLOAT, any)]);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("model.onnx"), model::model(&bytes)).unwrap();
    let content: Vec<f32> = (0..=COUNT).map(f32::from).collect();
    for file in ["w.bin", "c.bin"] {
        std::fs::write(folder.path().join(file), bytemuck::cast_slice::<f32, u8>(&content)).unwrap();
    }
    let model = onnx.load(folder.path(), &LoadOptions::default()).unwrap();
    // In place, as a copy over it does.
    for file in ["w.bin", "c.bin"] {
        std::fs::write(folder.path().join(file), "").unwrap();
    }
    let found = as_floats(&x_to_y(&*model, floats(&[1], &[1.0])).unwrap());
    let expected: Vec<f32> = content.iter().map(|weight| (weight + 1.0) * weight).collect();
    assert_eq!(found, expected);
}

#[test]
fn weights_beside_the_model_are_found_and_missed() {
    let Some(onnx) = onnx() else { return };
    let with_weights = |location| {
        model::model(&graph(
            &[node("Add", &["x", "w"], &["y"])],
            &[model::external("w", FLOAT, &[2], location)],
            &[value("x", FLOAT, Some(&[Dim::Of(2)]))],
            &[value("y", FLOAT, Some(&[Dim::Of(2)]))],
        ))
    };
    let folder = tempfile::tempdir().unwrap();
    let load = |location| {
        std::fs::write(folder.path().join("model.onnx"), with_weights(location)).unwrap();
        onnx.load(folder.path(), &LoadOptions::default())
    };
    let weights = folder.path().join("weights.bin");
    let missing = load("weights.bin").err().unwrap();
    assert_eq!(missing.kind, Kind::NotFound);
    assert!(missing.message.contains("\"weights.bin\", which cannot be read"), "{missing}");
    std::fs::write(&weights, bytemuck::cast_slice::<f32, u8>(&[1.0, 2.0])).unwrap();
    let model = load("weights.bin").unwrap();
    assert_eq!(as_floats(&x_to_y(&*model, floats(&[2], &[0.5, 0.5])).unwrap()), [1.5, 2.5]);
    std::fs::write(&weights, [0; 5]).unwrap();
    let cut = load("weights.bin").err().unwrap();
    assert_eq!(cut.kind, Kind::DataLoss, "{cut}");
    assert!(cut.message.ends_with("Its files are damaged or no ONNX model: copy them again"), "{cut}");
    for outside in ["../weights.bin", "/etc/hostname", ""] {
        let why = load(outside).err().unwrap();
        assert_eq!(why.kind, Kind::InvalidArgument);
        assert!(why.message.contains("only files in its own folder are read"), "{why}");
    }
    std::fs::create_dir(folder.path().join("folder")).unwrap();
    let why = load("folder").err().unwrap();
    assert!(why.message.contains("it is a folder, and a file was expected"), "{why}");
}

#[test]
fn files_that_are_no_model_say_so() {
    let Some(onnx) = onnx() else { return };
    for bytes in [&b""[..], b"hello, world", b"\x08\x08", &[0xff; 64]] {
        let why = refusal(onnx, bytes);
        assert_eq!(why.kind, Kind::DataLoss, "{why}");
        assert!(why.message.ends_with("model.onnx: it is damaged or no ONNX model: copy it again"), "{why}");
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("model.onnx")).unwrap();
    let why = onnx.load(folder.path(), &LoadOptions::default()).err().unwrap();
    assert_eq!(why.kind, Kind::FailedPrecondition);
    assert!(why.message.contains("it is a folder"), "{why}");
}

#[test]
fn a_model_cut_anywhere_is_an_error() {
    let Some(onnx) = onnx() else { return };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/onnx_pair/1/model.onnx");
    let whole = std::fs::read(path).unwrap();
    assert!(load(onnx, &whole).is_ok());
    for length in 0..whole.len() {
        let why = refusal(onnx, &whole[..length]);
        assert!(matches!(why.kind, Kind::DataLoss | Kind::InvalidArgument), "cut at {length}: {why}");
    }
}

#[test]
fn a_model_with_any_byte_changed_loads_or_is_an_error() {
    let Some(onnx) = onnx() else { return };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/onnx_pair/1/model.onnx");
    let whole = std::fs::read(path).unwrap();
    for place in 0..whole.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut changed = whole.clone();
            changed[place] ^= change;
            // Either is right; what must not happen is a crash.
            drop(load(onnx, &changed));
        }
    }
}

#[test]
fn what_the_runtime_lacks_is_said_with_what_to_do() {
    let Some(onnx) = onnx() else { return };
    let shape = [Dim::Any];
    let graph_of =
        |node| graph(&[node], &[], &[value("x", FLOAT, Some(&shape))], &[value("y", FLOAT, Some(&shape))]);
    let custom = node("Mine", &["x"], &["y"]).bytes(7, model::FOREIGN);
    let unknown = node("NoSuchOp", &["x"], &["y"]);
    let identity = model::identity(FLOAT, Some(&shape));
    for (bytes, says, advice) in [
        (model::versioned(99, 21, &identity), "IR version", "install a newer onnxruntime"),
        (model::versioned(10, 999, &identity), "pset 999", "install a newer onnxruntime"),
        (model::model(&graph_of(custom)), "Mine", "libraries of custom operators are not loaded"),
        (model::model(&graph_of(unknown)), "NoSuchOp", "libraries of custom operators are not loaded"),
    ] {
        let why = refusal(onnx, &bytes);
        assert_eq!(why.kind, Kind::Unimplemented, "{why}");
        assert!(why.message.contains(says) && why.message.ends_with(advice), "{why}");
        assert!(
            !why.message.contains(".cc:") && why.message.contains("model.onnx: ONNX Runtime 1."),
            "{why}"
        );
    }
}

#[test]
fn inputs_that_are_no_tensors_or_of_other_types_are_named() {
    let Some(onnx) = onnx() else { return };
    let first = node("SequenceAt", &["s", "i"], &["y"]);
    let scalar = value("i", INT64, Some(&[]));
    let bytes =
        model::model(&graph(&[first], &[], &[model::sequence("s"), scalar], &[value("y", FLOAT, None)]));
    let why = refusal(onnx, &bytes);
    assert_eq!(why.kind, Kind::Unimplemented);
    assert!(why.message.ends_with("its input \"s\" is a sequence, and only tensors can be served"), "{why}");
    for (number, name) in [(21, "uint4"), (22, "int4")] {
        let cast = model::with_number(node("Cast", &["x"], &["y"]), "to", FLOAT);
        let x = value("x", number, Some(&[Dim::Any]));
        let why = refusal(onnx, &model::model(&graph(&[cast], &[], &[x], &[value("y", FLOAT, None)])));
        assert_eq!(why.kind, Kind::Unimplemented);
        let text = format!(
            "its input \"x\" has the type {name}, which cannot be served: convert it inside the model"
        );
        assert!(why.message.contains(&text), "{why}");
    }
    // No operator takes them.
    let why = refusal(onnx, &model::model(&model::identity(14, Some(&[Dim::Any]))));
    assert_eq!(why.kind, Kind::Unimplemented, "{why}");
}

#[test]
fn the_end_and_the_effects_of_a_run_follow_from_the_graph() {
    let Some(onnx) = onnx() else { return };
    let shape = [Dim::Any];
    let of = |nodes: &[model::Message]| {
        let one = initializer("one", INT64, &[1], &1_i64.to_le_bytes());
        let bytes = model::model(&graph(
            nodes,
            &[one],
            &[value("x", FLOAT, Some(&shape))],
            &[value("y", FLOAT, None)],
        ));
        let model = load(onnx, &bytes).unwrap();
        assert!(!model.changes_nothing("other"));
        (model.termination("serving_default"), model.changes_nothing("serving_default"))
    };
    assert_eq!(of(&[node("Relu", &["x"], &["y"])]), (Termination::ByShapes, true));
    assert_eq!(of(&[node("RandomUniformLike", &["x"], &["y"])]), (Termination::ByShapes, false));
    let tile = |repeats| node("Tile", &["x", repeats], &["y"]);
    assert_eq!(of(&[tile("one")]), (Termination::ByShapes, true));
    assert_eq!(of(&[node("Shape", &["x"], &["n"]), tile("n")]), (Termination::ByShapes, true));
    let cast = model::with_number(node("Cast", &["x"], &["n"]), "to", INT64);
    assert_eq!(of(&[cast, tile("n")]), (Termination::Finite, true));
}
