//! Operations: what one method of one path does, and the statuses with which it may be answered.

use super::Facts;
use super::text::{List, Object};

/// The statuses of errors, and what each means. Each is a component of its name.
const ERRORS: [(u16, &str); 16] = [
    (400, "The request is wrong: its path, its body, or what the model makes of its values."),
    (401, "There is no valid token."),
    (403, "The token is not for this."),
    (404, "There is no such model or version, or it is not ready."),
    (405, "The path has another method."),
    (408, "The request came too slowly."),
    (409, "The model refused it: it exists already, or was aborted."),
    (413, "The body is too large, or needs more memory than a connection may hold."),
    (414, "The path is too long."),
    (417, "The header Expect has another value than 100-continue."),
    (429, "The answer would be too long, or the token asks too often or too much at once."),
    (431, "The headers are too large."),
    (500, "The server or the model has failed."),
    (501, "This is not possible here: a dtype without a form in JSON, or an unknown HTTP method."),
    (503, "The server is overloaded or ends, or what was asked for is not ready: try again later."),
    (504, "There was no answer in time."),
];

/// What any request may be answered with.
const ANY: [u16; 8] = [400, 408, 413, 414, 417, 431, 501, 503];
/// What the check of a token may lead to.
const DENIED: [u16; 3] = [401, 403, 429];

/// Statuses besides those of any request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Errors {
    /// Of calls to models.
    Call,
    /// Of what is told of models.
    Told,
    /// The same in the Open Inference Protocol, which knows of wrong methods.
    V2Told,
    /// Of calls in the Open Inference Protocol.
    V2Call,
    /// None.
    Few,
}

impl Errors {
    fn statuses(self) -> &'static [u16] {
        match self {
            Errors::Call => &[404, 409, 429, 500, 504],
            Errors::Told => &[404, 500],
            Errors::V2Told => &[404, 405, 500],
            Errors::V2Call => &[404, 405, 409, 429, 500, 504],
            Errors::Few => &[],
        }
    }
}

/// An operation.
pub(super) struct Operation<'a> {
    pub(super) id: &'a str,
    pub(super) tag: Tag,
    pub(super) summary: &'a str,
    pub(super) description: &'a str,
    /// True if it needs no token.
    pub(super) is_open: bool,
    pub(super) errors: Errors,
    /// The statuses that are told in the form of 200.
    pub(super) alike: &'a [u16],
    /// The parameters that are components.
    pub(super) parameters: &'a [&'a str],
}

/// Groups of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tag {
    TensorFlow,
    OpenInference,
    Server,
}

impl Tag {
    const ALL: [Tag; 3] = [Tag::TensorFlow, Tag::OpenInference, Tag::Server];

    fn name(self) -> &'static str {
        match self {
            Tag::TensorFlow => "TensorFlow Serving",
            Tag::OpenInference => "Open Inference Protocol",
            Tag::Server => "Server",
        }
    }

    fn description(self) -> &'static str {
        match self {
            Tag::TensorFlow => "TensorFlow Serving's REST API.",
            Tag::OpenInference => "The Open Inference Protocol (KServe v2), with Triton's extensions.",
            Tag::Server => "Health and metrics.",
        }
    }
}

/// Writes the groups.
pub(super) fn tags(list: &mut List<'_>, facts: &Facts) {
    for tag in Tag::ALL {
        if tag != Tag::OpenInference || facts.open_inference {
            list.object(|one| {
                one.text("name", tag.name());
                one.text("description", tag.description());
            });
        }
    }
}

