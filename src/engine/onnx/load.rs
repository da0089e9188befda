//! Loads a model: its file is checked, ONNX Runtime makes a session of it, and its inputs and outputs are listed.

#![allow(unsafe_code)]

use super::failure::Failure;
use super::ffi::{OrtSession, OrtTypeInfo, Status};
use super::graph::{self, Description};
use super::runtime::Runtime;
use super::session::{Handle, Named, Session};
use super::source::Source;
use super::tensors::{self, Declared};
use super::wire::Fault;
use crate::engine::choice::model_file;
use crate::engine::forms::{Forms, Kept, LARGE, Spread};
use crate::engine::signature::{DEFAULT_SIGNATURE, Signature, TensorSpec};
use crate::error::{Error, Kind, Result};
use crate::files;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CString, c_char};
use std::io::ErrorKind;
use std::path::{Component, Path};
use std::ptr::null_mut;
use std::sync::Arc;

/// Loads the model in `path`, a version's folder or a file.
pub(super) fn load(runtime: &'static Runtime, path: &Path) -> Result<Session> {
    let file = model_file(path, "model.onnx");
    let description = describe(&file)?;
    let folder = file.parent().unwrap_or(Path::new(""));
    description.external.iter().try_for_each(|external| check_external(&file, folder, external))?;
    let source = Source::new(runtime, &file, &description)?;
    let handle = source.open(Spread::AllCores)?;
    let inputs = list(&handle, Side::Input, &description, &file)?;
    let outputs = list(&handle, Side::Output, &description, &file)?;
    let signature = Signature {
        name: DEFAULT_SIGNATURE.into(),
        method_name: "tensorflow/serving/predict".to_owned(),
        inputs: inputs.values().cloned().collect(),
        outputs: outputs.values().cloned().collect(),
        defaults: BTreeMap::new(),
    };
    let names: BTreeSet<&String> = inputs.keys().chain(outputs.keys()).collect();
    let named = |name: &String| {
        Ok(Named {
            // It was a C string before.
            name: CString::new(name.as_str()).map_err(|_| Error::internal("A name has a NUL character"))?,
            input: inputs.get(name).cloned(),
            is_output: outputs.contains_key(name),
        })
    };
    let tensors = names.into_iter().map(named).collect::<Result<_>>()?;
    let kept = if source.bytes() < LARGE { Kept::Both } else { Kept::OneAtATime };
    let make = Box::new(move |spread| source.open_again(spread));
    let forms = Arc::new(Forms::new(&runtime.gauge, handle, make, kept, false));
    Ok(Session::new(runtime, forms, tensors, signature, &description))
}

/// Reads what the file says of the model.
fn describe(file: &Path) -> Result<Description> {
    let opened = files::open(file).map_err(|why| unreadable(file, &why))?;
    let length = opened.metadata().map_err(|why| unreadable(file, &why))?.len();
    let damaged = "it is damaged or no ONNX model: copy it again";
    let (kind, why) = match graph::describe(opened, length) {
        Ok(description) if description.has_idle_loop => (
            Kind::InvalidArgument,
            "the body of one of its loops computes nothing, and such a loop could not be ended: export it without",
        ),
        Ok(description) if description.has_graph => return Ok(description),
        Ok(_) | Err(Fault::Malformed) => (Kind::DataLoss, damaged),
        Err(Fault::TooDeep) => (Kind::InvalidArgument, "its graphs are nested too deep to be run"),
        Err(Fault::Io(why)) => return Err(unreadable(file, &why)),
    };
    Err(Error::new(kind, format!("{}: {why}", file.display())))
}

fn unreadable(file: &Path, why: &std::io::Error) -> Error {
    if why.kind() == ErrorKind::NotFound {
        return Error::not_found(format!("Could not find the ONNX model {}", file.display()));
    }
    let is_forbidden = why.kind() == ErrorKind::PermissionDenied;
    let kind = if is_forbidden { Kind::PermissionDenied } else { Kind::FailedPrecondition };
    Error::new(kind, format!("{}: {why}", file.display()))
}

