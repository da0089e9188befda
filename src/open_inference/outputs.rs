//! The outputs that a request asks for.

use super::parameters::OfOutput;
use super::shared_memory::{Placed, REGION, Regions};
use super::{classification, datatype, refusal};
use crate::engine::signature::{Signature, TensorSpec};
use crate::error::Result;
use crate::memory::Reservation;
use crate::methods::Positions;
use crate::tensor::{DType, Tensor};
use smallvec::SmallVec;

/// The outputs that a request asks for, as they come.
pub struct Outputs<'s> {
    /// As the client calls it, for errors.
    model: &'s str,
    signature: &'s Signature,
    chosen: Chosen,
}

/// The outputs chosen, in the order of the answer.
#[derive(Clone, Debug, Default)]
pub struct Chosen {
    /// As positions in the signature.
    pub positions: Positions,
    /// What is said of each; none if nothing is said of any.
    said: SmallVec<[OfOutput; 2]>,
    /// Where each is to be put in shared memory; none if none is.
    pub(super) places: Vec<Option<Placed>>,
}

impl<'s> Outputs<'s> {
    /// Starts without any. `model`: as the client calls it.
    pub fn new(model: &'s str, signature: &'s Signature) -> Outputs<'s> {
        Outputs { model, signature, chosen: Chosen::default() }
    }

    /// Adds output `name`, with what its parameters say.
    pub fn add(&mut self, name: &str, said: OfOutput) -> Result<()> {
        let Some(position) = self.signature.output(name) else {
            return Err(refusal::unknown_output(self.model, name, self.signature));
        };
        if self.chosen.positions.contains(&position) {
            return Err(refusal::output_twice(name));
        }
        let spec = &self.signature.outputs[position];
        if said.classes > 0 && matches!(spec.dtype, DType::String | DType::Bool) {
            return Err(refusal::no_classes(spec));
        }
        self.chosen.positions.push(position);
        self.chosen.said.push(said);
        Ok(())
    }

    /// Returns the outputs added; all of the signature if there are none.
    pub fn finish(mut self) -> Result<Chosen> {
        if self.chosen.positions.is_empty() {
            self.chosen.positions.extend(0..self.signature.outputs.len());
        }
        let is_sayable = |spec: &TensorSpec| datatype::name(spec.dtype).is_some();
        for position in &self.chosen.positions {
            let spec = &self.signature.outputs[*position];
            if !is_sayable(spec) {
                return Err(refusal::unsayable_output(spec));
            }
        }
        Ok(self.chosen)
    }
}

impl Chosen {
    /// Returns what is said of the output at `index` of the answer.
    pub fn said(&self, index: usize) -> OfOutput {
        self.said.get(index).cloned().unwrap_or_default()
    }

    /// Returns the classes of the output at `index` of the answer, if it is wanted so; its tensor is to be told otherwise.
    /// Counts what they take in `memory`.
    pub fn classified(&self, index: usize, tensor: &Tensor, memory: &Reservation) -> Result<Option<Tensor>> {
        match self.said.get(index).map_or(0, |said| said.classes) {
            0 => Ok(None),
            classes => classification::of(tensor, classes, memory).map(Some),
        }
    }

    /// Finds the places of those outputs that are wanted in shared memory, if there is any.
    pub fn placed(mut self, shared: Option<Regions<'_>>) -> Result<Chosen> {
        if self.said.iter().all(|said| said.shared.is_none()) {
            return Ok(self);
        }
        shared.ok_or_else(|| refusal::no_shared_memory(REGION))?.put(&mut self)?;
        Ok(self)
    }

    /// Returns where the output at `index` of the answer is to be put, if that is in shared memory.
    pub fn place(&self, index: usize) -> Option<&Placed> {
        self.places.get(index)?.as_ref()
    }
}
