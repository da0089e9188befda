//! The document of a version of a model: its paths, and what each signature takes and answers.

use super::document::{self, Info};
use super::features::{self, Method};
use super::shape::write_any_rank;
use super::text::{Object, Text};
use super::{Calls, Example, Facts, Place, element::Element, example, fixed, infer, predict};
use crate::engine::content::Content;
use crate::engine::signature::{DEFAULT_SIGNATURE, Signature};
use crate::registry::VersionChoice;
use crate::rest::bodies::elements;
use crate::tensor::DType;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::collections::{BTreeMap, BTreeSet};

/// Most bytes that are said of a signature, and of all together. What does not fit is left out, and called as in a document
/// that does not know it.
const OF_SIGNATURE: usize = 512 << 10;
const OF_ALL: usize = 2 << 20;

/// What stays as it is in a part of a path: RFC 3986's unreserved characters.
const PART: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A version, and how it is asked for.
pub(super) struct Version<'a> {
    pub(super) name: &'a str,
    pub(super) choice: &'a VersionChoice,
    pub(super) number: i64,
    pub(super) signatures: &'a BTreeMap<String, Signature>,
    /// True if its files tell a scalar from a tensor of unknown rank.
    pub(super) exact: bool,
    /// What the strings of an input of a signature hold, as far as that is known.
    pub(super) content: &'a dyn Fn(&str, &str) -> Option<&'a Content>,
}

/// What is said of one signature.
struct Described {
    /// Its part of the names of components.
    key: String,
    /// An object of components.
    schemas: Vec<u8>,
    predict: Option<Vec<Example>>,
    infer: Option<Vec<Example>>,
    classify: Option<Vec<Example>>,
    regress: Option<Vec<Example>>,
}

/// Returns the document; `None` if it would be too long.
pub(super) fn document(facts: &Facts, version: &Version<'_>) -> Option<Vec<u8>> {
    let callable: Vec<&Signature> =
        version.signatures.values().filter(|signature| !signature.inputs.is_empty()).collect();
    let described = all_described(facts, version, &callable);
    let left_out = callable.len() - described.len();
    let description = about(facts, version, callable.len(), left_out);
    let number = version.number.to_string();
    let info = Info { title: version.name, version: &number, description: &description };
    let calls = calls(&described, &callable, left_out);
    let place = place(version);
    document::write(
        &info,
        facts,
        |paths| {
            document::model_paths(paths, facts, &place, &calls);
            if facts.health {
                let versioned = if let VersionChoice::Version(number) = version.choice {
                    format!("/{number}")
                } else {
                    String::new()
                };
                let path = format!("/readyz/{}{versioned}", encoded(version.name));
                document::health(paths, facts, (&path, "modelReady"), Some(&[]));
            }
        },
        |all| schemas(all, facts, &callable, (&described, left_out)),
    )
}

/// Returns where the version is, as it is asked for.
fn place(version: &Version<'_>) -> Place<'static> {
    let name = encoded(version.name);
    let path = match version.choice {
        VersionChoice::Latest => name,
        VersionChoice::Version(number) => format!("{name}/versions/{number}"),
        VersionChoice::Label(label) => format!("{name}/labels/{}", encoded(label)),
    };
    Place { path, suffix: "", parameters: &[] }
}

fn encoded(name: &str) -> String {
    utf8_percent_encode(name, PART).to_string()
}

fn about(facts: &Facts, version: &Version<'_>, all: usize, left_out: usize) -> String {
    let others = version.signatures.len() - all;
    let mut text = format!("Version {}. Signatures: {all}. ", version.number);
    if others > 0 {
        text += &format!("Signatures without inputs, which cannot be called: {others}. ");
    }
    if left_out > 0 {
        text += &format!(
            "Signatures that are not described, as this document would be too long: {left_out}; see the metadata. "
        );
    }
    text + fixed::of_strings(facts.non_utf8)
}

/// Describes the signatures that fit, the default one first.
fn all_described(facts: &Facts, version: &Version<'_>, callable: &[&Signature]) -> Vec<Described> {
    let is_default = |signature: &&&Signature| &*signature.name == DEFAULT_SIGNATURE;
    let others = callable.iter().filter(|signature| !is_default(signature));
    let (mut all, mut spent) = (Vec::new(), 0);
    for (index, signature) in callable.iter().filter(is_default).chain(others).enumerate() {
        if spent >= OF_ALL {
            break;
        }
        let described = described(facts, version, signature, index);
        spent += described.as_ref().map_or(OF_SIGNATURE, Described::len);
        all.extend(described);
    }
    all
}

/// Describes one signature; `None` if that is too long.
fn described(facts: &Facts, version: &Version<'_>, signature: &Signature, index: usize) -> Option<Described> {
    let key = key(&signature.name, index);
    let content = |alias: &str| (version.content)(&signature.name, alias);
    let known = features::known(signature, &content);
    let is = |method: Method| method.is_of(signature, facts.method_names);
    let takes_json = predict::takes_json(signature);
    let takes_v2 = facts.open_inference && infer::takes(signature);
    let mut text = Text::new(OF_SIGNATURE);
    text.object(|schemas| {
        if takes_json {
            schemas.object(&format!("PredictRequest.{key}"), |one| predict::request(one, signature));
            schemas.object(&format!("PredictReply.{key}"), |one| {
                predict::reply(one, signature, facts.non_utf8, version.exact);
            });
        }
        for (method, name) in [(Method::Classify, "Classify"), (Method::Regress, "Regress")] {
            if is(method) {
                schemas.object(&format!("{name}Request.{key}"), |one| {
                    features::request(one, signature, known);
                });
            }
        }
        if takes_v2 {
            schemas.object(&format!("InferRequest.{key}"), |one| infer::request(one, signature));
            schemas.object(&format!("InferReply.{key}"), |one| {
                infer::reply(one, signature, facts.non_utf8);
            });
        }
    });
    let schemas = text.finish()?;
    let named = |name: &str, summary: &str, json: Option<Vec<u8>>| {
        let (name, summary) = (format!("{key}{name}"), summary.to_owned());
        json.map(|json| Example { name, summary, json })
    };
    let of_features = || {
        let json = known.and_then(|features| example::of_features(signature, features));
        named("", "Examples", json).into_iter().collect()
    };
    let formats = [
        ("-rows", "The row format", example::in_rows(signature, &content)),
        ("-columns", "The columnar format", example::in_columns(signature, &content)),
    ];
    Some(Described {
        predict: takes_json.then(|| {
            formats.into_iter().filter_map(|(name, summary, json)| named(name, summary, json)).collect()
        }),
        infer: takes_v2
            .then(|| named("", "Tensors by name", example::infer(signature, &content)).into_iter().collect()),
        classify: is(Method::Classify).then(of_features),
        regress: is(Method::Regress).then(of_features),
        key,
        schemas,
    })
}

/// Returns the part of the names of components that stands for signature `name`, the `index`th: it is of the characters that
/// these may have, and no other's.
fn key(name: &str, index: usize) -> String {
    const LONGEST: usize = 64;
    let is_plain = |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | '-');
    if !name.is_empty() && name.len() <= LONGEST && name.chars().all(is_plain) {
        return name.to_owned();
    }
    let start: String =
        name.chars().take(LONGEST / 2).map(|one| if is_plain(one) { one } else { '_' }).collect();
    // A plain name has no full stop.
    format!("{start}.{index}")
}

