//! Small graphs, and what their strings have to hold.

use super::*;
use crate::engine::content::Feature;
use crate::engine::tensorflow::effects;
use crate::pb::tensorflow::attr_value::ListValue;
use crate::pb::tensorflow::op_def::ArgDef;
use crate::pb::tensorflow::tensor_shape_proto::Dim;
use crate::pb::tensorflow::{
    AttrValue, DataType, FunctionDef, FunctionDefLibrary, GraphDef, NameAttrList, OpDef, TensorProto,
    TensorShapeProto,
};
use prost::Message;

fn node(name: &str, op: &str, inputs: &[&str]) -> NodeDef {
    let input = inputs.iter().map(|input| (*input).to_owned()).collect();
    NodeDef { name: name.to_owned(), op: op.to_owned(), input, ..NodeDef::default() }
}

fn with(mut node: NodeDef, attr: &str, value: Attr) -> NodeDef {
    node.attr.insert(attr.to_owned(), AttrValue { value: Some(value) });
    node
}

fn calling(node: NodeDef, attr: &str, functions: &[&str]) -> NodeDef {
    let mut named =
        functions.iter().map(|name| NameAttrList { name: (*name).to_owned(), ..NameAttrList::default() });
    let value = match functions {
        [_] => Attr::Func(named.next().unwrap()),
        _ => Attr::List(ListValue { func: named.collect(), ..ListValue::default() }),
    };
    with(node, attr, value)
}

fn function(name: &str, arguments: &[&str], nodes: Vec<NodeDef>, results: &[(&str, &str)]) -> FunctionDef {
    let argument = |name: &&str| ArgDef { name: (*name).to_owned(), ..ArgDef::default() };
    FunctionDef {
        signature: Some(OpDef {
            name: name.to_owned(),
            input_arg: arguments.iter().map(argument).collect(),
            output_arg: results.iter().map(|(name, _)| argument(name)).collect(),
            ..OpDef::default()
        }),
        node_def: nodes,
        ret: results.iter().map(|(name, source)| ((*name).to_owned(), (*source).to_owned())).collect(),
        ..FunctionDef::default()
    }
}

fn graph(node: Vec<NodeDef>, function: Vec<FunctionDef>) -> GraphDef {
    GraphDef { node, library: Some(FunctionDefLibrary { function }), ..GraphDef::default() }
}

/// Returns what input `x` has to hold for `outputs`.
fn content(graph: &GraphDef, outputs: &[&str]) -> Option<Content> {
    let reached = effects::reached(graph, &["x:0"].into(), outputs.iter().copied());
    let flow = Flow::new(graph);
    of(&flow, &reached.into_keys().collect(), std::iter::once(("text", "x:0"))).remove("text")
}

/// Returns what input `x` has to hold if the operations `ops` are applied to it in turn.
fn content_of(ops: &[&str]) -> Option<Content> {
    let mut nodes = vec![node("x", "Placeholder", &[])];
    for op in ops {
        let last = nodes[nodes.len() - 1].name.clone();
        nodes.push(node(&format!("{last}'"), op, &[&last]));
    }
    let last = nodes[nodes.len() - 1].name.clone();
    content(&graph(nodes, Vec::new()), &[&last])
}

const JPEG: Content = Content::Picture(PictureFormat::Jpeg);

fn base64(content: Content) -> Content {
    Content::Base64(Box::new(content))
}

