//! The row format: `instances` is a list of values for the only input, or of objects with a value for each input
//! (docs/spec/rest.md section 6.2).

use crate::engine::signature::Signature;
use crate::error::{Error, Result};
use crate::json::column::{Column, column};
use crate::json::cursor::{Cursor, Type};
use crate::json::dense::DenseReader;
use crate::json::excerpt::excerpt;
use crate::json::text::Text;
use crate::methods::bind;
use crate::parallel::Spare;
use crate::tensor::Tensor;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Consumes the list here, which has at least one element, and makes a tensor for each input of `signature`, which has
/// at least one. Refuses values of more than `depth` levels.
///
/// The first error is the one to report if the text is known to be well-formed.
pub(crate) fn rows_in_order(
    cursor: &mut Cursor<'_>,
    signature: &Signature,
    depth: usize,
) -> Result<Vec<Tensor>> {
    let objects = has_objects(*cursor);
    let several = signature.inputs.len() > 1;
    if several && first_type(*cursor) != Type::Object {
        return Err(Error::invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per \
             tensorinfo_map",
        ));
    }
    let mut rows = Rows::new(signature, depth);
    cursor.at += 1;
    while cursor.element(rows.count == 0)? {
        if objects {
            rows.object(cursor)?
        } else {
            rows.value(cursor)?
        }
        rows.count += 1;
    }
    if several && !objects {
        // A base64 object is a value: all rows were for one input, and the others have none.
        let sent = BTreeMap::from_iter(signature.inputs.first().map(|spec| (spec.alias.clone(), ())));
        return Err(bind::wrong_count(signature, &sent));
    }
    Ok(rows.finish())
}

/// Returns the type of the first element of the list here.
fn first_type(mut list: Cursor<'_>) -> Type {
    list.at += 1;
    list.skip_space();
    list.value_type()
}

/// Returns the same for valid lists, faster: rows of consistent values form one tensor with one more dimension.
pub(crate) fn rows_at_once(
    cursor: &mut Cursor<'_>,
    signature: &Signature,
    depth: usize,
    spare: &dyn Spare,
) -> Option<Vec<Tensor>> {
    if has_objects(*cursor) {
        return rows_in_order(cursor, signature, depth).ok();
    }
    let [spec] = signature.inputs.as_slice() else { return None };
    let (mut reader, mut column) = (DenseReader::new(depth + 1), column(spec.dtype, true));
    column.fill_together(&mut reader, cursor, spare).ok()?;
    Some(vec![column.finish(reader.shape())])
}

/// Returns whether the first element of the list here is an object with a value for each input.
fn has_objects(mut list: Cursor<'_>) -> bool {
    list.at += 1;
    list.skip_space();
    list.plain_object()
}

/// The rows so far.
struct Rows<'s> {
    signature: &'s Signature,
    inputs: Vec<Input>,
    reader: DenseReader,
    count: usize,
}

/// The values of one input in the rows so far.
struct Input {
    column: Box<dyn Column>,
    /// Number of elements and shape of the first value, which all others must match.
    first: Option<(usize, Vec<usize>)>,
    /// The last row that had this input, counted from 1.
    row: usize,
}

