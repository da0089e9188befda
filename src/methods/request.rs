//! A decoded request to a version, the plan of its run, and its answer: the same for all protocols.

use super::bind::unknown_signature;
use super::examples::{self, Classifications, Fetched, Input};
use super::{Context, ModelSpec, ServerState};
use crate::engine::signature::named;
use crate::error::{Error, Kind, Result};
use crate::metrics::Api;
use crate::servable::{Run, Servable};
use crate::tensor::{Strings, Tensor};
use smallvec::SmallVec;
use std::sync::Arc;

/// Positions of outputs in a signature; up to four need no allocation.
pub type Positions = SmallVec<[usize; 4]>;

/// A request to one version, checked against its signatures.
#[derive(Clone, Debug)]
pub enum Request {
    /// Run a signature.
    Predict {
        /// The signature, which the version is known to have.
        signature: Arc<str>,
        /// One tensor per input, in the signature's order (sorted by alias).
        inputs: Vec<Tensor>,
        /// The outputs wanted, as positions in the signature.
        outputs: Positions,
    },
    /// Get classes for examples.
    Classify(Input),
    /// Get a number for each example.
    Regress(Input),
    /// Run several signatures at once.
    MultiInference {
        /// The signatures, each with its method.
        tasks: Vec<(ModelSpec, examples::TaskMethod)>,
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
    Tasks(Vec<(ModelSpec, examples::TaskAnswer)>),
}

impl Answer<'_> {
    /// Returns the bytes of its tensors: those of other answers are few.
    pub(super) fn memory(&self) -> usize {
        match self {
            Answer::Outputs(outputs) => outputs.iter().map(|(_, tensor)| tensor.memory()).sum(),
            Answer::Classes(_) | Answer::Values(_) | Answer::Tasks(_) => 0,
        }
    }
}

impl Request {
    /// Returns the bytes of what it gives to the model.
    pub(super) fn memory(&self) -> usize {
        match self {
            Request::Predict { inputs, .. } => inputs.iter().map(Tensor::memory).sum(),
            Request::Classify(Input { examples, .. })
            | Request::Regress(Input { examples, .. })
            | Request::MultiInference { examples, .. } => examples.iter().map(<[u8]>::len).sum(),
        }
    }

    /// Returns the same in memory of its own.
    pub(super) fn copied(&self) -> Request {
        let mut copy = self.clone();
        match &mut copy {
            Request::Predict { inputs, .. } => inputs.iter_mut().for_each(|input| *input = input.copied()),
            Request::Classify(Input { examples, .. })
            | Request::Regress(Input { examples, .. })
            | Request::MultiInference { examples, .. } => *examples = examples.iter().collect(),
        }
        copy
    }

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

    /// Checks the request against `servable`, and returns what to run and how to read its outputs.
    pub fn plan(self, server: &ServerState, servable: &Servable) -> Result<Plan> {
        match self {
            Request::Predict { signature, inputs, outputs } => predict(servable, signature, inputs, outputs),
            Request::Classify(input) => {
                let (run, fetched) = examples::classify(server, servable, input)?;
                Ok(Plan { run, reading: Reading::Classes(fetched) })
            }
            Request::Regress(input) => {
                let (run, fetched) = examples::regress(server, servable, input)?;
                Ok(Plan { run, reading: Reading::Values(fetched) })
            }
            Request::MultiInference { tasks, examples } => {
                let (run, fetched) = examples::multi_inference(server, servable, &tasks, examples)?;
                let specs = tasks.into_iter().map(|(spec, _)| spec).collect();
                Ok(Plan { run, reading: Reading::Tasks(specs, fetched) })
            }
        }
    }
}

/// Plans a run of `signature`.
fn predict(
    servable: &Servable,
    signature: Arc<str>,
    inputs: Vec<Tensor>,
    outputs: Positions,
) -> Result<Plan> {
    let found = servable.signature(&signature).ok_or_else(|| unknown_signature(&signature))?;
    let mut feeds = Vec::with_capacity(inputs.len());
    for (spec, tensor) in found.inputs.iter().zip(inputs) {
        feeds.push((servable.endpoint(spec)?, tensor));
    }
    let mut fetches = Vec::with_capacity(outputs.len());
    for output in &outputs {
        fetches.push(servable.endpoint(&found.outputs[*output])?);
    }
    let run = Run { api: Api::Predict, signature: signature.clone(), feeds, fetches };
    Ok(Plan { run, reading: Reading::Outputs { signature, outputs } })
}

/// A request ready to run. Between its two halves, the request holds no thread and no reference to its version.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What to run.
    pub run: Run,
    /// How to read the run's outputs.
    pub reading: Reading,
}

/// Makes the answer to a request from the outputs of its run.
#[derive(Clone, Debug)]
pub enum Reading {
    /// Of predict.
    Outputs {
        /// The signature that was run.
        signature: Arc<str>,
        /// The outputs fetched, as positions in the signature.
        outputs: Positions,
    },
    /// Of classify.
    Classes(Fetched),
    /// Of regress.
    Values(Fetched),
    /// Of a multi-inference; with the signatures in the order of the request.
    Tasks(Vec<ModelSpec>, Fetched),
}

impl Reading {
    /// Returns the answer: `outputs` are what the run on `servable` returned.
    pub fn finish<'s>(
        self,
        servable: &'s Servable,
        outputs: Vec<Tensor>,
        context: &Context,
    ) -> Result<Answer<'s>> {
        context.memory.grow(outputs.iter().map(Tensor::memory).sum())?;
        match self {
            Reading::Outputs { signature, outputs: wanted } => {
                let signature =
                    servable.signature(&signature).ok_or_else(|| unknown_signature(&signature))?;
                if outputs.len() != wanted.len() {
                    return Err(Error::new(Kind::Unknown, "Predict internal error"));
                }
                let aliases = wanted.iter().map(|output| signature.outputs[*output].alias.as_str());
                Ok(Answer::Outputs(aliases.zip(outputs).collect()))
            }
            Reading::Classes(fetched) => fetched.classes(&outputs).map(Answer::Classes),
            Reading::Values(fetched) => fetched.values(&outputs).map(Answer::Values),
            Reading::Tasks(specs, fetched) => {
                Ok(Answer::Tasks(specs.into_iter().zip(fetched.answers(&outputs)?).collect()))
            }
        }
    }
}
