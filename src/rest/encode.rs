//! Writes tensors and results as JSON, exactly as TensorFlow Serving does (docs/spec/rest.md section 7).

use super::Format;
use crate::config::NonUtf8;
use crate::error::{Error, Kind, Result};
use crate::json::narrow::{BFloat16, Half};
use crate::json::writer::{Block, Floats, Layout, Place, Writer, nested, nested_part, until_empty};
use crate::methods::examples::Classifications;
use crate::parallel::{Part, Spare};
use crate::tensor::{DType, Strings, Tensor};
use bytemuck::AnyBitPattern;
use std::ops::Range;

pub use super::proto_json::{metadata, status};

/// The least and the most values of a part that is printed by another thread. A tensor of less than four is not cut.
const PART: [usize; 2] = [16 << 10, 128 << 10];

/// From this many floats on they are converted in batches; a batch costs the same however few values it has.
const BATCHED: usize = 16;

/// Longest reply, in bytes. Indentation can make a deep tensor's text hundreds of times longer than the request.
pub(super) const LONGEST_REPLY: usize = 2 << 30;

/// The form of a reply, as far as it is not that of the request.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// The treatment of strings that are not UTF-8.
    pub non_utf8: NonUtf8,
    /// True for a text without line breaks, indentation and spaces.
    pub compact: bool,
}

impl Style {
    /// Begins a text with `{"key": `, with room for `bytes`.
    fn begin(self, key: &str, bytes: usize) -> Writer {
        let mut out = Writer::with_room(bytes);
        (out.non_utf8, out.compact) = (self.non_utf8, self.compact);
        out.raw(if self.compact { b"{\"" } else { b"{\n    \"" });
        out.raw(key.as_bytes());
        out.raw(if self.compact { b"\":" } else { b"\": " });
        out
    }
}

/// Ends a text.
fn end(mut out: Writer) -> Vec<u8> {
    out.new_line(0);
    out.raw(b"}");
    out.finish()
}

/// Writes the body of a predict reply.
///
/// `outputs` are aliases with their tensors, in printing order (ascending by alias). Strings become JSON strings,
/// except base64 objects for an alias that ends in `_bytes` and, with [`NonUtf8::Base64`], for strings that are not
/// UTF-8. Large tensors are printed in parts, with the help of `spare`.
///
/// # Errors
/// INVALID_ARGUMENT, with TensorFlow Serving's texts: no outputs; in row format an output without a first dimension, or
/// with a different one than the first output; a dtype without a JSON form (if it has any values). RESOURCE_EXHAUSTED
/// if the text would be longer than 2 GiB.
pub fn predict(
    format: Format,
    outputs: &[(&str, &Tensor)],
    style: Style,
    spare: &dyn Spare,
) -> Result<Vec<u8>> {
    if outputs.is_empty() {
        return Err(Error::invalid("Cannot convert empty tensor map to JSON"));
    }
    let rows = if format == Format::Row { batch_size(outputs)? } else { 1 };
    outputs.iter().try_for_each(|(_, tensor)| check_printable(tensor))?;
    let key = match format {
        Format::Row => "predictions",
        Format::Columnar => "outputs",
    };
    let mut out = style.begin(key, expected_length(format, outputs, rows, style)?);
    match (format, outputs) {
        (Format::Row, [(alias, tensor)]) => {
            write_block(&mut out, alias, tensor, whole(tensor, 1, Layout::Rows), spare)
        }
        (Format::Columnar, [(alias, tensor)]) => {
            write_block(&mut out, alias, tensor, whole(tensor, 1, Layout::Lines), spare);
        }
        (Format::Row, _) => write_rows(&mut out, outputs, rows, spare),
        (Format::Columnar, _) => {
            write_members(&mut out, outputs, 1, spare, |tensor| whole(tensor, 2, Layout::Lines));
        }
    }
    Ok(end(out))
}

/// Writes the body of a classify reply: `[label, score]` pairs for every example. Absent labels are `""`, absent scores
/// `0.0`; with [`NonUtf8::Base64`], labels that are not UTF-8 are base64 objects.
///
/// # Errors
/// INVALID_ARGUMENT if there are no examples.
pub fn classifications(results: &Classifications, style: Style) -> Result<Vec<u8>> {
    if results.rows == 0 {
        return Err(Error::invalid("Cannot convert empty ClassificationResults to JSON"));
    }
    let Classifications { rows, columns, labels, scores } = results;
    let mut out = style.begin("results", 64 + rows * (4 + columns * 32));
    let dims = [*rows as i64, *columns as i64];
    let block = Block { first: 0, dims: &dims, depth: 1, layout: Layout::Rows };
    nested(&mut out, block, |out, range, place| {
        separated(out, place, range, |out, class| {
            out.raw(b"[");
            let label = labels.as_ref().map_or(b"".as_slice(), |labels| labels.get(class));
            write_string(out, label, place.depth + 1);
            out.comma();
            out.float(scores.as_ref().map_or(0.0, |scores| scores[class]));
            out.raw(b"]");
        });
    });
    Ok(end(out))
}

