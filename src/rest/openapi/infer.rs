//! The schemas of infer requests of the Open Inference Protocol and of their answers, for one signature and for any.

use super::element::Element;
use super::shape::any_rank;
use super::text::{List, Object};
use crate::config::NonUtf8;
use crate::engine::signature::{DEFAULT_SIGNATURE, Signature, TensorSpec};
use crate::open_inference::datatype;

/// Returns whether the protocol has all dtypes of `signature`.
pub(super) fn takes(signature: &Signature) -> bool {
    let mut all = signature.inputs.iter().chain(&signature.outputs);
    !signature.inputs.is_empty() && all.all(|spec| datatype::name(spec.dtype).is_some())
}

/// Writes the schema of a request for `signature`.
pub(super) fn request(schema: &mut Object<'_>, signature: &Signature) {
    let is_default = &*signature.name == DEFAULT_SIGNATURE;
    let required = signature.inputs.iter().filter(|spec| !signature.defaults.contains_key(&spec.alias));
    let (least, most) = (required.count(), signature.inputs.len());
    schema.text("type", "object");
    schema.object("properties", |properties| {
        id(properties);
        properties.object("parameters", |parameters| {
            parameters.text("type", "object");
            parameters.object("properties", |said| {
                said.object("signature_name", |name| {
                    name.texts("enum", is_default.then_some("").into_iter().chain([&*signature.name]));
                });
                said.object("binary_data_output", |flag| flag.text("type", "boolean"));
            });
            if !is_default {
                parameters.texts("required", ["signature_name"]);
            }
        });
        properties.object("inputs", |inputs| {
            inputs.text("type", "array");
            inputs.integer("minItems", least);
            inputs.integer("maxItems", most);
            inputs.object("items", |items| {
                items.list("anyOf", |list| {
                    signature.inputs.iter().for_each(|spec| list.object(|one| input(one, spec)));
                });
            });
        });
        outputs_wanted(properties, |name| {
            name.texts("enum", signature.outputs.iter().map(|spec| spec.alias.as_str()));
        });
    });
    schema.texts("required", ["inputs"].into_iter().chain((!is_default).then_some("parameters")));
}

fn id(properties: &mut Object<'_>) {
    properties.object("id", |id| {
        id.text("description", "Comes back in the answer.");
        id.text("type", "string");
    });
}

fn input(schema: &mut Object<'_>, spec: &TensorSpec) {
    schema.text("type", "object");
    schema.object("properties", |properties| {
        properties.object("name", |name| name.texts("enum", [&spec.alias]));
        properties.object("datatype", |name| name.texts("enum", [datatype::any_name(spec.dtype)]));
        properties.object("shape", |value| shape(value, spec.shape.as_deref()));
        properties.object("parameters", parameters);
        properties.object("data", |data| data_of(data, Element::sent(spec, true)));
    });
    schema.texts("required", ["name", "datatype", "shape", "data"]);
}

/// Writes the schema of a list of elements, flat or nested.
fn data_of(schema: &mut Object<'_>, element: Option<Element>) {
    schema.text("description", "Flat, or nested as the shape: as many elements as the shape has.");
    schema.text("type", "array");
    if let Some(element) = element {
        schema.object("items", |items| any_rank(items, element));
    }
}

/// Writes the schema of the shape of a tensor that is declared with this one.
fn shape(schema: &mut Object<'_>, declared: Option<&[i64]>) {
    schema.text("type", "array");
    if let Some(dims) = declared {
        // A list of no schemas is none.
        if !dims.is_empty() {
            schema.list("prefixItems", |list| {
                dims.iter().for_each(|dim| list.object(|one| dimension(one, *dim)))
            });
        }
        schema.integer("minItems", dims.len());
        schema.integer("maxItems", dims.len());
    }
    schema.object("items", |one| {
        one.text("type", "integer");
        one.integer("minimum", 0);
    });
}

