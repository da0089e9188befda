//! Door 1: the only place that knows HTTP and JSON.

pub mod decode;
pub mod encode;

/// The two shapes of a predict request and of its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `instances` → `predictions`: a list of rows.
    Row,
    /// `inputs` → `outputs`: a tensor per name.
    Columnar,
}
