//! What all models share: OpenVINO's core with its settings, and its threads.

#![allow(unsafe_code)]

use super::ffi::{Api, OvCompiledModel, OvCore, OvInferRequest, OvModel};
use super::handle::{Handle, check};
use super::tensors::shape_of;
use super::{Library, Precision, types};
use crate::engine::forms::Spread;
use crate::error::{Error, Kind, Result};
use std::ffi::{CStr, CString};

/// The device that models are compiled for.
const DEVICE: &CStr = c"CPU";

/// Most kernels of each kind that a model keeps for shapes that came. The default is 5,000, so clients that send ever new
/// shapes would make it grow for long.
pub(super) const KEPT_SHAPES: &CStr = c"128";

/// Returns the number of cores that runs may take.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Makes the core. Fails if the library is not of the kind that `types` knows.
pub(super) fn core(api: &Api) -> Result<Handle<OvCore>> {
    check_types(api)?;
    // SAFETY: the result is ours.
    let core = Handle::made(api, api.core_free, |made| unsafe { (api.core_create)(made) })?;
    let threads = CString::new(cores().to_string()).unwrap_or_default();
    for (key, value) in [
        (c"PERFORMANCE_HINT", c"LATENCY"),
        (c"INFERENCE_NUM_THREADS", threads.as_c_str()),
        // Bound threads would keep a core from TensorFlow, and from models that are bound to the same one.
        (c"ENABLE_CPU_PINNING", c"NO"),
        // A file that is mapped and cut while the model runs would end the process.
        (c"ENABLE_MMAP", c"NO"),
        (c"CPU_RUNTIME_CACHE_CAPACITY", KEPT_SHAPES),
    ] {
        // SAFETY: the core is live; key and value are C strings, one of each.
        let set = unsafe { (api.set_property)(core.as_ptr(), DEVICE.as_ptr(), key.as_ptr(), value.as_ptr()) };
        check(api, set)?;
    }
    Ok(core)
}

/// Checks the numbers of the element types, which have changed between releases, by the sizes of their elements.
fn check_types(api: &Api) -> Result<()> {
    for (number, dtype) in types::TABLE {
        let mut size = 0;
        let shape = shape_of(&[3]);
        // SAFETY: the shape outlives the call, which copies it.
        let tensor =
            Handle::made(api, api.tensor_free, |made| unsafe { (api.tensor_create)(number, shape, made) });
        // SAFETY: the tensor is live, the result ours.
        let known = tensor.is_ok_and(|tensor| unsafe {
            (api.tensor_byte_size)(tensor.as_ptr(), &raw mut size) == 0 && size == 3 * dtype.size()
        });
        if !known {
            return Err(Error::new(
                Kind::FailedPrecondition,
                format!(
                    "OpenVINO's library has other types than expected ({dtype:?}): install a release from 2026 on"
                ),
            ));
        }
    }
    Ok(())
}

/// A run that never ends works in one thread. With more, each of its steps leaves something of TBB's for the others, which
/// gather as long as these have other work: two such runs at once took 40 to 70 MB/s, as measured with OpenVINO 2026.4.
fn spread_property(spread: Spread, cores: usize, may_loop: bool) -> (&'static CStr, CString) {
    if may_loop { (c"INFERENCE_NUM_THREADS", c"1".into()) } else { spread.property(cores) }
}

/// Compiles `model` for the CPU.
pub(super) fn compile(
    library: &Library,
    model: &Handle<OvModel>,
    precision: Precision,
    (spread, may_loop): (Spread, bool),
) -> Result<Handle<OvCompiledModel>, super::handle::Failure> {
    let api = &library.api;
    let (key, value) = precision.property();
    let (spread_key, spread_value) = spread_property(spread, library.gauge.cores, may_loop);
    Handle::made(api, api.compiled_model_free, |made| {
        // SAFETY: core and model are live; four C strings follow, as the number says.
        unsafe {
            (api.compile_model)(
                library.core.as_ptr(),
                model.as_ptr(),
                DEVICE.as_ptr(),
                4,
                made,
                key.as_ptr(),
                value.as_ptr(),
                spread_key.as_ptr(),
                spread_value.as_ptr(),
            )
        }
    })
}

