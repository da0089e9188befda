//! The names that numpy has for elements, and the dtypes that they mean.

use crate::error::{Error, Result};
use crate::tensor::DType;

/// dtype, numpy's name, and its form in files and in MessagePack. numpy has no bfloat16: it stores that of `ml_dtypes` as
/// two bytes of no type.
const NAMES: [(DType, &str, &str); 16] = [
    (DType::Float, "float32", "<f4"),
    (DType::Double, "float64", "<f8"),
    (DType::Half, "float16", "<f2"),
    (DType::BFloat16, "bfloat16", "<V2"),
    (DType::Int8, "int8", "|i1"),
    (DType::Int16, "int16", "<i2"),
    (DType::Int32, "int32", "<i4"),
    (DType::Int64, "int64", "<i8"),
    (DType::UInt8, "uint8", "|u1"),
    (DType::UInt16, "uint16", "<u2"),
    (DType::UInt32, "uint32", "<u4"),
    (DType::UInt64, "uint64", "<u8"),
    (DType::Bool, "bool", "|b1"),
    (DType::Complex64, "complex64", "<c8"),
    (DType::Complex128, "complex128", "<c16"),
    // Of no file: elements of any length.
    (DType::String, "string", ""),
];

/// What an array consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elements {
    /// Numbers or truth values, little-endian.
    Numbers(DType),
    /// Texts of this many bytes, filled up with zeros.
    Texts(usize),
}

impl Elements {
    /// Returns the elements that numpy describes like this in a file.
    pub fn described(descr: &str) -> Result<Elements> {
        let (order, kind) = match descr.as_bytes().first() {
            Some(b'<' | b'>' | b'|' | b'=') => descr.split_at(1),
            _ => ("", descr),
        };
        if kind == "V2" && order != ">" {
            return Ok(Elements::Numbers(DType::BFloat16));
        }
        if let Some(width) =
            kind.strip_prefix('S').and_then(|width| width.parse().ok()).filter(|width| *width > 0)
        {
            return Ok(Elements::Texts(width));
        }
        let known = NAMES.iter().find(|(.., form)| form.get(1..).is_some_and(|form| form == kind));
        match known {
            Some((dtype, ..)) if order != ">" || dtype.size() == 1 => Ok(Elements::Numbers(*dtype)),
            Some(_) => Err(Error::invalid(format!(
                "the array is big-endian ('{descr}'), expected little-endian numbers: send \
                 array.astype(array.dtype.newbyteorder('<'))"
            ))),
            None => Err(unknown(descr, kind)),
        }
    }

    /// Returns the elements that `name`, numpy's name or its form in files, means.
    pub fn named(name: &str) -> Result<Elements> {
        let known = NAMES.iter().find(|(_, known, form)| *known == name && !form.is_empty());
        known.map_or_else(|| Elements::described(name), |(dtype, ..)| Ok(Elements::Numbers(*dtype)))
    }

    /// Returns the bytes of an element.
    pub fn size(self) -> usize {
        match self {
            Elements::Numbers(dtype) => dtype.size(),
            Elements::Texts(width) => width,
        }
    }
}

/// Returns the error for elements that no tensor has.
fn unknown(descr: &str, kind: &str) -> Error {
    let what_to_do = match kind.as_bytes().first() {
        Some(b'O') => {
            "it holds Python objects, which are never read: send numbers (array.astype(np.float32)) or byte strings \
             (array.astype('S'))"
        }
        Some(b'U') => "its texts have four bytes for each character: send np.char.encode(array, 'utf-8')",
        Some(b'S') => "its texts have no bytes: send array.astype('S1')",
        _ => "expected numbers, truth values or byte strings, such as float32, int64, bool or S16",
    };
    Error::invalid(format!("the array's dtype is '{}': {what_to_do}", descr.escape_debug()))
}

/// Returns numpy's name of `dtype`; `string` for strings.
pub fn name(dtype: DType) -> Option<&'static str> {
    NAMES.iter().find(|(known, ..)| *known == dtype).map(|(_, name, _)| *name)
}

/// Returns how numpy describes `dtype` in a file; `None` for strings, and for what numpy has not.
pub fn description(dtype: DType) -> Option<&'static str> {
    NAMES.iter().find(|(known, _, form)| *known == dtype && !form.is_empty()).map(|(.., form)| *form)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_as_it_is_written() {
        for (dtype, name, form) in NAMES.iter().filter(|(dtype, ..)| *dtype != DType::String) {
            assert_eq!(Elements::named(name), Ok(Elements::Numbers(*dtype)));
            assert_eq!(Elements::described(form), Ok(Elements::Numbers(*dtype)));
            assert_eq!((super::name(*dtype), description(*dtype)), (Some(*name), Some(*form)));
            let size: usize = form[2..].parse().unwrap();
            assert_eq!(size, dtype.size(), "{name}");
        }
        assert_eq!(Elements::described("|S7"), Ok(Elements::Texts(7)));
        assert_eq!(Elements::described(">i1"), Ok(Elements::Numbers(DType::Int8)));
        assert_eq!(description(DType::String), None);
    }

    #[test]
    fn what_no_tensor_has_is_refused_with_what_to_do() {
        for (descr, words) in [
            (">f4", "newbyteorder"),
            ("|O", "never read"),
            ("<U5", "np.char.encode"),
            ("|S0", "S1"),
            ("|S99999999999999999999", "S1"),
            ("<M8[ns]", "float32"),
            ("|V16", "float32"),
            ("", "float32"),
            ("<", "float32"),
            ("é", "float32"),
            ("<é4", "float32"),
        ] {
            let error = Elements::described(descr).unwrap_err();
            assert!(error.message.contains(words), "{descr}: {error}");
        }
        assert!(Elements::named("string").is_err());
    }
}