#[test]
fn operations_tell_what_they_take() {
    let picture = |format| Some(Content::Picture(format));
    let cases: &[(&[&str], Option<Content>)] = &[
        (&["DecodeJpeg"], Some(JPEG)),
        (&["Reshape", "Squeeze", "DecodeImage", "ResizeBilinear"], Some(JPEG)),
        (&["DecodePng"], picture(PictureFormat::Png)),
        (&["DecodeGif"], picture(PictureFormat::Gif)),
        (&["DecodeBmp"], picture(PictureFormat::Bmp)),
        (&["DecodeWebP"], picture(PictureFormat::WebP)),
        (&["DecodeBase64", "DecodeJpeg"], Some(base64(JPEG))),
        (&["StaticRegexReplace", "DecodeBase64", "Identity", "DecodeBase64", "DecodePng"], {
            Some(base64(base64(Content::Picture(PictureFormat::Png))))
        }),
        (&["DecodeBase64", "StringLength"], Some(base64(Content::Text))),
        (&["LookupTableFindV2"], Some(Content::Text)),
        (&["StringLower", "RegexReplace", "StringToHashBucketFast", "Custom"], Some(Content::Text)),
        (&["StringToNumber"], Some(Content::Number)),
        (&["StringStrip", "StringToNumber", "MatMul"], Some(Content::Number)),
        (&["Identity"], Some(Content::Text)),
        (&["Shape", "Custom"], Some(Content::Text)),
        (&[], Some(Content::Text)),
        (&["ReadFile", "DecodeJpeg"], None),
        (&["StringJoin", "ReadFile"], None),
        (&["DecodeRaw"], None),
        (&["Custom"], None),
    ];
    for (ops, expected) in cases {
        assert_eq!(content_of(ops), *expected, "{ops:?}");
    }
}

#[test]
fn text_split_into_numbers_is_followed_by_the_output_that_holds_it() {
    let split = |output: &str| {
        let nodes = vec![
            node("x", "Placeholder", &[]),
            node("split", "StringSplitV2", &["x"]),
            node("dense", "RaggedTensorToTensor", &["shape", output, "default"]),
            node("y", "StringToNumber", &["dense"]),
        ];
        content(&graph(nodes, Vec::new()), &["y"])
    };
    assert_eq!(split("split:1"), Some(Content::Number));
    assert_eq!(split("split"), Some(Content::Text), "the places are no text");
}

#[test]
fn the_alpha_channel_takes_a_png() {
    let decode = with(node("y", "DecodeImage", &["x"]), "channels", Attr::I(4));
    let graph = graph(vec![node("x", "Placeholder", &[]), decode], Vec::new());
    assert_eq!(content(&graph, &["y"]), Some(Content::Picture(PictureFormat::Png)));
}

#[test]
fn pictures_come_first_and_one_unknown_use_makes_text_unknown() {
    let nodes = || {
        vec![
            node("x", "Placeholder", &[]),
            node("picture", "DecodePng", &["x"]),
            node("coded", "DecodeBase64", &["x"]),
            node("other", "DecodeJpeg", &["coded"]),
            node("text", "StringLower", &["x"]),
            node("custom", "Custom", &["x"]),
        ]
    };
    let graph = graph(nodes(), Vec::new());
    let png = Some(Content::Picture(PictureFormat::Png));
    assert_eq!(content(&graph, &["picture", "text", "custom"]), png);
    assert_eq!(content(&graph, &["text", "custom"]), None);
    assert_eq!(content(&graph, &["text"]), Some(Content::Text), "only what the outputs need counts");
    assert_eq!(content(&graph, &["other", "picture"]), Some(base64(JPEG)));
}

/// `map_fn` as TensorFlow 2 saves it: a list of the strings goes into a loop, whose body decodes one of them.
fn mapped(decoder: &str) -> GraphDef {
    let body = function(
        "body",
        &["i", "results", "strings"],
        vec![
            node("get", "TensorListGetItem", &["strings", "i", "shape:output:0"]),
            node("decode", decoder, &["get:item:0"]),
            node("set", "TensorListSetItem", &["results", "i", "decode:image:0"]),
            node("next", "Identity", &["strings"]),
        ],
        &[("i_out", "i"), ("results_out", "set:output_handle:0"), ("strings_out", "next:output:0")],
    );
    let condition = function(
        "condition",
        &["i", "results", "strings"],
        vec![node("less", "Less", &["i", "i"])],
        &[("go", "less:z:0")],
    );
    let run = node("while", "StatelessWhile", &["zero:output:0", "reserve:handle:0", "list:output_handle:0"]);
    let outer = function(
        "outer",
        &["weights", "text"],
        vec![
            node("list", "TensorListFromTensor", &["text", "none:output:0"]),
            calling(calling(run, "body", &["body"]), "cond", &["condition"]),
            node("stack", "TensorListStack", &["while:output:1", "none:output:0"]),
        ],
        &[("y", "stack:tensor:0")],
    );
    let call = calling(node("y", "StatefulPartitionedCall", &["w", "x", "^w"]), "f", &["outer"]);
    graph(
        vec![node("x", "Placeholder", &[]), node("w", "VarHandleOp", &[]), call],
        vec![body, condition, outer],
    )
}

