//! The request in MessagePack: a map of `signature_name`, `inputs` or `instances`, and `outputs`, as in JSON.

use super::array::Array;
use super::reader::{Reader, Token};
use super::values::{Extent, Rows, Values};
use crate::engine::signature::Signature;
use crate::error::{Error, Result};
use crate::memory::Reservation;
use crate::rest::Format;
use crate::rest::bodies::inputs_of;
use crate::tensor::Tensor;
use bytes::Bytes;
use std::collections::BTreeMap;

/// Limits on documents.
#[derive(Clone, Copy, Debug)]
pub struct Limits<'a> {
    /// Most levels of lists in a value.
    pub depth: usize,
    /// Counts what is not borrowed from the body.
    pub memory: &'a Reservation,
}

/// A decoded request.
#[derive(Debug)]
pub struct Asked {
    /// Whether it named `instances` or `inputs`.
    pub format: Format,
    /// The tensors by input.
    pub inputs: BTreeMap<String, Tensor>,
    /// The outputs that it names.
    pub outputs: Vec<String>,
    /// True if it had arrays as msgpack-numpy writes them, so that the reply should, too.
    pub is_numpy: bool,
}

/// Reads a document. `signature` finds the signature of a name, the default one for an empty name.
pub fn read<'s>(
    body: &Bytes,
    limits: Limits<'_>,
    signature: impl FnOnce(&str) -> Result<&'s Signature>,
) -> Result<(&'s Signature, Asked)> {
    let parts = Parts::find(body)?;
    let signature = signature(parts.name)?;
    let (format, mut value) = match (parts.inputs, parts.instances) {
        (Some(value), None) => (Format::Columnar, value),
        (None, Some(value)) => (Format::Row, value),
        (inputs, _) => {
            let came = if inputs.is_some() { "both" } else { "neither" };
            return Err(Error::invalid(format!(
                "MessagePack: expected 'inputs' or 'instances', and {came} came"
            )));
        }
    };
    let values = Values { body, depth: limits.depth, memory: limits.memory };
    let (inputs, is_numpy) = match format {
        Format::Columnar => columns(&values, &mut value, signature)?,
        Format::Row => rows(&values, &mut value, signature)?,
    };
    let names = |list| names(list, signature.outputs.len());
    let outputs = parts.outputs.map_or_else(|| Ok(Vec::new()), names)?;
    Ok((signature, Asked { format, inputs, outputs, is_numpy }))
}

/// Where the parts of a document are.
#[derive(Default)]
struct Parts<'a> {
    name: &'a str,
    inputs: Option<Reader<'a>>,
    instances: Option<Reader<'a>>,
    outputs: Option<Reader<'a>>,
}

