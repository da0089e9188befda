//! Classify, regress and multi-inference: `tf.Example`s in.

use crate::tensor::Strings;

/// What classify answers: `rows × columns` classes.
#[derive(Clone, Debug)]
pub struct Classifications {
    /// How many examples.
    pub rows: usize,
    /// How many classes each.
    pub columns: usize,
    /// Row-major labels; empty labels where the model gives none.
    pub labels: Option<Strings>,
    /// Row-major scores; zeros where the model gives none.
    pub scores: Option<Vec<f32>>,
}
