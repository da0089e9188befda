//! Cases of the specification and our own; and properties, checked against serde_json and hostile texts.

#![allow(clippy::wildcard_enum_match_arm)] // Most dtypes have no values in JSON.

use super::*;
use crate::engine::signature::TensorSpec;
use crate::error::Kind;
use crate::parallel::Alone;
use crate::tensor::{DType, Data};
use serde_json::{Value, json};

mod properties;
mod recorded;

const LIMITS: DecodeLimits = DecodeLimits { max_depth: 1000 };

type Signatures = BTreeMap<String, Signature>;

fn dtype(proto_name: &str) -> DType {
    (0..34).filter_map(DType::from_number).find(|dtype| dtype.proto_name() == proto_name).unwrap()
}

fn signature_of(name: &str, inputs: &[(&str, DType)]) -> Signature {
    let spec = |(alias, dtype): &(&str, DType)| TensorSpec {
        alias: alias.to_string(),
        tensor: format!("{alias}:0"),
        dtype: *dtype,
        shape: None,
    };
    let mut inputs: Vec<TensorSpec> = inputs.iter().map(spec).collect();
    inputs.sort_by(|a, b| a.alias.cmp(&b.alias));
    Signature {
        name: name.into(),
        method_name: "tensorflow/serving/predict".to_string(),
        inputs,
        outputs: Vec::new(),
        defaults: BTreeMap::new(),
    }
}

/// Makes signatures of these names, all with the same inputs.
fn signatures(names: &[&str], inputs: &[(&str, DType)]) -> Signatures {
    names.iter().map(|name| (name.to_string(), signature_of(name, inputs))).collect()
}

/// Formats a tensor's values as in the vectors.
fn values(tensor: &Tensor) -> Value {
    fn all<T: bytemuck::Pod + Into<Value>>(bytes: &[u8]) -> Value {
        let size = size_of::<T>();
        bytes.chunks(size).map(|chunk| bytemuck::pod_read_unaligned::<T>(chunk).into()).collect()
    }
    fn floats(values: impl Iterator<Item = f64>) -> Value {
        let value = |value: f64| match value {
            value if value.is_nan() => json!("NaN"),
            f64::INFINITY => json!("Infinity"),
            f64::NEG_INFINITY => json!("-Infinity"),
            value => json!(value),
        };
        values.map(value).collect()
    }
    let bytes = tensor.bytes();
    match tensor.dtype() {
        DType::Float => {
            floats(bytes.chunks(4).map(|chunk| f64::from(bytemuck::pod_read_unaligned::<f32>(chunk))))
        }
        DType::Double => floats(bytes.chunks(8).map(bytemuck::pod_read_unaligned)),
        DType::Int32 => all::<i32>(bytes),
        DType::Int16 => all::<i16>(bytes),
        DType::Int8 => all::<i8>(bytes),
        DType::UInt8 => all::<u8>(bytes),
        DType::Int64 => all::<i64>(bytes),
        DType::UInt32 => all::<u32>(bytes),
        DType::Half | DType::BFloat16 => all::<u16>(bytes),
        DType::UInt64 => all::<u64>(bytes),
        DType::Bool => bytes.iter().map(|byte| json!(*byte == 1)).collect(),
        DType::String => tensor.as_strings().unwrap().iter().map(text).collect(),
        _ => {
            assert!(bytes.is_empty());
            json!([])
        }
    }
}

/// Formats a string as in the vectors.
fn text(bytes: &[u8]) -> Value {
    use ::base64::Engine;
    match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => json!({"b64": ::base64::prelude::BASE64_STANDARD.encode(bytes)}),
    }
}

/// Formats a result as in the vectors.
fn outcome(result: Result<Predict<'_>>) -> Value {
    match result {
        Err(error) => json!({"error": {"code": error.kind.name(), "message": error.message}}),
        Ok(predict) => {
            let tensor = |tensor: &Tensor| {
                json!({
                    "dtype": tensor.dtype().proto_name(),
                    "shape": tensor.shape(),
                    "values": values(tensor),
                })
            };
            let named = predict.signature.inputs.iter().zip(&predict.inputs);
            let tensors: BTreeMap<_, _> =
                named.map(|(spec, value)| (spec.alias.clone(), tensor(value))).collect();
            let format = match predict.format {
                Format::Row => "row",
                Format::Columnar => "columnar",
            };
            json!({"format": format, "tensors": tensors})
        }
    }
}

fn run(inputs: &[(&str, DType)], body: &[u8]) -> Value {
    outcome(predict(body, Ok(&signatures(&["serving_default"], inputs)), LIMITS, &Alone))
}

