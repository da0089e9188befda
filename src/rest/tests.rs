//! The URL grammar and request heads, checked against the cases of the specification.

use super::path::{Target, parse};
use super::verb::Verb;
use crate::http::head::Fields;
use crate::http::target;
use crate::registry::VersionChoice;
use http::{HeaderMap, HeaderValue};

fn is(choice: &VersionChoice, case: &serde_json::Value) -> bool {
    match (case["version"].as_i64(), case["label"].as_str()) {
        (Some(version), None) => *choice == VersionChoice::Version(version),
        (None, Some(label)) => *choice == VersionChoice::Label(label.to_owned()),
        _ => *choice == VersionChoice::Latest,
    }
}

#[test]
fn every_path_of_the_vectors_is_read_as_recorded() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/spec/vectors/paths.json");
    let Ok(text) = std::fs::read_to_string(file) else {
        crate::skipped::because(format_args!("{file} is not here"));
        return;
    };
    let vectors: serde_json::Value = serde_json::from_str(&text).unwrap();
    let cases = vectors["cases"].as_array().unwrap();
    assert!(cases.len() >= 58);
    for case in cases {
        let path = case["path"].as_str().unwrap();
        let expect = &case["expect"];
        let target = parse(case["method"] == "POST", path);
        let right = match &target {
            Target::VersionTooLarge(digits) => {
                expect["error"]["message"].as_str().unwrap().contains(digits.as_str())
            }
            // A verb in another case matches the grammar but not the dispatch.
            Target::Malformed => {
                expect["matched"] == false
                    || expect["verb"].as_str().is_some_and(|verb| verb != verb.to_lowercase())
            }
            Target::Call(verb, name, choice) => {
                expect["verb"] == verb.word && expect["model_name"] == *name && is(choice, expect)
            }
            Target::Status(name, choice) => {
                expect["subresource"] != "metadata" && expect["model_name"] == *name && is(choice, expect)
            }
            Target::Metadata(name, choice) => {
                expect["subresource"] == "metadata" && expect["model_name"] == *name && is(choice, expect)
            }
            // Not in TensorFlow Serving.
            Target::OpenApi(..) => expect["matched"] == false,
        };
        assert!(right, "{case}: {target:?}");
    }
}

#[test]
fn the_grammar_without_the_vectors() {
    let latest =
        |name: &str| Target::Call(Verb::named("predict").unwrap(), name.to_owned(), VersionChoice::Latest);
    assert_eq!(parse(true, "/v1/models/m:predict"), latest("m"));
    assert_eq!(parse(true, "/V1/Models/a%2Fb:predict"), latest("a/b"));
    assert_eq!(parse(true, "/v1/models/m:PREDICT"), Target::Malformed);
    assert_eq!(parse(false, "/v1/models/metadata"), Target::Status("metadata".into(), VersionChoice::Latest));
    assert_eq!(
        parse(false, "/v1/models/m/versions/007"),
        Target::Status("m".into(), VersionChoice::Version(7))
    );
    assert_eq!(
        parse(false, "/v1/models/labels/x"),
        Target::Status(String::new(), VersionChoice::Label("x".into()))
    );
    assert_eq!(parse(false, "/v1/modelsx"), Target::Malformed);
}

#[test]
fn targets_hold_only_what_rfc_3986_allows() {
    for good in ["/v1/models/a%2Fb", "/v1/models/m:predict?x=1", "/"] {
        assert!(target::is_valid(good), "{good}");
    }
    for bad in ["/%zz", "/%2", "/[x]", "/a b", "/{", "/a|b", "/caf\u{e9}"] {
        assert!(!target::is_valid(bad), "{bad}");
    }
}

#[test]
fn gzip_is_accepted_only_where_it_is_named() {
    let accepts = |value: &'static str| {
        let mut headers = HeaderMap::new();
        headers.insert("accept-encoding", HeaderValue::from_static(value));
        Fields::of(&headers).accepts(false).gzip > 0
    };
    assert!(accepts("gzip"));
    assert!(accepts("deflate, GZIP;q=0.5"));
    assert!(!accepts("identity"));
    assert!(!accepts("gzip;q=0, deflate"));
}
