//! Operations on each element by itself.

use super::super::builder::{Builder, text};
use super::{Case, bytes, case, flag, floats, int, some};
use crate::pb::tensorflow::attr_value::Value;
use crate::tensor::{DType, Tensor};

/// Numbers at which functions change, end, or are hard to compute.
const EDGES: [f32; 44] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -0.5,
    2.0,
    -2.0,
    3.0,
    -3.0,
    0.1,
    -0.1,
    6.0,
    5.999_999,
    -6.0,
    10.0,
    -10.0,
    20.0,
    -20.0,
    50.0,
    -50.0,
    88.0,
    -88.0,
    89.0,
    -89.0,
    104.0,
    -104.0,
    1e-3,
    -1e-3,
    1e-6,
    -1e-6,
    1e-20,
    -1e-20,
    1e10,
    -1e10,
    1e20,
    -1e20,
    3e38,
    -3e38,
    f32::MIN_POSITIVE,
    -f32::MIN_POSITIVE,
    f32::MAX,
    f32::MIN,
    16_777_217.0,
];

const UNARY: [&str; 18] = [
    "Rsqrt",
    "Sqrt",
    "Square",
    "Exp",
    "Log",
    "Tanh",
    "Sigmoid",
    "Relu",
    "Relu6",
    "Elu",
    "Selu",
    "LeakyRelu",
    "Softsign",
    "Neg",
    "Abs",
    "Reciprocal",
    "Inv",
    "ZerosLike",
];

const BINARY: [&str; 9] =
    ["Add", "AddV2", "Sub", "Mul", "RealDiv", "Maximum", "Minimum", "SquaredDifference", "Pow"];

fn count() -> i64 {
    i64::try_from(EDGES.len()).unwrap()
}

fn edges() -> Tensor {
    floats(&[count()], &EDGES)
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = UNARY.into_iter().map(|op| unary(op, &[])).collect();
    cases.push(unary("OnesLike", &[]));
    cases.push(case("Erf", &[&[edges()], &[floats(&[64], &some(64))]], |graph| {
        graph.input("x", DType::Float, &[-1]).floats("erf", "Erf", &["x"]).numbers("one", &[], &[1.0]);
        graph.floats("sum", "AddV2", &["one", "erf"]).numbers("two", &[], &[2.0]);
        // As exact as the 1 in the sum.
        graph.floats("op", "AddV2", &["sum", "two"]);
    }));
    cases.push(case("Erfc", &[&[edges()], &[floats(&[64], &some(64))]], |graph| {
        graph.input("x", DType::Float, &[-1]).floats("erfc", "Erfc", &["x"]).numbers("four", &[], &[4.0]);
        graph.floats("part", "Mul", &["x", "erfc"]).floats("large", "Mul", &["x", "four"]);
        // As exact as what it is a part of.
        graph.floats("op", "AddV2", &["part", "large"]);
    }));
    cases.push(unary("LeakyRelu", &[("alpha", Value::F(0.0))]));
    cases.extend(BINARY.into_iter().flat_map(|op| [binary(op), of_a_constant(op), of_a_scalar(op)]));
    cases.extend([added(), clipped(), clipped_by_tensors(), bias(), selected(), selected_by_a_column()]);
    cases.extend(casts());
    cases.extend(["LogicalAnd", "LogicalOr"].map(logical));
    cases.push(case("LogicalNot", &[&[bytes(DType::Bool, &[2], &[0, 1])]], |graph| {
        graph.input("x", DType::Bool, &[-1]).node("not", "LogicalNot", &["x"], &[]);
        cast(graph, "not", DType::Bool);
    }));
    cases.extend([2, 3].map(|rank| softmax("Softmax", rank)));
    cases
}

fn unary(op: &'static str, attributes: &[(&str, Value)]) -> Case {
    case(op, &[&[edges()], &[floats(&[1], &[0.25])], &[floats(&[64], &some(64))]], |graph| {
        graph.input("x", DType::Float, &[-1]).floats("op", op, &["x"]).all(attributes);
    })
}

/// All pairs: a column with a row.
fn binary(op: &'static str) -> Case {
    let column = floats(&[count(), 1], &EDGES);
    case(op, &[&[column, edges()], &[floats(&[1, 1], &[-3.0]), floats(&[1], &[2.0])]], |graph| {
        graph.input("x", DType::Float, &[-1, -1]).input("z", DType::Float, &[-1]);
        graph.floats("op", op, &["x", "z"]);
    })
}

fn of_a_constant(op: &'static str) -> Case {
    case(op, &[&[floats(&[count(), 1], &EDGES)]], |graph| {
        graph.input("x", DType::Float, &[-1, -1]);
        graph.numbers("c", &[6], &[3.0, -0.5, 1e-3, 1e20, -1e20, 1.0]).floats("op", op, &["x", "c"]);
    })
}

fn of_a_scalar(op: &'static str) -> Case {
    case(op, &[&[edges()], &[floats(&[64], &some(64))]], |graph| {
        graph.input("x", DType::Float, &[-1]).numbers("c", &[], &[2.0]).floats("op", op, &["x", "c"]);
    })
}

