//! A `.tflite` file: its tensors, signatures and operators, read and checked before the library sees the file.
//!
//! LiteRT checks that the file is a whole FlatBuffer, but trusts most of the numbers in it. What it would follow without
//! a check (indices of tensors, buffers, operators and subgraphs) is checked here.

use super::flatbuffer::{Buffer, Damage, Read, Table};
use super::{flexbuffer, strings};
use crate::tensor::element_count;
use std::cell::OnceCell;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// The name of the metadata in which TensorFlow Serving's tools store signatures.
const SIGNATURES: &str = "signature_defs_metadata";

/// The number of `STRING` among the types of tensors.
pub(super) const STRING: u8 = 5;

/// Deepest nesting of subgraphs that call each other.
const DEEPEST: usize = 32;

/// Most dimensions of a tensor that LiteRT's functions can describe.
pub(super) const MOST_DIMENSIONS: usize = 8;

/// The codes of the operators that are looked at.
pub(super) mod code {
    pub(crate) const CUSTOM: i32 = 32;
    pub(crate) const IF: i32 = 118;
    pub(crate) const WHILE: i32 = 119;
    pub(crate) const CALL_ONCE: i32 = 129;
    pub(crate) const ASSIGN_VARIABLE: i32 = 144;
    pub(crate) const STABLEHLO_WHILE: i32 = 200;
}

/// A model's file.
#[derive(Debug)]
pub struct File {
    /// The graphs; the first is the main one.
    pub(super) subgraphs: Vec<Subgraph>,
    pub(super) signatures: Vec<FileSignature>,
    /// Serialized `tensorflow.SignatureDef`s, by name.
    pub(super) signature_defs: Vec<(String, Vec<u8>)>,
}

/// A graph.
#[derive(Debug)]
pub(super) struct Subgraph {
    pub(super) tensors: Vec<TensorInfo>,
    /// Indices of tensors.
    pub(super) inputs: Vec<usize>,
    pub(super) outputs: Vec<usize>,
    pub(super) operators: Vec<Operator>,
}

/// A tensor of a graph.
#[derive(Debug)]
pub(super) struct TensorInfo {
    pub(super) name: String,
    /// The number of its type in the schema.
    pub(super) dtype: u8,
    pub(super) shape: Vec<i32>,
    /// The shape with -1 where it is dynamic; `None` if none is.
    pub(super) signature: Option<Vec<i32>>,
    /// Whether the file has its values.
    is_constant: bool,
}

/// An operator of a graph.
#[derive(Debug)]
pub(super) struct Operator {
    pub(super) code: i32,
    /// The name of a custom operator.
    pub(super) custom: Arc<str>,
    /// Indices of tensors.
    inputs: Vec<usize>,
    outputs: Vec<usize>,
    /// The subgraphs it runs.
    pub(super) calls: Vec<usize>,
}

/// A signature in the file.
#[derive(Debug)]
pub(super) struct FileSignature {
    pub(super) key: String,
    pub(super) subgraph: usize,
    /// Alias → index of the tensor.
    pub(super) inputs: BTreeMap<String, usize>,
    pub(super) outputs: BTreeMap<String, usize>,
}

