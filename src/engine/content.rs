//! What the strings of an input have to hold for a run to succeed, as far as an engine can tell from a model.

use std::collections::BTreeMap;

/// What a string holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// An encoded picture.
    Picture(PictureFormat),
    /// A serialized `tf.Example` with these features, by key.
    Example(BTreeMap<String, Feature>),
    /// A number, written in digits.
    Number,
    /// Any text.
    Text,
    /// This, in base64 with the alphabet for URLs.
    Base64(Box<Content>),
}

/// The encoding of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)] // The names are the formats'.
pub enum PictureFormat {
    Jpeg,
    Png,
    Gif,
    Bmp,
    WebP,
}

/// The values of a feature of a `tf.Example`: how many, and of which kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Feature {
    /// Floating-point numbers.
    Floats(usize),
    /// Whole numbers.
    Integers(usize),
    /// Strings; any will do, even empty ones, where the content is `None`.
    Strings(usize, Option<Content>),
}
