//! The texts of errors that only gRPC has, which are Triton's where it has one.

use crate::error::Error;
use crate::open_inference::datatype;
use crate::open_inference::inputs::Expected;
use crate::open_inference::refusal::{self, shown};
use crate::pb::infer::Wrong;

/// Returns the error for bytes that are no `ModelInferRequest`.
pub(super) fn malformed() -> Error {
    Error::invalid("The request is not the message that this method takes: expected a ModelInferRequest")
}

/// Returns the error for an input with contents in a request with raw ones.
pub(super) fn contents_and_raw(model: &str, input: &str) -> Error {
    Error::invalid(format!(
        "contents field must not be specified when using raw_input_contents for '{}' for model '{}'",
        shown(input),
        shown(model)
    ))
}

/// Returns the error for an input with contents that are said to be in shared memory.
pub(super) fn contents_and_region(model: &str, input: &str) -> Error {
    Error::invalid(format!(
        "contents field must not be specified when using shared memory for '{}' for model '{}'",
        shown(input),
        shown(model)
    ))
}

/// Returns the error for an input whose elements are nowhere.
pub(super) fn no_data(model: &str, input: &str) -> Error {
    Error::invalid(format!(
        "unable to find data for input tensor '{}' for model '{}' in request.",
        shown(input),
        shown(model)
    ))
}

/// Returns the error for more raw contents than inputs.
pub(super) fn raw_count(model: &str, inputs: usize, raw: usize) -> Error {
    Error::invalid(format!(
        "the number of inputs ({inputs}) does not match the number of raw_input_contents ({raw}) for model '{}'",
        shown(model)
    ))
}

/// Returns the error for contents of the input that is `expected`.
pub(super) fn contents(model: &str, expected: &Expected<'_>, wrong: Wrong) -> Error {
    let (input, datatype) = (&expected.spec.alias, datatype::any_name(expected.spec.dtype));
    let (name, of) = (shown(input), shown(model));
    match wrong {
        Wrong::Malformed => malformed(),
        Wrong::Count(found) => refusal::wrong_count(input, expected.count, found),
        Wrong::Field(field) => Error::invalid(format!(
            "unexpected explicit tensor data for input tensor '{name}' for model '{of}' in {field}, expected datatype \
             '{datatype}'"
        )),
        Wrong::OnlyRaw => Error::invalid(format!(
            "explicit tensor data for input tensor '{name}' for model '{of}' cannot be of datatype '{datatype}': send it \
             in raw_input_contents"
        )),
        Wrong::Range(value) => Error::invalid(format!(
            "element {value} of input tensor '{name}' for model '{of}' is out of the range of datatype '{datatype}'"
        )),
    }
}
