//! A frozen TensorFlow graph as a file that OpenVINO's TensorFlow front end reads.
//!
//! The front end makes an output of each node that no other takes, and names outputs anew where two would collide. So
//! the file has only what the outputs need, and each output is the only result of a node of its own, added here, whose
//! name nothing else has.

use crate::engine::Termination;
use crate::engine::frozen::FrozenGraph;
use crate::engine::signature::TensorSpec;
use crate::error::{Error, Kind, Result};
use crate::pb::tensorflow::attr_value::Value;
use crate::pb::tensorflow::tensor_shape_proto::Dim;
use crate::pb::tensorflow::{AttrValue, GraphDef, NodeDef, TensorShapeProto};
use prost::Message;
use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A graph for the front end, and the names of its tensors.
pub(super) struct Prepared {
    pub(super) graph: GraphDef,
    /// The tensor of each input and of each output, in the order of the signature.
    pub(super) inputs: Vec<String>,
    pub(super) outputs: Vec<String>,
    pub(super) termination: Termination,
}

/// Operations by which a graph loops.
const LOOPS: [&str; 6] =
    ["While", "StatelessWhile", "Enter", "RefEnter", "NextIteration", "RefNextIteration"];

/// Prepares `frozen`.
pub(super) fn prepare(frozen: &FrozenGraph) -> Result<Prepared> {
    let nodes: HashMap<&str, &NodeDef> =
        frozen.graph.node.iter().map(|node| (node.name.as_str(), node)).collect();
    let needed = needed(&nodes, &frozen.outputs)?;
    if let Some(input) = frozen.inputs.iter().find(|input| !needed.contains(node_of(&input.tensor))) {
        return Err(refused(format!("input \"{}\" ({}) is not used", input.alias, input.tensor)));
    }
    let is_input = |output: &&TensorSpec| frozen.inputs.iter().any(|input| input.tensor == output.tensor);
    if let Some(output) = frozen.outputs.iter().find(is_input) {
        return Err(refused(format!("output \"{}\" is an input", output.alias)));
    }
    let mut prefix = "servable_output".to_owned();
    while nodes.keys().any(|name| name.starts_with(&prefix)) {
        prefix.push('_');
    }
    let mut graph = GraphDef { versions: frozen.graph.versions.clone(), ..GraphDef::default() };
    graph.node =
        frozen.graph.node.iter().filter(|node| needed.contains(node.name.as_str())).cloned().collect();
    for input in &frozen.inputs {
        let place = graph.node.iter_mut().find(|node| node.name == node_of(&input.tensor));
        place.into_iter().for_each(|place| with_shape(place, input));
    }
    let ends = frozen.outputs.iter().enumerate().map(|(at, output)| NodeDef {
        name: format!("{prefix}_{at}"),
        op: "Identity".to_owned(),
        input: vec![output.tensor.clone()],
        attr: [("T".to_owned(), AttrValue { value: Some(Value::Type(output.dtype as i32)) })].into(),
        ..NodeDef::default()
    });
    graph.node.extend(ends);
    let loops = graph.node.iter().any(|node| LOOPS.contains(&node.op.as_str()));
    Ok(Prepared {
        inputs: frozen.inputs.iter().map(|input| input.tensor.clone()).collect(),
        outputs: (0..frozen.outputs.len()).map(|at| format!("{prefix}_{at}:0")).collect(),
        termination: if loops { Termination::MayLoop } else { Termination::ByShapes },
        graph,
    })
}

/// Gives the placeholder of `input` the shape that the signature declares, if it has none of its own: OpenVINO takes no
/// input of any rank.
fn with_shape(placeholder: &mut NodeDef, input: &TensorSpec) {
    let own = placeholder.attr.get("shape").and_then(|attr| attr.value.as_ref());
    let has_rank = matches!(own, Some(Value::Shape(shape)) if !shape.unknown_rank);
    if let (false, Some(shape)) = (has_rank, &input.shape) {
        let dim = shape.iter().map(|size| Dim { size: *size, ..Dim::default() }).collect();
        let value = Some(Value::Shape(TensorShapeProto { dim, ..TensorShapeProto::default() }));
        placeholder.attr.insert("shape".to_owned(), AttrValue { value });
    }
}

/// Returns the names of the nodes that `outputs` need.
fn needed<'g>(nodes: &HashMap<&'g str, &'g NodeDef>, outputs: &'g [TensorSpec]) -> Result<HashSet<&'g str>> {
    let mut needed = HashSet::new();
    let mut ahead: Vec<&str> = outputs.iter().map(|output| node_of(&output.tensor)).collect();
    while let Some(name) = ahead.pop() {
        let Some((name, node)) = nodes.get_key_value(name) else {
            return Err(refused(format!("there is no node \"{name}\"")));
        };
        if needed.insert(*name) {
            ahead.extend(node.input.iter().map(|input| node_of(input)));
        }
    }
    Ok(needed)
}

/// Returns the node of `node`, `node:output` or `^node`.
fn node_of(tensor: &str) -> &str {
    let tensor = tensor.strip_prefix('^').unwrap_or(tensor);
    tensor.rsplit_once(':').map_or(tensor, |(node, _)| node)
}

/// Returns the error for a graph that OpenVINO is not to run.
pub(super) fn refused(why: impl std::fmt::Display) -> Error {
    Error::new(Kind::Unimplemented, format!("OpenVINO does not take this graph: {why}"))
}

