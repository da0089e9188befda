//! What an ONNX model's file says of its runs: whether they end and when, what they change, which files lie beside it.
//!
//! The file is walked once before ONNX Runtime loads it, in place and without its weights. Its operators tell whether
//! a run may go on for ever (`Loop`), and whether its time depends on values: where one makes a tensor whose size is a
//! value (`NonZero`, `Range`), unless that value follows from constants and shapes alone, as in most exported models.
//!
//! Operators with a random generator count as a change: the generator goes on with each run, and no two answers are
//! equal.

use super::ops::{self, Work};
use super::wire::{Fault, Reader, Result, Value};
use crate::engine::Termination;
use std::collections::{BTreeSet, HashSet};
use std::io::{Read, Seek};

/// What is known of a model from its file.
#[derive(Debug)]
pub struct Description {
    /// What is known of the end of its runs.
    pub termination: Termination,
    /// Whether a run has no effect on later ones.
    pub changes_nothing: bool,
    /// The files, relative to the model's, that hold parts of its weights.
    pub external: BTreeSet<String>,
    /// The inputs and outputs for which no shape is declared, not even the rank.
    pub unranked: HashSet<String>,
    /// Whether it has a graph at all.
    pub has_graph: bool,
    /// Whether a loop's body computes nothing from its inputs. Between its steps ONNX Runtime would never see that a run
    /// has to end.
    pub has_idle_loop: bool,
    /// Whether a loop's body may become one that computes nothing, if ONNX Runtime optimises it: what follows from
    /// constants is computed at the load, and what passes its input on is taken out.
    pub may_have_idle_loop: bool,
}

/// Deepest nesting of graphs: protobuf's own limit of 100 messages allows hardly more.
const DEEPEST: usize = 32;

/// Walks the `ModelProto` in `file`, which has `length` bytes.
pub fn describe(file: impl Read + Seek, length: u64) -> Result<Description> {
    let description = Description {
        termination: Termination::ByShapes,
        changes_nothing: true,
        external: BTreeSet::new(),
        unranked: HashSet::new(),
        has_graph: false,
        has_idle_loop: false,
        may_have_idle_loop: false,
    };
    let mut walk = Walk {
        reader: Reader::new(file),
        description,
        settled: HashSet::new(),
        folds: HashSet::new(),
        counts: Counts::default(),
        in_function: false,
    };
    walk.model(length)?;
    Ok(walk.description)
}

struct Walk<R> {
    reader: Reader<R>,
    description: Description,
    /// The tensors whose values follow from constants and shapes alone. Names are those of one graph and of the graphs
    /// nested in it, which ONNX does not let share them.
    settled: HashSet<String>,
    /// The tensors that are not settled, and that ONNX Runtime may compute at the load all the same: those of branches
    /// and functions, and what follows from them.
    folds: HashSet<String>,
    counts: Counts,
    /// Whether the nodes are those of a function. Its inputs may be constants where it is called.
    in_function: bool,
}

/// Numbers of nodes so far.
#[derive(Clone, Copy, Default)]
struct Counts {
    /// Those whose outputs do not follow from constants and shapes alone.
    computing: u64,
    /// Those that ONNX Runtime's optimisations leave where they are.
    staying: u64,
}

/// A node, as far as it matters.
#[derive(Default)]
struct Node {
    op: String,
    domain: String,
    inputs: Vec<String>,
    outputs: Vec<String>,
    has_graphs: bool,
    /// Whether one of its graphs computes nothing.
    has_idle_graph: bool,
    /// Whether none of the nodes of one of its graphs is sure to stay.
    may_have_idle_graph: bool,
}

impl<R: Read + Seek> Walk<R> {
    fn model(&mut self, end: u64) -> Result<()> {
        const GRAPH: u32 = 7;
        const FUNCTIONS: u32 = 25;
        while let Some((number, value)) = self.reader.field(end)? {
            match (number, value) {
                (GRAPH, Value::Until(end)) => {
                    self.description.has_graph = true;
                    self.graph(end, 0)?;
                }
                (FUNCTIONS, Value::Until(end)) => {
                    // A scope of its own, whose inputs may be any values.
                    let outside = std::mem::take(&mut self.settled);
                    self.in_function = true;
                    self.nodes(end, FUNCTION_NODES, 0)?;
                    self.in_function = false;
                    self.settled = outside;
                }
                _ => self.reader.skip(value)?,
            }
        }
        Ok(())
    }