fn dimension(schema: &mut Object<'_>, dim: i64) {
    schema.text("type", "integer");
    schema.integer("minimum", dim.max(0));
    if dim >= 0 {
        schema.integer("maximum", dim);
    }
}

fn parameters(schema: &mut Object<'_>) {
    schema.text("type", "object");
}

/// Writes the outputs that a request names; `name` writes the schema of a name.
fn outputs_wanted(properties: &mut Object<'_>, name: impl FnOnce(&mut Object<'_>)) {
    properties.object("outputs", |outputs| {
        outputs.text("description", "The outputs wanted, in this order; without it, all.");
        outputs.text("type", "array");
        outputs.object("items", |items| {
            items.text("type", "object");
            items.object("properties", |properties| {
                properties.object("name", name);
                properties.object("parameters", parameters);
            });
            items.texts("required", ["name"]);
        });
    });
}

/// Writes the schema of an answer of `signature`.
pub(super) fn reply(schema: &mut Object<'_>, signature: &Signature, non_utf8: NonUtf8) {
    answer(schema, |list| {
        for spec in &signature.outputs {
            list.object(|one| {
                told(one, |properties| {
                    properties.object("name", |name| name.texts("enum", [&spec.alias]));
                    properties.object("datatype", |name| {
                        // BYTES are classes.
                        name.texts("enum", [datatype::any_name(spec.dtype), "BYTES"]);
                    });
                    properties.object("data", |data| {
                        data.text("type", "array");
                        data.object("items", |items| {
                            items.list("anyOf", |list| {
                                Element::told(spec, true, non_utf8)
                                    .into_iter()
                                    .for_each(|element| list.object(|one| element.write(one)));
                                list.object(|one| one.text("type", "string"));
                            });
                        });
                    });
                });
            });
        }
    });
}

/// Writes the schema of an output in an answer; `properties` writes its name, its datatype and its data.
fn told(schema: &mut Object<'_>, properties: impl FnOnce(&mut Object<'_>)) {
    schema.text("type", "object");
    schema.object("properties", |all| {
        properties(all);
        all.object("shape", |value| shape(value, None));
        all.object("parameters", parameters);
    });
    schema.texts("required", ["name", "datatype", "shape"]);
}

fn answer(schema: &mut Object<'_>, outputs: impl FnOnce(&mut List<'_>)) {
    schema.text("type", "object");
    schema.object("properties", |properties| {
        properties.object("model_name", |name| name.text("type", "string"));
        properties.object("model_version", |version| version.text("type", "string"));
        properties.object("id", |id| id.text("type", "string"));
        properties.object("outputs", |all| {
            all.text("type", "array");
            all.object("items", |items| items.list("anyOf", outputs));
        });
    });
    schema.texts("required", ["model_name", "model_version", "outputs"]);
}

/// Writes the schema of a request for any signature.
pub(super) fn any_request(schema: &mut Object<'_>) {
    schema.text("type", "object");
    schema.object("properties", |properties| {
        id(properties);
        properties.object("parameters", |said| {
            said.text("type", "object");
            said.object("properties", |properties| {
                properties.object("signature_name", |name| name.text("type", "string"));
            });
        });
        properties.object("inputs", |inputs| {
            inputs.text("type", "array");
            inputs.object("items", |items| {
                items.text("type", "object");
                items.object("properties", |properties| {
                    properties.object("name", |name| name.text("type", "string"));
                    properties.object("datatype", |name| name.text("type", "string"));
                    properties.object("shape", |value| shape(value, None));
                    properties.object("parameters", parameters);
                    properties.object("data", |data| data_of(data, None));
                });
                items.texts("required", ["name", "datatype", "shape"]);
            });
        });
        outputs_wanted(properties, |name| name.text("type", "string"));
    });
    schema.texts("required", ["inputs"]);
}

