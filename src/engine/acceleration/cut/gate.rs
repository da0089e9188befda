//! Decides, without running anything, which nodes of a graph OpenVINO may run.
//!
//! OpenVINO computes int64 as int32 and float64 as float32, and knows no errors that depend on values. So a node passes
//! only if `operations.rs` lists its operation, and each of its inputs is what is listed there. Integers pass where they
//! are sizes, axes or indices that come from shapes and constants alone, which fit int32: those of a tensor that can be
//! held. Sums and products of int64 sizes may exceed int32; they pass on as sizes of a tensor, which then could not be
//! held either, but are never made into values.
//!
//! An integer of a request is no size. As int32 it may become a float or a one-hot vector; of an int64 only the shape is
//! read, since its values would wrap.

use super::graph::{Graph, Node, Port};
use super::numbers::Numbers;
use super::operations::{self, Operation};
use super::refusal::Refusal;
use super::{attributes, types};
use crate::pb::tensorflow::NodeDef;
use crate::tensor::DType;

/// What is known of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// float32.
    Float,
    /// bool.
    Bool,
    /// An integer that a request decides about, of int32 or uint8.
    Integer,
    /// A size, axis or index, made of shapes and constants.
    Size { constant: bool, may_exceed_int32: bool },
    /// Only its shape may be read.
    Shaped,
    /// OpenVINO must not see it.
    Foreign,
}

/// What the gate says of every node.
pub(super) struct Gate {
    /// The class of each node's outputs.
    pub(super) classes: Vec<Class>,
    /// Why OpenVINO must not run a node; `None` if it may.
    pub(super) why_not: Vec<Option<String>>,
    /// The nodes for which none has to wait: they run in any case, or cannot fail.
    pub(super) never_awaited: Vec<bool>,
}

impl Gate {
    /// Judges `graph`; an error if no part of it may leave the session that the model was loaded in.
    pub(super) fn new(graph: &Graph<'_>) -> Result<Gate, Refusal> {
        let count = graph.nodes.len();
        graph.nodes.iter().try_for_each(stands_alone)?;
        let mut gate = Gate {
            classes: vec![Class::Foreign; count],
            why_not: vec![None; count],
            never_awaited: never_awaited(graph),
        };
        let mut numbers = Numbers::of(count);
        for position in &graph.order {
            let node = &graph.nodes[*position];
            let judged = gate.judge(graph, node).and_then(|class| {
                let passed = numbers.pass(graph, *position, |taken| gate.allows(taken));
                passed.map(|()| class).map_err(|what| at(what, node))
            });
            gate.classes[*position] = match &judged {
                Ok(class) => *class,
                Err(_) => outside(node, 0),
            };
            gate.why_not[*position] = judged.err();
        }
        Ok(gate)
    }

    /// Returns whether OpenVINO may run `node`.
    pub(super) fn allows(&self, node: usize) -> bool {
        self.why_not[node].is_none()
    }

    /// Leaves `node` to TensorFlow, and says why.
    pub(super) fn refuse(&mut self, graph: &Graph<'_>, node: usize, why: String) {
        self.classes[node] = outside(&graph.nodes[node], 0);
        self.why_not[node] = Some(why);
    }

    /// Returns the class of what `node` gives if OpenVINO runs it, or why it must not.
    fn judge(&self, graph: &Graph<'_>, node: &Node<'_>) -> Result<Class, String> {
        if node.feed.is_some() {
            return Err("an input".to_owned());
        }
        if node.in_flow {
            return Err(at("a loop or branch", node));
        }
        if !node.for_value {
            return Err(at("a value that is only checked", node));
        }
        if node.control.iter().any(|needed| !self.never_awaited[*needed]) {
            return Err(at("an order of operations", node));
        }
        if graph.outputs.iter().any(|port| port.output > 0 && std::ptr::eq(&graph.nodes[port.node], node)) {
            // Nothing else can have its name, so nothing could be put in its place.
            return Err(at("an output that is not the first", node));
        }
        if node.def.op == "Const" {
            return constant(node);
        }
        let inputs: Vec<Class> = node.data.iter().map(|port| self.class(graph, *port)).collect();
        let mut ways = operations::allowed(&node.def.op).peekable();
        if ways.peek().is_none() {
            return Err(at("an operation that is not known to be alike", node));
        }
        let class = ways.find_map(|way| gives(&way, node, &inputs));
        let class = class.ok_or_else(|| at(&unlike(node, &inputs), node))?;
        attributes_fit(graph, node).map_err(|what| at(what, node))?;
        Ok(class)
    }

