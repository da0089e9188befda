//! What is to be run so that TensorFlow inlines a signature: its part of the graph, with inputs, outputs and variables
//! that can be told apart afterwards.

use crate::engine::signature::{Signature, TensorSpec};
use crate::engine::tensorflow::effects::{self, is_fed, node_of};
use crate::error::{Error, Kind, Result};
use crate::pb::tensorflow::attr_value::Value;
use crate::pb::tensorflow::{
    AttrValue, DataType, FunctionDef, FunctionDefLibrary, GraphDef, NodeDef, TensorShapeProto,
    tensor_shape_proto,
};
use crate::tensor::DType;
use std::collections::{BTreeSet, HashMap, HashSet};

/// A signature's part of a graph.
#[derive(Debug)]
pub(super) struct Plan {
    /// The nodes that run, and the functions they call; a `Placeholder` for each input and each value of a variable,
    /// an `Identity` for each output, an assignment for each resource variable.
    pub(super) graph: GraphDef,
    /// The inputs, with the tensors' names in `graph`.
    pub(super) inputs: Vec<TensorSpec>,
    /// The outputs: the tensor is the one that their node's name comes from.
    pub(super) outputs: Vec<TensorSpec>,
    pub(super) variables: Vec<Variable>,
    /// Every operation that may run.
    pub(super) ops: BTreeSet<String>,
}

/// A variable that the signature reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Variable {
    /// The node of its handle, or the variable itself where it is no resource.
    pub(super) node: String,
    /// The tensor of the serving graph that is its value.
    pub(super) value: String,
    pub(super) is_resource: bool,
}

/// Operations that make a variable: as a resource, and as TensorFlow 1 did.
const HANDLE: &str = "VarHandleOp";
const REFERENCES: [&str; 2] = ["VariableV2", "Variable"];

/// Operations that choose among functions or repeat them, which TensorFlow takes apart if they say so.
const FUNCTIONAL: [&str; 6] = ["If", "StatelessIf", "While", "StatelessWhile", "Case", "StatelessCase"];
const TAKE_APART: &str = "_lower_using_switch_merge";
/// What forbids TensorFlow to inline a function; another name of the function, for other devices.
const KEEP_WHOLE: [&str; 3] = ["_noinline", "api_implements", "api_preferred_device"];
/// What makes a function one program of XLA's, whose results may differ.
const COMPILED: &str = "_XlaMustCompile";

/// Operations that TensorFlow's oneDNN pass makes one with a convolution, unless what has to run before differs.
const MERGED: [&str; 2] = ["BiasAdd", "Pad"];
/// The node that has to run before these.
const BEFORE: &str = "servable_before";

/// Names of the nodes that a plan adds.
const VALUE: &str = "servable_value_";
const ASSIGN: &str = "servable_assign_";
const OUTPUT: &str = "servable_output_";

/// Returns the node of the output at `place`.
pub(super) fn output_node(place: usize) -> String {
    format!("{OUTPUT}{place}")
}

/// Returns the node that assigns the variable at `place`.
pub(super) fn assign_node(place: usize) -> String {
    format!("{ASSIGN}{place}")
}

impl Variable {
    /// Returns the node that takes the value, for the variable at `place`.
    pub(super) fn value_node(&self, place: usize) -> String {
        if self.is_resource { format!("{VALUE}{place}") } else { self.node.clone() }
    }
}

/// Plans `signature` of `graph`. Fails for what cannot be frozen.
pub(super) fn of(graph: GraphDef, signature: &Signature) -> Result<Plan> {
    let fed: BTreeSet<&str> = signature.inputs.iter().map(|spec| spec.tensor.as_str()).collect();
    check_signature(signature, &fed)?;
    let outputs = signature.outputs.iter().map(|spec| spec.tensor.as_str());
    let needed: HashSet<String> =
        effects::reached(&graph, &fed, outputs).into_keys().map(str::to_owned).collect();
    let reads = reads(&graph);
    let GraphDef { node, library, versions, .. } = graph;
    let kept: Vec<NodeDef> = node.into_iter().filter(|node| needed.contains(&node.name)).collect();
    let library = called(&kept, library.unwrap_or_default());
    let mut ops: BTreeSet<String> = kept.iter().map(|node| node.op.clone()).collect();
    ops.extend(library.iter().flat_map(|function| &function.node_def).map(|node| node.op.clone()));
    ops.retain(|op| !library.iter().any(|function| name_of(function) == op));
    check_functions(&kept, &library)?;
    let mut plan = Plan {
        graph: GraphDef::default(),
        inputs: Vec::new(),
        outputs: Vec::new(),
        variables: Vec::new(),
        ops,
    };
    plan.graph.versions = versions;
    plan.graph.node = prepared(kept);
    plan.add_inputs(signature, &fed);
    plan.add_outputs(signature);
    plan.add_variables(&reads)?;
    let function = library.into_iter().map(prepared_function).collect();
    plan.graph.library = Some(FunctionDefLibrary { function });
    Ok(plan)
}

