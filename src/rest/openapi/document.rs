//! What every document consists of: the frame around its paths and schemas.

use super::operation::{self, Errors, Operation, Tag, good};
use super::text::{Object, Text};
use super::{Calls, Facts, Place, fixed, v1, v2};

/// Longest document, in bytes.
pub(super) const LONGEST: usize = 8 << 20;

/// What a document is about.
pub(super) struct Info<'a> {
    pub(super) title: &'a str,
    pub(super) version: &'a str,
    pub(super) description: &'a str,
}

/// Writes a document; `paths` and `schemas` write their members, besides the schemas that every document has. `None` if it
/// would be too long.
pub(super) fn write(
    info: &Info<'_>,
    facts: &Facts,
    paths: impl FnOnce(&mut Object<'_>),
    schemas: impl FnOnce(&mut Object<'_>),
) -> Option<Vec<u8>> {
    let mut text = Text::new(LONGEST);
    text.object(|document| {
        document.text("openapi", "3.1.0");
        document.object("info", |about| {
            about.text("title", info.title);
            about.text("version", info.version);
            about.text("description", info.description);
        });
        document.list("servers", |list| list.object(|one| one.text("url", "/")));
        if facts.auth {
            document.list("security", |list| {
                ["bearer", "key"].iter().for_each(|name| list.object(|one| one.list(name, |_| {})));
            });
        }
        document.list("tags", |list| operation::tags(list, facts));
        document.object("paths", paths);
        document.object("components", |components| {
            components.object("schemas", |all| {
                fixed::of_models(all, facts);
                schemas(all);
            });
            components.object("responses", operation::components);
            components.object("parameters", |parameters| {
                v1::place_parameters(parameters);
                v1::call_parameters(parameters);
                if facts.open_inference {
                    v2::parameters(parameters, facts);
                }
            });
            if facts.auth {
                components.object("securitySchemes", security);
            }
        });
    });
    text.finish()
}

fn security(schemes: &mut Object<'_>) {
    schemes.object("bearer", |scheme| {
        scheme.text("type", "http");
        scheme.text("scheme", "bearer");
    });
    schemes.object("key", |scheme| {
        scheme.text("type", "apiKey");
        scheme.text("in", "header");
        scheme.text("name", "X-API-Key");
    });
}

/// Writes the paths of models at `place`.
pub(super) fn model_paths(paths: &mut Object<'_>, facts: &Facts, place: &Place<'_>, calls: &Calls) {
    v1::paths(paths, facts, place, calls);
    if facts.open_inference {
        v2::paths(paths, facts, place, calls);
    }
}

/// Writes the page of health at `path`, about a model or the server.
pub(super) fn health(
    paths: &mut Object<'_>,
    facts: &Facts,
    (path, id): (&str, &str),
    parameters: Option<&[&str]>,
) {
    let (summary, schema) = if id.starts_with("live") {
        ("Whether the process answers", "Live")
    } else {
        ("Whether requests are answered", "Ready")
    };
    let operation = Operation {
        id,
        tag: Tag::Server,
        summary,
        description: "",
        // Of the whole server.
        is_open: parameters.is_none(),
        errors: Errors::Few,
        alike: match (schema, parameters) {
            ("Live", _) => &[],
            (_, None) => &[503],
            (_, Some(_)) => &[404, 503],
        },
        parameters: parameters.unwrap_or_default(),
    };
    paths.object(path, |item| {
        operation.write(item, "get", facts, |_| {}, |response| good(response, summary, schema));
    });
}
