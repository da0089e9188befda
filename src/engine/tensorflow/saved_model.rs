//! `saved_model.pb`: the meta graph with the wanted tags, and its signatures.

use super::contents;
use super::effects::{self, Effects};
use super::flow::Flow;
use super::variables;
use crate::engine::Termination;
use crate::engine::content::Content;
use crate::engine::signature::{Signature, TensorSpec};
use crate::error::{Error, Kind, Result};
use crate::files;
use crate::pb::tensorflow::serving::SignatureDefMap;
use crate::pb::tensorflow::tensor_info::Encoding;
use crate::pb::tensorflow::{MetaGraphDef, SavedModel, SignatureDef, TensorInfo, TensorShapeProto};
use crate::tensor::DType;
use bytes::Bytes;
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;

/// Information about a SavedModel, read before TensorFlow loads it.
#[derive(Default)]
pub(super) struct Meta {
    pub(super) signatures: BTreeMap<String, Signature>,
    pub(super) signature_def_map: Bytes,
    /// Effects of running each signature, by name.
    pub(super) effects: BTreeMap<String, Effects>,
    /// What the string inputs of each signature have to hold, by name and alias, as far as it is known.
    pub(super) contents: BTreeMap<String, BTreeMap<String, Content>>,
    /// True if loading it runs operations of its own, which need not do the same twice.
    pub(super) initialises: bool,
}

impl Meta {
    pub(super) fn changes_nothing(&self, signature: &str) -> bool {
        self.effects.get(signature).is_some_and(|effects| effects.none)
    }

    pub(super) fn needs_ranks(&self, signature: &str) -> bool {
        self.effects.get(signature).is_some_and(|effects| effects.needs_ranks)
    }

    pub(super) fn is_compiled(&self, signature: &str) -> bool {
        self.effects.get(signature).is_some_and(|effects| effects.is_compiled)
    }

    pub(super) fn termination(&self, signature: &str) -> Termination {
        self.effects.get(signature).map_or(Termination::Unknown, |effects| effects.termination)
    }
}

/// Reads the meta graph whose tag set is exactly `tags`; `None` for the text format, which only TensorFlow can read.
pub(super) fn read(folder: &Path, tags: &[String]) -> Result<Option<Meta>> {
    if !folder.join("saved_model.pb").exists() && folder.join("saved_model.pbtxt").is_file() {
        return Ok(None);
    }
    of(folder, choose(parse(folder)?, tags, folder)?).map(Some)
}

/// Checks `meta_graph`, which is in `folder`, and extracts its information.
pub(super) fn of(folder: &Path, meta_graph: MetaGraphDef) -> Result<Meta> {
    variables::check(folder, &meta_graph)?;
    let signatures =
        meta_graph.signature_def.iter().map(|(name, def)| (name.clone(), signature(name, def))).collect();
    let (effects, contents) = (all_effects(&meta_graph), all_contents(&meta_graph));
    let initialises = variables::initialises(&meta_graph);
    let map = SignatureDefMap { signature_def: meta_graph.signature_def };
    Ok(Meta { signatures, signature_def_map: map.encode_to_vec().into(), effects, contents, initialises })
}

fn all_effects(meta_graph: &MetaGraphDef) -> BTreeMap<String, Effects> {
    let Some(graph) = &meta_graph.graph_def else { return BTreeMap::new() };
    let tensors = |infos: &BTreeMap<String, TensorInfo>| -> Vec<String> {
        infos.iter().map(|(alias, info)| spec(alias, info).tensor).collect()
    };
    let effects = |def: &SignatureDef| {
        let (inputs, outputs) = (tensors(&def.inputs), tensors(&def.outputs));
        effects::of(graph, &inputs.iter().map(String::as_str).collect(), outputs.iter().map(String::as_str))
    };
    meta_graph.signature_def.iter().map(|(name, def)| (name.clone(), effects(def))).collect()
}

/// Determines the contents of the string inputs of every signature that has some.
fn all_contents(meta_graph: &MetaGraphDef) -> BTreeMap<String, BTreeMap<String, Content>> {
    let Some(graph) = &meta_graph.graph_def else { return BTreeMap::new() };
    let with_strings = || {
        let has_strings =
            |def: &SignatureDef| def.inputs.values().any(|info| name_of_strings(info).is_some());
        meta_graph.signature_def.iter().filter(move |(_, def)| has_strings(def))
    };
    if with_strings().next().is_none() {
        return BTreeMap::new();
    }
    let flow = Flow::new(graph);
    let contents = |def: &SignatureDef| {
        let fed = def.inputs.values().filter_map(name_of).collect();
        let reached = effects::reached(graph, &fed, def.outputs.values().filter_map(name_of));
        let strings =
            def.inputs.iter().filter_map(|(alias, info)| Some((alias.as_str(), name_of_strings(info)?)));
        contents::of(&flow, &reached.into_keys().collect(), strings)
    };
    with_strings().map(|(name, def)| (name.clone(), contents(def))).collect()
}

