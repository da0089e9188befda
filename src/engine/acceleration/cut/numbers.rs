//! Where a value may stop being a number inside of a part, and be lost there before anybody sees it.
//!
//! What enters a part is finite, and so is what leaves it, or TensorFlow does the run. Between them, `Log` of -1 is NaN,
//! and OpenVINO's `Relu` makes 0 of it, TensorFlow's NaN. So what can make NaN or infinities of ordinary numbers must not
//! come before what may lose them. Overflows of sums and products are not looked for: ordinary numbers do not reach them.
//! What is made of constants alone is the same in every run, so the comparison of answers has seen it.

use super::attributes;
use super::graph::{Graph, Node};

/// What is certain of all elements of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    Any,
    NotZero,
    NotNegative,
    Positive,
}

/// What is known of each node's numbers.
pub(super) struct Numbers {
    signs: Vec<Sign>,
    /// True if they may be NaN or infinite.
    doubtful: Vec<bool>,
    /// True if they are made of constants alone.
    constant: Vec<bool>,
}

/// Operations with one tensor of values, which they only move.
const MOVERS: &[&str] = &[
    "Identity",
    "StopGradient",
    "PreventGradient",
    "Snapshot",
    "Squeeze",
    "ExpandDims",
    "Reshape",
    "Transpose",
    "Tile",
    "BroadcastTo",
    "StridedSlice",
];

/// Others that give NaN for NaN in both engines, or only move values.
const CARRIERS: &[&str] = &[
    "Add",
    "AddV2",
    "AddN",
    "Sub",
    "Mul",
    "SquaredDifference",
    "Square",
    "Neg",
    "Abs",
    "Sqrt",
    "RealDiv",
    "Mean",
    "Sum",
    "MatMul",
    "BatchMatMulV2",
    "BatchMatMulV3",
    "Einsum",
    "BiasAdd",
    "IdentityN",
    "Pack",
    "Unpack",
    "ConcatV2",
    "Split",
    "SplitV",
    // Of these, only the shape is read.
    "Shape",
    "ShapeN",
    "Size",
    "Rank",
];

/// Others whose output has the sign of their first input.
const PASSED_ON: &[&str] = &["Mean", "Sum", "Max", "Min", "Sqrt", "AvgPool", "MaxPool"];

/// Operations whose output is never negative.
const NOT_NEGATIVE: &[&str] =
    &["Square", "SquaredDifference", "Abs", "Relu", "Relu6", "Sigmoid", "Softmax", "Softplus", "Exp"];

/// Most elements of a constant that is looked at.
const MOST_FLOATS: usize = 1 << 16;

impl Numbers {
    pub(super) fn of(count: usize) -> Numbers {
        Numbers { signs: vec![Sign::Any; count], doubtful: vec![false; count], constant: vec![false; count] }
    }

    /// Notes what OpenVINO would make in the node at `position`, or refuses it, if it may lose what is no number.
    /// `inside`: whether OpenVINO computes a node that this one takes; other values are finite.
    pub(super) fn pass(
        &mut self,
        graph: &Graph<'_>,
        position: usize,
        inside: impl Fn(usize) -> bool,
    ) -> Result<(), &'static str> {
        let node = &graph.nodes[position];
        let op = node.def.op.as_str();
        let doubtful = node.data.iter().any(|port| inside(port.node) && self.doubtful[port.node]);
        if doubtful && !MOVERS.contains(&op) && !CARRIERS.contains(&op) {
            return Err("what may be no number, and could be lost");
        }
        let known = |node: usize| match (inside(node), self.constant[node]) {
            (true, constant) => (self.signs[node], constant),
            (false, _) => (Sign::Any, false),
        };
        let (signs, constant): (Vec<Sign>, Vec<bool>) = node.data.iter().map(|port| known(port.node)).unzip();
        let shape_only = matches!(op, "Shape" | "ShapeN" | "Size" | "Rank");
        self.doubtful[position] = !shape_only && (doubtful || makes_none(op, &signs, &constant));
        self.signs[position] = sign(node, &signs);
        self.constant[position] = !shape_only && constant.iter().all(|constant| *constant);
        Ok(())
    }
}

fn positive(sign: Sign) -> bool {
    sign == Sign::Positive
}

fn not_negative(sign: Sign) -> bool {
    matches!(sign, Sign::NotNegative | Sign::Positive)
}

/// Returns whether `op` may make NaN or an infinity of ordinary numbers with these signs.
fn makes_none(op: &str, signs: &[Sign], constant: &[bool]) -> bool {
    let at = |place: usize| signs.get(place).copied().unwrap_or(Sign::Any);
    // The last input is the only one, or the divisor.
    if constant.last() == Some(&true) && op != "Pow" {
        return false;
    }
    match op {
        "Exp" | "Pow" => true,
        "Log" | "Rsqrt" => !positive(at(0)),
        "Reciprocal" | "Inv" => !matches!(at(0), Sign::NotZero | Sign::Positive),
        "Sqrt" => !not_negative(at(0)),
        "RealDiv" => !matches!(at(1), Sign::NotZero | Sign::Positive),
        _ => false,
    }
}

/// Returns the sign of what `node` gives, if its inputs have these.
fn sign(node: &Node<'_>, signs: &[Sign]) -> Sign {
    let op = node.def.op.as_str();
    let least = |one: Sign, other: Sign| match (one, other) {
        _ if positive(one) && positive(other) => Sign::Positive,
        _ if not_negative(one) && not_negative(other) => Sign::NotNegative,
        _ => Sign::Any,
    };
    match (op, signs) {
        ("Const", _) => of_constant(node),
        ("Cast", [first]) => *first,
        ("Add" | "AddV2", [one, other]) if not_negative(*one) && not_negative(*other) => {
            if positive(*one) || positive(*other) { Sign::Positive } else { Sign::NotNegative }
        }
        ("Maximum", [one, other]) if positive(*one) || positive(*other) => Sign::Positive,
        ("Maximum", [one, other]) if not_negative(*one) || not_negative(*other) => Sign::NotNegative,
        ("Mul" | "RealDiv" | "Minimum", [one, other]) => least(*one, *other),
        ("Rsqrt" | "Reciprocal" | "Inv", [Sign::Positive]) => Sign::Positive,
        // The mean of what is not 0 may be 0.
        (op, [first, ..]) if MOVERS.contains(&op) || PASSED_ON.contains(&op) && *first != Sign::NotZero => {
            *first
        }
        // Nothing that is read of a tensor with elements is less than 1.
        ("Shape" | "Size", _) => Sign::Positive,
        (op, _) if NOT_NEGATIVE.contains(&op) => Sign::NotNegative,
        _ => Sign::Any,
    }
}

fn of_constant(node: &Node<'_>) -> Sign {
    let Some(values) = attributes::constant_floats(node.def, MOST_FLOATS) else { return Sign::Any };
    if values.iter().all(|value| *value > 0.0) {
        Sign::Positive
    } else if values.iter().all(|value| *value >= 0.0) {
        Sign::NotNegative
    } else if values.iter().all(|value| *value != 0.0 && !value.is_nan()) {
        Sign::NotZero
    } else {
        Sign::Any
    }
}
