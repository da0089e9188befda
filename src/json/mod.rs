//! JSON: text into typed tensors, and values into text. Independent of HTTP and of any API.
//!
//! Reading: [`cursor`] walks a text; [`dense`] reads nested lists into a [`column`] of one dtype; [`number`] with
//! [`rounding`], [`short_number`], [`narrow`], [`text`] and [`base64`] read the elements; [`parts`] reads long lists on
//! several threads. [`syntax`] describes parse errors and [`excerpt`] quotes the offending value. Printing: [`writer`], with
//! [`float`], [`narrow`], [`single`] and its tables in [`layouts`]; [`grisu`] prints the numbers in error messages.
//! Where a processor has AVX2, `avx2_read` and `avx2_print` do the work of [`short_number`] and [`single`].
//!
//! Grammar, rounding, error texts and layout match TensorFlow Serving's JSON library byte for byte.

#[cfg(target_arch = "x86_64")]
mod avx2_print;
#[cfg(target_arch = "x86_64")]
mod avx2_read;
pub(crate) mod base64;
pub(crate) mod column;
pub(crate) mod cursor;
pub(crate) mod dense;
pub(crate) mod excerpt;
pub mod float;
mod grisu;
mod layouts;
pub mod narrow;
pub(crate) mod number;
mod parts;
pub(crate) mod rounding;
pub(crate) mod short_number;
mod single;
pub(crate) mod syntax;
pub(crate) mod text;
pub mod writer;
