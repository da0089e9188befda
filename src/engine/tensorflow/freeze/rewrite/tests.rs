//! Each rule on graphs made by hand, and any graph.

use super::*;
use crate::engine::signature::Signature;
use crate::engine::tensorflow::freeze::plan::{self, Variable};
use crate::pb::tensorflow::op_def::AttrDef;
use crate::pb::tensorflow::{NameAttrList, NodeDef};
use crate::tensor::DType;
use proptest::prelude::*;

const FLOAT: i32 = DType::Float as i32;
const RESOURCE: i32 = DType::Resource as i32;

fn node(name: &str, op: &str, inputs: &[&str]) -> NodeDef {
    plan::node(name, op, inputs, &[])
}

fn typed(name: &str, op: &str, inputs: &[&str], dtype: i32) -> NodeDef {
    plan::node(name, op, inputs, &[("T", dtype)])
}

/// What the session makes of feed or fetch `index` of `node`.
fn session_end(op: &str, name: &str, inputs: &[&str], index: i64) -> NodeDef {
    let mut made = node(&format!("{name}_0_{index}"), op, inputs);
    made.attr.insert("index".to_owned(), attr(Value::I(index)));
    made
}

fn spec(alias: &str, tensor: &str) -> TensorSpec {
    TensorSpec {
        alias: alias.to_owned(),
        tensor: tensor.to_owned(),
        dtype: DType::Float,
        shape: Some(vec![-1]),
    }
}

/// A plan with input `x`, output `call:0` and the variables `v` and `w`.
fn plan() -> Plan {
    let variable =
        |name: &str, is_resource| Variable { node: name.to_owned(), value: String::new(), is_resource };
    Plan {
        graph: GraphDef::default(),
        inputs: vec![spec("x", "x:0")],
        outputs: vec![spec("y", "call:0")],
        variables: vec![variable("v", true), variable("w", false)],
        ops: std::collections::BTreeSet::new(),
    }
}

fn values() -> Vec<Tensor> {
    let value = |value: f32| Tensor::numbers(DType::Float, vec![], value.to_le_bytes().to_vec().into());
    vec![value(2.0), value(3.0)]
}

/// Freezes `nodes`, with `_Arg` and `_Retval` for `x`, and an output that is `output`.
fn freeze(nodes: Vec<NodeDef>, output: &str) -> Result<FrozenGraph> {
    let ends = [
        session_end("_Arg", "_arg_x", &[], 0),
        session_end("_Retval", "_retval_servable_output_0", &[output], 0),
    ];
    let graph = GraphDef { node: nodes.into_iter().chain(ends).collect(), ..GraphDef::default() };
    frozen(graph, plan(), values())
}

fn find<'g>(frozen: &'g FrozenGraph, name: &str) -> &'g NodeDef {
    let found = frozen.graph.node.iter().find(|node| node.name == name);
    found.unwrap_or_else(|| panic!("no {name} in {:?}", frozen.graph.node))
}

fn ops(frozen: &FrozenGraph) -> Vec<&str> {
    let mut ops: Vec<&str> = frozen.graph.node.iter().map(|node| node.op.as_str()).collect();
    ops.sort_unstable();
    ops
}

fn refusal(nodes: Vec<NodeDef>, output: &str) -> String {
    let why = freeze(nodes, output).unwrap_err();
    assert_eq!(why.kind, Kind::Unimplemented, "{why}");
    why.message.into_owned()
}

#[test]
fn arguments_become_placeholders_and_the_output_has_the_name_of_its_tensor() {
    let frozen = freeze(vec![node("relu", "Relu", &["_arg_x_0_0"])], "relu").unwrap();
    assert_eq!(ops(&frozen), ["Identity", "Placeholder", "Relu"]);
    assert_eq!((&*frozen.inputs[0].tensor, &*frozen.outputs[0].tensor), ("x:0", "call:0"));
    assert_eq!(find(&frozen, "relu").input, ["x"]);
    assert_eq!(find(&frozen, "call").input, ["relu"]);
    let shape = &find(&frozen, "x").attr["shape"].value;
    assert!(matches!(shape, Some(Value::Shape(shape)) if shape.dim[0].size == -1 && !shape.unknown_rank));
}

