//! Properties: the two passes agree with each other, with a plain reference on serde_json's tree, and with serde_json
//! on which texts are JSON; no input makes them panic or take more than linear time.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

/// Sections 6.1 to 6.3 of the specification for one float input `x`, on a tree: slow, recursive and short.
mod reference {
    use serde_json::Value;

    type Filled = (Vec<usize>, Vec<f64>);

    fn shape(mut value: &Value) -> Vec<usize> {
        let mut shape = Vec::new();
        while let Value::Array(items) = value {
            shape.push(items.len());
            match items.first() {
                Some(first) => value = first,
                None => break,
            }
        }
        shape
    }

    fn fill(value: &Value, level: usize, shape: &[usize], out: &mut Vec<f64>) -> Result<(), String> {
        let rank = shape.len();
        let Value::Array(items) = value else {
            if level != rank {
                let level = level + 1;
                return Err(format!(
                    "JSON Value: {value} found at incorrect level: {level} in the JSON DOM. Expected at level: {rank}"
                ));
            }
            let kind = match value {
                Value::Number(number) => {
                    out.push(number.as_f64().unwrap());
                    return Ok(());
                }
                Value::Null => "Null",
                Value::Bool(true) => "True",
                Value::Bool(false) => "False",
                Value::String(_) => "String",
                Value::Object(_) | Value::Array(_) => "Object",
            };
            return Err(format!("JSON Value: {value} Type: {kind} is not of expected type: float"));
        };
        if level >= rank {
            return Err(format!("Encountered list at unexpected level: {level} expected < {rank}"));
        }
        if items.len() != shape[level] {
            let (len, dim) = (items.len(), shape[level]);
            return Err(format!(
                "Encountered list at unexpected size: {len} at level: {level} expected size: {dim}"
            ));
        }
        items.iter().try_for_each(|item| fill(item, level + 1, shape, out))
    }

    pub(super) fn tensor(value: &Value) -> Result<Filled, String> {
        let (shape, mut out) = (shape(value), Vec::new());
        fill(value, 0, &shape, &mut out)?;
        Ok((shape, out))
    }

    pub(super) fn columns(value: &Value) -> Result<Filled, String> {
        match value {
            Value::Object(members) => {
                tensor(members.get("x").ok_or("Missing named input: x in 'inputs' object.".to_string())?)
            }
            value => tensor(value),
        }
    }

    pub(super) fn rows(items: &[Value]) -> Result<Filled, String> {
        let objects = items[0].is_object();
        let (mut all, mut first): (Vec<f64>, Option<Filled>) = (Vec::new(), None);
        for (n, item) in items.iter().enumerate() {
            let (value, key) = match item {
                Value::Object(_) if !objects => {
                    return Err(format!("Expecting value/list but got object at item {n} of input list"));
                }
                Value::Object(members) => match members.iter().find(|(name, _)| *name != "x") {
                    Some((name, _)) if members.keys().next().is_some_and(|first| first != "x") => {
                        return Err(format!(
                            "Failed to process element: {n} key: {name} of 'instances' list. Error: INVALID_ARGUMENT: \
                             JSON object: does not have named input: {name}"
                        ));
                    }
                    None if members.is_empty() => {
                        return Err(format!(
                            "Failed to process element: {n} of 'instances' list. JSON object: {{}} keys must be equal to: x"
                        ));
                    }
                    _ => (&members["x"], " key: x"),
                },
                _ if objects => {
                    return Err(format!("Expecting object but got list at item {n} of input list"));
                }
                value => (value, ""),
            };
            let filled = tensor(value).and_then(|(shape, values)| {
                let (first_shape, first_values) = first.get_or_insert((shape.clone(), values.clone()));
                if first_values.len() != values.len() {
                    return Err(format!(
                        "Expecting tensor size: {} but got: {}",
                        first_values.len(),
                        values.len()
                    ));
                }
                if *first_shape != shape {
                    let print = |shape: &[usize]| format!("{shape:?}").replace(' ', "");
                    return Err(format!("Expecting shape {} but got: {}", print(first_shape), print(&shape)));
                }
                all.extend(values);
                Ok(())
            });
            filled.map_err(|inner| {
                format!("Failed to process element: {n}{key} of 'instances' list. Error: INVALID_ARGUMENT: {inner}")
            })?;
        }
        let shape = first.map(|(shape, _)| shape).unwrap_or_default();
        Ok(([&[items.len()], shape.as_slice()].concat(), all))
    }
}

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        20 => (-99i64..99).prop_map(|value| json!(value)),
        8 => (-4.0f64..4.0).prop_map(|value| json!((value * 1024.0).round() / 1024.0 + 0.5)),
        1 => Just(json!("a")),
        1 => Just(json!(null)),
        1 => Just(json!(true)),
        1 => Just(json!({})),
    ]
}

