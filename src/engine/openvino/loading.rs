//! Loads models: reads and compiles them, and finds their inputs and outputs.

#![allow(unsafe_code)]

use super::admission::Admission;
use super::ffi::{Api, OvCompiledModel, OvModel, OvPort};
use super::frozen::{self, Prepared, refused};
use super::handle::{Failure, Handle, check};
use super::kept;
use super::layers::{self, Layers};
use super::model::{Behaviour, Compiled, Loaded, Place};
use super::port::{self, Port};
use super::requests::Requests;
use super::{Library, Precision, start};
use crate::engine::Termination;
use crate::engine::choice;
use crate::engine::forms::{Forms, Kept, LARGE, Make, Spread};
use crate::engine::frozen::FrozenGraph;
use crate::engine::signature::{DEFAULT_SIGNATURE, Signature, TensorSpec};
use crate::error::{Error, Kind, Result};
use crate::files;
use crate::tensor::DType;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, CString, c_int};
use std::io::{ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Loads the model in `path`, a folder with `model.xml` or such a file.
pub(super) fn ir(library: &'static Library, path: &Path) -> Result<Loaded> {
    let api = &library.api;
    let file = choice::model_file(path, "model.xml");
    let layers = checked(&file)?;
    let name = c_string(&file)?;
    let model = library.starter.run(move || {
        Handle::made(api, api.model_free, |made| {
            // SAFETY: the core is live, the path a C string; without a path of the weights OpenVINO looks beside it.
            unsafe { (api.read_model)(library.core.as_ptr(), name.as_ptr(), std::ptr::null(), made) }
        })
    })?;
    let model = Arc::new(model.map_err(|why| unusable(&file, "read", &why))?);
    let behaviour = Behaviour {
        has_state: layers.has_state,
        termination: match layers {
            Layers { has_loop: true, .. } => Termination::MayLoop,
            Layers { has_branch: true, .. } | Layers { has_fed_size: true, .. } => Termination::Finite,
            Layers { .. } => Termination::ByShapes,
        },
    };
    let compile = move |spread| -> Result<Compiled> {
        let (read, spread_over) = (model.clone(), (spread, behaviour.may_loop()));
        let compiled =
            library.starter.run(move || start::compile(library, &read, Precision::F32, spread_over))?;
        let handle = compiled.map_err(|why| unusable(&file, "compiled", &why))?;
        let named = |kind, names| named_ports(api, kind, &model, &handle, names);
        let mut names = BTreeSet::new();
        let inputs = named(Side::Input, &mut names)?;
        // An output may be an input as it is.
        let outputs = named(Side::Output, &mut BTreeSet::new())?;
        let requests = Requests::new(behaviour.one_request(), spread.streams(library.gauge.cores));
        Ok(Compiled { api, requests, inputs, outputs, handle })
    };
    let first = compile(Spread::AllCores)?;
    let spec = |port: &Port, tensor: String| TensorSpec {
        alias: port.name.clone(),
        tensor,
        dtype: port.dtype,
        shape: port.declared(),
    };
    let inputs: Vec<_> = first.inputs.iter().map(|port| spec(port, port.name.clone())).collect();
    let output = |port: &Port| {
        let is_input = inputs.iter().any(|input| input.alias == port.name);
        spec(port, if is_input { format!("{}:output", port.name) } else { port.name.clone() })
    };
    let outputs = first.outputs.iter().map(output).collect();
    let kept = kept(behaviour, layers.weights);
    Ok(loaded(library, first, (inputs, outputs), behaviour, (kept, Box::new(compile))))
}

/// Loads `frozen` by way of a file in `folder`, which the model keeps.
pub(super) fn frozen(
    library: &'static Library,
    frozen: &FrozenGraph,
    folder: impl AsRef<Path> + Send + Sync + 'static,
    precision: Precision,
) -> Result<Loaded> {
    let prepared = frozen::prepare(frozen)?;
    let file = frozen::write(&prepared.graph, folder.as_ref())?;
    from_file(library, frozen, prepared, (file, folder), precision)
}

/// Loads the model `name` in `folder`, which was made of the graph that is written of `frozen`; the model keeps `folder`.
pub(super) fn quantized(
    library: &'static Library,
    frozen: &FrozenGraph,
    folder: impl AsRef<Path> + Send + Sync + 'static,
    name: &str,
) -> Result<Loaded> {
    let file = folder.as_ref().join(name);
    // What is not to be quantized stays in 32 bits.
    from_file(library, frozen, frozen::prepare(frozen)?, (file, folder), Precision::F32)
}

/// Compiles `file`, or takes what was compiled of it before from `folder`, and binds it to the names of `frozen`.
fn from_file(
    library: &'static Library,
    frozen: &FrozenGraph,
    prepared: Prepared,
    (file, folder): (PathBuf, impl AsRef<Path> + Send + Sync + 'static),
    precision: Precision,
) -> Result<Loaded> {
    // A graph has them in it, a quantized one beside it.
    let bytes = |file: &Path| std::fs::metadata(file).map_or(0, |found| found.len());
    let weights = bytes(&file).max(bytes(&file.with_extension("bin")));
    let file = c_string(&file)?;
    let specs = (frozen.inputs.clone(), frozen.outputs.clone());
    let behaviour = Behaviour { has_state: false, termination: prepared.termination };
    let (inputs, outputs) =
        ((frozen.inputs.clone(), prepared.inputs), (frozen.outputs.clone(), prepared.outputs));
    let compile = move |spread| -> Result<Compiled> {
        let (file, folder) = (file.clone(), folder.as_ref().to_owned());
        let spread_over = (spread, behaviour.may_loop());
        let compile = move || compile_kept(library, &file, &folder, precision, spread_over);
        let handle = library.starter.run(compile)??;
        let bound = |side, (specs, names): &(Vec<TensorSpec>, Vec<String>)| -> Result<Vec<Port>> {
            if size(&library.api, side, &handle)? != names.len() {
                return Err(refused("its file has other inputs or outputs"));
            }
            specs.iter().zip(names).map(|(spec, name)| bound(library, side, &handle, spec, name)).collect()
        };
        let (inputs, outputs) = (bound(Side::Input, &inputs)?, bound(Side::Output, &outputs)?);
        let requests = Requests::new(behaviour.one_request(), spread.streams(library.gauge.cores));
        Ok(Compiled { api: &library.api, requests, inputs, outputs, handle })
    };
    let first = compile(Spread::AllCores)?;
    Ok(loaded(library, first, specs, behaviour, (kept(behaviour, weights), Box::new(compile))))
}

/// Returns how many forms a model has whose weights take so many bytes.
fn kept(behaviour: Behaviour, weights: u64) -> Kept {
    match () {
        () if behaviour.one_request() => Kept::First,
        () if weights >= LARGE => Kept::OneAtATime,
        () => Kept::Both,
    }
}

/// Compiles `file`, or takes what was compiled of it before from `folder`, if that is whole.
fn compile_kept(
    library: &Library,
    file: &CStr,
    folder: &Path,
    precision: Precision,
    spread: (Spread, bool),
) -> Result<Handle<OvCompiledModel>> {
    let cache = c_string(folder)?;
    let _alone = kept::Alone::with(folder);
    let before = kept::only_whole(folder)?;
    let compiled = start::compile_file(library, (file, &cache), precision, spread);
    let compiled = compiled.map_err(|why| refused(why.text))?;
    kept::complete(folder, &before);
    Ok(compiled)
}

/// Checks what can be told of the files without OpenVINO, and returns what the layers tell.
fn checked(file: &Path) -> Result<Layers> {
    let opened = |file: &Path| {
        files::open(file).map_err(|why| {
            let missing = why.kind() == ErrorKind::NotFound || why.kind() == ErrorKind::NotADirectory;
            let kind = if missing { Kind::NotFound } else { Kind::FailedPrecondition };
            Error::new(kind, format!("{}: {why}", file.display()))
        })
    };
    let mut xml = Vec::new();
    opened(file)?
        .read_to_end(&mut xml)
        .map_err(|why| Error::new(Kind::Unavailable, format!("{} cannot be read: {why}", file.display())))?;
    let layers = layers::scan(&xml);
    if layers.count == 0 || layers.is_damaged {
        let why = if layers.is_damaged {
            "a layer with state does not say which, or it is not as OpenVINO writes it"
        } else {
            "it has no layers"
        };
        return Err(Error::new(
            Kind::DataLoss,
            format!("{} is no model of OpenVINO's: {why}", file.display()),
        ));
    }
    let weights = file.with_extension("bin");
    if layers.weights > 0 || weights.exists() {
        let length = opened(&weights)?.metadata().map_or(0, |found| found.len());
        if length < layers.weights {
            return Err(Error::new(
                Kind::DataLoss,
                format!(
                    "{} has {length} bytes, and the model needs {}: it is cut, or belongs to another model",
                    weights.display(),
                    layers.weights
                ),
            ));
        }
    }
    Ok(layers)
}

fn unusable(file: &Path, what: &str, why: &Failure) -> Error {
    Error::new(Kind::Unimplemented, format!("{} cannot be {what} by OpenVINO: {}", file.display(), why.text))
}

fn c_string(path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Error::invalid(format!("A NUL character is not allowed in {}", path.display())))
}

/// The inputs of a model, or its outputs.
#[derive(Clone, Copy, Debug)]
enum Side {
    Input,
    Output,
}

fn size(api: &Api, side: Side, compiled: &Handle<OvCompiledModel>) -> Result<usize> {
    let count = match side {
        Side::Input => api.inputs_size,
        Side::Output => api.outputs_size,
    };
    let mut size = 0;
    // SAFETY: the model is live, the result ours.
    check(api, unsafe { count(compiled.as_ptr(), &raw mut size) })?;
    Ok(size)
}

/// Returns the ports of one side in the model's order, with the names that they have in `model`, or for those without,
/// names made up; all are different, and added to `names`.
fn named_ports(
    api: &Api,
    side: Side,
    model: &Handle<OvModel>,
    compiled: &Handle<OvCompiledModel>,
    names: &mut BTreeSet<String>,
) -> Result<Vec<Port>> {
    let (of_model, of_compiled, prefix) = match side {
        Side::Input => (api.model_input, api.input_by_index, "input"),
        Side::Output => (api.model_output, api.output_by_index, "output"),
    };
    let port = |at| -> Result<Port> {
        // SAFETY: both models are live; an index that is too high is a failure.
        let named = made(api, |made| unsafe { of_model(model.as_ptr(), at, made) })?;
        // SAFETY: as above.
        let handle = made(api, |made| unsafe { of_compiled(compiled.as_ptr(), at, made) })?;
        let own = port::name(api, &named).unwrap_or_else(|| format!("{prefix}_{at}"));
        let mut name = own.clone();
        for again in 1.. {
            if names.insert(name.clone()) {
                break;
            }
            name = format!("{own}_{again}");
        }
        Port::new(api, name, handle)
    };
    (0..size(api, side, compiled)?).map(port).collect()
}

fn made(api: &Api, make: impl FnOnce(*mut *mut OvPort) -> c_int) -> Result<Handle<OvPort>, Failure> {
    Handle::made(api, api.port_free, make)
}

/// Returns the port whose tensor is called `name`, which has to be as `spec` says.
fn bound(
    library: &Library,
    side: Side,
    compiled: &Handle<OvCompiledModel>,
    spec: &TensorSpec,
    name: &str,
) -> Result<Port> {
    let api = &library.api;
    let by_name = match side {
        Side::Input => api.input_by_name,
        Side::Output => api.output_by_name,
    };
    let name = CString::new(name).map_err(|_| refused("a name has a NUL character"))?;
    let name: &CStr = &name;
    // SAFETY: the model is live, the name a C string.
    let handle = made(api, |made| unsafe { by_name(compiled.as_ptr(), name.as_ptr(), made) })
        .map_err(|why| refused(format!("\"{}\" is not found: {}", spec.alias, why.text)))?;
    let mut port = Port::new(api, spec.alias.clone(), handle)?;
    // Graphs that compute with integers of more bits than OpenVINO are not handed over (`acceleration`).
    port.is_read_for_shape = matches!(port.dtype, DType::Int64 | DType::UInt32 | DType::UInt64);
    if port.dtype != spec.dtype {
        let (found, expected) = (port.dtype.name(), spec.dtype.name());
        return Err(refused(format!("\"{}\" is {found} instead of {expected}", spec.alias)));
    }
    Ok(port)
}

/// Puts a model together of its first form, what the signature says of the inputs and outputs, in the order of the ports,
/// and what makes its forms.
fn loaded(
    library: &'static Library,
    first: Compiled,
    (mut inputs, mut outputs): (Vec<TensorSpec>, Vec<TensorSpec>),
    behaviour: Behaviour,
    (kept, make): (Kept, Make<Compiled>),
) -> Loaded {
    // A model of one shape can do nothing with another; state is in a request, and would be lost.
    let renews = !behaviour.has_state && first.inputs.iter().any(|port| !port.is_of_one_shape());
    let mut places = BTreeMap::new();
    let of_inputs = inputs.iter().enumerate().map(|(at, spec)| (spec, Place::Input(at)));
    let of_outputs = outputs.iter().enumerate().map(|(at, spec)| (spec, Place::Output(at)));
    for (spec, place) in of_inputs.chain(of_outputs) {
        places.entry(spec.tensor.clone()).or_insert(place);
    }
    let by_alias = |one: &TensorSpec, other: &TensorSpec| one.alias.cmp(&other.alias);
    inputs.sort_by(by_alias);
    outputs.sort_by(by_alias);
    let signature = Signature {
        name: DEFAULT_SIGNATURE.into(),
        method_name: "tensorflow/serving/predict".to_owned(),
        inputs,
        outputs,
        defaults: BTreeMap::new(),
    };
    Loaded {
        forms: Arc::new(Forms::new(&library.gauge, first, make, kept, renews)),
        admission: renews.then(Admission::default),
        signatures: [(DEFAULT_SIGNATURE.to_owned(), signature)].into(),
        endpoints: places.into_iter().collect(),
        behaviour,
    }
}