impl File {
    /// Reads and checks a file. The error says what is wrong, as part of a sentence.
    pub fn read(bytes: &[u8]) -> Result<File, &'static str> {
        let buffer = Buffer::new(bytes);
        let model = buffer.root(b"TFL3")?;
        let buffers: Vec<Content<'_>> = buffers(&model, bytes)?.into_iter().map(Content::new).collect();
        let codes = codes(&model)?;
        let graphs = model.tables(2)?;
        if graphs.is_empty() {
            return Err("it holds no graph");
        }
        let count = graphs.len();
        let subgraph = |table: &Table<'_>| subgraph(table, &buffers, &codes, count);
        let subgraphs = graphs.iter().map(subgraph).collect::<Read<Vec<_>>>()?;
        calls_end(&subgraphs)?;
        let signature = |table: &Table<'_>| file_signature(table, &subgraphs);
        let signatures = model.tables(7)?.iter().map(signature).collect::<Read<Vec<_>>>()?;
        let signature_defs = signature_defs(&model, &buffers)?;
        Ok(File { subgraphs, signatures, signature_defs })
    }

    /// Returns for each graph the bits that `bits` gives its operators, and those of the graphs that it calls.
    pub(super) fn marked(&self, bits: impl Fn(&Operator) -> u8) -> Vec<u8> {
        let own = |graph: &Subgraph| graph.operators.iter().fold(0, |all, operator| all | bits(operator));
        let mut marked: Vec<u8> = self.subgraphs.iter().map(own).collect();
        let calls = self.subgraphs.iter().map(|graph| graph.operators.iter().flat_map(|one| &one.calls));
        let calls: Vec<Vec<usize>> = calls.map(|calls| calls.copied().collect()).collect();
        // As often as the deepest nesting allows.
        for _ in 0..=DEEPEST {
            let with_called =
                |(own, to): (&u8, &Vec<usize>)| to.iter().fold(*own, |all, to| all | marked[*to]);
            let next: Vec<u8> = marked.iter().zip(&calls).map(with_called).collect();
            if next == marked {
                break;
            }
            marked = next;
        }
        marked
    }

    /// Returns whether it has a loop whose condition and body compute nothing. LiteRT looks for the end of a run's time
    /// before each operator, and so never in such a loop.
    pub(super) fn has_idle_loop(&self) -> bool {
        // What only calls others is no work: LiteRT may put the operators of the others in its place.
        let computes = self.marked(|one| u8::from(one.calls.is_empty()));
        let is_loop = |one: &&Operator| matches!(one.code, code::WHILE | code::STABLEHLO_WHILE);
        let operators = self.subgraphs.iter().flat_map(|graph| &graph.operators);
        operators.filter(is_loop).any(|one| one.calls.iter().all(|graph| computes[*graph] == 0))
    }
}

/// The content of a buffer; `None` where it is outside the FlatBuffer or there is none.
struct Content<'a> {
    bytes: Option<&'a [u8]>,
    /// How many strings it holds, if it does: many tensors may have one buffer.
    strings: OnceCell<Option<usize>>,
}

impl<'a> Content<'a> {
    fn new(bytes: Option<&'a [u8]>) -> Content<'a> {
        Content { bytes, strings: OnceCell::new() }
    }

    fn strings(&self) -> Option<usize> {
        *self.strings.get_or_init(|| self.bytes.and_then(strings::count))
    }
}

/// Returns the content of each buffer; `None` where it is outside the FlatBuffer or there is none.
fn buffers<'a>(model: &Table<'a>, bytes: &'a [u8]) -> Read<Vec<Option<&'a [u8]>>> {
    let content = |table: &Table<'a>| -> Read<Option<&'a [u8]>> {
        let (Ok(offset), Ok(size)) = (usize::try_from(table.u64(1)?), usize::try_from(table.u64(2)?)) else {
            return Err("a buffer is too large");
        };
        // 1 is written before the place is known.
        if offset > 1 {
            let end = offset.checked_add(size).ok_or("a buffer is too large")?;
            return bytes.get(offset..end).map(Some).ok_or("a buffer lies outside it");
        }
        Ok(table.bytes(0)?.filter(|content| !content.is_empty()))
    };
    model.tables(4)?.iter().map(content).collect()
}

/// Returns the code of each kind of operator, with the name of a custom one.
fn codes(model: &Table<'_>) -> Read<Vec<(i32, Arc<str>)>> {
    let code = |table: &Table<'_>| {
        // Files of before 2020 have the first field alone, and later ones the larger of both.
        let code = i32::from(table.byte(0)?.cast_signed()).max(table.i32(3)?);
        if code < 0 {
            return Err("it has an operator without a code");
        }
        Ok((code, table.text(1)?.into()))
    };
    model.tables(1)?.iter().map(code).collect()
}

