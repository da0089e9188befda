//! Requests that are made up for a signature: zeros and ones of the declared shapes, and strings that hold what the model decodes.

use super::element::Element;
use super::shape::rows;
use super::text::{List, Object, Text};
use crate::engine::content::{Content, Feature};
use crate::engine::signature::{DEFAULT_SIGNATURE, Signature, TensorSpec};
use crate::methods::sample::{self, Size};
use crate::open_inference::datatype;
use crate::tensor::element_count;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::collections::BTreeMap;

/// Longest example, in bytes. Larger inputs have none.
const LONGEST: usize = 16 << 10;
/// Most levels of lists.
const DEEPEST: usize = 64;

/// Returns what the strings of an input of a signature have to hold, as far as that is known.
pub(super) type ContentOf<'f, 'c> = &'f dyn Fn(&str) -> Option<&'c Content>;

/// The value of one input: the same in every element.
struct Value<'a> {
    spec: &'a TensorSpec,
    dims: Vec<i64>,
    /// The JSON of an element.
    element: Vec<u8>,
}

/// Returns a request in the row format for `signature`; `None` if there can be none, or it would be too long.
pub(super) fn in_rows(signature: &Signature, content: ContentOf<'_, '_>) -> Option<Vec<u8>> {
    let (inputs, outputs) = (rows(&signature.inputs)?, rows(&signature.outputs)?);
    if outputs >= 0 && outputs != inputs.max(1) {
        return None;
    }
    let values = values(signature, content, false)?;
    let count = usize::try_from(inputs.max(1)).ok()?;
    written(signature, |body| {
        body.list("instances", |list| {
            for _ in 0..count {
                match values.as_slice() {
                    [only] => row(list, only),
                    several => list.object(|one| {
                        several.iter().for_each(|value| {
                            one.list_or_element(&value.spec.alias, value.of_row(), &value.element);
                        });
                    }),
                }
            }
        });
    })
}

/// Returns a request in the columnar format.
pub(super) fn in_columns(signature: &Signature, content: ContentOf<'_, '_>) -> Option<Vec<u8>> {
    let values = values(signature, content, false)?;
    written(signature, |body| match values.as_slice() {
        [only] => body.list_or_element("inputs", &only.dims, &only.element),
        several => body.object("inputs", |inputs| {
            several.iter().for_each(|value| {
                inputs.list_or_element(&value.spec.alias, &value.dims, &value.element);
            });
        }),
    })
}

/// Returns an infer request of the Open Inference Protocol.
pub(super) fn infer(signature: &Signature, content: ContentOf<'_, '_>) -> Option<Vec<u8>> {
    if signature.outputs.iter().any(|output| datatype::name(output.dtype).is_none()) {
        return None;
    }
    let values = values(signature, content, true)?;
    let mut text = Text::new(LONGEST);
    text.object(|body| {
        if &*signature.name != DEFAULT_SIGNATURE {
            body.object("parameters", |said| said.text("signature_name", &signature.name));
        }
        body.list("inputs", |list| {
            for Value { spec, dims, element } in &values {
                list.object(|input| {
                    input.text("name", &spec.alias);
                    input.list("shape", |shape| {
                        dims.iter().for_each(|dim| shape.raw(dim.to_string().as_bytes()));
                    });
                    input.text("datatype", datatype::any_name(spec.dtype));
                    let count = element_count(dims).unwrap_or(0);
                    input.list("data", |data| (0..count).for_each(|_| data.raw(element)));
                });
            }
        });
    });
    text.finish()
}

/// Returns a request of classify or regress for `signature`, whose examples hold `features`.
pub(super) fn of_features(signature: &Signature, features: &BTreeMap<String, Feature>) -> Option<Vec<u8>> {
    if !are_few(features) {
        return None;
    }
    written(signature, |body| {
        body.list("examples", |list| {
            list.object(|example| {
                for (name, feature) in features {
                    let (count, element) = match feature {
                        Feature::Floats(count) => (*count, b"1.0".to_vec()),
                        Feature::Integers(count) => (*count, b"0".to_vec()),
                        Feature::Strings(count, content) => (*count, string(content.as_ref())),
                    };
                    example.list(name, |values| (0..count).for_each(|_| values.raw(&element)));
                }
            });
        });
    })
}

