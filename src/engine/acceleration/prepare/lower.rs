//! The candidate in the lower precision that was asked for: its answers are measured instead of compared.

use super::super::accuracy::Accuracy;
use super::super::chain::{Chain, Declined, NewShapes, is_moderate};
use super::super::cut::Parts;
use super::super::decisions::Decision;
use super::super::probe::{self, Feeds};
use super::super::quantized::{Calibration, no_requests, says_something};
use super::super::report::{Candidate, Times};
use super::{Task, Tried, name};
use crate::engine::choice::EngineKind;
use crate::engine::frozen::FrozenGraph;
use crate::engine::signature::{Signature, TensorSpec};
use crate::engine::{Endpoint, Model, RunOptions, Termination};
use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

impl Task<'_> {
    /// Returns the better one of `exact`, the fast engine's candidate with 32 bits, and of that in the precision that was
    /// asked for, if one was.
    pub(super) fn or_lower(&self, exact: Option<Tried>, frozen: &FrozenGraph) -> Option<Tried> {
        if self.tools.precision().is_none() || !self.shared.goes_on() {
            return exact;
        }
        match (exact, self.try_lower(None, frozen)) {
            (Some(exact), Some(lower)) if self.rules.forced || lower.speed() > exact.speed() => {
                self.refuse(&exact.engine_name, &format!("{} was asked for", lower.engine_name));
                Some(lower)
            }
            (Some(exact), Some(lower)) => {
                self.refuse(&lower.engine_name, "not faster than with floats of 32 bits");
                Some(exact)
            }
            (exact, lower) => lower.or(exact),
        }
    }

    /// Tries the fast engine in the precision that was asked for.
    pub(super) fn try_lower(&self, times: Option<Times>, frozen: &FrozenGraph) -> Option<Tried> {
        let precision = self.tools.precision()?;
        // Why there are no parts, is said of the candidate with 32 bits.
        let parts = self.tools.fast_engine().and_then(|()| self.tools.plan(frozen)).ok()?;
        let engine = EngineKind::OpenVino;
        let engine_name = format!("{} {precision}", name(engine, &parts));
        let mut candidate = Candidate { times, ..Candidate::new(engine_name.clone()) };
        let tried = self.open_lower(engine, frozen, &parts).and_then(|chain| {
            self.judge(&chain, &mut candidate)?;
            self.timed(chain, &mut candidate, &|chain, candidate| self.judge(chain, candidate))
        });
        candidate.refusal = tried.as_ref().err().cloned().unwrap_or_default();
        self.log(&candidate);
        let times = candidate.times;
        self.tell(candidate);
        tried.ok().map(|chain| Tried { chain, engine, engine_name, times, precision })
    }

    /// Returns why `tried` is not in the precision that was asked for; `None` if it is, or none was. `before`: what was
    /// decided at an earlier start.
    pub(super) fn not_lower(&self, tried: &Tried, before: Option<&Decision>) -> Option<String> {
        let precision = self.tools.precision().filter(|_| tried.precision.is_empty())?;
        let ending = format!(" {precision}");
        let candidates = self.route.report().candidates;
        let refused = candidates.into_iter().find(|candidate| candidate.engine.ends_with(&ending));
        match (refused, before) {
            (Some(refused), _) => Some(format!("not in {precision}: {}", refused.refusal)),
            (None, Some(before)) => Some(before.reason.clone()),
            (None, None) => Some(format!("not in {precision}: {}", self.reason())),
        }
    }

    fn open_lower(&self, engine: EngineKind, frozen: &FrozenGraph, parts: &Parts) -> Result<Chain, String> {
        let requests = || self.calibration(engine, frozen, parts);
        let goes_on = || self.shared.goes_on();
        let open = |part_engine: EngineKind, graph: &FrozenGraph| match part_engine {
            EngineKind::TensorFlow => self.tools.open(part_engine, graph),
            EngineKind::OpenVino | EngineKind::Onnx | EngineKind::LiteRt => {
                self.tools.open_lower(graph, &Calibration { requests: &requests, goes_on: &goes_on })
            }
        };
        Chain::open(frozen, parts, engine, &self.route.ends, open).map_err(|why| self.refused(why))
    }

    /// Returns what the fast engine's part gets for the requests that came, without those that say nothing.
    fn calibration(
        &self,
        engine: EngineKind,
        frozen: &FrozenGraph,
        parts: &Parts,
    ) -> Result<Vec<Vec<Tensor>>> {
        let seen: Arc<Mutex<Vec<Tensor>>> = Arc::default();
        let open = |part_engine: EngineKind, graph: &FrozenGraph| match part_engine {
            EngineKind::TensorFlow => self.tools.open(part_engine, graph),
            EngineKind::OpenVino | EngineKind::Onnx | EngineKind::LiteRt => {
                Ok(Box::new(Seeing::new(graph, seen.clone())) as Box<dyn Model>)
            }
        };
        let chain = Chain::open(frozen, parts, engine, &self.route.ends, open)?;
        let mut requests = Vec::new();
        for feeds in self.route.samples.all() {
            // It ends with an error at the fast engine's part. Requests with numbers that are not finite do not reach it.
            let _ended = chain.run(&feeds, &self.route.ends.outputs, self.options(), NewShapes::Learned);
            let tensors = std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner));
            if says_something(&tensors) {
                requests.push(tensors);
            }
        }
        Ok(requests)
    }

    /// Measures the answers of `chain` to the requests that came; those to made-up ones have to be of the same kind.
    fn judge(&self, chain: &Chain, candidate: &mut Candidate) -> Result<(), String> {
        let requests = self.telling();
        if requests.is_empty() {
            return Err(self.failed(no_requests("its accuracy is measured")));
        }
        let made_up = probe::inputs(self.inputs()?, &self.sample, self.ends());
        let mut accuracy = Accuracy::default();
        let mut answered = 0;
        for (at, feeds) in requests.iter().chain(&made_up).enumerate() {
            if !self.shared.goes_on() {
                return Err("the version is being unloaded".to_owned());
            }
            let (options, outputs) = (self.options(), &self.route.ends.outputs);
            let Ok(expected) = self.shared.reference.run(feeds, outputs, options) else { continue };
            let is_plain_here = || {
                let tensors = feeds.iter().map(|(_, tensor)| tensor).chain(&expected);
                at < requests.len() && tensors.into_iter().all(is_moderate)
            };
            match chain.run(feeds, outputs, options, NewShapes::Learned) {
                Ok(got) if at < requests.len() => {
                    accuracy.add(&expected, &got)?;
                    answered += 1;
                }
                Ok(got) => Accuracy::default().add(&expected, &got)?,
                Err(Declined::Numbers) if is_plain_here() => {
                    return Err("its numbers are not finite where TensorFlow's are".to_owned());
                }
                Err(Declined::Numbers | Declined::Shapes(_) | Declined::Unlike) => {}
                Err(Declined::Failed(why)) => return Err(format!("it refused a run: {}", self.failed(why))),
            }
        }
        if answered == 0 {
            return Err(self.failed(Error::invalid("no answer could be measured")));
        }
        (candidate.difference, candidate.agreement) = (Some(accuracy.difference), accuracy.agreement());
        accuracy.refusal().map_or(Ok(()), Err)
    }

    /// Returns the requests that came, without made-up ones, whose numbers say nothing.
    fn telling(&self) -> Vec<Feeds> {
        let tells = |feeds: &Feeds| {
            let tensors: Vec<Tensor> = feeds.iter().map(|(_, tensor)| tensor.clone()).collect();
            tensors.iter().any(|tensor| tensor.dtype() == DType::String) || says_something(&tensors)
        };
        self.route.samples.all().into_iter().filter(tells).collect()
    }

    fn log(&self, candidate: &Candidate) {
        let (name, signature, engine) = (&self.shared.name, &self.route.signature, &candidate.engine);
        let Some(difference) = candidate.difference else { return };
        let agreeing = candidate.agreement.map(|share| format!(", {:.1} % agree", share * 100.0));
        let agreeing = agreeing.unwrap_or_default();
        tracing::info!(
            "{name}: signature {signature}: {engine} answers requests with a largest difference of \
             {difference:.1e}{agreeing}"
        );
    }

    /// Says of a candidate that was told, why it was not chosen.
    fn refuse(&self, engine: &str, why: &str) {
        self.route.tell(|report| {
            let told = report.candidates.iter_mut().find(|candidate| candidate.engine == engine);
            told.into_iter().for_each(|told| why.clone_into(&mut told.refusal));
        });
    }
}