fn subgraph(
    table: &Table<'_>,
    buffers: &[Content<'_>],
    codes: &[(i32, Arc<str>)],
    subgraphs: usize,
) -> Read<Subgraph> {
    let tables = table.tables(0)?;
    let tensor = |one: &Table<'_>| tensor(one, buffers, tables.len());
    let tensors = tables.iter().map(tensor).collect::<Read<Vec<_>>>()?;
    let (inputs, outputs) = (indices(table, 1, tensors.len())?, indices(table, 2, tensors.len())?);
    if inputs.iter().any(|input| tensors[*input].is_constant) {
        return Err("an input is a constant");
    }
    let graph_inputs: HashSet<usize> = inputs.iter().copied().collect();
    let operator = |one: &Table<'_>| operator(one, codes, &tensors, &graph_inputs, subgraphs);
    let operators = table.tables(3)?.iter().map(operator).collect::<Read<Vec<_>>>()?;
    let graph = Subgraph { tensors, inputs, outputs, operators };
    all_is_written(&graph)?;
    Ok(graph)
}

/// Checks that operators, which run in their order, and the outputs read only what has values by then.
fn all_is_written(graph: &Subgraph) -> Read<()> {
    let has_values = |tensor: &TensorInfo| tensor.is_constant || tensor.shape.contains(&0);
    let mut written: Vec<bool> = graph.tensors.iter().map(has_values).collect();
    graph.inputs.iter().for_each(|input| written[*input] = true);
    for operator in &graph.operators {
        if !operator.inputs.iter().all(|input| written[*input]) {
            return Err("an operator reads what has no values");
        }
        operator.outputs.iter().for_each(|output| written[*output] = true);
    }
    if graph.outputs.iter().all(|output| written[*output]) { Ok(()) } else { Err("an output has no values") }
}

/// Returns the indices in `slot`, each below `count`.
fn indices(table: &Table<'_>, slot: usize, count: usize) -> Read<Vec<usize>> {
    table.numbers(slot)?.unwrap_or_default().into_iter().map(|index| within(index, count)).collect()
}

fn within(index: i32, count: usize) -> Read<usize> {
    usize::try_from(index).ok().filter(|index| *index < count).ok_or("an index leads to nothing")
}

fn tensor(table: &Table<'_>, buffers: &[Content<'_>], tensors: usize) -> Read<TensorInfo> {
    if table.u32(10)? != 0 {
        return Err("its weights are in a file of their own, which cannot be served");
    }
    let shape = table.numbers(0)?.unwrap_or_default();
    let signature = table.numbers(7)?.filter(|signature| signature.contains(&-1));
    let whole: Vec<i64> = shape.iter().map(|dim| i64::from(*dim)).collect();
    if element_count(&whole).is_none_or(|count| i32::try_from(count).is_err()) {
        return Err("a tensor has a shape that cannot be");
    }
    if signature
        .as_ref()
        .is_some_and(|signature| signature.len() != shape.len() || signature.iter().any(|dim| *dim < -1))
    {
        return Err("a tensor has two shapes that differ");
    }
    let dtype = table.byte(1)?;
    let index = table.u32(2)? as usize;
    let content =
        if index == 0 && buffers.is_empty() { None } else { Some(buffers.get(index).ok_or(NO_BUFFER)?) };
    let constant = content.filter(|content| content.bytes.is_some());
    let has_all = |content: &Content<'_>| content.strings() == element_count(&whole);
    if dtype == STRING && !constant.is_none_or(has_all) {
        return Err("a constant of strings is damaged");
    }
    quantization(table, tensors)?;
    Ok(TensorInfo { name: table.text(3)?, dtype, shape, signature, is_constant: constant.is_some() })
}

const NO_BUFFER: Damage = "a tensor has a buffer that is not there";

/// Checks the tensors that block-wise quantization refers to.
fn quantization(tensor: &Table<'_>, tensors: usize) -> Read<()> {
    const BLOCKWISE: u8 = 2;
    let Some(table) = tensor.table(4)?.filter(|table| table.byte(4) == Ok(BLOCKWISE)) else { return Ok(()) };
    let details = table.table(5)?.ok_or("a tensor's quantization has no details")?;
    within(details.i32(0)?, tensors)?;
    if details.i32(1)? != -1 {
        within(details.i32(1)?, tensors)?;
    }
    Ok(())
}

/// Operators that move elements without a look at them, from their first input to their outputs: RESHAPE, TRANSPOSE and
/// the like. LiteRT does not check that these are of one type.
const MOVES: [i32; 20] = [2, 5, 22, 26, 34, 36, 37, 38, 39, 43, 45, 60, 65, 69, 70, 83, 88, 100, 102, 105];

