//! Cases of the specification and our own, read back by a small wire-format reader.

use super::*;
use crate::error::Kind as ErrorKind;
use crate::memory::Reservation;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// Returns the length-delimited fields of a message.
fn fields(mut bytes: &[u8]) -> Vec<(u64, &[u8])> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = prost::encoding::decode_varint(&mut bytes).unwrap();
        assert_eq!(tag & 7, 2);
        let len = prost::encoding::decode_varint(&mut bytes).unwrap() as usize;
        let (field, rest) = bytes.split_at(len);
        fields.push((tag >> 3, field));
        bytes = rest;
    }
    fields
}

fn only<'a>(fields: &[(u64, &'a [u8])], number: u64) -> &'a [u8] {
    let [(field, bytes)] = fields else { panic!("{fields:?}") };
    assert_eq!(*field, number);
    bytes
}

/// Formats a feature as in the vectors.
fn feature(bytes: &[u8]) -> Value {
    let fields = fields(bytes);
    let Some((kind, list)) = fields.first() else { return json!({"kind": "unset"}) };
    let number = |value: f64| match value {
        value if value.is_nan() => json!("NaN"),
        f64::INFINITY => json!("Infinity"),
        f64::NEG_INFINITY => json!("-Infinity"),
        value => json!(value),
    };
    let packed = || only(&self::fields(list), 1);
    match kind {
        1 => {
            let values: Vec<Value> = self::fields(list).iter().map(|(_, bytes)| text(bytes)).collect();
            json!({"kind": "bytes", "values": values})
        }
        2 => {
            let floats = packed().chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()));
            json!({"kind": "float", "values": floats.map(|value| number(value.into())).collect::<Vec<_>>()})
        }
        3 => {
            let (mut rest, mut values) = (packed(), Vec::new());
            while !rest.is_empty() {
                values.push(prost::encoding::decode_varint(&mut rest).unwrap() as i64);
            }
            json!({"kind": "int64", "values": values})
        }
        other => panic!("kind {other}"),
    }
}

fn text(bytes: &[u8]) -> Value {
    use ::base64::Engine;
    match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => json!({"b64": ::base64::prelude::BASE64_STANDARD.encode(bytes)}),
    }
}

/// Formats an Example as in the vectors.
fn example(bytes: &[u8]) -> Value {
    let mut features = BTreeMap::new();
    for (_, map) in fields(bytes) {
        for (_, entry) in fields(map) {
            let entry = fields(entry);
            let [(1, name), (2, value)] = entry.as_slice() else { panic!("{entry:?}") };
            features.insert(String::from_utf8(name.to_vec()).unwrap(), feature(value));
        }
    }
    json!(features)
}

/// Formats a result as in the vectors.
fn outcome(result: Result<Examples>) -> Value {
    match result {
        Err(error) => json!({"error": {"code": error.kind.name(), "message": error.message}}),
        Ok(out) => {
            let context = out.context.clone().unwrap_or_default();
            let own = |bytes: &[u8]| example(bytes.strip_prefix(context.as_ref()).unwrap());
            let list: Vec<Value> = out.examples.iter().map(own).collect();
            let mut value = json!({
                "signature_name": out.signature_name,
                "input_kind": "example_list",
                "examples": list,
            });
            if let Some(context) = out.context {
                value["input_kind"] = json!("example_list_with_context");
                value["context"] = example(&context);
            }
            value
        }
    }
}

fn first(body: &str) -> Value {
    let out = examples(body.as_bytes(), &Reservation::default()).unwrap();
    example(out.examples.get(0))
}

#[test]
fn elements_choose_the_list() {
    for (written, read) in [
        ("[20, -1, true]", json!({"kind": "int64", "values": [20, -1, 1]})),
        ("false", json!({"kind": "int64", "values": [0]})),
        ("[8.0, 1e3, NaN, -Inf]", json!({"kind": "float", "values": [8.0, 1000.0, "NaN", "-Infinity"]})),
        ("18446744073709551616", json!({"kind": "float", "values": [1.8446744073709552e19]})),
        ("[\"a\", {\"b64\": \"aGk=\"}, \"\\u00e9\"]", json!({"kind": "bytes", "values": ["a", "hi", "é"]})),
        ("[]", json!({"kind": "unset"})),
    ] {
        let body = format!("{{\"examples\":[{{\"f\":{written}}}]}}");
        assert_eq!(first(&body)["f"], read, "{written}");
    }
    assert_eq!(first("{\"examples\":[{\"\":1,\"b\":2,\"\":[3]}]} x")[""]["values"], json!([3]));
}

