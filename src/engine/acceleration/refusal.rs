//! Why a model, or a part of it, is not given to another engine.

use crate::pb::tensorflow::NodeDef;
use std::fmt;

/// Why a graph stays with TensorFlow, as a text for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal(pub(super) String);

impl Refusal {
    /// Refuses because of `what` in `node`.
    pub(super) fn at(what: &str, node: &NodeDef) -> Refusal {
        Refusal(format!("{what} in node {} ({})", node.name, node.op))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}
