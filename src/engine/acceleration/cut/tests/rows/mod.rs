//! Every row of `operations.rs`, by itself: what the real OpenVINO gives is what the real TensorFlow gives, also for values
//! at the edges. Needs both libraries; if one is missing, prints why it skips.
//!
//! A part gets finite numbers and its answers have to be finite, or TensorFlow does the run. So it suffices that what is
//! no number in TensorFlow is none in OpenVINO, too; which one does not matter.

mod elementwise;
mod extremes;
mod layers;
mod moving;
mod sizes;

use super::builder::Builder;
use crate::engine::acceleration::cut::gate::Gate;
use crate::engine::acceleration::cut::graph::Graph;
use crate::engine::acceleration::cut::operations;
use crate::engine::frozen::FrozenGraph;
use crate::engine::openvino::{OpenVino, Precision};
use crate::engine::tensorflow::{Options, TensorFlow};
use crate::engine::{Model, RunOptions, Threads};
use crate::pb::tensorflow::attr_value::{ListValue, Value};
use crate::tensor::{DType, Tensor};
use std::path::PathBuf;

/// How much an element may differ, relative to itself: a few units of its last place.
const TOLERANCE: f32 = 4e-6;

/// A graph with the operation in node `op`, whose output is `y`, of float32; and what it is asked.
pub(super) struct Case {
    op: &'static str,
    graph: FrozenGraph,
    requests: Vec<Vec<Tensor>>,
}

/// Returns the graph of nodes that `build` makes, `op` among them, as a case. An input of each request is a tensor.
fn case(op: &'static str, requests: &[&[Tensor]], build: impl FnOnce(&mut Builder)) -> Case {
    let mut graph = Builder::default();
    build(&mut graph);
    // OpenVINO has no name for an output that is an input as it is.
    let graph = graph.floats("y", "Neg", &["op"]).frozen(&["y"]);
    Case { op, graph, requests: requests.iter().map(|request| request.to_vec()).collect() }
}

pub(super) fn engines() -> Option<(TensorFlow, OpenVino)> {
    let library = |name: &str| {
        let found = std::env::var_os(name).map(PathBuf::from);
        if found.is_none() {
            crate::skipped::because(format_args!("{name} is not set"));
        }
        found
    };
    let (tensorflow, openvino) =
        (library("SERVABLE_TENSORFLOW_LIBRARY")?, library("SERVABLE_OPENVINO_LIBRARY")?);
    Some((TensorFlow::open(&tensorflow).unwrap(), OpenVino::open(&openvino).unwrap()))
}

/// Runs the graph of both models with `request`.
pub(super) fn ask(model: &dyn Model, graph: &FrozenGraph, request: &[Tensor]) -> Result<Tensor, String> {
    let endpoint = |tensor: &str| model.endpoint(tensor).unwrap();
    let feeds: Vec<_> = graph
        .inputs
        .iter()
        .zip(request)
        .map(|(spec, tensor)| (endpoint(&spec.tensor), tensor.clone()))
        .collect();
    let options = RunOptions { threads: Threads::Caller, timeout: None };
    let ran = model.run(&feeds, &[endpoint(&graph.outputs[0].tensor)], options);
    ran.map(|mut outputs| outputs.remove(0)).map_err(|why| why.message.into_owned())
}

/// Returns what is wrong with the row; nothing if all is well.
fn wrong(case: &Case, tensorflow: TensorFlow, openvino: OpenVino) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let told = |what: String| vec![format!("{}: {what}", case.op)];
    let graph = Graph::new(&case.graph).unwrap();
    let gate = Gate::new(&graph).unwrap();
    let refusal = (0..graph.nodes.len()).filter(|node| graph.nodes[*node].feed.is_none());
    if let Some(why) = refusal.filter_map(|node| gate.why_not[node].clone()).next() {
        return told(format!("the gate refuses {why}"));
    }
    let reference = tensorflow.open_frozen(&case.graph, &Options::default()).unwrap();
    let fast = match openvino.open_frozen(&case.graph, folder.path().to_owned(), Precision::F32) {
        Ok(fast) => fast,
        Err(why) => return told(why.message.into_owned()),
    };
    let differ = |request: &Vec<Tensor>| {
        let expected = match ask(&*reference, &case.graph, request) {
            Ok(expected) => expected,
            Err(why) => return Some(format!("TensorFlow: {why}")),
        };
        let got = ask(&*fast, &case.graph, request);
        got.and_then(|got| alike(case.op, (&expected, &got), request)).err()
    };
    case.requests.iter().filter_map(differ).flat_map(told).collect()
}

