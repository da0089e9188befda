//! Replies in MessagePack: `{outputs: …}`, or `{predictions: …}` after `instances`, with the whole array of the only output, or
//! a map of arrays by name.

use crate::error::{Error, Kind, Result};
use crate::rest::Format;
use crate::rest::bodies::elements;
use crate::tensor::{DType, Tensor};

/// How arrays are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// `{dtype, shape, data}`.
    Plain,
    /// As msgpack-numpy does; strings, which numpy holds otherwise, as in [`Style::Plain`].
    Numpy,
}

/// Longest text that a length can say.
const LONGEST: usize = u32::MAX as usize;
/// Most bytes of an array besides its name, elements and dimensions.
const AROUND: usize = 128;

/// Returns the most bytes that a reply takes.
///
/// # Errors
/// INVALID_ARGUMENT for a dtype without a form. RESOURCE_EXHAUSTED for outputs that are too large.
pub fn most(outputs: &[(&str, &Tensor)]) -> Result<usize> {
    let mut sum = AROUND;
    for (alias, tensor) in outputs {
        let data = match tensor.as_strings() {
            Some(strings) => strings.iter().map(|string| string.len() + 5).sum(),
            None if elements::name(tensor.dtype()).is_some() => tensor.bytes().len(),
            None => {
                return Err(Error::invalid(format!(
                    "MessagePack cannot hold the output {alias:?} of dtype {}: name other outputs (?outputs=NAME)",
                    tensor.dtype().name()
                )));
            }
        };
        sum += data + alias.len() + 9 * tensor.shape().len() + AROUND;
    }
    if sum > LONGEST {
        let message = "The reply would take more than 4 GiB: ask for less at once";
        return Err(Error::new(Kind::ResourceExhausted, message));
    }
    Ok(sum)
}

/// Writes the reply, for which [`most`] has found room.
pub fn write(format: Format, style: Style, outputs: &[(&str, &Tensor)], out: &mut Vec<u8>) {
    out.push(0x81);
    let key = match format {
        Format::Row => "predictions",
        Format::Columnar => "outputs",
    };
    text(out, key);
    if let [(_, tensor)] = outputs {
        return array(out, style, tensor);
    }
    length(out, Sizes::MAP, outputs.len());
    for (alias, tensor) in outputs {
        text(out, alias);
        array(out, style, tensor);
    }
}

fn array(out: &mut Vec<u8>, style: Style, tensor: &Tensor) {
    let description = elements::description(tensor.dtype()).filter(|_| style == Style::Numpy);
    let key: fn(&mut Vec<u8>, &str) = match description {
        Some(description) => {
            out.push(0x85);
            bytes(out, b"nd");
            out.push(0xc3);
            bytes(out, b"type");
            text(out, description);
            bytes(out, b"kind");
            bytes(out, b"");
            |out, key| bytes(out, key.as_bytes())
        }
        None => {
            let name =
                if tensor.dtype() == DType::String { Some("string") } else { elements::name(tensor.dtype()) };
            out.push(0x83);
            text(out, "dtype");
            text(out, name.unwrap_or_default());
            text
        }
    };
    key(out, "shape");
    length(out, Sizes::ARRAY, tensor.shape().len());
    tensor.shape().iter().for_each(|dim| integer(out, *dim));
    key(out, "data");
    match tensor.as_strings() {
        None => bytes(out, tensor.bytes()),
        Some(strings) => {
            length(out, Sizes::ARRAY, strings.len());
            strings.iter().for_each(|string| bytes(out, string));
        }
    }
}

/// The first bytes of what has a length: with the length in it, up to which value, and with one, two or four bytes of it.
struct Sizes {
    short: Option<(u8, usize)>,
    one: Option<u8>,
    two: u8,
    four: u8,
}

