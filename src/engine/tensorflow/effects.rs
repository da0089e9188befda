//! Determines the side effects and the termination of a signature from its operations.
//!
//! Three questions: whether a run has no side effects (only then is a synthetic warm-up call made), what is known of
//! its end (a loop may run forever, and TensorFlow cannot interrupt a run in its caller's thread; what waits for another
//! operation must not hold the only thread), and whether inputs need the number of dimensions that is declared.
//!
//! A signature is followed from its outputs through the graph and into every function it calls. The names of
//! TensorFlow's operations tell which write and whose work depends on values; by convention, so do those of others.

use super::ranks;
use crate::engine::Termination;
use crate::pb::tensorflow::attr_value::Value;
use crate::pb::tensorflow::{AttrValue, FunctionDef, GraphDef, NodeDef};
use std::collections::{BTreeSet, HashMap, HashSet};

/// Parts of the names of operations that write, wait for others, or leave the process.
const WRITES: &[&str] = &[
    "Assign",
    "Scatter",
    "Apply",
    "Insert",
    "Import",
    "Remove",
    "Enqueue",
    "Dequeue",
    "Push",
    "Pop",
    "Write",
    "Save",
    "Delete",
    "Destroy",
    "Summary",
    "PyFunc",
    "Send",
    "Recv",
    "Rpc",
    "Stage",
    "Iterator",
    "Dataset",
    "Barrier",
    "Accumulator",
    "Mutex",
    "Print",
    "Rename",
    "Restore",
    "Timestamp",
    "Initialize",
    "Batch",
    "Worker",
    "Tpu",
    "TPU",
    "CountUpTo",
    "RngSkip",
    "RngReadAndSkip",
    "StatefulUniform",
    "StatefulStandardNormal",
    "StatefulTruncatedNormal",
    "StatefulRandom",
];

/// Operations whose names contain such a part but that only compute.
const HARMLESS: &[&str] = &[
    "BatchMatMul",
    "BatchMatMulV2",
    "BatchMatMulV3",
    "FusedBatchNorm",
    "FusedBatchNormV2",
    "FusedBatchNormV3",
    "_FusedBatchNormEx",
    "BatchToSpace",
    "BatchToSpaceND",
    "SpaceToBatch",
    "SpaceToBatchND",
    "BatchNormWithGlobalNormalization",
    "ScatterNd",
    "TensorScatterUpdate",
    "TensorScatterAdd",
    "TensorScatterSub",
    "TensorScatterMax",
    "TensorScatterMin",
    "TensorArrayWrite",
    "TensorArrayWriteV2",
    "TensorArrayWriteV3",
    "TensorArrayScatterV3",
    "TensorListPushBack",
    "TensorListPopBack",
    "TensorListScatter",
    "TensorListScatterV2",
    "NonMaxSuppressionV3",
    "UnsortedSegmentSum",
];

/// Parts of the names of operations that may wait, for other operations of the run or for something outside it.
const WAIT: &[&str] = &[
    "Enqueue",
    "Dequeue",
    "Stage",
    "Unstage",
    "Peek",
    "Barrier",
    "Accumulator",
    "Mutex",
    "Iterator",
    "Dataset",
    "Send",
    "Recv",
    "Collective",
    "Rpc",
    "RemoteCall",
    "Func",
    "Reader",
    "ReadFile",
    "Unbatch",
    "Worker",
    "Tpu",
    "TPU",
];

/// Parts of the names of operations that loop.
const LOOP: &[&str] = &["While", "Enter", "NextIteration", "LoopCond", "Recursive", "ForLoop"];

/// Parts of the names of operations whose work depends on a value.
const DEPEND_ON_VALUES: &[&str] = &[
    "Fill",
    "Range",
    "LinSpace",
    "Tile",
    "BroadcastTo",
    "Decode",
    "Resize",
    "OneHot",
    "Pad",
    "Ragged",
    "Repeat",
    "Random",
    "Bincount",
    "SparseToDense",
    "Decompress",
    "Parse",
    "Lookup",
];

/// Operations whose names contain such a part but whose work depends on shapes alone.
const DEPEND_ON_SHAPES: &[&str] = &["LookupTableFind", "LookupTableFindV2"];

/// The known effects of running a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Effects {
    /// True if running it has no side effects.
    pub(super) none: bool,
    pub(super) termination: Termination,
    /// True if it has an operation for which inputs need the declared number of dimensions ([`super::ranks`]).
    pub(super) needs_ranks: bool,
    /// True if a part of it is compiled by XLA.
    pub(super) is_compiled: bool,
}