    /// Walks a `GraphProto`: constants first, which stand behind the nodes that use them.
    fn graph(&mut self, end: u64, depth: usize) -> Result<()> {
        const INITIALIZER: u32 = 5;
        const SPARSE_INITIALIZER: u32 = 15;
        const INPUT: u32 = 11;
        const OUTPUT: u32 = 12;
        let start = self.reader.at();
        while let Some((number, value)) = self.reader.field(end)? {
            match (number, value) {
                (INITIALIZER, Value::Until(end)) => {
                    let name = self.tensor(end)?;
                    self.settled.insert(name);
                }
                (SPARSE_INITIALIZER, Value::Until(end)) => self.sparse_tensor(end)?,
                (INPUT | OUTPUT, Value::Until(end)) => {
                    let (name, has_shape) = self.value_info(end)?;
                    if depth > 0 && number == INPUT {
                        self.settled.remove(&name);
                        self.folds.remove(&name);
                    } else if depth == 0 && !has_shape {
                        self.description.unranked.insert(name);
                    }
                }
                _ => self.reader.skip(value)?,
            }
        }
        self.reader.go_to(start)?;
        self.nodes(end, GRAPH_NODES, depth)
    }

    /// Reads a `TensorProto` and returns its name.
    fn tensor(&mut self, end: u64) -> Result<String> {
        const NAME: u32 = 8;
        const EXTERNAL_DATA: u32 = 13;
        let mut name = String::new();
        while let Some((number, value)) = self.reader.field(end)? {
            match (number, value) {
                (NAME, Value::Until(end)) => name = self.reader.text(end)?,
                (EXTERNAL_DATA, Value::Until(end)) => self.external_data(end)?,
                _ => self.reader.skip(value)?,
            }
        }
        Ok(name)
    }

    /// Reads a `SparseTensorProto`.
    fn sparse_tensor(&mut self, end: u64) -> Result<()> {
        const VALUES: u32 = 1;
        const INDICES: u32 = 2;
        while let Some((number, value)) = self.reader.field(end)? {
            match (number, value) {
                (VALUES | INDICES, Value::Until(end)) => drop(self.tensor(end)?),
                _ => self.reader.skip(value)?,
            }
        }
        Ok(())
    }

    /// Reads a `StringStringEntryProto` that says where the data of a tensor are.
    fn external_data(&mut self, end: u64) -> Result<()> {
        let (mut key, mut text) = (String::new(), String::new());
        while let Some((number, value)) = self.reader.field(end)? {
            match (number, value) {
                (1, Value::Until(end)) => key = self.reader.text(end)?,
                (2, Value::Until(end)) => text = self.reader.text(end)?,
                _ => self.reader.skip(value)?,
            }
        }
        if key == "location" {
            self.description.external.insert(text);
        }
        Ok(())
    }

    /// Reads a `ValueInfoProto`: its name, and whether a shape is declared.
    fn value_info(&mut self, end: u64) -> Result<(String, bool)> {
        /// `TypeProto.tensor_type`, and in it `shape`.
        const TENSOR: u32 = 1;
        const SHAPE: u32 = 2;
        let (mut name, mut has_shape) = (String::new(), false);
        while let Some((number, value)) = self.reader.field(end)? {
            match (number, value) {
                (1, Value::Until(end)) => name = self.reader.text(end)?,
                (2, Value::Until(end)) => {
                    while let Some((number, value)) = self.reader.field(end)? {
                        match (number, value) {
                            (TENSOR, Value::Until(end)) => has_shape |= self.has_field(end, SHAPE)?,
                            _ => self.reader.skip(value)?,
                        }
                    }
                }
                _ => self.reader.skip(value)?,
            }
        }
        Ok((name, has_shape))
    }

    /// Reads a message, and returns whether it has field `wanted`.
    fn has_field(&mut self, end: u64, wanted: u32) -> Result<bool> {
        let mut found = false;
        while let Some((number, value)) = self.reader.field(end)? {
            found |= number == wanted;
            self.reader.skip(value)?;
        }
        Ok(found)
    }

    /// Walks the nodes of a graph or function, which are its fields `nodes`, in the order in which they run.
    fn nodes(&mut self, end: u64, nodes: u32, depth: usize) -> Result<()> {
        while let Some((number, value)) = self.reader.field(end)? {
            match (number == nodes, value) {
                (true, Value::Until(end)) => self.node(end, depth)?,
                _ => self.reader.skip(value)?,
            }
        }
        Ok(())
    }