impl Sizes {
    const MAP: Sizes = Sizes { short: Some((0x80, 15)), one: None, two: 0xde, four: 0xdf };
    const ARRAY: Sizes = Sizes { short: Some((0x90, 15)), one: None, two: 0xdc, four: 0xdd };
    const TEXT: Sizes = Sizes { short: Some((0xa0, 31)), one: Some(0xd9), two: 0xda, four: 0xdb };
    const BYTES: Sizes = Sizes { short: None, one: Some(0xc4), two: 0xc5, four: 0xc6 };
}

/// Writes a length, which is less than 4 GiB.
fn length(out: &mut Vec<u8>, sizes: Sizes, length: usize) {
    match (sizes.short, sizes.one, u8::try_from(length), u16::try_from(length)) {
        (Some((first, most)), _, Ok(length), _) if usize::from(length) <= most => out.push(first | length),
        (_, Some(first), Ok(length), _) => out.extend_from_slice(&[first, length]),
        (.., Ok(length)) => {
            out.push(sizes.two);
            out.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            out.push(sizes.four);
            out.extend_from_slice(&(length as u32).to_be_bytes());
        }
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    length(out, Sizes::TEXT, text.len());
    out.extend_from_slice(text.as_bytes());
}

fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    length(out, Sizes::BYTES, bytes.len());
    out.extend_from_slice(bytes);
}

/// Writes a number that is not negative.
fn integer(out: &mut Vec<u8>, value: i64) {
    match u8::try_from(value) {
        Ok(small) if small < 0x80 => out.push(small),
        _ => {
            out.push(0xd3);
            out.extend_from_slice(&value.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn written(style: Style, outputs: &[(&str, &Tensor)]) -> Vec<u8> {
        let mut out = Vec::new();
        write(Format::Columnar, style, outputs, &mut out);
        assert!(out.len() <= most(outputs).unwrap());
        out
    }

    fn bytes_tensor() -> Tensor {
        Tensor::numbers(DType::UInt8, vec![1, 300], vec![7; 300].into())
    }

    #[test]
    fn one_output_is_an_array() {
        let start = b"\x81\xa7outputs\x83\xa5dtype\xa5uint8\xa5shape\x92\x01\xd3\0\0\0\0\0\0\x01\x2c\xa4data\xc5\x01\x2c";
        assert_eq!(written(Style::Plain, &[("y", &bytes_tensor())]), [&start[..], &[7; 300]].concat());
        let start =
            b"\x81\xa7outputs\x85\xc4\x02nd\xc3\xc4\x04type\xa3|u1\xc4\x04kind\xc4\x00\xc4\x05shape\x92\x01\
            \xd3\0\0\0\0\0\0\x01\x2c\xc4\x04data\xc5\x01\x2c";
        assert_eq!(written(Style::Numpy, &[("y", &bytes_tensor())]), [&start[..], &[7; 300]].concat());
    }

    #[test]
    fn several_are_a_map() {
        let strings = Tensor::strings(vec![2], ["a", "\0"].iter().collect());
        let start = b"\x81\xa7outputs\x82\xa1s\x83\xa5dtype\xa6string\xa5shape\x91\x02\xa4data\x92\xc4\x01a\xc4\x01\0\xa1y\x83";
        for style in [Style::Plain, Style::Numpy] {
            let both = written(style, &[("s", &strings), ("y", &bytes_tensor())]);
            assert!(both.starts_with(&start[..start.len() - 1]), "{both:x?}");
        }
        let none = Tensor::numbers(DType::QInt8, vec![0], Bytes::new());
        assert!(most(&[("y", &none)]).unwrap_err().message.contains("qint8"));
    }

    #[test]
    fn lengths_take_the_fewest_bytes() {
        for (count, first) in [(15, &b"\x9f"[..]), (16, b"\xdc\x00\x10"), (65536, b"\xdd\x00\x01\x00\x00")] {
            let mut out = Vec::new();
            length(&mut out, Sizes::ARRAY, count);
            assert_eq!(out, first);
        }
        let mut out = Vec::new();
        text(&mut out, &"x".repeat(32));
        assert!(out.starts_with(b"\xd9\x20"));
    }
}
