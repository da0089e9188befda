//! Freezing against the real library. Needs `SERVABLE_TENSORFLOW_LIBRARY`; models in `../shared` are skipped if they
//! are not there.

use super::plan;
use crate::engine::frozen::FrozenGraph;
use crate::engine::signature::TensorSpec;
use crate::engine::tensorflow::session::Session;
use crate::engine::tensorflow::{Options, TensorFlow};
use crate::engine::{Endpoint, LoadOptions, Model, RunOptions, Threads};
use crate::error::Kind;
use crate::pb::tensorflow::attr_value::{ListValue, Value};
use crate::pb::tensorflow::meta_graph_def::MetaInfoDef;
use crate::pb::tensorflow::{
    AttrValue, GraphDef, MetaGraphDef, NodeDef, SavedModel, SignatureDef, VersionDef,
};
use crate::tensor::{Aligned, DType, Data, Strings, Tensor};
use prost::Message;
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
    let plain = |node: &NodeDef| node.device.is_empty() && !node.name.starts_with('_');
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
    check("../shared/mobilenet/mobilenet_v2_float/1", "serving_default", &requests);
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
        // The loop over the pictures is part of the graph, and each weight is there once.
        let count = |op: &str| frozen.graph.node.iter().filter(|node| node.op == op).count();
        assert_eq!((count("LoopCond"), count("DecodeJpeg"), count("Conv2D")), (1, 1, 35));
        let names: Vec<&str> = frozen.outputs.iter().map(|spec| spec.tensor.as_str()).collect();
        assert_eq!(names.len(), 3);
        assert!(
            names.iter().all(|name| frozen.graph.node.iter().any(|node| format!("{}:0", node.name) == *name))
        );
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

const PAIR: &str = "tests/models/pair/1";

fn pair() -> [(&'static str, Tensor); 2] {
    [("a", floats(&[2], |at| at as f32 + 0.5)), ("b", integers(DType::Int32, &[2], &[3, 5]))]
}

/// Returns a frozen model of two outputs.
fn frozen_pair() -> Option<Box<dyn Model>> {
    let (tensorflow, session) = load(PAIR)?;
    let inputs = &session.signatures()["serving_default"].inputs;
    let frozen = session.freeze("serving_default", &feeds(&session, inputs, &pair())).unwrap();
    Some(tensorflow.open_frozen(&frozen, &Options::default()).unwrap())
}

#[test]
fn any_outputs_may_be_fetched_in_any_order() {
    let Some(model) = frozen_pair() else { return };
    let signature = &model.signatures()["serving_default"];
    let [sum, twice] = [0, 1].map(|place| model.endpoint(&signature.outputs[place].tensor).unwrap());
    let feeds = feeds(&*model, &signature.inputs, &pair());
    let options = RunOptions { threads: Threads::Caller, timeout: None };
    for fetches in [&[twice][..], &[sum], &[twice, sum, twice], &[sum, twice]] {
        let results = model.run(&feeds, fetches, options).unwrap();
        for (fetch, result) in fetches.iter().zip(&results) {
            let expected = if *fetch == sum {
                floats(&[2], |at| [3.5, 6.5][at])
            } else {
                integers(DType::Int32, &[2], &[6, 10])
            };
            assert!(equal(result, &expected), "{fetches:?}: {result:?}");
        }
    }
    model.run(&feeds[..1], &[sum], options).unwrap_err();
    assert!(model.endpoint("unknown:0").is_none());
}

#[test]
fn a_run_waits_for_the_first_one_no_longer_than_it_may() {
    let Some((tensorflow, session)) = load(PAIR) else { return };
    let inputs = &session.signatures()["serving_default"].inputs;
    let frozen = session.freeze("serving_default", &feeds(&session, inputs, &pair())).unwrap();
    let model = tensorflow.frozen_session(&frozen, &Options::default()).unwrap();
    let signature = &model.signatures()["serving_default"];
    let fetches: Vec<Endpoint> =
        signature.outputs.iter().map(|spec| model.endpoint(&spec.tensor).unwrap()).collect();
    let feeds = feeds(&model, &signature.inputs, &pair());
    let options = RunOptions { threads: Threads::Pool, timeout: Some(Duration::from_millis(1)) };
    let (first, _) = model.first(options).unwrap();
    assert!(first.is_some());
    assert_eq!(model.run(&feeds, &fetches, options).unwrap_err().kind, Kind::DeadlineExceeded);
    drop(first);
    let options = RunOptions { timeout: None, ..options };
    assert!(model.run(&feeds, &fetches, options).is_ok());
    assert!(model.first(options).unwrap().0.is_none());
}

#[test]
fn first_runs_may_come_at_once() {
    let Some(model) = frozen_pair() else { return };
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let answer = run(&*model, "serving_default", &pair());
                assert!(equal(&answer[1].1, &integers(DType::Int32, &[2], &[6, 10])));
            });
        }
    });
}