    /// Reads a `NodeProto`.
    fn node(&mut self, end: u64, depth: usize) -> Result<()> {
        let mut node = Node::default();
        let staying = self.counts.staying;
        while let Some((number, value)) = self.reader.field(end)? {
            match (number, value) {
                (1, Value::Until(end)) => node.inputs.push(self.reader.text(end)?),
                (2, Value::Until(end)) => node.outputs.push(self.reader.text(end)?),
                (4, Value::Until(end)) => node.op = self.reader.text(end)?,
                (5, Value::Until(end)) => self.attribute(&mut node, end, depth)?,
                (7, Value::Until(end)) => node.domain = self.reader.text(end)?,
                _ => self.reader.skip(value)?,
            }
        }
        if ops::is_removable(&node.domain, &node.op, false) {
            // With the nodes of its graphs, of which ONNX Runtime may take the branch that is never run.
            self.counts.staying = staying;
        }
        self.judge(node);
        Ok(())
    }

    /// Reads an `AttributeProto` of `node`.
    fn attribute(&mut self, node: &mut Node, end: u64, depth: usize) -> Result<()> {
        const TENSOR: u32 = 5;
        const TENSORS: u32 = 10;
        const SPARSE_TENSOR: u32 = 22;
        const SPARSE_TENSORS: u32 = 23;
        const GRAPH: u32 = 6;
        const GRAPHS: u32 = 11;
        while let Some((number, value)) = self.reader.field(end)? {
            match (number, value) {
                (GRAPH | GRAPHS, Value::Until(end)) => {
                    if depth == DEEPEST {
                        return Err(Fault::TooDeep);
                    }
                    let before = self.counts;
                    self.graph(end, depth + 1)?;
                    node.has_graphs = true;
                    node.has_idle_graph |= self.counts.computing == before.computing;
                    node.may_have_idle_graph |= self.counts.staying == before.staying;
                }
                (TENSOR | TENSORS, Value::Until(end)) => drop(self.tensor(end)?),
                (SPARSE_TENSOR | SPARSE_TENSORS, Value::Until(end)) => self.sparse_tensor(end)?,
                _ => self.reader.skip(value)?,
            }
        }
        Ok(())
    }

    /// Takes note of what `node` does.
    fn judge(&mut self, node: Node) {
        let is_settled_input = |input: &String| input.is_empty() || self.settled.contains(input);
        let termination = match ops::work(&node.domain, &node.op) {
            Work::MayLoop => Termination::MayLoop,
            Work::ByValues => Termination::Finite,
            Work::ByInputs(sizes)
                if !sizes.iter().filter_map(|at| node.inputs.get(*at)).all(is_settled_input) =>
            {
                Termination::Finite
            }
            Work::ByInputs(_) | Work::ByShapes => Termination::ByShapes,
        };
        let is_random = ops::is_random(&node.domain, &node.op, &node.inputs);
        let is_settled = !is_random
            && !node.has_graphs
            && ops::is_standard(&node.domain)
            && (ops::tells_shapes(&node.domain, &node.op) || node.inputs.iter().all(is_settled_input));
        let may_fold = |input: &String| is_settled_input(input) || self.folds.contains(input);
        let folds = self.in_function
            || ops::may_be_constant(&node.domain, &node.op)
            || (!is_random && !node.has_graphs && node.inputs.iter().all(may_fold));
        let stays = !folds && !ops::is_removable(&node.domain, &node.op, node.inputs.iter().any(may_fold));
        self.description.termination = self.description.termination.min(termination);
        self.description.changes_nothing &= !is_random;
        let is_loop = termination == Termination::MayLoop;
        self.description.has_idle_loop |= is_loop && node.has_idle_graph;
        self.description.may_have_idle_loop |= is_loop && node.may_have_idle_graph;
        self.counts.computing += u64::from(!is_settled);
        self.counts.staying += u64::from(stays);
        for output in node.outputs {
            mark(&mut self.folds, &output, folds);
            mark(&mut self.settled, &output, is_settled);
        }
    }
}

/// Adds `name` to `names`, or removes it.
fn mark(names: &mut HashSet<String>, name: &str, is_in: bool) {
    if !is_in {
        names.remove(name);
    } else if !names.contains(name) {
        names.insert(name.to_owned());
    }
}