/// Returns whether two answers are the same; if not, which elements differ.
fn alike(op: &str, (expected, got): (&Tensor, &Tensor), request: &[Tensor]) -> Result<(), String> {
    if expected.shape() != got.shape() || expected.dtype() != got.dtype() {
        return Err(format!("shape {:?} instead of {:?}", got.shape(), expected.shape()));
    }
    let (one, other) = (values(expected), values(got));
    // Sums of numbers that cancel each other out are as exact as their largest.
    let by_largest = layers::SUMS.contains(&op);
    let largest =
        one.iter().filter(|value| value.is_finite()).fold(0.0, |most: f32, value| most.max(value.abs()));
    let same = |(expected, got): &(&f32, &f32)| {
        if expected.is_finite() && got.is_finite() {
            // What is denormal is 0 in TensorFlow.
            let difference = (*expected - *got).abs();
            difference < f32::MIN_POSITIVE
                || difference <= TOLERANCE * if by_largest { largest } else { expected.abs() }
        } else {
            !expected.is_finite() && !got.is_finite()
        }
    };
    let differing: Vec<_> = one.iter().zip(&other).enumerate().filter(|(_, pair)| !same(pair)).collect();
    if differing.is_empty() {
        return Ok(());
    }
    let first: Vec<_> = differing.iter().take(12).collect();
    let inputs: Vec<_> = request.iter().map(|tensor| (tensor.shape().to_vec(), values(tensor))).collect();
    let inputs = format!("{inputs:?}").chars().take(400).collect::<String>();
    Err(format!("{} of {} differ (place, expected, got): {first:?} of {inputs}", differing.len(), one.len()))
}

pub(super) fn values(tensor: &Tensor) -> Vec<f32> {
    if tensor.dtype() == DType::Float { bytemuck::pod_collect_to_vec(tensor.bytes()) } else { Vec::new() }
}

pub(super) fn floats(shape: &[i64], values: &[f32]) -> Tensor {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Tensor::numbers(DType::Float, shape.to_vec(), bytes.into())
}

fn ints(shape: &[i64], values: &[i32]) -> Tensor {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Tensor::numbers(DType::Int32, shape.to_vec(), bytes.into())
}

fn bytes(dtype: DType, shape: &[i64], values: &[u8]) -> Tensor {
    Tensor::numbers(dtype, shape.to_vec(), values.to_vec().into())
}

/// Returns a tensor of this shape, of numbers from -4 to below 4 that look random.
fn mixed(shape: &[i64]) -> Tensor {
    let count = usize::try_from(shape.iter().product::<i64>()).unwrap();
    floats(shape, &some(count))
}

fn some(count: usize) -> Vec<f32> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f32::from(u16::try_from(state >> 16).unwrap()) / 8192.0 - 4.0
    };
    (0..count).map(|_| next()).collect()
}

impl Builder {
    /// Adds a constant of float32.
    fn numbers(&mut self, name: &str, shape: &[i64], values: &[f32]) -> &mut Builder {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(name, DType::Float, shape, bytes)
    }

    /// Adds a constant of int32 that is a vector.
    fn vector(&mut self, name: &str, values: &[i32]) -> &mut Builder {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(name, DType::Int32, &[i64::try_from(values.len()).unwrap()], bytes)
    }

    /// Gives the last node several attributes.
    fn all(&mut self, attributes: &[(&str, Value)]) -> &mut Builder {
        for (name, value) in attributes {
            self.with(name, value.clone());
        }
        self
    }
}

fn list(values: &[i64]) -> Value {
    Value::List(ListValue { i: values.to_vec(), ..ListValue::default() })
}

fn int(value: i64) -> Value {
    Value::I(value)
}

fn flag(value: bool) -> Value {
    Value::B(value)
}

fn of_type(dtype: DType) -> Value {
    Value::Type(dtype as i32)
}

fn types(dtypes: &[DType]) -> Value {
    Value::List(ListValue {
        r#type: dtypes.iter().map(|dtype| *dtype as i32).collect(),
        ..ListValue::default()
    })
}

fn cases() -> Vec<Case> {
    [elementwise::cases(), layers::cases(), moving::cases(), sizes::cases()].into_iter().flatten().collect()
}

#[test]
fn every_row_is_computed_as_tensorflow_does() {
    let Some((tensorflow, openvino)) = engines() else { return };
    let wrong: Vec<String> = cases().iter().flat_map(|case| wrong(case, tensorflow, openvino)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_operation_of_the_table_has_a_case() {
    let cases = cases();
    let missing: Vec<_> = operations::all().filter(|op| !cases.iter().any(|case| case.op == *op)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
