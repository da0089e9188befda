//! Makes graphs of the parts of a cut.

use super::Place;
use super::attributes;
use super::gate::{self, Class, Gate};
use super::graph::{Graph, Port};
use super::refusal::Refusal;
use super::types::{self, Shape};
use crate::engine::frozen::FrozenGraph;
use crate::engine::signature::TensorSpec;
use crate::pb::tensorflow::{GraphDef, NodeDef};
use crate::tensor::DType;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// A graph in parts, which run one after the other.
#[allow(dead_code)] // Nothing runs them yet.
#[derive(Clone, Debug)]
pub(in crate::engine::acceleration) struct Parts {
    /// What TensorFlow computes for `fast`; `None` if nothing.
    pub(in crate::engine::acceleration) before: Option<FrozenGraph>,
    /// What OpenVINO may run.
    pub(in crate::engine::acceleration) fast: FrozenGraph,
    /// What TensorFlow computes of both; `None` if nothing.
    pub(in crate::engine::acceleration) after: Option<FrozenGraph>,
}

impl Parts {
    /// Returns `graph` as the only part.
    pub(in crate::engine::acceleration) fn whole(graph: FrozenGraph) -> Parts {
        Parts { before: None, fast: graph, after: None }
    }

    /// Returns whether there is more than one part.
    pub(in crate::engine::acceleration) fn is_cut(&self) -> bool {
        self.before.is_some() || self.after.is_some()
    }
}

/// Makes the parts of `graph`, whose nodes run at `places`.
pub(super) fn assemble(graph: &Graph<'_>, gate: &Gate, places: &[Place]) -> Result<Parts, Refusal> {
    let cut = Cut {
        graph,
        gate,
        places,
        constant: constants(graph, gate),
        computed: computed(graph, places),
        shapes: types::shapes(graph),
    };
    let mut direct: BTreeMap<Port, Place> = BTreeMap::new();
    let mut rest = Vec::new();
    for output in &graph.outputs {
        match places[output.node] {
            _ if graph.nodes[output.node].feed.is_some() => {}
            Place::Before => drop(direct.insert(*output, Place::Before)),
            Place::Fast if cut.may_leave(*output) && output.output == 0 => {
                direct.insert(*output, Place::Fast);
            }
            Place::Fast | Place::After => rest.push(*output),
        }
    }
    let direct = |part: Place| direct.iter().filter(move |(_, of)| **of == part).map(|(port, _)| *port);
    let after = cut.walk(Place::After, rest.iter().copied())?;
    let from_fast = after.crossing(places, Place::Fast);
    let fast = cut.walk(Place::Fast, direct(Place::Fast).chain(from_fast.iter().copied()))?;
    let from_before: BTreeSet<Port> =
        [&after, &fast].iter().flat_map(|walk| walk.crossing(places, Place::Before)).collect();
    let before = cut.walk(Place::Before, direct(Place::Before).chain(from_before.iter().copied()))?;
    let names = Names::new(graph, from_before.iter().chain(&from_fast));
    let rest: BTreeSet<Port> = rest.into_iter().collect();
    Ok(Parts {
        before: cut.part(Place::Before, &before, &direct(Place::Before).collect(), &from_before, &names),
        fast: cut
            .part(Place::Fast, &fast, &direct(Place::Fast).collect(), &from_fast, &names)
            .ok_or_else(|| Refusal("nothing worth moving: no output needs it".to_owned()))?,
        after: cut.part(Place::After, &after, &rest, &BTreeSet::new(), &names),
    })
}

/// A graph and where its nodes run.
struct Cut<'a, 'g> {
    graph: &'a Graph<'g>,
    gate: &'a Gate,
    places: &'a [Place],
    /// The allowed nodes that depend on constants alone: each part has its own.
    constant: Vec<bool>,
    /// The nodes of the fast part that are not just another name of what comes into it.
    computed: Vec<bool>,
    shapes: Vec<Shape>,
}

/// What a part consists of.
struct Walk {
    nodes: Vec<bool>,
    feeds: BTreeSet<usize>,
    ports: BTreeSet<Port>,
}