impl<'s> Rows<'s> {
    fn new(signature: &'s Signature, depth: usize) -> Rows<'s> {
        let alone = signature.inputs.len() == 1;
        let input = |dtype| Input { column: column(dtype, alone), first: None, row: 0 };
        let inputs = signature.inputs.iter().map(|spec| input(spec.dtype)).collect();
        Rows { signature, inputs, reader: DenseReader::new(depth), count: 0 }
    }

    /// Consumes the row here as a value for the only input, or for the first of several.
    fn value(&mut self, cursor: &mut Cursor<'_>) -> Result<()> {
        if cursor.plain_object() {
            let message = format!("Expecting value/list but got object at item {} of input list", self.count);
            return Err(Error::invalid(message));
        }
        self.input(0, cursor).map_err(|error| {
            Error::invalid(format!(
                "Failed to process element: {} of 'instances' list. Error: {error}",
                self.count
            ))
        })
    }

    /// Consumes the row here as an object with a value for each input.
    fn object(&mut self, cursor: &mut Cursor<'_>) -> Result<()> {
        if !cursor.plain_object() {
            let message = format!("Expecting object but got list at item {} of input list", self.count);
            return Err(Error::invalid(message));
        }
        let start = cursor.at;
        cursor.at += 1;
        let (mut first, mut distinct) = (true, 0);
        while let Some(name) = cursor.member(first)? {
            first = false;
            distinct += usize::from(self.member(name, cursor)?);
        }
        if distinct == self.inputs.len() {
            return Ok(());
        }
        let names: Vec<&str> = self.signature.inputs.iter().map(|spec| spec.alias.as_str()).collect();
        Err(Error::invalid(format!(
            "Failed to process element: {} of 'instances' list. JSON object: {} keys must be equal to: {}",
            self.count,
            excerpt(cursor.text, start),
            names.join(",")
        )))
    }

    /// Consumes the value here for the input `name`; true if it is the row's first for that input.
    fn member(&mut self, name: Text<'_>, cursor: &mut Cursor<'_>) -> Result<bool> {
        let index = input(self.signature, name);
        let taken = match index {
            Some(index) => self.input(index, cursor),
            None => Err(Error::invalid(format!("JSON object: does not have named input: {}", name.lossy()))),
        };
        taken.map_err(|error| {
            Error::invalid(format!(
                "Failed to process element: {} key: {} of 'instances' list. Error: {error}",
                self.count,
                name.lossy()
            ))
        })?;
        // The index is set, or there was an error.
        let row = &mut self.inputs[index.unwrap_or(0)].row;
        Ok(std::mem::replace(row, self.count + 1) != self.count + 1)
    }

    /// Consumes the value here for the input at `index`, which must match the first one.
    fn input(&mut self, index: usize, cursor: &mut Cursor<'_>) -> Result<()> {
        let Input { column, first, .. } = &mut self.inputs[index];
        let before = column.len();
        let filled = column.fill(&mut self.reader, cursor);
        filled.map_err(|fault| fault.explain(cursor.text, self.signature.inputs[index].dtype))?;
        let (size, shape) = (column.len() - before, self.reader.shape());
        match first {
            None => *first = Some((size, shape.to_vec())),
            Some((first, _)) if *first != size => {
                return Err(Error::invalid(format!("Expecting tensor size: {first} but got: {size}")));
            }
            // By element: comparing zero bytes at the dangling addresses of scalars' shapes costs 150 ns a row.
            Some((_, first)) if first.iter().ne(shape) => {
                let message = format!("Expecting shape {} but got: {}", printed(first), printed(shape));
                return Err(Error::invalid(message));
            }
            Some(_) => {}
        }
        Ok(())
    }

    /// Returns one tensor for each input. A name repeated in a row leaves surplus elements, which are dropped.
    fn finish(self) -> Vec<Tensor> {
        let count = self.count;
        let tensor = |input: Input| {
            let shape = input.first.map(|(_, shape)| shape).unwrap_or_default();
            input.column.finish(&[&[count], shape.as_slice()].concat())
        };
        self.inputs.into_iter().map(tensor).collect()
    }
}

/// Returns the position of the input called `name` by clients.
pub(crate) fn input(signature: &Signature, name: Text<'_>) -> Option<usize> {
    signature.input(std::str::from_utf8(&name.bytes()).ok()?)
}

/// Prints a shape for messages: `[2,3]`, or `[]` for a scalar.
fn printed(shape: &[usize]) -> String {
    let mut text = String::from("[");
    for (index, dim) in shape.iter().enumerate() {
        // Writing to a string does not fail.
        let _ = write!(text, "{}{dim}", if index == 0 { "" } else { "," });
    }
    text.push(']');
    text
}