/// The field of a `GraphProto` with its nodes.
const GRAPH_NODES: u32 = 1;
/// The field of a `FunctionProto` with its nodes.
const FUNCTION_NODES: u32 = 7;

#[cfg(test)]
mod tests {
    use super::super::tests::model::{Dim, Message, external, graph, model, node, value, with_graph};
    use super::*;
    use proptest::prelude::*;
    use std::io::Cursor;

    fn described(bytes: &[u8]) -> Result<Description> {
        describe(Cursor::new(bytes), bytes.len() as u64)
    }

    fn of(nodes: &[Message]) -> Description {
        let one = super::super::tests::model::initializer("one", 7, &[1], &[1, 0, 0, 0, 0, 0, 0, 0]);
        let x = value("x", 1, Some(&[Dim::Any]));
        described(&model(&graph(nodes, &[one], &[x], &[value("y", 1, None)]))).unwrap()
    }

    #[test]
    fn the_end_depends_on_what_sizes_come_from() {
        let cast = || node("Cast", &["x"], &["n"]);
        let shape = || node("Shape", &["x"], &["n"]);
        let twice = || node("Add", &["n", "n"], &["m"]);
        let body = graph(&[node("Relu", &["x"], &["z"])], &[], &[], &[value("z", 1, None)]);
        for (nodes, expected) in [
            (vec![node("Relu", &["x"], &["y"])], Termination::ByShapes),
            (vec![node("NonZero", &["x"], &["y"])], Termination::Finite),
            (vec![node("Expand", &["x", "one"], &["y"])], Termination::ByShapes),
            (vec![shape(), twice(), node("Expand", &["x", "m"], &["y"])], Termination::ByShapes),
            (vec![cast(), twice(), node("Expand", &["x", "m"], &["y"])], Termination::Finite),
            (vec![cast(), node("Range", &["one", "n", "one"], &["y"])], Termination::Finite),
            (vec![node("Resize", &["x", "", "one"], &["y"])], Termination::ByShapes),
            (vec![cast(), with_graph(node("If", &["n"], &["y"]), "then_branch", &body)], Termination::Finite),
            (vec![with_graph(node("If", &["one"], &["y"]), "then_branch", &body)], Termination::ByShapes),
            (vec![with_graph(node("Scan", &["x"], &["y"]), "body", &body)], Termination::ByShapes),
            (vec![with_graph(node("Loop", &["one", ""], &["y"]), "body", &body)], Termination::MayLoop),
            // A function of this name, whose nodes are in the file.
            (vec![node("NonZero", &["x"], &["y"]).bytes(7, "mine")], Termination::ByShapes),
        ] {
            let found = of(&nodes);
            assert_eq!(found.termination, expected, "{} nodes", nodes.len());
            assert!(found.changes_nothing && !found.has_idle_loop);
        }
    }

    #[test]
    fn loops_that_optimisations_could_make_idle_are_told() {
        let branch = |op| graph(&[node(op, &["x"], &["z"])], &[], &[], &[value("z", 1, None)]);
        let chosen = |op| with_graph(node("If", &["one"], &["c"]), "then_branch", &branch(op));
        let call = || node("Unknown", &["x"], &["c"]).bytes(7, "mine");
        for (nodes, expected) in [
            (vec![node("Relu", &["x"], &["c"])], false),
            (vec![node("Add", &["x", "x"], &["c"])], false),
            (vec![node("RandomNormalLike", &["one"], &["c"])], false),
            (vec![node("Identity", &["x"], &["c"])], true),
            (vec![node("Cast", &["x"], &["b"]), node("Dropout", &["b"], &["c"])], true),
            (vec![node("Identity", &["x"], &["b"]), node("Relu", &["b"], &["c"])], false),
            (vec![node("Add", &["x", "one"], &["c"])], true),
            (vec![chosen("Relu")], true),
            (vec![chosen("Relu"), node("Neg", &["c"], &["d"])], true),
            (vec![chosen("Relu"), node("Add", &["c", "x"], &["d"])], true),
            (vec![chosen("Relu"), node("Max", &["c", "x"], &["d"])], false),
            (vec![call()], true),
            (vec![call(), node("Neg", &["c"], &["d"])], true),
            (vec![call(), node("Neg", &["x"], &["d"])], false),
        ] {
            let x = value("x", 1, Some(&[Dim::Any]));
            let body = graph(&nodes, &[], std::slice::from_ref(&x), &[value("c", 1, None)]);
            let found = of(&[with_graph(node("Loop", &["one", ""], &["y"]), "body", &body)]);
            let ops = nodes.iter().map(|node| String::from_utf8_lossy(node.as_ref()).into_owned());
            assert_eq!(found.may_have_idle_loop, expected, "{:?}", ops.collect::<Vec<_>>());
        }
    }