impl<'a> Parts<'a> {
    fn find(body: &'a [u8]) -> Result<Parts<'a>> {
        let mut reader = Reader::new(body);
        let Token::Map(count) = reader.token()? else {
            return Err(Reader::new(body).fault("expected a map with 'inputs' or 'instances'"));
        };
        let mut parts = Parts::default();
        for _ in 0..count {
            let at = reader;
            let key = reader.text("a key")?;
            let value = reader;
            reader.skip()?;
            let place = match key {
                "signature_name" => {
                    let mut name = value;
                    parts.name = name.text("the signature's name")?;
                    continue;
                }
                "inputs" => &mut parts.inputs,
                "instances" => &mut parts.instances,
                "outputs" => &mut parts.outputs,
                _ => continue,
            };
            if place.replace(value).is_some() {
                return Err(at.fault(&format!("the key '{key}' is there twice")));
            }
        }
        if !reader.is_at_end() {
            return Err(reader.fault("something follows the document"));
        }
        Ok(parts)
    }
}

/// Reads a list of `most` names, or nil.
fn names(mut reader: Reader<'_>, most: usize) -> Result<Vec<String>> {
    let at = reader;
    let token = reader.token()?;
    let count = if token == Token::Nil { Some(0) } else { token.list() };
    let count = count.filter(|count| *count <= most);
    let count = count.ok_or_else(|| at.fault(&format!("'outputs' is a list of {most} names at most")))?;
    (0..count).map(|_| reader.text("the name of an output").map(str::to_owned)).collect()
}

type Inputs = (BTreeMap<String, Tensor>, bool);

/// Reads the value of the only input, or a map with the value of each.
fn columns(values: &Values<'_>, reader: &mut Reader<'_>, signature: &Signature) -> Result<Inputs> {
    let (mut inputs, mut is_numpy) = (BTreeMap::new(), false);
    let at = *reader;
    if let (false, Token::Map(count)) = (Array::is_at(at)?, at.peek()?) {
        reader.token()?;
        for _ in 0..count {
            let at = *reader;
            let alias = reader.text("an input's name")?;
            let Some(index) = signature.input(alias) else { return Err(unknown(at, alias, signature)) };
            let (tensor, numpy) = values.tensor(reader, &signature.inputs[index])?;
            is_numpy |= numpy;
            if inputs.insert(alias.to_owned(), tensor).is_some() {
                return Err(at.fault(&format!("the input {alias:?} is there twice")));
            }
        }
        return Ok((inputs, is_numpy));
    }
    let [spec] = signature.inputs.as_slice() else { return Err(needs_names(at, signature)) };
    let (tensor, is_numpy) = values.tensor(reader, spec)?;
    Ok((BTreeMap::from([(spec.alias.clone(), tensor)]), is_numpy))
}

/// Reads a list of rows: values of the only input, or maps with a value for each. Rows may be one array, too.
fn rows(values: &Values<'_>, reader: &mut Reader<'_>, signature: &Signature) -> Result<Inputs> {
    let at = *reader;
    if Array::is_at(at)? {
        return columns(values, reader, signature);
    }
    let count = at.peek()?.list().filter(|count| *count > 0);
    let Some(count) = count else { return Err(at.fault("'instances' is a list of rows, at least one")) };
    let mut first = *reader;
    first.token()?;
    let is_array = Array::is_at(first)?;
    let has_maps = !is_array && matches!(first.peek()?, Token::Map(_));
    if has_maps {
        return row_maps(values, at, count, signature);
    }
    let [spec] = signature.inputs.as_slice() else { return Err(needs_names(at, signature)) };
    if !is_array {
        // A list of lists is a tensor with one more dimension.
        let values = Values { depth: values.depth + 1, ..*values };
        let (tensor, is_numpy) = values.tensor(reader, spec)?;
        return Ok((BTreeMap::from([(spec.alias.clone(), tensor)]), is_numpy));
    }
    let (mut column, mut is_numpy) = (Rows::new(spec, values.collected(at, spec)?), false);
    for _ in 0..count {
        is_numpy |= column.take(values, &mut first)?;
    }
    Ok((BTreeMap::from([(spec.alias.clone(), column.finish()?)]), is_numpy))
}

/// Reads `count` rows that are maps, from the list at `list`.
fn row_maps(values: &Values<'_>, list: Reader<'_>, count: usize, signature: &Signature) -> Result<Inputs> {
    // Each input has room for its own values.
    let mut extents = vec![Extent::default(); signature.inputs.len()];
    each_member(list, count, signature, |_, index, _, reader| {
        extents[index] = extents[index].and(Extent::skip(reader)?);
        Ok(())
    })?;
    let (mut columns, mut is_numpy) = (Vec::with_capacity(extents.len()), false);
    for (spec, extent) in signature.inputs.iter().zip(extents) {
        columns.push(Rows::new(spec, values.column(spec, extent)?));
    }
    each_member(list, count, signature, |row, index, at, reader| {
        if columns[index].count() != row {
            let alias = &signature.inputs[index].alias;
            return Err(
                at.fault(&format!("the input {alias:?} is there twice, or missing from a row before"))
            );
        }
        is_numpy |= columns[index].take(values, reader)?;
        Ok(())
    })?;
    let mut inputs = BTreeMap::new();
    for (spec, column) in signature.inputs.iter().zip(columns) {
        match column.count() {
            0 => {}
            rows if rows == count => _ = inputs.insert(spec.alias.clone(), column.finish()?),
            _ => return Err(list.fault(&format!("the input {:?} is missing from a row", spec.alias))),
        }
    }
    Ok((inputs, is_numpy))
}

/// Calls `take` for each member of `count` rows that are maps, from the list at `list`: with the number of its row, the index of
/// its input, and where it begins. It consumes the value.
fn each_member<'a>(
    list: Reader<'a>,
    count: usize,
    signature: &Signature,
    mut take: impl FnMut(usize, usize, Reader<'a>, &mut Reader<'a>) -> Result<()>,
) -> Result<()> {
    let mut reader = list;
    reader.token()?;
    for row in 0..count {
        let at = reader;
        let Token::Map(members) = reader.token()? else {
            return Err(at.fault(&format!("row {row} is no map with a value for each input")));
        };
        for _ in 0..members {
            let at = reader;
            let alias = reader.text("an input's name")?;
            let Some(index) = signature.input(alias) else { return Err(unknown(at, alias, signature)) };
            take(row, index, at, &mut reader)?;
        }
    }
    Ok(())
}

