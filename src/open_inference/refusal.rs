//! The texts of errors, which are Triton's where it has one: its clients' users know them.
//!
//! What a client has sent is shown up to a limit.

use super::datatype;
use crate::engine::signature::{Signature, TensorSpec};
use crate::error::{Error, Kind};
use crate::methods::ModelSpec;
use crate::registry::VersionChoice;
use crate::tensor::{DType, Tensor};
use std::fmt::{Display, Write};

/// Most characters of a name that are shown, and most dimensions of a shape.
const SHOWN: usize = 100;

/// Returns the error for a model or version that is not known.
pub fn unknown_model(spec: &ModelSpec) -> Error {
    let name = shown(&spec.name);
    Error::not_found(match &spec.choice {
        VersionChoice::Latest => format!("Request for unknown model: '{name}' is not found"),
        VersionChoice::Version(version) => {
            format!("Request for unknown model: '{name}' version {version} is not found")
        }
        VersionChoice::Label(label) => {
            format!("Request for unknown model: '{name}' with version label '{}' is not found", shown(label))
        }
    })
}

/// Returns the error for a model that cannot be asked now.
pub fn not_ready(spec: &ModelSpec) -> Error {
    let name = shown(&spec.name);
    Error::new(
        Kind::Unavailable,
        match &spec.choice {
            VersionChoice::Version(version) => {
                format!("Request for unknown model: '{name}' version {version} is not at ready state")
            }
            VersionChoice::Latest | VersionChoice::Label(_) => {
                format!("Request for unknown model: '{name}' has no available versions")
            }
        },
    )
}

/// Returns the error for a version that is no number.
pub fn version(text: &str) -> Error {
    Error::invalid(format!(
        "failed to get model version from specified version string '{}', version should be an integral value > 0",
        shown(text)
    ))
}

/// Returns the error for two names of the same thing that differ.
pub fn two_names(what: &str, one: &str, other: &str) -> Error {
    let (one, other) = (shown(one), shown(other));
    Error::invalid(format!("The request names two {what}s, '{one}' and '{other}': name one of them"))
}

/// Returns the error for an input that the signature does not have.
pub fn unknown_input(model: &str, name: &str, signature: &Signature) -> Error {
    Error::invalid(format!(
        "unexpected inference input '{}' for model '{}'; its inputs are {}",
        shown(name),
        shown(model),
        names(&signature.inputs)
    ))
}

/// Returns the error for an input that was given before.
pub fn input_twice(name: &str) -> Error {
    Error::invalid(format!("input '{}' already exists in request", shown(name)))
}

/// Returns the error for inputs that are missing: `given` has those that are there, in the signature's order.
pub fn missing_inputs(model: &str, signature: &Signature, given: &[bool]) -> Error {
    let some = |wanted: bool| {
        let inputs = signature.inputs.iter().zip(given);
        quoted(inputs.filter(|(_, given)| **given == wanted).map(|(spec, _)| spec.alias.as_str()))
    };
    Error::invalid(format!(
        "expected {} inputs but got {} inputs for model '{}'. Got input(s) {}, but missing required input(s) {}. \
         Please provide all required input(s).",
        given.len(),
        given.iter().filter(|given| **given).count(),
        shown(model),
        some(true),
        some(false)
    ))
}

/// Returns the error for a name that is no datatype.
pub fn unknown_datatype(input: &str, name: &str) -> Error {
    Error::invalid(format!(
        "input '{}' has the datatype '{}', which the protocol does not know; it knows BOOL, UINT8 to UINT64, INT8 to \
         INT64, FP16, BF16, FP32, FP64 and BYTES",
        shown(input),
        shown(name)
    ))
}

/// Returns the error for an input of another datatype.
pub fn wrong_datatype(model: &str, spec: &TensorSpec, got: DType) -> Error {
    Error::invalid(format!(
        "inference input '{}' data-type is '{}', but model '{}' expects '{}'",
        shown(&spec.alias),
        datatype::any_name(got),
        shown(model),
        datatype::any_name(spec.dtype)
    ))
}

/// Returns the error for a shape that no tensor has.
pub fn impossible_shape(input: &str, shape: &[i64]) -> Error {
    Error::invalid(format!(
        "input '{}' has the shape {}, which no tensor has: expected at most {} dimensions of at least 0, and no more \
         elements than memory can hold",
        shown(input),
        shape_text(shape),
        super::inputs::MAX_RANK
    ))
}

/// Returns the error for a shape that the signature does not allow.
pub fn wrong_shape(model: &str, spec: &TensorSpec, expected: &[i64], got: &[i64]) -> Error {
    Error::invalid(format!(
        "unexpected shape for input '{}' for model '{}'. Expected {}, got {}",
        shown(&spec.alias),
        shown(model),
        shape_text(expected),
        shape_text(got)
    ))
}

/// Returns the error for data of another size than shape and datatype make.
pub fn wrong_size(input: &str, expected: usize, got: usize) -> Error {
    Error::invalid(format!(
        "unexpected total byte size {got} for input '{}', expecting {expected}: its shape and datatype make so many",
        shown(input)
    ))
}

/// Returns the error for a number of elements other than the shape's.
pub fn wrong_count(input: &str, expected: usize, got: usize) -> Error {
    Error::invalid(format!(
        "unexpected number of elements {got} for input '{}', expecting {expected}: its shape makes so many",
        shown(input)
    ))
}

