//! Freezing against the real library. Needs `SERVABLE_TENSORFLOW_LIBRARY`; models in `../shared` are skipped if they
//! are not there.

use crate::engine::frozen::FrozenGraph;
use crate::engine::signature::TensorSpec;
use crate::engine::tensorflow::session::Session;
use crate::engine::tensorflow::{Options, TensorFlow};
use crate::engine::{Endpoint, LoadOptions, Model, RunOptions, Threads};
use crate::error::Kind;
use crate::tensor::{Aligned, DType, Data, Strings, Tensor};
use std::path::{Path, PathBuf};
use std::time::Duration;

fn tensorflow() -> Option<TensorFlow> {
    let Some(library) = std::env::var_os("SERVABLE_TENSORFLOW_LIBRARY") else {
        crate::skipped::because("SERVABLE_TENSORFLOW_LIBRARY is not set");
        return None;
    };
    Some(TensorFlow::open(&PathBuf::from(library)).unwrap())
}

fn load(model: &str) -> Option<(TensorFlow, Session)> {
    let tensorflow = tensorflow()?;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(model);
    if !path.exists() {
        crate::skipped::because(format_args!("{} is not here", path.display()));
        return None;
    }
    let options = Options { tags: vec!["serve".to_owned()], ..Options::default() };
    let options = LoadOptions { tensorflow: options, ..LoadOptions::default() };
    Some((tensorflow, tensorflow.load_session(&path, &options).unwrap()))
}

fn floats(shape: &[i64], value: impl Fn(usize) -> f32) -> Tensor {
    let mut aligned: Aligned<f32> = Aligned::new(64);
    let count = shape.iter().product::<i64>();
    aligned.extend_from_slice(&(0..usize::try_from(count).unwrap()).map(value).collect::<Vec<_>>());
    Tensor::from_values(DType::Float, shape.to_vec(), aligned)
}

fn integers(dtype: DType, shape: &[i64], values: &[i64]) -> Tensor {
    let bytes: Vec<u8> =
        values.iter().flat_map(|value| value.to_le_bytes()[..dtype.size()].to_vec()).collect();
    Tensor::numbers(dtype, shape.to_vec(), bytes.into())
}

fn feeds(model: &dyn Model, inputs: &[TensorSpec], values: &[(&str, Tensor)]) -> Vec<(Endpoint, Tensor)> {
    let tensor = |alias: &str| &inputs.iter().find(|spec| spec.alias == alias).unwrap().tensor;
    values.iter().map(|(alias, value)| (model.endpoint(tensor(alias)).unwrap(), value.clone())).collect()
}

fn run(model: &dyn Model, signature: &str, values: &[(&str, Tensor)]) -> Vec<(String, Tensor)> {
    let signature = &model.signatures()[signature];
    let fetches: Vec<Endpoint> =
        signature.outputs.iter().map(|spec| model.endpoint(&spec.tensor).unwrap()).collect();
    let options = RunOptions { threads: Threads::Pool, timeout: Some(Duration::from_secs(60)) };
    let results = model.run(&feeds(model, &signature.inputs, values), &fetches, options).unwrap();
    signature.outputs.iter().map(|spec| spec.alias.clone()).zip(results).collect()
}

fn equal(a: &Tensor, b: &Tensor) -> bool {
    let data = match (a.data(), b.data()) {
        (Data::Numbers(a), Data::Numbers(b)) => a == b,
        (Data::Strings(a), Data::Strings(b)) => a.iter().eq(b.iter()),
        (Data::Numbers(_), Data::Strings(_)) | (Data::Strings(_), Data::Numbers(_)) => false,
    };
    a.dtype() == b.dtype() && a.shape() == b.shape() && data
}

/// Freezes `signature` by the first of `requests`, and compares both models' answers to all.
fn check(model: &str, signature: &str, requests: &[&[(&str, Tensor)]]) -> Option<FrozenGraph> {
    let (tensorflow, session) = load(model)?;
    let inputs = &session.signatures()[signature].inputs;
    let mut sample = feeds(&session, inputs, requests[0]);
    sample.reverse();
    let frozen = session.freeze(signature, &sample).unwrap();
    assert!(frozen.graph.library.is_none());
    let plain = |node: &crate::pb::tensorflow::NodeDef| node.device.is_empty() && !node.name.starts_with('_');
    assert!(frozen.graph.node.iter().all(plain));
    let opened = tensorflow.open_frozen(&frozen, &Options::default()).unwrap();
    assert!(opened.changes_nothing("serving_default"));
    assert!(opened.termination("serving_default") >= session.termination(signature));
    for request in requests {
        let (expected, found) =
            (run(&session, signature, request), run(&*opened, "serving_default", request));
        for ((alias, expected), (same, found)) in expected.iter().zip(&found) {
            assert_eq!(alias, same);
            assert!(
                equal(expected, found),
                "{model}, {alias}: {:?} is not {:?}",
                found.shape(),
                expected.shape()
            );
        }
    }
    Some(frozen)
}

