//! The schemas of classify and regress: examples of features, classes and values.

use super::predict::name_of;
use super::text::Object;
use crate::config::NonUtf8;
use crate::engine::content::{Content, Feature};
use crate::engine::signature::{DEFAULT_SIGNATURE, Signature};
use crate::tensor::DType;
use std::collections::BTreeMap;

/// A method that takes examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Classify,
    Regress,
}

impl Method {
    /// Returns whether `signature` can do this. `by_name`: the name of its method has to say so.
    pub(super) fn is_of(self, signature: &Signature, by_name: bool) -> bool {
        let outputs = &signature.outputs;
        let is = |alias: &str, dtype: DType| {
            signature.output(alias).is_some_and(|index| outputs[index].dtype == dtype)
        };
        let (name, answers) = match self {
            Method::Classify => (
                "tensorflow/serving/classify",
                outputs.len() <= 2 && (is("classes", DType::String) || is("scores", DType::Float)),
            ),
            Method::Regress => {
                ("tensorflow/serving/regress", outputs.len() == 1 && is("outputs", DType::Float))
            }
        };
        let takes_examples = matches!(signature.inputs.as_slice(), [only] if only.alias == "inputs" && only.dtype == DType::String);
        takes_examples && answers && (!by_name || signature.method_name == name)
    }
}

/// Returns the features that `signature` parses, if they are known.
pub(super) fn known<'c>(
    signature: &Signature,
    content: &dyn Fn(&str) -> Option<&'c Content>,
) -> Option<&'c BTreeMap<String, Feature>> {
    let [only] = signature.inputs.as_slice() else { return None };
    match content(&only.alias)? {
        Content::Example(features) => Some(features),
        Content::Picture(_) | Content::Number | Content::Text | Content::Base64(_) => None,
    }
}

/// Writes the schema of a request for `signature`, which parses `features`, if they are known.
pub(super) fn request(
    schema: &mut Object<'_>,
    signature: &Signature,
    features: Option<&BTreeMap<String, Feature>>,
) {
    let is_default = &*signature.name == DEFAULT_SIGNATURE;
    schema.text("type", "object");
    schema.object("properties", |properties| {
        name_of(properties, signature);
        properties.object("context", |context| {
            context.text("description", "Features that all examples share, unless they have them.");
            context.text("type", "object");
            context.object("additionalProperties", |feature| feature.schema("Feature"));
        });
        properties.object("examples", |examples| {
            examples.text("type", "array");
            examples.integer("minItems", 1);
            examples.object("items", |items| example(items, features));
        });
    });
    schema.texts("required", ["examples"].into_iter().chain((!is_default).then_some("signature_name")));
}

/// Writes the schema of one example.
fn example(schema: &mut Object<'_>, features: Option<&BTreeMap<String, Feature>>) {
    schema.text("type", "object");
    schema.object("properties", |properties| {
        for (name, feature) in features.into_iter().flatten() {
            properties.object(name, |value| of_feature(value, feature));
        }
    });
    schema.object("additionalProperties", |feature| feature.schema("Feature"));
}

fn of_feature(schema: &mut Object<'_>, feature: &Feature) {
    let (count, kind) = match feature {
        Feature::Floats(count) => (count, "number"),
        Feature::Integers(count) => (count, "integer"),
        Feature::Strings(count, _) => (count, ""),
    };
    let element = |one: &mut Object<'_>| match kind {
        "" => one.schema("Bytes"),
        kind => one.text("type", kind),
    };
    schema.list("anyOf", |list| {
        if *count == 1 {
            list.object(element);
        }
        list.object(|one| {
            one.text("type", "array");
            one.integer("minItems", *count);
            one.integer("maxItems", *count);
            one.object("items", element);
        });
    });
}

