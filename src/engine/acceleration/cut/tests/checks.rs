//! What holds for the parts of every cut, and that they compute what the whole graph computes.

use crate::engine::acceleration::cut::operations;
use crate::engine::acceleration::cut::parts::Parts;
use crate::engine::frozen::FrozenGraph;
use crate::engine::signature::TensorSpec;
use crate::pb::tensorflow::NodeDef;
use crate::tensor::DType;
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

/// Checks `parts` of `whole`.
pub(super) fn well_formed(whole: &FrozenGraph, parts: &Parts) {
    let mut known: HashSet<&str> = tensors(&whole.inputs).collect();
    let mut given: Vec<&str> = known.iter().copied().collect();
    for part in all(parts) {
        closed(part);
        assert!(tensors(&part.inputs).all(|tensor| known.contains(tensor)), "{:?} of {known:?}", part.inputs);
        known.extend(tensors(&part.outputs));
        given.extend(tensors(&part.outputs));
    }
    for output in tensors(&whole.outputs) {
        assert_eq!(given.iter().filter(|tensor| **tensor == output).count(), 1, "{output} in {given:?}");
    }
    runs_in_openvino(&parts.fast);
}

pub(super) fn all(parts: &Parts) -> impl Iterator<Item = &FrozenGraph> {
    parts.before.iter().chain(std::iter::once(&parts.fast)).chain(&parts.after)
}

fn tensors(specs: &[TensorSpec]) -> impl Iterator<Item = &str> {
    specs.iter().map(|spec| spec.tensor.as_str())
}

/// Returns the node and the output that `input` names.
fn source(input: &str) -> (&str, usize) {
    let input = input.trim_start_matches('^');
    input.rsplit_once(':').map_or((input, 0), |(node, output)| (node, output.parse().unwrap()))
}

/// A part has everything that its nodes take, no function, and nothing that its outputs do not need.
fn closed(part: &FrozenGraph) {
    let nodes: HashMap<&str, &NodeDef> = part.graph.node.iter().map(|node| (&*node.name, node)).collect();
    assert_eq!(nodes.len(), part.graph.node.len(), "a name of two nodes");
    assert!(part.graph.library.is_none() && !part.outputs.is_empty());
    let fed: HashSet<&str> = tensors(&part.inputs).map(|tensor| source(tensor).0).collect();
    let placeholders = part.graph.node.iter().filter(|node| node.op == "Placeholder");
    assert_eq!(placeholders.map(|node| &*node.name).collect::<HashSet<_>>(), fed);
    let mut ahead: Vec<&str> = tensors(&part.outputs).map(|tensor| source(tensor).0).collect();
    let mut reached = HashSet::new();
    while let Some(name) = ahead.pop() {
        let node = nodes.get(name).unwrap_or_else(|| panic!("{name} is missing"));
        if reached.insert(name) {
            ahead.extend(node.input.iter().map(|input| source(input).0));
        }
    }
    assert_eq!(reached.len(), nodes.len(), "nodes that nothing needs");
}

/// OpenVINO gets listed operations only, no order of operations, and gives floats that nothing else takes.
fn runs_in_openvino(fast: &FrozenGraph) {
    let mut taken = HashSet::new();
    for node in &fast.graph.node {
        let listed = operations::allowed(&node.op).next().is_some();
        assert!(listed || ["Const", "Placeholder"].contains(&&*node.op), "{} ({})", node.name, node.op);
        assert!(node.input.iter().all(|input| !input.starts_with('^')));
        taken.extend(node.input.iter().map(|input| source(input).0));
    }
    for output in &fast.outputs {
        let (name, place) = source(&output.tensor);
        assert!(output.dtype == DType::Float && place == 0 && !taken.contains(name), "{output:?}");
        assert!(fast.inputs.iter().all(|input| input.tensor != output.tensor));
    }
    let seen = [DType::Float, DType::Bool, DType::Int32, DType::UInt8, DType::Int64];
    assert!(fast.inputs.iter().all(|input| seen.contains(&input.dtype)), "{:?}", fast.inputs);
}

/// Checks that `parts`, one after the other, compute the outputs of `whole`: with formulas in place of values.
pub(super) fn computes_the_same(whole: &FrozenGraph, parts: &Parts) {
    let mut values: HashMap<String, u64> = HashMap::new();
    for (place, input) in whole.inputs.iter().enumerate() {
        values.insert(input.tensor.clone(), hash(&("input", place)));
    }
    let expected = formulas(whole, &values);
    for part in all(parts) {
        values.extend(formulas(part, &values));
    }
    for output in &whole.outputs {
        let expected = expected.get(&output.tensor).or(values.get(&output.tensor)).unwrap();
        assert_eq!(&values[&output.tensor], expected, "{}", output.tensor);
    }
}

/// Returns the formulas of the outputs of `graph`, whose nodes come in any order, for those of its inputs.
fn formulas(graph: &FrozenGraph, inputs: &HashMap<String, u64>) -> HashMap<String, u64> {
    let nodes: HashMap<&str, &NodeDef> = graph.graph.node.iter().map(|node| (&*node.name, node)).collect();
    let mut known: HashMap<&str, u64> = HashMap::new();
    let mut ahead: Vec<&str> = tensors(&graph.outputs).map(|tensor| source(tensor).0).collect();
    while let Some(name) = ahead.last().copied() {
        let node = nodes[name];
        let data = || node.input.iter().filter(|input| !input.starts_with('^')).map(|input| source(input));
        let missing: Vec<&str> =
            data().map(|(node, _)| node).filter(|node| !known.contains_key(node)).collect();
        if missing.is_empty() {
            let taken: Vec<u64> = data().map(|(node, output)| output_of(known[node], output)).collect();
            let formula = match node.op.as_str() {
                "Placeholder" => inputs[&format!("{name}:0")],
                "Identity" => taken[0],
                "Const" => hash(&("constant", prost::Message::encode_to_vec(node))),
                op => hash(&(op, taken)),
            };
            known.insert(name, formula);
            ahead.pop();
        } else {
            ahead.extend(missing);
        }
    }
    let of = |tensor: &str| output_of(known[source(tensor).0], source(tensor).1);
    tensors(&graph.outputs).map(|tensor| (tensor.to_owned(), of(tensor))).collect()
}

fn output_of(node: u64, output: usize) -> u64 {
    if output == 0 { node } else { hash(&(node, output)) }
}

fn hash(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}