impl Walk {
    /// Returns the values that the part takes of the one at `place`.
    fn crossing(&self, places: &[Place], place: Place) -> BTreeSet<Port> {
        self.ports.iter().filter(|port| places[port.node] == place).copied().collect()
    }
}

/// Returns the allowed nodes that depend on constants alone.
fn constants(graph: &Graph<'_>, gate: &Gate) -> Vec<bool> {
    let mut constant = vec![false; graph.nodes.len()];
    for node in &graph.order {
        let of_constants = graph.nodes[*node].data.iter().all(|port| constant[port.node]);
        constant[*node] = gate.allows(*node) && of_constants;
    }
    constant
}

/// Returns the nodes of the fast part that compute. OpenVINO knows those that only pass on what comes into the part by
/// the name of that alone, so they cannot be its outputs.
fn computed(graph: &Graph<'_>, places: &[Place]) -> Vec<bool> {
    let mut computed = vec![false; graph.nodes.len()];
    for position in &graph.order {
        let node = &graph.nodes[*position];
        let passes = matches!(
            node.def.op.as_str(),
            "Const" | "Identity" | "IdentityN" | "StopGradient" | "PreventGradient" | "Snapshot"
        );
        computed[*position] = places[*position] == Place::Fast
            && (!passes || node.data.iter().any(|port| computed[port.node]) && node.def.op != "IdentityN");
    }
    computed
}

impl Cut<'_, '_> {
    /// Returns whether a value of the fast part may leave it: only floats do, as their dtype and range are the same in
    /// both engines. All else is cheap, and computed again where it is needed.
    fn may_leave(&self, port: Port) -> bool {
        self.computed[port.node] && self.gate.class(self.graph, port) == Class::Float
    }

    /// Returns whether `part` has a copy of `node` of an earlier part, rather than a value of it.
    fn copies(&self, part: Place, port: Port) -> bool {
        let sizes = matches!(self.gate.class(self.graph, port), Class::Size { .. });
        match (part, self.places[port.node]) {
            _ if self.constant[port.node] => true,
            (Place::After, Place::Fast) => !self.may_leave(port),
            (Place::Fast, Place::Before) => sizes && self.gate.allows(port.node),
            (part, place) => part == place,
        }
    }

    /// Collects what `part` needs for `outputs`.
    fn walk(&self, part: Place, outputs: impl Iterator<Item = Port>) -> Result<Walk, Refusal> {
        let mut walk = Walk {
            nodes: vec![false; self.graph.nodes.len()],
            feeds: BTreeSet::new(),
            ports: BTreeSet::new(),
        };
        let mut ahead: Vec<Port> = outputs.collect();
        while let Some(port) = ahead.pop() {
            let node = &self.graph.nodes[port.node];
            if let Some(place) = node.feed {
                walk.feeds.insert(place);
            } else if !self.copies(part, port) {
                self.check(port)?;
                walk.ports.insert(port);
            } else if !std::mem::replace(&mut walk.nodes[port.node], true) {
                ahead.extend(&node.data);
                ahead.extend(self.controls(part, port.node)?.map(|node| Port { node, output: 0 }));
            }
        }
        Ok(walk)
    }

    /// Returns the nodes that `node` has to wait for.
    fn control(&self, node: usize) -> impl Iterator<Item = usize> {
        let control = self.graph.nodes[node].control.iter().copied();
        control.filter(|needed| !self.gate.never_awaited[*needed])
    }

    /// Returns the nodes that have to run in `part` before `node`.
    fn controls(&self, part: Place, node: usize) -> Result<impl Iterator<Item = usize>, Refusal> {
        let nodes = &self.graph.nodes;
        let elsewhere = |needed: &usize| matches!((part, self.places[*needed]), (Place::After, Place::Fast));
        let waits = self.control(node).filter(|needed| !elsewhere(needed));
        let kept: Vec<usize> = waits.collect();
        match kept.iter().find(|needed| part == Place::After && self.places[**needed] == Place::Before) {
            Some(needed) => Err(Refusal::at("an order across parts", nodes[*needed].def)),
            None => Ok(kept.into_iter()),
        }
    }

