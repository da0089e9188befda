//! Which signatures can be run without changing anything: a synthetic warm-up call is made to these alone.
//!
//! A signature is followed from its outputs through the graph and into every function it calls. What it meets is
//! judged by the operation's name: TensorFlow's operations that write say so in it. An unknown operation (a custom
//! one) may do anything and counts as writing.

use crate::pb::tensorflow::attr_value::Value;
use crate::pb::tensorflow::{AttrValue, FunctionDef, GraphDef, NodeDef};
use std::collections::{HashMap, HashSet};

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
];

/// Operations whose names hold such a part and that only compute.
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

/// Whether computing `outputs` (`node:index`) of `graph` changes nothing.
pub(super) fn none<'g>(graph: &'g GraphDef, outputs: impl Iterator<Item = &'g str>) -> bool {
    let nodes: HashMap<&str, &NodeDef> = graph.node.iter().map(|node| (node.name.as_str(), node)).collect();
    let functions: HashMap<&str, &FunctionDef> = graph
        .library
        .iter()
        .flat_map(|library| &library.function)
        .filter_map(|function| Some((function.signature.as_ref()?.name.as_str(), function)))
        .collect();
    let mut seen: HashSet<&str> = HashSet::new();
    let mut called: Vec<&str> = Vec::new();
    let mut waiting: Vec<&str> = outputs.map(node_of).collect();
    while let Some(name) = waiting.pop() {
        let Some(node) = nodes.get(name).filter(|_| seen.insert(name)) else { continue };
        if writes(&node.op) {
            return false;
        }
        waiting.extend(node.input.iter().map(|input| node_of(input)));
        called.extend(functions_of(node));
    }
    functions_write_nothing(&functions, called)
}

/// Every node of a function counts, whether an output needs it or not: side effects are run for their own sake.
fn functions_write_nothing<'g>(
    functions: &HashMap<&'g str, &'g FunctionDef>,
    mut called: Vec<&'g str>,
) -> bool {
    let mut seen: HashSet<&str> = HashSet::new();
    while let Some(name) = called.pop() {
        let Some(function) = functions.get(name).filter(|_| seen.insert(name)) else { continue };
        for node in &function.node_def {
            if writes(&node.op) {
                return false;
            }
            called.extend(functions_of(node));
            // A function may be called by its name as an operation.
            called.push(&node.op);
        }
    }
    true
}

fn writes(op: &str) -> bool {
    WRITES.iter().any(|part| op.contains(part)) && !HARMLESS.contains(&op)
}

/// The node of `node`, `node:output` or `^node`.
pub(super) fn node_of(input: &str) -> &str {
    let name = input.strip_prefix('^').unwrap_or(input);
    name.split_once(':').map_or(name, |(node, _)| node)
}

fn functions_of(node: &NodeDef) -> impl Iterator<Item = &str> {
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
        none(graph, std::iter::once(output))
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
    fn names_that_only_sound_like_writing() {
        assert!(
            !writes("FusedBatchNormV3") && !writes("LookupTableFindV2") && !writes("DepthwiseConv2dNative")
        );
        assert!(writes("ResourceScatterUpdate") && writes("LookupTableInsertV2") && writes("EagerPyFunc"));
    }
}