fn name_of_strings(info: &TensorInfo) -> Option<&str> {
    name_of(info).filter(|_| DType::from_number(info.dtype) == Some(DType::String))
}

fn name_of(info: &TensorInfo) -> Option<&str> {
    match &info.encoding {
        Some(Encoding::Name(name)) => Some(name),
        Some(Encoding::CooSparse(_) | Encoding::CompositeTensor(_)) | None => None,
    }
}

fn parse(folder: &Path) -> Result<SavedModel> {
    let file = folder.join("saved_model.pb");
    let mut bytes = Vec::new();
    let read = files::open(&file).and_then(|mut opened| opened.read_to_end(&mut bytes));
    read.map_err(|why| unreadable(folder, &file, &why))?;
    let model = SavedModel::decode(Bytes::from(bytes)).map_err(|why| {
        Error::new(
            Kind::DataLoss,
            format!(
                "{} is not a SavedModel that can be read ({why}). It may be damaged or half-copied: copy the folder \
                 again, under another name, and rename it when it is whole",
                file.display()
            ),
        )
    })?;
    if model.meta_graphs.is_empty() {
        return Err(Error::new(
            Kind::DataLoss,
            format!("{} holds no meta graph: the file is empty or was cut off", file.display()),
        ));
    }
    Ok(model)
}

/// Makes the error for an unreadable file; for a missing one, with TensorFlow's own text.
#[allow(clippy::wildcard_enum_match_arm)] // The standard library's list of kinds grows.
fn unreadable(folder: &Path, file: &Path, why: &std::io::Error) -> Error {
    match why.kind() {
        std::io::ErrorKind::NotFound if folder.join("export.meta").exists() => {
            Error::new(Kind::Unimplemented, "Session Bundle is deprecated and removed.")
        }
        std::io::ErrorKind::NotFound => Error::not_found(format!(
            "Specified file path does not appear to contain a SavedModel bundle (should have a file called \
             `saved_model.pb`)\nSpecified file path: {}",
            folder.display()
        )),
        std::io::ErrorKind::PermissionDenied => Error::new(
            Kind::PermissionDenied,
            format!("{} may not be read by this user: give it read permission", file.display()),
        ),
        _ => Error::new(Kind::FailedPrecondition, format!("{} cannot be read: {why}", file.display())),
    }
}

fn choose(model: SavedModel, tags: &[String], folder: &Path) -> Result<MetaGraphDef> {
    let wanted: BTreeSet<&str> = tags.iter().map(String::as_str).collect();
    let has = |graph: &MetaGraphDef| -> BTreeSet<String> {
        graph.meta_info_def.iter().flat_map(|info| info.tags.iter().cloned()).collect()
    };
    let found: Vec<_> = model.meta_graphs.iter().map(has).collect();
    match model
        .meta_graphs
        .into_iter()
        .zip(&found)
        .find(|(_, tags)| tags.iter().map(String::as_str).eq(wanted.iter().copied()))
    {
        Some((graph, _)) => Ok(graph),
        None => Err(Error::not_found(format!(
            "Could not find meta graph def matching supplied tags: {{ {} }}. The SavedModel in {} has {}: ask for one \
             of these with --saved_model_tags",
            tags.join(" "),
            folder.display(),
            found
                .iter()
                .map(|tags| format!("{{ {} }}", Vec::from_iter(tags.iter().cloned()).join(" ")))
                .collect::<Vec<_>>()
                .join(", ")
        ))),
    }
}

fn signature(name: &str, def: &SignatureDef) -> Signature {
    let specs = |infos: &BTreeMap<String, TensorInfo>| {
        infos.iter().map(|(alias, info)| spec(alias, info)).collect::<Vec<_>>()
    };
    Signature {
        name: name.into(),
        method_name: def.method_name.clone(),
        inputs: specs(&def.inputs),
        outputs: specs(&def.outputs),
        // A default that TensorFlow could not parse is dropped: requests must then provide the input.
        defaults: def
            .defaults
            .iter()
            .filter_map(|(alias, value)| Some((alias.clone(), crate::pb::tensor::decode(value).ok()?)))
            .collect(),
    }
}

fn spec(alias: &str, info: &TensorInfo) -> TensorSpec {
    let tensor = match &info.encoding {
        Some(Encoding::Name(name)) => name.clone(),
        // Sparse and composite inputs have no tensor of their own and cannot be fed as one; they stay visible in the
        // metadata and fail when used.
        Some(Encoding::CooSparse(_) | Encoding::CompositeTensor(_)) | None => String::new(),
    };
    TensorSpec {
        alias: alias.to_owned(),
        tensor,
        dtype: DType::from_number(info.dtype).unwrap_or(DType::Invalid),
        shape: info.tensor_shape.as_ref().and_then(shape),
    }
}

fn shape(shape: &TensorShapeProto) -> Option<Vec<i64>> {
    (!shape.unknown_rank).then(|| shape.dim.iter().map(|dim| dim.size).collect())
}
