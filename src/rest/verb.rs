//! The verbs of the API: methods of a model, and the decoding of their bodies.

use super::decode::{self, DecodeLimits};
use super::wanted::wanted;
use super::{Format, features};
use crate::error::{Error, Result};
use crate::memory::Reservation;
use crate::methods::{Context, Request, ServerState, bind, examples};
use crate::metrics::Api;
use crate::servable::Servable;
use crate::tensor::Tensor;
use std::fmt;

/// One verb.
pub(super) struct Verb {
    /// The word in the path, after the colon.
    pub(super) word: &'static str,
    /// How its calls are counted.
    pub(super) api: Api,
    pub(super) decode: Decode,
}

/// What a client has sent.
#[derive(Clone, Copy)]
pub(super) struct Sent<'a> {
    pub(super) body: &'a [u8],
    /// The outputs that the query names, as they are there.
    pub(super) outputs: &'a str,
}

/// Decodes a body against the version called; an error of the body may take precedence over that of a missing version.
/// Also returns the format of the reply.
type Decode = fn(&ServerState, Sent<'_>, Result<&Servable, &Error>, &Context) -> Result<(Request, Format)>;

/// All verbs.
static VERBS: [Verb; 3] = [
    Verb { word: "predict", api: Api::Predict, decode: predict },
    Verb { word: "classify", api: Api::Classify, decode: classify },
    Verb { word: "regress", api: Api::Regress, decode: regress },
];

impl Verb {
    /// Returns the verb that `word` names.
    pub(super) fn named(word: &str) -> Option<&'static Verb> {
        VERBS.iter().find(|verb| verb.word == word)
    }
}

impl PartialEq for Verb {
    fn eq(&self, other: &Verb) -> bool {
        self.word == other.word
    }
}

impl Eq for Verb {}

impl fmt::Debug for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word)
    }
}

fn predict(
    server: &ServerState,
    sent: Sent<'_>,
    servable: Result<&Servable, &Error>,
    context: &Context,
) -> Result<(Request, Format)> {
    let limits = DecodeLimits { max_depth: server.options.max_depth };
    let asked =
        decode::predict(sent.body, servable.map(Servable::signatures), limits, server.scheduler.cores())?;
    // Bounded by the body: a number takes at least two characters and at most eight bytes.
    context.memory.grow(asked.inputs.iter().map(Tensor::memory).sum())?;
    let decode::Predict { format, signature, inputs, outputs } = asked;
    bind::check_method(server, signature)?;
    let outputs = wanted(signature, outputs, sent.outputs)?;
    Ok((Request::Predict { signature: signature.name.clone(), inputs, outputs }, format))
}

fn classify(
    _: &ServerState,
    sent: Sent<'_>,
    servable: Result<&Servable, &Error>,
    context: &Context,
) -> Result<(Request, Format)> {
    Ok((Request::Classify(examples(sent.body, servable, &context.memory)?), Format::Row))
}

fn regress(
    _: &ServerState,
    sent: Sent<'_>,
    servable: Result<&Servable, &Error>,
    context: &Context,
) -> Result<(Request, Format)> {
    Ok((Request::Regress(examples(sent.body, servable, &context.memory)?), Format::Row))
}

fn examples(
    body: &[u8],
    servable: Result<&Servable, &Error>,
    memory: &Reservation,
) -> Result<examples::Input> {
    let features::Examples { signature_name, examples, .. } = features::examples(body, memory)?;
    servable.map_err(Error::clone)?;
    Ok(examples::Input { signature_name, examples })
}
