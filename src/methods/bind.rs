//! Binds the names in a predict request to a signature: the tensor for each input, and the outputs wanted.
//!
//! For clients that name tensors and send dtypes and shapes, as over gRPC and in warm-up records. The order of the
//! checks and their texts follow docs/spec/grpc.md, section 5.

use super::{Positions, ServerState};
use crate::engine::signature::{Signature, named};
use crate::error::{Error, Kind, Result};
use crate::servable::Servable;
use crate::tensor::Tensor;
use std::collections::{BTreeMap, BTreeSet};

const METHODS: [&str; 3] =
    ["tensorflow/serving/predict", "tensorflow/serving/classify", "tensorflow/serving/regress"];

/// Returns the signature for predict; the default one for an empty name.
pub fn signature<'s>(server: &ServerState, servable: &'s Servable, name: &str) -> Result<&'s Signature> {
    let signature = servable.signature(name).ok_or_else(|| unknown_signature(name))?;
    check_method(server, signature)?;
    Ok(signature)
}

/// Refuses a signature that is not for predict, if such are to be refused.
pub fn check_method(server: &ServerState, signature: &Signature) -> Result<()> {
    if server.options.method_name_check && !METHODS.contains(&signature.method_name.as_str()) {
        return Err(Error::internal(format!(
            "Expected prediction signature method_name to be one of {{{}}}. Was: {}",
            METHODS.join(", "),
            signature.method_name
        )));
    }
    Ok(())
}

/// Returns the error for a missing signature `name`.
pub fn unknown_signature(name: &str) -> Error {
    let message = format!("Serving signature key \"{}\" not found.", named(name));
    Error::new(Kind::FailedPrecondition, message)
}

/// Returns one tensor per input of `signature`, in its order: made by `decode` from the value `sent` under the input's
/// alias, or the signature's default.
pub fn inputs<T>(
    signature: &Signature,
    sent: BTreeMap<String, T>,
    mut decode: impl FnMut(&str, &T) -> Result<Tensor>,
) -> Result<Vec<Tensor>> {
    let (count, expected) = (sent.len(), signature.inputs.len());
    if count > expected || (count < expected && signature.defaults.is_empty()) {
        return Err(wrong_count(signature, &sent));
    }
    let mut used = 0;
    let bound = signature.inputs.iter().map(|spec| match sent.get(&spec.alias) {
        Some(value) => {
            used += 1;
            decode(&spec.alias, value)
        }
        None => signature.defaults.get(&spec.alias).cloned().ok_or_else(|| {
            Error::invalid(format!(
                "Signature input alias: {}(feed name: {}) not found in request and no default value provided. \
                 Inputs expected to be in the request {{{}}}, or default input alias set: {}",
                spec.alias,
                spec.tensor,
                joined(sent.keys()),
                joined(signature.defaults.keys())
            ))
        }),
    });
    let bound = bound.collect::<Result<Vec<_>>>()?;
    if used == count { Ok(bound) } else { Err(unused(signature, &sent)) }
}

/// Returns the positions of the outputs that `filter` names, in its order; all outputs if it names none. A filter's length
/// is not limited, but it is read only up to the first fault.
pub fn outputs<S: AsRef<str>>(
    signature: &Signature,
    filter: impl IntoIterator<Item = Result<S>>,
) -> Result<Positions> {
    let position = |alias: &str| {
        signature.output(alias).ok_or_else(|| {
            Error::invalid(format!(
                "output tensor alias not found in signature: {alias} Outputs expected to be in the set {{{}}}.",
                joined(signature.outputs.iter().map(|spec| &spec.alias))
            ))
        })
    };
    let (mut seen, mut wanted) = (BTreeSet::new(), Positions::new());
    for alias in filter {
        let alias = alias?;
        let alias = alias.as_ref();
        let position = position(alias)?;
        if !seen.insert(position) {
            return Err(Error::invalid(format!("duplicate output tensor alias: {alias}")));
        }
        wanted.push(position);
    }
    if wanted.is_empty() {
        wanted.extend(0..signature.outputs.len());
    }
    Ok(wanted)
}

/// Returns the error for too many or too few inputs.
pub fn wrong_count<T>(signature: &Signature, sent: &BTreeMap<String, T>) -> Error {
    let expected = || signature.inputs.iter().map(|spec| &spec.alias);
    Error::invalid(format!(
        "input size does not match signature: {}!={} len({{{}}}) != len({{{}}}). Sent extra: {{{}}}. Missing but \
         required: {{{}}}.",
        sent.len(),
        signature.inputs.len(),
        joined(sent.keys()),
        joined(expected()),
        joined(sent.keys().filter(|alias| signature.input(alias).is_none())),
        joined(expected().filter(|alias| !sent.contains_key(*alias))),
    ))
}

fn unused<T>(signature: &Signature, sent: &BTreeMap<String, T>) -> Error {
    Error::invalid(format!(
        "Inputs contains invalid name. Used request inputs: {}, request input: {}",
        joined(sent.keys().filter(|alias| signature.input(alias).is_some())),
        joined(sent.keys())
    ))
}

/// Joins aliases, which are sorted in all their collections.
fn joined<'a>(aliases: impl Iterator<Item = &'a String>) -> String {
    aliases.map(String::as_str).collect::<Vec<_>>().join(",")
}