    /// Returns the class of an output.
    pub(super) fn class(&self, graph: &Graph<'_>, port: Port) -> Class {
        let node = &graph.nodes[port.node];
        if self.allows(port.node) { self.classes[port.node] } else { outside(node, port.output) }
    }
}

fn at(what: &str, node: &Node<'_>) -> String {
    Refusal::at(what, node.def).0
}

/// Refuses a graph whose nodes do more than compute their outputs from the inputs.
fn stands_alone(node: &Node<'_>) -> Result<(), Refusal> {
    if node.feed.is_some() {
        return Ok(());
    }
    if node.def.op == "Placeholder" {
        return Err(Refusal::at("a placeholder that nothing feeds", node.def));
    }
    if attributes::calls(node.def) {
        return Err(Refusal::at("a call of a function", node.def));
    }
    match operations::state(&node.def.op) {
        Some(what) => Err(Refusal::at(what, node.def)),
        None => Ok(()),
    }
}

/// Returns the nodes for which no node has to wait.
fn never_awaited(graph: &Graph<'_>) -> Vec<bool> {
    let mut never = vec![false; graph.nodes.len()];
    for position in &graph.order {
        let node = &graph.nodes[*position];
        let harmless = matches!(node.def.op.as_str(), "NoOp" | "Const" | "Identity" | "Placeholder");
        never[*position] = !node.in_flow
            && (node.for_value || (harmless && graph.needs(*position).all(|needed| never[needed])));
    }
    never
}

/// Returns the class of a value that TensorFlow gives to OpenVINO.
fn outside(node: &Node<'_>, output: usize) -> Class {
    match dtype(node, output) {
        Some(DType::Float) => Class::Float,
        Some(DType::Bool) => Class::Bool,
        Some(DType::Int32 | DType::UInt8) => Class::Integer,
        Some(DType::Int64) => Class::Shaped,
        _ => Class::Foreign,
    }
}

/// Returns the dtype of an output.
pub(super) fn dtype(node: &Node<'_>, output: usize) -> Option<DType> {
    types::dtype(node.def, output, operations::allowed(&node.def.op).next().is_some())
}

fn constant(node: &Node<'_>) -> Result<Class, String> {
    let size = Class::Size { constant: true, may_exceed_int32: false };
    match dtype(node, 0) {
        Some(DType::Float) => Ok(Class::Float),
        Some(DType::Bool) => Ok(Class::Bool),
        Some(DType::Int32) => Ok(size),
        Some(DType::Int64) => match attributes::constant_integers(node.def, types::MOST_INTEGERS) {
            Some(values) if values.iter().all(|value| i32::try_from(*value).is_ok()) => Ok(size),
            _ => Err(at("an int64 beyond int32", node)),
        },
        _ => Err(at("a constant that OpenVINO does not take alike", node)),
    }
}

/// Returns the class of what `node` gives, if it is used in this `way`.
fn gives(way: &Operation, node: &Node<'_>, inputs: &[Class]) -> Option<Class> {
    let letters = way.letters(inputs.len())?;
    if !letters.iter().zip(inputs).all(|(letter, class)| takes(*letter, *class)) {
        return None;
    }
    let moved = letters.iter().zip(inputs).filter(|(letter, _)| **letter == 'm').map(|(_, class)| *class);
    match way.gives {
        'f' if dtype(node, 0) == Some(DType::Float) => Some(Class::Float),
        'b' => Some(Class::Bool),
        'm' => match moved.map(Some).reduce(|left, right| common(left?, right?))?? {
            // An index or a shape that is no constant makes none.
            Class::Size { constant, may_exceed_int32 } => {
                Some(Class::Size { constant: constant && all_constant(inputs), may_exceed_int32 })
            }
            class @ (Class::Float | Class::Bool | Class::Integer) => Some(class),
            Class::Shaped | Class::Foreign => None,
        },
        's' => size(node, inputs),
        _ => None,
    }
}