#[test]
fn an_input_that_nothing_needs_is_there_as_well() {
    let nodes = vec![node("one", "Const", &[])];
    let graph = GraphDef {
        node: nodes
            .into_iter()
            .chain([session_end("_Retval", "_retval_servable_output_0", &["one"], 0)])
            .collect(),
        ..GraphDef::default()
    };
    let frozen = frozen(graph, plan(), values()).unwrap();
    assert_eq!(ops(&frozen), ["Const", "Identity", "Placeholder"]);
}

#[test]
fn a_variable_that_is_read_twice_is_one_constant() {
    let nodes = vec![
        node("v", "VarHandleOp", &[]),
        typed("v2", "Identity", &["v"], RESOURCE),
        node("read", "ReadVariableOp", &["v"]),
        node("again", "ReadVariableOp", &["v2:0", "^read"]),
        node("sum", "AddV2", &["read", "again"]),
        node("all", "Mul", &["sum", "_arg_w_0_1"]),
        session_end("_Arg", "_arg_w", &[], 1),
    ];
    let frozen = freeze(nodes, "all").unwrap();
    assert_eq!(ops(&frozen), ["AddV2", "Const", "Const", "Identity", "Mul", "Placeholder"]);
    assert_eq!(find(&frozen, "sum").input, ["v", "v"]);
    assert_eq!(find(&frozen, "all").input, ["sum", "w"]);
    let Some(Value::Tensor(value)) = &find(&frozen, "w").attr["value"].value else { panic!() };
    assert_eq!(crate::pb::tensor::decode(value).unwrap().bytes(), 3f32.to_le_bytes());
}

