//! A graph whose edges are indices, to be changed in place.

use super::plan::unique;
use crate::error::{Error, Result};
use crate::pb::tensorflow::{AttrValue, GraphDef, NodeDef, VersionDef};
use std::collections::{BTreeMap, HashMap, HashSet};

/// A node.
#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) op: String,
    pub(super) attr: BTreeMap<String, AttrValue>,
    pub(super) data: Vec<Source>,
    /// The nodes that have to run before.
    pub(super) control: Vec<usize>,
}

/// An output of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Source {
    pub(super) node: usize,
    pub(super) port: usize,
}

/// The nodes of a graph; an index of one holds as long as the graph.
#[derive(Clone, Debug, Default)]
pub(super) struct Graph {
    pub(super) nodes: Vec<Node>,
    versions: Option<VersionDef>,
}

impl Graph {
    /// Reads `graph`, without devices. Fails if a node takes what is not there.
    pub(super) fn read(graph: GraphDef) -> Result<Graph> {
        let places: HashMap<String, usize> =
            graph.node.iter().enumerate().map(|(place, node)| (node.name.clone(), place)).collect();
        if places.len() != graph.node.len() {
            return Err(Error::internal("Two nodes of the graph have one name"));
        }
        let nodes = graph.node.into_iter().map(|node| read(node, &places)).collect::<Result<_>>()?;
        Ok(Graph { nodes, versions: graph.versions })
    }

    /// Adds a node, and returns its index.
    pub(super) fn add(&mut self, node: Node) -> usize {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// Returns for each node the nodes that take one of its outputs, with the positions where they do.
    pub(super) fn consumers(&self) -> Vec<Vec<(usize, usize)>> {
        let mut consumers = vec![Vec::new(); self.nodes.len()];
        for (place, node) in self.nodes.iter().enumerate() {
            for (position, source) in node.data.iter().enumerate() {
                consumers[source.node].push((place, position));
            }
        }
        consumers
    }

    /// Writes the nodes that `needed` depend on; these keep their names, which are unique.
    #[allow(clippy::needless_range_loop)] // It is changed meanwhile, at other places, too.
    pub(super) fn write(mut self, needed: &[usize]) -> GraphDef {
        let kept = self.reached(needed);
        let mut taken: HashSet<String> = needed.iter().map(|place| self.nodes[*place].name.clone()).collect();
        let with_own_name: HashSet<usize> = needed.iter().copied().collect();
        for place in 0..self.nodes.len() {
            if kept[place] && !with_own_name.contains(&place) {
                self.nodes[place].name = unique(&valid(&self.nodes[place].name), &mut taken);
            }
        }
        let names: Vec<String> = self.nodes.iter().map(|node| node.name.clone()).collect();
        let nodes = self.nodes.into_iter().zip(kept).filter(|(_, kept)| *kept);
        GraphDef {
            node: nodes.map(|(node, _)| write(node, &names)).collect(),
            versions: self.versions,
            ..GraphDef::default()
        }
    }

    fn reached(&self, from: &[usize]) -> Vec<bool> {
        let mut reached = vec![false; self.nodes.len()];
        let mut ahead = from.to_vec();
        while let Some(place) = ahead.pop() {
            if !std::mem::replace(&mut reached[place], true) {
                let node = &self.nodes[place];
                ahead.extend(node.data.iter().map(|source| source.node));
                ahead.extend(&node.control);
            }
        }
        reached
    }
}

fn read(node: NodeDef, places: &HashMap<String, usize>) -> Result<Node> {
    let mut made = Node { name: node.name, op: node.op, attr: node.attr, ..Node::default() };
    for input in &node.input {
        let (name, port) = match input.strip_prefix('^') {
            Some(name) => (name, None),
            None => match input.rsplit_once(':') {
                Some((name, port)) => (name, port.parse().ok()),
                None => (input.as_str(), Some(0)),
            },
        };
        let unknown = || Error::internal(format!("The node {} takes {input}, which is not there", made.name));
        let node = *places.get(name).ok_or_else(unknown)?;
        match port {
            Some(port) => made.data.push(Source { node, port }),
            None if input.starts_with('^') => made.control.push(node),
            None => return Err(unknown()),
        }
    }
    Ok(made)
}

fn write(node: Node, names: &[String]) -> NodeDef {
    let data = node.data.iter().map(|source| match source.port {
        0 => names[source.node].clone(),
        port => format!("{}:{port}", names[source.node]),
    });
    let control = node.control.iter().map(|place| format!("^{}", names[*place]));
    NodeDef {
        input: data.chain(control).collect(),
        name: node.name,
        op: node.op,
        attr: node.attr,
        device: String::new(),
    }
}

/// Returns `name` as a node may be called: TensorFlow keeps names that start with `_` to itself.
fn valid(name: &str) -> String {
    if name.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '.') {
        name.to_owned()
    } else {
        format!("node{name}")
    }
}
