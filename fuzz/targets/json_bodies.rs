//! Bodies of predict, classify and regress.

use servable::engine::signature::{Signature, TensorSpec};
use servable::error::Error;
use servable::parallel::Alone;
use servable::rest::decode::{DecodeLimits, predict};
use servable::rest::features::examples;
use servable::tensor::DType;
use std::collections::BTreeMap;
use std::sync::LazyLock;

pub const EXAMPLES: &[&[u8]] = &[
    br#"{"instances": [[1.5, 2e3, -0.25], [1, 2, 3]], "signature_name": "float"}"#,
    br#"{"signature_name": "half", "inputs": {"x": [65519.99999, 1e-8, NaN, -Infinity, 2049]}, "outputs": ["z"]}"#,
    br#"{"signature_name": "bfloat16", "inputs": [257.0000000000001, 3.39e38], "outputs": ["y", "z"]}"#,
    br#"{"signature_name": "string", "instances": ["a\u00e9\ud83d\ude00", {"b64": "YQ=="}], "outputs": {}}"#,
    br#"{"instances": [{"x": 1.0, "y": "a"}, {"y": {"b64": "/w"}, "x": 2}]}"#,
    br#"{"signature_name": "uint64", "inputs": [18446744073709551615, 0]}"#,
    br#"{"signature_name": "bool", "inputs": [[true], [false]]}"#,
    br#"{"signature_name": "s", "context": {"c": 1}, "examples": [{"a": [1, 2], "b": "x"}, {"b": {"b64": "YQ=="}}]}"#,
];

/// One signature for each dtype, by its name; the default one takes a float `x` and a string `y`.
static SIGNATURES: LazyLock<BTreeMap<String, Signature>> = LazyLock::new(|| {
    let dtypes = (1..34).filter_map(DType::from_number);
    let single = dtypes.map(|dtype| signature(dtype.name(), &[("x", dtype)]));
    let default = signature("serving_default", &[("x", DType::Float), ("y", DType::String)]);
    single.chain([default]).map(|signature| (signature.name.to_string(), signature)).collect()
});

fn signature(name: &str, inputs: &[(&str, DType)]) -> Signature {
    let spec = |(alias, dtype): &(&str, DType)| TensorSpec {
        alias: (*alias).to_owned(),
        tensor: format!("{alias}:0"),
        dtype: *dtype,
        shape: None,
    };
    Signature {
        name: name.into(),
        method_name: String::new(),
        inputs: inputs.iter().map(spec).collect(),
        outputs: [("y", DType::Float), ("z", DType::Half)].iter().map(spec).collect(),
        defaults: BTreeMap::new(),
    }
}

/// Tries a body for both.
pub fn json_decode(body: &[u8]) {
    let limits = DecodeLimits { max_depth: 8 };
    let decoded = predict(body, Ok(&SIGNATURES), limits, &Alone);
    let missing = Error::not_found("no such model");
    let resolved_late = predict(body, Err(&missing), limits, &Alone);
    if let Ok(decoded) = &decoded {
        // What decodes fails for no other reason than the missing model.
        assert_eq!(resolved_late.err(), Some(missing));
        assert_eq!(decoded.inputs.len(), decoded.signature.inputs.len());
        for (spec, tensor) in decoded.signature.inputs.iter().zip(&decoded.inputs) {
            assert_eq!(spec.dtype, tensor.dtype());
        }
        let outputs = decoded.outputs.iter().flatten();
        assert!(outputs.clone().all(|output| *output < decoded.signature.outputs.len()));
        assert!(outputs.count() <= decoded.signature.outputs.len());
    }
    if let Ok(decoded) = examples(body, &Default::default()) {
        assert!(!decoded.examples.is_empty());
    }
}
