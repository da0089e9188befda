//! Bodies of predict, classify and regress: no bytes make the decoder panic, and what it accepts is consistent.

#![no_main]

use libfuzzer_sys::fuzz_target;
use servable::error::Error;
use servable::parallel::Alone;
use servable::rest::decode::{DecodeLimits, predict};
use servable::rest::features::examples;
use servable::engine::signature::{Signature, TensorSpec};
use servable::tensor::DType;
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// One signature for each dtype, by its name; the default one takes a float `x` and a string `y`.
static SIGNATURES: LazyLock<BTreeMap<String, Signature>> = LazyLock::new(|| {
    let dtypes = (1..34).filter_map(DType::from_number);
    let single = dtypes.map(|dtype| signature(dtype.name(), &[("x", dtype)]));
    let default = signature("serving_default", &[("x", DType::Float), ("y", DType::String)]);
    single.chain([default]).map(|signature| (signature.name.clone(), signature)).collect()
});

fn signature(name: &str, inputs: &[(&str, DType)]) -> Signature {
    let input = |(alias, dtype): &(&str, DType)| TensorSpec {
        alias: (*alias).to_owned(),
        tensor: format!("{alias}:0"),
        dtype: *dtype,
        shape: None,
    };
    Signature {
        name: name.to_owned(),
        method_name: String::new(),
        inputs: inputs.iter().map(input).collect(),
        outputs: Vec::new(),
        defaults: BTreeMap::new(),
    }
}

fuzz_target!(|body: &[u8]| {
    let limits = DecodeLimits { max_depth: 8 };
    let decoded = predict(body, Ok(&SIGNATURES), limits, &Alone);
    let missing = Error::not_found("no such model");
    let resolved_late = predict(body, Err(&missing), limits, &Alone);
    if let Ok(decoded) = &decoded {
        // What decodes fails for no other reason than the missing model.
        assert_eq!(resolved_late.unwrap_err(), missing);
        assert_eq!(decoded.inputs.len(), decoded.signature.inputs.len());
        for (spec, tensor) in decoded.signature.inputs.iter().zip(&decoded.inputs) {
            assert_eq!(spec.dtype, tensor.dtype());
        }
    }
    if let Ok(decoded) = examples(body, &Default::default()) {
        assert!(!decoded.examples.is_empty());
    }
});