/// Compiles the model in the file `path`, or takes what was compiled of it before from `cache`, a folder.
pub(super) fn compile_file(
    library: &Library,
    (path, cache): (&CStr, &CStr),
    precision: Precision,
    (spread, may_loop): (Spread, bool),
) -> Result<Handle<OvCompiledModel>, super::handle::Failure> {
    let api = &library.api;
    let (key, value) = precision.property();
    let (spread_key, spread_value) = spread_property(spread, library.gauge.cores, may_loop);
    Handle::made(api, api.compiled_model_free, |made| {
        // SAFETY: the core is live; six C strings follow, as the number says.
        unsafe {
            (api.compile_file)(
                library.core.as_ptr(),
                path.as_ptr(),
                DEVICE.as_ptr(),
                6,
                made,
                key.as_ptr(),
                value.as_ptr(),
                spread_key.as_ptr(),
                spread_value.as_ptr(),
                c"CACHE_DIR".as_ptr(),
                cache.as_ptr(),
            )
        }
    })
}

impl Precision {
    fn property(self) -> (&'static CStr, &'static CStr) {
        let value = match self {
            Precision::F32 => c"f32",
            Precision::Bf16 => c"bf16",
        };
        (c"INFERENCE_PRECISION_HINT", value)
    }
}

impl Spread {
    fn property(self, cores: usize) -> (&'static CStr, CString) {
        match self {
            Spread::AllCores => (c"PERFORMANCE_HINT", c"LATENCY".into()),
            Spread::CoreEach => (c"NUM_STREAMS", CString::new(cores.to_string()).unwrap_or_default()),
        }
    }
}

/// A model whose work is worth sharing: y = max(x, 0) for as many values as are in `{}`.
const PARALLEL: &str = r#"<?xml version="1.0"?><net name="start" version="11"><layers>
<layer id="0" name="x" type="Parameter" version="opset1"><data shape="{}" element_type="f32"/>
<output><port id="0" precision="FP32" names="x"><dim>{}</dim></port></output></layer>
<layer id="1" name="y" type="ReLU" version="opset1">
<input><port id="0" precision="FP32"><dim>{}</dim></port></input>
<output><port id="1" precision="FP32" names="y"><dim>{}</dim></port></output></layer>
<layer id="2" name="end" type="Result" version="opset1">
<input><port id="0" precision="FP32"><dim>{}</dim></port></input></layer></layers>
<edges><edge from-layer="0" from-port="0" to-layer="1" to-port="0"/>
<edge from-layer="1" from-port="1" to-layer="2" to-port="0"/></edges></net>"#;

/// Runs something on all threads that models share: OpenVINO starts them when it first needs them, and they inherit the
/// priority of the thread that starts them.
pub(super) fn shared_threads(library: &Library) -> Result<()> {
    let api = &library.api;
    let text = PARALLEL.replace("{}", "1048576");
    let model = Handle::made(api, api.model_free, |made| {
        // SAFETY: the core is live, the text has this length; without weights, a null.
        unsafe {
            let start = text.as_ptr().cast();
            (api.read_model_from_memory)(library.core.as_ptr(), start, text.len(), std::ptr::null(), made)
        }
    })?;
    let compiled = compile(library, &model, Precision::F32, (Spread::AllCores, false))?;
    // SAFETY: the model is live.
    let request: Handle<OvInferRequest> = Handle::made(api, api.infer_request_free, |made| unsafe {
        (api.create_infer_request)(compiled.as_ptr(), made)
    })?;
    for _ in 0..3 {
        // SAFETY: the request is live; its input is its own.
        check(api, unsafe { (api.infer)(request.as_ptr()) })?;
    }
    Ok(())
}