#[test]
fn functions_and_loops_are_entered() {
    assert_eq!(content(&mapped("DecodeJpeg"), &["y"]), Some(JPEG));
    assert_eq!(content(&mapped("Custom"), &["y"]), None);
}

#[test]
fn what_a_round_of_a_loop_returns_the_next_one_takes() {
    // The first round takes the string as `a` and returns it as `b`, which the second one decodes.
    let body = function(
        "body",
        &["a", "b"],
        vec![node("decode", "DecodePng", &["b"])],
        &[("a_out", "decode:image:0"), ("b_out", "a")],
    );
    let run = calling(node("y", "While", &["x", "other"]), "body", &["body"]);
    let nodes = vec![node("x", "Placeholder", &[]), node("other", "Const", &[]), run];
    let graph = graph(nodes, vec![body]);
    assert_eq!(content(&graph, &["y"]), Some(Content::Picture(PictureFormat::Png)));
}

#[test]
fn what_functions_return_is_followed_where_they_were_called() {
    let second = || function("second", &["a", "b"], Vec::new(), &[("first_out", "a"), ("second_out", "b")]);
    let of_result = |call: NodeDef, decoded: &str| {
        let nodes = vec![
            node("x", "Placeholder", &[]),
            node("other", "Placeholder", &[]),
            call,
            node("y", "DecodeJpeg", &[decoded]),
            node("z", "Custom", &["call:0"]),
        ];
        content(&graph(nodes, vec![second()]), &["y", "z"])
    };
    let called = || calling(node("call", "PartitionedCall", &["other", "x"]), "f", &["second"]);
    assert_eq!(of_result(called(), "call:1"), Some(JPEG));
    assert_eq!(of_result(called(), "call"), Some(Content::Text));
    assert_eq!(of_result(node("call", "second", &["other", "x"]), "call:1"), Some(JPEG));
    // One call returns it before another, with the same function, is found.
    let inner = calling(node("inner", "PartitionedCall", &["a", "b"]), "f", &["second"]);
    let decode = node("decode", "DecodeBmp", &["inner:output:1"]);
    let outer = function("outer", &["a", "b"], vec![inner, decode], &[]);
    let first = calling(node("first", "PartitionedCall", &["x", "x"]), "f", &["second"]);
    let later = calling(node("later", "PartitionedCall", &["other", "first:1"]), "f", &["outer"]);
    let nodes = vec![node("x", "Placeholder", &[]), node("other", "Placeholder", &[]), first, later];
    let graph = graph(nodes, vec![second(), outer]);
    assert_eq!(content(&graph, &["later"]), Some(Content::Picture(PictureFormat::Bmp)));
}

#[test]
fn branches_are_entered() {
    let decode = |name: &str, op: &str| function(name, &["a"], vec![node("decode", op, &["a"])], &[]);
    let functions = || vec![decode("gif", "DecodeGif"), decode("text", "StringLength")];
    let png = Some(Content::Picture(PictureFormat::Gif));
    let condition = node("y", "StatelessIf", &["which", "x"]);
    let condition = calling(calling(condition, "then_branch", &["text"]), "else_branch", &["gif"]);
    let case = calling(node("y", "Case", &["which", "x"]), "branches", &["text", "gif"]);
    for call in [condition, case] {
        let nodes = vec![node("x", "Placeholder", &[]), node("which", "Placeholder", &[]), call];
        assert_eq!(content(&graph(nodes, functions()), &["y"]), png);
    }
}