    #[test]
    fn nested_graphs_and_functions_are_walked() {
        let random = graph(&[node("RandomNormalLike", &["x"], &["z"])], &[], &[], &[value("z", 1, None)]);
        let nested = with_graph(node("If", &["one"], &["y"]), "else_branch", &random);
        assert!(!of(&[nested]).changes_nothing);
        let function = Message::default().bytes(1, "mine").bytes(7, node("NonZero", &["x"], &["y"]));
        let mut bytes = model(&graph(&[], &[], &[], &[]));
        bytes.extend_from_slice(Message::default().bytes(25, function).as_ref());
        assert_eq!(described(&bytes).unwrap().termination, Termination::Finite);
    }

    #[test]
    fn nesting_has_a_limit() {
        let nested = |depth| {
            let inner = graph(&[node("Relu", &["x"], &["y"])], &[], &[], &[]);
            (0..depth).fold(inner, |inner, _| {
                graph(&[with_graph(node("If", &["x"], &["y"]), "then_branch", &inner)], &[], &[], &[])
            })
        };
        assert!(described(&model(&nested(DEEPEST))).is_ok());
        assert!(matches!(described(&model(&nested(DEEPEST + 1))), Err(Fault::TooDeep)));
        assert!(matches!(described(&model(&nested(10 * DEEPEST))), Err(Fault::TooDeep)));
    }

    #[test]
    fn files_beside_the_model_are_listed_once() {
        let weights = |name, location| external(name, 1, &[1], location);
        let constants = [weights("a", "w.bin"), weights("b", "w.bin"), weights("c", "v.bin")];
        let files = |graph: Message| -> Vec<String> {
            described(&model(&graph)).unwrap().external.into_iter().collect()
        };
        assert_eq!(files(graph(&[], &constants, &[], &[])), ["v.bin", "w.bin"]);
        let sparse =
            |location| Message::default().bytes(1, weights("d", location)).bytes(2, weights("e", "i.bin"));
        assert_eq!(files(graph(&[], &[], &[], &[]).bytes(15, sparse("s.bin"))), ["i.bin", "s.bin"]);
        // Those of attributes, such as that of a node `Constant`.
        for (field, tensor, expected) in [
            (5, weights("", "t.bin"), &["t.bin"][..]),
            (10, weights("", "t.bin"), &["t.bin"]),
            (22, sparse("t.bin"), &["i.bin", "t.bin"]),
            (23, sparse("t.bin"), &["i.bin", "t.bin"]),
        ] {
            let constant = node("Constant", &[], &["c"])
                .bytes(5, Message::default().bytes(1, "value").bytes(field, tensor));
            assert_eq!(files(graph(&[constant], &[], &[], &[])), expected, "{field}");
        }
    }

    #[test]
    fn a_file_without_a_graph_is_told() {
        assert!(!described(&[]).unwrap().has_graph);
        assert!(described(&model(&graph(&[], &[], &[], &[]))).unwrap().has_graph);
    }

    proptest! {
        #[test]
        fn any_bytes_are_described_or_a_fault(bytes: Vec<u8>) {
            drop(described(&bytes));
        }

        #[test]
        fn a_model_with_any_bytes_changed_is_described_or_a_fault(
            changes in proptest::collection::vec((0..10_000_usize, any::<u8>()), 1..4),
        ) {
            let body = graph(&[node("Relu", &["x"], &["z"])], &[], &[], &[value("z", 1, None)]);
            let nodes = [with_graph(node("Loop", &["one", ""], &["y"]), "body", &body), node("Add", &["x"], &["w"])];
            let mut bytes = model(&graph(&nodes, &[external("a", 1, &[1], "w")], &[value("x", 1, None)], &[]));
            let length = bytes.len();
            changes.iter().for_each(|(place, byte)| bytes[place % length] = *byte);
            drop(described(&bytes));
        }
    }
}