/// Writes the body of a regress reply: a score for every example.
///
/// # Errors
/// INVALID_ARGUMENT if there are no examples.
pub fn regressions(values: &[f32], style: Style) -> Result<Vec<u8>> {
    if values.is_empty() {
        return Err(Error::invalid("Cannot convert empty RegressionResults to JSON"));
    }
    let mut out = style.begin("results", 64 + values.len() * 16);
    let block = Block { first: 0, dims: &[values.len() as i64], depth: 1, layout: Layout::OneLine };
    nested(&mut out, block, |out, range, place| {
        separated(out, place, range, |out, example| out.float(values[example]));
    });
    Ok(end(out))
}

/// Writes the body of an error reply.
pub fn error(message: &str) -> Vec<u8> {
    let mut out = Writer::with_room(message.len() + 64);
    out.raw(b"{\n    \"error\": ");
    out.string(message.as_bytes());
    out.raw(b"\n}");
    out.finish()
}

/// Returns the first dimension, which all outputs must share.
fn batch_size(outputs: &[(&str, &Tensor)]) -> Result<usize> {
    let mut expected = None;
    for (alias, tensor) in outputs {
        let Some(size) = tensor.shape().first().copied() else {
            return Err(Error::invalid(format!("Tensor name: {alias} has no shape information ")));
        };
        let expected = *expected.get_or_insert(size);
        if size != expected {
            return Err(Error::invalid(format!(
                "Tensor name: {alias} has inconsistent batch size: {size} expecting: {expected}"
            )));
        }
    }
    Ok(expected.unwrap_or(0) as usize)
}

fn check_printable(tensor: &Tensor) -> Result<()> {
    use DType::{
        BFloat16, Bool, Double, Float, Half, Int8, Int16, Int32, Int64, String, UInt8, UInt32, UInt64,
    };
    let dtype = tensor.dtype();
    let printable = matches!(
        dtype,
        Float
            | Double
            | Half
            | BFloat16
            | Int8
            | Int16
            | Int32
            | Int64
            | UInt8
            | UInt32
            | UInt64
            | Bool
            | String
    );
    if printable || tensor.is_empty() {
        return Ok(());
    }
    Err(Error::invalid(format!("Failed to write JSON value for tensor type: {}", dtype.name())))
}

/// Writes the elements of `tensor`, whose dtype has a form in TensorFlow Serving's JSON, as one list.
pub(super) fn flat(out: &mut Writer, tensor: &Tensor, spare: &dyn Spare) {
    let dims = [tensor.len() as i64];
    write_block(out, "", tensor, Block { first: 0, dims: &dims, depth: 0, layout: Layout::OneLine }, spare);
}

/// Refuses outputs that are too long; otherwise estimates the length of the text.
fn expected_length(format: Format, outputs: &[(&str, &Tensor)], rows: usize, style: Style) -> Result<usize> {
    let on_lines = format == Format::Columnar && !style.compact;
    let members = if outputs.len() == 1 { 0 } else { rows.max(1) };
    let length = outputs.iter().fold(64, |length: usize, (alias, tensor)| {
        let names = members.saturating_mul(alias.len() + 32);
        length.saturating_add(names).saturating_add(tensor_length(on_lines, tensor))
    });
    if length > LONGEST_REPLY {
        return Err(Error::new(
            Kind::ResourceExhausted,
            format!(
                "The reply would take about {length} bytes of JSON, more than the limit of {LONGEST_REPLY} bytes"
            ),
        ));
    }
    Ok(length)
}

/// Estimates the length of a tensor's text: nearly exact for brackets and indentation, typical for values.
fn tensor_length(on_lines: bool, tensor: &Tensor) -> usize {
    let dims = until_empty(tensor.shape());
    let indentation = if on_lines { 4 * (dims.len() + 2) } else { 0 };
    let (mut arrays, mut count) = (0usize, 1usize);
    for dim in dims {
        arrays = arrays.saturating_add(count);
        count = count.saturating_mul(*dim as usize);
    }
    let text = match tensor.as_strings() {
        Some(strings) => strings.iter().map(|string| string.len() + 4).sum(),
        None => count.saturating_mul(13),
    };
    let lines = count.saturating_add(arrays.saturating_mul(2)).saturating_mul(indentation + 2);
    lines.saturating_add(text)
}

/// Returns the block of all of `tensor` inside `depth` open containers.
fn whole(tensor: &Tensor, depth: usize, layout: Layout) -> Block<'_> {
    Block { first: 0, dims: tensor.shape(), depth, layout }
}

/// Writes a list with an object for every row.
fn write_rows(out: &mut Writer, outputs: &[(&str, &Tensor)], rows: usize, spare: &dyn Spare) {
    out.raw(b"[");
    for row in 0..rows {
        if row > 0 {
            out.raw(b",");
        }
        out.new_line(2);
        write_members(out, outputs, 2, spare, |tensor| {
            let first = row * (tensor.len() / rows);
            Block { first, dims: &tensor.shape()[1..], depth: 3, layout: Layout::OneLine }
        });
    }
    if rows > 0 {
        out.new_line(1);
    }
    out.raw(b"]");
}