fn added() -> Case {
    case("AddN", &[&[edges(), floats(&[count()], &some(44))]], |graph| {
        graph.input("x", DType::Float, &[-1]).input("z", DType::Float, &[-1]);
        graph.floats("op", "AddN", &["x", "z", "x"]).with("N", int(3));
    })
}

fn clipped() -> Case {
    case("ClipByValue", &[&[edges()]], |graph| {
        graph.input("x", DType::Float, &[-1]).numbers("low", &[], &[-1.5]).numbers("high", &[], &[2.5]);
        graph.floats("op", "ClipByValue", &["x", "low", "high"]);
    })
}

/// Limits that a request gives, also the wrong way round.
fn clipped_by_tensors() -> Case {
    let limits = |low: f32, high: f32| [edges(), floats(&[], &[low]), floats(&[], &[high])];
    case("ClipByValue", &[&limits(-1.0, 1.0), &limits(1.0, -1.0), &limits(0.0, 0.0)], |graph| {
        graph.input("x", DType::Float, &[-1]).input("low", DType::Float, &[]).input(
            "high",
            DType::Float,
            &[],
        );
        graph.floats("op", "ClipByValue", &["x", "low", "high"]);
    })
}

fn bias() -> Case {
    case("BiasAdd", &[&[floats(&[count(), 1], &EDGES), floats(&[1], &[0.1])]], |graph| {
        graph.input("x", DType::Float, &[-1, -1]).input("z", DType::Float, &[-1]);
        graph.floats("op", "BiasAdd", &["x", "z"]).with("data_format", text("NHWC"));
    })
}

fn mask(shape: &[i64]) -> Tensor {
    let count = usize::try_from(shape.iter().product::<i64>()).unwrap();
    let values: Vec<u8> = (0..count).map(|place| u8::from(place % 3 == 0)).collect();
    bytes(DType::Bool, shape, &values)
}

fn selected() -> Case {
    let none = floats(&[count()], &[0.0; 44]);
    case(
        "SelectV2",
        &[&[mask(&[count()]), edges(), none.clone()], &[mask(&[count()]), none, edges()]],
        |graph| {
            graph.input("if", DType::Bool, &[-1]).input("x", DType::Float, &[-1]).input(
                "z",
                DType::Float,
                &[-1],
            );
            graph.floats("op", "SelectV2", &["if", "x", "z"]);
        },
    )
}

/// Three shapes that are one by broadcasting.
fn selected_by_a_column() -> Case {
    let three = |rows| [mask(&[rows, 1]), floats(&[1, 3], &[1.0, -0.0, 3e38]), floats(&[], &[-7.0])];
    case("SelectV2", &[&three(4), &three(1)], |graph| {
        graph.input("if", DType::Bool, &[-1, 1]).input("x", DType::Float, &[1, -1]).input(
            "z",
            DType::Float,
            &[],
        );
        graph.floats("op", "SelectV2", &["if", "x", "z"]);
    })
}

/// Makes the output, float32, of what is a bool or an integer.
pub(super) fn cast(graph: &mut Builder, name: &str, dtype: DType) {
    let types = [("SrcT", dtype), ("DstT", DType::Float)];
    graph.node("op", "Cast", &[name], &types).with("Truncate", flag(false));
}

fn logical(op: &'static str) -> Case {
    let (column, row) = (bytes(DType::Bool, &[2, 1], &[0, 1]), bytes(DType::Bool, &[2], &[0, 1]));
    case(op, &[&[column, row]], |graph| {
        graph.input("x", DType::Bool, &[-1, -1]).input("z", DType::Bool, &[-1]);
        graph.node("both", op, &["x", "z"], &[]);
        cast(graph, "both", DType::Bool);
    })
}

fn softmax(op: &'static str, rank: usize) -> Case {
    let shape = |rows, width| if rank == 2 { vec![rows, width] } else { vec![1, rows, width] };
    let steep = [1e4, -1e4, 0.0, 1.0, 88.0, 89.0, 200.0, -200.0, 3e38, -3e38, 3e38, 0.0];
    let level = [-1e20, -1e20, -1e20, 0.0, -0.0, 0.0, 50.0, 50.0, -50.0, 1e-20, -1e-20, 0.0];
    let requests = [
        vec![floats(&shape(4, 3), &steep)],
        vec![floats(&shape(4, 3), &level)],
        vec![floats(&shape(1, 1), &[5.0])],
    ];
    let requests: Vec<&[Tensor]> = requests.iter().map(Vec::as_slice).collect();
    case(op, &requests, |graph| {
        graph.input("x", DType::Float, &vec![-1; rank]).floats("op", op, &["x"]);
    })
}

/// Casts of what requests hold.
fn casts() -> Vec<Case> {
    let limits = [i32::MIN, i32::MIN + 1, -16_777_217, -1, 0, 1, 16_777_217, i32::MAX - 1, i32::MAX];
    let of = |dtype: DType, tensor: Tensor| {
        case("Cast", &[&[tensor]], |graph| cast(graph.input("x", dtype, &[-1]), "x", dtype))
    };
    vec![
        of(DType::Int32, super::ints(&[9], &limits)),
        of(DType::UInt8, bytes(DType::UInt8, &[4], &[0, 1, 128, 255])),
        of(DType::Bool, bytes(DType::Bool, &[2], &[0, 1])),
    ]
}
