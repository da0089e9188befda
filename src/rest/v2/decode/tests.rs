//! Infer requests: every form of tensors, every fault, and that what is written is read.

use super::*;
use crate::config::NonUtf8;
use crate::engine::signature::TensorSpec;
use crate::parallel::Alone;
use crate::rest::v2::encode::{self, Form};
use crate::tensor::{DType, Strings};
use proptest::prelude::*;

/// One signature with an input and an output of each of `dtypes`, called as in the protocol.
fn signatures(dtypes: &[DType]) -> BTreeMap<String, Signature> {
    let spec = |dtype: &DType| TensorSpec {
        alias: crate::open_inference::datatype::any_name(*dtype).to_owned(),
        tensor: String::new(),
        dtype: *dtype,
        shape: None,
    };
    let mut specs: Vec<_> = dtypes.iter().map(spec).collect();
    specs.sort_by(|one, other| one.alias.cmp(&other.alias));
    let signature = |name: &str| Signature {
        name: name.into(),
        method_name: String::new(),
        inputs: specs.clone(),
        outputs: specs.clone(),
        defaults: BTreeMap::new(),
    };
    ["serving_default", "other"].map(|name| (name.to_owned(), signature(name))).into()
}

fn decoded<T>(
    body: &[u8],
    json: Option<usize>,
    dtypes: &[DType],
    look: impl FnOnce(Infer<'_>) -> T,
) -> Result<T> {
    let signatures = signatures(dtypes);
    let against = Against { model: "m", signatures: &signatures, signature: "", max_depth: 8, shared: None };
    let parts = Parts::of(Bytes::copy_from_slice(body), json)?;
    infer(parts, against, &Reservation::default(), &Alone).map(look)
}

fn json<T>(text: &str, dtypes: &[DType], look: impl FnOnce(Infer<'_>) -> T) -> Result<T> {
    decoded(text.as_bytes(), None, dtypes, look)
}

fn refused(text: &str, dtypes: &[DType]) -> String {
    let error = json(text, dtypes, |_| ()).err().unwrap_or_else(|| panic!("{text}"));
    assert_eq!(error.http_status(), 400, "{text}: {error}");
    error.message.into_owned()
}

#[test]
fn data_are_flat_or_nested_and_members_in_any_order() {
    for data in ["[1,2,3,4]", "[[1,2],[3,4]]", " [ [ 1.0 , 2 ] , [ 3e0 , 4 ] ] "] {
        for text in [
            format!(r#"{{"name":"FP32","shape":[2,2],"datatype":"FP32","data":{data}}}"#),
            format!(r#"{{"data":{data},"datatype":"FP32","shape":[2,2],"x":[{{}}],"name":"FP32"}}"#),
            format!(
                r#"{{"name":"FP3\u0032","shape":[2,2],"datatype":"FP32","parameters":{{"x":1}},"data":{data}}}"#
            ),
        ] {
            let text = format!(r#" {{"id":"7","inputs":[{text}],"other":null}} "#);
            let bytes = json(&text, &[DType::Float], |infer| {
                assert_eq!((infer.id.as_deref(), infer.inputs[0].shape()), (Some("7"), &[2, 2][..]));
                infer.inputs[0].bytes().to_vec()
            });
            let expected: Vec<u8> = [1f32, 2.0, 3.0, 4.0].iter().flat_map(|one| one.to_le_bytes()).collect();
            assert_eq!(bytes, Ok(expected), "{text}");
        }
    }
}

#[test]
fn every_datatype_has_a_form_in_json() {
    for (dtype, data, expected) in [
        (DType::Bool, "[true,false]", &[1u8, 0][..]),
        (DType::UInt8, "[1,255]", &[1, 255]),
        (DType::UInt16, "[1,65535]", &[1, 0, 255, 255]),
        (DType::UInt32, "[1,4294967295]", &[1, 0, 0, 0, 255, 255, 255, 255]),
        (DType::Int8, "[1,-1]", &[1, 255]),
        (DType::Int16, "[1,-1]", &[1, 0, 255, 255]),
        (DType::Int64, "[1,-1]", &[1, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255]),
        (DType::Half, "[1,-2]", &[0, 0x3c, 0, 0xc0]),
        (DType::BFloat16, "[1,-2]", &[0x80, 0x3f, 0, 0xc0]),
        (DType::Double, "[0,1]", &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f]),
    ] {
        let name = crate::open_inference::datatype::any_name(dtype);
        let text =
            format!(r#"{{"inputs":[{{"name":"{name}","shape":[2],"datatype":"{name}","data":{data}}}]}}"#);
        assert_eq!(
            json(&text, &[dtype], |infer| infer.inputs[0].bytes().to_vec()),
            Ok(expected.to_vec()),
            "{text}"
        );
    }
    for (dtype, beyond) in [
        (DType::UInt16, 65536),
        (DType::UInt16, -1),
        (DType::Int16, 32768),
        (DType::UInt8, 256),
        (DType::UInt8, -1),
        (DType::Int8, -129),
    ] {
        let name = crate::open_inference::datatype::any_name(dtype);
        let wrong = format!(
            r#"{{"inputs":[{{"name":"{name}","shape":[1],"datatype":"{name}","data":[{beyond}]}}]}}"#
        );
        assert!(refused(&wrong, &[dtype]).contains(&format!("{beyond}, which is no {name}")));
    }
}

#[test]
fn strings_are_texts_objects_or_base64() {
    let strings = |parameters: &str, data: &str| {
        let text = format!(
            r#"{{"inputs":[{{"name":"BYTES","shape":[2],"datatype":"BYTES","data":{data}{parameters}}}]}}"#
        );
        json(&text, &[DType::String], |infer| {
            infer.inputs[0].as_strings().unwrap().iter().map(<[u8]>::to_vec).collect::<Vec<_>>()
        })
    };
    let base64 = r#","parameters":{"content_type":"base64"}"#;
    let both = Ok(vec![b"a\xff".to_vec(), b"".to_vec()]);
    assert_eq!(strings("", r#"["a","\u00e9"]"#), Ok(vec![b"a".to_vec(), "é".as_bytes().to_vec()]));
    assert_eq!(strings("", r#"[{"b64":"Yf8="},""]"#), both);
    assert_eq!(strings(base64, r#"["Yf8=",""]"#), both, "parameters after the data count");
    for bad in [r#"["!",""]"#, r#"[1,2]"#, r#"["Yf8="]"#, r#"["Yf8=","""#] {
        assert!(strings(base64, bad).is_err(), "{bad}");
    }
}

#[test]
fn binary_data_follow_the_json() {
    let head = br#"{"inputs":[{"name":"FP32","shape":[2],"datatype":"FP32","parameters":{"binary_data_size":8}},
        {"name":"BYTES","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":6}}],
        "parameters":{"binary_data_output":true},"outputs":[{"name":"FP32","parameters":{"classification":2}}]}"#;
    let body = [&head[..], &[1, 2, 3, 4, 5, 6, 7, 8], b"\x02\0\0\0ab"].concat();
    let dtypes = [DType::Float, DType::String];
    let read = |body: &[u8], json| {
        decoded(body, json, &dtypes, |infer| {
            assert!(infer.binary_output);
            assert_eq!((&infer.outputs.positions[..], infer.outputs.said(0).classes), (&[1][..], 2));
            (infer.inputs[1].bytes().to_vec(), infer.inputs[0].as_strings().unwrap().get(0).to_vec())
        })
    };
    assert_eq!(read(&body, Some(head.len())), Ok((vec![1, 2, 3, 4, 5, 6, 7, 8], b"ab".to_vec())));
    for json in [None, Some(head.len() - 1), Some(head.len() + 1), Some(body.len()), Some(usize::MAX)] {
        assert_eq!(read(&body, json).unwrap_err().http_status(), 400, "{json:?}");
    }
    for wrong in [&body[..body.len() - 1], &[&body[..], b"x"].concat()[..], head] {
        assert_eq!(read(wrong, Some(head.len())).unwrap_err().http_status(), 400);
    }
}

#[test]
fn each_fault_is_said() {
    let input = |members: &str| format!(r#"{{"inputs":[{{{members}}}]}}"#);
    let good = r#""name":"FP32","shape":[1],"datatype":"FP32","data":[1]"#;
    for (text, part) in [
        (String::new(), "empty"),
        ("[]".into(), "not a JSON object"),
        ("{".into(), "JSON Parse error"),
        ("{} x".into(), "more after the request's JSON"),
        ("{}".into(), "missing required input(s) ['FP32']"),
        (r#"{"inputs":{}}"#.into(), "'inputs': expected a list"),
        (r#"{"inputs":[1]}"#.into(), "'inputs': expected a list"),
        (r#"{"inputs":[],"inputs":[]}"#.into(), "'inputs' is there twice"),
        (r#"{"id":1}"#.into(), "'id': expected a string"),
        (r#"{"id":"","id":""}"#.into(), "'id' is there twice"),
        (r#"{"parameters":[]}"#.into(), "'parameters': expected an object"),
        (r#"{"parameters":{},"parameters":{}}"#.into(), "'parameters' is there twice"),
        (r#"{"parameters":{"binary_data_output":1}}"#.into(), "expects true or false"),
        (r#"{"parameters":{"signature_name":"x"}}"#.into(), "\"x\" not found"),
        (r#"{"parameters":{"signature_nam\u0065":"other"},"inputs":[]}"#.into(), "without escapes"),
        (r#"{"parameters":{"version\u005flabel":"x"},"inputs":[]}"#.into(), "without escapes"),
        (input(&format!("{good},\"data\":[1]")), "'data' is there twice"),
        (input(r#""name":"FP32","data":[1],"data":[1]"#), "'data' is there twice"),
        (input(r#""shape":[1],"datatype":"FP32","data":[1]"#), "no 'name'"),
        (input(r#""name":"FP32","datatype":"FP32","data":[1]"#), "no 'shape'"),
        (input(r#""name":"FP32","shape":[1],"data":[1]"#), "no 'datatype'"),
        (input(r#""name":"FP32","shape":[1],"datatype":"FP32""#), "has no data"),
        (input(r#""name":1"#), "'name': expected a string"),
        (input(r#""shape":1"#), "'shape': expected a list"),
        (input(r#""shape":[1.5]"#), "'shape': expected a list"),
        (input(r#""shape":["1"]"#), "'shape': expected a list"),
        (input(r#""shape":[18446744073709551615]"#), "'shape': expected a list"),
        (input(&format!(r#""shape":[{}1]"#, "1,".repeat(1000))), "more than 254 dimensions"),
        (input(r#""name":"FP32","shape":[-1],"datatype":"FP32","data":[1]"#), "which no tensor has"),
        (input(r#""name":"FP32","shape":[2],"datatype":"FP32","data":[1]"#), "elements 1 for input"),
        (input(r#""name":"FP32","shape":[2,2],"datatype":"FP32","data":[[1,2,3,4]]"#), "nested as [1,4]"),
        (input(r#""name":"FP32","shape":[1],"datatype":"FP32","data":["1"]"#), "not of expected type"),
        (input(r#""name":"FP32","shape":[1],"datatype":"FP32","data":[1"#), "JSON"),
        (input(r#""name":"FP32","shape":[1],"datatype":"FP32","data":[[[[[[[[[1]]]]]]]]]"#), "levels"),
        (input(&format!(r#"{good},"parameters":{{"binary_data_size":4}}"#)), "both 'data'"),
        (input(r#""parameters":{"binary_data_size":"4"}"#), "expects a whole number"),
        (input(r#""parameters":{"binary_data_size":-4}"#), "expects a whole number"),
        (input(r#""parameters":{"shared_memory_region":"x"}"#), "shared memory"),
        (
            input(r#""name":"FP32","shape":[1],"datatype":"FP32","parameters":{"binary_data_size":4}"#),
            "the body has 0 more bytes",
        ),
        (format!(r#"{{"inputs":[{{{good}}},{{{good}}}]}}"#), "already exists"),
        (format!(r#"{{"inputs":[{{{good}}}],"outputs":[{{"name":"x"}}]}}"#), "inference output 'x'"),
        (format!(r#"{{"inputs":[{{{good}}}],"outputs":[{{}}]}}"#), "An output has no 'name'"),
        (
            format!(r#"{{"inputs":[{{{good}}}],"outputs":[{{"name":"FP32"}},{{"name":"FP32"}}]}}"#),
            "already requested",
        ),
    ] {
        let said = refused(&text, &[DType::Float]);
        assert!(said.contains(part), "{text}: {said}");
    }
}

#[test]
fn a_signature_is_named_by_a_parameter() {
    let text = r#"{"inputs":[{"name":"FP32","shape":[],"datatype":"FP32","data":1}],"parameters":{"signature_name":"other"}}"#;
    let name = json(text, &[DType::Float], |infer| infer.signature.name.to_string());
    assert_eq!(name.as_deref(), Ok("other"));
}

#[test]
fn deep_nesting_is_survived() {
    for text in [
        format!("{{\"x\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000)),
        format!("{{\"inputs\":[{{\"data\":{}", "[".repeat(100_000)),
        format!("{{\"parameters\":{{\"x\":{}", "{\"a\":".repeat(100_000)),
    ] {
        refused(&text, &[DType::Float]);
    }
}

const WRITTEN: [DType; 13] = [
    DType::Bool,
    DType::UInt8,
    DType::UInt16,
    DType::UInt32,
    DType::UInt64,
    DType::Int8,
    DType::Int16,
    DType::Int32,
    DType::Int64,
    DType::Half,
    DType::BFloat16,
    DType::Double,
    DType::String,
];

/// A tensor of `dtype` with two elements made of `seed`.
#[allow(clippy::wildcard_enum_match_arm)]
fn tensor(dtype: DType, seed: u64) -> Tensor {
    match dtype {
        DType::String => Tensor::strings(vec![2], ["a", &seed.to_string()].iter().collect::<Strings>()),
        DType::Bool => Tensor::numbers(dtype, vec![2], vec![1, (seed % 2) as u8].into()),
        // Any number of these is finite.
        DType::Half | DType::BFloat16 => {
            Tensor::numbers(dtype, vec![2], vec![0, 0x3c, seed as u8, 0x3d].into())
        }
        DType::Double => {
            let bytes = [1.5, (seed % 1000) as f64 / 8.0]
                .iter()
                .flat_map(|one| one.to_le_bytes())
                .collect::<Vec<_>>();
            Tensor::numbers(dtype, vec![2], bytes.into())
        }
        dtype => {
            let bytes: Vec<u8> =
                [1, seed].iter().flat_map(|one| one.to_le_bytes()[..dtype.size()].to_vec()).collect();
            Tensor::numbers(dtype, vec![2], bytes.into())
        }
    }
}

/// Turns an answer into a request for the same tensors.
fn asked_again(answer: &[u8], json: Option<usize>) -> (Vec<u8>, Option<usize>) {
    let (text, binary) = answer.split_at(json.unwrap_or(answer.len()));
    let text = std::str::from_utf8(text).unwrap().replace("\"outputs\"", "\"inputs\"");
    ([text.as_bytes(), binary].concat(), json.map(|_| text.len()))
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        which in proptest::sample::subsequence(WRITTEN.to_vec(), 1..=13), seed in any::<u64>(), binary in any::<bool>(),
        said in proptest::collection::vec((proptest::option::of(any::<bool>()), any::<bool>()), 13),
    ) {
        let signatures = signatures(&which);
        let signature = &signatures["serving_default"];
        let mut chosen = Outputs::new("m", signature);
        for (spec, (binary, base64)) in signature.outputs.iter().zip(said) {
            chosen.add(&spec.alias, OfOutput { binary, base64, ..OfOutput::default() }).unwrap();
        }
        let chosen = chosen.finish().unwrap();
        let outputs: Vec<(&str, Tensor)> =
            signature.outputs.iter().map(|spec| (spec.alias.as_str(), tensor(spec.dtype, seed))).collect();
        let form = Form {
            model: "m\"", version: 3, id: Some("é"), outputs: &chosen, binary, non_utf8: NonUtf8::Raw,
        };
        let written = encode::infer(&form, &outputs, &Reservation::default(), &Alone).unwrap();
        let text = &written.bytes[..written.json.unwrap_or(written.bytes.len())];
        let tree: serde_json::Value = serde_json::from_slice(text).unwrap();
        prop_assert_eq!((&tree["model_name"], &tree["model_version"], &tree["id"]), (&"m\"".into(), &"3".into(), &"é".into()));
        let (again, json) = asked_again(&written.bytes, written.json);
        let same = decoded(&again, json, &which, |infer| {
            infer.inputs.iter().zip(&outputs).all(|(one, (_, other))| {
                one.bytes() == other.bytes()
                    && one.shape() == other.shape()
                    && one.as_strings().map(|all| all.iter().map(<[u8]>::to_vec).collect::<Vec<_>>())
                        == other.as_strings().map(|all| all.iter().map(<[u8]>::to_vec).collect::<Vec<_>>())
            })
        });
        prop_assert_eq!(same, Ok(true), "{}", String::from_utf8_lossy(&again));
    }

    #[test]
    fn any_text_is_read_or_refused(text in r#"[\[\]{}:,"0-9a-z \\]{0,60}"#, json in proptest::option::of(0usize..80)) {
        let _ = decoded(text.as_bytes(), json, &[DType::Float], |_| ());
    }

    #[test]
    fn changed_requests_are_read_or_refused(at in 0usize..200, byte in any::<u8>(), cut in 0usize..260) {
        let mut body = [
            br#"{"id":"1","parameters":{"signature_name":"other"},"inputs":[{"name":"FP32","shape":[2],"datatype":"FP32","parameters":{"binary_data_size":8}},{"name":"BYTES","shape":[1],"datatype":"BYTES","data":["a"]}]}"#.to_vec(),
            vec![0; 8],
        ].concat();
        let json = body.len() - 8;
        body[at] = byte;
        body.truncate(cut);
        let _ = decoded(&body, Some(json), &[DType::Float, DType::String], |_| ());
    }
}