/// Generates lists, mostly of uniform shape.
fn nested() -> impl Strategy<Value = Value> {
    let regular = vec(0usize..4, 0..4).prop_flat_map(|shape| {
        let mut value = leaf().boxed();
        for dim in shape {
            value = vec(value, dim).prop_map(Value::Array).boxed();
        }
        value
    });
    let ragged = leaf().prop_recursive(4, 24, 3, |inner| vec(inner, 0..4).prop_map(Value::Array));
    prop_oneof![3 => regular, 1 => ragged]
}

fn row() -> impl Strategy<Value = Value> {
    nested().prop_map(|value| json!({ "x": value }))
}

fn instances() -> impl Strategy<Value = Vec<Value>> {
    let values = || prop_oneof![8 => nested(), 1 => row()];
    let objects = || prop_oneof![8 => row(), 1 => nested(), 1 => Just(json!({"y": 1}))];
    let same = nested().prop_flat_map(|value| {
        // One shape for all, as in valid requests.
        (1usize..6).prop_map(move |count| vec![value.clone(); count])
    });
    prop_oneof![same, vec(values(), 1..5), vec(objects(), 1..5)]
}

/// Prints `value` with whitespace wherever the grammar allows it.
fn spaced(value: &Value, space: &str) -> String {
    let mut out = String::new();
    for part in value.to_string().split_inclusive(['[', ']', '{', '}', ',', ':']) {
        let (text, mark) = part.split_at(part.len() - 1);
        if part.ends_with(['[', ']', '{', '}', ',', ':']) {
            out += &[text, space, mark, space].concat();
        } else {
            out += part;
        }
    }
    out
}

fn check(body: &str, expected: Result<(Vec<usize>, Vec<f64>), String>) -> Result<(), TestCaseError> {
    let out = run(FLOAT, body.as_bytes());
    match expected {
        Ok((shape, values)) => {
            prop_assert_eq!(&out["tensors"]["x"]["shape"], &json!(shape), "{}", body);
            prop_assert_eq!(&out["tensors"]["x"]["values"], &json!(values), "{}", body);
        }
        Err(message) => prop_assert_eq!(&out["error"]["message"], &json!(message), "{}", body),
    }
    Ok(())
}

fn dtypes() -> impl Strategy<Value = DType> {
    (1..34i32).prop_map(|number| DType::from_number(number).unwrap())
}

/// Pieces that mutations insert to make near-requests; serde_json reads the last few differently.
const PIECES: [&str; 34] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    " ",
    "\"x\"",
    "\"a\"",
    "\"b64\"",
    "\"YQ==\"",
    "1",
    "-0",
    "2.5",
    "1e5",
    "300",
    "1e400",
    "null",
    "true",
    "\"instances\"",
    "\"inputs\"",
    "\"signature_name\"",
    "\"s\"",
    "\\u00e9",
    "\"",
    "{\"b64\":\"aGk=\"}",
    "{\"x\":1}",
    "\"instances\":[",
    "\"inputs\":{\"x\":",
    "[[1,2],[3,4]]",
    "\0",
    "NaN",
    "-Infinity",
    "\u{feff}",
];
const STRICT: usize = PIECES.len() - 3;

/// Generates texts that are often JSON, often requests, and always slightly wrong.
fn almost(pieces: usize) -> impl Strategy<Value = Vec<u8>> {
    let good = prop_oneof![
        instances().prop_map(|rows| json!({ "instances": rows })),
        nested().prop_map(|value| json!({ "inputs": value })),
        nested().prop_map(|value| json!({"inputs": {"x": value, "b64": "YQ"}, "signature_name": "s"})),
    ];
    let edits = vec((any::<prop::sample::Index>(), 0usize..3, 0..pieces), 0..4);
    (good, edits).prop_map(|(good, edits)| {
        let mut text = good.to_string().into_bytes();
        for (at, cut, piece) in edits {
            let at = at.index(text.len() + 1);
            let end = (at + cut).min(text.len());
            text.splice(at..end, PIECES[piece].bytes());
        }
        text
    })
}