fn message(inputs: &[(&str, DType)], body: &str) -> String {
    run(inputs, body.as_bytes())["error"]["message"].as_str().unwrap_or("no error").to_string()
}

fn tensor_of(inputs: &[(&str, DType)], body: &str) -> Value {
    let out = run(inputs, body.as_bytes());
    let tensor = &out["tensors"][inputs[0].0];
    assert!(!tensor.is_null(), "{body}: {out}");
    json!([tensor["shape"], tensor["values"]])
}

const FLOAT: &[(&str, DType)] = &[("x", DType::Float)];
const INT32: &[(&str, DType)] = &[("x", DType::Int32)];
const STRING: &[(&str, DType)] = &[("x", DType::String)];
const TWO: &[(&str, DType)] = &[("a", DType::Int32), ("b", DType::String)];

#[test]
fn rows_of_values() {
    for (body, tensor) in [
        (r#"{"instances":[1, 2.5,-3e1 , 4]}"#, json!([[4], [1.0, 2.5, -30.0, 4.0]])),
        (
            r#" {"instances" : [ [1,2] ,[3,4],[ 5 , 6 ] ] } x"#,
            json!([[3, 2], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]]),
        ),
        (r#"{"instances":[[[1],[2]],[[3],[4]]]}"#, json!([[2, 2, 1], [1.0, 2.0, 3.0, 4.0]])),
        (r#"{"instances":[[]]}"#, json!([[1, 0], []])),
        (r#"{"instances":[[[],[]],[[],[]]]}"#, json!([[2, 2, 0], []])),
        (r#"{"instances":[NaN,-Inf,Infinity]}"#, json!([[3], ["NaN", "-Infinity", "Infinity"]])),
        (r#"{"q":[{}],"instances":[1],"instances":["a"]}"#, json!([[1], [1.0]])),
        (r#"{"inst\u0061nces":[7]}"#, json!([[1], [7.0]])),
    ] {
        assert_eq!(tensor_of(FLOAT, body), tensor, "{body}");
    }
    assert_eq!(
        tensor_of(INT32, r#"{"instances":[[1,-2],[2147483647,-0]]}"#),
        json!([[2, 2], [1, -2, 2147483647, 0]])
    );
    let uint8 = tensor_of(&[("x", DType::UInt8)], r#"{"instances":[300,-1,255]}"#);
    assert_eq!(uint8, json!([[3], [44, 255, 255]]));
    let strings = tensor_of(STRING, r#"{"instances":["a",{"b64":"aGk="},"\u00e9"]}"#);
    assert_eq!(strings, json!([[3], ["a", "hi", "é"]]));
    assert_eq!(
        tensor_of(&[("x", DType::Bool)], r#"{"instances":[[true],[false]]}"#),
        json!([[2, 1], [true, false]])
    );
    assert_eq!(tensor_of(&[("x", DType::Complex64)], r#"{"instances":[[],[]]}"#), json!([[2, 0], []]));
}

#[test]
fn rows_of_objects() {
    assert_eq!(
        tensor_of(FLOAT, r#"{"instances":[{"x":[1,2]},{"x":[3,4]}]}"#),
        json!([[2, 2], [1.0, 2.0, 3.0, 4.0]])
    );
    let out = run(TWO, br#"{"instances":[{"a":1,"b":"x"},{"b":"y","a":2}]}"#);
    assert_eq!(out["tensors"]["a"], json!({"dtype": "DT_INT32", "shape": [2], "values": [1, 2]}));
    assert_eq!(out["tensors"]["b"], json!({"dtype": "DT_STRING", "shape": [2], "values": ["x", "y"]}));
    // A repeated name adds its values again; the surplus is dropped at the end.
    assert_eq!(tensor_of(FLOAT, r#"{"instances":[{"x":1,"x":2},{"x":3}]}"#), json!([[2], [1.0, 2.0]]));
    let strings = tensor_of(STRING, r#"{"instances":[{"x":"aa","x":"b"},{"x":"c"}]}"#);
    assert_eq!(strings, json!([[2], ["aa", "b"]]));
}

#[test]
fn columns_of_values() {
    assert_eq!(tensor_of(FLOAT, r#"{"inputs":7}"#), json!([[], [7.0]]));
    assert_eq!(tensor_of(FLOAT, r#"{"inputs":[]}"#), json!([[0], []]));
    assert_eq!(
        tensor_of(FLOAT, r#"{"inputs":{"y":[{}],"x":[[1],[2]],"x":"q"}}"#),
        json!([[2, 1], [1.0, 2.0]])
    );
    assert_eq!(tensor_of(STRING, r#"{"inputs":{"b64":"aGk="}}"#), json!([[], ["hi"]]));
    let out = run(TWO, br#"{"inputs":{"b":"z","a":[1,2]}}"#);
    assert_eq!(out["tensors"]["a"]["shape"], json!([2]));
    assert_eq!(out["tensors"]["b"]["shape"], json!([]));
    assert_eq!(out["format"], "columnar");
}

#[test]
fn errors_of_bodies() {
    for (body, text) in [
        ("", "JSON Parse error: The document is empty"),
        (" ", "JSON Parse error: The document is empty. at offset: 1"),
        ("[]", "JSON Value: [] Is not object"),
        ("{}", "Missing 'inputs' or 'instances' key"),
        (r#"{"instances":[1,]}"#, "JSON Parse error: Invalid value. at offset: 16"),
        (
            r#"{"instances":[1e400]}"#,
            "JSON Parse error: Number too big to be stored in double. at offset: 14",
        ),
        (r#"{"instances":["a"],"q":tru}"#, "JSON Parse error: Invalid value. at offset: 26"),
        (r#"{"instances":[]}"#, "JSON Value: {\n    \"instances\": []\n} No values in 'instances' array"),
        (
            r#"{"instances":1}"#,
            "JSON Value: {\n    \"instances\": 1\n} Expecting 'instances' to be an list/array",
        ),
        (
            r#"{"instances":[1],"inputs":[1]}"#,
            "JSON Value: {\n    \"instances\": [1],\n    \"inputs\": [1]\n} Not formatted correctly expecting only one of \
             'inputs' or 'instances' keys to exist ",
        ),
        (
            r#"{"signature_name":null,"instances":[1]}"#,
            "JSON Value: {\n    \"signature_name\": null,\n    \"instances\": [1]\n} not formatted correctly. \
             'signature_name' key must be a string value.",
        ),
        (
            r#"{"signature_name":"no","instances":["a"]}"#,
            "Serving signature name: \"no\" not found in signature def",
        ),
    ] {
        assert_eq!(message(FLOAT, body), text, "{body}");
    }
    assert_eq!(message(&[], r#"{"instances":[1]}"#), "Failed to get input map for signature: DEFAULT");
}

#[test]
fn errors_of_values() {
    // The outermost, then first, fault is reported.
    for (body, text) in [
        ("[[1,2],[3]]", "Encountered list at unexpected size: 1 at level: 1 expected size: 2"),
        ("[[1],2]", "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2"),
        ("[1,[2]]", "Encountered list at unexpected level: 1 expected < 1"),
        ("[[1],[2,\"a\"]]", "Encountered list at unexpected size: 2 at level: 1 expected size: 1"),
        ("[[1],[\"a\"],[2,3]]", "JSON Value: \"a\" Type: String is not of expected type: float"),
        (
            "[[[1],[2]],[[3,\"a\"],[4],[5]]]",
            "Encountered list at unexpected size: 3 at level: 1 expected size: 2",
        ),
        (
            "[[[1],[2]],[[3,[\"a\"]],[4]],[]]",
            "Encountered list at unexpected size: 2 at level: 2 expected size: 1",
        ),
        ("[[],[\"a\"]]", "Encountered list at unexpected size: 1 at level: 1 expected size: 0"),
        ("[\"a\",[1],2]", "JSON Value: \"a\" Type: String is not of expected type: float"),
        ("null", "JSON Value: null Type: Null is not of expected type: float"),
        ("{\"y\":1}", "Missing named input: x in 'inputs' object."),
        ("[{\"y\":1}]", "JSON Value: {\n    \"y\": 1\n} Type: Object is not of expected type: float"),
    ] {
        assert_eq!(message(FLOAT, &format!("{{\"inputs\":{body}}}")), text, "{body}");
    }
    let complex = run(&[("x", DType::Complex64)], br#"{"inputs":[1]}"#);
    let text = "Conversion of JSON Value: 1 to type: complex64";
    assert_eq!(complex["error"], json!({"code": "UNIMPLEMENTED", "message": text}));
    let complex = run(&[("x", DType::Complex64)], br#"{"instances":[1]}"#);
    let text = format!("Failed to process element: 0 of 'instances' list. Error: UNIMPLEMENTED: {text}");
    assert_eq!(complex["error"], json!({"code": "INVALID_ARGUMENT", "message": text}));
    let text = "JSON Value: \"a\" Type: String is not of expected type: half";
    assert_eq!(message(&[("x", DType::Half)], r#"{"inputs":["a"]}"#), text);
    let first = r#"{"inputs":{"b":1,"a":"q"}}"#;
    assert_eq!(message(TWO, first), "JSON Value: \"q\" Type: String is not of expected type: int32");
}

#[test]
fn errors_of_rows() {
    let row = "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: ";
    for (list, text) in [
        ("[[1,2],[3]]", format!("{row}Expecting tensor size: 2 but got: 1")),
        ("[[1,2],[[3,4]]]", format!("{row}Expecting shape [2] but got: [1,2]")),
        ("[[1],1]", format!("{row}Expecting shape [1] but got: []")),
        ("[[],[[]]]", format!("{row}Expecting shape [0] but got: [1,0]")),
        ("[1,{\"x\":1}]", "Expecting value/list but got object at item 1 of input list".into()),
        ("[{\"x\":1},1]", "Expecting object but got list at item 1 of input list".into()),
        (
            "[{\"y\":1}]",
            "Failed to process element: 0 key: y of 'instances' list. Error: INVALID_ARGUMENT: JSON object: does not \
             have named input: y"
                .into(),
        ),
        ("[{}]", "Failed to process element: 0 of 'instances' list. JSON object: {} keys must be equal to: x".into()),
    ] {
        assert_eq!(message(FLOAT, &format!("{{\"instances\":{list}}}")), text, "{list}");
    }
    let text = "Failed to process element: 1 key: a of 'instances' list. Error: INVALID_ARGUMENT: Expecting tensor size: \
                2 but got: 1";
    assert_eq!(message(TWO, r#"{"instances":[{"a":[1,2],"b":"x"},{"a":[1],"b":"y"}]}"#), text);
}

#[test]
fn a_missing_model_comes_after_the_text_and_before_the_signature() {
    let missing = Error::not_found("Servable not found for request: Latest(m)");
    for (body, kind) in [
        (r#"{"instances":[1]}"#, Kind::NotFound),
        ("{}", Kind::NotFound),
        (r#"{"instances":[1}"#, Kind::InvalidArgument),
        ("3", Kind::InvalidArgument),
        (r#"{"signature_name":3}"#, Kind::InvalidArgument),
    ] {
        assert_eq!(predict(body.as_bytes(), Err(&missing), LIMITS, &Alone).unwrap_err().kind, kind, "{body}");
    }
}

#[test]
fn the_signature_may_be_named_after_the_values() {
    let mut all = signatures(&["serving_default"], FLOAT);
    all.insert("s".into(), signature_of("s", STRING));
    for body in [
        r#"{"signature_name":"s","instances":["a"]}"#,
        r#"{"instances":["a"],"signature_name":"s"}"#,
        r#"{"instances":["a"],"signature_name":"s","signature_name":5,"instances":1}"#,
    ] {
        let predict = predict(body.as_bytes(), Ok(&all), LIMITS, &Alone).unwrap();
        assert_eq!(&*predict.signature.name, "s");
        assert_eq!(predict.inputs[0].as_strings().unwrap().get(0), b"a");
    }
    let numbers = br#"{"instances":[1],"signature_name":"s"}"#;
    assert!(
        predict(numbers, Ok(&all), LIMITS, &Alone)
            .unwrap_err()
            .message
            .contains("not of expected type: string")
    );
    let default = predict(br#"{"instances":[1],"signature_name":""}"#, Ok(&all), LIMITS, &Alone).unwrap();
    assert_eq!(&*default.signature.name, "serving_default");
    all.remove("serving_default");
    let named = predict(br#"{"instances":["a"],"signature_name":"s"}"#, Ok(&all), LIMITS, &Alone).unwrap();
    assert_eq!(&*named.signature.name, "s");
}

#[test]
fn a_body_may_name_the_outputs_that_it_wants() {
    let mut all = signatures(&["serving_default"], FLOAT);
    let outputs = signature_of("", &[("a", DType::Float), ("b", DType::Float), ("c", DType::Float)]).inputs;
    all.get_mut("serving_default").unwrap().outputs = outputs;
    let asked = |filter: &str| {
        let bodies = [
            format!(r#"{{"instances":[1],"outputs":{filter}}}"#),
            format!(
                r#"{{"outputs":{filter},"outputs":["a"],"inputs":1,"signature_name":"serving_default"}}"#
            ),
        ];
        let [first, second] = bodies.map(|body| match predict(body.as_bytes(), Ok(&all), LIMITS, &Alone) {
            Ok(predict) => Ok(predict.outputs.map(|outputs| outputs.to_vec())),
            Err(error) => Err((error.kind, error.message.into_owned())),
        });
        assert_eq!(first, second);
        first
    };
    assert_eq!(asked(r#"["c", "a"]"#), Ok(Some(vec![2, 0])));
    assert_eq!(asked(r#"[ "\u0062" ]"#), Ok(Some(vec![1])));
    // As TensorFlow Serving does, which knows no such key.
    for other in ["[]", "{}", "\"a\"", "null", "7", "[1, \"a\"]", "[[\"a\"]]", "{\"a\": [1]}"] {
        assert_eq!(asked(other), Ok(None), "{other}");
    }
    let invalid = |message: &str| Err((Kind::InvalidArgument, message.to_owned()));
    let unknown = "output tensor alias not found in signature: d Outputs expected to be in the set {a,b,c}.";
    assert_eq!(asked(r#"["a", "d", "a"]"#), invalid(unknown));
    assert_eq!(asked(r#"["a", "b", "a", "d"]"#), invalid("duplicate output tensor alias: a"));
    let number =
        "JSON Value: 1 Type: Number is not of expected type: string. 'outputs' lists names of outputs";
    assert_eq!(asked(r#"["a", 1]"#), invalid(number));
}

#[test]
fn depth_is_limited_where_it_is_followed() {
    let nested = |levels: usize| "[".repeat(levels) + "1" + &"]".repeat(levels);
    let limits = DecodeLimits { max_depth: 4 };
    let all = signatures(&["serving_default"], FLOAT);
    let with = |body: String| outcome(predict(body.as_bytes(), Ok(&all), limits, &Alone));
    assert_eq!(with(format!("{{\"inputs\":{}}}", nested(4)))["tensors"]["x"]["shape"], json!([1, 1, 1, 1]));
    let text = "JSON Value has more than 4 levels of lists; a tensor may have at most 4: nest it less deeply";
    for body in [format!("{{\"inputs\":{}}}", nested(5)), format!("{{\"inputs\":{}}}", nested(500_000))] {
        assert_eq!(with(body)["error"]["message"], text);
    }
    assert!(
        with(format!("{{\"instances\":{}}}", nested(500_000)))["error"]["message"].to_string().contains(text)
    );
    let ignored = format!("{{\"instances\":[1],\"q\":{}}}", nested(500_000));
    assert_eq!(with(ignored)["tensors"]["x"]["values"], json!([1.0]));
}

#[test]
fn numbers_lie_aligned() {
    let body = format!("{{\"instances\":[{}]}}", vec!["1.5"; 1000].join(","));
    let all = signatures(&["serving_default"], FLOAT);
    let predict = predict(body.as_bytes(), Ok(&all), LIMITS, &Alone).unwrap();
    let Data::Numbers(bytes) = predict.inputs[0].data() else { panic!("no numbers") };
    assert_eq!(bytes.as_ptr() as usize % 64, 0);
    assert_eq!(bytes.len(), 4000);
}

/// With several inputs, a leading base64 object is a value for the first, not an object with a value for each.
#[test]
fn a_leading_base64_object_is_a_value() {
    let b64 = "{\"b64\": \"2uVH06I=\"}";
    let refused = |dtype: DType, rows: &str| {
        let signatures = signatures(&["serving_default"], &[("a", dtype), ("b", dtype)]);
        let body = format!("{{\"instances\": [{rows}]}}");
        predict(body.as_bytes(), Ok(&signatures), LIMITS, &Alone).unwrap_err().message.into_owned()
    };
    let wrong_type = "Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: JSON Value: {\n    \
                      \"b64\": \"2uVH06I=\"\n} Type: Object is not of expected type: float";
    let plain = "instances is a plain list, but expecting list of objects as multiple input tensors required as per \
                 tensorinfo_map";
    let missing = "input size does not match signature: 1!=2 len({a}) != len({a,b}). Sent extra: {}. Missing but \
                   required: {b}.";
    assert_eq!(refused(DType::Float, &format!("{b64}, []")), wrong_type);
    assert_eq!(refused(DType::Float, b64), wrong_type);
    assert_eq!(refused(DType::Float, &format!("[], {b64}")), plain);
    assert_eq!(refused(DType::String, b64), missing);
    assert_eq!(
        refused(DType::String, &format!("{b64}, {{\"a\": \"x\", \"b\": \"y\"}}")),
        "Expecting value/list but got object at item 1 of input list"
    );
    assert_eq!(
        refused(DType::String, &format!("{{\"a\": \"x\", \"b\": \"y\"}}, {b64}")),
        "Expecting object but got list at item 1 of input list"
    );
}