/// Returns the error for binary BYTES that are not lengths and strings to their end.
pub fn bad_strings(input: &str, expected: usize, why: &str) -> Error {
    Error::invalid(format!(
        "input '{}' is not {expected} strings, each after its length in 4 bytes (little-endian): {why}",
        shown(input)
    ))
}

/// Returns the error for binary BOOL with other bytes than 0 and 1.
pub fn no_truth_value(input: &str) -> Error {
    Error::invalid(format!(
        "input '{}' has a BOOL that is neither 0 nor 1: send array.astype(bool), a byte each",
        shown(input)
    ))
}

/// Returns the error for an input without data.
pub fn no_data(input: &str) -> Error {
    Error::invalid(format!("input '{}' has no data", shown(input)))
}

/// Returns the error for an output that the signature does not have.
pub fn unknown_output(model: &str, name: &str, signature: &Signature) -> Error {
    Error::invalid(format!(
        "unexpected inference output '{}' for model '{}'; its outputs are {}",
        shown(name),
        shown(model),
        names(&signature.outputs)
    ))
}

/// Returns the error for an output that was asked for before.
pub fn output_twice(name: &str) -> Error {
    Error::invalid(format!("output '{}' already requested", shown(name)))
}

/// Returns the error for an output that the protocol cannot tell.
pub fn unsayable_output(spec: &TensorSpec) -> Error {
    Error::invalid(format!(
        "output '{}' is of type {}, which the protocol cannot tell: ask for other outputs by name, or use TensorFlow \
         Serving's API",
        shown(&spec.alias),
        spec.dtype.name()
    ))
}

/// Returns the error for classes of an output that has no scores.
pub fn no_classes(spec: &TensorSpec) -> Error {
    Error::invalid(format!(
        "classification is not possible for output '{}' of datatype {}: it needs numbers",
        shown(&spec.alias),
        datatype::any_name(spec.dtype)
    ))
}

/// Returns the error for an output whose type is another than the signature says.
pub fn unsayable(tensor: &Tensor, name: &str) -> Error {
    let dtype = tensor.dtype().name();
    Error::internal(format!("output '{}' is of type {dtype}, which the protocol cannot tell", shown(name)))
}

/// Returns the error for a parameter of the wrong type or out of range.
pub fn parameter(name: &str, expected: &str) -> Error {
    Error::invalid(format!("parameter '{}' expects {expected}", shown(name)))
}

/// Returns the error for data in shared memory.
pub fn no_shared_memory(name: &str) -> Error {
    Error::invalid(format!(
        "parameter '{}' is for shared memory, which this server does not offer: send the data in the request, or \
         start the server with --shared_memory",
        shown(name)
    ))
}

/// Returns the error for regions of shared memory where clients may not register any.
pub fn no_regions() -> Error {
    Error::new(
        Kind::Unimplemented,
        "This server offers no shared memory: start it with --shared_memory, or send the data in requests",
    )
}

/// Returns the error for the memory of a GPU.
pub fn no_cuda_memory() -> Error {
    Error::new(
        Kind::Unimplemented,
        "CUDA shared memory is not offered: use system shared memory, or send the data in requests",
    )
}

/// Returns the error for loading or unloading where clients may not.
pub fn no_control() -> Error {
    Error::new(
        Kind::PermissionDenied,
        "Clients may not load and unload models: start the server with --open_inference_model_control, or use its \
         administration",
    )
}

/// Returns the error for a parameter of a load that would change what a model is made of.
pub fn no_override(name: &str) -> Error {
    Error::invalid(format!(
        "parameter '{}' is not possible: a model is loaded as this server has it configured. Change that by its \
         configuration or its administration",
        shown(name)
    ))
}

/// Returns `text`, cut off where it becomes too long to show.
pub fn shown(text: &str) -> impl Display {
    let cut = text.char_indices().nth(SHOWN).map_or(text.len(), |(at, _)| at);
    let end = if cut < text.len() { "…" } else { "" };
    format!("{}{end}", &text[..cut])
}

/// Writes a shape as `[-1,3]`.
pub fn shape_text(shape: &[i64]) -> String {
    let mut text = "[".to_owned();
    for (index, dim) in shape.iter().take(SHOWN).enumerate() {
        let comma = if index > 0 { "," } else { "" };
        // Writing to a string succeeds.
        let _written = write!(text, "{comma}{dim}");
    }
    text.push_str(if shape.len() > SHOWN { ",…]" } else { "]" });
    text
}

/// Lists the names of inputs or outputs.
pub fn names(specs: &[TensorSpec]) -> String {
    quoted(specs.iter().map(|spec| spec.alias.as_str()))
}

/// Lists names of the model, as Triton does.
fn quoted<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.take(SHOWN).map(|name| format!("'{}'", shown(name))).collect();
    format!("[{}]", names.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_sent_is_shown_in_part() {
        let long = "ä".repeat(1000);
        assert_eq!(shown(&long).to_string().chars().count(), SHOWN + 1);
        assert_eq!((shown("x").to_string(), shown("").to_string()), ("x".into(), String::new()));
        assert!(input_twice(&long).message.len() < 300);
        assert_eq!((shape_text(&[]), shape_text(&[-1, 3])), ("[]".into(), "[-1,3]".into()));
        assert!(shape_text(&[1; 1000]).ends_with(",1,…]"));
    }
}
