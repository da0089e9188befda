//! Syntax errors, in the words of TensorFlow Serving's parser.

use crate::error::Error;

/// The kinds of syntax errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    Empty,
    Value,
    Name,
    Colon,
    CommaOrBrace,
    CommaOrBracket,
    Hex,
    Surrogate,
    Escape,
    Quote,
    TooBig,
    Fraction,
    Exponent,
}

impl Problem {
    fn text(self) -> &'static str {
        match self {
            Problem::Empty => "The document is empty.",
            Problem::Value => "Invalid value.",
            Problem::Name => "Missing a name for object member.",
            Problem::Colon => "Missing a colon after a name of object member.",
            Problem::CommaOrBrace => "Missing a comma or '}' after an object member.",
            Problem::CommaOrBracket => "Missing a comma or ']' after an array element.",
            Problem::Hex => "Incorrect hex digit after \\u escape in string.",
            Problem::Surrogate => "The surrogate pair in string is invalid.",
            Problem::Escape => "Invalid escape character in string.",
            Problem::Quote => "Missing a closing quotation mark in string.",
            Problem::TooBig => "Number too big to be stored in double.",
            Problem::Fraction => "Miss fraction part in number.",
            Problem::Exponent => "Miss exponent in number.",
        }
    }
}

/// A syntax error and its byte offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    pub(crate) problem: Problem,
    pub(crate) at: usize,
}

impl From<SyntaxError> for Error {
    fn from(error: SyntaxError) -> Error {
        Error::invalid(format!("JSON Parse error: {} at offset: {}", error.problem.text(), error.at))
    }
}
