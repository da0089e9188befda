//! What Python is told of the signatures of a version, and of its engine.

use crate::engine::signature::{Signature, TensorSpec};
use crate::error::Result;
use crate::registry::{Registry, VersionChoice};
use std::collections::BTreeMap;

/// A signature as text: name, inputs, outputs; each input or output: alias, dtype, shape.
pub(super) type Described = (String, Vec<(String, String, String)>, Vec<(String, String, String)>);

/// An input or an output: alias, dtype, and shape with -1 for unknown dimensions; `None` if the rank is unknown.
type Argument = (String, &'static str, Option<Vec<i64>>);

/// A signature: name, method, inputs, outputs.
pub(super) type Told = (String, String, Vec<Argument>, Vec<Argument>);

pub(super) fn as_texts(signatures: &BTreeMap<String, Signature>) -> Vec<Described> {
    let all = |specs: &[TensorSpec]| specs.iter().map(as_text).collect();
    let signatures = signatures.values();
    signatures.map(|one| (one.name.to_string(), all(&one.inputs), all(&one.outputs))).collect()
}

fn as_text(spec: &TensorSpec) -> (String, String, String) {
    let shape = spec.shape.as_ref().map_or_else(
        || "unknown".to_owned(),
        |shape| format!("[{}]", shape.iter().map(i64::to_string).collect::<Vec<_>>().join(",")),
    );
    (spec.alias.clone(), spec.dtype.name().to_owned(), shape)
}

/// Returns the signatures of a version that is served.
pub(super) fn told(registry: &Registry, name: &str, version: i64) -> Result<Vec<Told>> {
    let servable = registry.resolve(name, &VersionChoice::Version(version))?;
    let argument = |spec: &TensorSpec| (spec.alias.clone(), spec.dtype.proto_name(), spec.shape.clone());
    let all = |specs: &[TensorSpec]| specs.iter().map(argument).collect();
    let signature = |one: &Signature| {
        (one.name.to_string(), one.method_name.clone(), all(&one.inputs), all(&one.outputs))
    };
    Ok(servable.signatures().values().map(signature).collect())
}

/// Returns the name of the engine that is for the files of a version; empty if it is not served.
pub(super) fn engine(registry: &Registry, name: &str, version: i64) -> &'static str {
    registry.resolve(name, &VersionChoice::Version(version)).map_or("", |servable| servable.engine())
}