#[test]
fn a_request_without_an_input_and_an_unknown_signature_are_errors() {
    let Some((_, session)) = load(PAIR) else { return };
    let inputs = &session.signatures()["serving_default"].inputs;
    let why = session.freeze("serving_default", &feeds(&session, inputs, &pair()[..1])).unwrap_err();
    assert!(why.kind == Kind::InvalidArgument && why.message.contains("input b is missing"), "{why}");
    assert_eq!(session.freeze("other", &[]).unwrap_err().kind, Kind::NotFound);
}

/// Makes a version whose graph is a convolution with padding and bias: `x` float [n, 4, 4, 1] to `y`.
fn convolution(folder: &Path) {
    let tensor = |value: &Tensor| {
        let encoded = crate::pb::tensor::Encoded::new(value, true);
        let mut pieces = crate::pb::wire::Pieces::default();
        encoded.write(&mut pieces);
        Value::Tensor(pieces.finish().iter().flatten().copied().collect::<Vec<u8>>().into())
    };
    let with = |mut node: NodeDef, attrs: &[(&str, Value)]| {
        let attrs =
            attrs.iter().map(|(name, value)| ((*name).to_owned(), AttrValue { value: Some(value.clone()) }));
        node.attr.extend(attrs);
        node
    };
    let float = |name| (name, DType::Float as i32);
    let constant = |name: &str, value: &Tensor| {
        let node = plan::node(name, "Const", &[], &[("dtype", value.dtype() as i32)]);
        with(node, &[("value", tensor(value))])
    };
    let strides = ListValue { i: vec![1; 4], ..ListValue::default() };
    let convolution = plan::node("c", "Conv2D", &["padded", "w"], &[float("T")]);
    let index = ("Tpaddings", DType::Int32 as i32);
    let input = spec("x", Some(vec![-1, 4, 4, 1]));
    let node = vec![
        plan::placeholder("x", &input),
        constant("paddings", &integers(DType::Int32, &[4, 2], &[0, 0, 1, 1, 1, 1, 0, 0])),
        constant("w", &floats(&[3, 3, 1, 2], |at| at as f32 / 16.0)),
        constant("b", &floats(&[2], |at| at as f32 - 0.5)),
        plan::node("padded", "Pad", &["x", "paddings"], &[float("T"), index]),
        with(convolution, &[("strides", Value::List(strides)), ("padding", Value::S("VALID".into()))]),
        plan::node("y", "BiasAdd", &["c", "b"], &[float("T")]),
    ];
    let infos =
        |spec: TensorSpec| [(spec.alias.clone(), crate::engine::tensorflow::frozen::info(&spec))].into();
    let signature =
        SignatureDef { inputs: infos(input), outputs: infos(spec("y", None)), ..SignatureDef::default() };
    let meta_graph = MetaGraphDef {
        meta_info_def: Some(MetaInfoDef { tags: vec!["serve".to_owned()], ..MetaInfoDef::default() }),
        graph_def: Some(GraphDef {
            node,
            versions: Some(VersionDef { producer: 27, ..VersionDef::default() }),
            ..GraphDef::default()
        }),
        signature_def: [("serving_default".to_owned(), signature)].into(),
        ..MetaGraphDef::default()
    };
    let model = SavedModel { saved_model_schema_version: 1, meta_graphs: vec![meta_graph] };
    std::fs::write(folder.join("saved_model.pb"), model.encode_to_vec()).unwrap();
}

fn spec(name: &str, shape: Option<Vec<i64>>) -> TensorSpec {
    TensorSpec { alias: name.to_owned(), tensor: format!("{name}:0"), dtype: DType::Float, shape }
}

/// Set in the child process in which oneDNN is on, as it is for a whole process.
const CHILD: &str = "SERVABLE_TEST_ONEDNN";

#[test]
fn with_onednn_the_graph_is_the_same() {
    if tensorflow().is_none() {
        return;
    }
    if std::env::var_os(CHILD).is_none() {
        let name = "engine::tensorflow::freeze::tests::with_onednn_the_graph_is_the_same";
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", name]).env(CHILD, "1").env("TF_ENABLE_ONEDNN_OPTS", "1");
        let output = child.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
    let folder = tempfile::tempdir().unwrap();
    convolution(folder.path());
    let (tensorflow, session) = load(folder.path().to_str().unwrap()).unwrap();
    let request = [("x", floats(&[2, 4, 4, 1], |at| at as f32 / 8.0))];
    let inputs = &session.signatures()["serving_default"].inputs;
    let frozen = session.freeze("serving_default", &feeds(&session, inputs, &request)).unwrap();
    let mut ops: Vec<&str> = frozen.graph.node.iter().map(|node| node.op.as_str()).collect();
    ops.sort_unstable();
    assert_eq!(ops, ["BiasAdd", "Const", "Const", "Const", "Conv2D", "Identity", "Pad", "Placeholder"]);
    let opened = tensorflow.open_frozen(&frozen, &Options::default()).unwrap();
    let (expected, found) =
        (run(&session, "serving_default", &request), run(&*opened, "serving_default", &request));
    let floats = |tensor: &Tensor| bytemuck::pod_collect_to_vec::<u8, f32>(tensor.bytes());
    let pairs = floats(&expected[0].1).into_iter().zip(floats(&found[0].1));
    assert!(pairs.into_iter().all(|(expected, found)| (expected - found).abs() <= 1e-5));
}
