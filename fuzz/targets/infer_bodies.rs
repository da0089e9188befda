//! Bodies of infer requests by the Open Inference Protocol.

use bytes::Bytes;
use servable::engine::signature::{Signature, TensorSpec};
use servable::memory::Reservation;
use servable::open_inference::strings;
use servable::parallel::Alone;
use servable::rest::v2::decode::{Against, Parts, infer};
use servable::tensor::{DType, element_count};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// Up to the first line end, JSON; after it, binary data.
pub const EXAMPLES: &[&[u8]] = &[
    br#"{"id":"1","inputs":[{"name":"f","shape":[2,2],"datatype":"FP32","data":[[1,2.5],[3,4e1]]},{"name":"s","shape":[1],"datatype":"BYTES","data":["a\u00e9"]}],"outputs":[{"name":"f","parameters":{"classification":2}}]}"#,
    b"{\"inputs\":[{\"name\":\"f\",\"datatype\":\"FP32\",\"shape\":[1],\"parameters\":{\"binary_data_size\":4}},{\"name\":\"s\",\"datatype\":\"BYTES\",\"shape\":[2],\"parameters\":{\"binary_data_size\":9}}],\"parameters\":{\"binary_data_output\":true}}\n\0\0\x80?\x01\0\0\0a\0\0\0\0",
    br#"{"parameters":{"signature_name":"narrow"},"inputs":[{"data":[1,65535],"name":"u","shape":[2],"datatype":"UINT16"},{"name":"h","shape":[],"datatype":"FP16","data":1.5}]}"#,
    br#"{"inputs":[{"name":"s","shape":[1],"datatype":"BYTES","data":["YQ=="],"parameters":{"content_type":"base64"}},{"name":"f","shape":[0],"datatype":"FP32","data":[]}]}"#,
];

static SIGNATURES: LazyLock<BTreeMap<String, Signature>> = LazyLock::new(|| {
    let default =
        signature("serving_default", &[("f", DType::Float, None), ("s", DType::String, Some(&[-1]))]);
    let narrow = signature("narrow", &[("h", DType::Half, None), ("u", DType::UInt16, Some(&[2]))]);
    [default, narrow].into_iter().map(|signature| (signature.name.to_string(), signature)).collect()
});

fn signature(name: &str, tensors: &[(&str, DType, Option<&[i64]>)]) -> Signature {
    let spec = |(alias, dtype, shape): &(&str, DType, Option<&[i64]>)| TensorSpec {
        alias: (*alias).to_owned(),
        tensor: format!("{alias}:0"),
        dtype: *dtype,
        shape: shape.map(<[i64]>::to_vec),
    };
    Signature {
        name: name.into(),
        method_name: String::new(),
        inputs: tensors.iter().map(spec).collect(),
        outputs: tensors.iter().map(spec).collect(),
        defaults: BTreeMap::new(),
    }
}

/// JSON, and binary data after a line end.
pub fn infer_body(body: &[u8]) {
    let json = body.iter().position(|byte| *byte == b'\n');
    let body: Bytes =
        body.iter().enumerate().filter(|(at, _)| Some(*at) != json).map(|(_, byte)| *byte).collect();
    let Ok(parts) = Parts::of(body, json) else { panic!("the JSON is no longer than the body") };
    let against = Against { model: "m", signatures: &SIGNATURES, signature: "", max_depth: 8, shared: None };
    let Ok(infer) = infer(parts, against, &Reservation::default(), &Alone) else { return };
    assert_eq!(infer.inputs.len(), infer.signature.inputs.len());
    for (spec, tensor) in infer.signature.inputs.iter().zip(&infer.inputs) {
        assert_eq!(spec.dtype, tensor.dtype());
        assert_eq!(element_count(tensor.shape()), Some(tensor.len()));
    }
    assert!(infer.outputs.positions.iter().all(|output| *output < infer.signature.outputs.len()));
}

/// Strings after their lengths: their number, then all of them. What is read is written the same.
pub fn infer_strings(data: &[u8]) {
    let Some((count, data)) = data.split_first() else { return };
    let data = Bytes::copy_from_slice(data);
    let read = strings::read(&data, usize::from(*count), &Reservation::default()).expect("there is no limit");
    if let Ok(strings) = read {
        assert_eq!(strings.len(), usize::from(*count));
        assert_eq!(strings::encoded(&strings), data);
    }
}