/// Writes the components that all models share.
pub(super) fn components(schemas: &mut Object<'_>, non_utf8: NonUtf8) {
    schemas.object("Feature", |schema| {
        schema.text(
            "description",
            "A value or a list of values of one kind. Numbers with a fraction or an exponent are floats, others integers: \
             write 1.0 for a float.",
        );
        schema.list("anyOf", |list| {
            list.object(|one| one.schema("FeatureValue"));
            list.object(|one| {
                one.text("type", "array");
                one.object("items", |items| items.schema("FeatureValue"));
            });
        });
    });
    schemas.object("FeatureValue", |schema| {
        schema.list("anyOf", |list| {
            list.object(|one| one.text("type", "number"));
            list.object(|one| one.text("type", "boolean"));
            list.object(|one| one.schema("Bytes"));
        });
    });
    results(schemas, "ClassifyReply", "[label, score] of every class of every example.", |items| {
        items.text("type", "array");
        items.object("items", |pair| {
            pair.text("type", "array");
            pair.integer("minItems", 2);
            pair.integer("maxItems", 2);
            pair.list("prefixItems", |list| {
                list.object(|label| match non_utf8 {
                    NonUtf8::Raw => label.text("type", "string"),
                    NonUtf8::Base64 => label.schema("Bytes"),
                });
                list.object(|score| score.text("type", "number"));
            });
        });
    });
    results(schemas, "RegressReply", "The value of every example.", |items| items.text("type", "number"));
}

fn results(schemas: &mut Object<'_>, name: &str, said: &str, items: impl FnOnce(&mut Object<'_>)) {
    schemas.object(name, |schema| {
        schema.text("type", "object");
        schema.object("properties", |properties| {
            properties.object("results", |results| {
                results.text("description", said);
                results.text("type", "array");
                results.object("items", items);
            });
        });
        schema.texts("required", ["results"]);
        schema.flag("additionalProperties", false);
    });
}

#[cfg(test)]
mod tests {
    use super::super::text::Text;
    use super::*;
    use crate::engine::signature::TensorSpec;
    use serde_json::{Value, json};

    fn signature(input: (&str, DType), outputs: &[(&str, DType)], method: &str) -> Signature {
        let spec = |(alias, dtype): &(&str, DType)| TensorSpec {
            alias: (*alias).to_owned(),
            tensor: String::new(),
            dtype: *dtype,
            shape: Some(vec![-1]),
        };
        Signature {
            name: "s".into(),
            method_name: method.to_owned(),
            inputs: vec![spec(&input)],
            outputs: outputs.iter().map(spec).collect(),
            defaults: BTreeMap::new(),
        }
    }

    #[test]
    fn methods_are_of_signatures_that_are_made_for_them() {
        let inputs = ("inputs", DType::String);
        let (classes, scores) = (("classes", DType::String), ("scores", DType::Float));
        let of = |signature: &Signature, by_name| {
            [Method::Classify, Method::Regress].map(|method| method.is_of(signature, by_name))
        };
        let both = signature(inputs, &[classes, scores], "tensorflow/serving/classify");
        assert_eq!((of(&both, false), of(&both, true)), ([true, false], [true, false]));
        let scores_alone = signature(inputs, &[scores], "");
        assert_eq!((of(&scores_alone, false), of(&scores_alone, true)), ([true, false], [false, false]));
        let regress = signature(inputs, &[("outputs", DType::Float)], "tensorflow/serving/regress");
        assert_eq!((of(&regress, false), of(&regress, true)), ([false, true], [false, true]));
        for other in [
            signature(("x", DType::String), &[scores], ""),
            signature(("inputs", DType::Float), &[scores], ""),
            signature(inputs, &[("scores", DType::Int32)], ""),
            signature(inputs, &[classes, ("other", DType::Float), scores], ""),
        ] {
            assert_eq!(of(&other, false), [false, false], "{other:?}");
        }
    }

    #[test]
    fn features_that_are_known_are_described() {
        let features = BTreeMap::from([
            ("f".to_owned(), Feature::Floats(2)),
            ("i".to_owned(), Feature::Integers(1)),
            ("t".to_owned(), Feature::Strings(1, None)),
        ]);
        let content = Content::Example(features);
        let signature = signature(("inputs", DType::String), &[("scores", DType::Float)], "");
        let lookup = |_: &str| Some(&content);
        let mut text = Text::new(10_000);
        text.object(|object| request(object, &signature, known(&signature, &lookup)));
        let schema: Value = serde_json::from_slice(&text.finish().unwrap()).unwrap();
        let example = &schema["properties"]["examples"]["items"]["properties"];
        let floats = json!({"type": "array", "minItems": 2, "maxItems": 2, "items": {"type": "number"}});
        assert_eq!(example["f"], json!({"anyOf": [floats]}));
        assert_eq!(example["i"]["anyOf"][0], json!({"type": "integer"}));
        assert_eq!(example["t"]["anyOf"][0], json!({"$ref": "#/components/schemas/Bytes"}));
        assert_eq!(schema["required"], json!(["examples", "signature_name"]));
        assert!(known(&signature, &|_: &str| None).is_none());
    }
}
