//! A graph that stands by itself: the part of a model that computes one signature, with nothing outside of it.

use super::signature::TensorSpec;
use crate::pb::tensorflow::GraphDef;
use prost::Message;
use sha2::{Digest, Sha256};

/// A TensorFlow graph without functions and variables: what another session, or another engine, can load alone.
#[derive(Clone, Debug)]
pub struct FrozenGraph {
    /// The nodes; it has no function library. Its inputs are `Placeholder` nodes, each named as in `inputs`.
    pub graph: GraphDef,
    /// The inputs, in the order of the signature; `tensor` names the tensor in `graph`, such as `x:0`.
    pub inputs: Vec<TensorSpec>,
    /// The outputs, likewise.
    pub outputs: Vec<TensorSpec>,
}

impl FrozenGraph {
    /// Returns a hash of all that an engine is told of it: the graph with its weights, and the tensors, types and shapes of
    /// inputs and outputs. Aliases do not count.
    pub fn hash(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.graph.encode_to_vec());
        for spec in self.inputs.iter().chain(&self.outputs) {
            hash.update(format!("{} {:?} {:?}\n", spec.tensor, spec.dtype, spec.shape));
        }
        hash.update(self.inputs.len().to_le_bytes());
        hash.finalize().into()
    }
}
