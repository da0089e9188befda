//! A decoded request to a version, and its answer: the same for all protocols.

use super::examples::{self, Classifications, Input};
use super::messages::named;
use super::{Context, ModelSpec, ServerState, predict};
use crate::error::Result;
use crate::servable::Servable;
use crate::tensor::{Strings, Tensor};

/// A request to one version, checked against its signatures.
#[derive(Clone, Debug)]
pub enum Request {
    /// Run a signature.
    Predict {
        /// The signature, which the version is known to have.
        signature: String,
        /// One tensor per input, in the signature's order (sorted by alias).
        inputs: Vec<Tensor>,
        /// The outputs wanted, as positions in the signature.
        outputs: Vec<usize>,
    },
    /// Get classes for examples.
    Classify(Input),
    /// Get a number for each example.
    Regress(Input),
    /// Run several signatures at once.
    MultiInference {
        /// The signatures, each with its method.
        tasks: Vec<(ModelSpec, examples::Method)>,
        /// Serialized Examples.
        examples: Strings,
    },
}

/// The answer of a version.
#[derive(Debug)]
pub enum Answer<'s> {
    /// The wanted outputs with their aliases, in the order of the request.
    Outputs(Vec<(&'s str, Tensor)>),
    /// The answer of classify.
    Classes(Classifications),
    /// The answer of regress.
    Values(Vec<f32>),
    /// The answer to each task of a multi-inference.
    Tasks(Vec<(ModelSpec, examples::Answer)>),
}

impl Request {
    /// Returns the signature that decides where the request runs.
    pub fn signature(&self) -> &str {
        match self {
            Request::Predict { signature, .. } => signature,
            Request::Classify(input) | Request::Regress(input) => named(&input.signature_name),
            Request::MultiInference { tasks, .. } => {
                named(tasks.first().map_or("", |(spec, _)| &spec.signature_name))
            }
        }
    }

    /// Answers the request with `servable`, in this thread.
    pub fn run<'s>(
        self,
        server: &ServerState,
        servable: &'s Servable,
        context: &Context,
    ) -> Result<Answer<'s>> {
        match self {
            Request::Predict { signature, inputs, outputs } => {
                predict::predict(servable, &signature, inputs, &outputs, context).map(Answer::Outputs)
            }
            Request::Classify(input) => {
                examples::classify(server, servable, input, context).map(Answer::Classes)
            }
            Request::Regress(input) => {
                examples::regress(server, servable, input, context).map(Answer::Values)
            }
            Request::MultiInference { tasks, examples } => {
                examples::multi_inference(server, servable, tasks, examples, context).map(Answer::Tasks)
            }
        }
    }
}
