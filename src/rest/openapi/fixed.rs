//! The schemas that are the same in every document.

use super::Facts;
use super::text::Object;
use crate::config::NonUtf8;

/// Of errors and of strings.
const COMMON: [(&str, &str); 3] = [
    (
        "Error",
        r#"{"type":"object","properties":{"error":{"type":"string"}},"required":["error"],"additionalProperties":false}"#,
    ),
    (
        "Base64",
        r#"{"type":"object","properties":{"b64":{"type":"string","contentEncoding":"base64","pattern":"^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"}},"required":["b64"],"additionalProperties":false}"#,
    ),
    ("Bytes", r##"{"anyOf":[{"type":"string"},{"$ref":"#/components/schemas/Base64"}]}"##),
];

/// Of TensorFlow Serving's API.
const V1: [(&str, &str); 5] = [
    (
        "ModelStatus",
        r#"{"type":"object","properties":{"model_version_status":{"type":"array","items":{"type":"object","properties":{"version":{"type":"string","pattern":"^[0-9]+$"},"state":{"enum":["START","LOADING","AVAILABLE","UNLOADING","END"]},"status":{"type":"object","properties":{"error_code":{"type":"string"},"error_message":{"type":"string"}},"required":["error_code","error_message"]}},"required":["version","state","status"]}}},"required":["model_version_status"]}"#,
    ),
    (
        "ModelMetadata",
        r##"{"type":"object","properties":{"model_spec":{"type":"object","properties":{"name":{"type":"string"},"version":{"type":"string","pattern":"^[0-9]+$"},"signature_name":{"type":"string"}},"required":["name","version","signature_name"]},"metadata":{"type":"object","properties":{"signature_def":{"type":"object","properties":{"signature_def":{"type":"object","additionalProperties":{"$ref":"#/components/schemas/SignatureDef"}}},"required":["signature_def"]}},"required":["signature_def"]}},"required":["model_spec","metadata"]}"##,
    ),
    (
        "SignatureDef",
        r##"{"type":"object","properties":{"inputs":{"type":"object","additionalProperties":{"$ref":"#/components/schemas/TensorInfo"}},"outputs":{"type":"object","additionalProperties":{"$ref":"#/components/schemas/TensorInfo"}},"method_name":{"type":"string"},"defaults":{"type":"object"}},"required":["inputs","outputs","method_name","defaults"]}"##,
    ),
    (
        "TensorInfo",
        r#"{"description":"Sizes are decimal numbers, -1 for any; a dtype without a name is a number.","type":"object","properties":{"name":{"type":"string"},"dtype":{"type":["string","integer"]},"tensor_shape":{"type":"object","properties":{"dim":{"type":"array","items":{"type":"object","properties":{"size":{"type":"string","pattern":"^-?[0-9]+$"},"name":{"type":"string"}},"required":["size","name"]}},"unknown_rank":{"type":"boolean"}},"required":["dim","unknown_rank"]}},"required":["dtype"]}"#,
    ),
    (
        "OpenApi",
        r#"{"type":"object","properties":{"openapi":{"type":"string"},"info":{"type":"object"},"paths":{"type":"object"}},"required":["openapi","info","paths"]}"#,
    ),
];

/// Of requests to any signature, in TensorFlow Serving's API.
const ANY_CALL: [(&str, &str); 4] = [
    (
        "AnyPredictRequest",
        r#"{"anyOf":[{"type":"object","properties":{"signature_name":{"type":"string"},"instances":{"type":"array","minItems":1},"outputs":{"type":"array","items":{"type":"string"}}},"required":["instances"]},{"type":"object","properties":{"signature_name":{"type":"string"},"inputs":{},"outputs":{"type":"array","items":{"type":"string"}}},"required":["inputs"]}]}"#,
    ),
    (
        "AnyPredictReply",
        r#"{"anyOf":[{"type":"object","properties":{"predictions":{"type":"array"}},"required":["predictions"],"additionalProperties":false},{"type":"object","properties":{"outputs":{}},"required":["outputs"],"additionalProperties":false}]}"#,
    ),
    (
        "AnyExamplesRequest",
        r##"{"type":"object","properties":{"signature_name":{"type":"string"},"context":{"type":"object","additionalProperties":{"$ref":"#/components/schemas/Feature"}},"examples":{"type":"array","minItems":1,"items":{"type":"object","additionalProperties":{"$ref":"#/components/schemas/Feature"}}}},"required":["examples"]}"##,
    ),
    ("Empty", r#"{"type":"object"}"#),
];

/// Of what the Open Inference Protocol tells of a model.
const V2: [(&str, &str); 5] = [
    (
        "V2Tensor",
        r#"{"type":"object","properties":{"name":{"type":"string"},"datatype":{"type":"string"},"shape":{"type":"array","items":{"type":"integer","minimum":-1}}},"required":["name","datatype","shape"]}"#,
    ),
    (
        "V2ModelMetadata",
        r##"{"type":"object","properties":{"name":{"type":"string"},"versions":{"type":"array","items":{"type":"string"}},"platform":{"type":"string"},"inputs":{"type":"array","items":{"$ref":"#/components/schemas/V2Tensor"}},"outputs":{"type":"array","items":{"$ref":"#/components/schemas/V2Tensor"}}},"required":["name","versions","platform","inputs","outputs"]}"##,
    ),
    (
        "V2ModelReady",
        r#"{"type":"object","properties":{"name":{"type":"string"},"ready":{"const":true}},"required":["name","ready"]}"#,
    ),
    (
        "V2ModelConfig",
        r#"{"type":"object","properties":{"name":{"type":"string"},"platform":{"type":"string"},"backend":{"type":"string"},"max_batch_size":{"type":"integer"},"input":{"type":"array","items":{"type":"object"}},"output":{"type":"array","items":{"type":"object"}}},"required":["name","max_batch_size","input","output"]}"#,
    ),
    (
        "V2Statistics",
        r#"{"type":"object","properties":{"model_stats":{"type":"array","items":{"type":"object","properties":{"name":{"type":"string"},"version":{"type":"string"},"last_inference":{"type":"integer"},"inference_count":{"type":"integer"},"execution_count":{"type":"integer"},"inference_stats":{"type":"object"},"batch_stats":{"type":"array"}},"required":["name","version","inference_count","execution_count"]}}},"required":["model_stats"]}"#,
    ),
];

/// Of what the Open Inference Protocol tells of the server, and takes from clients that change something.
const V2_SERVER: [(&str, &str); 6] = [
    (
        "V2Server",
        r#"{"type":"object","properties":{"name":{"type":"string"},"version":{"type":"string"},"extensions":{"type":"array","items":{"type":"string"}}},"required":["name","version","extensions"]}"#,
    ),
    ("V2Live", r#"{"type":"object","properties":{"live":{"const":true}},"required":["live"]}"#),
    ("V2Ready", r#"{"type":"object","properties":{"ready":{"const":true}},"required":["ready"]}"#),
    (
        "V2Index",
        r#"{"type":"array","items":{"type":"object","properties":{"name":{"type":"string"},"version":{"type":"string"},"state":{"enum":["READY","LOADING","UNLOADING","UNAVAILABLE"]},"reason":{"type":"string"}},"required":["name","version","state","reason"]}}"#,
    ),
    ("V2IndexRequest", r#"{"type":"object","properties":{"ready":{"type":"boolean"}}}"#),
    (
        "V2ControlRequest",
        r#"{"type":"object","properties":{"parameters":{"type":"object","properties":{"config":false}}}}"#,
    ),
];

/// Of shared memory.
const SHARED_MEMORY: [(&str, &str); 2] = [
    (
        "V2Regions",
        r#"{"type":"array","items":{"type":"object","properties":{"name":{"type":"string"},"key":{"type":"string"},"offset":{"type":"integer"},"byte_size":{"type":"integer"}},"required":["name","key","offset","byte_size"]}}"#,
    ),
    (
        "V2Register",
        r#"{"type":"object","properties":{"key":{"type":"string"},"offset":{"type":"integer","minimum":0},"byte_size":{"type":"integer","minimum":1}},"required":["key","byte_size"]}"#,
    ),
];

/// Of health.
const HEALTH: [(&str, &str); 2] = [
    ("Live", r#"{"type":"object","properties":{"live":{"const":true}},"required":["live"]}"#),
    ("Ready", r#"{"type":"object","properties":{"ready":{"type":"boolean"}},"required":["ready"]}"#),
];

/// Writes those of every document.
pub(super) fn of_models(schemas: &mut Object<'_>, facts: &Facts) {
    write(schemas, &COMMON);
    write(schemas, &V1);
    write(schemas, &ANY_CALL);
    super::features::components(schemas, facts.non_utf8);
    if facts.open_inference {
        write(schemas, &V2);
        schemas.object("AnyInferRequest", super::infer::any_request);
        schemas.object("AnyInferReply", super::infer::any_reply);
    }
    if facts.health {
        write(schemas, &HEALTH);
    }
}

/// Writes those of the server's document.
pub(super) fn of_server(schemas: &mut Object<'_>, facts: &Facts) {
    if facts.open_inference {
        write(schemas, &V2_SERVER);
    }
    if facts.shared_memory {
        write(schemas, &SHARED_MEMORY);
    }
}

fn write(schemas: &mut Object<'_>, all: &[(&str, &str)]) {
    all.iter().for_each(|(name, json)| schemas.raw(name, json.as_bytes()));
}

/// Returns in words what becomes of strings that are not UTF-8.
pub(super) fn of_strings(non_utf8: NonUtf8) -> &'static str {
    match non_utf8 {
        NonUtf8::Raw => "Strings that are not UTF-8 come byte for byte, and the reply is then not valid JSON.",
        NonUtf8::Base64 => "Strings that are not UTF-8 come as base64 objects.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn every_schema_is_json() {
        let all = COMMON.iter().chain(&V1).chain(&ANY_CALL).chain(&V2).chain(&V2_SERVER);
        for (name, json) in all.chain(&SHARED_MEMORY).chain(&HEALTH) {
            let schema: Value = serde_json::from_str(json).unwrap_or_else(|why| panic!("{name}: {why}"));
            assert!(schema.is_object(), "{name}");
        }
    }
}
