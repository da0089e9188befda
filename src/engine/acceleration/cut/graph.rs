//! A frozen graph, indexed: the nodes that its outputs need, and an order in which each comes after what it takes.

use super::refusal::Refusal;
use crate::engine::frozen::FrozenGraph;
use crate::pb::tensorflow::NodeDef;
use std::collections::HashMap;

/// An output of a node, which is given by its position in [`Graph::nodes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Port {
    pub(super) node: usize,
    pub(super) output: usize,
}

/// A node that an output needs.
pub(super) struct Node<'g> {
    pub(super) def: &'g NodeDef,
    /// The values that it takes, in order.
    pub(super) data: Vec<Port>,
    /// The nodes that have to run before it.
    pub(super) control: Vec<usize>,
    /// If it is an input of the signature: its place there.
    pub(super) feed: Option<usize>,
    /// True if an output needs a value of it; false if it only has to run.
    pub(super) for_value: bool,
    /// True if it belongs to a branch or loop of `Switch`, `Merge`, `Enter`, …: its values may be dead, or may be many.
    pub(super) in_flow: bool,
    /// The number of its outputs that are used.
    pub(super) used: usize,
}

/// The needed part of a graph.
pub(super) struct Graph<'g> {
    pub(super) frozen: &'g FrozenGraph,
    /// In the order of the graph.
    pub(super) nodes: Vec<Node<'g>>,
    /// What the signature's outputs are, in its order.
    pub(super) outputs: Vec<Port>,
    /// The positions of `nodes`, each after what it takes, except in a loop. All of [`Node::in_flow`] is in one run.
    pub(super) order: Vec<usize>,
}

/// Operations that steer which others run, and how often.
const FLOW: [&str; 12] = [
    "Switch",
    "RefSwitch",
    "_SwitchN",
    "Merge",
    "RefMerge",
    "Enter",
    "RefEnter",
    "Exit",
    "RefExit",
    "NextIteration",
    "RefNextIteration",
    "LoopCond",
];

impl<'g> Graph<'g> {
    /// Indexes `frozen`.
    pub(super) fn new(frozen: &'g FrozenGraph) -> Result<Graph<'g>, Refusal> {
        let names = Names::new(frozen)?;
        let (needed, outputs) = names.needed()?;
        let mut graph = Graph { frozen, nodes: needed, outputs, order: Vec::new() };
        graph.mark_values();
        let takers = graph.takers();
        graph.mark_flow(&takers);
        graph.order = graph.sorted(&takers)?;
        Ok(graph)
    }

    /// Returns the nodes that `node` needs.
    pub(super) fn needs(&self, node: usize) -> impl Iterator<Item = usize> {
        let node = &self.nodes[node];
        node.data.iter().map(|port| port.node).chain(node.control.iter().copied())
    }

    /// Returns every node from which `starts` can be reached, and these.
    pub(super) fn behind(&self, starts: impl Iterator<Item = usize>) -> Vec<bool> {
        reach(self.nodes.len(), starts, |node, next| next.extend(self.needs(node)))
    }

    /// Returns the nodes that need each node.
    fn takers(&self) -> Vec<Vec<usize>> {
        let mut takers = vec![Vec::new(); self.nodes.len()];
        for node in 0..self.nodes.len() {
            for needed in self.needs(node) {
                takers[needed].push(node);
            }
        }
        takers
    }

    fn mark_values(&mut self) {
        let starts = self.outputs.iter().map(|port| port.node);
        let valued = reach(self.nodes.len(), starts, |node, next| {
            next.extend(self.nodes[node].data.iter().map(|port| port.node));
        });
        let ports: Vec<Port> = self.nodes.iter().flat_map(|node| &node.data).copied().collect();
        for port in ports.iter().chain(&self.outputs) {
            let used = &mut self.nodes[port.node].used;
            *used = (*used).max(port.output + 1);
        }
        for (node, valued) in self.nodes.iter_mut().zip(valued) {
            node.for_value = valued;
        }
    }

    /// Marks what belongs to branches and loops: what steers them, what may be dead, and everything in between. All of
    /// it has to stay together: a dead value cannot be fetched, and one of a loop is not one value.
    fn mark_flow(&mut self, takers: &[Vec<usize>]) {
        let op = |node: usize| self.nodes[node].def.op.as_str();
        let steers = |node: &usize| FLOW.contains(&op(*node));
        let ends = |node: usize| op(node).ends_with("Merge") || op(node).ends_with("Exit");
        let count = self.nodes.len();
        let seeds: Vec<usize> = (0..count).filter(steers).collect();
        if seeds.is_empty() {
            return;
        }
        let starts = seeds.iter().copied().filter(|node| !ends(*node));
        let dead = reach(count, starts, |node, next| {
            if !ends(node) {
                next.extend(&takers[node]);
            }
        });
        let all = || seeds.iter().copied().chain((0..count).filter(|node| dead[*node]));
        let after = reach(count, all(), |node, next| next.extend(&takers[node]));
        let before = self.behind(all());
        for (node, (after, before)) in self.nodes.iter_mut().zip(after.into_iter().zip(before)) {
            node.in_flow = after && before;
        }
    }

    /// Returns the positions in an order of what they need; all branches and loops count as one node.
    fn sorted(&self, takers: &[Vec<usize>]) -> Result<Vec<usize>, Refusal> {
        let flow: Vec<usize> = (0..self.nodes.len()).filter(|node| self.nodes[*node].in_flow).collect();
        let in_flow = |node: usize| self.nodes[node].in_flow;
        let outside = |node: usize| self.needs(node).filter(|needed| !in_flow(*needed)).count();
        let mut missing: Vec<usize> = (0..self.nodes.len()).map(|node| self.needs(node).count()).collect();
        let mut missing_flow: usize = flow.iter().map(|node| outside(*node)).sum();
        let mut order = Vec::with_capacity(self.nodes.len());
        let mut ready: Vec<usize> =
            (0..self.nodes.len()).rev().filter(|node| missing[*node] == 0 && !in_flow(*node)).collect();
        let mut flow_waits = !flow.is_empty();
        loop {
            let group = match ready.pop() {
                Some(node) => vec![node],
                None if flow_waits && missing_flow == 0 => {
                    flow_waits = false;
                    flow.clone()
                }
                None => break,
            };
            for taker in group.iter().flat_map(|node| &takers[*node]) {
                if !in_flow(*taker) {
                    missing[*taker] -= 1;
                    if missing[*taker] == 0 {
                        ready.push(*taker);
                    }
                } else if flow_waits {
                    missing_flow -= 1;
                }
            }
            order.extend(group);
        }
        if order.len() < self.nodes.len() {
            return Err(Refusal("the graph has a circle that is no loop".to_owned()));
        }
        Ok(order)
    }
}

/// Returns what is reached from `starts`, these included; `next` adds the neighbours of a node.
pub(super) fn reach(
    count: usize,
    starts: impl Iterator<Item = usize>,
    next: impl Fn(usize, &mut Vec<usize>),
) -> Vec<bool> {
    let mut reached = vec![false; count];
    let mut ahead: Vec<usize> = starts.collect();
    while let Some(node) = ahead.pop() {
        if !std::mem::replace(&mut reached[node], true) {
            next(node, &mut ahead);
        }
    }
    reached
}

/// The nodes of a graph by name.
struct Names<'g> {
    frozen: &'g FrozenGraph,
    positions: HashMap<&'g str, usize>,
    feeds: HashMap<usize, usize>,
}