    /// Checks that a value can go from one part to another.
    fn check(&self, port: Port) -> Result<DType, Refusal> {
        let node = &self.graph.nodes[port.node];
        match gate::dtype(node, port.output) {
            Some(DType::Resource | DType::Variant) => Err(Refusal::at("a handle", node.def)),
            Some(dtype) => Ok(dtype),
            None => Err(Refusal::at("a value of unknown dtype", node.def)),
        }
    }

    /// Makes the graph of what was collected; `None` without outputs.
    fn part(
        &self,
        part: Place,
        walk: &Walk,
        direct: &BTreeSet<Port>,
        leaving: &BTreeSet<Port>,
        names: &Names<'_>,
    ) -> Option<FrozenGraph> {
        if direct.is_empty() && leaving.is_empty() {
            return None;
        }
        let frozen = self.graph.frozen;
        let place = |spec: &&TensorSpec| direct.iter().any(|port| names.is(*port, &spec.tensor));
        let mut seen = HashSet::new();
        let outputs = frozen.outputs.iter().filter(place).filter(|spec| seen.insert(spec.tensor.as_str()));
        let outputs = outputs.cloned().chain(leaving.iter().map(|port| self.spec(*port, names))).collect();
        let fed = walk.feeds.iter().map(|place| frozen.inputs[*place].clone());
        let inputs = fed.chain(walk.ports.iter().map(|port| self.spec(*port, names))).collect();
        let placeholders = walk.ports.iter().map(|port| self.placeholder(*port, names));
        let nodes = self.graph.nodes.iter().enumerate().filter_map(|(position, node)| match node.feed {
            Some(place) => walk.feeds.contains(&place).then(|| node.def.clone()),
            None => walk.nodes[position].then(|| self.node(position, walk, names)),
        });
        let ends = leaving.iter().map(|port| self.end(*port, names));
        let mut node: Vec<NodeDef> = placeholders.chain(nodes).chain(ends).collect();
        if part == Place::Fast {
            names.make_leaves(direct, &mut node);
        }
        let versions = frozen.graph.versions.clone();
        Some(FrozenGraph { graph: GraphDef { node, versions, ..GraphDef::default() }, inputs, outputs })
    }

    /// Makes a node of a part.
    fn node(&self, position: usize, walk: &Walk, names: &Names<'_>) -> NodeDef {
        let node = &self.graph.nodes[position];
        let mut def = node.def.clone();
        // Names of nodes that may be in another part.
        def.attr.remove("_class");
        let here = |needed: usize| walk.nodes[needed] || self.graph.nodes[needed].feed.is_some();
        let data = node.data.iter().zip(node.def.input.iter().filter(|input| !input.starts_with('^')));
        let data = data.map(|(port, input)| if here(port.node) { input.clone() } else { names.of(*port) });
        let control = self.control(position).filter(|needed| walk.nodes[*needed]);
        let control = control.map(|needed| format!("^{}", self.graph.nodes[needed].def.name));
        def.input = data.chain(control).collect();
        def
    }

    fn dtype(&self, port: Port) -> DType {
        gate::dtype(&self.graph.nodes[port.node], port.output).unwrap_or(DType::Invalid)
    }

    fn shape(&self, port: Port) -> Option<&[i64]> {
        self.shapes[port.node].as_deref().filter(|_| port.output == 0)
    }

    fn spec(&self, port: Port, names: &Names<'_>) -> TensorSpec {
        let tensor = format!("{}:0", names.of(port));
        let shape = self.shape(port).map(<[i64]>::to_vec);
        TensorSpec { alias: tensor.clone(), tensor, dtype: self.dtype(port), shape }
    }

