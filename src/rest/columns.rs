//! The columnar format: `inputs` holds a value for each input, or the value of the only input (docs/spec/rest.md
//! section 6.3).

use crate::engine::signature::{Signature, TensorSpec};
use crate::error::{Error, Result};
use crate::json::column::column;
use crate::json::cursor::Cursor;
use crate::json::dense::DenseReader;
use crate::parallel::{Alone, Spare};
use crate::rest::rows::input;
use crate::tensor::Tensor;

/// Consumes the value here and makes a tensor for each input of `signature`, which has at least one. Refuses values of
/// more than `depth` levels.
///
/// The first error is the one to report if the text is known to be well-formed.
pub(crate) fn columns_in_order(
    cursor: &mut Cursor<'_>,
    signature: &Signature,
    depth: usize,
) -> Result<Vec<Tensor>> {
    let mut reader = DenseReader::new(depth);
    if cursor.plain_object() {
        return members_in_order(cursor, signature, &mut reader);
    }
    let [spec] = signature.inputs.as_slice() else {
        return Err(Error::invalid(
            "inputs is a plain value/list, but expecting an object as multiple input tensors required as per \
             tensorinfo_map",
        ));
    };
    Ok(vec![tensor(cursor, spec, true, &mut reader, &Alone)?])
}

/// Returns the same for valid values, faster: each is decoded in place.
pub(crate) fn columns_at_once(
    cursor: &mut Cursor<'_>,
    signature: &Signature,
    depth: usize,
    spare: &dyn Spare,
) -> Option<Vec<Tensor>> {
    let mut reader = DenseReader::new(depth);
    if cursor.plain_object() {
        return members_at_once(cursor, signature, &mut reader, spare);
    }
    let [spec] = signature.inputs.as_slice() else { return None };
    Some(vec![tensor(cursor, spec, true, &mut reader, spare).ok()?])
}

/// Consumes the value here and makes `spec`'s tensor of it.
fn tensor(
    cursor: &mut Cursor<'_>,
    spec: &TensorSpec,
    alone: bool,
    reader: &mut DenseReader,
    spare: &dyn Spare,
) -> Result<Tensor> {
    let mut column = column(spec.dtype, alone);
    column.fill_together(reader, cursor, spare).map_err(|fault| fault.explain(cursor.text, spec.dtype))?;
    Ok(column.finish(reader.shape()))
}

/// Decodes the members in the order of the text. The first of a repeated name counts; other names are ignored.
fn members_at_once(
    cursor: &mut Cursor<'_>,
    signature: &Signature,
    reader: &mut DenseReader,
    spare: &dyn Spare,
) -> Option<Vec<Tensor>> {
    let alone = signature.inputs.len() == 1;
    let mut tensors = vec![None; signature.inputs.len()];
    cursor.at += 1;
    let mut first = true;
    while let Some(name) = cursor.member(first).ok()? {
        first = false;
        match input(signature, name) {
            Some(index) if tensors[index].is_none() => {
                tensors[index] = Some(tensor(cursor, &signature.inputs[index], alone, reader, spare).ok()?);
            }
            _ => cursor.skip_value().ok()?,
        }
    }
    tensors.into_iter().collect()
}

/// Decodes the members in the order of the signature, so that the first error is the one to report.
fn members_in_order(
    cursor: &mut Cursor<'_>,
    signature: &Signature,
    reader: &mut DenseReader,
) -> Result<Vec<Tensor>> {
    let alone = signature.inputs.len() == 1;
    let mut values = vec![None; signature.inputs.len()];
    cursor.at += 1;
    let mut first = true;
    while let Some(name) = cursor.member(first)? {
        first = false;
        if let Some(index) = input(signature, name) {
            values[index].get_or_insert(*cursor);
        }
        cursor.skip_value()?;
    }
    let make = |(spec, value): (&TensorSpec, Option<Cursor<'_>>)| match value {
        Some(mut value) => tensor(&mut value, spec, alone, reader, &Alone),
        None => Err(Error::invalid(format!("Missing named input: {} in 'inputs' object.", spec.alias))),
    };
    signature.inputs.iter().zip(values).map(make).collect()
}