/// Writes a request that names `signature`, unless it is the default one.
fn written(signature: &Signature, members: impl FnOnce(&mut Object<'_>)) -> Option<Vec<u8>> {
    let mut text = Text::new(LONGEST);
    text.object(|body| {
        if &*signature.name != DEFAULT_SIGNATURE {
            body.text("signature_name", &signature.name);
        }
        members(body);
    });
    text.finish()
}

/// Returns a value for each input.
fn values<'a>(signature: &'a Signature, content: ContentOf<'_, '_>, v2: bool) -> Option<Vec<Value<'a>>> {
    let value = |spec: &'a TensorSpec| {
        let element = match (Element::sent(spec, v2)?.made_up(), content(&spec.alias)) {
            (Some(number), _) => number.as_bytes().to_vec(),
            (None, Some(known)) if !is_small(known) => return None,
            (None, content) => string(content),
        };
        // Where the rank is unknown, one row is the likeliest.
        let declared = spec.shape.as_deref().unwrap_or(&[-1]);
        let dims: Vec<i64> = declared.iter().map(|dim| if *dim < 0 { 1 } else { *dim }).collect();
        // Empty lists are written, too.
        let lists = dims
            .iter()
            .try_fold(element.len(), |all, dim| all.checked_mul(usize::try_from((*dim).max(1)).ok()?));
        let fits = lists.is_some_and(|bytes| bytes <= LONGEST) && dims.len() <= DEEPEST;
        fits.then_some(Value { spec, dims, element })
    };
    let values: Vec<_> = signature.inputs.iter().map(value).collect::<Option<_>>()?;
    (!values.is_empty()).then_some(values)
}

/// Returns whether a string that holds `content` may fit an example.
fn is_small(content: &Content) -> bool {
    match content {
        Content::Picture(_) | Content::Number | Content::Text => true,
        Content::Base64(inner) => is_small(inner),
        Content::Example(features) => are_few(features),
    }
}

fn are_few(features: &BTreeMap<String, Feature>) -> bool {
    let count = |feature: &Feature| match feature {
        Feature::Floats(count) | Feature::Integers(count) => Some(*count),
        Feature::Strings(count, content) => content.as_ref().is_none_or(is_small).then_some(*count),
    };
    let all = features.values().map(count).try_fold(0usize, |all, count| all.checked_add(count?));
    all.is_some_and(|all| all <= LONGEST)
}

/// Returns the JSON of a string that holds `content`, or any text.
fn string(content: Option<&Content>) -> Vec<u8> {
    let bytes = content.map(|content| sample::string(content, Size::Small));
    let bytes = bytes.as_deref().unwrap_or(b"text");
    let plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    if bytes.iter().all(plain) {
        return [b"\"".as_slice(), bytes, b"\""].concat();
    }
    format!("{{\"b64\":\"{}\"}}", STANDARD.encode(bytes)).into_bytes()
}

impl Value<'_> {
    fn of_row(&self) -> &[i64] {
        self.dims.get(1..).unwrap_or_default()
    }
}

/// Writes one row of the only input.
fn row(list: &mut List<'_>, value: &Value<'_>) {
    match value.of_row() {
        [] => list.raw(&value.element),
        dims => list.list(|inner| nested(inner, dims, &value.element)),
    }
}

impl Object<'_> {
    /// Writes a member that is a tensor of equal elements.
    fn list_or_element(&mut self, name: &str, dims: &[i64], element: &[u8]) {
        match dims {
            [] => self.raw(name, element),
            _ => self.list(name, |list| nested(list, dims, element)),
        }
    }
}