fn refused(model: &str, signature: &str, values: &[(&str, Tensor)]) -> Option<String> {
    let (_, session) = load(model)?;
    let inputs = &session.signatures()[signature].inputs;
    let why = session.freeze(signature, &feeds(&session, inputs, values)).unwrap_err();
    assert_eq!(why.kind, Kind::Unimplemented, "{why}");
    Some(why.message.into_owned())
}

const SHARED: &str = "../shared/testdata/tensorflow_serving";

#[test]
fn small_models_answer_the_same() {
    let x = floats(&[3], |at| at as f32 * 1.25);
    let frozen = check("tests/models/half_plus_two/1", "serving_default", &[&[("x", x.clone())]]);
    if let Some(frozen) = frozen {
        let ops: Vec<&str> = frozen.graph.node.iter().map(|node| node.op.as_str()).collect();
        assert_eq!(ops.iter().filter(|op| **op == "Const").count(), 2, "{:?}", frozen.graph.node);
        assert_eq!(ops.len(), 6, "{:?}", frozen.graph.node);
        println!("{:?}", frozen.graph.node);
    }
    check("tests/models/add_two/1", "serving_default", &[&[("x", floats(&[2, 3], |at| at as f32))]]);
    let request = [("a", floats(&[2], |at| at as f32)), ("b", integers(DType::Int32, &[2], &[3, 5]))];
    check("tests/models/pair/1", "serving_default", &[&request]);
    let text = Tensor::strings(vec![2], Strings::from_iter(["a", "bc"]));
    check("tests/models/echo/1", "serving_default", &[&[("x", text)]]);
}

#[test]
fn loops_are_taken_apart() {
    let steps = |steps| integers(DType::Int64, &[], &[steps]);
    check("tests/models/loop/1", "serving_default", &[&[("steps", steps(3))], &[("steps", steps(0))]]);
    check(
        "tests/models/normalise/1",
        "serving_default",
        &[&[("x", floats(&[3], |at| 0.01 + at as f32 * 0.1))]],
    );
}

#[test]
fn models_of_tensorflow_1_and_2_answer_the_same() {
    for model in ["saved_model_half_plus_two_cpu/00000123", "saved_model_half_plus_two_tf2_cpu/00000123"] {
        let x = floats(&[3], |at| at as f32 * 1.25);
        check(&format!("{SHARED}/{model}"), "serving_default", &[&[("x", x)]]);
    }
    let model = format!("{SHARED}/saved_model_half_plus_two_cpu/00000123");
    check(&model, "regress_x2_to_y3", &[&[("inputs", floats(&[2, 1], |at| at as f32))]]);
}

#[test]
fn mobilenet_answers_the_same_at_every_batch() {
    let images = |batch: i64| floats(&[batch, 224, 224, 3], |at| (at % 251) as f32 / 125.0 - 1.0);
    let requests: Vec<_> = [1, 3].map(|batch| [("images", images(batch))]).into();
    let requests: Vec<&[_]> = requests.iter().map(|request| &request[..]).collect();
    if let Some(frozen) = check("../shared/mobilenet/mobilenet_v2_float/1", "serving_default", &requests) {
        eprintln!("{} nodes", frozen.graph.node.len());
    }
}

#[test]
fn photos_answer_the_same() {
    let photos = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/mobilenet/photos");
    let Ok(panda) = std::fs::read(photos.join("panda.jpg")) else { return };
    let lion = std::fs::read(photos.join("lion.jpg")).unwrap();
    let one = Tensor::strings(vec![1], Strings::from_iter([&panda]));
    let two = Tensor::strings(vec![2], Strings::from_iter([&lion, &panda]));
    let model = "../shared/mobilenet/mobilenet_v2/1";
    let requests: [&[_]; 2] = [&[("image_bytes", one.clone())], &[("image_bytes", two)]];
    check(model, "serving_default", &requests);
    if let Some(frozen) = check(model, "top5", &requests) {
        eprintln!("{} nodes", frozen.graph.node.len());
        eprintln!("{:?}", frozen.outputs);
        let mut ops = std::collections::BTreeMap::<&str, usize>::new();
        frozen.graph.node.iter().for_each(|node| *ops.entry(&node.op).or_default() += 1);
        eprintln!("{ops:?}");
    }
}

#[test]
fn what_has_state_is_refused() {
    let word = Tensor::strings(vec![1], Strings::from_iter(["red"]));
    let why = refused("tests/models/lookup/1", "serving_default", &[("word", word)]);
    assert!(why.is_none_or(|why| why.contains("has state")));
    for signature in ["incr_counter", "incr_counter_by"] {
        let by = floats(&[], |_| 1.0);
        let values: &[(&str, Tensor)] = if signature == "incr_counter" { &[] } else { &[("delta", by)] };
        let model = format!("{SHARED}/saved_model_counter/00000123");
        let why = refused(&model, signature, values);
        assert!(why.is_none_or(|why| why.contains("side effects")));
    }
}