fn unimplemented(why: impl Into<String>) -> Error {
    Error::new(Kind::Unimplemented, why.into())
}

fn check_signature(signature: &Signature, fed: &BTreeSet<&str>) -> Result<()> {
    if fed.len() != signature.inputs.len() {
        return Err(unimplemented("Two inputs are one tensor"));
    }
    if signature.outputs.is_empty() {
        return Err(unimplemented("It has no outputs"));
    }
    let mut specs = signature.inputs.iter().chain(&signature.outputs);
    match specs.find(|spec| spec.tensor.is_empty() || spec.dtype == DType::Invalid) {
        Some(spec) => Err(unimplemented(format!("{} is no plain tensor", spec.alias))),
        None => Ok(()),
    }
}

/// Returns for each handle of a variable the tensor of the graph that reads it, if there is one.
fn reads(graph: &GraphDef) -> HashMap<String, String> {
    let reads = graph.node.iter().filter(|node| node.op == "ReadVariableOp" && node.input.len() == 1);
    reads.map(|node| (node_of(&node.input[0]).to_owned(), format!("{}:0", node.name))).collect()
}

fn name_of(function: &FunctionDef) -> &str {
    function.signature.as_ref().map_or("", |signature| signature.name.as_str())
}

/// Returns the functions of `library` that `nodes` call, directly or not.
fn called(nodes: &[NodeDef], library: FunctionDefLibrary) -> Vec<FunctionDef> {
    let functions: HashMap<&str, &FunctionDef> =
        library.function.iter().map(|function| (name_of(function), function)).collect();
    let mut seen: HashSet<&str> = HashSet::new();
    let mut ahead: Vec<&NodeDef> = nodes.iter().collect();
    while let Some(node) = ahead.pop() {
        for name in effects::functions_of(node).chain([node.op.as_str()]) {
            let Some(function) = functions.get(name).filter(|function| seen.insert(name_of(function))) else {
                continue;
            };
            ahead.extend(&function.node_def);
        }
    }
    let seen: HashSet<String> = seen.into_iter().map(str::to_owned).collect();
    library.function.into_iter().filter(|function| seen.contains(name_of(function))).collect()
}

/// Refuses functions that own a variable, which has no value elsewhere, and those that XLA compiles.
fn check_functions(nodes: &[NodeDef], library: &[FunctionDef]) -> Result<()> {
    let compiled =
        |attr: Option<&AttrValue>| matches!(attr.and_then(|attr| attr.value.as_ref()), Some(Value::B(true)));
    let inner = || library.iter().flat_map(|function| &function.node_def);
    if library.iter().any(|function| compiled(function.attr.get(COMPILED)))
        || nodes.iter().chain(inner()).any(|node| compiled(node.attr.get(COMPILED)))
    {
        return Err(unimplemented("A function is compiled by XLA"));
    }
    match inner().find(|node| node.op == HANDLE || REFERENCES.contains(&node.op.as_str())) {
        Some(node) => Err(unimplemented(format!("A function has a variable of its own: {}", node.name))),
        None => Ok(()),
    }
}

/// Returns `nodes`, of the graph or of a function, as TensorFlow has to see them to take everything apart and keep
/// operations as they are, on whatever device.
fn prepared(mut nodes: Vec<NodeDef>) -> Vec<NodeDef> {
    let mut has_merged = false;
    for node in &mut nodes {
        node.device.clear();
        if FUNCTIONAL.contains(&node.op.as_str()) {
            node.attr.insert(TAKE_APART.to_owned(), AttrValue { value: Some(Value::B(true)) });
        }
        if MERGED.contains(&node.op.as_str()) {
            node.input.push(format!("^{BEFORE}"));
            has_merged = true;
        }
    }
    if has_merged {
        nodes.push(node(BEFORE, "NoOp", &[], &[]));
    }
    nodes
}

fn prepared_function(mut function: FunctionDef) -> FunctionDef {
    KEEP_WHOLE.iter().for_each(|attr| drop(function.attr.remove(*attr)));
    function.node_def = prepared(function.node_def);
    function
}