fn unknown(at: Reader<'_>, alias: &str, signature: &Signature) -> Error {
    let shown: String = alias.chars().take(64).collect();
    at.fault(&format!("the signature has no input {shown:?}; it has {}", inputs_of(signature)))
}

fn needs_names(at: Reader<'_>, signature: &Signature) -> Error {
    at.fault(&format!("the signature has {}: expected a map with a value for each", inputs_of(signature)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::signature::TensorSpec;
    use crate::memory::{Account, Budget};
    use crate::tensor::DType;

    fn signature(inputs: usize) -> Signature {
        let spec = |index| TensorSpec {
            alias: format!("{index:02}"),
            tensor: format!("{index}:0"),
            dtype: DType::Double,
            shape: None,
        };
        Signature {
            name: "s".into(),
            method_name: String::new(),
            inputs: (0..inputs).map(spec).collect(),
            outputs: Vec::new(),
            defaults: BTreeMap::new(),
        }
    }

    /// Returns a document of `rows` rows, each a map with a list of 16 numbers for each of `inputs` inputs.
    fn document(rows: u8, inputs: u8) -> Bytes {
        let mut body = b"\x81\xa9instances\xdc\0".to_vec();
        body.push(rows);
        for row in 0..rows {
            body.extend([0xde, 0, inputs]);
            for input in 0..inputs {
                body.extend([0xa2]);
                body.extend(format!("{input:02}").bytes());
                body.extend([0xdc, 0, 16]);
                body.extend((0..16).map(|index| (index + row + input) % 100));
            }
        }
        body.into()
    }

    #[test]
    fn rows_that_are_maps_count_each_input_once() {
        let (signature, body) = (signature(64), document(100, 64));
        let budget = Budget::new(4 << 20);
        let memory = Reservation::new(Account::new(budget.clone()));
        let (_, asked) = read(&body, Limits { depth: 4, memory: &memory }, |_| Ok(&signature)).unwrap();
        assert_eq!(asked.inputs.len(), 64);
        for (input, tensor) in asked.inputs.values().enumerate() {
            assert_eq!(tensor.shape(), [100, 16]);
            let numbers = bytemuck::cast_slice::<u8, f64>(tensor.bytes());
            assert_eq!(numbers[17], ((2 + input) % 100) as f64);
        }
        assert_eq!(memory.bytes(), 100 * 16 * 64 * 8);
    }

    #[test]
    fn rows_have_the_same_inputs() {
        let signature = signature(2);
        for (rows, words) in [
            (&b"\x92\x82\xa200\x01\xa201\x02\x81\xa200\x01"[..], "\"01\" is missing from a row"),
            (b"\x92\x81\xa200\x01\x82\xa200\x01\xa201\x02", "missing from a row before"),
            (b"\x91\x82\xa200\x01\xa200\x02", "is there twice"),
            (b"\x92\x81\xa200\x01\x05", "row 1 is no map"),
            (b"\x91\x81\xa202\x01", "no input \"02\""),
        ] {
            let body = Bytes::from([&b"\x81\xa9instances"[..], rows].concat());
            let limits = Limits { depth: 4, memory: &Reservation::default() };
            let error = read(&body, limits, |_| Ok(&signature)).unwrap_err();
            assert!(error.message.contains(words), "{error}");
        }
    }
}