#[test]
fn loops_of_the_graph_itself_and_functions_that_call_themselves_come_to_an_end() {
    let nodes = vec![
        node("x", "Placeholder", &[]),
        node("enter", "Enter", &["x"]),
        node("merge", "Merge", &["enter", "next"]),
        node("switch", "Switch", &["merge", "go"]),
        node("coded", "DecodeBase64", &["switch:1"]),
        node("next", "NextIteration", &["coded"]),
        node("exit", "Exit", &["switch"]),
        node("y", "DecodeJpeg", &["exit"]),
    ];
    assert_eq!(content(&graph(nodes, Vec::new()), &["y"]), Some(JPEG));
    let again = calling(node("again", "PartitionedCall", &["a"]), "f", &["f"]);
    let itself = function("f", &["a"], vec![again], &[("out", "again:output:0")]);
    let call = calling(node("y", "PartitionedCall", &["x"]), "f", &["f"]);
    let graph = graph(vec![node("x", "Placeholder", &[]), call], vec![itself]);
    assert_eq!(content(&graph, &["y"]), Some(Content::Text));
}

#[test]
fn each_input_is_followed_by_itself() {
    let nodes = vec![
        node("picture", "Placeholder", &[]),
        node("name", "Placeholder", &[]),
        node("y", "DecodeJpeg", &["picture"]),
        node("z", "LookupTableFindV2", &["table", "name"]),
    ];
    let graph = graph(nodes, Vec::new());
    let flow = Flow::new(&graph);
    let needed = graph.node.iter().map(|node| node.name.as_str()).collect();
    let inputs = [("a", "picture:0"), ("b", "name")];
    let found = of(&flow, &needed, inputs.into_iter());
    assert_eq!((found.get("a"), found.get("b")), (Some(&JPEG), Some(&Content::Text)));
}

// ---- examples

fn constant(name: &str, keys: &[&str]) -> NodeDef {
    let size = i64::try_from(keys.len()).unwrap();
    let proto = TensorProto {
        dtype: DataType::DtString as i32,
        tensor_shape: Some(TensorShapeProto {
            dim: vec![Dim { size, ..Dim::default() }],
            ..Default::default()
        }),
        string_val: keys.iter().map(|key| key.as_bytes().to_vec().into()).collect(),
        ..TensorProto::default()
    };
    with(node(name, "Const", &[]), "value", Attr::Tensor(proto.encode_to_vec().into()))
}

