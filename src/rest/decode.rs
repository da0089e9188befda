//! JSON bodies → tensors, guided by the signature. (Placeholder until the decoder lands.)

use super::Format;
use crate::error::{Error, Kind, Result};
use crate::servable::signature::Signature;
use crate::tensor::{Strings, Tensor};
use std::collections::BTreeMap;

/// Limits on what is followed.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The deepest nesting.
    pub max_depth: usize,
}

/// A predict request.
#[derive(Debug)]
pub struct Predict<'s> {
    /// Its shape.
    pub format: Format,
    /// The signature it names.
    pub signature: &'s Signature,
    /// One tensor per input, in the signature's order.
    pub inputs: Vec<Tensor>,
}

/// A classify or regress request.
#[derive(Debug)]
pub struct Examples {
    /// The signature it names; empty for the default.
    pub signature_name: String,
    /// Serialized Examples.
    pub examples: Strings,
}

/// Decodes a predict body.
pub fn predict<'s>(
    _body: &[u8],
    _signatures: Result<&'s BTreeMap<String, Signature>, &Error>,
    _limits: Limits,
) -> Result<Predict<'s>> {
    Err(Error::new(Kind::Unimplemented, "The decoder has not landed"))
}

/// Decodes a classify or regress body.
pub fn examples(_body: &[u8], _limits: Limits) -> Result<Examples> {
    Err(Error::new(Kind::Unimplemented, "The decoder has not landed"))
}
