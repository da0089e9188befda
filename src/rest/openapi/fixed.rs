//! The schemas that are the same in every document: files of JSON, as people read it.

use super::Facts;
use super::text::Object;
use crate::config::NonUtf8;

/// Of errors, of strings, and of TensorFlow Serving's API.
const MODELS: &str = include_str!("fixed/models.json");
/// Of what the Open Inference Protocol tells of a model.
const V2: &str = include_str!("fixed/v2.json");
/// Of what it tells of the server, and takes from clients that change something.
const V2_SERVER: &str = include_str!("fixed/v2_server.json");
const SHARED_MEMORY: &str = include_str!("fixed/shared_memory.json");
const HEALTH: &str = include_str!("fixed/health.json");

/// Writes those of every document.
pub(super) fn of_models(schemas: &mut Object<'_>, facts: &Facts) {
    schemas.members(&compact(MODELS));
    super::features::components(schemas, facts.non_utf8);
    if facts.open_inference {
        schemas.members(&compact(V2));
        schemas.object("AnyInferRequest", super::infer::any_request);
        schemas.object("AnyInferReply", super::infer::any_reply);
    }
    if facts.health {
        schemas.members(&compact(HEALTH));
    }
}

/// Writes those of the server's document.
pub(super) fn of_server(schemas: &mut Object<'_>, facts: &Facts) {
    if facts.open_inference {
        schemas.members(&compact(V2_SERVER));
    }
    if facts.shared_memory {
        schemas.members(&compact(SHARED_MEMORY));
    }
}

/// Returns in words what becomes of strings that are not UTF-8.
pub(super) fn of_strings(non_utf8: NonUtf8) -> &'static str {
    match non_utf8 {
        NonUtf8::Raw => {
            "Strings that are not UTF-8 come byte for byte, and the reply is then not valid JSON."
        }
        NonUtf8::Base64 => "Strings that are not UTF-8 come as base64 objects.",
    }
}

/// Returns `json`, which is well-formed, without the white space between its values.
fn compact(json: &str) -> Vec<u8> {
    let (mut in_string, mut escaped) = (false, false);
    let is_kept = |byte: &u8| {
        let kept = in_string || !byte.is_ascii_whitespace();
        in_string ^= *byte == b'"' && !escaped;
        escaped = in_string && *byte == b'\\' && !escaped;
        kept
    };
    json.bytes().filter(is_kept).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn every_file_is_an_object_of_schemas() {
        for json in [MODELS, V2, V2_SERVER, SHARED_MEMORY, HEALTH] {
            let schemas: Value = serde_json::from_str(json).unwrap();
            assert!(schemas.as_object().unwrap().values().all(Value::is_object));
            let short = compact(json);
            assert_eq!(serde_json::from_slice::<Value>(&short).unwrap(), schemas);
            assert!(short.len() < json.len() && !short.contains(&b'\n'));
        }
    }

    #[test]
    fn strings_keep_their_white_space() {
        let short = compact(r#"{ "a b" : "\\" , "c\" d" : [ 1 ] }"#);
        assert_eq!(String::from_utf8(short).unwrap(), r#"{"a b":"\\","c\" d":[1]}"#);
    }
}
