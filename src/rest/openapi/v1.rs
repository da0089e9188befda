//! TensorFlow Serving's REST API: its paths for one model, or for any.

use super::operation::{Errors, Operation, Tag, good, media};
use super::text::Object;
use super::{Calls, Example, Facts, Place};
use crate::rest::verb::Verb;

/// The parameters of calls that are headers or a query.
const OF_PREDICT: [&str; 5] =
    ["outputs", "X-Signature-Name", "X-Tensor-Shape", "X-Tensor-Dtype", "X-Tensor-Name"];

const PREDICT: &str = "The row format (`instances`) is answered by rows (`predictions`), the columnar format (`inputs`) by \
    tensors by name (`outputs`); with a single output, by its value alone. A body with both is refused. Numbers may be NaN, \
    Infinity and -Infinity, which JSON does not have. Whole numbers that are too large for a dtype of 8 or 16 bits lose their \
    high bits. `Accept: application/json; compact=true` asks for a reply without white space.";
const EXAMPLES: &str = "Takes examples, which are maps of features.";

/// Writes the paths of the model at `place`.
pub(super) fn paths(paths: &mut Object<'_>, facts: &Facts, place: &Place<'_>, calls: &Calls) {
    let base = format!("/v1/models/{}", place.path);
    call(paths, (facts, place), &format!("{base}:predict"), ("predict", PREDICT), calls);
    if calls.classify.is_some() {
        call(paths, (facts, place), &format!("{base}:classify"), ("classify", EXAMPLES), calls);
    }
    if calls.regress.is_some() {
        call(paths, (facts, place), &format!("{base}:regress"), ("regress", EXAMPLES), calls);
    }
    for (suffix, word, summary, schema) in [
        ("", "status", "States of versions", "ModelStatus"),
        ("/metadata", "metadata", "Signatures", "ModelMetadata"),
        ("/openapi.json", "openapi", "This description of the API", "OpenApi"),
    ] {
        paths.object(&format!("{base}{suffix}"), |path| {
            let operation = Operation {
                id: &place.id(word),
                tag: Tag::TensorFlow,
                summary,
                description: "",
                is_open: false,
                errors: Errors::Told,
                alike: &[],
                parameters: place.parameters,
            };
            operation.write(path, "get", facts, |_| {}, |response| good(response, summary, schema));
        });
    }
}

fn call(
    paths: &mut Object<'_>,
    (facts, place): (&Facts, &Place<'_>),
    path: &str,
    (word, description): (&str, &str),
    calls: &Calls,
) {
    // The list of verbs is what is served.
    let Some(verb) = Verb::named(word) else { return };
    let (summary, request, reply, examples) = match verb.word {
        "classify" => ("Classes", "ClassifyRequest", "ClassifyReply", calls.classify.as_deref()),
        "regress" => ("Values", "RegressRequest", "RegressReply", calls.regress.as_deref()),
        _ => ("Outputs of a signature", "PredictRequest", "PredictReply", Some(&*calls.predict)),
    };
    let is_predict = verb.word == "predict";
    let own = if is_predict { &OF_PREDICT[..] } else { &[] };
    let parameters = [place.parameters, own].concat();
    let operation = Operation {
        id: &place.id(word),
        tag: Tag::TensorFlow,
        summary,
        description,
        is_open: false,
        errors: Errors::Call,
        alike: &[],
        parameters: &parameters,
    };
    let forms = if is_predict { calls.forms.as_slice() } else { &[] };
    paths.object(path, |path| {
        operation.write(
            path,
            "post",
            facts,
            |operation| body(operation, request, examples.unwrap_or_default(), forms),
            |response| {
                response.text("description", "The answer of the model.");
                response.object("content", |content| {
                    media(content, "application/json", reply);
                    let binary = forms.iter().filter(|form| !form.starts_with("image/"));
                    binary.for_each(|form| content.object(form, |_| {}));
                });
            },
        );
    });
}

/// Writes the body of a request: JSON with `examples`, and other `forms`.
pub(super) fn body(operation: &mut Object<'_>, schema: &str, examples: &[Example], forms: &[&str]) {
    operation.object("requestBody", |body| {
        body.flag("required", true);
        body.object("content", |content| {
            content.object("application/json", |media| {
                media.object("schema", |one| one.schema(schema));
                if !examples.is_empty() {
                    media.object("examples", |all| {
                        for Example { name, summary, json } in examples {
                            all.object(name, |one| {
                                one.text("summary", summary);
                                one.raw("value", json);
                            });
                        }
                    });
                }
            });
            forms.iter().for_each(|form| content.object(form, |_| {}));
        });
    });
}

/// Writes the parameters that the paths of any model name.
pub(super) fn place_parameters(parameters: &mut Object<'_>) {
    for (name, description, kind) in [
        ("model", "Name of the model, percent-encoded.", "string"),
        ("version", "Number of the version.", "integer"),
        ("label", "Label of the version, percent-encoded.", "string"),
    ] {
        parameters.object(name, |one| {
            one.text("name", name);
            one.text("in", "path");
            one.text("description", description);
            one.flag("required", true);
            one.object("schema", |schema| {
                schema.text("type", kind);
                if kind == "integer" {
                    schema.text("format", "int64");
                    schema.integer("minimum", 0);
                    schema.integer("maximum", i64::MAX);
                } else {
                    schema.integer("minLength", 1);
                }
            });
        });
    }
}

/// Writes the parameters of predict.
pub(super) fn call_parameters(parameters: &mut Object<'_>) {
    parameters.object("outputs", |one| {
        one.text("name", "outputs");
        one.text("in", "query");
        one.text(
            "description",
            "Names of the outputs wanted, with commas between them; without it, all. Not with `outputs` in the body.",
        );
        one.text("style", "form");
        one.flag("explode", false);
        one.object("schema", |schema| {
            schema.text("type", "array");
            schema.integer("minItems", 1);
            schema.object("items", |items| items.text("type", "string"));
        });
    });
    for (name, description) in [
        ("X-Signature-Name", "The signature, for a body that is neither JSON nor MessagePack."),
        (
            "X-Tensor-Shape",
            "Of a body of application/octet-stream: its dimensions, with commas between them.",
        ),
        ("X-Tensor-Dtype", "Of a body of application/octet-stream: its dtype, by numpy's name; or `string`."),
        ("X-Tensor-Name", "Of a body of application/octet-stream: the input, if there are several."),
    ] {
        parameters.object(name, |one| {
            one.text("name", name);
            one.text("in", "header");
            one.text("description", description);
            one.object("schema", |schema| schema.text("type", "string"));
        });
    }
}
