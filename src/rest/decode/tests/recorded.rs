//! The specification's vectors and recorded replies, if available.

use super::*;
use std::path::Path;

/// Returns the text of `../shared/<path>`; if it is missing, logs that and returns `None`.
pub(crate) fn shared(path: &str) -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared").join(path);
    let text = std::fs::read_to_string(&path);
    if text.is_err() {
        crate::skipped::because(format_args!("{} is not there", path.display()));
    }
    text.ok()
}

fn body(case: &Value) -> Vec<u8> {
    use ::base64::Engine;
    if let Some(text) = case["request"].as_str() {
        return text.as_bytes().to_vec();
    }
    if let Some(text) = case["request_base64"].as_str() {
        return ::base64::prelude::BASE64_STANDARD.decode(text).unwrap();
    }
    let part =
        |part: &Value| part["text"].as_str().unwrap().repeat(part["repeat"].as_u64().unwrap_or(1) as usize);
    case["request_parts"].as_array().unwrap().iter().map(part).collect::<String>().into_bytes()
}

/// TensorFlow Serving refuses every value of these dtypes; here they are numbers. What is none is refused as for a float.
const NUMBERS_HERE: [&str; 2] = ["half", "bfloat16"];

/// Returns whether TensorFlow Serving's error says that a dtype has no values in JSON which has some here.
fn is_outdone(error: &Value) -> bool {
    let message = error.as_str().unwrap_or_default();
    message.contains("Conversion of JSON Value: ")
        && NUMBERS_HERE.iter().any(|dtype| message.ends_with(&format!(" to type: {dtype}")))
}

#[test]
fn vectors() {
    let Some(text) = shared("spec/vectors/decode.json") else { return };
    let file: Value = serde_json::from_str(&text).unwrap();
    let cases = file["cases"].as_array().unwrap();
    for case in cases {
        let inputs = case["signature"]["inputs"].as_object().unwrap();
        let inputs: Vec<(&str, DType)> = inputs
            .iter()
            .map(|(alias, spec)| (alias.as_str(), dtype(spec["dtype"].as_str().unwrap())))
            .collect();
        let expected = &case["expect"];
        let name = expected["signature_name"].as_str().unwrap_or("foo");
        let all = signatures(&["serving_default", if name.is_empty() { "unused" } else { name }], &inputs);
        let body = body(case);
        let result = predict(&body, Ok(&all), LIMITS, &Alone);
        if is_outdone(&expected["error"]["message"]) {
            assert!(result.is_ok(), "{}", case["name"]);
            continue;
        }
        if let Ok(predict) = &result {
            assert_eq!(*predict.signature.name, *if name.is_empty() { "serving_default" } else { name });
            // Valid bodies take one pass.
            assert!(predict_at_once(&body, &all, LIMITS, &Alone).is_some(), "{}", case["name"]);
        }
        let out = outcome(result);
        if let Some(error) = expected.get("error") {
            assert_eq!(out["error"]["code"], error["code"], "{}: {out}", case["name"]);
            assert_eq!(out["error"]["message"], error["message"], "{}", case["name"]);
            continue;
        }
        assert_eq!(out["format"], expected["format"], "{}: {out}", case["name"]);
        let expected = expected["tensors"].as_object().unwrap();
        for (alias, tensor) in expected {
            for field in ["dtype", "shape", "values"] {
                // Compared as text, because -0.0 and 0.0 are equal as numbers.
                let (got, wanted) = (out["tensors"][alias][field].to_string(), tensor[field].to_string());
                assert_eq!(got, wanted, "{} {field}", case["name"]);
            }
        }
        assert_eq!(out["tensors"].as_object().unwrap().len(), expected.len());
    }
    assert!(cases.len() >= 247);
}

/// Returns the signatures of the recorded model `ident`: `id_<dtype>`, x → y.
fn ident() -> Signatures {
    let mut all = Signatures::new();
    for number in 1..34 {
        let dtype = DType::from_number(number).unwrap();
        let name = match dtype {
            DType::Float => "float32",
            DType::Double => "float64",
            DType::Half => "float16",
            other => other.name(),
        };
        let name = format!("id_{name}");
        all.insert(name.clone(), signature_of(&name, &[("x", dtype)]));
    }
    let mut default = all["id_float32"].clone();
    default.name = "serving_default".into();
    all.insert(default.name.to_string(), default);
    all
}

/// Checks that a body for numbers of 16 bits is taken, or refused, as one for floats is.
fn check_as_float(all: &Signatures, body: &str) {
    let outcome = |body: &str| {
        let error = predict(body.as_bytes(), Ok(all), LIMITS, &Alone).err();
        error.map(|error| {
            let text =
                error.message.replace("type: bfloat16", "type: float").replace("type: half", "type: float");
            (error.kind, text)
        })
    };
    let as_float =
        body.replace("\"id_bfloat16\"", "\"id_float32\"").replace("\"id_float16\"", "\"id_float32\"");
    assert_ne!(body, as_float);
    assert_eq!(outcome(body), outcome(&as_float), "{body}");
}

#[test]
fn recorded_replies() {
    let Some(text) = shared("conformance/replies.jsonl") else { return };
    let all = ident();
    let (mut refused, mut accepted, mut outdone) = (0, 0, 0);
    for line in text.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let path = case["request"]["path"].as_str().unwrap();
        let Some(body) = case["request"]["body"].as_str() else { continue };
        if path != "/v1/models/ident:predict" {
            continue;
        }
        let result = predict(body.as_bytes(), Ok(&all), LIMITS, &Alone);
        let reply = case["reply"]["body"].as_str();
        if case["reply"]["status"] == 200 {
            assert!(result.is_ok(), "{body}: {result:?}");
            accepted += 1;
            continue;
        }
        let recorded: Value = serde_json::from_str(reply.unwrap_or("null")).unwrap();
        if is_outdone(&recorded["error"]) {
            check_as_float(&all, body);
            outdone += 1;
            continue;
        }
        match result {
            Ok(_) => panic!("{body} was refused: {recorded}"),
            Err(error) => {
                assert_eq!(error.message, recorded["error"].as_str().unwrap(), "{body}");
                assert_eq!(json!(error.kind.http_status()), case["reply"]["status"], "{body}");
            }
        }
        refused += 1;
    }
    assert!(refused >= 150 && accepted >= 150 && outdone >= 30, "{refused} {accepted} {outdone}");
}