#[test]
fn an_example_is_laid_out_as_tensorflow_reads_it() {
    let bytes =
        |body: &str| examples(body.as_bytes(), &Reservation::default()).unwrap().examples.get(0).to_vec();
    assert_eq!(bytes(r#"{"examples":[{}]}"#), [0x0A, 0]);
    let wire = [10, 12, 10, 10, 10, 1, b'a', 18, 5, 26, 3, 10, 1, 7];
    assert_eq!(bytes(r#"{"examples":[{"a":7}]}"#), wire);
    let wire = [10, 13, 10, 11, 10, 1, b'a', 18, 6, 10, 4, 10, 2, b'h', b'i'];
    assert_eq!(bytes(r#"{"examples":[{"a":"hi"}]}"#), wire);
    let wire = [10, 15, 10, 13, 10, 1, b'a', 18, 8, 18, 6, 10, 4, 0, 0, 128, 63];
    assert_eq!(bytes(r#"{"examples":[{"a":1.0}]}"#), wire);
}

#[test]
fn the_context_stands_before_each_example() {
    let body = r#"{"examples":[{"a":1},{"c":2}],"context":{"c":9,"d":"x"},"signature_name":"s"}"#;
    let out = examples(body.as_bytes(), &Reservation::default()).unwrap();
    assert_eq!(out.signature_name, "s");
    let merged: Vec<Value> = out.examples.iter().map(example).collect();
    assert_eq!(merged[0]["a"]["values"], json!([1]));
    assert_eq!(merged[0]["c"]["values"], json!([9]));
    assert_eq!(merged[1]["c"]["values"], json!([2]));
    assert_eq!(merged[1]["d"]["values"], json!(["x"]));
}

#[test]
fn a_context_is_not_repeated_at_will() {
    let context = "x".repeat(1 << 20);
    let list = vec!["{}"; 1000].join(",");
    let error = examples(
        format!("{{\"context\":{{\"c\":\"{context}\"}},\"examples\":[{list}]}}").as_bytes(),
        &Reservation::default(),
    )
    .unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidArgument);
    assert!(error.message.contains("send fewer examples"), "{error}");
}

#[test]
fn errors() {
    for (body, message) in [
        ("", "JSON Parse error: The document is empty"),
        ("[]", "JSON Value: [] Is not object"),
        ("{}", "JSON Value: {} When method is classify, key 'examples' is expected and was not found"),
        (
            "{\"examples\":1}",
            "JSON Value: {\n    \"examples\": 1\n} Expecting 'examples' value to be an list/array",
        ),
        ("{\"examples\":[]}", "JSON Value: {\n    \"examples\": []\n} 'examples' value is an empty array"),
        ("{\"examples\":[{},true]}", "Example must be JSON object but got JSON True"),
        ("{\"context\":[],\"examples\":1}", "Example must be JSON object but got JSON Array"),
        ("{\"examples\":[{\"a\":[1,null]}]}", "Feature: a has element with unexpected JSON type: Null"),
        ("{\"examples\":[{\"a\":[[1]]}]}", "Feature: a has element with unexpected JSON type: Array"),
        ("{\"examples\":[{\"a\":{\"b64\":5}}]}", "Feature: a has element with unexpected JSON type: Object"),
        ("{\"examples\":[{\"a\":{\"b64\":\"!\"}}]}", "Unable to base64 decode"),
        ("{\"examples\":[{\"a\":[1,2.0]}]}", "Unexpected element type in feature: a expecting type: int64"),
        (
            "{\"examples\":[{\"a\":[1.5,true]}]}",
            "Unexpected element type in feature: a expecting type: float",
        ),
        ("{\"examples\":[{\"a\":[\"x\",1]}]}", "Unexpected element type in feature: a expecting type: bytes"),
        (
            "{\"examples\":[{\"a\":9223372036854775808}]}",
            "Feature: a has uint64_t element. Only int64_t is supported.",
        ),
        ("{\"examples\":[{\"a\":1}],\"q\":}", "JSON Parse error: Invalid value. at offset: 26"),
    ] {
        assert_eq!(
            examples(body.as_bytes(), &Reservation::default()).unwrap_err().message,
            message,
            "{body}"
        );
    }
}

#[test]
fn vectors() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/spec/vectors/classify_regress.json");
    let Ok(text) = std::fs::read_to_string(&path) else {
        return crate::skipped::because(format_args!("{} is not there", path.display()));
    };
    let file: Value = serde_json::from_str(&text).unwrap();
    let mut count = 0;
    for case in file["cases"].as_array().unwrap().iter().filter(|case| case["kind"] == "request") {
        let out = outcome(examples(case["request"].as_str().unwrap().as_bytes(), &Reservation::default()));
        match case["expect"].get("error") {
            Some(error) => assert_eq!(out["error"]["message"], error["message"], "{}", case["name"]),
            None => assert_eq!(out, case["expect"], "{}", case["name"]),
        }
        count += 1;
    }
    assert!(count >= 50, "{count}");
}