/// Decodes with both passes, which must agree whenever the first has an answer.
fn both(body: &[u8], dtype: DType) -> Result<Value, TestCaseError> {
    let mut all = signatures(&["serving_default"], &[("x", dtype)]);
    all.insert("s".into(), signature_of("s", &[("x", DType::String)]));
    let limits = DecodeLimits { max_depth: 3 };
    let slow = outcome(predict_in_order(body, Ok(&all), limits));
    match predict_at_once(body, &all, limits, &Alone) {
        Some(fast) => prop_assert_eq!(outcome(Ok(fast)), slow.clone(), "{}", String::from_utf8_lossy(body)),
        // Valid bodies take one pass.
        None => prop_assert!(slow.get("error").is_some(), "{}", String::from_utf8_lossy(body)),
    }
    Ok(slow)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn rows_are_as_in_the_reference(rows in instances(), space in "[ \n\t\r]{0,2}") {
        let body = spaced(&json!({ "instances": rows }), &space);
        check(&body, reference::rows(&rows))?;
    }

    #[test]
    fn columns_are_as_in_the_reference(value in prop_oneof![4 => nested(), 1 => row()], space in "[ \n]{0,1}") {
        let body = spaced(&json!({ "inputs": value }), &space);
        check(&body, reference::columns(&value))?;
    }

    #[test]
    fn the_passes_agree(body in almost(PIECES.len()), dtype in dtypes()) {
        both(&body, dtype)?;
    }

    #[test]
    fn what_is_json_is_as_serde_has_it(body in almost(STRICT)) {
        let first = serde_json::Deserializer::from_slice(&body).into_iter::<Value>().next();
        let ours = both(&body, DType::Float)?;
        let refused = ours["error"]["message"].as_str().is_some_and(|message| message.starts_with("JSON Parse error"));
        let text = String::from_utf8_lossy(&body);
        // serde_json requires space between a top-level scalar and anything after it.
        let scalar = !text.trim_start().starts_with(['{', '[']);
        prop_assert!(scalar || refused != matches!(first, Some(Ok(_))), "{}: {:?} {}", text, first, ours);
    }

    #[test]
    fn any_bytes_are_survived(body in vec(any::<u8>(), 0..64), dtype in dtypes()) {
        both(&body, dtype)?;
    }

    #[test]
    fn a_cut_body_is_refused(rows in instances(), cut in any::<prop::sample::Index>()) {
        let body = json!({ "instances": rows }).to_string();
        let cut = cut.index(body.len());
        let out = both(&body.as_bytes()[..cut], DType::Float)?;
        prop_assert!(out["error"]["message"].as_str().unwrap().starts_with("JSON Parse error"), "{}", out);
    }
}

/// Bodies that are costly if a step looks back or ahead too often. Anything quadratic would not finish.
#[test]
fn hostile_bodies_take_linear_time() {
    let many = 100_000;
    let repeat = |text: &str| text.repeat(many);
    let hostile = [
        format!("{{\"inputs\":{}", "[".repeat(many)),
        format!("{{\"inputs\":{}{}}}", "[".repeat(many / 2), "]".repeat(many / 2)),
        format!("{{\"inputs\":[[[1]]{}]}}", ",[[[1]]]".repeat(many / 2)),
        format!("{{\"instances\":[{}1]}}", "[],".repeat(many)),
        format!("{{\"instances\":[1{}]}}", repeat(",\"a\"")),
        format!("{{\"instances\":[{{{}\"x\":1}}]}}", repeat("\"x\":1,")),
        format!("{{\"instances\":[{{\"x\":1}}{}]}}", repeat(",{\"x\":2}")),
        format!("{{\"instances\":[{{\"b64\":\"{}\",\"q\":1}}]}}", repeat("YWFh")),
        format!("{{{}\"inputs\":1}}", repeat("\"inputs\":[2],")),
        format!("{{{}\"inputs\":1}}", repeat("\"signature_name\":\"serving_default\",")),
        format!("{{\"inputs\":{{{}\"x\":1}}}}", repeat("\"y\":[2],")),
        format!("{{\"inputs\":1{}}}", repeat("0")),
        format!("{{\"inputs\":0.{}1}}", repeat("0000")),
        format!("{{\"inputs\":1e{}}}", repeat("9")),
        format!("{{\"inputs\":[{}1]}}", "0.1234567890123456789012345678901234567890,".repeat(many / 2)),
        format!("{{\"inputs\":\"{}\"}}", repeat("\\n")),
        format!("{{\"inputs\":\"{}\"}}", repeat("\\ud83d\\ude00")),
        format!("{{\"signature_name\":\"{}\"}}", repeat("x")),
        format!("{{\"signature_name\":{}{}}}", "{\"a\":[".repeat(many / 2), "]}".repeat(many / 2)),
        format!("{{\"q\":{}", "{\"a\":[".repeat(many)),
    ];
    for body in hostile {
        let start = body[..40].to_string();
        for dtype in [DType::Float, DType::String] {
            let all = signatures(&["serving_default"], &[("x", dtype)]);
            let slow = predict_in_order(body.as_bytes(), Ok(&all), LIMITS).is_ok();
            assert_eq!(predict_at_once(body.as_bytes(), &all, LIMITS, &Alone).is_some(), slow, "{start}");
        }
    }
}

/// The reserved room never exceeds the body's own size in elements.
#[test]
fn a_good_start_does_not_reserve_for_ever() {
    let body = format!("{{\"instances\":[{}\"{}\"]}}", "1,".repeat(100), "x".repeat(1 << 20));
    assert!(message(FLOAT, &body).ends_with("is not of expected type: float"));
    let spread = format!("{{\"instances\":[{}{}1]}}", "1,".repeat(40), "1,          ".repeat(100_000));
    assert_eq!(tensor_of(FLOAT, &spread)[0], json!([100_041]));
}