#[test]
fn a_variable_in_a_loop_or_branch_goes_there_as_a_value() {
    let mut list = node("list", "IdentityN", &["_arg_x_0_0", "v"]);
    let types =
        crate::pb::tensorflow::attr_value::ListValue { r#type: vec![FLOAT, RESOURCE], ..Default::default() };
    list.attr.insert("T".to_owned(), attr(Value::List(types)));
    let nodes = vec![
        node("v", "VarHandleOp", &[]),
        list,
        typed("enter", "Enter", &["list:1"], RESOURCE),
        typed("merge", "Merge", &["enter", "next"], RESOURCE),
        typed("switch", "Switch", &["merge", "going"], RESOURCE),
        typed("next", "NextIteration", &["switch:1"], RESOURCE),
        node("read", "ReadVariableOp", &["switch:1"]),
        node("going", "LoopCond", &["read"]),
        typed("exit", "Exit", &["switch"], RESOURCE),
        node("last", "ReadVariableOp", &["exit"]),
    ];
    let frozen = freeze(nodes, "last").unwrap();
    for name in ["enter", "merge", "switch", "next", "exit"] {
        assert_eq!(type_of_attr(find(&frozen, name).attr.get("T")), Some(FLOAT), "{name}");
    }
    assert_eq!(find(&frozen, "enter").input, ["v"]);
    assert_eq!(find(&frozen, "going").input, ["switch:1"]);
    assert_eq!(find(&frozen, "call").input, ["exit"]);
}

#[test]
fn rows_of_a_variable_are_gathered_from_its_value() {
    for dims in [0, 1] {
        let mut gather = plan::node(
            "gather",
            "ResourceGather",
            &["v", "_arg_x_0_0"],
            &[("dtype", FLOAT), ("Tindices", DType::Int64 as i32)],
        );
        gather.attr.insert("batch_dims".to_owned(), attr(Value::I(dims)));
        gather.attr.insert("validate_indices".to_owned(), attr(Value::B(true)));
        let frozen = freeze(vec![node("v", "VarHandleOp", &[]), gather], "gather").unwrap();
        let gather = find(&frozen, "gather");
        assert_eq!((&*gather.op, &gather.input[..2]), ("GatherV2", &["v".to_owned(), "x".to_owned()][..]));
        let names: Vec<&str> = gather.attr.keys().map(String::as_str).collect();
        assert_eq!(names, ["Taxis", "Tindices", "Tparams", "batch_dims"]);
        let Some(Value::Tensor(axis)) = &find(&frozen, &gather.input[2]).attr["value"].value else {
            panic!()
        };
        assert_eq!(
            crate::pb::tensor::decode(axis).unwrap().bytes(),
            i32::try_from(dims).unwrap().to_le_bytes()
        );
    }
}

#[test]
fn what_cannot_take_a_value_is_refused() {
    let handle = || node("v", "VarHandleOp", &[]);
    let merge = vec![handle(), node("merge", "Merge", &["v", "other"]), node("other", "Other", &[])];
    assert!(refusal(merge, "_arg_x_0_0").contains("or something else"));
    let destroy = vec![handle(), node("d", "DestroyResourceOp", &["v"])];
    assert!(refusal(destroy, "_arg_x_0_0").contains("takes a variable"));
    assert!(refusal(vec![handle()], "v").contains("handle"));
    let read = plan::node("read", "ReadVariableOp", &["v"], &[("dtype", DType::Double as i32)]);
    assert!(refusal(vec![handle(), read], "read").contains("takes a variable"));
}

#[test]
fn calls_that_are_left_are_refused_where_they_are_needed() {
    let call = || {
        let mut call = node("mapped", "MapDefun", &["_arg_x_0_0"]);
        let function = NameAttrList { name: "f".to_owned(), ..NameAttrList::default() };
        call.attr.insert("f".to_owned(), attr(Value::Func(function)));
        call
    };
    assert!(refusal(vec![call()], "mapped").contains("MapDefun"));
    assert!(refusal(vec![node("sent", "_Recv", &[])], "sent").contains("_Recv"));
    freeze(vec![call()], "_arg_x_0_0").unwrap();
}

#[test]
fn names_and_attributes_that_tensorflow_keeps_to_itself_go() {
    let mut inner = typed("_inner", "Relu", &["_arg_x_0_0"], FLOAT);
    inner.device = "/device:CPU:0".to_owned();
    for name in ["_output_shapes", "_class", "_XlaCompile"] {
        inner.attr.insert(name.to_owned(), attr(Value::B(true)));
    }
    let nodes = vec![inner, node("node_inner", "Relu", &["_inner"]), node("call", "Relu", &["node_inner"])];
    let frozen = freeze(nodes, "call").unwrap();
    let names: Vec<&str> = frozen.graph.node.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names, ["node_inner", "node_inner_1", "call_1", "x", "call"]);
    assert_eq!(find(&frozen, "call").op, "Identity");
    assert_eq!(frozen.graph.node[0].attr.keys().collect::<Vec<_>>(), ["T"]);
    assert!(frozen.graph.node.iter().all(|node| node.device.is_empty()));
}

#[test]
fn only_control_dependencies_that_mean_something_stay() {
    let nodes = vec![
        node("start", "NoOp", &[]),
        node("constant", "Const", &["^start"]),
        typed("pass", "Identity", &["constant", "^start"], FLOAT),
        node("switch", "Switch", &["_arg_x_0_0", "constant"]),
        typed("pivot", "Identity", &["switch:1"], FLOAT),
        node("in_branch", "NoOp", &["^pivot"]),
        node("still", "NoOp", &["^in_branch"]),
        node("inner", "Const", &["^still", "^start"]),
        node("sum", "AddV2", &["pass", "inner", "^constant", "^pass"]),
    ];
    let frozen = freeze(nodes, "sum").unwrap();
    assert!(find(&frozen, "constant").input.is_empty());
    assert_eq!(find(&frozen, "inner").input, ["^pivot"]);
    assert_eq!(find(&frozen, "sum").input, ["constant", "inner"]);
    assert!(!ops(&frozen).contains(&"NoOp"));
}