fn types(types: &[DataType]) -> Attr {
    Attr::List(ListValue { r#type: types.iter().map(|one| *one as i32).collect(), ..ListValue::default() })
}

fn shapes(shapes: &[&[i64]]) -> Attr {
    let dim = |size: &i64| Dim { size: *size, ..Dim::default() };
    let shape =
        |dims: &&[i64]| TensorShapeProto { dim: dims.iter().map(dim).collect(), ..Default::default() };
    Attr::List(ListValue { shape: shapes.iter().map(shape).collect(), ..ListValue::default() })
}

/// Declares a sparse `tags`, dense `x` (2×3 floats), `id` and `image`, and a ragged `words`.
fn declared(node: NodeDef) -> NodeDef {
    let node = with(node, "sparse_types", types(&[DataType::DtInt64]));
    let node = with(node, "Tdense", types(&[DataType::DtFloat, DataType::DtInt64, DataType::DtString]));
    with(node, "dense_shapes", shapes(&[&[2, 3], &[], &[-1]]))
}

fn features(words: bool) -> Content {
    let mut features = vec![
        ("tags", Feature::Integers(1)),
        ("x", Feature::Floats(6)),
        ("id", Feature::Integers(1)),
        ("image", Feature::Strings(1, Some(JPEG))),
    ];
    features.extend(words.then_some(("words", Feature::Strings(1, Some(Content::Text)))));
    Content::Example(features.into_iter().map(|(key, feature)| (key.to_owned(), feature)).collect())
}

#[test]
fn examples_have_the_features_that_are_parsed_and_their_strings_are_followed() {
    let keys = ["k1", "k2", "k3", "k4"].iter().zip(["tags", "x", "id", "image"]);
    let mut nodes: Vec<_> = keys.map(|(name, key)| constant(name, &[key])).collect();
    nodes.extend([
        node("x", "Placeholder", &[]),
        declared(node("parse", "ParseExample", &["x", "names", "k1", "k2", "k3", "k4", "d", "d", "d"])),
        node("y", "DecodeJpeg", &["parse:5"]),
    ]);
    assert_eq!(content(&graph(nodes, Vec::new()), &["y"]), Some(features(false)));
}

/// The second operation, in a function; `dense` is the input that gives the keys of the dense features.
fn second_version(dense: &str) -> GraphDef {
    let inputs = ["serialized", "names:output:0", "sparse:output:0", dense, "ragged:output:0", "d", "d", "d"];
    let parse = declared(node("parse", "ParseExampleV2", &inputs));
    let parse = with(parse, "ragged_value_types", types(&[DataType::DtString]));
    let nodes = vec![
        constant("sparse", &["tags"]),
        constant("dense", &["x", "id", "image"]),
        constant("ragged", &["words"]),
        parse,
        node("decode", "DecodeJpeg", &["parse:dense_values:2"]),
        node("length", "StringLength", &["parse:ragged_values:0"]),
    ];
    let inner = function("f", &["serialized", "keys"], nodes, &[]);
    let call = calling(node("y", "PartitionedCall", &["x"]), "f", &["f"]);
    graph(vec![node("x", "Placeholder", &[]), call], vec![inner])
}

#[test]
fn the_second_operation_and_ragged_features() {
    assert_eq!(content(&second_version("dense:output:0"), &["y"]), Some(features(true)));
    assert_eq!(content(&second_version("keys"), &["y"]), None, "the keys are not known");
}

#[test]
fn one_example_at_a_time_in_base64() {
    let keys = |keys: &[&str]| {
        Attr::List(ListValue {
            s: keys.iter().map(|key| key.as_bytes().to_vec().into()).collect(),
            ..ListValue::default()
        })
    };
    let parse = declared(node("parse", "ParseSingleExample", &["coded", "d", "d", "d"]));
    let parse = with(with(parse, "sparse_keys", keys(&["tags"])), "dense_keys", keys(&["x", "id", "image"]));
    let nodes = vec![
        node("x", "Placeholder", &[]),
        node("coded", "DecodeBase64", &["x"]),
        parse,
        node("y", "DecodeJpeg", &["parse:5"]),
    ];
    assert_eq!(content(&graph(nodes, Vec::new()), &["y"]), Some(base64(features(false))));
}

#[test]
fn features_of_another_dtype_or_of_any_size_are_not_made_up() {
    let parsed = |dtype: DataType, shape: &[i64]| {
        let parse = node("y", "ParseExample", &["x", "names", "key", "default"]);
        let parse = with(with(parse, "sparse_types", types(&[])), "Tdense", types(&[dtype]));
        let nodes = vec![
            node("x", "Placeholder", &[]),
            constant("key", &["k"]),
            with(parse, "dense_shapes", shapes(&[shape])),
        ];
        content(&graph(nodes, Vec::new()), &["y"])
    };
    assert!(parsed(DataType::DtFloat, &[8]).is_some());
    assert_eq!(parsed(DataType::DtDouble, &[8]), None);
    assert_eq!(parsed(DataType::DtFloat, &[1 << 40, 1 << 40]), None);
}
