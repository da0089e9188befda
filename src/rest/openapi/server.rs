//! The document of the server: every path that it serves, for any model. It names no model, and is the same for all clients.

use super::document::{self, Info};
use super::operation::{Errors, Operation, Tag, good};
use super::text::Object;
use super::{Calls, Facts, Place, fixed, v2};
use crate::open_inference::metadata::SERVER_VERSION;

/// Where the document is.
pub(super) const PATH: &str = "/openapi.json";

/// Every form of bodies that are not JSON.
const FORMS: [&str; 5] =
    ["application/x-npy", "application/x-npz", "application/octet-stream", "application/msgpack", "image/*"];

/// The paths of any model.
const PLACES: [(&str, &str, &[&str]); 3] = [
    ("{model}", "", &["model"]),
    ("{model}/versions/{version}", "OfVersion", &["model", "version"]),
    ("{model}/labels/{label}", "OfLabel", &["model", "label"]),
];

/// Returns the document; `None` if it would be too long.
pub(super) fn document(facts: &Facts) -> Option<Vec<u8>> {
    let description = format!(
        "A server of models. What a model takes and answers is told by its own document, \
         /v1/models/NAME/openapi.json (also …/versions/V/openapi.json, …/labels/L/openapi.json). {}",
        fixed::of_strings(facts.non_utf8)
    );
    let info = Info { title: "Servable", version: SERVER_VERSION, description: &description };
    document::write(&info, facts, |all| paths(all, facts), |schemas| self::schemas(schemas, facts))
}

fn paths(paths: &mut Object<'_>, facts: &Facts) {
    let calls = Calls {
        classify: Some(Vec::new()),
        regress: Some(Vec::new()),
        infer: Some(Vec::new()),
        forms: FORMS.to_vec(),
        ..Calls::default()
    };
    for (path, suffix, parameters) in PLACES {
        let place = Place { path: path.to_owned(), suffix, parameters };
        document::model_paths(paths, facts, &place, &calls);
    }
    if facts.open_inference {
        v2::server_paths(paths, facts);
    }
    if facts.health {
        for (path, id) in [("/livez", "live"), ("/healthz", "liveToo"), ("/readyz", "ready")] {
            document::health(paths, facts, (path, id), None);
        }
        for (path, id, parameters) in [
            ("/readyz/{model}", "modelReady", &["model"][..]),
            ("/readyz/{model}/{version}", "versionReady", &["model", "version"]),
        ] {
            document::health(paths, facts, (path, id), Some(parameters));
        }
    }
    pages(paths, facts);
}

/// Writes the pages of metrics, and this document.
fn pages(paths: &mut Object<'_>, facts: &Facts) {
    let operation = |id, summary| Operation {
        id,
        tag: Tag::Server,
        summary,
        description: "",
        is_open: false,
        errors: Errors::Told,
        alike: &[],
        parameters: &[],
    };
    let is_same = facts.prometheus_path == facts.metrics_path;
    for (path, id, summary) in [
        (facts.metrics_path.as_deref().filter(|_| !is_same), "metrics", "All metrics, for Prometheus"),
        (
            facts.prometheus_path.as_deref(),
            "tensorflowMetrics",
            "TensorFlow Serving's metrics, for Prometheus",
        ),
    ] {
        let Some(path) = path else { continue };
        paths.object(path, |item| {
            operation(id, summary).write(
                item,
                "get",
                facts,
                |_| {},
                |response| {
                    response.text("description", summary);
                    response.object("content", |content| {
                        for form in ["text/plain", "application/openmetrics-text"] {
                            content.object(form, |media| {
                                media.object("schema", |schema| schema.text("type", "string"));
                            });
                        }
                    });
                },
            );
        });
    }
    paths.object(PATH, |item| {
        let summary = "This document";
        operation("serverOpenapi", summary).write(
            item,
            "get",
            facts,
            |_| {},
            |response| {
                good(response, summary, "OpenApi");
            },
        );
    });
}

/// Writes the schemas of calls to any model.
fn schemas(schemas: &mut Object<'_>, facts: &Facts) {
    fixed::of_server(schemas, facts);
    for (name, component) in [
        ("PredictRequest", "AnyPredictRequest"),
        ("PredictReply", "AnyPredictReply"),
        ("ClassifyRequest", "AnyExamplesRequest"),
        ("RegressRequest", "AnyExamplesRequest"),
        ("InferRequest", "AnyInferRequest"),
        ("InferReply", "AnyInferReply"),
    ] {
        if facts.open_inference || !name.starts_with("Infer") {
            schemas.object(name, |schema| schema.schema(component));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::tests::{all_facts, unresolved};
    use super::*;
    use serde_json::Value;

    fn written(facts: &Facts) -> Value {
        serde_json::from_slice(&document(facts).unwrap()).unwrap()
    }

    #[test]
    fn what_is_configured_is_described() {
        let few = written(&Facts::none());
        let paths: Vec<&str> = few["paths"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(paths.len(), 3 * 6 + 1, "{paths:?}");
        assert_eq!(few["security"], Value::Null);
        let all = written(&all_facts());
        for path in [
            "/v1/models/{model}/labels/{label}:predict",
            "/v1/models/{model}/versions/{version}/openapi.json",
            "/v2",
            "/v2/models/{model}/versions/{version}/infer",
            "/v2/repository/models/{model}/load",
            "/v2/systemsharedmemory/region/{region}/register",
            "/livez",
            "/readyz/{model}/{version}",
            "/metrics",
            "/monitoring/prometheus/metrics",
            "/openapi.json",
        ] {
            assert!(all["paths"][path].is_object(), "{path}");
        }
        assert_eq!(all["paths"]["/livez"]["get"]["security"], Value::Array(vec![]));
        assert!(all["components"]["securitySchemes"]["bearer"].is_object());
    }

    #[test]
    fn whatever_is_named_is_there() {
        for facts in [Facts::none(), all_facts()] {
            let document = written(&facts);
            assert_eq!(unresolved(&document), Vec::<String>::new());
            let operations = document["paths"].as_object().unwrap().values().flat_map(|path| {
                path.as_object().unwrap().values().map(|one| one["operationId"].as_str().unwrap())
            });
            let mut ids: Vec<&str> = operations.collect();
            let count = ids.len();
            ids.sort_unstable();
            ids.dedup();
            assert_eq!(ids.len(), count);
        }
    }
}