#[test]
fn onednns_operations_become_tensorflows() {
    let mut convolution = node("c", "_MklNativeConv2D", &["x", "w"]);
    for (name, value) in [("strides", Value::I(1)), ("is_filter_const", Value::B(true))] {
        convolution.attr.insert(name.to_owned(), attr(value));
    }
    convolution.attr.insert(KERNEL.to_owned(), attr(Value::S("MklNameChangeOp".into())));
    let mut graph = GraphDef { node: vec![convolution, node("m", "_MklMatMul", &[])], ..GraphDef::default() };
    let definition = |op: &str| match op {
        "Conv2D" | "MatMul" => {
            let strides = AttrDef { name: "strides".to_owned(), ..AttrDef::default() };
            Ok(OpDef { name: op.to_owned(), attr: vec![strides], ..OpDef::default() })
        }
        _ => Err(Error::not_found("unknown")),
    };
    restore_operations(&mut graph, definition).unwrap();
    assert_eq!(graph.node[0].op, "Conv2D");
    assert_eq!(graph.node[0].attr.keys().collect::<Vec<_>>(), ["strides"]);
    assert_eq!(graph.node[1].op, "MatMul");
    graph.node.push(node("f", "_MklNativeConv2DWithBias", &[]));
    let why = restore_operations(&mut graph, definition).unwrap_err();
    assert_eq!(why.kind, Kind::Unimplemented);
}

const OPS: [&str; 18] = [
    "Const",
    "NoOp",
    "Identity",
    "IdentityN",
    "Switch",
    "Merge",
    "Enter",
    "Exit",
    "NextIteration",
    "VarHandleOp",
    "ReadVariableOp",
    "ResourceGather",
    "ResourceGatherNd",
    "VariableV2",
    "If",
    "AddV2",
    "_MklMatMul",
    "Placeholder",
];
const NAMES: [&str; 12] = [
    "v",
    "w",
    "x",
    "a",
    "b",
    "c",
    "_d",
    "call",
    "_arg_x_0_0",
    "_arg_w_0_1",
    "_retval_servable_output_0_0_0",
    "e",
];

/// Any nodes with these names, each at most once, that take each other.
fn any_graph() -> impl Strategy<Value = GraphDef> {
    let input = (0..NAMES.len(), 0..5usize).prop_map(|(name, port)| match port {
        0 => NAMES[name].to_owned(),
        4 => format!("^{}", NAMES[name]),
        port => format!("{}:{}", NAMES[name], port - 1),
    });
    let one = (0..OPS.len(), prop::collection::vec(input, 0..4), 0..3i64);
    prop::collection::vec(one, NAMES.len()).prop_map(|nodes| {
        let node = nodes.into_iter().zip(NAMES).map(|((op, inputs, number), name)| {
            let op = match name {
                "_arg_x_0_0" | "_arg_w_0_1" => "_Arg",
                "_retval_servable_output_0_0_0" => "_Retval",
                _ => OPS[op],
            };
            let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
            let mut made = plan::node(name, op, &inputs, &[("T", RESOURCE), ("dtype", FLOAT)]);
            let number = if name == "_arg_w_0_1" {
                1
            } else if op.starts_with('_') {
                0
            } else {
                number
            };
            made.attr.insert("index".to_owned(), attr(Value::I(number)));
            made.attr.insert("batch_dims".to_owned(), attr(Value::I(number)));
            made
        });
        GraphDef { node: node.collect(), ..GraphDef::default() }
    })
}

proptest! {
    #[test]
    fn any_graph_is_frozen_or_refused(graph in any_graph()) {
        if let Ok(frozen) = frozen(graph, plan(), values()) {
            prop_assert!(frozen.graph.node.iter().all(|node| !node.name.starts_with('_')));
            prop_assert!(frozen.graph.node.iter().any(|node| node.name == "x" && node.op == "Placeholder"));
            // All that is taken is there, and no name is taken twice.
            prop_assert!(Graph::read(frozen.graph).is_ok());
        }
    }

    #[test]
    fn any_graph_is_planned_or_refused(graph in any_graph()) {
        let signature = Signature {
            name: "s".into(),
            method_name: String::new(),
            inputs: vec![spec("a", "a:0"), spec("x", "x:1")],
            outputs: vec![spec("b", "b:0"), spec("c", "c:2"), spec("x", "x:1")],
            defaults: BTreeMap::new(),
        };
        if let Ok(plan) = plan::of(graph, &signature) {
            prop_assert_eq!(plan.inputs.len(), 2);
            prop_assert_eq!(plan.outputs.len(), 3);
            let names: HashSet<&str> = plan.graph.node.iter().map(|node| node.name.as_str()).collect();
            prop_assert_eq!(names.len(), plan.graph.node.len());
        }
    }
}
