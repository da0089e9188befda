//! JSON: text into typed tensors, and values into text. Knows no HTTP and no API.
//!
//! Reading: [`cursor`] goes along a text; [`dense`] reads a value of nested lists into a [`column`] of one dtype;
//! [`number`] and [`rounding`], [`text`] and [`base64`] read the elements. What is wrong is told by [`syntax`] and
//! shown by [`excerpt`]. Printing: [`writer`], with [`float`]; [`grisu`] prints the numbers of error messages.
//!
//! Grammar, rounding, texts and layout are those of TensorFlow Serving's JSON library, byte for byte.

pub(crate) mod base64;
pub(crate) mod column;
pub(crate) mod cursor;
pub(crate) mod dense;
pub(crate) mod excerpt;
pub mod float;
mod grisu;
pub(crate) mod number;
pub(crate) mod rounding;
pub(crate) mod syntax;
pub(crate) mod text;
pub mod writer;