/// Follows `outputs` (`node:index`) through `graph` back to `inputs`; these are fed, so nothing behind them runs.
pub(super) fn of<'g>(
    graph: &'g GraphDef,
    inputs: &BTreeSet<&'g str>,
    outputs: impl Iterator<Item = &'g str>,
) -> Effects {
    let mut effects =
        Effects { none: true, termination: Termination::ByShapes, needs_ranks: false, is_compiled: false };
    let mut called: Vec<&str> = Vec::new();
    for node in reached(graph, inputs, outputs).into_values() {
        effects.take(node);
        called.extend(functions_of(node));
        called.push(&node.op);
    }
    effects.take_functions(graph, called);
    effects
}

/// Returns the nodes of `graph` that run for `outputs` when `inputs` are fed, by name.
pub(super) fn reached<'g>(
    graph: &'g GraphDef,
    inputs: &BTreeSet<&'g str>,
    outputs: impl Iterator<Item = &'g str>,
) -> HashMap<&'g str, &'g NodeDef> {
    let nodes: HashMap<&str, &NodeDef> = graph.node.iter().map(|node| (node.name.as_str(), node)).collect();
    let mut reached = HashMap::new();
    let mut waiting: Vec<&str> = outputs.map(node_of).collect();
    while let Some(name) = waiting.pop() {
        let Some(node) = nodes.get(name) else { continue };
        if reached.insert(node.name.as_str(), *node).is_none() {
            let inputs = node.input.iter().filter(|input| !is_fed(input, inputs));
            waiting.extend(inputs.map(|input| node_of(input)));
        }
    }
    reached
}

impl Effects {
    fn take(&mut self, node: &NodeDef) {
        self.none &= !writes(&node.op);
        self.termination = self.termination.min(termination(&node.op));
        self.needs_ranks |= ranks::are_needed_by(&node.op);
        let compiled = node.attr.get("_XlaMustCompile").and_then(|attr| attr.value.as_ref());
        self.is_compiled |= compiled == Some(&Value::B(true));
    }

    /// Takes every node of the functions `called`, whether or not an output needs it: side effects run in any case.
    fn take_functions<'g>(&mut self, graph: &'g GraphDef, mut called: Vec<&'g str>) {
        let functions: HashMap<&str, &FunctionDef> = graph
            .library
            .iter()
            .flat_map(|library| &library.function)
            .filter_map(|function| Some((function.signature.as_ref()?.name.as_str(), function)))
            .collect();
        let mut seen: HashSet<&str> = HashSet::new();
        while let Some(name) = called.pop() {
            let Some(function) = functions.get(name).filter(|_| seen.insert(name)) else { continue };
            for node in &function.node_def {
                self.take(node);
                called.extend(functions_of(node));
                // A function may be called by its name as an operation.
                called.push(&node.op);
            }
        }
    }
}

/// Returns whether `input` is one of `fed`; the first output of a node may be written with or without its index.
pub(super) fn is_fed(input: &str, fed: &BTreeSet<&str>) -> bool {
    fed.contains(input)
        || (!input.contains(':') && fed.iter().any(|tensor| tensor.strip_suffix(":0") == Some(input)))
}

fn writes(op: &str) -> bool {
    has_one_of(WRITES, op) && !HARMLESS.contains(&op)
}

/// Returns what is known of the end of operation `op`.
fn termination(op: &str) -> Termination {
    if has_one_of(WAIT, op) || op == "Batch" {
        Termination::Unknown
    } else if has_one_of(LOOP, op) || op == "For" {
        Termination::MayLoop
    } else if has_one_of(DEPEND_ON_VALUES, op) && !DEPEND_ON_SHAPES.contains(&op) {
        Termination::Finite
    } else {
        Termination::ByShapes
    }
}

fn has_one_of(parts: &[&str], op: &str) -> bool {
    parts.iter().any(|part| op.contains(part))
}

/// Returns the node of `node`, `node:output` or `^node`.
pub(super) fn node_of(input: &str) -> &str {
    let name = input.strip_prefix('^').unwrap_or(input);
    name.split_once(':').map_or(name, |(node, _)| node)
}

