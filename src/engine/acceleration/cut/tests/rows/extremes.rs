//! Numbers that are too small or too large for float32 between two operations.

use super::super::builder::Builder;
use super::{ask, engines, floats, values};
use crate::engine::acceleration::cut::tests::rows::flag;
use crate::engine::acceleration::{chain, compare};
use crate::engine::openvino::Precision;
use crate::engine::tensorflow::Options;
use crate::tensor::DType;

/// Denormal numbers are 0 in TensorFlow, and not in OpenVINO. Where that matters, the smallest numbers that it gets show it.
#[test]
fn what_underflows_in_tensorflow_alone_is_seen() {
    let Some((tensorflow, openvino)) = engines() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut graph = Builder::default();
    graph.input("x", DType::Float, &[-1]).numbers("half", &[], &[0.5]).floats("small", "Mul", &["x", "half"]);
    let graph = graph.floats("log", "Log", &["small"]).floats("y", "Neg", &["log"]).frozen(&["y"]);
    let reference = tensorflow.open_frozen(&graph, &Options::default()).unwrap();
    let fast = openvino.open_frozen(&graph, folder.path().to_owned(), Precision::F32).unwrap();
    let request = [floats(&[2], &[f32::MIN_POSITIVE, 1.0])];
    let (expected, got) =
        (ask(&*reference, &graph, &request).unwrap(), ask(&*fast, &graph, &request).unwrap());
    assert!(values(&expected)[0].is_infinite() && values(&got)[0].is_finite());
    assert!(compare::specials(&[expected], &[got]).is_err());
}

/// OpenVINO joins scales, also into weights, so what overflows in TensorFlow need not overflow there. The largest numbers
/// that it gets show that.
#[test]
fn what_overflows_in_tensorflow_alone_is_seen() {
    let Some((tensorflow, openvino)) = engines() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut graph = Builder::default();
    graph.input("x", DType::Float, &[-1, 2]).numbers("w", &[2, 2], &[1e28, 0.0, 0.0, 1e28]);
    graph
        .floats("product", "MatMul", &["x", "w"])
        .all(&[("transpose_a", flag(false)), ("transpose_b", flag(false))]);
    graph.numbers("less", &[2], &[1e-28, 1e-28]).floats("scaled", "Mul", &["product", "less"]);
    let graph = graph.floats("y", "Relu", &["scaled"]).frozen(&["y"]);
    let reference = tensorflow.open_frozen(&graph, &Options::default()).unwrap();
    let fast = openvino.open_frozen(&graph, folder.path().to_owned(), Precision::F32).unwrap();
    let both = |value: f32| {
        let request = [floats(&[1, 2], &[value; 2])];
        (ask(&*reference, &graph, &request).unwrap(), ask(&*fast, &graph, &request).unwrap())
    };
    let (expected, got) = both(3.0);
    assert!(compare::difference(&[expected], &[got], 1e-5).is_ok());
    let (expected, got) = both(chain::LIMIT / 2.0);
    assert_eq!(values(&expected), [f32::INFINITY; 2]);
    assert!(values(&got)[0].is_finite());
    assert!(compare::specials(&[expected], &[got]).is_err());
}
