//! Makes a frozen graph of the graph that TensorFlow ran: variables become constants, arguments become placeholders,
//! and what inlining has left behind goes.

use super::graph::{Graph, Node, Source};
use super::plan::{Plan, output_node, placeholder, type_of_attr, unique};
use crate::engine::frozen::FrozenGraph;
use crate::engine::signature::TensorSpec;
use crate::engine::tensorflow::effects::node_of;
use crate::error::{Error, Kind, Result};
use crate::pb::tensor::Encoded;
use crate::pb::tensorflow::attr_value::Value;
use crate::pb::tensorflow::{AttrValue, DataType, GraphDef, OpDef};
use crate::pb::wire::Pieces;
use crate::tensor::{Data, Tensor};
use bytes::{Bytes, BytesMut};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Makes the frozen graph of `plan`, which TensorFlow ran as `inlined`; `values` are those of the variables.
pub(super) fn frozen(inlined: GraphDef, plan: Plan, values: Vec<Tensor>) -> Result<FrozenGraph> {
    let mut graph = Graph::read(inlined)?;
    let inputs = replace_arguments(&mut graph, &plan, &values);
    let variables = replace_variables(&mut graph, &plan, values);
    retype(&mut graph, variables)?;
    let outputs = add_outputs(&mut graph, &plan)?;
    drop_controls(&mut graph);
    bypass(&mut graph);
    drop_controls(&mut graph);
    let mut names: HashSet<String> =
        plan.inputs.iter().map(|spec| node_of(&spec.tensor).to_owned()).collect();
    let mut named_outputs = Vec::new();
    for (place, spec) in outputs.iter().zip(&plan.outputs) {
        let name = unique(node_of(&spec.tensor), &mut names);
        named_outputs.push(TensorSpec { tensor: format!("{name}:0"), ..spec.clone() });
        graph.nodes[*place].name = name;
    }
    for node in &mut graph.nodes {
        node.attr.retain(|name, _| !name.starts_with('_') || name == KERNEL);
    }
    let needed: Vec<usize> = inputs.into_iter().chain(outputs).collect();
    let graph = graph.write(&needed);
    check(&graph)?;
    Ok(FrozenGraph { graph, inputs: plan.inputs, outputs: named_outputs })
}

/// Where oneDNN is on, TensorFlow has replaced operations by those of oneDNN, under names with these prefixes.
const ONEDNN: [&str; 2] = ["_MklNative", "_Mkl"];
/// How the kernels of these are labelled.
const ONEDNN_KERNELS: &[u8] = b"Mkl";

/// Makes oneDNN's operations in `graph` TensorFlow's again; `definition` tells what an operation is.
pub(super) fn restore_operations(
    graph: &mut GraphDef,
    definition: impl Fn(&str) -> Result<OpDef>,
) -> Result<()> {
    for node in &mut graph.node {
        let Some(op) = ONEDNN.iter().find_map(|prefix| node.op.strip_prefix(prefix)) else { continue };
        let known = definition(op)
            .map_err(|_| unimplemented(format!("oneDNN's operation {} stands for several", node.op)))?;
        node.op = op.to_owned();
        node.attr.retain(|name, attr| {
            let is_label =
                |label: &Value| matches!(label, Value::S(label) if label.starts_with(ONEDNN_KERNELS));
            known.attr.iter().any(|attr| attr.name == *name)
                || (name == KERNEL && !attr.value.as_ref().is_some_and(is_label))
        });
    }
    Ok(())
}

/// The one attribute that starts as internal ones do and says what is computed: which of an operation's kernels.
const KERNEL: &str = "_kernel";

fn unimplemented(why: impl Into<String>) -> Error {
    Error::new(Kind::Unimplemented, why.into())
}

fn attr(value: Value) -> AttrValue {
    AttrValue { value: Some(value) }
}

fn types(all: &[(&str, i32)]) -> BTreeMap<String, AttrValue> {
    all.iter().map(|(name, dtype)| ((*name).to_owned(), attr(Value::Type(*dtype)))).collect()
}