fn operator(
    table: &Table<'_>,
    codes: &[(i32, Arc<str>)],
    tensors: &[TensorInfo],
    graph_inputs: &HashSet<usize>,
    subgraphs: usize,
) -> Read<Operator> {
    let (code, custom) = codes.get(table.u32(0)? as usize).ok_or("an operator is of no kind")?.clone();
    // -1 stands for an optional input that is left out.
    let inputs = table.numbers(1)?.unwrap_or_default().into_iter().filter(|index| *index != -1);
    let inputs = inputs.map(|index| within(index, tensors.len())).collect::<Read<Vec<_>>>()?;
    let outputs = indices(table, 2, tensors.len())?;
    // The memory of inputs is the request's.
    if outputs.iter().any(|output| tensors[*output].is_constant || graph_inputs.contains(output)) {
        return Err("an operator writes to an input or a constant");
    }
    let differs =
        |output: &usize| inputs.first().is_none_or(|input| tensors[*input].dtype != tensors[*output].dtype);
    if MOVES.contains(&code) && outputs.iter().any(differs) {
        return Err("an operator's input and output differ in type");
    }
    Ok(Operator { code, custom, inputs, outputs, calls: calls(table, code, subgraphs)? })
}

/// For each operator that runs subgraphs: the slots of their indices in its options, whether these are in the second
/// union of options, and the type that they have there. With another type, LiteRT takes all indices for 0.
const CALLS: [(i32, &[usize], bool, u8); 9] = [
    (code::IF, &[0, 1], false, 92),
    (code::WHILE, &[0, 1], false, 93),
    (code::CALL_ONCE, &[0], false, 103),
    (174, &[1], true, 6),  // STABLEHLO_REDUCE
    (190, &[6], true, 7),  // STABLEHLO_SCATTER
    (198, &[5], true, 13), // STABLEHLO_REDUCE_WINDOW
    (199, &[2], true, 14), // STABLEHLO_SORT
    (code::STABLEHLO_WHILE, &[0, 1], true, 15),
    (206, &[1], true, 21), // STABLEHLO_COMPOSITE
];

/// `STABLEHLO_CASE` and the type of its options, which have a list of subgraphs.
const CASE: (i32, u8) = (209, 23);

const NO_OPTIONS: Damage = "an operator that calls others has no options";

/// Returns the subgraphs that an operator runs.
fn calls(table: &Table<'_>, code: i32, subgraphs: usize) -> Read<Vec<usize>> {
    if code == CASE.0 {
        return indices(&options(table, true, CASE.1)?, 0, subgraphs);
    }
    let Some((_, slots, second, kind)) = CALLS.iter().find(|(known, ..)| *known == code) else {
        return Ok(Vec::new());
    };
    let options = options(table, *second, *kind)?;
    slots.iter().map(|slot| within(options.i32(*slot)?, subgraphs)).collect()
}

/// Returns the options of an operator, which have to be of type `kind`.
fn options<'a>(table: &Table<'a>, second: bool, kind: u8) -> Read<Table<'a>> {
    let slot = if second { 11 } else { 3 };
    if table.byte(slot)? != kind {
        return Err(NO_OPTIONS);
    }
    table.table(slot + 1)?.ok_or(NO_OPTIONS)
}

/// Checks that no subgraph calls itself.
fn calls_end(subgraphs: &[Subgraph]) -> Read<()> {
    let called =
        |index: usize| subgraphs[index].operators.iter().flat_map(|operator| operator.calls.iter().copied());
    // The depth of each graph, from those that call none; as often as the deepest nesting allows.
    let mut depths = vec![0; subgraphs.len()];
    for _ in 0..=DEEPEST {
        let next: Vec<usize> = (0..subgraphs.len())
            .map(|index| called(index).map(|other| depths[other] + 1).max().unwrap_or(0))
            .collect();
        if next == depths {
            return Ok(());
        }
        depths = next;
    }
    Err("its graphs call each other too deeply, or for ever")
}

/// Reads a signature. LiteRT needs a name for each input and output of its subgraph, and no others.
fn file_signature(table: &Table<'_>, subgraphs: &[Subgraph]) -> Read<FileSignature> {
    let index = table.u32(4)? as usize;
    let subgraph = subgraphs.get(index).ok_or("a signature has no graph")?;
    let inputs = aliases(&table.tables(0)?, &subgraph.inputs)?;
    let outputs = aliases(&table.tables(1)?, &subgraph.outputs)?;
    Ok(FileSignature { key: table.text(2)?, subgraph: index, inputs, outputs })
}