/// Writes the elements of a list of this shape, which is known to fit an example.
fn nested(list: &mut List<'_>, dims: &[i64], element: &[u8]) {
    let (first, rest) = dims.split_first().map_or((0, &[][..]), |(first, rest)| (*first, rest));
    for _ in 0..first {
        match rest {
            [] => list.raw(element),
            _ => list.list(|inner| nested(inner, rest, element)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::content::PictureFormat;
    use crate::tensor::DType;
    use serde_json::{Value as Json, json};

    fn spec(alias: &str, dtype: DType, shape: Option<&[i64]>) -> TensorSpec {
        TensorSpec {
            alias: alias.to_owned(),
            tensor: String::new(),
            dtype,
            shape: shape.map(<[i64]>::to_vec),
        }
    }

    fn signature(name: &str, inputs: Vec<TensorSpec>, output: &[i64]) -> Signature {
        Signature {
            name: name.into(),
            method_name: String::new(),
            inputs,
            outputs: vec![spec("y", DType::Float, Some(output))],
            defaults: BTreeMap::new(),
        }
    }

    fn parsed(text: Option<Vec<u8>>) -> Option<Json> {
        text.map(|text| serde_json::from_slice(&text).unwrap())
    }

    const NOTHING: ContentOf<'static, 'static> = &|_| None;

    #[test]
    fn every_shape_has_its_values() {
        for (shape, rows, columns) in [
            (Some(&[-1][..]), Some(json!([1.0])), json!([1.0])),
            (None, Some(json!([1.0])), json!([1.0])),
            (Some(&[]), None, json!(1.0)),
            (Some(&[-1, 2, -1]), Some(json!([[[1.0], [1.0]]])), json!([[[1.0], [1.0]]])),
            (Some(&[-1, 0]), Some(json!([[]])), json!([[]])),
            (Some(&[3]), None, json!([1.0, 1.0, 1.0])),
        ] {
            let signature = signature(DEFAULT_SIGNATURE, vec![spec("x", DType::Float, shape)], &[-1]);
            let of_rows = parsed(in_rows(&signature, NOTHING));
            let expected = rows.map(|rows| json!({"instances": rows}));
            if shape == Some(&[3]) {
                // Rows that are as many as declared.
                assert_eq!(of_rows, Some(json!({"instances": [1.0, 1.0, 1.0]})));
            } else {
                assert_eq!(of_rows, expected, "{shape:?}");
            }
            assert_eq!(
                parsed(in_columns(&signature, NOTHING)),
                Some(json!({"inputs": columns})),
                "{shape:?}"
            );
        }
    }

    #[test]
    fn several_inputs_are_named_and_so_is_the_signature() {
        let inputs = vec![spec("a", DType::Bool, Some(&[-1])), spec("b", DType::UInt64, Some(&[-1, 2]))];
        let signature = signature("other", inputs, &[1]);
        let rows = json!({"signature_name": "other", "instances": [{"a": true, "b": [0, 0]}]});
        assert_eq!(parsed(in_rows(&signature, NOTHING)), Some(rows));
        let columns = json!({"signature_name": "other", "inputs": {"a": [true], "b": [[0, 0]]}});
        assert_eq!(parsed(in_columns(&signature, NOTHING)), Some(columns));
        let inputs = json!([
            {"name": "a", "shape": [1], "datatype": "BOOL", "data": [true]},
            {"name": "b", "shape": [1, 2], "datatype": "UINT64", "data": [0, 0]}]);
        let expected = json!({"parameters": {"signature_name": "other"}, "inputs": inputs});
        assert_eq!(parsed(infer(&signature, NOTHING)), Some(expected));
    }

    #[test]
    fn outputs_that_are_no_rows_have_no_example_in_rows() {
        for output in [&[][..], &[2], &[0]] {
            let signature = signature(DEFAULT_SIGNATURE, vec![spec("x", DType::Float, Some(&[-1]))], output);
            assert_eq!(in_rows(&signature, NOTHING), None, "{output:?}");
            assert!(in_columns(&signature, NOTHING).is_some());
        }
    }

    #[test]
    fn strings_hold_what_the_model_decodes() {
        let signature = signature(DEFAULT_SIGNATURE, vec![spec("x", DType::String, Some(&[-1]))], &[-1]);
        let of = |content: &Content| {
            let known = |_: &str| Some(content);
            parsed(in_rows(&signature, &known)).unwrap()["instances"][0].clone()
        };
        assert_eq!(of(&Content::Number), json!("0"));
        assert_eq!(of(&Content::Text), json!("text"));
        let picture = of(&Content::Picture(PictureFormat::Jpeg));
        assert!(picture["b64"].as_str().unwrap().starts_with("/9j/"), "{picture}");
        assert!(of(&Content::Base64(Box::new(Content::Picture(PictureFormat::Png)))).is_string());
        assert_eq!(parsed(in_rows(&signature, NOTHING)), Some(json!({"instances": ["text"]})));
    }

    #[test]
    fn what_is_too_large_or_has_no_form_has_no_example() {
        for (dtype, shape) in [
            (DType::Float, Some(&[-1, 224, 224, 3][..])),
            (DType::Float, Some(&[i64::MAX, i64::MAX])),
            (DType::Float, Some(&[0, i64::MAX, 3])),
            (DType::Float, Some(&[-1, 10_000, 10_000, 0])),
            (DType::Float, Some(&[1; 65])),
            (DType::Complex64, Some(&[-1])),
        ] {
            let signature = signature(DEFAULT_SIGNATURE, vec![spec("x", dtype, shape)], &[-1]);
            assert_eq!(in_rows(&signature, NOTHING), None, "{dtype:?} {shape:?}");
            assert_eq!(infer(&signature, NOTHING), None, "{dtype:?} {shape:?}");
        }
        let small = signature(DEFAULT_SIGNATURE, vec![spec("x", DType::UInt16, Some(&[-1]))], &[-1]);
        assert!(in_columns(&small, NOTHING).is_none() && infer(&small, NOTHING).is_some());
        let strings = signature(DEFAULT_SIGNATURE, vec![spec("x", DType::String, Some(&[-1]))], &[-1]);
        let vast = Content::Example(BTreeMap::from([("f".to_owned(), Feature::Floats(usize::MAX))]));
        assert_eq!(in_columns(&strings, &|_: &str| Some(&vast)), None);
        let none = signature(DEFAULT_SIGNATURE, vec![], &[-1]);
        assert!(in_columns(&none, NOTHING).is_none());
    }

    #[test]
    fn examples_have_the_features_that_the_model_parses() {
        let signature = signature("s", vec![spec("inputs", DType::String, Some(&[-1]))], &[-1]);
        let features = BTreeMap::from([
            ("f".to_owned(), Feature::Floats(2)),
            ("i".to_owned(), Feature::Integers(1)),
            ("t".to_owned(), Feature::Strings(1, Some(Content::Number))),
        ]);
        let text = of_features(&signature, &features).unwrap();
        let expected = r#"{"signature_name":"s","examples":[{"f":[1.0,1.0],"i":[0],"t":["0"]}]}"#;
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }
}