/// Writes an object inside `depth` open containers, with each output's block under its alias.
fn write_members<'a>(
    out: &mut Writer,
    outputs: &[(&str, &'a Tensor)],
    depth: usize,
    spare: &dyn Spare,
    block: impl Fn(&'a Tensor) -> Block<'a>,
) {
    out.raw(b"{");
    for (position, (alias, tensor)) in outputs.iter().enumerate() {
        if position > 0 {
            out.raw(b",");
        }
        out.new_line(depth + 1);
        out.string(alias.as_bytes());
        out.colon();
        write_block(out, alias, tensor, block(tensor), spare);
    }
    out.new_line(depth);
    out.raw(b"}");
}

/// Writes a part of a tensor whose dtype has been checked.
fn write_block(out: &mut Writer, alias: &str, tensor: &Tensor, block: Block<'_>, spare: &dyn Spare) {
    if let Some(strings) = tensor.as_strings() {
        return write_strings(out, strings, block, alias.ends_with("_bytes"));
    }
    let count = block.dims.iter().product::<i64>() as usize;
    match if count < 4 * PART[0] { 0 } else { spare.spare() } {
        0 => write_values(out, tensor, block, None),
        spares => write_in_parts(out, tensor, block, PART, (spares + 1, spare)),
    }
}

/// Writes numbers as parts of `sizes` values, on `threads` threads. At most twice as many parts are held at a time.
fn write_in_parts(
    out: &mut Writer,
    tensor: &Tensor,
    block: Block<'_>,
    sizes: [usize; 2],
    (threads, spare): (usize, &dyn Spare),
) {
    let count = block.dims.iter().product::<i64>() as usize;
    let size = (count / (2 * threads)).clamp(sizes[0], sizes[1]);
    let starts: Vec<usize> = (0..count).step_by(size).collect();
    let range = |start: usize| start..(start + size).min(count);
    for starts in starts.chunks(2 * threads) {
        let (room, compact) = (out.room() / (count - starts[0]) * size + 64, out.compact);
        let mut texts: Vec<Writer> = starts[1..].iter().map(|_| Writer::with_room(0)).collect();
        // The first part is written where it belongs. It is taken first, so that it is not the one to be waited for.
        let first: Part<'_> = Box::new(|| write_values(out, tensor, block, Some(range(starts[0]))));
        let others = starts[1..].iter().zip(&mut texts).rev().map(|(start, text)| -> Part<'_> {
            Box::new(move || {
                *text = Writer::with_room(room);
                text.compact = compact;
                write_values(text, tensor, block, Some(range(*start)));
            })
        });
        spare.join(others.chain([first]).collect());
        texts.iter().for_each(|text| out.long(text.written()));
    }
}

/// Writes the numbers of `block`, or only a part of them: see [`nested_part`].
fn write_values(out: &mut Writer, tensor: &Tensor, block: Block<'_>, part: Option<Range<usize>>) {
    let bytes = tensor.bytes();
    let count = block.dims.iter().product::<i64>() as usize;
    let block = (block, part);
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "check_printable() names the dtypes; the others have no values"
    )]
    match tensor.dtype() {
        DType::Float if count < BATCHED => write_numbers(out, bytes, block, Writer::float::<f32>),
        DType::Float => write_floats(out, bytes, block),
        DType::Double => write_numbers(out, bytes, block, Writer::float::<f64>),
        DType::Half => write_numbers(out, bytes, block, Writer::narrow::<Half>),
        DType::BFloat16 => write_numbers(out, bytes, block, Writer::narrow::<BFloat16>),
        DType::Int8 => write_numbers(out, bytes, block, Writer::integer::<i8>),
        DType::Int16 => write_numbers(out, bytes, block, Writer::integer::<i16>),
        DType::Int32 => write_numbers(out, bytes, block, Writer::integer::<i32>),
        DType::Int64 => write_numbers(out, bytes, block, Writer::integer::<i64>),
        DType::UInt8 => write_numbers(out, bytes, block, Writer::integer::<u8>),
        DType::UInt32 => write_numbers(out, bytes, block, Writer::integer::<u32>),
        DType::UInt64 => write_numbers(out, bytes, block, Writer::integer::<u64>),
        _ => write_numbers(out, bytes, block, Writer::boolean),
    }
}

