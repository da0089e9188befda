//! The schemas of predict for one signature, as TensorFlow Serving's API has it: the row format and the columnar one, asked
//! and answered.

use super::element::Element;
use super::shape::{of_row, rows, tensor};
use super::text::{List, Object};
use crate::config::NonUtf8;
use crate::engine::signature::{DEFAULT_SIGNATURE, Signature, TensorSpec};

/// Returns whether the inputs of `signature` have a form in JSON.
pub(super) fn takes_json(signature: &Signature) -> bool {
    !signature.inputs.is_empty() && signature.inputs.iter().all(|spec| Element::sent(spec, false).is_some())
}

/// Writes the schema of a request.
pub(super) fn request(schema: &mut Object<'_>, signature: &Signature) {
    schema.list("anyOf", |list| {
        if let Some(count) = rows(&signature.inputs) {
            list.object(|one| {
                body(one, signature, "instances", |properties| {
                    properties.object("instances", |instances| in_rows(instances, signature, count));
                });
            });
        }
        list.object(|one| {
            body(one, signature, "inputs", |properties| {
                properties.object("inputs", |inputs| in_columns(inputs, signature));
            });
        });
    });
}

/// Writes the schema of a body with the `required` member that `value` writes.
fn body(schema: &mut Object<'_>, signature: &Signature, required: &str, value: impl FnOnce(&mut Object<'_>)) {
    let is_default = &*signature.name == DEFAULT_SIGNATURE;
    schema.text("type", "object");
    schema.object("properties", |properties| {
        name_of(properties, signature);
        value(properties);
        properties.object("outputs", |outputs| {
            outputs.text("description", "The outputs wanted; without it, all.");
            outputs.text("type", "array");
            outputs.object("items", |items| items.texts("enum", aliases(&signature.outputs)));
            outputs.flag("uniqueItems", true);
        });
    });
    schema.texts("required", [required].into_iter().chain((!is_default).then_some("signature_name")));
}

/// Writes the property that names `signature`.
pub(super) fn name_of(properties: &mut Object<'_>, signature: &Signature) {
    let is_default = &*signature.name == DEFAULT_SIGNATURE;
    properties.object("signature_name", |name| {
        name.texts("enum", is_default.then_some("").into_iter().chain([&*signature.name]));
    });
}

fn aliases(specs: &[TensorSpec]) -> impl Iterator<Item = &str> {
    specs.iter().map(|spec| spec.alias.as_str())
}

/// Writes the schema of a list of `count` rows; -1: of any number.
fn in_rows(schema: &mut Object<'_>, signature: &Signature, count: i64) {
    schema.text("type", "array");
    schema.integer("minItems", count.max(1));
    if count > 0 {
        schema.integer("maxItems", count);
    }
    schema.object("items", |items| {
        let input = |value: &mut Object<'_>, spec: &TensorSpec| {
            tensor(value, of_row(spec.shape.as_deref()), Element::sent(spec, false));
        };
        match signature.inputs.as_slice() {
            [only] => items.list("anyOf", |list| {
                list.object(|one| input(one, only));
                list.object(|one| named(one, &signature.inputs, input));
            }),
            several => {
                named(items, several, input);
                items.flag("additionalProperties", false);
            }
        }
    });
}

/// Writes the schema of a tensor for each input, or of the only one.
fn in_columns(schema: &mut Object<'_>, signature: &Signature) {
    let input = |value: &mut Object<'_>, spec: &TensorSpec| {
        tensor(value, spec.shape.as_deref(), Element::sent(spec, false));
    };
    match signature.inputs.as_slice() {
        [only] => schema.list("anyOf", |list| {
            list.object(|one| input(one, only));
            list.object(|one| named(one, &signature.inputs, input));
        }),
        several => named(schema, several, input),
    }
}

/// Writes the schema of an object with a value for each of `specs`.
fn named(schema: &mut Object<'_>, specs: &[TensorSpec], mut value: impl FnMut(&mut Object<'_>, &TensorSpec)) {
    schema.text("type", "object");
    schema.object("properties", |properties| {
        specs.iter().for_each(|spec| properties.object(&spec.alias, |one| value(one, spec)));
    });
    schema.texts("required", aliases(specs));
}

