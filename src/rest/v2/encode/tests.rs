//! Answers in JSON and in binary form.

use super::*;
use crate::engine::signature::{Signature, TensorSpec};
use crate::open_inference::outputs::Outputs;
use crate::open_inference::parameters::OfOutput;
use crate::parallel::Alone;
use bytes::Bytes;

fn chosen(said: &[OfOutput]) -> Chosen {
    let spec = |alias: String| TensorSpec { alias, tensor: String::new(), dtype: DType::Float, shape: None };
    let signature = Signature {
        name: "s".into(),
        method_name: String::new(),
        inputs: Vec::new(),
        outputs: (0..said.len()).map(|index| spec(index.to_string())).collect(),
        defaults: Default::default(),
    };
    let mut outputs = Outputs::new("m", &signature);
    for (index, one) in said.iter().enumerate() {
        outputs.add(&index.to_string(), one.clone()).unwrap();
    }
    outputs.finish().unwrap()
}

fn written(said: &[OfOutput], binary: bool, outputs: &[(&str, Tensor)]) -> Written {
    let chosen = chosen(said);
    let form = Form { model: "m", version: 1, id: None, outputs: &chosen, binary, non_utf8: NonUtf8::Base64 };
    infer(&form, outputs, &Reservation::default(), &Alone).unwrap()
}

fn floats(shape: &[i64], all: &[f32]) -> Tensor {
    let bytes: Vec<u8> = all.iter().flat_map(|one| one.to_le_bytes()).collect();
    Tensor::numbers(DType::Float, shape, bytes.into())
}

#[test]
fn tensors_are_flat_lists_in_json() {
    let outputs = [
        ("0", floats(&[2, 1], &[1.0, 2.5])),
        ("1", Tensor::numbers(DType::UInt16, vec![], Bytes::from_static(&[255, 255]))),
        ("2", Tensor::strings(vec![2], [&b"a"[..], b"\xff"].iter().collect())),
        ("3", floats(&[0, 3], &[])),
    ];
    let Written { bytes, json, .. } =
        written(&std::array::from_fn::<_, 4, _>(|_| OfOutput::default()), false, &outputs);
    let expected = concat!(
        r#"{"model_name":"m","model_version":"1","outputs":["#,
        r#"{"name":"0","datatype":"FP32","shape":[2,1],"data":[1.0,2.5]},"#,
        r#"{"name":"1","datatype":"UINT16","shape":[],"data":[65535]},"#,
        r#"{"name":"2","datatype":"BYTES","shape":[2],"data":["a",{"b64":"/w=="}]},"#,
        r#"{"name":"3","datatype":"FP32","shape":[0,3],"data":[]}]}"#,
    );
    assert_eq!((String::from_utf8(bytes).unwrap().as_str(), json), (expected, None));
}

#[test]
fn binary_tensors_follow_in_order() {
    let said = |binary| OfOutput { binary, ..OfOutput::default() };
    let outputs = [
        ("0", Tensor::strings(vec![1], ["ab"].iter().collect())),
        ("1", floats(&[1], &[1.0])),
        ("2", floats(&[1], &[2.0])),
    ];
    let Written { bytes, json, .. } = written(&[said(None), said(Some(false)), said(None)], true, &outputs);
    let (text, binary) = bytes.split_at(json.unwrap());
    let expected = concat!(
        r#"{"model_name":"m","model_version":"1","outputs":["#,
        r#"{"name":"0","datatype":"BYTES","shape":[1],"parameters":{"binary_data_size":6}},"#,
        r#"{"name":"1","datatype":"FP32","shape":[1],"data":[1.0]},"#,
        r#"{"name":"2","datatype":"FP32","shape":[1],"parameters":{"binary_data_size":4}}]}"#,
    );
    assert_eq!((std::str::from_utf8(text).unwrap(), binary), (expected, &b"\x02\0\0\0ab\0\0\0\x40"[..]));
}

#[test]
fn what_is_large_is_not_copied_nor_what_follows_it() {
    let large = floats(&[2, 4096], &[1.5; 8192]);
    let outputs = [
        ("0", floats(&[1], &[1.0])),
        ("1", large.clone()),
        ("2", Tensor::strings(vec![1], ["ab"].iter().collect())),
        ("3", floats(&[1], &[2.0])),
    ];
    let Written { bytes, json, borrowed } = written(&vec![OfOutput::default(); 4], true, &outputs);
    let (text, binary) = bytes.split_at(json.unwrap());
    assert!(std::str::from_utf8(text).unwrap().contains(r#""binary_data_size":32768"#));
    assert_eq!(binary, b"\0\0\x80\x3f");
    assert_eq!((borrowed.len(), borrowed[0].as_ptr()), (3, large.bytes().as_ptr()));
    assert_eq!(borrowed[0].len(), 32768);
    assert_eq!((&borrowed[1][..], &borrowed[2][..]), (&b"\x02\0\0\0ab"[..], &b"\0\0\0\x40"[..]));
}

#[test]
fn classes_and_base64_are_strings() {
    let classes = OfOutput { classes: 1, ..OfOutput::default() };
    let base64 = OfOutput { base64: true, ..OfOutput::default() };
    let outputs =
        [("0", floats(&[1, 2], &[1.0, 2.0])), ("1", Tensor::strings(vec![1], [b"\xff"].iter().collect()))];
    let Written { bytes, .. } = written(&[classes, base64], false, &outputs);
    let text = String::from_utf8(bytes).unwrap();
    assert!(
        text.contains(r#"{"name":"0","datatype":"BYTES","shape":[1,1],"data":["2.000000:1"]}"#),
        "{text}"
    );
    assert!(text.contains(r#""parameters":{"content_type":"base64"},"data":["/w=="]}"#), "{text}");
}

#[test]
fn what_the_protocol_cannot_tell_is_refused() {
    let complex = Tensor::numbers(DType::Complex64, vec![1], Bytes::from_static(&[0; 8]));
    let form = Form {
        model: "m",
        version: 1,
        id: None,
        outputs: &Chosen::default(),
        binary: false,
        non_utf8: NonUtf8::Raw,
    };
    assert!(infer(&form, &[("0", complex)], &Reservation::default(), &Alone).is_err());
}

#[test]
fn the_copy_of_what_is_widened_is_counted() {
    let (said, of) =
        ([OfOutput::default()], |dtype| Tensor::numbers(dtype, vec![1000], vec![0; 2000].into()));
    let held = |dtype, binary| {
        let (chosen, memory) = (chosen(&said), Reservation::default());
        let form =
            Form { model: "m", version: 1, id: None, outputs: &chosen, binary, non_utf8: NonUtf8::Base64 };
        infer(&form, &[("0", of(dtype))], &memory, &Alone).unwrap();
        memory.bytes()
    };
    assert_eq!(held(DType::UInt16, false), held(DType::Int16, false) + 4000);
    assert_eq!(held(DType::UInt16, true), held(DType::Int16, true));
}