/// Stands where the fast engine's part would, and keeps what it gets.
struct Seeing {
    names: Vec<String>,
    seen: Arc<Mutex<Vec<Tensor>>>,
}

impl Seeing {
    fn new(graph: &FrozenGraph, seen: Arc<Mutex<Vec<Tensor>>>) -> Seeing {
        let specs: [&[TensorSpec]; 2] = [&graph.inputs, &graph.outputs];
        Seeing { names: specs.concat().into_iter().map(|spec| spec.tensor).collect(), seen }
    }
}

impl Model for Seeing {
    fn signatures(&self) -> &BTreeMap<String, Signature> {
        static NONE: BTreeMap<String, Signature> = BTreeMap::new();
        &NONE
    }

    fn endpoint(&self, tensor: &str) -> Option<Endpoint> {
        let place = self.names.iter().position(|name| name == tensor);
        place.and_then(|place| u32::try_from(place).ok()).map(Endpoint)
    }

    fn changes_nothing(&self, _: &str) -> bool {
        true
    }

    fn termination(&self, _: &str) -> Termination {
        Termination::ByShapes
    }

    fn run(&self, feeds: &[(Endpoint, Tensor)], _: &[Endpoint], _: RunOptions) -> Result<Vec<Tensor>> {
        let tensors = feeds.iter().map(|(_, tensor)| tensor.clone()).collect();
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = tensors;
        Err(Error::internal("It computes nothing"))
    }
}
