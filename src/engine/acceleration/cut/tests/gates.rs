//! A test for each kind of model that OpenVINO would answer wrongly, and for what may pass beside it.

use super::builder::{Builder, text};
use super::checks;
use crate::engine::acceleration::cut::parts::Parts;
use crate::engine::acceleration::cut::plan;
use crate::engine::frozen::FrozenGraph;
use crate::pb::tensorflow::attr_value::{ListValue, Value};
use crate::tensor::DType;

/// Returns why `graph` stays with TensorFlow.
fn refused(graph: &FrozenGraph) -> String {
    plan(graph).unwrap_err().to_string()
}

fn cut(graph: &FrozenGraph) -> Parts {
    let parts = plan(graph).unwrap();
    checks::well_formed(graph, &parts);
    checks::computes_the_same(graph, &parts);
    parts
}

fn is_whole(parts: &Parts) -> bool {
    parts.before.is_none() && parts.after.is_none()
}

/// Returns whether OpenVINO would run operation `op`.
fn moves(parts: &Parts, op: &str) -> bool {
    parts.fast.graph.node.iter().any(|node| node.op == op)
}

/// A graph with input `x` of floats, [-1, 8].
fn floats() -> Builder {
    let mut graph = Builder::default();
    graph.input("x", DType::Float, &[-1, 8]);
    graph
}

#[test]
fn a_dense_layer_is_moved_whole() {
    let graph = floats().dense("y", "x", 8).floats("z", "Softmax", &["y"]).frozen(&["z"]);
    let parts = cut(&graph);
    assert!(is_whole(&parts));
    assert_eq!(parts.fast.graph.node.len(), 4);
}

/// Adds the node `made`.
type Make<'a> = &'a dyn Fn(&mut Builder);