/// A node's inputs, by positions in the whole graph.
type Inputs = (Vec<Port>, Vec<usize>);

impl<'g> Names<'g> {
    fn new(frozen: &'g FrozenGraph) -> Result<Names<'g>, Refusal> {
        let mut positions = HashMap::new();
        for (position, node) in frozen.graph.node.iter().enumerate() {
            if positions.insert(node.name.as_str(), position).is_some() {
                return Err(Refusal(format!("two nodes are called {}", node.name)));
            }
        }
        let mut names = Names { frozen, positions, feeds: HashMap::new() };
        for (place, input) in frozen.inputs.iter().enumerate() {
            let port = names.port(&input.tensor, "the signature")?;
            if frozen.graph.node[port.node].op != "Placeholder" || port.output != 0 {
                return Err(Refusal(format!("the input {} is no placeholder", input.tensor)));
            }
            names.feeds.insert(port.node, place);
        }
        Ok(names)
    }

    /// Finds the output that `node` takes as `input`.
    fn port(&self, input: &str, node: &str) -> Result<Port, Refusal> {
        let (name, output) = match input.rsplit_once(':') {
            Some((name, output)) => (name, output.parse().ok()),
            None => (input, Some(0)),
        };
        let found = self.positions.get(name).zip(output.filter(|output: &usize| *output < 1 << 16));
        found
            .map(|(node, output)| Port { node: *node, output })
            .ok_or_else(|| Refusal(format!("the graph lacks {input}, which {node} takes")))
    }

    fn inputs(&self, node: &NodeDef) -> Result<Inputs, Refusal> {
        let (mut data, mut control) = (Vec::new(), Vec::new());
        for input in &node.input {
            match input.strip_prefix('^') {
                Some(name) => control.push(self.port(name, &node.name)?.node),
                None => data.push(self.port(input, &node.name)?),
            }
        }
        Ok((data, control))
    }

    /// Returns the nodes that the outputs need, and the outputs among them.
    fn needed(&self) -> Result<(Vec<Node<'g>>, Vec<Port>), Refusal> {
        let outputs = self.frozen.outputs.iter().map(|output| self.port(&output.tensor, "the signature"));
        let outputs: Vec<Port> = outputs.collect::<Result<_, _>>()?;
        let defs = &self.frozen.graph.node;
        let mut inputs: Vec<Option<Inputs>> = defs.iter().map(|_| None).collect();
        let mut ahead: Vec<usize> = outputs.iter().map(|port| port.node).collect();
        while let Some(node) = ahead.pop() {
            if inputs[node].is_none() {
                let fed = self.feeds.contains_key(&node);
                let found = if fed { Inputs::default() } else { self.inputs(&defs[node])? };
                ahead.extend(found.0.iter().map(|port| port.node).chain(found.1.iter().copied()));
                inputs[node] = Some(found);
            }
        }
        let mut places = vec![usize::MAX; defs.len()];
        let kept = (0..defs.len()).filter(|node| inputs[*node].is_some());
        kept.enumerate().for_each(|(place, node)| places[node] = place);
        let moved = |port: Port| Port { node: places[port.node], output: port.output };
        let nodes = inputs.into_iter().enumerate().filter_map(|(position, inputs)| {
            let (data, control) = inputs?;
            Some(Node {
                def: &defs[position],
                data: data.into_iter().map(moved).collect(),
                control: control.into_iter().map(|node| places[node]).collect(),
                feed: self.feeds.get(&position).copied(),
                for_value: false,
                in_flow: false,
                used: 0,
            })
        });
        Ok((nodes.collect(), outputs.into_iter().map(moved).collect()))
    }
}
