//! The Open Inference Protocol: its paths for one model, or for any, and for the server.

use super::operation::{Errors, Operation, Tag, good, media};
use super::text::Object;
use super::v1::body;
use super::{Calls, Facts, Place};

const INFER: &str = "Without a parameter `signature_name`, the default signature is asked; `NAME:SIGNATURE` in the path asks \
    another one. With the header Inference-Header-Content-Length, the body begins with so many bytes of JSON, and the data of \
    inputs with the parameter `binary_data_size` follow.";

/// Writes the paths of the model at `place`.
pub(super) fn paths(paths: &mut Object<'_>, facts: &Facts, place: &Place<'_>, calls: &Calls) {
    let base = format!("/v2/models/{}", place.path);
    if let Some(examples) = &calls.infer {
        let parameters = [place.parameters, &["Inference-Header-Content-Length"]].concat();
        let id = place.id("infer");
        let errors = Errors::V2Call;
        let operation = Operation {
            description: INFER,
            parameters: &parameters,
            ..operation(&id, "Outputs of a signature", errors)
        };
        paths.object(&format!("{base}/infer"), |path| {
            operation.write(
                path,
                "post",
                facts,
                |operation| body(operation, "InferRequest", examples, &["application/octet-stream"]),
                |response| {
                    response.text("description", "The answer of the model.");
                    response.object("content", |content| {
                        media(content, "application/json", "InferReply");
                        content.object("application/octet-stream", |_| {});
                    });
                },
            );
        });
    }
    for (suffix, word, summary, schema) in [
        ("", "v2Metadata", "Inputs and outputs of the default signature", "V2ModelMetadata"),
        ("/ready", "v2Ready", "Whether the model can be asked", "V2ModelReady"),
        ("/config", "v2Config", "The configuration in Triton's form", "V2ModelConfig"),
        ("/stats", "v2Statistics", "Statistics in Triton's form", "V2Statistics"),
    ] {
        let id = place.id(word);
        tell(
            paths,
            facts,
            &format!("{base}{suffix}"),
            schema,
            &Operation { parameters: place.parameters, ..operation(&id, summary, Errors::V2Told) },
        );
    }
}

fn operation<'a>(id: &'a str, summary: &'a str, errors: Errors) -> Operation<'a> {
    let (tag, description, parameters) = (Tag::OpenInference, "", &[]);
    Operation { id, tag, summary, description, is_open: false, errors, alike: &[], parameters }
}

/// Writes a path with a GET of JSON.
fn tell(paths: &mut Object<'_>, facts: &Facts, path: &str, schema: &str, operation: &Operation<'_>) {
    paths.object(path, |path| {
        operation.write(path, "get", facts, |_| {}, |response| good(response, operation.summary, schema));
    });
}

/// Writes the paths of the server.
pub(super) fn server_paths(paths: &mut Object<'_>, facts: &Facts) {
    for (path, id, summary, schema, is_open) in [
        ("/v2", "v2Server", "Name, version and extensions of the server", "V2Server", false),
        ("/v2/health/live", "v2Live", "Whether the server answers", "V2Live", true),
        ("/v2/health/ready", "v2ServerReady", "Whether models can be asked", "V2Ready", true),
        ("/v2/models/stats", "v2AllStatistics", "Statistics of all models", "V2Statistics", false),
    ] {
        tell(paths, facts, path, schema, &Operation { is_open, ..operation(id, summary, Errors::V2Told) });
    }
    paths.object("/v2/repository/index", |path| {
        let summary = "Every version with its state";
        let told = |response: &mut Object<'_>| good(response, summary, "V2Index");
        operation("v2Index", summary, Errors::V2Told).write(path, "get", facts, |_| {}, told);
        operation("v2IndexOfReady", summary, Errors::V2Told).write(
            path,
            "post",
            facts,
            |operation| optional_body(operation, "V2IndexRequest"),
            told,
        );
    });
    if facts.control {
        for (word, id, summary) in [
            ("load", "v2Load", "Serves a model again, or reads its files again"),
            ("unload", "v2Unload", "Serves a model no longer"),
        ] {
            paths.object(&format!("/v2/repository/models/{{model}}/{word}"), |path| {
                let operation =
                    Operation { parameters: &["model"], ..operation(id, summary, Errors::V2Call) };
                operation.write(
                    path,
                    "post",
                    facts,
                    |operation| optional_body(operation, "V2ControlRequest"),
                    |response| good(response, summary, "Empty"),
                );
            });
        }
    }
    if facts.shared_memory {
        shared_memory(paths, facts);
    }
}

fn optional_body(operation: &mut Object<'_>, schema: &str) {
    operation.object("requestBody", |body| {
        body.object("content", |content| media(content, "application/json", schema));
    });
}

fn shared_memory(paths: &mut Object<'_>, facts: &Facts) {
    const BASE: &str = "/v2/systemsharedmemory";
    for (path, id, parameters) in
        [(String::new(), "v2Regions", &[][..]), ("/region/{region}".to_owned(), "v2Region", &["region"])]
    {
        let summary = "Regions of shared memory";
        tell(
            paths,
            facts,
            &format!("{BASE}{path}/status"),
            "V2Regions",
            &Operation { parameters, ..operation(id, summary, Errors::V2Told) },
        );
    }
    for (path, id, summary, parameters) in [
        ("/region/{region}/register", "v2Register", "Registers a region", &["region"][..]),
        ("/region/{region}/unregister", "v2Unregister", "Forgets a region", &["region"]),
        ("/unregister", "v2UnregisterAll", "Forgets all regions", &[]),
    ] {
        paths.object(&format!("{BASE}{path}"), |path| {
            let operation = Operation { parameters, ..operation(id, summary, Errors::V2Call) };
            let body = |operation: &mut Object<'_>| {
                if id == "v2Register" {
                    optional_body(operation, "V2Register");
                }
            };
            operation.write(path, "post", facts, body, |response| good(response, summary, "Empty"));
        });
    }
}

/// Writes the parameters to which the paths refer.
pub(super) fn parameters(parameters: &mut Object<'_>, facts: &Facts) {
    parameters.object("Inference-Header-Content-Length", |one| {
        one.text("name", "Inference-Header-Content-Length");
        one.text("in", "header");
        one.text(
            "description",
            "The length of the JSON with which the body begins; 0: the body is the data of the only input.",
        );
        one.object("schema", |schema| {
            schema.text("type", "integer");
            schema.integer("minimum", 0);
        });
    });
    if facts.shared_memory {
        parameters.object("region", |one| {
            one.text("name", "region");
            one.text("in", "path");
            one.text("description", "Name of the region, percent-encoded.");
            one.flag("required", true);
            one.object("schema", |schema| {
                schema.text("type", "string");
                schema.integer("minLength", 1);
            });
        });
    }
}