    /// Makes the node that brings a value into a part.
    fn placeholder(&self, port: Port, names: &Names<'_>) -> NodeDef {
        let dtype = ("dtype".to_owned(), attributes::of_dtype(self.dtype(port)));
        let shape = ("shape".to_owned(), attributes::of_shape(self.shape(port)));
        NodeDef {
            name: names.of(port),
            op: "Placeholder".to_owned(),
            attr: [dtype, shape].into(),
            ..NodeDef::default()
        }
    }

    /// Makes the node whose value leaves a part.
    fn end(&self, port: Port, names: &Names<'_>) -> NodeDef {
        let source = &self.graph.nodes[port.node].def.name;
        let source = if port.output == 0 { source.clone() } else { format!("{source}:{}", port.output) };
        identity(names.of(port), source, self.dtype(port))
    }
}

fn identity(name: String, source: String, dtype: DType) -> NodeDef {
    let dtype = attributes::of_dtype(dtype);
    NodeDef {
        name,
        op: "Identity".to_owned(),
        input: vec![source],
        attr: [("T".to_owned(), dtype)].into(),
        ..NodeDef::default()
    }
}

/// The names of the values that go from one part to another.
struct Names<'a> {
    graph: &'a Graph<'a>,
    crossing: BTreeMap<Port, String>,
    taken: HashSet<String>,
}

impl<'a> Names<'a> {
    fn new(graph: &'a Graph<'a>, crossing: impl Iterator<Item = &'a Port>) -> Names<'a> {
        let taken = graph.frozen.graph.node.iter().map(|node| node.name.clone()).collect();
        let mut names = Names { graph, crossing: BTreeMap::new(), taken };
        for port in crossing {
            let node = &graph.nodes[port.node].def.name;
            let name = match port.output {
                0 => names.fresh(format!("{node}/cut")),
                output => names.fresh(format!("{node}/cut_{output}")),
            };
            names.taken.insert(name.clone());
            names.crossing.insert(*port, name);
        }
        names
    }

    /// Returns `name`, or, if a node has it, one like it.
    fn fresh(&self, mut name: String) -> String {
        while self.taken.contains(&name) {
            name.push('_');
        }
        name
    }

    /// Returns the name of the node that ends, and of the placeholder that begins, a part.
    fn of(&self, port: Port) -> String {
        self.crossing.get(&port).cloned().unwrap_or_default()
    }

    /// Returns whether `tensor` names `port`.
    fn is(&self, port: Port, tensor: &str) -> bool {
        let name = &self.graph.nodes[port.node].def.name;
        match tensor.strip_prefix(name.as_str()) {
            Some("") => port.output == 0,
            Some(rest) => rest.strip_prefix(':').and_then(|output| output.parse().ok()) == Some(port.output),
            None => false,
        }
    }

    /// Sees to it that nothing in `nodes` takes an output of the signature: what does takes a copy under another name.
    /// OpenVINO gives only values that nothing takes.
    fn make_leaves(&self, outputs: &BTreeSet<Port>, nodes: &mut Vec<NodeDef>) {
        let taken: HashSet<&str> =
            nodes.iter().flat_map(|node| &node.input).map(|input| source(input)).collect();
        let renamed: HashMap<&str, String> = outputs
            .iter()
            .map(|port| self.graph.nodes[port.node].def.name.as_str())
            .filter(|name| taken.contains(name))
            .map(|name| (name, self.fresh(format!("{name}/value"))))
            .collect();
        for node in nodes.iter_mut() {
            for input in &mut node.input {
                if let Some(name) = renamed.get(source(input)) {
                    *input = format!(
                        "{name}{}",
                        input.split_once(':').map_or(String::new(), |(_, at)| format!(":{at}"))
                    );
                }
            }
            if let Some(name) = renamed.get(node.name.as_str()) {
                node.name.clone_from(name);
            }
        }
        let copies: BTreeMap<&str, String> = renamed.into_iter().collect();
        nodes
            .extend(copies.into_iter().map(|(name, source)| identity(name.to_owned(), source, DType::Float)));
    }
}

/// Returns the node that `input` names.
fn source(input: &str) -> &str {
    input.split_once(':').map_or(input, |(node, _)| node)
}
