//! Finds SavedModels that load but would fail at their first request, because a signature reads a variable that neither
//! the checkpoint's restore nor the initialisation fills.
//!
//! The usual cause is a Keras 3 model inside a `tf.Module` that was exported with `tf.saved_model.save`: the graph then
//! holds two sets of variable handles, and the restore fills the other one. Another is a missing `variables` folder.

use super::effects::{self, is_fed, node_of};
use crate::error::{Error, Kind, Result};
use crate::pb::tensorflow::tensor_info::Encoding;
use crate::pb::tensorflow::{GraphDef, MetaGraphDef, NodeDef, TensorInfo, collection_def};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;

/// The signature that initialises a model, and the collections used for that before TensorFlow 2.
const INIT: &str = "__saved_model_init_op";
const INIT_COLLECTIONS: [&str; 2] = ["saved_model_main_op", "legacy_init_op"];

/// Fails if a signature of `meta` reads a variable that loading leaves empty.
pub(super) fn check(folder: &Path, meta: &MetaGraphDef) -> Result<()> {
    let Some(graph) = &meta.graph_def else { return Ok(()) };
    let reader = Reader::new(graph);
    let mut read = BTreeSet::new();
    for (_, def) in meta.signature_def.iter().filter(|(name, _)| *name != INIT) {
        let fed: BTreeSet<&str> = def.inputs.values().filter_map(name_of).collect();
        read.extend(reader.variables(def.outputs.values().filter_map(name_of).map(node_of), &fed));
    }
    if read.is_empty() {
        return Ok(());
    }
    let nothing = BTreeSet::new();
    let restore = meta.saver_def.iter().map(|saver| node_of(&saver.restore_op_name));
    let restored = reader.variables(restore, &nothing);
    let mut filled = reader.variables(initialisers(meta), &nothing);
    if !restored.is_disjoint(&read) {
        has_variables(folder)?;
    }
    filled.extend(restored);
    match read.difference(&filled).next() {
        None => Ok(()),
        Some(variable) => Err(Error::new(
            Kind::FailedPrecondition,
            format!(
                "Could not find variable {variable}: {} of the {} variables that the signatures read are filled by \
                 neither the checkpoint nor the initialisation, so every request would fail. A Keras 3 model inside a \
                 tf.Module that was saved with tf.saved_model.save does this: export with model.export(PATH), or \
                 track the tf.Variables themselves (self.weights = [v.value for v in model.variables])",
                read.difference(&filled).count(),
                read.len()
            ),
        )),
    }
}

fn has_variables(folder: &Path) -> Result<()> {
    let index = folder.join("variables").join("variables.index");
    match index.metadata() {
        Ok(found) if found.is_file() => Ok(()),
        Err(why) if why.kind() == std::io::ErrorKind::PermissionDenied => Err(Error::new(
            Kind::PermissionDenied,
            format!("{} may not be read by this user: give it read permission", index.display()),
        )),
        Ok(_) | Err(_) => Err(Error::not_found(format!(
            "{} has no variables/variables.index, which its signatures need: the folder may be half-copied. Copy it \
             under another name and rename it when it is whole",
            folder.display()
        ))),
    }
}

/// Returns whether a load of `meta` runs more than the restore of the checkpoint.
pub(super) fn initialises(meta: &MetaGraphDef) -> bool {
    let Some(graph) = &meta.graph_def else { return false };
    let reached = effects::reached(graph, &BTreeSet::new(), initialisers(meta));
    reached.into_values().any(|node| node.op != "NoOp")
}

fn initialisers(meta: &MetaGraphDef) -> impl Iterator<Item = &str> {
    let by_signature = meta.signature_def.get(INIT).into_iter().flat_map(|def| def.outputs.values());
    let by_signature = by_signature.filter_map(name_of).map(node_of);
    let collections = INIT_COLLECTIONS.iter().filter_map(|name| meta.collection_def.get(*name));
    let by_collection = collections.flat_map(|collection| match &collection.kind {
        Some(collection_def::Kind::NodeList(list)) => list.value.iter().map(|name| node_of(name)).collect(),
        _ => Vec::new(),
    });
    by_signature.chain(by_collection)
}

fn name_of(info: &TensorInfo) -> Option<&str> {
    match &info.encoding {
        Some(Encoding::Name(name)) => Some(name),
        Some(Encoding::CooSparse(_) | Encoding::CompositeTensor(_)) | None => None,
    }
}

/// The nodes of a graph, by name.
struct Reader<'g> {
    nodes: HashMap<&'g str, &'g NodeDef>,
}

impl<'g> Reader<'g> {
    fn new(graph: &'g GraphDef) -> Reader<'g> {
        Reader { nodes: graph.node.iter().map(|node| (node.name.as_str(), node)).collect() }
    }

    /// Returns the variables whose handles `roots` depend on, stopping at tensors that are `fed`. Handles are made in
    /// the main graph and passed into functions, so functions need not be followed.
    fn variables(&self, roots: impl Iterator<Item = &'g str>, fed: &BTreeSet<&str>) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut seen: HashSet<&str> = HashSet::new();
        let mut waiting: Vec<&str> = roots.collect();
        while let Some(name) = waiting.pop() {
            let Some(node) = self.nodes.get(name).filter(|_| seen.insert(name)) else { continue };
            if node.op == "VarHandleOp" {
                found.insert(resource(node));
            }
            waiting.extend(node.input.iter().filter(|input| !is_fed(input, fed)).map(|input| node_of(input)));
        }
        found
    }
}

/// Returns the variable of a handle: handles with the same shared name are one variable.
fn resource(node: &NodeDef) -> String {
    use crate::pb::tensorflow::attr_value::Value;
    let text = |attr: &str| match node.attr.get(attr).and_then(|attr| attr.value.as_ref()) {
        Some(Value::S(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
        _ => String::new(),
    };
    let shared = text("shared_name");
    if shared.is_empty() { node.name.clone() } else { shared }
}
