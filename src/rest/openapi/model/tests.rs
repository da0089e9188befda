//! Documents of models: what they name is there, and they stay small whatever a model is called.

use super::*;
use crate::config::NonUtf8;
use crate::engine::signature::TensorSpec;
use serde_json::{Value, json};

/// Everything that can be configured.
pub(in crate::rest::openapi) fn all_facts() -> Facts {
    Facts {
        auth: true,
        health: true,
        open_inference: true,
        control: true,
        shared_memory: true,
        method_names: false,
        non_utf8: NonUtf8::Base64,
        metrics_path: Some("/metrics".to_owned()),
        prometheus_path: Some("/monitoring/prometheus/metrics".to_owned()),
    }
}

/// Returns the references in `document` to what is not there.
pub(in crate::rest::openapi) fn unresolved(document: &Value) -> Vec<String> {
    let (mut missing, mut ahead) = (Vec::new(), vec![document]);
    while let Some(value) = ahead.pop() {
        match value {
            Value::Object(members) => {
                if let Some(Value::String(name)) = members.get("$ref")
                    && document.pointer(name.trim_start_matches('#')).is_none()
                {
                    missing.push(name.clone());
                }
                ahead.extend(members.values());
            }
            Value::Array(items) => ahead.extend(items),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    missing
}

fn spec(alias: &str, dtype: DType) -> TensorSpec {
    TensorSpec { alias: alias.to_owned(), tensor: String::new(), dtype, shape: Some(vec![-1, 2]) }
}

fn signature(name: &str, inputs: &[&str]) -> Signature {
    Signature {
        name: name.into(),
        method_name: "tensorflow/serving/predict".to_owned(),
        inputs: inputs.iter().map(|alias| spec(alias, DType::Float)).collect(),
        outputs: vec![spec("y", DType::String)],
        defaults: BTreeMap::new(),
    }
}

fn table(all: impl IntoIterator<Item = Signature>) -> BTreeMap<String, Signature> {
    all.into_iter().map(|one| (one.name.to_string(), one)).collect()
}

fn text_of(name: &str, choice: &VersionChoice, signatures: &BTreeMap<String, Signature>) -> Vec<u8> {
    let version = Version { name, choice, number: 7, signatures, exact: true, content: &|_, _| None };
    document(&all_facts(), &version).unwrap()
}

fn of(signatures: impl IntoIterator<Item = Signature>) -> Value {
    let text = text_of("m", &VersionChoice::Latest, &table(signatures));
    let document: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(unresolved(&document), Vec::<String>::new());
    document
}

#[test]
fn a_document_names_its_model_and_its_signatures() {
    let document = of([signature("other", &["x"]), signature(DEFAULT_SIGNATURE, &["a", "b"])]);
    assert_eq!((&document["info"]["title"], &document["info"]["version"]), (&json!("m"), &json!("7")));
    let paths: Vec<&str> = document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
    let expected = [
        "/v1/models/m:predict",
        "/v1/models/m",
        "/v1/models/m/metadata",
        "/v1/models/m/openapi.json",
        "/v2/models/m/infer",
        "/v2/models/m",
        "/v2/models/m/ready",
        "/v2/models/m/config",
        "/v2/models/m/stats",
        "/readyz/m",
    ];
    assert_eq!(paths, expected);
    let either = json!([
        {"$ref": "#/components/schemas/PredictRequest.serving_default"},
        {"$ref": "#/components/schemas/PredictRequest.other"}]);
    assert_eq!(document["components"]["schemas"]["PredictRequest"]["anyOf"], either);
    let content = &document["paths"]["/v1/models/m:predict"]["post"]["requestBody"]["content"];
    let examples: Vec<&str> =
        content["application/json"]["examples"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(examples, ["serving_default-rows", "serving_default-columns", "other-rows", "other-columns"]);
    let forms: Vec<&str> = content.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        forms[1..],
        ["application/x-npy", "application/x-npz", "application/octet-stream", "application/msgpack"]
    );
}

#[test]
fn the_same_model_has_the_same_text() {
    let signatures = table([signature("a", &["x"]), signature("b", &["x", "y"])]);
    let of = || text_of("m", &VersionChoice::Latest, &signatures);
    assert_eq!(of(), of());
}

#[test]
fn versions_and_labels_have_their_own_paths() {
    let signatures = table([signature(DEFAULT_SIGNATURE, &["x"])]);
    for (choice, path, health) in [
        (VersionChoice::Version(7), "m%7B%2F%7D/versions/7", "m%7B%2F%7D/7"),
        (VersionChoice::Label("a b".to_owned()), "m%7B%2F%7D/labels/a%20b", "m%7B%2F%7D"),
    ] {
        let text = text_of("m{/}", &choice, &signatures);
        let document: Value = serde_json::from_slice(&text).unwrap();
        assert!(document["paths"][format!("/v1/models/{path}:predict")].is_object(), "{path}");
        assert!(document["paths"][format!("/v2/models/{path}/infer")].is_object(), "{path}");
        assert!(document["paths"][format!("/readyz/{health}")].is_object(), "{path}");
    }
}

#[test]
fn many_signatures_are_described_as_far_as_they_fit() {
    let all = (0..10_000).map(|index| signature(&format!("s{index}"), &["x"]));
    let signatures = table(all.chain([signature(DEFAULT_SIGNATURE, &["x"])]));
    let text = text_of("m", &VersionChoice::Latest, &signatures);
    assert!(text.len() < document::LONGEST / 2, "{}", text.len());
    let document: Value = serde_json::from_slice(&text).unwrap();
    let schemas = &document["components"]["schemas"];
    let either = schemas["PredictRequest"]["anyOf"].as_array().unwrap();
    assert!(either.len() > 100 && either.len() < 10_000);
    assert_eq!(either[0]["$ref"], "#/components/schemas/PredictRequest.serving_default");
    assert_eq!(either.last().unwrap()["$ref"], "#/components/schemas/AnyPredictRequest");
    let description = document["info"]["description"].as_str().unwrap();
    let left_out = 10_001 - (either.len() - 1);
    assert!(description.contains(&format!("too long: {left_out};")), "{description}");
    assert_eq!(unresolved(&document), Vec::<String>::new());
}

#[test]
fn a_vast_signature_is_left_out_alone() {
    let aliases: Vec<String> = (0..1000).map(|index| format!("{index}{}", "n".repeat(10_000))).collect();
    let aliases: Vec<&str> = aliases.iter().map(String::as_str).collect();
    let document = of([signature("vast", &aliases), signature("small", &["x"])]);
    let schemas = &document["components"]["schemas"];
    assert!(schemas["PredictRequest.small"].is_object() && schemas["PredictRequest.vast"].is_null());
}

#[test]
fn long_and_hostile_names_do_no_harm() {
    let long = "ü\u{202e}<script>\"{x}".repeat(700);
    let document = of([signature(&long, &[&long, "x"]), signature("", &["x"])]);
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let plain =
        |name: &String| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    assert!(schemas.keys().all(plain), "{:?}", schemas.keys());
    let text = text_of(&long, &VersionChoice::Label(long.clone()), &table([signature("s", &[&long])]));
    assert!(text.len() < document::LONGEST);
    let document: Value = serde_json::from_slice(&text).unwrap();
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.keys().all(|path| !path.contains(['{', '<', '"'])));
    assert_eq!(document["info"]["title"].as_str().unwrap(), long);
}

#[test]
fn keys_are_each_signature_s_own() {
    let keys: Vec<String> = ["a", "a.1", "a_1", "a b", "a/b", "", &"x".repeat(65)]
        .iter()
        .enumerate()
        .map(|(index, name)| key(name, index))
        .collect();
    let unique: BTreeSet<&String> = keys.iter().collect();
    assert_eq!(unique.len(), keys.len(), "{keys:?}");
    assert_eq!((&*keys[0], &*keys[1], &*keys[3]), ("a", "a_1.1", "a_b.3"));
}

#[test]
fn without_anything_to_call_there_is_a_document() {
    let document = of([]);
    assert!(document["paths"]["/v1/models/m:predict"].is_object());
    let any = json!([{"$ref": "#/components/schemas/AnyPredictRequest"}]);
    assert_eq!(document["components"]["schemas"]["PredictRequest"]["anyOf"], any);
    let signature = Signature { inputs: vec![], ..signature("init", &[]) };
    let document = of([signature]);
    assert!(document["info"]["description"].as_str().unwrap().contains("cannot be called: 1."));
}