fn aliases(tables: &[Table<'_>], tensors: &[usize]) -> Read<BTreeMap<String, usize>> {
    // Which of them has no name yet.
    let mut unnamed: HashSet<usize> = tensors.iter().copied().collect();
    let known = unnamed.clone();
    let mut named = BTreeMap::new();
    for table in tables {
        let index = table.u32(1)? as usize;
        let alias = table.text(0)?;
        if alias.is_empty() || !known.contains(&index) || named.insert(alias, index).is_some() {
            return Err("a signature names what its graph does not have");
        }
        unnamed.remove(&index);
    }
    if tables.len() != tensors.len() || !unnamed.is_empty() {
        return Err("a signature leaves out an input or output of its graph");
    }
    Ok(named)
}

fn signature_defs(model: &Table<'_>, buffers: &[Content<'_>]) -> Read<Vec<(String, Vec<u8>)>> {
    let mut found = Vec::new();
    for table in model.tables(6)? {
        if table.bytes(0)?.is_none() {
            return Err("it has metadata without a name");
        }
        let buffer = buffers.get(table.u32(1)? as usize).ok_or("its metadata is not there")?.bytes;
        if table.text(0)? == SIGNATURES && found.is_empty() {
            let map = buffer.and_then(flexbuffer::map).ok_or("its signatures are damaged")?;
            found = map.into_iter().map(|(name, bytes)| (name, bytes.to_vec())).collect();
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Field, Fields, Graph, file, tensor};
    use super::*;

    /// An operator of three graphs, the second and the third of which copy a number.
    fn calling(code: i32, options: Fields) -> Vec<u8> {
        let tensors = || {
            let names = [("x", 0), ("c", 6), ("y", 0)];
            names.iter().map(|(name, dtype)| tensor(name, *dtype, &[1], 0)).collect::<Vec<_>>()
        };
        let main = Graph {
            tensors: tensors(),
            inputs: vec![1, 0],
            outputs: vec![2],
            operators: vec![(code, vec![1, 0], vec![2], options)],
        };
        let relu = |_| Graph {
            tensors: tensors(),
            inputs: vec![0],
            outputs: vec![2],
            operators: vec![(19, vec![0], vec![2], vec![])],
        };
        file(std::iter::once(main).chain([1, 2].map(relu)).collect(), &[])
    }

    /// Options of `slots` whose indices lead to the graph `to`.
    fn options(slots: &[usize], second: bool, kind: u8, to: i32) -> Fields {
        let first = if second { 11 } else { 3 };
        let indices = slots.iter().map(|slot| (*slot, Field::Word(to))).collect();
        vec![(first, Field::Byte(kind)), (first + 1, Field::Table(indices))]
    }

    #[test]
    fn options_of_another_type_are_refused() {
        for (code, slots, second, kind) in CALLS {
            let read = |kind| File::read(&calling(code, options(slots, second, kind, 1)));
            assert_eq!(read(kind).unwrap().subgraphs[0].operators[0].calls, vec![1; slots.len()], "{code}");
            for other in [0, kind - 1, 255] {
                assert_eq!(read(other).unwrap_err(), NO_OPTIONS, "{code}");
            }
            let own = File::read(&calling(code, options(slots, second, kind, 0)));
            assert!(own.unwrap_err().contains("for ever"), "{code}");
        }
    }

    #[test]
    fn all_graphs_of_a_case_are_called() {
        let case = |kind, calls: &[i32]| {
            let list = Field::Table(vec![(0, Field::Numbers(calls.to_vec()))]);
            File::read(&calling(CASE.0, vec![(11, Field::Byte(kind)), (12, list)]))
        };
        assert_eq!(case(CASE.1, &[1, 2]).unwrap().subgraphs[0].operators[0].calls, [1, 2]);
        assert!(case(CASE.1, &[1, 0]).unwrap_err().contains("for ever"));
        assert!(case(CASE.1, &[3]).is_err());
        assert_eq!(case(0, &[1, 2]).unwrap_err(), NO_OPTIONS);
    }
}
