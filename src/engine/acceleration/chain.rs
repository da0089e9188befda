//! One or more models that together compute a signature: each takes what the request and those before it provide.
//!
//! Another engine may answer what TensorFlow refuses, or end the process, and differs from it where there are no numbers,
//! or numbers that are not finite. So it gets only finite numbers, in tensors that are not empty and have shapes for
//! which its answer was compared with TensorFlow's; and what it answers has to be finite. Nor does it get numbers so
//! large that sums and products of them become infinite: by another order of these, one engine may have a number where the
//! other has none.

use super::cut::Parts;
use crate::engine::choice::EngineKind;
use crate::engine::frozen::FrozenGraph;
use crate::engine::shapes::{KnownShapes, Shapes, shapes_of};
use crate::engine::signature::TensorSpec;
use crate::engine::{Endpoint, Model, RunOptions};
use crate::error::{Error, Kind, Result};
use crate::tensor::{DType, Tensor};
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A value's place in the table of a run.
type Slot = usize;

/// The models of a signature, in the order in which they run.
pub(super) struct Chain {
    /// Where the values of a request go, and where those of its answer come from: by endpoint of the reference.
    inputs: Vec<(Endpoint, Slot)>,
    outputs: Vec<(Endpoint, Slot)>,
    steps: Vec<Step>,
    slots: usize,
}

struct Step {
    model: Box<dyn Model>,
    /// The shapes that another engine may run; `None` for TensorFlow, which may run all.
    known: Option<KnownShapes>,
    feeds: Vec<(Slot, Endpoint)>,
    fetches: Vec<(Endpoint, Slot)>,
}

/// The endpoints of a signature, in its order of inputs and of outputs.
#[derive(Clone, Debug)]
pub(super) struct Ends {
    pub(super) inputs: Vec<Endpoint>,
    pub(super) outputs: Vec<Endpoint>,
}

impl Chain {
    /// Opens the parts of `whole`, the graph of a signature with these `ends`: each by `open`, with the engine for it.
    pub(super) fn open(
        whole: &FrozenGraph,
        parts: &Parts,
        engine: EngineKind,
        ends: &Ends,
        open: impl Fn(EngineKind, &FrozenGraph) -> Result<Box<dyn Model>>,
    ) -> Result<Chain> {
        let mut slots: BTreeMap<String, Slot> = BTreeMap::new();
        let inputs = placed(&mut slots, &whole.inputs, &ends.inputs, true)?;
        let mut steps = Vec::new();
        let parts = [
            (EngineKind::TensorFlow, parts.before.as_ref()),
            (engine, Some(&parts.fast)),
            (EngineKind::TensorFlow, parts.after.as_ref()),
        ];
        for (engine, part) in parts {
            let Some(part) = part else { continue };
            let known = (engine != EngineKind::TensorFlow).then(KnownShapes::default);
            steps.push(Step::open(&mut slots, part, open(engine, part)?, known)?);
        }
        let outputs = placed(&mut slots, &whole.outputs, &ends.outputs, false)?;
        Ok(Chain { inputs, outputs, steps, slots: slots.len() })
    }

    /// Runs the models that `fetches` need; feeds and fetches are endpoints of the reference.
    pub(super) fn run(
        &self,
        feeds: &[(Endpoint, Tensor)],
        fetches: &[Endpoint],
        options: RunOptions,
        new_shapes: NewShapes,
    ) -> Result<Vec<Tensor>, Declined> {
        let begun = Instant::now();
        let mut values: SmallVec<[Option<Tensor>; 8]> = SmallVec::from_elem(None, self.slots);
        for (endpoint, tensor) in feeds {
            for (_, slot) in self.inputs.iter().filter(|(input, _)| input == endpoint) {
                values[*slot] = Some(tensor.clone());
            }
        }
        let wanted = fetches
            .iter()
            .map(|fetch| {
                self.outputs
                    .iter()
                    .find(|(output, _)| output == fetch)
                    .map(|(_, slot)| *slot)
                    .ok_or_else(missing)
            })
            .collect::<Result<SmallVec<[Slot; 4]>>>()?;
        for step in &self.steps {
            if wanted.iter().all(|slot| values[*slot].is_some()) {
                break;
            }
            let timeout = options.timeout.map(|timeout| time_left(timeout, begun.elapsed())).transpose()?;
            step.run(&mut values, RunOptions { timeout, ..options }, new_shapes)?;
        }
        wanted.iter().map(|slot| values[*slot].clone().ok_or_else(|| missing().into())).collect()
    }

    /// Tries out what its models have for many runs at once ([`Model::share_cores`]).
    pub(super) fn share_cores(&self, shared: bool) -> Result<()> {
        self.steps.iter().try_for_each(|step| step.model.share_cores(shared))
    }

    /// Keeps whether the other engine's answer to a run of `shapes`, which was declined for these, is that of the reference.
    pub(super) fn learn(&self, shapes: Shapes, are_alike: bool) {
        if let Some(known) = self.known() {
            known.learn(shapes, are_alike);
        }
    }

    fn known(&self) -> Option<&KnownShapes> {
        self.steps.iter().find_map(|step| step.known.as_ref())
    }
}

/// What is done with shapes that the other engine has not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NewShapes {
    /// The run is declined.
    Declined,
    /// They are run, and stay new.
    Tried,
    /// They are run, and are known from now on: the caller compares the answer, and drops the chain if it is wrong.
    Learned,
}

/// Why a chain did not do a run.
#[derive(Debug)]
pub(super) enum Declined {
    /// The other engine would get shapes that it has not run yet.
    Shapes(Shapes),
    /// It would get shapes for which its answer was not TensorFlow's.
    Unlike,
    /// It would get, or has made, numbers that are not finite, or would get too large ones; or there are none.
    Numbers,
    /// A model failed.
    Failed(Error),
}