/// Returns the class of a size that `node` computes.
fn size(node: &Node<'_>, inputs: &[Class]) -> Option<Class> {
    let dtype = dtype(node, 0).filter(|dtype| matches!(dtype, DType::Int32 | DType::Int64))?;
    let op = node.def.op.as_str();
    let exceeds = |class: &Class| matches!(class, Class::Size { may_exceed_int32: true, .. });
    let may_exceed_int32 = (dtype == DType::Int64 && operations::grows(op)) || inputs.iter().any(exceeds);
    let constant = !matches!(op, "Shape" | "ShapeN" | "Size" | "Rank") && all_constant(inputs);
    Some(Class::Size { constant, may_exceed_int32 })
}

fn all_constant(inputs: &[Class]) -> bool {
    inputs.iter().all(|class| matches!(class, Class::Size { constant: true, .. }))
}

/// Returns what two values are that are moved into one.
fn common(left: Class, right: Class) -> Option<Class> {
    match (left, right) {
        (
            Class::Size { constant: one, may_exceed_int32: wide },
            Class::Size { constant: other, may_exceed_int32: too },
        ) => Some(Class::Size { constant: one && other, may_exceed_int32: wide || too }),
        _ => Some(left).filter(|left| *left == right),
    }
}

/// Returns whether a value of `class` is what `letter` of [`operations`] stands for.
fn takes(letter: char, class: Class) -> bool {
    match letter {
        'f' => class == Class::Float,
        'b' => class == Class::Bool,
        'i' => class == Class::Integer,
        's' => matches!(class, Class::Size { .. }),
        'n' => matches!(class, Class::Size { may_exceed_int32: false, .. }),
        'c' => matches!(class, Class::Size { constant: true, .. }),
        'm' => !matches!(class, Class::Shaped | Class::Foreign),
        'x' => class != Class::Foreign,
        _ => false,
    }
}

/// Says what is wrong with the `inputs` of `node`.
fn unlike(node: &Node<'_>, inputs: &[Class]) -> String {
    let typed =
        |wanted: DType| dtype(node, 0) == Some(wanted) || attributes::dtype(node.def, "T", 0) == Some(wanted);
    for (dtype, name) in [(DType::Int64, "int64"), (DType::Double, "float64"), (DType::Int32, "int32")] {
        if typed(dtype) {
            return format!("{name} arithmetic");
        }
    }
    if inputs.contains(&Class::Foreign) {
        return "a value that OpenVINO does not take alike".to_owned();
    }
    "a size or index that a request decides about".to_owned()
}

/// Returns what is wrong with the attributes of `node`.
fn attributes_fit(graph: &Graph<'_>, node: &Node<'_>) -> Result<(), &'static str> {
    let def = node.def;
    let layout = attributes::text(def, "data_format");
    if !matches!(layout, None | Some(b"NHWC" | b"NDHWC" | b"")) {
        return Err("another layout than NHWC");
    }
    let integers = |place: usize| node.data.get(place).and_then(|port| types::integers(graph, *port));
    match def.op.as_str() {
        op if op.starts_with("FusedBatchNorm") && (attributes::flag(def, "is_training") || node.used > 1) => {
            Err("statistics of a batch")
        }
        // OpenVINO takes no notice of it.
        "MaxPool" | "AvgPool" | "MaxPool3D" | "AvgPool3D" if !spatial(attributes::ints(def, "ksize")) => {
            Err("a window of channels")
        }
        // OpenVINO pads these otherwise, or was not seen to pad them.
        op if op != "Conv2D" && attributes::text(def, "padding") == Some(b"EXPLICIT") => {
            Err("explicit padding")
        }
        "MaxPool3D" | "AvgPool3D" | "Conv3D" if steps_over(graph, node) => {
            Err("steps longer than the window")
        }
        "OneHot" if attributes::dtype(def, "TI", 0) == Some(DType::UInt8) => Err("indices of uint8"),
        "Einsum" if !attributes::text(def, "equation").is_some_and(is_product) => Err("another sum"),
        "GatherV2" if attributes::int(def, "batch_dims").unwrap_or(0) != 0 => Err("batch_dims"),
        // OpenVINO fails to compile these.
        "Mean" | "Sum" | "Max" | "Min" if integers(1).is_some_and(|axes| axes.is_empty()) => {
            Err("a reduction of no axis")
        }
        // OpenVINO takes the index at another place, as for `x[None, -1]`.
        "StridedSlice" if is_set(def, "new_axis_mask") && is_set(def, "shrink_axis_mask") => {
            Err("a new dimension beside an index")
        }
        // OpenVINO refuses these, so they would keep all of a part from it.
        "ReverseV2" if integers(1).is_none_or(|axes| axes.len() != 1) => Err("a reversal of several axes"),
        // Both are as exact as 1, where they are small, too: enough beside 1, and for parts of another value, as in GELU.
        "Erf" if !all_takers(graph, node, adds_one) => Err("an error function by itself"),
        "Erfc" if !all_takers(graph, node, |_, taker| taker.def.op == "Mul") => {
            Err("an error function by itself")
        }
        // Division of ints by zero is an error in TensorFlow, and rounds otherwise for negative ones.
        "FloorDiv" | "FloorMod" if !integers(1).is_some_and(|by| by.iter().all(|by| *by > 0)) => {
            Err("division of ints")
        }
        _ => Ok(()),
    }
}

