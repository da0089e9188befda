//! A signature's graph in parts, of which another engine runs one.

use crate::engine::frozen::FrozenGraph;

/// The parts, in the order in which they run. The inputs of each are inputs of the signature or outputs of an earlier
/// part, under the same tensor names.
#[derive(Clone, Debug)]
pub(super) struct Parts {
    /// What TensorFlow computes for the fast part.
    pub(super) before: Option<FrozenGraph>,
    /// What the other engine runs.
    pub(super) fast: FrozenGraph,
    /// What TensorFlow computes from the fast part's outputs.
    pub(super) after: Option<FrozenGraph>,
}

impl Parts {
    /// Returns `graph` as the only part.
    pub(super) fn whole(graph: FrozenGraph) -> Parts {
        Parts { before: None, fast: graph, after: None }
    }

    /// Returns whether there is more than one part.
    pub(super) fn is_cut(&self) -> bool {
        self.before.is_some() || self.after.is_some()
    }
}