impl From<Error> for Declined {
    fn from(why: Error) -> Declined {
        Declined::Failed(why)
    }
}

/// Declines feeds that the other engine may not get; `known`: the shapes of which it was tried, and whether its answer was
/// TensorFlow's.
fn check(known: &KnownShapes, feeds: &[(Endpoint, Tensor)], new_shapes: NewShapes) -> Result<(), Declined> {
    if !feeds.iter().all(|(_, tensor)| is_moderate(tensor)) {
        return Err(Declined::Numbers);
    }
    let shapes = shapes_of(feeds.iter().map(|(_, tensor)| tensor));
    match (known.get(&shapes), new_shapes) {
        (Some(true), _) | (None, NewShapes::Tried) => Ok(()),
        (Some(false), _) => Err(Declined::Unlike),
        (None, NewShapes::Declined) => Err(Declined::Shapes(shapes)),
        (None, NewShapes::Learned) => {
            known.learn(shapes, true);
            Ok(())
        }
    }
}

/// Another engine gets only numbers below this, 2⁴⁸: a sum of 2³⁰ squares of such numbers stays finite.
pub(super) const LIMIT: f32 = 281_474_976_710_656.0;

/// Returns whether there are numbers, and all of them are below [`LIMIT`]. Another engine gets no floats but of 32 bits.
pub(super) fn is_moderate(tensor: &Tensor) -> bool {
    are_below(tensor, LIMIT)
}

/// Returns whether there are numbers, and all of them are finite.
fn is_plain(tensor: &Tensor) -> bool {
    are_below(tensor, f32::INFINITY)
}

/// Returns whether there are numbers, and the absolute values of all floats are below `limit`, a power of two or infinite.
fn are_below(tensor: &Tensor, limit: f32) -> bool {
    const EXPONENT: u32 = 0x7f80_0000;
    let limit = limit.to_bits();
    let is_large = |four: &[u8; 4]| u32::from_le_bytes(*four) & EXPONENT >= limit;
    let (numbers, _) = tensor.bytes().as_chunks::<4>();
    // Without an early end, the compiler looks at many at once.
    !tensor.is_empty()
        && (tensor.dtype() != DType::Float
            || !numbers.iter().fold(false, |found, four| found | is_large(four)))
}

impl Step {
    fn open(
        slots: &mut BTreeMap<String, Slot>,
        part: &FrozenGraph,
        model: Box<dyn Model>,
        known: Option<KnownShapes>,
    ) -> Result<Step> {
        let endpoint = |spec: &TensorSpec| {
            model.endpoint(&spec.tensor).ok_or_else(|| Error::internal(format!("{} was lost", spec.tensor)))
        };
        let ends = |specs: &[TensorSpec]| specs.iter().map(endpoint).collect::<Result<Vec<_>>>();
        let (inputs, outputs) = (ends(&part.inputs)?, ends(&part.outputs)?);
        let feeds = placed(slots, &part.inputs, &inputs, false)?;
        let fetches = placed(slots, &part.outputs, &outputs, true)?;
        let feeds = feeds.into_iter().map(|(endpoint, slot)| (slot, endpoint)).collect();
        Ok(Step { model, known, feeds, fetches })
    }

    fn run(
        &self,
        values: &mut [Option<Tensor>],
        options: RunOptions,
        new_shapes: NewShapes,
    ) -> Result<(), Declined> {
        let feeds = self
            .feeds
            .iter()
            .map(|(slot, endpoint)| Ok((*endpoint, values[*slot].clone().ok_or_else(missing)?)))
            .collect::<Result<SmallVec<[_; 4]>>>()?;
        if let Some(known) = &self.known {
            check(known, &feeds, new_shapes)?;
        }
        let fetches: SmallVec<[Endpoint; 4]> = self.fetches.iter().map(|(endpoint, _)| *endpoint).collect();
        let outputs = self.model.run(&feeds, &fetches, options)?;
        if self.known.is_some() && !outputs.iter().all(is_plain) {
            return Err(Declined::Numbers);
        }
        for ((_, slot), output) in self.fetches.iter().zip(outputs) {
            values[*slot] = Some(output);
        }
        Ok(())
    }
}

/// Returns the slot of each of `specs` beside its endpoint. `new`: values that are made here; others are there already.
fn placed(
    slots: &mut BTreeMap<String, Slot>,
    specs: &[TensorSpec],
    endpoints: &[Endpoint],
    new: bool,
) -> Result<Vec<(Endpoint, Slot)>> {
    if specs.len() != endpoints.len() {
        return Err(Error::internal(format!("{} endpoints for {} tensors", endpoints.len(), specs.len())));
    }
    let mut placed = Vec::with_capacity(specs.len());
    for (spec, endpoint) in specs.iter().zip(endpoints) {
        let next = slots.len();
        let slot = match slots.get(&spec.tensor) {
            Some(slot) => *slot,
            None if new => *slots.entry(spec.tensor.clone()).or_insert(next),
            None => return Err(Error::internal(format!("Nothing provides {}", spec.tensor))),
        };
        placed.push((*endpoint, slot));
    }
    Ok(placed)
}

/// Returns what is left of `timeout`, or the error if nothing is.
pub(super) fn time_left(timeout: Duration, passed: Duration) -> Result<Duration> {
    let left = timeout.checked_sub(passed).filter(|left| !left.is_zero());
    left.ok_or_else(|| {
        Error::new(Kind::DeadlineExceeded, "The deadline passed between two parts of the model")
    })
}

fn missing() -> Error {
    Error::invalid("A run needs a value for each input, and fetches outputs of the same signature")
}
