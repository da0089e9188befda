//! What is planned for signatures of graphs made by hand.

use super::*;
use crate::pb::tensorflow::{NameAttrList, OpDef};
use std::collections::BTreeMap;

fn spec(alias: &str, tensor: &str) -> TensorSpec {
    TensorSpec { alias: alias.to_owned(), tensor: tensor.to_owned(), dtype: DType::Float, shape: None }
}

fn signature(inputs: &[&str], outputs: &[&str]) -> Signature {
    let specs = |tensors: &[&str]| tensors.iter().map(|tensor| spec(tensor, tensor)).collect();
    Signature {
        name: "s".into(),
        method_name: String::new(),
        inputs: specs(inputs),
        outputs: specs(outputs),
        defaults: BTreeMap::new(),
    }
}

fn plain(name: &str, op: &str, inputs: &[&str]) -> NodeDef {
    node(name, op, inputs, &[("dtype", DType::Float as i32)])
}

fn function(name: &str, nodes: Vec<NodeDef>) -> FunctionDef {
    FunctionDef {
        signature: Some(OpDef { name: name.to_owned(), ..OpDef::default() }),
        node_def: nodes,
        attr: [("_noinline".to_owned(), AttrValue { value: Some(Value::B(true)) })].into(),
        ..FunctionDef::default()
    }
}

fn calls(mut node: NodeDef, name: &str) -> NodeDef {
    let function = NameAttrList { name: name.to_owned(), ..NameAttrList::default() };
    node.attr.insert("f".to_owned(), AttrValue { value: Some(Value::Func(function)) });
    node
}

fn graph(node: Vec<NodeDef>, function: Vec<FunctionDef>) -> GraphDef {
    GraphDef { node, library: Some(FunctionDefLibrary { function }), ..GraphDef::default() }
}

fn find<'p>(plan: &'p Plan, name: &str) -> &'p NodeDef {
    plan.graph.node.iter().find(|node| node.name == name).unwrap()
}

fn refusal(graph: GraphDef, signature: &Signature) -> String {
    let why = of(graph, signature).unwrap_err();
    assert_eq!(why.kind, Kind::Unimplemented);
    why.message.into_owned()
}

#[test]
fn only_what_the_outputs_need_is_there() {
    let nodes = vec![
        plain("text", "Placeholder", &[]),
        plain("parse", "ParseExample", &["text"]),
        plain("x", "Reshape", &["parse:1"]),
        plain("y", "AddV2", &["x", "parse:2"]),
        plain("other", "Relu", &["y"]),
    ];
    let plan = of(graph(nodes.clone(), vec![]), &signature(&["x:0"], &["y:0"])).unwrap();
    let names: Vec<&str> = plan.graph.node.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names, ["text", "parse", "y", "x", "servable_output_0"]);
    assert_eq!((&*find(&plan, "x").op, &*plan.inputs[0].tensor), ("Placeholder", "x:0"));
    assert_eq!(find(&plan, "y").input, ["x:0", "parse:2"]);
    // One of several outputs of a node that has to run anyway.
    let plan = of(graph(nodes, vec![]), &signature(&["parse:1"], &["y:0", "parse:1"])).unwrap();
    assert_eq!(plan.inputs[0].tensor, "parse_1:0");
    assert_eq!(find(&plan, "x").input, ["parse_1:0"]);
    assert_eq!(find(&plan, "y").input, ["x", "parse:2"]);
    assert_eq!(find(&plan, "servable_output_1").input, ["parse_1:0"]);
}

#[test]
fn variables_get_their_values_from_outside() {
    let nodes = vec![
        plain("v", "VarHandleOp", &[]),
        plain("v/Read", "ReadVariableOp", &["v"]),
        plain("old", "VariableV2", &[]),
        plain("call", "PartitionedCall", &["v", "old"]),
    ];
    let plan = of(graph(nodes, vec![]), &signature(&[], &["call:0"])).unwrap();
    let value =
        |place: usize| (plan.variables[place].value.as_str(), plan.variables[place].value_node(place));
    assert_eq!(value(0), ("v/Read:0", "servable_value_0".to_owned()));
    assert_eq!(value(1), ("old:0", "old".to_owned()));
    assert_eq!(find(&plan, "old").op, "Placeholder");
    assert_eq!(find(&plan, &assign_node(0)).input, ["v", "servable_value_0"]);
}

#[test]
fn functions_are_kept_as_far_as_they_are_called_and_made_to_be_taken_apart() {
    let functions = vec![
        function("outer", vec![calls(plain("loop", "While", &[]), "inner")]),
        function("inner", vec![plain("bias", "BiasAdd", &["h", "b"]), plain("named", "last", &[])]),
        function("last", vec![plain("random", "RandomUniform", &[])]),
        function("unused", vec![]),
    ];
    let nodes = vec![calls(plain("call", "PartitionedCall", &[]), "outer")];
    let plan = of(graph(nodes, functions), &signature(&[], &["call:0"])).unwrap();
    let functions = &plan.graph.library.as_ref().unwrap().function;
    assert_eq!(functions.iter().map(name_of).collect::<Vec<_>>(), ["outer", "inner", "last"]);
    assert!(functions.iter().all(|function| function.attr.is_empty()));
    assert!(functions[0].node_def[0].attr.contains_key(TAKE_APART));
    assert_eq!(functions[1].node_def[0].input, ["h", "b", "^servable_before"]);
    assert_eq!(functions[1].node_def[2].op, "NoOp");
    let ops: Vec<&str> = plan.ops.iter().map(String::as_str).collect();
    assert_eq!(ops, ["BiasAdd", "PartitionedCall", "RandomUniform", "While"]);
}

#[test]
fn what_cannot_be_planned_is_refused() {
    let y = || vec![plain("y", "Relu", &["x"])];
    assert!(refusal(graph(y(), vec![]), &signature(&["x:0", "x:0"], &["y:0"])).contains("one tensor"));
    assert!(refusal(graph(y(), vec![]), &signature(&["x:0"], &[])).contains("no outputs"));
    assert!(refusal(graph(y(), vec![]), &signature(&["x:0"], &["y:0", ""])).contains("plain tensor"));
    let hidden = vec![plain("v", "VarHandleOp", &[]), plain("y", "Relu", &["v"])];
    assert!(refusal(graph(hidden, vec![]), &signature(&[], &["y:0"])).contains("functions alone"));
    let call = || vec![calls(plain("y", "PartitionedCall", &[]), "f")];
    let own = function("f", vec![plain("v", "VarHandleOp", &[])]);
    assert!(refusal(graph(call(), vec![own]), &signature(&[], &["y:0"])).contains("of its own"));
    let mut compiled = function("f", vec![]);
    compiled.attr.insert(COMPILED.to_owned(), AttrValue { value: Some(Value::B(true)) });
    assert!(refusal(graph(call(), vec![compiled]), &signature(&[], &["y:0"])).contains("XLA"));
}