fn write_numbers<T: AnyBitPattern>(
    out: &mut Writer,
    bytes: &[u8],
    block: (Block<'_>, Option<Range<usize>>),
    write: impl Fn(&mut Writer, T) + Copy,
) {
    let size = size_of::<T>();
    nested_or_part(out, block, |out, range, place| {
        let values = bytes[range.start * size..range.end * size].chunks_exact(size);
        separated(out, place, values, |out, value| write(out, bytemuck::pod_read_unaligned(value)));
    });
}

fn write_floats(out: &mut Writer, bytes: &[u8], block: (Block<'_>, Option<Range<usize>>)) {
    let mut floats = Floats::new(bytes, block.0.first + block.1.as_ref().map_or(0, |part| part.start));
    nested_or_part(out, block, |out, range, place| out.floats(&mut floats, range, place.separator));
}

fn nested_or_part(
    out: &mut Writer,
    (block, part): (Block<'_>, Option<Range<usize>>),
    values: impl FnMut(&mut Writer, Range<usize>, Place),
) {
    match part {
        None => nested(out, block, values),
        Some(range) => nested_part(out, block, range, values),
    }
}

fn write_strings(out: &mut Writer, strings: &Strings, block: Block<'_>, as_base64: bool) {
    nested(out, block, |out, range, place| {
        separated(out, place, range, |out, index| {
            if as_base64 {
                out.base64_object(strings.get(index), place.depth);
            } else {
                write_string(out, strings.get(index), place.depth);
            }
        });
    });
}

/// Writes a string; as a base64 object if it is not UTF-8, which JSON cannot hold, and that option is set.
fn write_string(out: &mut Writer, string: &[u8], depth: usize) {
    if out.non_utf8 == NonUtf8::Raw || std::str::from_utf8(string).is_ok() {
        out.string(string);
    } else {
        out.base64_object(string, depth);
    }
}

/// Writes the items of one array, separated by its separator.
#[inline]
fn separated<I: IntoIterator>(
    out: &mut Writer,
    place: Place,
    items: I,
    write: impl Fn(&mut Writer, I::Item),
) {
    for (position, item) in items.into_iter().enumerate() {
        if position > 0 {
            out.separator(place.separator);
        }
        write(out, item);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::wildcard_enum_match_arm)]

    use super::*;
    use crate::parallel::Alone;
    use crate::tensor::element_count;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::Value;

    const RAW: Style = Style { non_utf8: NonUtf8::Raw, compact: false };
    const BASE64: Style = Style { non_utf8: NonUtf8::Base64, compact: false };
    /// Cases that TensorFlow Serving refuses, and which are printed here as numbers.
    const NUMBERS_HERE: [&str; 4] = [
        "unsupported DT_HALF/row",
        "unsupported DT_HALF/columnar",
        "unsupported DT_BFLOAT16/row",
        "unsupported DT_BFLOAT16/columnar",
    ];

    fn number<T: std::str::FromStr>(value: &Value) -> T {
        value.to_string().trim_matches('"').parse().ok().unwrap()
    }

    fn float(value: &Value) -> f64 {
        value.as_f64().unwrap_or_else(|| number(value))
    }

    fn string(value: &Value) -> Vec<u8> {
        match value {
            Value::String(text) => text.as_bytes().to_vec(),
            _ => STANDARD.decode(value["b64"].as_str().unwrap()).unwrap(),
        }
    }

    fn dtype(name: &str) -> DType {
        (0..34).filter_map(DType::from_number).find(|dtype| dtype.proto_name() == name).unwrap()
    }

    /// Makes the tensor of a case in the vectors.
    fn tensor(case: &Value) -> Tensor {
        let dtype = dtype(case["dtype"].as_str().unwrap());
        let shape: Vec<i64> = case["shape"].as_array().unwrap().iter().map(number).collect();
        let values = case["values"].as_array().unwrap();
        if dtype == DType::String {
            return Tensor::strings(shape, values.iter().map(string).collect());
        }
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| match dtype {
                DType::Float => (float(value) as f32).to_le_bytes().to_vec(),
                DType::Double => float(value).to_le_bytes().to_vec(),
                DType::Bool => vec![u8::from(value.as_bool().unwrap())],
                DType::UInt64 => number::<u64>(value).to_le_bytes().to_vec(),
                DType::Complex64 => [(float(value) as f32).to_le_bytes(); 2].concat(),
                _ => number::<i64>(value).to_le_bytes()[..dtype.size()].to_vec(),
            })
            .collect();
        Tensor::numbers(dtype, shape, bytes.into())
    }

    /// Returns the cases of a file of the specification, if available.
    fn vectors(file: &str) -> Vec<Value> {
        let path = format!("{}/../shared/spec/vectors/{file}", env!("CARGO_MANIFEST_DIR"));
        match std::fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str::<Value>(&text).unwrap()["cases"].as_array().unwrap().clone(),
            Err(error) => {
                crate::skipped::because(format_args!("{path}: {error}"));
                Vec::new()
            }
        }
    }

    #[track_caller]
    fn check(case: &Value, got: Result<Vec<u8>>) {
        let (name, expected) = (&case["name"], &case["expect"]);
        match got {
            Ok(_) if NUMBERS_HERE.iter().any(|better| name == better) => {}
            Ok(body) => {
                let raw = expected["body_base64"].as_str().map(|text| STANDARD.decode(text).unwrap());
                let expected = raw.unwrap_or_else(|| expected["body"].as_str().unwrap().into());
                assert_eq!(body, expected, "{name}")
            }
            Err(error) => {
                let expected = &expected["error"];
                assert_eq!(expected["code"], error.kind.name(), "{name}");
                match expected["message"].as_str() {
                    Some(message) => assert_eq!(message, error.message, "{name}"),
                    None => assert!(error.message.contains(expected["message_contains"].as_str().unwrap())),
                }
            }
        }
    }

    #[test]
    fn parts_are_printed_as_the_whole() {
        let values: Vec<f32> = (0..60).map(|index| index as f32 / 7.0 - 3.0).collect();
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        for shape in [vec![60], vec![3, 20], vec![1, 4, 5, 3]] {
            for (dtype, layout) in [(DType::Float, Layout::Rows), (DType::Int32, Layout::Lines)] {
                let tensor = Tensor::numbers(dtype, shape.clone(), bytes.clone().into());
                let (block, compact) = (whole(&tensor, 1, layout), dtype == DType::Int32 && shape.len() == 2);
                let mut expected = Writer::with_room(0);
                expected.compact = compact;
                write_values(&mut expected, &tensor, block, None);
                for sizes in [[1, 1], [7, 7], [20, 30], [1, 100]] {
                    let mut out = Writer::with_room(900);
                    out.compact = compact;
                    write_in_parts(&mut out, &tensor, block, sizes, (2, &Alone));
                    assert_eq!(out.finish(), expected.written(), "{shape:?} {sizes:?}");
                }
            }
        }
    }

    #[test]
    fn predict_cases_of_the_specification() {
        for case in vectors("encode.json") {
            let mut tensors: Vec<(String, Tensor)> = case["tensors"]
                .as_object()
                .unwrap()
                .iter()
                .map(|(alias, case)| (alias.clone(), tensor(case)))
                .collect();
            tensors.sort_by(|a, b| a.0.cmp(&b.0));
            let format = if case["format"] == "row" { Format::Row } else { Format::Columnar };
            let outputs: Vec<_> = tensors.iter().map(|(alias, tensor)| (alias.as_str(), tensor)).collect();
            check(&case, predict(format, &outputs, RAW, &Alone));
        }
    }

    #[test]
    fn classify_and_regress_cases_of_the_specification() {
        for case in vectors("classify_regress.json") {
            let result = case["result"].as_array();
            if case["kind"] == "regress_result" {
                let values: Vec<f32> = result.unwrap().iter().map(|value| float(value) as f32).collect();
                check(&case, regressions(&values, RAW));
            } else if case["kind"] == "classify_result" && case["name"] != "mixed rows" {
                // (A signature's outputs are rectangular: rows of different lengths cannot occur.)
                let rows: Vec<_> = result.unwrap().iter().map(|row| row.as_array().unwrap()).collect();
                let classes: Vec<&Value> = rows.iter().flat_map(|row| row.iter()).collect();
                let results = Classifications {
                    rows: rows.len(),
                    columns: rows.first().map_or(0, |row| row.len()),
                    labels: Some(classes.iter().map(|class| string(&class[0])).collect()),
                    scores: Some(classes.iter().map(|class| float(&class[1]) as f32).collect()),
                };
                check(&case, classifications(&results, RAW));
            }
        }
    }

    fn floats(shape: &[i64], values: &[f32]) -> Tensor {
        assert_eq!(element_count(shape), Some(values.len()));
        Tensor::numbers(DType::Float, shape.to_vec(), bytemuck::cast_slice(values).to_vec().into())
    }

    fn strings(shape: &[i64], values: &[&[u8]]) -> Tensor {
        Tensor::strings(shape.to_vec(), values.iter().collect())
    }

    #[track_caller]
    fn check_text(format: Format, outputs: &[(&str, &Tensor)], expected: &str) {
        assert_eq!(String::from_utf8(predict(format, outputs, BASE64, &Alone).unwrap()).unwrap(), expected);
    }

    #[test]
    fn one_output() {
        let matrix = floats(&[2, 2], &[1.0, 2.0, 3.0, 4.0]);
        check_text(
            Format::Row,
            &[("y", &matrix)],
            "{\n    \"predictions\": [[1.0, 2.0], [3.0, 4.0]\n    ]\n}",
        );
        check_text(Format::Columnar, &[("y", &floats(&[], &[7.0]))], "{\n    \"outputs\": 7.0\n}");
        let expected = "{\n    \"outputs\": [\n        \"giant panda\"\n    ]\n}";
        check_text(Format::Columnar, &[("label", &strings(&[1], &[b"giant panda"]))], expected);
        let none = Tensor::numbers(DType::Complex64, vec![0], Vec::new().into());
        check_text(Format::Row, &[("y", &none)], "{\n    \"predictions\": []\n}");
    }

    #[test]
    fn numbers_of_16_bits_are_as_short_as_they_can_be() {
        let tensor = |dtype, bits: [u16; 3]| {
            Tensor::numbers(
                dtype,
                vec![3],
                bits.iter().flat_map(|two| two.to_le_bytes()).collect::<Vec<_>>().into(),
            )
        };
        let half = tensor(DType::Half, [0x2E66, 0xC000, 0x7BFF]);
        check_text(Format::Row, &[("y", &half)], "{\n    \"predictions\": [0.1, -2.0, 65500.0\n    ]\n}");
        let brain = tensor(DType::BFloat16, [0x3DCD, 0x7F7F, 0x7FC0]);
        check_text(Format::Row, &[("y", &brain)], "{\n    \"predictions\": [0.1, 3.39e+38, NaN\n    ]\n}");
    }

    #[test]
    fn a_compact_reply_has_no_white_space() {
        let compact = Style { compact: true, ..BASE64 };
        let text = |format, outputs: &[(&str, &Tensor)]| {
            String::from_utf8(predict(format, outputs, compact, &Alone).unwrap()).unwrap()
        };
        let (a, b) = (floats(&[2, 2], &[1.0, 2.5, 3.0, 4.0]), strings(&[2], &[b"a b", b"\xff"]));
        assert_eq!(text(Format::Row, &[("a", &a)]), r#"{"predictions":[[1.0,2.5],[3.0,4.0]]}"#);
        assert_eq!(text(Format::Columnar, &[("a", &a)]), r#"{"outputs":[[1.0,2.5],[3.0,4.0]]}"#);
        assert_eq!(
            text(Format::Row, &[("a", &a), ("b", &b)]),
            r#"{"predictions":[{"a":[1.0,2.5],"b":"a b"},{"a":[3.0,4.0],"b":{"b64":"/w=="}}]}"#
        );
        let long = floats(&[1, 20], &[0.5; 20]);
        let expected = format!(r#"{{"outputs":[[{}]]}}"#, ["0.5"; 20].join(","));
        assert_eq!(text(Format::Columnar, &[("a", &long)]), expected);
        assert_eq!(regressions(&[0.5, 1.0], compact).unwrap(), br#"{"results":[0.5,1.0]}"#);
        let labels = Some(["a"].into_iter().collect());
        let classes = Classifications { rows: 1, columns: 1, labels, scores: Some(vec![0.5]) };
        assert_eq!(classifications(&classes, compact).unwrap(), br#"{"results":[[["a",0.5]]]}"#);
    }

    #[test]
    fn several_outputs() {
        let (a, b) = (floats(&[2], &[1.0, 2.0]), strings(&[2, 1], &[b"x", b"y"]));
        let expected = concat!(
            "{\n    \"predictions\": [\n        {\n            \"a\": 1.0,\n            \"b\": [\"x\"]\n        },\n",
            "        {\n            \"a\": 2.0,\n            \"b\": [\"y\"]\n        }\n    ]\n}"
        );
        check_text(Format::Row, &[("a", &a), ("b", &b)], expected);
        let expected = concat!(
            "{\n    \"outputs\": {\n        \"a\": [\n            1.0,\n            2.0\n        ],\n        \"b\": [\n",
            "            [\n                \"x\"\n            ],\n            [\n                \"y\"\n            ]\n",
            "        ]\n    }\n}"
        );
        check_text(Format::Columnar, &[("a", &a), ("b", &b)], expected);
        let none = floats(&[0, 3], &[]);
        check_text(Format::Row, &[("a", &none), ("b", &none)], "{\n    \"predictions\": []\n}");
    }

    #[test]
    fn strings_that_are_not_text_are_base64() {
        let mixed = strings(&[2], &[b"ok", b"\xff"]);
        let expected =
            "{\n    \"predictions\": [\"ok\", {\n            \"b64\": \"/w==\"\n        }\n    ]\n}";
        check_text(Format::Row, &[("s", &mixed)], expected);
        let expected = concat!(
            "{\n    \"outputs\": {\n        \"s\": [\n            \"ok\",\n            {\n                \"b64\": \"/w==\"\n",
            "            }\n        ],\n        \"s_bytes\": [\n            {\n                \"b64\": \"b2s=\"\n            },\n",
            "            {\n                \"b64\": \"/w==\"\n            }\n        ]\n    }\n}"
        );
        check_text(Format::Columnar, &[("s", &mixed), ("s_bytes", &mixed)], expected);
    }

    #[test]
    fn what_cannot_be_printed() {
        let (scalar, two, three) = (floats(&[], &[1.0]), floats(&[2], &[1.0; 2]), floats(&[3], &[1.0; 3]));
        let complex = Tensor::numbers(DType::Complex64, vec![1], vec![0; 8].into());
        let check = |format, outputs: &[(&str, &Tensor)], message| {
            assert_eq!(predict(format, outputs, RAW, &Alone), Err(Error::invalid(message)));
        };
        check(Format::Row, &[], "Cannot convert empty tensor map to JSON");
        check(Format::Columnar, &[], "Cannot convert empty tensor map to JSON");
        check(Format::Row, &[("y", &scalar)], "Tensor name: y has no shape information ");
        let message = "Tensor name: b has inconsistent batch size: 3 expecting: 2";
        check(Format::Row, &[("a", &two), ("b", &three)], message);
        check(Format::Columnar, &[("y", &complex)], "Failed to write JSON value for tensor type: complex64");
    }

    #[test]
    fn a_reply_has_a_limit() {
        // No bytes of values, but brackets for a hundred thousand million empty rows.
        let rows = floats(&[100_000_000_000, 0], &[]);
        for format in [Format::Row, Format::Columnar] {
            let error = predict(format, &[("y", &rows)], RAW, &Alone).unwrap_err();
            assert_eq!(error.kind, Kind::ResourceExhausted);
        }
    }

    #[test]
    fn results_of_examples() {
        let mut results = Classifications { rows: 1, columns: 2, labels: None, scores: Some(vec![0.5, 1.0]) };
        let text =
            |results: &Classifications| String::from_utf8(classifications(results, RAW).unwrap()).unwrap();
        assert_eq!(text(&results), "{\n    \"results\": [[[\"\", 0.5], [\"\", 1.0]]\n    ]\n}");
        results.labels = Some(["a", "b"].into_iter().collect());
        results.scores = None;
        assert_eq!(text(&results), "{\n    \"results\": [[[\"a\", 0.0], [\"b\", 0.0]]\n    ]\n}");
        assert_eq!(regressions(&[0.2, 42.0], RAW).unwrap(), b"{\n    \"results\": [0.2, 42.0]\n}");
        assert!(regressions(&[], RAW).is_err());
    }

    #[test]
    fn errors_are_objects() {
        assert_eq!(error("no \"x\"\n"), b"{\n    \"error\": \"no \\\"x\\\"\\n\"\n}");
    }
}

/// Property tests: the printed text holds the values of the tensors.
#[cfg(test)]
mod properties {
    #![allow(clippy::wildcard_enum_match_arm)]

    use super::*;
    use crate::json::narrow::{Narrow, nearest_to_text};
    use crate::parallel::Alone;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;
    use serde_json::Value;

    const RAW: Style = Style { non_utf8: NonUtf8::Raw, compact: false };
    const BASE64: Style = Style { non_utf8: NonUtf8::Base64, compact: false };
    const NUMBERS: [DType; 12] = [
        DType::Float,
        DType::Double,
        DType::Half,
        DType::BFloat16,
        DType::Int8,
        DType::Int16,
        DType::Int32,
        DType::Int64,
        DType::UInt8,
        DType::UInt32,
        DType::UInt64,
        DType::Bool,
    ];

    fn tensor_of(dtype: DType, shape: Vec<i64>) -> BoxedStrategy<Tensor> {
        let count = shape.iter().product::<i64>() as usize;
        if dtype == DType::String {
            let string = prop_oneof![any::<Vec<u8>>(), any::<String>().prop_map(String::into_bytes)];
            let strings = prop::collection::vec(string, count);
            return strings.prop_map(move |all| Tensor::strings(shape.clone(), all.iter().collect())).boxed();
        }
        let byte = if dtype == DType::Bool { (0..2u8).boxed() } else { any::<u8>().boxed() };
        let bytes = prop::collection::vec(byte, count * dtype.size());
        bytes.prop_map(move |bytes| Tensor::numbers(dtype, shape.clone(), bytes.into())).boxed()
    }

    /// Generates one to three tensors with a common first dimension (if any).
    fn outputs(least_rank: usize) -> impl Strategy<Value = Vec<(String, Tensor)>> {
        let dtype = prop_oneof![4 => prop::sample::select(NUMBERS.to_vec()), 1 => Just(DType::String)];
        let inner = prop::collection::vec(0..4i64, 0..4);
        let member = ("[a-z\"\\\\]{0,3}(_bytes)?", dtype, inner);
        (0..4i64, prop::collection::btree_map(0..9u8, member, 1..4)).prop_flat_map(move |(rows, members)| {
            let members = members.into_iter().map(|(number, (name, dtype, mut shape))| {
                if least_rank > 0 {
                    shape.insert(0, rows);
                }
                (Just(format!("{number}{name}")), tensor_of(dtype, shape))
            });
            members.collect::<Vec<_>>()
        })
    }

    /// Reads JSON that may contain `NaN`, `Infinity` and `-Infinity`; they become strings.
    fn read(body: Vec<u8>) -> Value {
        let text = String::from_utf8(body).unwrap();
        let (mut strict, mut rest) = (String::new(), text.as_str());
        while let Some((outside, string)) = rest.split_once('"') {
            strict += &quoted(outside);
            let mut escaped = false;
            let end = string.find(|character| {
                let ends = character == '"' && !escaped;
                escaped = character == '\\' && !escaped;
                ends
            });
            let end = end.unwrap();
            strict += &format!("\"{}\"", &string[..end]);
            rest = &string[end + 1..];
        }
        serde_json::from_str(&(strict + &quoted(rest))).unwrap()
    }

    fn quoted(outside: &str) -> String {
        let words = outside.replace("NaN", "\"nan\"").replace("-Infinity", "\"-inf\"");
        words.replace("Infinity", "\"inf\"")
    }

    fn float(leaf: &Value) -> f64 {
        leaf.as_f64().unwrap_or_else(|| leaf.as_str().unwrap().parse().unwrap())
    }

    /// Checks that `value` is the part of `tensor` with shape `dims` that starts at element `next`.
    fn check(value: &Value, dims: &[i64], tensor: &Tensor, next: &mut usize) {
        if let [outer, inner @ ..] = dims {
            let items = value.as_array().unwrap();
            assert_eq!(items.len(), *outer as usize);
            return items.iter().for_each(|item| check(item, inner, tensor, next));
        }
        let size = tensor.dtype().size();
        let bytes = &tensor.bytes()[*next * size..][..size];
        match tensor.dtype() {
            DType::Float => {
                let (read, held) = (float(value) as f32, bytemuck::pod_read_unaligned::<f32>(bytes));
                assert!(read.to_bits() == held.to_bits() || read.is_nan() && held.is_nan(), "{read} {held}");
            }
            DType::Double => {
                let (read, held) = (float(value), bytemuck::pod_read_unaligned::<f64>(bytes));
                assert!(read.to_bits() == held.to_bits() || read.is_nan() && held.is_nan(), "{read} {held}");
            }
            DType::Half => check_narrow::<Half>(value, bytes),
            DType::BFloat16 => check_narrow::<BFloat16>(value, bytes),
            DType::UInt64 => assert_eq!(value.as_u64().unwrap().to_le_bytes(), bytes),
            DType::Bool => assert_eq!([u8::from(value.as_bool().unwrap())], bytes),
            DType::String => assert_eq!(string(value), tensor.as_strings().unwrap().get(*next)),
            _ => assert_eq!(&value.as_i64().unwrap().to_le_bytes()[..size], bytes),
        }
        *next += 1;
    }

    fn check_narrow<N: Narrow>(value: &Value, bytes: &[u8]) {
        let (read, held) = (float(value), bytemuck::pod_read_unaligned::<u16>(bytes));
        let is_nan = held & 0x7FFF > (0x7FFF >> N::FRACTION_BITS) << N::FRACTION_BITS;
        let bits = nearest_to_text::<N>(format!("{read:e}").as_bytes());
        assert!(if is_nan { read.is_nan() } else { bits == held }, "{value} {held:x}");
    }

    fn string(value: &Value) -> Vec<u8> {
        match value {
            Value::String(text) => text.as_bytes().to_vec(),
            _ => STANDARD.decode(value["b64"].as_str().unwrap()).unwrap(),
        }
    }

    /// Returns whether other printers write the same digits.
    fn is_exact((_, tensor): &&(String, Tensor)) -> bool {
        !matches!(tensor.dtype(), DType::Float | DType::Double | DType::Half | DType::BFloat16)
    }

    fn borrowed(outputs: &[(String, Tensor)]) -> Vec<(&str, &Tensor)> {
        outputs.iter().map(|(alias, tensor)| (alias.as_str(), tensor)).collect()
    }

    proptest! {
        #[test]
        fn columns_read_back(outputs in outputs(0)) {
            let read = read(predict(Format::Columnar, &borrowed(&outputs), BASE64, &Alone).unwrap());
            for (alias, tensor) in &outputs {
                let value = if outputs.len() == 1 { &read["outputs"] } else { &read["outputs"][alias] };
                check(value, tensor.shape(), tensor, &mut 0);
            }
        }

        #[test]
        fn rows_read_back(outputs in outputs(1)) {
            let read = read(predict(Format::Row, &borrowed(&outputs), BASE64, &Alone).unwrap());
            let rows = read["predictions"].as_array().unwrap();
            prop_assert_eq!(rows.len(), outputs[0].1.shape()[0] as usize);
            for (alias, tensor) in &outputs {
                let mut next = 0;
                for row in rows {
                    let value = if outputs.len() == 1 { row } else { &row[alias] };
                    check(value, &tensor.shape()[1..], tensor, &mut next);
                }
            }
        }

        /// In columnar format, whitespace is that of any pretty printer with four spaces.
        #[test]
        fn columns_are_laid_out_as_usual(outputs in outputs(0)) {
            let outputs: Vec<_> = outputs.iter().filter(is_exact).cloned().collect();
            prop_assume!(!outputs.is_empty());
            let ours = predict(Format::Columnar, &borrowed(&outputs), BASE64, &Alone).unwrap();
            let value: Value = serde_json::from_slice(&ours).unwrap();
            let two_spaces = serde_json::to_string_pretty(&value).unwrap();
            let indentation = |line: &str| line.len() - line.trim_start_matches(' ').len();
            let four = two_spaces.lines().map(|line| " ".repeat(indentation(line)) + line);
            // (Only the case of the hexadecimal digits in escapes may differ.)
            let usual = four.collect::<Vec<_>>().join("\n").to_lowercase();
            prop_assert_eq!(String::from_utf8(ours).unwrap().to_lowercase(), usual);
        }

        #[test]
        fn compact_replies_are_the_others_without_white_space(outputs in outputs(1), row in any::<bool>()) {
            let format = if row { Format::Row } else { Format::Columnar };
            let outputs: Vec<_> = outputs.iter().filter(is_exact).cloned().collect();
            prop_assume!(!outputs.is_empty());
            let usual = predict(format, &borrowed(&outputs), BASE64, &Alone).unwrap();
            let compact = Style { compact: true, ..BASE64 };
            let ours = predict(format, &borrowed(&outputs), compact, &Alone).unwrap();
            let expected = serde_json::to_string(&serde_json::from_slice::<Value>(&usual).unwrap()).unwrap();
            prop_assert_eq!(String::from_utf8(ours).unwrap().to_lowercase(), expected.to_lowercase());
        }

        #[test]
        fn results_read_back(scores in prop::collection::vec(any::<f32>(), 1..20), labels in any::<[Vec<u8>; 20]>()) {
            let tensor = Tensor::numbers(
                DType::Float,
                vec![scores.len() as i64],
                bytemuck::cast_slice(&scores).to_vec().into(),
            );
            check(&read(regressions(&scores, RAW).unwrap())["results"], tensor.shape(), &tensor, &mut 0);
            let labels: Strings = labels[..scores.len()].iter().collect();
            let results = Classifications {
                rows: scores.len(),
                columns: 1,
                labels: Some(labels.clone()),
                scores: Some(scores.clone()),
            };
            let read = read(classifications(&results, BASE64).unwrap());
            for (row, label) in labels.iter().enumerate() {
                let class = &read["results"][row][0];
                prop_assert_eq!(string(&class[0]), label);
                check(&class[1], &[], &tensor, &mut { row });
            }
        }
    }
}
