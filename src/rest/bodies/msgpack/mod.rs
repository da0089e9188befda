//! MessagePack: the documents of the JSON API, in which numbers, texts and whole arrays stand as bytes.
//!
//! An array is a map `{dtype, shape, data}`, whose data are its elements as numpy holds them; or a map as the package
//! msgpack-numpy writes it. [`reader`] reads tokens, [`document`] finds the parts of a request, [`values`] makes tensors of
//! them without a tree in between, and [`writer`] writes replies.

mod array;
mod column;
pub mod document;
mod reader;
mod values;
pub mod writer;

pub use document::{Asked, read};