fn is_set(def: &NodeDef, mask: &str) -> bool {
    attributes::int(def, mask).unwrap_or(0) != 0
}

/// Returns whether `node` is no output, and all that takes what it gives is as `fits` says.
fn all_takers(graph: &Graph<'_>, node: &Node<'_>, fits: impl Fn(&Graph<'_>, &Node<'_>) -> bool) -> bool {
    let is_it = |port: &Port| std::ptr::eq(&graph.nodes[port.node], node);
    let mut takers = graph.nodes.iter().filter(|taker| taker.data.iter().any(is_it));
    !graph.outputs.iter().any(is_it) && takers.all(|taker| fits(graph, taker))
}

/// Returns whether `node` is a sum with the constant 1.
fn adds_one(graph: &Graph<'_>, node: &Node<'_>) -> bool {
    let constant = |port: &Port| attributes::constant_floats(graph.nodes[port.node].def, 1);
    matches!(node.def.op.as_str(), "Add" | "AddV2")
        && node.data.iter().any(|port| constant(port).is_some_and(|values| values == [1.0]))
}

/// Returns whether an equation multiplies two tensors, without a diagonal of one.
fn is_product(equation: &[u8]) -> bool {
    let taken = equation.split(|byte| *byte == b'-').next().unwrap_or_default();
    let mut operands = taken.split(|byte| *byte == b',');
    let plain = |operand: &[u8]| {
        let mut labels: Vec<u8> = operand.iter().copied().filter(u8::is_ascii_alphabetic).collect();
        let count = labels.len();
        labels.sort_unstable();
        labels.dedup();
        labels.len() == count
    };
    operands.clone().count() == 2 && operands.all(plain)
}

/// Returns whether a window of three dimensions, with padding, goes on by more than its own size: where that leaves a rest,
/// both engines begin at another place.
fn steps_over(graph: &Graph<'_>, node: &Node<'_>) -> bool {
    let weights = || node.data.get(1).and_then(|port| attributes::constant_shape(graph.nodes[port.node].def));
    let window = match node.def.op.as_str() {
        "Conv3D" => weights().unwrap_or_default(),
        _ => attributes::ints(node.def, "ksize").get(1..).unwrap_or_default().to_vec(),
    };
    let strides = attributes::ints(node.def, "strides").get(1..4).unwrap_or_default();
    let step = |(place, stride): (usize, &i64)| *stride > window.get(place).copied().unwrap_or(1);
    attributes::text(node.def, "padding") == Some(b"SAME") && strides.iter().enumerate().any(step)
}

/// Returns whether a window is one of space alone: neither of examples nor of channels.
fn spatial(window: &[i64]) -> bool {
    window.first() == Some(&1) && window.last() == Some(&1)
}
