//! A graph that stands by itself: the part of a model that computes one signature, with nothing outside of it.

use super::signature::TensorSpec;
use crate::pb::tensorflow::GraphDef;

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
