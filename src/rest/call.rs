//! A call whose body was read: decoded, run, and its answer encoded, on whichever thread that is done.

use super::decode::{self, DecodeLimits};
use super::path::Verb;
use super::{Format, encode, features};
use crate::error::Result;
use crate::http::reply::Body;
use crate::methods::record::{self, Kind, Sample};
use crate::methods::{Context, ServerState, bind, examples, predict};
use crate::profile::{self, Phase};
use crate::servable::Servable;
use crate::tensor::{Strings, Tensor};
use std::sync::Arc;

/// A POST whose body was read: decode, then run, on any thread.
pub(super) struct Call {
    pub(super) server: Arc<ServerState>,
    pub(super) verb: Verb,
    pub(super) servable: Result<Arc<Servable>>,
    pub(super) context: Context,
}

/// What a body asks for, with all that is needed to run it.
pub(super) struct DecodedRequest {
    pub(super) servable: Arc<Servable>,
    pub(super) signature_name: String,
    pub(super) inputs: Inputs,
}

pub(super) enum Inputs {
    Predict(Format, Vec<Tensor>),
    Examples(Strings),
}

impl DecodedRequest {
    pub(super) fn in_caller(&self) -> bool {
        self.servable.in_caller(&self.signature_name)
    }
}

impl Call {
    pub(super) fn decode(&self, body: &[u8]) -> Result<DecodedRequest> {
        let _decode = profile::phase(Phase::Decode);
        let limits = DecodeLimits { max_depth: self.server.options.max_depth };
        let (signature_name, inputs) = match self.verb {
            Verb::Predict => {
                let signatures = self.servable.as_ref().map(|servable| servable.signatures());
                let asked = decode::predict(body, signatures, limits)?;
                // A number takes two characters at least, and eight bytes at most.
                self.context.memory.grow(asked.inputs.iter().map(Tensor::memory).sum())?;
                (asked.signature.name.clone(), Inputs::Predict(asked.format, asked.inputs))
            }
            Verb::Classify | Verb::Regress => {
                let asked = features::examples(body, &self.context.memory)?;
                (asked.signature_name, Inputs::Examples(asked.examples))
            }
        };
        Ok(DecodedRequest { servable: self.servable.clone()?, signature_name, inputs })
    }

    pub(super) fn run(&self, request: DecodedRequest, accepts_gzip: bool) -> Result<Body> {
        let sample = self.sample(&request);
        let DecodedRequest { servable, signature_name, inputs } = request;
        let body = match inputs {
            Inputs::Predict(format, inputs) => self.predict(&servable, &signature_name, format, inputs),
            Inputs::Examples(examples) => {
                self.examples(&servable, examples::Input { signature_name, examples })
            }
        }?;
        if let Some(sample) = sample {
            sample.keep();
        }
        Body::packed(body, accepts_gzip, &self.server.options).counted(&self.context.memory)
    }

    /// What `request` asks, where it is to be recorded.
    fn sample(&self, request: &DecodedRequest) -> Option<Sample> {
        let recorder = &self.server.recorder;
        if !recorder.is_active() {
            return None;
        }
        let DecodedRequest { servable, signature_name, inputs } = request;
        match inputs {
            Inputs::Predict(_, tensors) => {
                let signature = servable.signature(signature_name)?;
                let record = || record::predict_request(servable.name(), signature, tensors);
                recorder.sample(servable.name(), Kind::Predict, record)
            }
            Inputs::Examples(examples) => {
                let kind = if self.verb == Verb::Regress { Kind::Regress } else { Kind::Classify };
                let record = || record::examples_request(servable.name(), signature_name, examples);
                recorder.sample(servable.name(), kind, record)
            }
        }
    }

    fn predict(
        &self,
        servable: &Servable,
        signature: &str,
        format: Format,
        inputs: Vec<Tensor>,
    ) -> Result<Vec<u8>> {
        let signature = bind::signature(&self.server, servable, signature)?;
        let all: Vec<usize> = (0..signature.outputs.len()).collect();
        let tensors = predict::predict(servable, signature, inputs, &all, &self.context)?;
        let _encode = profile::phase(Phase::Encode);
        self.context.memory.grow(tensors.iter().map(text_size).sum())?;
        let names = signature.outputs.iter().map(|spec| spec.alias.as_str());
        encode::predict(format, &names.zip(&tensors).collect::<Vec<_>>(), self.server.options.non_utf8)
    }

    fn examples(&self, servable: &Servable, input: examples::Input) -> Result<Vec<u8>> {
        match self.verb {
            Verb::Regress => {
                encode::regressions(&examples::regress(&self.server, servable, input, &self.context)?)
            }
            Verb::Classify | Verb::Predict => {
                let classes = examples::classify(&self.server, servable, input, &self.context)?;
                encode::classifications(&classes, self.server.options.non_utf8)
            }
        }
    }
}

/// About what `tensor` takes as text.
fn text_size(tensor: &Tensor) -> usize {
    match tensor.dtype().size() {
        0 => tensor.memory(),
        // A bool and a comma; a small number, its sign and a comma.
        1 => 8 * tensor.len(),
        2 => 10 * tensor.len(),
        4 => 14 * tensor.len(),
        _ => 24 * tensor.len(),
    }
}
