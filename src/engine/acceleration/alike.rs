//! One model for all graphs that are alike: signatures that differ in names alone, as `serving_default` and another one of
//! the same body, share what was compiled.

use crate::engine::choice::EngineKind;
use crate::engine::frozen::FrozenGraph;
use crate::engine::signature::{Signature, TensorSpec};
use crate::engine::{Endpoint, Model, RunOptions, Termination};
use crate::error::{Error, Result};
use crate::pb::tensorflow::{GraphDef, NodeDef};
use crate::tensor::Tensor;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// An engine, and a hash of a graph under names of places.
type Key = (EngineKind, [u8; 32]);

/// The models that are open.
#[derive(Default)]
pub(super) struct Models(Mutex<HashMap<Key, Weak<dyn Model>>>);

impl Models {
    /// Returns a model of `graph` for `engine`: one that is open for a graph like it, or what `open` makes.
    pub(super) fn open(
        &self,
        engine: EngineKind,
        graph: &FrozenGraph,
        open: impl FnOnce(&FrozenGraph) -> Result<Box<dyn Model>>,
    ) -> Result<Box<dyn Model>> {
        let alike = renamed(graph)?;
        let key = (engine, alike.hash());
        let mut models = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        models.retain(|_, model| model.strong_count() > 0);
        let model = match models.get(&key).and_then(Weak::upgrade) {
            Some(model) => model,
            None => {
                let model: Arc<dyn Model> = open(&alike)?.into();
                models.insert(key, Arc::downgrade(&model));
                model
            }
        };
        let own = graph.inputs.iter().chain(&graph.outputs);
        let places = alike.inputs.iter().chain(&alike.outputs);
        let tensors = own.zip(places).map(|(own, place)| (own.tensor.clone(), place.tensor.clone()));
        Ok(Box::new(Renamed { model, tensors: tensors.collect() }))
    }
}

/// A model whose tensors have other names here.
struct Renamed {
    model: Arc<dyn Model>,
    tensors: BTreeMap<String, String>,
}

impl Model for Renamed {
    fn signatures(&self) -> &BTreeMap<String, Signature> {
        self.model.signatures()
    }

    fn endpoint(&self, tensor: &str) -> Option<Endpoint> {
        self.model.endpoint(self.tensors.get(tensor)?)
    }

    fn changes_nothing(&self, signature: &str) -> bool {
        self.model.changes_nothing(signature)
    }

    fn termination(&self, signature: &str) -> Termination {
        self.model.termination(signature)
    }

    fn share_cores(&self, shared: bool) -> Result<()> {
        self.model.share_cores(shared)
    }

    fn run(
        &self,
        feeds: &[(Endpoint, Tensor)],
        fetches: &[Endpoint],
        options: RunOptions,
    ) -> Result<Vec<Tensor>> {
        self.model.run(feeds, fetches, options)
    }
}

/// Returns `graph` with the nodes that its outputs need, named and ordered by their places: how they are reached from the
/// outputs, and the inputs that none needs after these.
fn renamed(graph: &FrozenGraph) -> Result<FrozenGraph> {
    let nodes: HashMap<&str, &NodeDef> =
        graph.graph.node.iter().map(|node| (node.name.as_str(), node)).collect();
    let ends = graph.outputs.iter().chain(&graph.inputs).rev();
    let mut ahead: Vec<&str> = ends.map(|spec| parts(&spec.tensor).1).collect();
    let mut names: HashMap<&str, String> = HashMap::new();
    let mut order = Vec::new();
    while let Some(name) = ahead.pop() {
        let lost = || Error::internal(format!("The graph has no node {name}"));
        let node: &NodeDef = nodes.get(name).ok_or_else(lost)?;
        if !names.contains_key(name) {
            names.insert(name, format!("node{}", order.len()));
            order.push(node);
            ahead.extend(node.input.iter().rev().map(|input| parts(input).1));
        }
    }
    let tensor = |tensor: &str| {
        let (before, name, after) = parts(tensor);
        format!("{before}{}{after}", names[name])
    };
    let node = |node: &NodeDef| {
        let mut renamed = node.clone();
        renamed.name.clone_from(&names[&*node.name]);
        renamed.input.iter_mut().for_each(|input| *input = tensor(input));
        // It places a node beside another, by name.
        renamed.attr.remove("_class");
        renamed
    };
    let spec = |spec: &TensorSpec| TensorSpec { tensor: tensor(&spec.tensor), ..spec.clone() };
    Ok(FrozenGraph {
        graph: GraphDef { node: order.into_iter().map(node).collect(), ..without_nodes(&graph.graph) },
        inputs: graph.inputs.iter().map(spec).collect(),
        outputs: graph.outputs.iter().map(spec).collect(),
    })
}

fn without_nodes(graph: &GraphDef) -> GraphDef {
    let GraphDef { node: _, library, versions, .. } = graph;
    GraphDef { library: library.clone(), versions: versions.clone(), ..GraphDef::default() }
}