/// Writes the schema of a reply. `exact`: an output without dimensions is a scalar, and not of unknown rank.
pub(super) fn reply(schema: &mut Object<'_>, signature: &Signature, non_utf8: NonUtf8, exact: bool) {
    let of = |spec: &TensorSpec| Element::told(spec, false, non_utf8);
    let shape = |spec: &TensorSpec| spec.shape.clone().filter(|dims| exact || !dims.is_empty());
    let is_scalar = |spec: &&TensorSpec| shape(spec).is_some_and(|dims| dims.is_empty());
    let in_rows: Vec<&TensorSpec> = signature.outputs.iter().filter(|spec| !is_scalar(spec)).collect();
    let all: Vec<&TensorSpec> = signature.outputs.iter().collect();
    schema.list("anyOf", |list| {
        if !in_rows.is_empty() {
            answer(list, "predictions", |value| {
                value.text("type", "array");
                value.object("items", |items| {
                    chosen(items, &in_rows, |one, spec| {
                        tensor(one, of_row(shape(spec).as_deref()), of(spec));
                    });
                });
            });
        }
        answer(list, "outputs", |value| {
            chosen(value, &all, |one, spec| tensor(one, shape(spec).as_deref(), of(spec)));
        });
    });
}

/// Writes the schema of an object whose only member is `name`.
fn answer(list: &mut List<'_>, name: &str, value: impl FnOnce(&mut Object<'_>)) {
    list.object(|one| {
        one.text("type", "object");
        one.object("properties", |properties| properties.object(name, value));
        one.texts("required", [name]);
        one.flag("additionalProperties", false);
    });
}

/// Writes the schema of the values of some of `outputs`: an object of several, or the value of one.
fn chosen(schema: &mut Object<'_>, outputs: &[&TensorSpec], value: impl Fn(&mut Object<'_>, &TensorSpec)) {
    if let [only] = outputs {
        return value(schema, only);
    }
    schema.list("anyOf", |list| {
        list.object(|one| {
            one.text("type", "object");
            one.object("properties", |properties| {
                outputs.iter().for_each(|spec| properties.object(&spec.alias, |each| value(each, spec)));
            });
            one.integer("minProperties", 2);
            one.flag("additionalProperties", false);
        });
        outputs.iter().for_each(|spec| list.object(|one| value(one, spec)));
    });
}

#[cfg(test)]
mod tests {
    use super::super::text::Text;
    use super::*;
    use crate::tensor::DType;
    use serde_json::{Value, json};
    use std::collections::BTreeMap;

    fn spec(alias: &str, dtype: DType, shape: Option<&[i64]>) -> TensorSpec {
        let (alias, shape) = (alias.to_owned(), shape.map(<[i64]>::to_vec));
        TensorSpec { alias, tensor: String::new(), dtype, shape }
    }

    fn signature(name: &str, inputs: Vec<TensorSpec>, outputs: Vec<TensorSpec>) -> Signature {
        let (name, method_name, defaults) = (name.into(), String::new(), BTreeMap::new());
        Signature { name, method_name, inputs, outputs, defaults }
    }