/// Writes the schema of an answer of any signature.
pub(super) fn any_reply(schema: &mut Object<'_>) {
    answer(schema, |list| {
        list.object(|one| {
            told(one, |properties| {
                properties.object("name", |name| name.text("type", "string"));
                properties.object("datatype", |name| name.text("type", "string"));
                properties.object("data", |data| data.text("type", "array"));
            });
        });
    });
}

#[cfg(test)]
mod tests {
    use super::super::text::Text;
    use super::*;
    use crate::tensor::{DType, Tensor};
    use serde_json::{Value, json};
    use std::collections::BTreeMap;

    fn spec(alias: &str, dtype: DType, shape: Option<&[i64]>) -> TensorSpec {
        let (alias, shape) = (alias.to_owned(), shape.map(<[i64]>::to_vec));
        TensorSpec { alias, tensor: String::new(), dtype, shape }
    }

    fn signature(name: &str) -> Signature {
        Signature {
            name: name.into(),
            method_name: String::new(),
            inputs: vec![spec("a", DType::UInt16, Some(&[-1, 3])), spec("b", DType::Float, None)],
            outputs: vec![spec("y", DType::String, Some(&[]))],
            defaults: BTreeMap::from([(
                "b".to_owned(),
                Tensor::numbers(DType::Float, vec![1], vec![0; 4].into()),
            )]),
        }
    }

    fn written(write: impl FnOnce(&mut Object<'_>)) -> Value {
        let mut text = Text::new(100_000);
        text.object(write);
        serde_json::from_slice(&text.finish().unwrap()).unwrap()
    }

    #[test]
    fn inputs_are_described_one_by_one() {
        let schema = written(|object| request(object, &signature("serving_default")));
        assert_eq!(schema["required"], json!(["inputs"]));
        let inputs = &schema["properties"]["inputs"];
        // One has a default.
        assert_eq!((&inputs["minItems"], &inputs["maxItems"]), (&json!(1), &json!(2)));
        let first = &inputs["items"]["anyOf"][0]["properties"];
        assert_eq!(
            (&first["name"], &first["datatype"]),
            (&json!({"enum": ["a"]}), &json!({"enum": ["UINT16"]}))
        );
        let dims = json!([
            {"type": "integer", "minimum": 0},
            {"type": "integer", "minimum": 3, "maximum": 3}]);
        assert_eq!(first["shape"]["prefixItems"], dims);
        assert_eq!(first["data"]["items"], json!({"$ref": "#/components/schemas/Nested.uint16"}));
        let second = &inputs["items"]["anyOf"][1]["properties"];
        assert_eq!(second["shape"]["prefixItems"], Value::Null);
        let scalar = written(|object| shape(object, Some(&[])));
        assert_eq!((&scalar["prefixItems"], &scalar["maxItems"]), (&Value::Null, &json!(0)));
    }

    #[test]
    fn another_signature_is_named_by_a_parameter() {
        let schema = written(|object| request(object, &signature("other")));
        assert_eq!(schema["required"], json!(["inputs", "parameters"]));
        let parameters = &schema["properties"]["parameters"];
        assert_eq!(parameters["required"], json!(["signature_name"]));
        assert_eq!(parameters["properties"]["signature_name"], json!({"enum": ["other"]}));
        let told = written(|object| reply(object, &signature("other"), NonUtf8::Raw));
        let output = &told["properties"]["outputs"]["items"]["anyOf"][0];
        assert_eq!(output["properties"]["name"], json!({"enum": ["y"]}));
    }

    #[test]
    fn what_the_protocol_cannot_tell_is_not_described() {
        assert!(takes(&signature("s")));
        let mut other = signature("s");
        other.outputs.push(spec("z", DType::Complex64, None));
        assert!(!takes(&other));
        other = Signature { inputs: vec![], ..signature("s") };
        assert!(!takes(&other));
        for schema in [written(any_request), written(any_reply)] {
            assert_eq!(schema["type"], "object");
        }
    }
}