/// Returns the node that `node` feeds or fetches for the session, if that is its `op`: it is called after the node, its
/// output and its own index.
fn session_node<'n>(node: &'n Node, op: &str, prefix: &str) -> Option<&'n str> {
    let Some(Value::I(index)) = node.attr.get("index")?.value else { return None };
    let name = node.name.strip_prefix(prefix)?;
    (node.op == op).then(|| name.strip_suffix(&format!("_0_{index}")))?
}

/// Replaces what was fed: inputs by placeholders, variables that are no resources by their values. Returns the
/// placeholders, one for each input.
fn replace_arguments(graph: &mut Graph, plan: &Plan, values: &[Tensor]) -> Vec<usize> {
    let arguments: HashMap<String, usize> = graph
        .nodes
        .iter()
        .enumerate()
        .filter_map(|(place, node)| Some((session_node(node, "_Arg", "_arg_")?.to_owned(), place)))
        .collect();
    for (variable, value) in plan.variables.iter().zip(values) {
        if let Some(place) = arguments.get(&variable.node) {
            graph.nodes[*place] = constant(&variable.node, value);
        }
    }
    let mut placed = Vec::new();
    for spec in &plan.inputs {
        let made = placeholder(node_of(&spec.tensor), spec);
        let made = Node { name: made.name, op: made.op, attr: made.attr, ..Node::default() };
        match arguments.get(node_of(&spec.tensor)) {
            Some(place) => {
                graph.nodes[*place] = made;
                placed.push(*place);
            }
            // No output needs it.
            None => placed.push(graph.add(made)),
        }
    }
    placed
}

/// Makes a constant of `value`.
fn constant(name: &str, value: &Tensor) -> Node {
    let as_content = matches!(value.data(), Data::Numbers(_));
    let encoded = Encoded::new(value, as_content);
    let mut pieces = Pieces::with_capacity(Pieces::room_for(encoded.len()));
    encoded.write(&mut pieces);
    let mut bytes = BytesMut::with_capacity(encoded.len());
    pieces.finish().iter().for_each(|piece| bytes.extend_from_slice(piece));
    let mut attrs = types(&[("dtype", value.dtype() as i32)]);
    attrs.insert("value".to_owned(), attr(Value::Tensor(Bytes::from(bytes))));
    Node { name: name.to_owned(), op: "Const".to_owned(), attr: attrs, ..Node::default() }
}

/// Replaces the handles of variables by the variables' values; returns these nodes, with their types.
fn replace_variables(graph: &mut Graph, plan: &Plan, values: Vec<Tensor>) -> Vec<(usize, i32)> {
    let places: HashMap<String, usize> = graph
        .nodes
        .iter()
        .enumerate()
        .filter(|(_, node)| node.op == "VarHandleOp")
        .map(|(place, node)| (node.name.clone(), place))
        .collect();
    let mut replaced = Vec::new();
    for (variable, value) in plan.variables.iter().zip(values) {
        if let Some(place) = places.get(&variable.node) {
            graph.nodes[*place] = constant(&variable.node, &value);
            replaced.push((*place, value.dtype() as i32));
        }
    }
    replaced
}