    fn written(write: impl FnOnce(&mut Object<'_>)) -> Value {
        let mut text = Text::new(100_000);
        text.object(write);
        serde_json::from_slice(&text.finish().unwrap()).unwrap()
    }

    fn half_plus_two() -> Signature {
        let vector = |alias| vec![spec(alias, DType::Float, Some(&[-1]))];
        signature(DEFAULT_SIGNATURE, vector("x"), vector("y"))
    }

    #[test]
    fn the_only_input_has_a_name_or_none() {
        let schema = written(|object| request(object, &half_plus_two()));
        let (rows, columns) = (&schema["anyOf"][0], &schema["anyOf"][1]);
        let number = json!({"type": "number", "format": "float"});
        let named = |value: &Value| json!({"type": "object", "properties": {"x": value}, "required": ["x"]});
        assert_eq!(rows["required"], json!(["instances"]));
        assert_eq!(rows["properties"]["signature_name"], json!({"enum": ["", "serving_default"]}));
        let items = json!({"anyOf": [number, named(&number)]});
        assert_eq!(rows["properties"]["instances"], json!({"type": "array", "minItems": 1, "items": items}));
        assert_eq!(rows["properties"]["outputs"]["items"], json!({"enum": ["y"]}));
        let list = json!({"type": "array", "items": number});
        assert_eq!(columns["properties"]["inputs"], json!({"anyOf": [list, named(&list)]}));
        assert_eq!(columns["required"], json!(["inputs"]));
    }

    #[test]
    fn several_inputs_are_named() {
        let inputs = vec![spec("a", DType::Int8, Some(&[3])), spec("b", DType::String, None)];
        let signature = signature("other", inputs, vec![spec("y", DType::Float, Some(&[]))]);
        let schema = written(|object| request(object, &signature));
        let rows = &schema["anyOf"][0];
        assert_eq!(rows["required"], json!(["instances", "signature_name"]));
        assert_eq!(rows["properties"]["signature_name"], json!({"enum": ["other"]}));
        let instances = &rows["properties"]["instances"];
        assert_eq!((&instances["minItems"], &instances["maxItems"]), (&json!(3), &json!(3)));
        assert_eq!(instances["items"]["required"], json!(["a", "b"]));
        assert_eq!(instances["items"]["properties"]["a"]["maximum"], json!(127));
        assert_eq!(
            instances["items"]["properties"]["b"],
            json!({"$ref": "#/components/schemas/Nested.bytes"})
        );
        assert_eq!(schema["anyOf"][1]["properties"]["inputs"]["required"], json!(["a", "b"]));
        // Its output is no row.
        let told = written(|object| reply(object, &signature, NonUtf8::Raw, true));
        assert_eq!(told["anyOf"].as_array().unwrap().len(), 1);
        assert_eq!(told["anyOf"][0]["properties"]["outputs"]["type"], "number");
        let told = written(|object| reply(object, &signature, NonUtf8::Raw, false));
        let nested = json!({"$ref": "#/components/schemas/Nested.float32"});
        assert_eq!(told["anyOf"][1]["properties"]["outputs"], nested);
    }

    #[test]
    fn scalars_are_asked_in_columns_alone() {
        let scalar = |alias| vec![spec(alias, DType::Int64, Some(&[]))];
        let schema =
            written(|object| request(object, &signature(DEFAULT_SIGNATURE, scalar("x"), scalar("y"))));
        assert_eq!(schema["anyOf"].as_array().unwrap().len(), 1);
        assert_eq!(schema["anyOf"][0]["required"], json!(["inputs"]));
    }

    #[test]
    fn one_output_of_several_comes_without_its_name() {
        let outputs =
            vec![spec("a", DType::Float, Some(&[-1])), spec("b_bytes", DType::String, Some(&[-1, 2]))];
        let signature = signature(DEFAULT_SIGNATURE, half_plus_two().inputs, outputs);
        let told = written(|object| reply(object, &signature, NonUtf8::Raw, true));
        let rows = &told["anyOf"][0]["properties"]["predictions"]["items"]["anyOf"];
        assert_eq!(rows.as_array().unwrap().len(), 3);
        assert_eq!((&rows[0]["minProperties"], &rows[0]["additionalProperties"]), (&json!(2), &json!(false)));
        assert_eq!(rows[1]["type"], "number");
        let base64 = json!({"$ref": "#/components/schemas/Base64"});
        assert_eq!(rows[2], json!({"type": "array", "minItems": 2, "maxItems": 2, "items": base64}));
        assert_eq!(told["anyOf"][1]["properties"]["outputs"]["anyOf"][1]["type"], "array");
    }

    #[test]
    fn dtypes_without_a_form_take_no_json() {
        assert!(takes_json(&half_plus_two()));
        for dtype in [DType::UInt16, DType::Complex64, DType::Resource] {
            let inputs = vec![spec("x", DType::Float, None), spec("z", dtype, None)];
            assert!(!takes_json(&signature("s", inputs, vec![])), "{dtype:?}");
        }
        assert!(!takes_json(&signature("s", vec![], vec![])));
    }
}