impl Described {
    fn len(&self) -> usize {
        let examples = [&self.predict, &self.infer, &self.classify, &self.regress];
        let all = examples.into_iter().flatten().flatten();
        self.schemas.len() + all.map(|one| one.json.len() + one.name.len()).sum::<usize>() + 512
    }
}

/// Returns what calls offer, with all examples.
fn calls(described: &[Described], callable: &[&Signature], left_out: usize) -> Calls {
    let all = |of: fn(&Described) -> &Option<Vec<Example>>| {
        let mut examples = described.iter().filter_map(|one| of(one).as_ref()).peekable();
        let is_offered = examples.peek().is_some() || left_out > 0;
        is_offered.then(|| examples.flatten().cloned().collect::<Vec<_>>())
    };
    Calls {
        predict: all(|one| &one.predict).unwrap_or_default(),
        classify: all(|one| &one.classify),
        regress: all(|one| &one.regress),
        infer: all(|one| &one.infer),
        forms: forms(callable),
    }
}

/// Returns the forms of bodies besides JSON that some signature takes.
fn forms(callable: &[&Signature]) -> Vec<&'static str> {
    let in_numpy =
        |signature: &&&Signature| signature.inputs.iter().all(|spec| elements::name(spec.dtype).is_some());
    let by_name = callable.iter().any(|signature| in_numpy(&signature));
    let alone = callable.iter().filter(in_numpy).any(|signature| signature.inputs.len() == 1);
    let of_string =
        callable.iter().any(|one| matches!(one.inputs.as_slice(), [only] if only.dtype == DType::String));
    let all = [
        ("application/x-npy", alone),
        ("application/x-npz", by_name),
        ("application/octet-stream", alone),
        ("application/msgpack", by_name),
        ("image/*", of_string),
    ];
    all.into_iter().filter(|(_, takes)| *takes).map(|(form, _)| form).collect()
}

/// Writes the schemas: those of each signature that is described, and what they are together.
fn schemas(
    schemas: &mut Object<'_>,
    facts: &Facts,
    callable: &[&Signature],
    (described, left_out): (&[Described], usize),
) {
    let elements: BTreeSet<Element> =
        callable.iter().flat_map(|signature| Element::all_of(signature, facts.non_utf8)).collect();
    elements.into_iter().for_each(|element| write_any_rank(schemas, element));
    described.iter().for_each(|one| schemas.members(&one.schemas));
    let is = |of: fn(&Described) -> &Option<Vec<Example>>| {
        described.iter().filter(move |one| of(one).is_some()).map(|one| one.key.as_str())
    };
    let mut either = |name: &str, any: &str, keys: &mut dyn Iterator<Item = &str>| {
        let keys: Vec<&str> = keys.collect();
        schemas.object(name, |schema| {
            schema.list("anyOf", |list| {
                keys.iter().for_each(|key| list.object(|one| one.schema(&format!("{name}.{key}"))));
                if keys.is_empty() || left_out > 0 {
                    list.object(|one| one.schema(any));
                }
            });
        });
    };
    either("PredictRequest", "AnyPredictRequest", &mut is(|one| &one.predict));
    either("PredictReply", "AnyPredictReply", &mut is(|one| &one.predict));
    either("ClassifyRequest", "AnyExamplesRequest", &mut is(|one| &one.classify));
    either("RegressRequest", "AnyExamplesRequest", &mut is(|one| &one.regress));
    if facts.open_inference {
        either("InferRequest", "AnyInferRequest", &mut is(|one| &one.infer));
        either("InferReply", "AnyInferReply", &mut is(|one| &one.infer));
    }
}

#[cfg(test)]
pub(super) mod tests;