impl Operation<'_> {
    /// Writes the operation as the member `method` of a path. `body` writes members such as `requestBody`, `good` the response
    /// with the status 200.
    pub(super) fn write(
        &self,
        path: &mut Object<'_>,
        method: &str,
        facts: &Facts,
        body: impl FnOnce(&mut Object<'_>),
        good: impl Fn(&mut Object<'_>),
    ) {
        path.object(method, |operation| {
            operation.text("operationId", self.id);
            operation.texts("tags", [self.tag.name()]);
            operation.text("summary", self.summary);
            if !self.description.is_empty() {
                operation.text("description", self.description);
            }
            if facts.auth && self.is_open {
                operation.list("security", |_| {});
            }
            if !self.parameters.is_empty() {
                operation.list("parameters", |list| {
                    self.parameters
                        .iter()
                        .for_each(|name| list.object(|one| one.reference("parameters", name)));
                });
            }
            body(operation);
            operation.object("responses", |responses| {
                for status in [200].iter().chain(self.alike) {
                    responses.object(&status.to_string(), &good);
                }
                self.write_errors(responses, facts);
            });
        });
    }

    fn write_errors(&self, responses: &mut Object<'_>, facts: &Facts) {
        let denied = if facts.auth && !self.is_open { &DENIED[..] } else { &[] };
        let mut all: Vec<u16> = [&ANY, self.errors.statuses(), denied].concat();
        all.retain(|status| !self.alike.contains(status));
        all.sort_unstable();
        all.dedup();
        for status in all {
            let name = status.to_string();
            responses.object(&name, |one| one.reference("responses", &format!("Error{name}")));
        }
    }
}

/// Writes the components to which operations refer.
pub(super) fn components(responses: &mut Object<'_>) {
    for (status, description) in ERRORS {
        responses.object(&format!("Error{status}"), |one| {
            one.text("description", description);
            match status {
                429 | 503 => {
                    header(one, "Retry-After", "Seconds after which the request may succeed.", "integer")
                }
                401 => header(one, "WWW-Authenticate", "Bearer.", "string"),
                _ => {}
            }
            json(one, "Error");
        });
    }
}

fn header(response: &mut Object<'_>, name: &str, description: &str, kind: &str) {
    response.object("headers", |headers| {
        headers.object(name, |header| {
            header.text("description", description);
            header.object("schema", |schema| schema.text("type", kind));
        });
    });
}

/// Writes the content of a body of JSON, whose schema is a component.
pub(super) fn json(body: &mut Object<'_>, schema: &str) {
    body.object("content", |content| media(content, "application/json", schema));
}

/// Writes one media type of a content, whose schema is a component.
pub(super) fn media(content: &mut Object<'_>, media_type: &str, schema: &str) {
    content.object(media_type, |media| media.object("schema", |one| one.schema(schema)));
}

/// Writes a good response of JSON.
pub(super) fn good(response: &mut Object<'_>, description: &str, schema: &str) {
    response.text("description", description);
    json(response, schema);
}

#[cfg(test)]
mod tests {
    use super::super::text::Text;
    use super::*;
    use serde_json::{Value, json};

    fn responses(errors: Errors, is_open: bool, auth: bool) -> Vec<String> {
        let facts = Facts { auth, ..Facts::none() };
        let operation = Operation {
            id: "id",
            tag: Tag::Server,
            summary: "",
            description: "",
            is_open,
            errors,
            alike: &[503],
            parameters: &[],
        };
        let mut text = Text::new(10_000);
        text.object(|path| operation.write(path, "get", &facts, |_| {}, |good| good.text("description", "")));
        let written: Value = serde_json::from_slice(&text.finish().unwrap()).unwrap();
        assert_eq!(written["get"]["responses"]["503"], written["get"]["responses"]["200"]);
        assert_eq!(written["get"]["security"], if is_open && auth { json!([]) } else { Value::Null });
        written["get"]["responses"].as_object().unwrap().keys().cloned().collect()
    }

    #[test]
    fn every_status_that_is_named_is_a_component() {
        let mut text = Text::new(100_000);
        text.object(components);
        let written: Value = serde_json::from_slice(&text.finish().unwrap()).unwrap();
        for errors in [Errors::Call, Errors::Told, Errors::V2Told, Errors::V2Call, Errors::Few] {
            for status in responses(errors, false, true) {
                assert!(status == "200" || written[format!("Error{status}")].is_object(), "{status}");
            }
        }
        assert!(written["Error503"]["headers"]["Retry-After"].is_object());
    }

    #[test]
    fn tokens_are_refused_where_they_are_needed() {
        let has = |is_open, auth| responses(Errors::Few, is_open, auth).contains(&"401".to_owned());
        assert_eq!([has(false, true), has(true, true), has(false, false)], [true, false, false]);
    }
}