/// Writes `graph` to `graph.pb` in `folder`, all of it or nothing, and returns its path. A file that holds it already
/// stays as it is: what OpenVINO has kept of it goes by its time.
pub(super) fn write(graph: &GraphDef, folder: &Path) -> Result<PathBuf> {
    let (path, content) = (folder.join("graph.pb"), graph.encode_to_vec());
    if std::fs::metadata(&path).is_ok_and(|found| found.len() == content.len() as u64)
        && std::fs::read(&path).is_ok_and(|found| found == content)
    {
        return Ok(path);
    }
    // Another process may write there, too, even one of the same number, in another container.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
    let unfinished = folder.join(format!("graph.pb.{}-{now}", std::process::id()));
    let written = || {
        let mut file = std::fs::File::create(&unfinished)?;
        file.write_all(&content)?;
        if path.is_dir() {
            // Nobody's: the folder is the graph's alone.
            std::fs::remove_dir_all(&path)?;
        }
        std::fs::rename(&unfinished, &path)
    };
    written().map_err(|why| {
        // Nothing is left there if that fails, too.
        let _ = std::fs::remove_file(&unfinished);
        Error::new(Kind::Unavailable, format!("{} cannot be written: {why}", path.display()))
    })?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DType;

    fn node(name: &str, op: &str, input: &[&str]) -> NodeDef {
        let input = input.iter().map(|input| (*input).to_owned()).collect();
        NodeDef { name: name.to_owned(), op: op.to_owned(), input, ..NodeDef::default() }
    }

    fn spec(tensor: &str) -> TensorSpec {
        TensorSpec { alias: tensor.to_owned(), tensor: tensor.to_owned(), dtype: DType::Float, shape: None }
    }

    fn graph(outputs: &[&str]) -> FrozenGraph {
        let node = vec![
            node("x", "Placeholder", &[]),
            node("c", "Const", &[]),
            node("y", "Split", &["c", "x", "^guard"]),
            node("guard", "NoOp", &[]),
            node("servable_output_0", "Relu", &["y:1"]),
            node("beside", "Enter", &["x"]),
        ];
        FrozenGraph {
            graph: GraphDef { node, ..GraphDef::default() },
            inputs: vec![spec("x:0")],
            outputs: outputs.iter().map(|output| spec(output)).collect(),
        }
    }

    #[test]
    fn each_output_ends_in_a_node_of_its_own_and_only_what_they_need_is_left() {
        let prepared = prepare(&graph(&["y:1", "servable_output_0:0"])).unwrap();
        let names: Vec<_> = prepared.graph.node.iter().map(|node| node.name.as_str()).collect();
        let ends = ["servable_output___0", "servable_output___1"];
        assert_eq!(names, ["x", "c", "y", "guard", "servable_output_0", ends[0], ends[1]]);
        assert_eq!(prepared.graph.node[5].input, ["y:1"]);
        assert_eq!(prepared.outputs, ["servable_output___0:0", "servable_output___1:0"]);
        assert_eq!((prepared.inputs, prepared.termination), (vec!["x:0".to_owned()], Termination::ByShapes));
        let looped = prepare(&graph(&["beside:0"])).unwrap();
        assert_eq!(looped.termination, Termination::MayLoop);
    }

    #[test]
    fn a_placeholder_without_a_shape_gets_that_of_the_signature() {
        let shaped = |own: Option<TensorShapeProto>, declared: Option<Vec<i64>>| {
            let mut frozen = graph(&["y:1"]);
            let value = own.map(Value::Shape);
            frozen.graph.node[0].attr = [("shape".to_owned(), AttrValue { value })].into();
            frozen.inputs[0].shape = declared;
            match prepare(&frozen).unwrap().graph.node[0].attr["shape"].value.clone() {
                Some(Value::Shape(shape)) if !shape.unknown_rank => {
                    Some(shape.dim.iter().map(|dim| dim.size).collect::<Vec<_>>())
                }
                _ => None,
            }
        };
        let unknown = TensorShapeProto { unknown_rank: true, ..TensorShapeProto::default() };
        assert_eq!(shaped(None, Some(vec![-1, 2])), Some(vec![-1, 2]));
        assert_eq!(shaped(Some(unknown.clone()), Some(vec![3])), Some(vec![3]));
        assert_eq!(shaped(Some(TensorShapeProto::default()), Some(vec![3])), Some(vec![]));
        assert_eq!(shaped(Some(unknown), None), None);
    }

    #[test]
    fn what_cannot_be_bound_is_refused() {
        for (outputs, why) in [
            (&["nowhere:0"][..], "no node \"nowhere\""),
            (&["c:0"], "\"x:0\" (x:0) is not used"),
            (&["y:0", "x:0"], "output \"x:0\" is an input"),
        ] {
            let text = prepare(&graph(outputs)).err().unwrap().message;
            assert!(text.contains(why), "{text}");
        }
    }

    #[test]
    fn a_graph_is_written_once() {
        let folder = tempfile::tempdir().unwrap();
        let graph = graph(&["y:1"]).graph;
        let path = write(&graph, folder.path()).unwrap();
        assert_eq!(GraphDef::decode(&std::fs::read(&path).unwrap()[..]).unwrap(), graph);
        let first = std::fs::metadata(&path).unwrap().modified().unwrap();
        write(&graph, folder.path()).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().modified().unwrap(), first);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert_eq!(write(&graph, folder.path()).unwrap(), path);
        assert!(path.is_file(), "a folder in its place");
        assert_eq!(write(&graph, &folder.path().join("none")).unwrap_err().kind, Kind::Unavailable);
    }
}