#[test]
fn what_makes_no_number_does_not_come_before_what_loses_it() {
    let divided = |graph: &mut Builder| {
        graph.floats("made", "RealDiv", &["d", "d"]);
    };
    let root = |graph: &mut Builder| {
        graph.floats("negative", "Neg", &["d"]).floats("made", "Sqrt", &["negative"]);
    };
    let makers: [(&str, Make<'_>); 4] = [
        ("Log", &|graph| {
            graph.floats("made", "Log", &["d"]);
        }),
        ("Exp", &|graph| {
            graph.floats("made", "Exp", &["d"]);
        }),
        ("RealDiv", &divided),
        ("Sqrt", &root),
    ];
    for (name, make) in makers {
        for (op, inputs) in [("Relu", &["sum"][..]), ("Maximum", &["sum", "d"]), ("Minimum", &["sum", "d"])] {
            let mut graph = floats();
            make(graph.dense("d", "x", 8));
            graph.floats("sum", "AddV2", &["made", "d"]).floats("lost", op, inputs);
            let parts = cut(&graph.frozen(&["lost"]));
            assert!(moves(&parts, name) && !moves(&parts, op), "{name}, {op}");
            // Nothing is lost: it is seen at the end.
            let seen = cut(&graph.frozen(&["sum"]));
            assert!(is_whole(&seen), "{name}");
        }
    }
}

#[test]
fn what_is_certainly_a_number_may_be_lost() {
    let mut graph = floats();
    let tenth = 0.1f32.to_le_bytes().to_vec();
    graph.dense("d", "x", 8).constant("small", DType::Float, &[], tenth).integers("axis", &[1]);
    graph.floats("square", "Square", &["d"]).floats("mean", "Mean", &["square", "axis"]);
    graph.with("keep_dims", Value::B(true));
    graph.floats("above", "AddV2", &["mean", "small"]).floats("root", "Rsqrt", &["above"]);
    graph.floats("scaled", "Mul", &["d", "root"]).floats("part", "RealDiv", &["scaled", "small"]);
    graph.floats("most", "Maximum", &["mean", "small"]).floats("ratio", "RealDiv", &["part", "most"]);
    graph.floats("logarithm", "Log", &["above"]).floats("all", "AddV2", &["ratio", "logarithm"]);
    let parts = cut(&graph.floats("y", "Relu", &["all"]).frozen(&["y"]));
    assert!(is_whole(&parts) && moves(&parts, "Relu"));
}

#[test]
fn arithmetic_of_int64_stays() {
    let mut graph = Builder::default();
    graph.input("n", DType::Int64, &[-1]).longs("one", &[1]);
    graph.node("y", "AddV2", &["n", "one"], &[("T", DType::Int64)]);
    let only = graph.with_outputs(&[("y", DType::Int64)]);
    assert_eq!(refused(&only), "nothing worth moving: no convolution and no product of matrices");
    graph.node("f", "Cast", &["y"], &[("SrcT", DType::Int64), ("DstT", DType::Float)]);
    graph.dense("d", "f", 8);
    let parts = cut(&graph.frozen(&["d"]));
    assert!(!moves(&parts, "AddV2") && !moves(&parts, "Cast"));
    assert_eq!(parts.fast.inputs[0].dtype, DType::Float);
}

#[test]
fn a_constant_beyond_int32_stays() {
    let mut graph = floats();
    graph.longs("sizes", &[1 << 31, 1]).node(
        "r",
        "Reshape",
        &["x", "sizes"],
        &[("T", DType::Float), ("Tshape", DType::Int64)],
    );
    let graph = graph.dense("y", "r", 8).frozen(&["y"]);
    assert!(!moves(&cut(&graph), "Reshape"));
}

#[test]
fn arithmetic_of_float64_stays() {
    let mut graph = Builder::default();
    graph.input("x", DType::Double, &[-1, 8]).input("w", DType::Double, &[8, 8]);
    let graph = graph.node("y", "MatMul", &["x", "w"], &[("T", DType::Double)]);
    let why = refused(&graph.with_outputs(&[("y", DType::Double)]));
    assert_eq!(why, "nothing worth moving: float64 arithmetic in node y (MatMul)");
}

#[test]
fn half_precision_stays() {
    let mut graph = Builder::default();
    graph.input("x", DType::Half, &[-1, 8]).input("w", DType::Half, &[8, 8]);
    let graph = graph.node("y", "MatMul", &["x", "w"], &[("T", DType::Half)]);
    let why = refused(&graph.with_outputs(&[("y", DType::Half)]));
    assert_eq!(why, "nothing worth moving: a value that OpenVINO does not take alike in node y (MatMul)");
}

#[test]
fn what_depends_on_more_than_its_inputs_stays_with_its_session() {
    for (op, why) in [
        ("VarHandleOp", "state"),
        ("ReadVariableOp", "state"),
        ("AssignAddVariableOp", "state"),
        ("HashTableV2", "a table"),
        ("LookupTableFindV2", "a table"),
        ("RandomUniform", "random numbers"),
        ("RandomStandardNormal", "random numbers"),
        ("TruncatedNormal", "random numbers"),
        ("StatefulUniform", "random numbers"),
        ("Multinomial", "random numbers"),
        ("QueueDequeueV2", "a queue"),
        ("IteratorGetNext", "input or output"),
        ("ReadFile", "input or output"),
        ("PrintV2", "input or output"),
        ("EagerPyFunc", "foreign code"),
        ("Addons>Count", "foreign code"),
    ] {
        let graph =
            floats().dense("y", "x", 8).floats("s", op, &[]).floats("z", "AddV2", &["y", "s"]).frozen(&["z"]);
        let expected = format!("{why} in node s ({op})");
        assert_eq!(refused(&graph), expected);
        // Also if it only has to run.
        let graph =
            floats().floats("s", op, &[]).dense("y", "x", 8).floats("z", "Relu", &["y", "^s"]).frozen(&["z"]);
        assert_eq!(refused(&graph), expected);
    }
}

#[test]
fn what_no_output_needs_does_not_count() {
    let graph = floats().dense("y", "x", 8).floats("s", "RandomUniform", &["y"]).frozen(&["y"]);
    assert!(is_whole(&cut(&graph)));
}

#[test]
fn stateless_operations_with_such_names_pass_through_tensorflow() {
    let mut graph = floats();
    graph.dense("y", "x", 8).floats("z", "TensorScatterAdd", &["y", "x", "x"]);
    let parts = cut(&graph.frozen(&["z"]));
    assert!(!moves(&parts, "TensorScatterAdd"));
}

#[test]
fn functions_and_open_placeholders_are_refused() {
    let called =
        Value::Func(crate::pb::tensorflow::NameAttrList { name: "f".to_owned(), ..Default::default() });
    let mut graph = floats();
    graph.dense("y", "x", 8).floats("z", "PartitionedCall", &["y"]).with("f", called);
    assert_eq!(refused(&graph.frozen(&["z"])), "a call of a function in node z (PartitionedCall)");
    let graph =
        floats().node("p", "Placeholder", &[], &[("dtype", DType::Float)]).dense("y", "p", 8).frozen(&["y"]);
    assert_eq!(refused(&graph), "a placeholder that nothing feeds in node p (Placeholder)");
}

#[test]
fn strings_stay() {
    let mut graph = Builder::default();
    graph.input("text", DType::String, &[-1]);
    graph.node("n", "StringToNumber", &["text"], &[("out_type", DType::Float)]);
    let parts = cut(&graph.dense("y", "n", 8).frozen(&["y"]));
    assert_eq!(parts.before.as_ref().unwrap().inputs[0].dtype, DType::String);
    assert_eq!(parts.fast.inputs[0].dtype, DType::Float);
}

/// An id that is out of range is an error in TensorFlow, and a row of zeros in OpenVINO.
#[test]
fn rows_are_looked_up_by_tensorflow() {
    for dtype in [DType::Int32, DType::Int64] {
        let mut graph = Builder::default();
        graph.input("ids", dtype, &[-1, 16]).weights("rows", &[100, 8]).integers("axis", &[0]);
        let types = [("Tparams", DType::Float), ("Tindices", dtype), ("Taxis", DType::Int32)];
        graph.node("e", "GatherV2", &["rows", "ids", "axis"], &types);
        let parts = cut(&graph.dense("y", "e", 8).frozen(&["y"]));
        assert!(!moves(&parts, "GatherV2"));
        assert_eq!(parts.fast.inputs[0].shape, Some(vec![-1, 16, 8]));
    }
}

#[test]
fn rows_of_constant_ids_are_moved() {
    let mut graph = floats();
    graph.integers("ids", &[1, 0]).integers("axis", &[1]);
    graph.node("g", "GatherV2", &["x", "ids", "axis"], &[("Tparams", DType::Float)]);
    assert!(is_whole(&cut(&graph.dense("y", "g", 2).frozen(&["y"]))));
}

/// OpenVINO compares int32 as float32: 2²⁴ equals 2²⁴ + 1.
#[test]
fn comparisons_and_arithmetic_of_int32_values_stay() {
    for op in ["Equal", "Less", "AddV2", "Mul", "Maximum"] {
        let mut graph = Builder::default();
        graph.input("n", DType::Int32, &[-1, 8]).integers("one", &[1]);
        graph.node("a", op, &["n", "one"], &[("T", DType::Int32)]);
        let source = if op.len() < 6 && op != "AddV2" && op != "Mul" { DType::Bool } else { DType::Int32 };
        graph.node("f", "Cast", &["a"], &[("SrcT", source), ("DstT", DType::Float)]);
        assert!(!moves(&cut(&graph.dense("y", "f", 8).frozen(&["y"])), op), "{op}");
    }
}

#[test]
fn casts_to_floats_are_moved_and_casts_to_integers_stay() {
    for (dtype, moved) in [
        (DType::Int32, true),
        (DType::UInt8, true),
        (DType::Bool, true),
        (DType::Int64, false),
        (DType::Double, false),
        (DType::Half, false),
        (DType::UInt32, false),
    ] {
        let mut graph = Builder::default();
        graph.input("n", dtype, &[-1, 8]);
        graph.node("f", "Cast", &["n"], &[("SrcT", dtype), ("DstT", DType::Float)]);
        assert_eq!(moves(&cut(&graph.dense("y", "f", 8).frozen(&["y"])), "Cast"), moved, "{dtype:?}");
    }
    let mut graph = floats();
    graph.dense("y", "x", 8);
    graph.node("n", "Cast", &["y"], &[("SrcT", DType::Float), ("DstT", DType::Int32)]);
    assert!(!moves(&cut(&graph.with_outputs(&[("n", DType::Int32)])), "Cast"));
}

#[test]
fn argmax_stays_and_keeps_its_dtype() {
    let mut graph = floats();
    graph.dense("y", "x", 8).integers("axis", &[1]);
    graph.node("best", "ArgMax", &["y", "axis"], &[("T", DType::Float), ("output_type", DType::Int64)]);
    let parts = cut(&graph.with_outputs(&[("best", DType::Int64)]));
    assert!(!moves(&parts, "ArgMax"));
    assert_eq!(parts.after.unwrap().outputs[0].dtype, DType::Int64);
}

#[test]
fn shapes_and_what_is_made_of_them_are_moved() {
    for wide in [DType::Int32, DType::Int64] {
        let mut graph = floats();
        graph.dense("y", "x", 8).node("s", "Shape", &["y"], &[("T", DType::Float), ("out_type", wide)]);
        graph.integers("zero", &[0]).integers("from", &[0, 1]).integers("axes", &[0]);
        let ints = [("T", wide), ("Tidx", DType::Int32)];
        graph.node("n", "Prod", &["s", "zero"], &ints).node("to", "Pack", &["n"], &ints);
        graph.node("r", "Reshape", &["y", "to"], &[("T", DType::Float), ("Tshape", wide)]);
        assert!(is_whole(&cut(&graph.frozen(&["r"]))), "{wide:?}");
        // A product of int64 may exceed int32, so it must not become a value.
        graph.node("f", "Cast", &["n"], &[("SrcT", wide), ("DstT", DType::Float)]);
        let parts = cut(&graph.floats("z", "Mul", &["y", "f"]).frozen(&["z"]));
        assert_eq!(moves(&parts, "Cast"), wide == DType::Int32, "{wide:?}");
    }
}

#[test]
fn a_size_that_a_request_decides_about_stays() {
    let mut graph = floats();
    graph.input("n", DType::Int32, &[2]);
    graph.node("r", "Reshape", &["x", "n"], &[("T", DType::Float), ("Tshape", DType::Int32)]);
    assert!(!moves(&cut(&graph.dense("y", "r", 8).frozen(&["y"])), "Reshape"));
}

#[test]
fn of_an_int64_only_the_shape_is_read() {
    let mut graph = floats();
    graph.input("ids", DType::Int64, &[-1, 8]);
    graph.node("s", "Shape", &["ids"], &[("T", DType::Int64), ("out_type", DType::Int32)]);
    graph.node("r", "Reshape", &["x", "s"], &[("T", DType::Float), ("Tshape", DType::Int32)]);
    let parts = cut(&graph.dense("y", "r", 8).frozen(&["y"]));
    assert!(is_whole(&parts) && parts.fast.inputs.iter().any(|input| input.dtype == DType::Int64));
    // A string has no shape there.
    let mut graph = floats();
    graph.input("text", DType::String, &[-1, 8]);
    graph.node("s", "Shape", &["text"], &[("T", DType::String), ("out_type", DType::Int32)]);
    graph.node("r", "Reshape", &["x", "s"], &[("T", DType::Float), ("Tshape", DType::Int32)]);
    assert!(!moves(&cut(&graph.dense("y", "r", 8).frozen(&["y"])), "Shape"));
}

#[test]
fn attributes_that_mean_something_else_stay() {
    type Set = (&'static str, Value);
    let window = |sizes: &[i64]| Value::List(ListValue { i: sizes.to_vec(), ..ListValue::default() });
    let cases: [(&str, &[&str], &[Set]); 8] = [
        ("MaxPool", &["y"], &[("ksize", window(&[1, 1, 1, 2]))]),
        ("AvgPool", &["y"], &[("ksize", window(&[1, 2, 2, 1])), ("padding", text("EXPLICIT"))]),
        ("Einsum", &["y", "x"], &[("equation", text("aa,ab->b"))]),
        ("Einsum", &["y"], &[("equation", text("ab->ba"))]),
        ("FusedBatchNormV3", &["y", "x", "x", "x", "x"], &[("is_training", Value::B(true))]),
        ("BiasAdd", &["y", "x"], &[("data_format", text("NCHW"))]),
        ("GatherV2", &["y", "ids", "axis"], &[("batch_dims", Value::I(1))]),
        ("Mean", &["y", "none"], &[]),
    ];
    for (op, inputs, set) in cases {
        let mut graph = floats();
        graph.dense("y", "x", 128).integers("ids", &[0, 1]).integers("axis", &[1]).integers("none", &[]);
        graph.node("z", op, inputs, &[("T", DType::Float), ("Tparams", DType::Float)]);
        for (name, value) in set {
            graph.with(name, value.clone());
        }
        assert!(!moves(&cut(&graph.frozen(&["z"])), op), "{op}");
    }
}

#[test]
fn an_error_function_moves_as_a_part_of_something_larger() {
    let with = |op: &str, taker: &str, other: f32| {
        let mut graph = floats();
        graph.dense("d", "x", 8).floats("e", op, &["d"]);
        graph.constant("c", DType::Float, &[], other.to_le_bytes().to_vec()).floats("t", taker, &["c", "e"]);
        graph
    };
    for (op, taker, other, moves_it) in [
        ("Erf", "AddV2", 1.0, true),
        ("Erf", "AddV2", 0.0, false),
        ("Erf", "Mul", 1.0, false),
        ("Erfc", "Mul", 0.5, true),
        ("Erfc", "RealDiv", 1.0, false),
    ] {
        let parts = cut(&with(op, taker, other).frozen(&["t"]));
        assert_eq!(moves(&parts, op), moves_it, "{op} {taker} {other}");
        assert!(!moves(&cut(&with(op, taker, other).frozen(&["t", "e"])), op), "an output of its own");
    }
}

#[test]
fn attributes_that_mean_the_same_are_moved() {
    let window = Value::List(ListValue { i: vec![1, 2, 2, 1], ..ListValue::default() });
    let mut graph = floats();
    graph
        .dense("y", "x", 8)
        .floats("p", "MaxPool", &["y"])
        .with("ksize", window)
        .with("padding", text("SAME"));
    graph.floats("e", "Einsum", &["p", "x"]).with("equation", text("ab,cb->ac"));
    graph.floats("n", "FusedBatchNormV3", &["e", "x", "x", "x", "x"]).with("is_training", Value::B(false));
    graph.floats("b", "BiasAdd", &["n", "x"]).with("data_format", text("NHWC"));
    assert!(is_whole(&cut(&graph.frozen(&["b"]))));
}

#[test]
fn checks_are_not_lost() {
    // A node that waits for a check, and one that waits for nothing that could fail.
    let mut graph = floats();
    graph.input("ok", DType::Bool, &[]).node("check", "Assert", &["ok"], &[]);
    graph.floats("a", "Identity", &["x", "^check"]).dense("y", "a", 8);
    let parts = cut(&graph.frozen(&["y"]));
    assert!(parts.before.unwrap().graph.node.iter().any(|node| node.op == "Assert"));
    let mut graph = floats();
    graph.dense("y", "x", 8).node("done", "NoOp", &["^y", "^y/weights"], &[]);
    assert!(is_whole(&cut(&graph.floats("z", "Identity", &["y", "^done"]).frozen(&["z"]))));
    // A check of what is computed.
    let mut graph = floats();
    graph.dense("y", "x", 8).node("check", "Assert", &["y"], &[]);
    let parts = cut(&graph.floats("z", "Identity", &["y", "^check"]).frozen(&["z"]));
    assert!(parts.after.unwrap().graph.node.iter().any(|node| node.op == "Assert"));
}

#[test]
fn broken_graphs_are_refused() {
    let graph = floats().floats("y", "MatMul", &["x", "missing"]).frozen(&["y"]);
    assert_eq!(refused(&graph), "the graph lacks missing, which y takes");
    let graph = floats().dense("y", "x", 8).frozen(&["missing"]);
    assert_eq!(refused(&graph), "the graph lacks missing:0, which the signature takes");
    let graph = floats().floats("a", "Relu", &["b"]).floats("b", "Relu", &["a"]).frozen(&["b"]);
    assert_eq!(refused(&graph), "the graph has a circle that is no loop");
    let graph = floats().dense("y", "x", 8).dense("y", "x", 8).frozen(&["y"]);
    assert_eq!(refused(&graph), "two nodes are called y/weights");
    let mut graph = floats().dense("y", "x", 8).frozen(&["y"]);
    graph.inputs[0].tensor = "y:0".to_owned();
    assert_eq!(refused(&graph), "the input y:0 is no placeholder");
}

/// The means of `x[:, begin:end]`, which is [-1, columns, 8], in a product. A bit of a mask leaves out a bound.
fn sliced(columns: i64, begin: [i32; 2], end: [i32; 2], masks: [i64; 2]) -> FrozenGraph {
    let mut graph = Builder::default();
    graph.input("x", DType::Float, &[-1, columns, 8]);
    graph.integers("begin", &begin).integers("end", &end).integers("strides", &[1, 1]).integers("axis", &[1]);
    let index = [("T", DType::Float), ("Index", DType::Int32)];
    graph.node("part", "StridedSlice", &["x", "begin", "end", "strides"], &index);
    graph.with("begin_mask", Value::I(masks[0])).with("end_mask", Value::I(masks[1]));
    graph.node("mean", "Mean", &["part", "axis"], &[("T", DType::Float), ("Tidx", DType::Int32)]);
    graph.dense("y", "mean", 8).frozen(&["y"])
}

#[test]
fn a_slice_that_may_be_empty_stays() {
    for (begin, end, masks, is_moved) in [
        (3, 0, [1, 3], false),
        (0, -1, [3, 1], false),
        (1, 3, [1, 1], false),
        (0, 5, [3, 1], true),
        (-5, 0, [1, 3], true),
        (0, 0, [3, 3], true),
    ] {
        let of = |columns| moves(&cut(&sliced(columns, [0, begin], [0, end], masks)), "StridedSlice");
        assert_eq!((of(-1), of(6)), (is_moved, true), "{begin} {end} {masks:?}");
    }
    let rows = sliced(6, [1, 0], [0, 0], [2, 3]);
    assert!(!moves(&cut(&rows), "StridedSlice"));
}

/// Adds `x`, pictures of this size, and the means of what `op` makes of them, in a product.
fn windowed(op: &str, side: i64, window: i64, padding: &'static str) -> Option<Parts> {
    let mut graph = Builder::default();
    graph.input("x", DType::Float, &[-1, side, side, 8]).integers("axes", &[1, 2]);
    let list = |i: &[i64]| Value::List(ListValue { i: i.to_vec(), ..ListValue::default() });
    if op == "Conv2D" {
        graph.weights("w", &[window, window, 8, 8]).floats("part", op, &["x", "w"]);
        graph.with("dilations", list(&[1; 4])).with("explicit_paddings", list(&[]));
    } else {
        graph.floats("part", op, &["x"]).with("ksize", list(&[1, window, window, 1]));
    }
    graph.with("strides", list(&[1; 4])).with("padding", text(padding)).with("data_format", text("NHWC"));
    graph.node("mean", "Mean", &["part", "axes"], &[("T", DType::Float), ("Tidx", DType::Int32)]);
    let graph = graph.dense("y", "mean", 8).frozen(&["y"]);
    plan(&graph).ok().filter(|parts| moves(parts, op))
}

#[test]
fn a_window_that_may_find_nothing_stays() {
    for op in ["Conv2D", "MaxPool", "AvgPool"] {
        assert!(windowed(op, -1, 3, "VALID").is_none(), "{op}");
        for (side, window, padding) in [(-1, 3, "SAME"), (-1, 1, "VALID"), (9, 3, "VALID")] {
            assert!(windowed(op, side, window, padding).is_some(), "{op} {side} {window} {padding}");
        }
    }
}

#[test]
fn a_transposed_window_of_a_point_stays_where_sizes_are_open() {
    let is_moved = |side: i64, window: i64| {
        let mut graph = Builder::default();
        let list = |i: &[i64]| Value::List(ListValue { i: i.to_vec(), ..ListValue::default() });
        graph.input("x", DType::Float, &[-1, side, side, 8]).integers("size", &[1, 9, 9, 8]);
        graph.weights("w", &[window, window, 8, 8]).floats("y", "Conv2DBackpropInput", &["size", "w", "x"]);
        graph.with("strides", list(&[1; 4])).with("dilations", list(&[1; 4])).with("padding", text("SAME"));
        graph.with("explicit_paddings", list(&[])).with("data_format", text("NHWC"));
        plan(&graph.frozen(&["y"])).is_ok_and(|parts| moves(&parts, "Conv2DBackpropInput"))
    };
    assert!(is_moved(-1, 3) && is_moved(9, 1) && is_moved(9, 3));
    assert!(!is_moved(-1, 1));
}

#[test]
fn steps_over_a_deep_window_stay() {
    let is_moved = |step: i64, padding: &'static str| {
        let mut graph = Builder::default();
        let list = |i: &[i64]| Value::List(ListValue { i: i.to_vec(), ..ListValue::default() });
        graph.input("x", DType::Float, &[-1, 6, 6, 6, 8]).weights("w", &[2, 2, 2, 8, 8]);
        graph.floats("y", "Conv3D", &["x", "w"]).with("strides", list(&[1, 1, step, 1, 1]));
        graph
            .with("dilations", list(&[1; 5]))
            .with("padding", text(padding))
            .with("data_format", text("NDHWC"));
        plan(&graph.frozen(&["y"])).is_ok()
    };
    assert!(is_moved(2, "SAME") && is_moved(3, "VALID"));
    assert!(!is_moved(3, "SAME"));
}

/// A slice of `x`, which is of this shape, in a product: its masks are those of an ellipsis, new dimensions and indices.
fn cut_out(shape: &[i64], begin: &[i32], end: &[i32], masks: [i64; 3]) -> bool {
    let mut graph = Builder::default();
    graph.input("x", DType::Float, shape).integers("begin", begin).integers("end", end);
    graph.integers("strides", &vec![1; begin.len()]);
    let index = [("T", DType::Float), ("Index", DType::Int32)];
    graph.node("part", "StridedSlice", &["x", "begin", "end", "strides"], &index);
    for (name, mask) in ["ellipsis_mask", "new_axis_mask", "shrink_axis_mask"].iter().zip(masks) {
        graph.with(name, Value::I(mask));
    }
    plan(&graph.dense("y", "part", 8).frozen(&["y"])).is_ok_and(|parts| moves(&parts, "StridedSlice"))
}

#[test]
fn an_ellipsis_of_nothing_and_a_new_dimension_beside_an_index_stay() {
    // x[1:5, ..., 0:8] of two dimensions ends the process, and x[None, -1] is another row.
    assert!(!cut_out(&[9, 9], &[1, 0, 0], &[5, 0, 8], [2, 0, 0]));
    assert!(cut_out(&[9, 2, 9], &[1, 0, 0], &[5, 0, 8], [2, 0, 0]));
    assert!(!cut_out(&[9, 8], &[0, 1], &[0, 2], [0, 1, 2]));
    assert!(cut_out(&[9, 8], &[0, 1], &[0, 3], [0, 1, 0]));
}

#[test]
fn blocks_of_constants_and_of_open_sizes_stay() {
    let is_moved = |shape: &[i64], of: &str| {
        let mut graph = Builder::default();
        graph.input("x", DType::Float, shape).weights("c", &[1, 6, 8]).integers("axis", &[1]);
        graph.constant("block", DType::Int32, &[1], 3i32.to_le_bytes().to_vec());
        graph.constant("pads", DType::Int32, &[1, 2], vec![0; 8]);
        graph.dense("d", "x", 8).floats("s", "SpaceToBatchND", &[of, "block", "pads"]);
        graph.floats("m", "Mean", &["s", "axis"]).floats("y", "AddV2", &["d", "m"]);
        plan(&graph.frozen(&["y"])).is_ok_and(|parts| moves(&parts, "SpaceToBatchND"))
    };
    assert!(is_moved(&[-1, -1, 8], "x") && is_moved(&[-1, 6, 4, 8], "x"));
    assert!(!is_moved(&[-1, -1, 8], "c") && !is_moved(&[-1, -1, 4, 8], "x"));
}

#[test]
fn attention_of_any_length_without_a_mask_stays() {
    let is_moved = |length: i64, is_masked: bool| {
        let mut graph = Builder::default();
        graph.input("x", DType::Float, &[-1, length, 8]).input("mask", DType::Float, &[-1, 1, length]);
        graph.floats("scores", "BatchMatMulV2", &["x", "x"]).with("adj_y", Value::B(true));
        graph.floats("masked", "AddV2", &["scores", "mask"]);
        graph.floats("p", "Softmax", &[if is_masked { "masked" } else { "scores" }]);
        let graph = graph.floats("y", "BatchMatMulV2", &["p", "x"]).frozen(&["y"]);
        plan(&graph).is_ok_and(|parts| moves(&parts, "Softmax"))
    };
    assert!(is_moved(-1, true) && is_moved(16, false));
    assert!(!is_moved(-1, false));
}