/// What an operation does with a variable.
enum Use {
    /// Its outputs are the variable; the attribute that says so.
    Moves(&'static str),
    /// Its outputs with the input's position are.
    MovesList(&'static str),
    /// It takes the value, as this operation with these attributes of its own and this one for the type.
    Reads(&'static str, &'static [&'static str], &'static str),
}

fn use_of(op: &str) -> Option<Use> {
    Some(match op {
        "Identity" | "Enter" | "Exit" | "Switch" | "Merge" | "NextIteration" => Use::Moves("T"),
        "IdentityN" => Use::MovesList("T"),
        "ReadVariableOp" => Use::Reads("Identity", &[], "T"),
        "VariableShape" => Use::Reads("Shape", &["out_type"], "T"),
        "ResourceGather" => Use::Reads("GatherV2", &["Tindices", "batch_dims"], "Tparams"),
        "ResourceGatherNd" => Use::Reads("GatherNd", &["Tindices"], "Tparams"),
        _ => return None,
    })
}

/// Follows the variables, which were handles and now are values, and makes their consumers take values.
fn retype(graph: &mut Graph, variables: Vec<(usize, i32)>) -> Result<()> {
    let consumers = graph.consumers();
    let mut seen: HashMap<Source, i32> = HashMap::new();
    let mut ahead: Vec<(Source, i32)> =
        variables.into_iter().map(|(node, dtype)| (Source { node, port: 0 }, dtype)).collect();
    while let Some((source, dtype)) = ahead.pop() {
        if let Some(known) = seen.insert(source, dtype) {
            if known != dtype {
                return Err(unimplemented(format!(
                    "{} is one of several variables",
                    graph.nodes[source.node].name
                )));
            }
            continue;
        }
        for (place, position) in &consumers[source.node] {
            if graph.nodes[*place].data[*position] == source {
                take(graph, *place, *position, dtype, &mut ahead)?;
            }
        }
    }
    check_merges(graph, &seen)
}

/// Makes input `position` of the node at `place` the value of a variable; `ahead` gets the outputs that now are as well.
fn take(
    graph: &mut Graph,
    place: usize,
    position: usize,
    dtype: i32,
    ahead: &mut Vec<(Source, i32)>,
) -> Result<()> {
    let node = &mut graph.nodes[place];
    if node.op == "_Retval" {
        return Err(unimplemented("An output is a variable's handle"));
    }
    let unknown = || unimplemented(format!("The operation {} of {} takes a variable", node.op, node.name));
    match use_of(&node.op).ok_or_else(unknown)? {
        Use::Moves(name) => {
            node.attr.insert(name.to_owned(), attr(Value::Type(dtype)));
            // A switch has two outputs.
            let ports = if node.op == "Switch" { 0..2 } else { 0..1 };
            ahead.extend(ports.map(|port| (Source { node: place, port }, dtype)));
        }
        Use::MovesList(name) => {
            let types = node.attr.get_mut(name).and_then(|attr| attr.value.as_mut());
            let Some(Value::List(list)) = types else { return Err(unknown()) };
            *list.r#type.get_mut(position).ok_or_else(unknown)? = dtype;
            ahead.push((Source { node: place, port: position }, dtype));
        }
        Use::Reads(op, kept, name) => {
            if position != 0 || node.data.is_empty() {
                return Err(unknown());
            }
            // Another type than the variable's would be TensorFlow's error.
            if type_of_attr(node.attr.get("dtype")).is_some_and(|declared| declared != dtype) {
                return Err(unknown());
            }
            node.op = op.to_owned();
            node.attr.retain(|attr, _| kept.contains(&attr.as_str()));
            node.attr.insert(name.to_owned(), attr(Value::Type(dtype)));
            if op == "GatherV2" {
                add_axis(graph, place)?;
            }
        }
    }
    Ok(())
}

/// Adds the third input of the `GatherV2` at `place`: the axis, which is the first one after those of the batch.
fn add_axis(graph: &mut Graph, place: usize) -> Result<()> {
    let node = &mut graph.nodes[place];
    let axis = match node.attr.get("batch_dims").and_then(|attr| attr.value.as_ref()) {
        Some(Value::I(dims)) => i32::try_from(*dims).map_err(|_| unimplemented("Too many dimensions"))?,
        _ => 0,
    };
    let (Some(indices), 2) = (node.data.get(1).copied(), node.data.len()) else {
        return Err(unimplemented(format!("{} takes no indices", node.name)));
    };
    node.attr.insert("Taxis".to_owned(), attr(Value::Type(DataType::DtInt32 as i32)));
    let name = format!("{}/axis", node.name);
    let value = Tensor::numbers(crate::tensor::DType::Int32, vec![], axis.to_le_bytes().to_vec().into());
    // Where the indices are made there is a loop or branch to be in, if there is one.
    let made = Node { control: vec![indices.node], ..constant(&name, &value) };
    let axis = graph.add(made);
    graph.nodes[place].data.push(Source { node: axis, port: 0 });
    Ok(())
}

/// Refuses a merge of a variable with something else.
fn check_merges(graph: &Graph, variables: &HashMap<Source, i32>) -> Result<()> {
    for source in variables.keys() {
        let node = &graph.nodes[source.node];
        if node.op == "Merge" && !node.data.iter().all(|source| variables.contains_key(source)) {
            return Err(unimplemented(format!("{} is a variable or something else", node.name)));
        }
    }
    Ok(())
}

/// Adds a node for each output, in place of what returned it to the session; returns these nodes.
fn add_outputs(graph: &mut Graph, plan: &Plan) -> Result<Vec<usize>> {
    let returned: HashMap<String, Source> = graph
        .nodes
        .iter()
        .filter_map(|node| Some((session_node(node, "_Retval", "_retval_")?.to_owned(), *node.data.first()?)))
        .collect();
    let mut added = Vec::new();
    for (place, spec) in plan.outputs.iter().enumerate() {
        let missing = || Error::internal(format!("TensorFlow's graph lacks the output {}", spec.alias));
        let source = *returned.get(&output_node(place)).ok_or_else(missing)?;
        let attr = types(&[("T", spec.dtype as i32)]);
        added.push(graph.add(Node {
            op: "Identity".to_owned(),
            attr,
            data: vec![source],
            ..Node::default()
        }));
    }
    Ok(added)
}

/// Drops control dependencies on what is always there, such as a constant, and replaces one on a node that only passes
/// on a single one. All others stay: in a loop or branch they say where a node belongs.
fn drop_controls(graph: &mut Graph) {
    let always = always_there(graph);
    for node in &mut graph.nodes {
        node.control.retain(|place| !always[*place]);
        node.control.sort_unstable();
        node.control.dedup();
    }
    for place in 0..graph.nodes.len() {
        let mut control = std::mem::take(&mut graph.nodes[place].control);
        for source in &mut control {
            *source = passed_on(graph, *source);
        }
        control.sort_unstable();
        control.dedup();
        graph.nodes[place].control = control;
    }
}

/// Returns the node that a control dependency on the node at `place` waits for in the end.
fn passed_on(graph: &Graph, mut place: usize) -> usize {
    // A circle of such nodes would be longer than the graph.
    for _ in 0..graph.nodes.len() {
        match (&graph.nodes[place].op[..], &graph.nodes[place].control[..]) {
            ("NoOp", [single]) => place = *single,
            _ => break,
        }
    }
    place
}

/// Returns for each node whether it is there in every run, outside of loops and branches, without work.
fn always_there(graph: &Graph) -> Vec<bool> {
    let mut known: Vec<Option<bool>> = vec![None; graph.nodes.len()];
    let mut on_path = vec![false; graph.nodes.len()];
    for place in 0..graph.nodes.len() {
        let mut path = vec![place];
        while let Some(place) = path.last().copied() {
            let node = &graph.nodes[place];
            let inputs = || node.data.iter().map(|source| source.node).chain(node.control.iter().copied());
            let passes = matches!(&node.op[..], "Const" | "Placeholder" | "NoOp" | "Identity" | "IdentityN");
            on_path[place] = true;
            let open = inputs().find(|input| known[*input].is_none() && !on_path[*input]);
            match open.filter(|_| passes && known[place].is_none()) {
                Some(input) => path.push(input),
                None => {
                    on_path[place] = false;
                    let all = passes && inputs().all(|input| known[input] == Some(true));
                    known[place].get_or_insert(all);
                    path.pop();
                }
            }
        }
    }
    known.into_iter().map(|known| known == Some(true)).collect()
}

/// Lets every node take its data from where it comes, past nodes that only pass it on.
fn bypass(graph: &mut Graph) {
    for place in 0..graph.nodes.len() {
        let mut data = std::mem::take(&mut graph.nodes[place].data);
        data.iter_mut().for_each(|source| *source = origin(graph, *source));
        graph.nodes[place].data = data;
    }
}

fn origin(graph: &Graph, mut source: Source) -> Source {
    for _ in 0..graph.nodes.len() {
        let node = &graph.nodes[source.node];
        let passes = matches!(&node.op[..], "Identity" | "IdentityN") && node.control.is_empty();
        match node.data.get(source.port).filter(|_| passes) {
            Some(before) => source = *before,
            None => break,
        }
    }
    source
}

/// Refuses what TensorFlow has not taken apart, and what is of several devices.
fn check(graph: &GraphDef) -> Result<()> {
    for node in &graph.node {
        let calls = node.attr.values().any(|attr| match &attr.value {
            Some(Value::Func(_)) => true,
            Some(Value::List(list)) => !list.func.is_empty(),
            _ => false,
        });
        if calls || node.op.starts_with('_') {
            return Err(unimplemented(format!(
                "The operation {} of {} cannot be frozen",
                node.op, node.name
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