pub(super) fn functions_of(node: &NodeDef) -> impl Iterator<Item = &str> {
    node.attr.values().flat_map(|attr: &AttrValue| match &attr.value {
        Some(Value::Func(function)) => vec![function.name.as_str()],
        Some(Value::List(list)) => list.func.iter().map(|function| function.name.as_str()).collect(),
        _ => Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::tensorflow::{FunctionDefLibrary, NameAttrList, OpDef};

    fn node(name: &str, op: &str, inputs: &[&str]) -> NodeDef {
        let input = inputs.iter().map(|input| (*input).to_owned()).collect();
        NodeDef { name: name.to_owned(), op: op.to_owned(), input, ..NodeDef::default() }
    }

    fn harmless(graph: &GraphDef, output: &str) -> bool {
        of(graph, &BTreeSet::new(), std::iter::once(output)).none
    }

    #[test]
    fn only_what_the_output_needs_counts() {
        let graph = GraphDef {
            node: vec![
                node("x", "Placeholder", &[]),
                node("y", "AddV2", &["x", "x:0"]),
                node("count", "AssignAddVariableOp", &["x"]),
                node("z", "Identity", &["y", "^count"]),
            ],
            ..GraphDef::default()
        };
        assert!(harmless(&graph, "y:0"));
        assert!(!harmless(&graph, "z:0"), "a control dependency counts");
    }

    #[test]
    fn what_lies_behind_a_fed_tensor_is_not_run() {
        let graph = GraphDef {
            node: vec![
                node("text", "Placeholder", &[]),
                node("parse", "ParseExample", &["text"]),
                node("x", "Reshape", &["parse:1"]),
                node("y", "AddV2", &["x", "x:0"]),
            ],
            ..GraphDef::default()
        };
        let known = |fed: &[&'static str]| {
            of(&graph, &fed.iter().copied().collect(), std::iter::once("y:0")).termination
        };
        assert_eq!(known(&["text:0"]), Termination::Finite);
        assert_eq!(known(&["x:0"]), Termination::ByShapes);
        assert_eq!(known(&["parse:1"]), Termination::ByShapes);
        assert_eq!(known(&["parse:0"]), Termination::Finite);
    }

    #[test]
    fn functions_are_followed_as_far_as_they_call() {
        let function = |name: &str, op: &str, calls: Option<&str>| {
            let mut inner = node("inner", op, &[]);
            if let Some(callee) = calls {
                let list = NameAttrList { name: callee.to_owned(), ..NameAttrList::default() };
                inner.attr.insert("f".to_owned(), AttrValue { value: Some(Value::Func(list)) });
            }
            FunctionDef {
                signature: Some(OpDef { name: name.to_owned(), ..OpDef::default() }),
                node_def: vec![inner],
                ..FunctionDef::default()
            }
        };
        let graph = |last: &str| {
            let mut call = node("call", "StatefulPartitionedCall", &[]);
            let list = NameAttrList { name: "outer".to_owned(), ..NameAttrList::default() };
            call.attr.insert("f".to_owned(), AttrValue { value: Some(Value::Func(list)) });
            let functions = vec![
                function("outer", "PartitionedCall", Some("middle")),
                function("middle", "While", Some("outer")),
                function("last", last, None),
            ];
            let mut graph = GraphDef {
                node: vec![call],
                library: Some(FunctionDefLibrary { function: functions }),
                ..GraphDef::default()
            };
            graph.library.as_mut().unwrap().function[1].node_def.push(node("more", "last", &[]));
            graph
        };
        assert!(harmless(&graph("ReadVariableOp"), "call:0"));
        assert!(!harmless(&graph("AssignVariableOp"), "call:0"));
    }

    #[test]
    fn what_is_known_of_the_end_is_the_least_of_all_operations() {
        use Termination::{ByShapes, Finite, MayLoop, Unknown};
        let graph = |op: &str| GraphDef {
            node: vec![node("x", op, &[]), node("y", "AddV2", &["x", "x"])],
            ..GraphDef::default()
        };
        for (known, ops) in [
            (
                Unknown,
                &["PyFunc", "QueueDequeueV2", "MapUnstage", "IteratorGetNext", "Batch", "BatchFunction"][..],
            ),
            (MayLoop, &["While", "StatelessWhile", "Enter", "RefNextIteration", "For"]),
            (Finite, &["Fill", "DecodeJpeg", "ResizeBilinear", "LookupTableExportV2", "ParseExampleV2"]),
            (ByShapes, &["MatMul", "StatefulPartitionedCall", "ReadVariableOp", "BatchMatMulV2"]),
            (ByShapes, &["LookupTableFindV2", "StringFormat", "DataFormatVecPermute", "FusedBatchNormV3"]),
        ] {
            for op in ops {
                assert_eq!(
                    of(&graph(op), &BTreeSet::new(), std::iter::once("y:0")).termination,
                    known,
                    "{op}"
                );
            }
        }
    }

    #[test]
    fn names_that_only_sound_like_writing() {
        assert!(
            !writes("FusedBatchNormV3") && !writes("LookupTableFindV2") && !writes("DepthwiseConv2dNative")
        );
        assert!(writes("ResourceScatterUpdate") && writes("LookupTableInsertV2") && writes("EagerPyFunc"));
    }
}
