//! Arrays as numpy stores them: .npy files (numpy's `lib/format.py`), versions 1 and 2.
//!
//! Numbers are borrowed from the body. They lie at a multiple of 64 bytes from its start, as numpy writes them and as the
//! engine takes them without a copy.

use super::elements::{self, Elements};
use super::literal::{Described, describe};
use crate::error::{Error, Result};
use crate::memory::Reservation;
use crate::tensor::{DType, Data, Shape, Strings, Tensor, element_count, is_representable};
use bytes::Bytes;
use std::fmt::Write as _;

/// What every file begins with.
const MAGIC: &[u8] = b"\x93NUMPY";
/// Longest header that is read, as in numpy.
const LONGEST_HEADER: usize = 10_000;
/// The multiple at which numbers begin.
const ALIGNMENT: usize = 64;

/// Reads a file. `memory` counts what is not borrowed from it.
pub fn read(file: &Bytes, memory: &Reservation) -> Result<Tensor> {
    let (header, start) = header(file)?;
    let Described { elements, shape } = describe(header)?;
    tensor(elements, shape, file.slice(start..), memory)
}

/// Returns the header's text, and where the elements begin.
fn header(file: &[u8]) -> Result<(&[u8], usize)> {
    let cut_off = || Error::invalid(format!("the .npy file ends in its header, after {} bytes", file.len()));
    let Some(rest) = file.strip_prefix(MAGIC) else {
        return Err(Error::invalid("it is no .npy file: expected what np.save writes"));
    };
    let (length, before) = match rest {
        [1, _, low, high, ..] => (usize::from(u16::from_le_bytes([*low, *high])), 10),
        [2, _, a, b, c, d, ..] => (u32::from_le_bytes([*a, *b, *c, *d]) as usize, 12),
        [] | [1 | 2, ..] => return Err(cut_off()),
        [version, ..] => {
            return Err(Error::invalid(format!(
                "the .npy file has version {version}, expected 1 or 2, in which np.save writes all arrays without records"
            )));
        }
    };
    if length > LONGEST_HEADER {
        let message = format!("the .npy header has {length} bytes, expected {LONGEST_HEADER} at most");
        return Err(Error::invalid(message));
    }
    let text = file.get(before..before + length).ok_or_else(cut_off)?;
    Ok((text, before + length))
}

/// Makes a tensor of elements as numpy holds them, which `data` has exactly. `memory` counts strings.
pub(super) fn tensor(elements: Elements, shape: Shape, data: Bytes, memory: &Reservation) -> Result<Tensor> {
    let count = element_count(&shape).filter(|_| is_representable(&shape));
    let expected = count.and_then(|count| count.checked_mul(elements.size()));
    if expected != Some(data.len()) {
        let expected =
            expected.map_or_else(|| "more than there can be".to_owned(), |bytes| bytes.to_string());
        return Err(Error::invalid(format!(
            "an array of shape {} with elements of {} bytes takes {expected} bytes, and {} came",
            shown(&shape),
            elements.size(),
            data.len()
        )));
    }
    match elements {
        Elements::Numbers(DType::Bool) if data.iter().any(|byte| *byte > 1) => {
            Err(Error::invalid("a truth value is neither 0 nor 1: send array.astype(bool)"))
        }
        Elements::Numbers(dtype) => Ok(Tensor::numbers(dtype, shape, data)),
        Elements::Texts(width) => {
            // Once here, and once for the engine.
            memory.grow(2 * data.len() + data.len() / width * 32)?;
            let strings: Strings = data.chunks_exact(width).map(without_zeros).collect();
            Ok(Tensor::strings(shape, strings))
        }
    }
}

/// Returns a text without the zeros that it was filled up with.
fn without_zeros(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    &text[..end]
}

/// Returns a shape as numpy prints it.
pub(super) fn shown(shape: &[i64]) -> String {
    let mut text = String::from("(");
    for (position, dim) in shape.iter().enumerate() {
        let between = if position > 0 { ", " } else { "" };
        let _written = write!(text, "{between}{dim}");
    }
    text.push_str(if shape.len() == 1 { ",)" } else { ")" });
    text
}

/// A tensor that is to be written as a file.
#[derive(Debug)]
pub struct File<'t> {
    tensor: &'t Tensor,
    header: Vec<u8>,
    /// The bytes of each string.
    width: usize,
}

impl<'t> File<'t> {
    /// Prepares `tensor`, the output `alias`.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for what numpy cannot hold: an unknown dtype, or a string that ends with a zero, which numpy would
    /// take for filling.
    pub fn new(alias: &str, tensor: &'t Tensor) -> Result<File<'t>> {
        let (width, descr) = match tensor.as_strings() {
            Some(strings) => {
                if strings.iter().any(|string| string.last() == Some(&0)) {
                    return Err(not_carried(alias, "has a string that ends with a zero byte"));
                }
                let width = strings.iter().map(<[u8]>::len).max().unwrap_or(0).max(1);
                (width, format!("|S{width}"))
            }
            None => {
                let descr = elements::description(tensor.dtype())
                    .ok_or_else(|| not_carried(alias, &format!("is of dtype {}", tensor.dtype().name())))?;
                (0, descr.to_owned())
            }
        };
        let header = header_of(&descr, tensor.shape());
        Ok(File { tensor, header, width })
    }

    /// Returns the number of its bytes; `None` if there can be none so long.
    pub fn length(&self) -> Option<usize> {
        let elements = match self.tensor.as_strings() {
            Some(strings) => strings.len().checked_mul(self.width)?,
            None => self.tensor.bytes().len(),
        };
        elements.checked_add(self.header.len())
    }

    /// Returns everything before the elements, and these from where they lie; `None` for strings, which lie otherwise there.
    pub fn borrowed(&self) -> Option<(Vec<u8>, Bytes)> {
        match self.tensor.data() {
            Data::Numbers(elements) => Some((self.header.clone(), elements.clone())),
            Data::Strings(_) => None,
        }
    }

    /// Appends it.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.header);
        match self.tensor.as_strings() {
            None => out.extend_from_slice(self.tensor.bytes()),
            Some(strings) => {
                for string in strings.iter() {
                    let end = out.len() + self.width;
                    out.extend_from_slice(string);
                    out.resize(end, 0);
                }
            }
        }
    }
}

fn not_carried(alias: &str, why: &str) -> Error {
    Error::invalid(format!(
        "numpy's format cannot hold the output {alias:?}, which {why}: name other outputs (?outputs=NAME), or take the \
         reply as JSON or MessagePack (Accept: application/json, application/msgpack)"
    ))
}

/// Returns everything before the elements.
fn header_of(descr: &str, shape: &[i64]) -> Vec<u8> {
    const BEFORE: usize = MAGIC.len() + 4;
    let dict = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {}, }}", shown(shape));
    let length = (BEFORE + dict.len() + 1).next_multiple_of(ALIGNMENT) - BEFORE;
    let mut header = Vec::with_capacity(BEFORE + length);
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(&[1, 0]);
    // A tensor has 254 dimensions at most, of 20 digits each.
    header.extend_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes());
    header.extend_from_slice(dict.as_bytes());
    header.resize(BEFORE + length - 1, b' ');
    header.push(b'\n');
    header
}

#[cfg(test)]
mod tests;