impl Plan {
    /// Adds a placeholder for each input, and lets its consumers take that.
    fn add_inputs(&mut self, signature: &Signature, fed: &BTreeSet<&str>) {
        let mut names: HashSet<String> = self.graph.node.iter().map(|node| node.name.clone()).collect();
        let mut new_names: HashMap<&str, String> = HashMap::new();
        for spec in &signature.inputs {
            let name = unique(node_of(&spec.tensor), &mut names);
            self.graph.node.push(placeholder(&name, spec));
            self.inputs.push(TensorSpec { tensor: format!("{name}:0"), ..spec.clone() });
            new_names.insert(&spec.tensor, name);
        }
        for input in self.graph.node.iter_mut().flat_map(|node| &mut node.input) {
            // A fed tensor is written with or without its index.
            let tensor = if input.contains(':') { input.clone() } else { format!("{input}:0") };
            let new_name =
                is_fed(input, fed).then(|| new_names.get(&*tensor).or_else(|| new_names.get(&**input)));
            if let Some(name) = new_name.flatten() {
                *input = format!("{name}:0");
            }
        }
        self.outputs = signature.outputs.clone();
        for spec in &mut self.outputs {
            if let Some(name) = new_names.get(spec.tensor.as_str()) {
                spec.tensor = format!("{name}:0");
            }
        }
    }

    fn add_outputs(&mut self, signature: &Signature) {
        for (place, spec) in self.outputs.iter().enumerate() {
            let dtype = signature.outputs[place].dtype as i32;
            self.graph.node.push(node(&output_node(place), "Identity", &[&spec.tensor], &[("T", dtype)]));
        }
    }

    /// Finds the variables, and adds for each where its value comes from.
    fn add_variables(&mut self, reads: &HashMap<String, String>) -> Result<()> {
        let mut added = Vec::new();
        for made in &mut self.graph.node {
            let is_resource = made.op == HANDLE;
            if !is_resource && !REFERENCES.contains(&made.op.as_str()) {
                continue;
            }
            let dtype = type_of_attr(made.attr.get("dtype"))
                .ok_or_else(|| unimplemented(format!("The variable {} has no type", made.name)))?;
            let value = match reads.get(&made.name) {
                Some(read) if is_resource => read.clone(),
                None if is_resource => {
                    let why = format!("The variable {} is read by functions alone", made.name);
                    return Err(unimplemented(why));
                }
                Some(_) | None => format!("{}:0", made.name),
            };
            let variable = Variable { node: made.name.clone(), value, is_resource };
            let place = self.variables.len();
            let taken = node(&variable.value_node(place), "Placeholder", &[], &[("dtype", dtype)]);
            if is_resource {
                let inputs = [variable.node.as_str(), &taken.name];
                added.push(node(&assign_node(place), "AssignVariableOp", &inputs, &[("dtype", dtype)]));
                added.push(taken);
            } else {
                *made = taken;
            }
            self.variables.push(variable);
        }
        self.graph.node.append(&mut added);
        Ok(())
    }
}

/// Returns `wanted`, or that with a number if it is taken; and takes it.
pub(super) fn unique(wanted: &str, taken: &mut HashSet<String>) -> String {
    let mut name = wanted.to_owned();
    let mut number = 0u32;
    while !taken.insert(name.clone()) {
        number += 1;
        name = format!("{wanted}_{number}");
    }
    name
}

/// Returns the number of the type that `attr` is.
pub(super) fn type_of_attr(attr: Option<&AttrValue>) -> Option<i32> {
    match attr?.value {
        Some(Value::Type(dtype)) if dtype != DataType::DtInvalid as i32 => Some(dtype),
        _ => None,
    }
}

/// Makes a node whose attributes are types.
pub(super) fn node(name: &str, op: &str, inputs: &[&str], types: &[(&str, i32)]) -> NodeDef {
    let attr =
        |(name, dtype): &(&str, i32)| ((*name).to_owned(), AttrValue { value: Some(Value::Type(*dtype)) });
    NodeDef {
        name: name.to_owned(),
        op: op.to_owned(),
        input: inputs.iter().map(|input| (*input).to_owned()).collect(),
        device: String::new(),
        attr: types.iter().map(attr).collect(),
    }
}

/// Makes the placeholder of an input, as the signature declares it.
pub(super) fn placeholder(name: &str, spec: &TensorSpec) -> NodeDef {
    let dim = |size: &i64| tensor_shape_proto::Dim { size: *size, ..tensor_shape_proto::Dim::default() };
    let shape = TensorShapeProto {
        dim: spec.shape.iter().flatten().map(dim).collect(),
        unknown_rank: spec.shape.is_none(),
    };
    let mut made = node(name, "Placeholder", &[], &[("dtype", spec.dtype as i32)]);
    made.attr.insert("shape".to_owned(), AttrValue { value: Some(Value::Shape(shape)) });
    made
}

#[cfg(test)]
mod tests;