/// Checks that the file `external`, with weights of the model in `file`, can be read.
fn check_external(file: &Path, folder: &Path, external: &str) -> Result<()> {
    let is_inside = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    if external.is_empty() || !Path::new(external).components().all(is_inside) {
        return Err(Error::invalid(format!(
            "{}: its weights lie in {external:?}, and only files in its own folder are read: export it with all files \
             in one folder",
            file.display()
        )));
    }
    files::open(&folder.join(external)).map(drop).map_err(|why| {
        let kind = if why.kind() == ErrorKind::NotFound { Kind::NotFound } else { Kind::FailedPrecondition };
        Error::new(
            kind,
            format!(
                "{}: its weights lie in {external:?}, which cannot be read: {why}. Copy that file beside it",
                file.display()
            ),
        )
    })
}

#[derive(Clone, Copy)]
enum Side {
    Input,
    Output,
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Side::Input => "input",
            Side::Output => "output",
        }
    }
}

/// Lists the inputs or outputs of a session, by name.
fn list(
    handle: &Handle,
    side: Side,
    description: &Description,
    file: &Path,
) -> Result<BTreeMap<String, TensorSpec>> {
    let place = |name: &str| format!("{}: its {} {name:?}", file.display(), side.name());
    let count = count(handle, side).map_err(|why| Error::internal(why.text))?;
    let mut all = BTreeMap::new();
    for index in 0..count {
        let name = name(handle, side, index).map_err(|why| Error::internal(why.text))?;
        let name = name.into_string().map_err(|why| {
            Error::invalid(format!("{}, whose name is not UTF-8: name it otherwise", place(&why.to_string())))
        })?;
        let Declared { dtype, shape } = declared(handle, side, index)
            .map_err(|why| Error::new(Kind::Unimplemented, format!("{} {why}", place(&name))))?;
        // ONNX Runtime says no dimensions for both a scalar and a shape that it does not know.
        let is_unknown = shape.is_empty() && description.unranked.contains(&name);
        let shape = (!is_unknown).then_some(shape);
        all.insert(name.clone(), TensorSpec { alias: name.clone(), tensor: name, dtype, shape });
    }
    Ok(all)
}

fn count(handle: &Handle, side: Side) -> std::result::Result<usize, Failure> {
    let api = &handle.runtime.api;
    let function = match side {
        Side::Input => api.input_count,
        Side::Output => api.output_count,
    };
    let mut count = 0;
    // SAFETY: the session is live.
    api.check(unsafe { function(handle.as_ptr(), &raw mut count) })?;
    Ok(count)
}

fn name(handle: &Handle, side: Side, index: usize) -> std::result::Result<CString, Failure> {
    let api = &handle.runtime.api;
    let function = match side {
        Side::Input => api.input_name,
        Side::Output => api.output_name,
    };
    let mut name: *mut c_char = null_mut();
    // SAFETY: the session is live, the index below the count; the name is ours.
    unsafe {
        api.check(function(handle.as_ptr(), index, handle.runtime.allocator, &raw mut name))?;
        Ok(handle.runtime.take_text(name))
    }
}

fn declared(handle: &Handle, side: Side, index: usize) -> Result<Declared, String> {
    let api = &handle.runtime.api;
    let function: unsafe extern "C" fn(*const OrtSession, usize, *mut *mut OrtTypeInfo) -> Status = match side
    {
        Side::Input => api.input_type,
        Side::Output => api.output_type,
    };
    let mut info = null_mut();
    // SAFETY: the session is live, the index below the count; the description is ours, and released once.
    unsafe {
        api.check(function(handle.as_ptr(), index, &raw mut info)).map_err(|why| why.text)?;
        let declared = tensors::declared(handle.runtime, info);
        (api.release_type_info)(info);
        declared
    }
}