/// Returns the node of `node`, `node:output` or `^node`, with what is before it and after it.
fn parts(tensor: &str) -> (&str, &str, &str) {
    let (before, tensor) = tensor.split_at(usize::from(tensor.starts_with('^')));
    let (name, after) = tensor.split_at(tensor.rfind(':').unwrap_or(tensor.len()));
    (before, name, after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::fake;
    use crate::pb::tensorflow::AttrValue;
    use crate::pb::tensorflow::attr_value::Value;
    use crate::tensor::DType;
    use std::cell::Cell;

    fn node(name: &str, op: &str, input: &[&str], value: i64) -> NodeDef {
        NodeDef {
            name: name.to_owned(),
            op: op.to_owned(),
            input: input.iter().map(|&input| input.to_owned()).collect(),
            attr: [("value".to_owned(), AttrValue { value: Some(Value::I(value)) })].into(),
            ..NodeDef::default()
        }
    }

    fn spec(tensor: &str) -> TensorSpec {
        TensorSpec { alias: tensor.to_owned(), tensor: tensor.to_owned(), dtype: DType::Float, shape: None }
    }

    /// A sum of two inputs and a constant, whose nodes are called with this prefix; one more is of no use.
    fn sum(prefix: &str, value: i64, outputs: &[&str]) -> FrozenGraph {
        let name = |name: &str| format!("{prefix}{name}");
        let mut node = vec![
            node(&name("a"), "Placeholder", &[], 0),
            node(&name("b"), "Placeholder", &[], 0),
            node(&name("c"), "Const", &[], value),
            node(&name("inner"), "Split", &[&name("a:0"), &name("c")], 0),
            node(&name("sum"), "Add", &[&name("inner:1"), &name("b"), &format!("^{prefix}c")], 0),
            node(&name("left"), "Const", &[], 7),
        ];
        if prefix.len() > 1 {
            node.reverse();
        }
        FrozenGraph {
            graph: GraphDef { node, ..GraphDef::default() },
            inputs: vec![spec(&name("a:0")), spec(&name("b:0"))],
            outputs: outputs.iter().map(|output| spec(&name(output))).collect(),
        }
    }

    #[test]
    fn graphs_are_alike_whatever_their_names_and_order_are() {
        let one = renamed(&sum("p", 1, &["sum:0"])).unwrap();
        let other = renamed(&sum("other/", 1, &["sum:0"])).unwrap();
        assert_eq!((one.hash(), &one.graph), (other.hash(), &other.graph));
        let nodes: Vec<_> = one.graph.node.iter().map(|node| (&*node.name, node.input.join(" "))).collect();
        let named = |name, input: &str| (name, input.to_owned());
        let expected = [
            named("node0", "node1:1 node4 ^node3"),
            named("node1", "node2:0 node3"),
            named("node2", ""),
            named("node3", ""),
            named("node4", ""),
        ];
        assert_eq!(nodes, expected);
        let tensors: Vec<_> = one.inputs.iter().chain(&one.outputs).map(|spec| &*spec.tensor).collect();
        assert_eq!(tensors, ["node2:0", "node4:0", "node0:0"]);
        assert_eq!(other.inputs[0].alias, "other/a:0");
    }

    #[test]
    fn what_computes_something_else_is_not_alike() {
        let plain = || sum("p", 1, &["sum:0"]);
        let hash = |graph: &FrozenGraph| renamed(graph).unwrap().hash();
        let mut others =
            vec![sum("p", 2, &["sum:0"]), sum("p", 1, &["inner:0"]), sum("p", 1, &["sum:0", "inner:1"])];
        let mut changed = |change: fn(&mut FrozenGraph)| {
            let mut graph = plain();
            change(&mut graph);
            others.push(graph);
        };
        changed(|graph| graph.inputs.reverse());
        changed(|graph| graph.inputs[0].shape = Some(vec![1]));
        changed(|graph| graph.outputs[0].dtype = DType::Half);
        changed(|graph| graph.graph.node[3].input.reverse());
        changed(|graph| graph.graph.node[4].op = "Sub".to_owned());
        for other in &others {
            assert_ne!(hash(other), hash(&plain()), "{other:?}");
        }
        assert!(renamed(&sum("p", 1, &["none:0"])).is_err());
    }

    #[test]
    fn models_of_graphs_that_are_alike_are_one_as_long_as_it_is_used() {
        let (models, opened) = (Models::default(), Cell::new(0));
        let open = |engine, graph: &FrozenGraph| {
            let model = models.open(engine, graph, |_| {
                opened.set(opened.get() + 1);
                Ok(fake::model(|| {}))
            });
            (model.unwrap(), opened.get())
        };
        let (one, made) = open(EngineKind::OpenVino, &sum("p", 1, &["sum:0"]));
        assert_eq!(made, 1);
        let (other, made) = open(EngineKind::OpenVino, &sum("other/", 1, &["sum:0"]));
        assert_eq!(made, 1);
        assert_eq!(open(EngineKind::TensorFlow, &sum("p", 1, &["sum:0"])).1, 2);
        assert_eq!(open(EngineKind::OpenVino, &sum("p", 3, &["sum:0"])).1, 3);
        drop(one);
        assert_eq!(open(EngineKind::OpenVino, &sum("p", 1, &["sum:0"])).1, 3);
        drop(other);
        assert_eq!(open(EngineKind::OpenVino, &sum("p", 1, &["sum:0"])).1, 4);
    }
}
