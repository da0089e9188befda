//! Writes `src/pb/` from the `.proto` files: the Rust messages, and the descriptor set.
//!
//! The `.proto` files say what is on the wire. A few message fields are only handed on, or are large and rarely
//! looked at; the Rust side keeps those as raw bytes (a message and a bytes field look alike on the wire). The
//! descriptor set, which clients see through reflection, keeps their true types.
//!
//! Without an argument it writes; with `--check` it fails if what it would write is not what is there.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::{Path, PathBuf};

use prost::Message;
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FileDescriptorProto, FileDescriptorSet};

/// The files that Rust code is needed for, together with all they import; Python reads the rest from the
/// descriptor set.
const RUST_ROOTS: &[&str] = &[
    "inference/grpc_service.proto",
    "tensorflow/core/config.proto",
    "tensorflow/core/example.proto",
    "tensorflow/core/profiler_service.proto",
    "tensorflow/core/saved_model.proto",
    "tensorflow/serving/model_service.proto",
    "tensorflow/serving/prediction_log.proto",
    "tensorflow/serving/prediction_service.proto",
];

/// Message fields that Rust keeps as the bytes they came in.
const OPAQUE: &[(&str, &str)] = &[
    // Tensors are read and written by `pb::tensor`, straight from and to the wire; in a frozen model's graph, where
    // they are its weights, not at all.
    (".tensorflow.AttrValue", "tensor"),
    (".tensorflow.AttrValue.ListValue", "tensor"),
    (".tensorflow.NamedTensorProto", "tensor"),
    (".tensorflow.SignatureDef.DefaultsEntry", "value"),
    (".tensorflow.serving.PredictRequest.InputsEntry", "value"),
    (".tensorflow.serving.PredictResponse.OutputsEntry", "value"),
    // Needed by whoever trains or inspects a model, not by whoever serves it.
    (".tensorflow.MetaGraphDef", "object_graph_def"),
    (".tensorflow.MetaGraphDef.MetaInfoDef", "stripped_op_list"),
    (".tensorflow.TensorInfo.CompositeTensor", "type_spec"),
    // Fed to the graph in serialized form.
    (".tensorflow.serving.ExampleList", "examples"),
    (".tensorflow.serving.ExampleListWithContext", "examples"),
    (".tensorflow.serving.ExampleListWithContext", "context"),
    // Part of logged answers, which nobody reads here.
    (".tensorflow.serving.SessionRunResponse", "metadata"),
];

fn main() -> Result<(), Box<dyn Error>> {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    let (protos, target) = (project.join("proto"), project.join("src/pb"));
    match std::env::args().nth(1).as_deref() {
        None => write(&protos, &target),
        Some("--check") => check(&protos, &target),
        Some(other) => Err(format!("unknown argument {other}: expected --check or nothing").into()),
    }
}

/// Generates everything into `out`.
fn write(protos: &Path, out: &Path) -> Result<(), Box<dyn Error>> {
    let mut files = protox::compile(proto_files(protos)?, [protos])?;
    std::fs::write(out.join("descriptors.bin"), without_comments(&files).encode_to_vec())?;
    make_opaque(&mut files)?;
    keep_reachable(&mut files, RUST_ROOTS);
    prost_build::Config::new().out_dir(out).btree_map(["."]).bytes(["."]).compile_fds(files)?;
    Ok(())
}

/// Generates into a folder of its own and compares.
fn check(protos: &Path, target: &Path) -> Result<(), Box<dyn Error>> {
    let fresh = std::env::temp_dir().join(format!("proto-gen-{}", std::process::id()));
    std::fs::create_dir_all(&fresh)?;
    let stale = write(protos, &fresh).and_then(|()| differing(&fresh, target));
    std::fs::remove_dir_all(&fresh)?;
    match stale? {
        stale if stale.is_empty() => Ok(()),
        stale => Err(format!("src/pb is not what proto/ says: {}. Run make proto", stale.join(", ")).into()),
    }
}

/// The files of `fresh` that are not the same in `target`.
fn differing(fresh: &Path, target: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    let mut differing = Vec::new();
    for entry in std::fs::read_dir(fresh)? {
        let name = entry?.file_name();
        if std::fs::read(target.join(&name)).ok() != Some(std::fs::read(fresh.join(&name))?) {
            differing.push(name.to_string_lossy().into_owned());
        }
    }
    Ok(differing)
}

/// Every `.proto` file below `folder`, sorted.
fn proto_files(folder: &Path) -> std::io::Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    let mut folders = vec![folder.join("inference"), folder.join("tensorflow")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "proto") {
                found.insert(path);
            }
        }
    }
    Ok(found)
}

/// The same set without source positions and comments.
fn without_comments(files: &FileDescriptorSet) -> FileDescriptorSet {
    let mut files = files.clone();
    for file in &mut files.file {
        file.source_code_info = None;
    }
    files
}

/// Turns every field of `OPAQUE` into a bytes field; an entry that names no message field is an error.
fn make_opaque(files: &mut FileDescriptorSet) -> Result<(), String> {
    for (message, field) in OPAQUE {
        let descriptor = files
            .file
            .iter_mut()
            .find_map(|file| find_message(file, message))
            .ok_or_else(|| format!("no message {message}"))?;
        let descriptor = descriptor
            .field
            .iter_mut()
            .find(|candidate| candidate.name() == *field && candidate.r#type() == Type::Message)
            .ok_or_else(|| format!("{message} has no message field {field}"))?;
        descriptor.set_type(Type::Bytes);
        descriptor.type_name = None;
    }
    Ok(())
}

/// The message of that full name (`.package.Outer.Inner`), if `file` defines it.
fn find_message<'a>(file: &'a mut FileDescriptorProto, name: &str) -> Option<&'a mut DescriptorProto> {
    let names = name.strip_prefix(&format!(".{}.", file.package()))?.to_owned();
    let mut names = names.split('.');
    let first = names.next()?;
    let mut message = file.message_type.iter_mut().find(|message| message.name() == first)?;
    for name in names {
        message = message.nested_type.iter_mut().find(|message| message.name() == name)?;
    }
    Some(message)
}

/// Drops the files that none of `roots` imports, directly or not.
fn keep_reachable(files: &mut FileDescriptorSet, roots: &[&str]) {
    let mut wanted: Vec<String> = roots.iter().map(|root| (*root).to_owned()).collect();
    let mut kept = BTreeSet::new();
    while let Some(name) = wanted.pop() {
        let file = files.file.iter().find(|file| file.name() == name);
        if let Some(file) = file.filter(|_| kept.insert(name)) {
            wanted.extend(file.dependency.iter().cloned());
        }
    }
    files.file.retain(|file| kept.contains(file.name()));
}
