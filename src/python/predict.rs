//! Questions of Python's own process: arrays to tensors and back, and the wait for the answer without the GIL.
//!
//! Small inputs come as `bytes` and are copied, larger ones lend their memory; small outputs go as `bytes`, larger ones
//! stay in the engine's memory as [`Numbers`].

use super::raised;
use crate::direct::{self, Question, Reply};
use crate::error::{Error, Kind};
use crate::host::lent;
use crate::methods::{ModelSpec, ServerState};
use crate::registry::VersionChoice;
use crate::tensor::{Aligned, DType, Data, Strings, Tensor, append, element_count};
use bytes::Bytes;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};
use std::io;
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

/// What is asked: model, version, label, signature.
pub(super) type Asked = (String, Option<i64>, Option<String>, String);

/// An input: alias, TensorFlow's number of the dtype, shape, and values: `bytes`; a list of `bytes`, for strings; or
/// address, length, and the owner of the memory.
pub(super) type Given<'py> = (String, i32, Vec<i64>, Bound<'py, PyAny>);

/// The version, and its outputs: alias, number of the dtype, shape, and values: `bytes`, a list of `bytes`, or `Numbers`.
pub(super) type Answered<'py> = (i64, Vec<(String, i32, Vec<i64>, Bound<'py, PyAny>)>);

/// Largest output that is copied, in bytes: what it was in is free at once.
const SMALL: usize = 64 << 10;

/// How often a wait looks for signals, such as that of Ctrl-C.
const LOOKS: Duration = Duration::from_millis(100);

thread_local! {
    /// Waits in this thread.
    static RUNTIME: io::Result<Runtime> = Builder::new_current_thread().enable_time().build();
}

/// The numbers of an output, in the engine's memory, as bytes that numpy reads where they are.
#[pyclass(frozen, module = "servable._core")]
pub(super) struct Numbers(Bytes);

#[pymethods]
impl Numbers {
    /// numpy's description of the memory: <https://numpy.org/doc/stable/reference/arrays.interface.html>. Read-only, as
    /// it may be a constant of the model.
    #[getter(__array_interface__)]
    fn array_interface<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let Numbers(bytes) = self;
        let interface = PyDict::new(py);
        interface.set_item("version", 3)?;
        interface.set_item("typestr", "|u1")?;
        interface.set_item("shape", (bytes.len(),))?;
        interface.set_item("data", (bytes.as_ptr() as usize, true))?;
        Ok(interface)
    }
}

/// Returns the choice of a version.
pub(super) fn choice(version: Option<i64>, label: Option<String>) -> VersionChoice {
    match (version, label) {
        (Some(version), _) => VersionChoice::Version(version),
        (None, Some(label)) => VersionChoice::Label(label),
        (None, None) => VersionChoice::Latest,
    }
}

/// Returns the question.
pub(super) fn question(asked: Asked, given: Vec<Given<'_>>, outputs: Vec<String>) -> PyResult<Question> {
    let (name, version, label, signature_name) = asked;
    let spec = ModelSpec { name, choice: choice(version, label), signature_name };
    let mut question = Question { spec, inputs: [].into(), outputs, lent: Vec::new() };
    for (alias, number, shape, values) in given {
        let tensor = tensor(number, shape, &values, &mut question.lent)
            .map_err(|why| PyValueError::new_err(format!("input {alias}: {why}")))?;
        question.inputs.insert(alias, tensor);
    }
    Ok(question)
}

/// Returns a tensor of `values`. What is lent for it is added to `lent`.
fn tensor(
    number: i32,
    shape: Vec<i64>,
    values: &Bound<'_, PyAny>,
    lent: &mut Vec<Range<usize>>,
) -> PyResult<Tensor> {
    let dtype = DType::from_number(number).unwrap_or(DType::Invalid);
    let count = element_count(&shape);
    if let Ok(strings) = values.cast::<PyList>() {
        let strings: Vec<Bound<'_, PyBytes>> = strings.extract()?;
        if dtype != DType::String || count != Some(strings.len()) {
            return Err(misfit(dtype, &shape, strings.len()));
        }
        let strings: Strings = strings.iter().map(|one| one.as_bytes()).collect();
        return Ok(Tensor::strings(shape, strings));
    }
    let expected = count.and_then(|count| count.checked_mul(dtype.size())).filter(|_| dtype.size() > 0);
    if let Ok(bytes) = values.cast::<PyBytes>() {
        let bytes = bytes.as_bytes();
        if expected != Some(bytes.len()) {
            return Err(misfit(dtype, &shape, bytes.len()));
        }
        let mut own: Aligned<u8> = Aligned::new(64);
        append(&mut own, bytes);
        return Ok(Tensor::from_values(dtype, shape, own));
    }
    let (address, length, owner): (usize, usize, Py<PyAny>) = values.cast::<PyTuple>()?.extract()?;
    if expected != Some(length) {
        return Err(misfit(dtype, &shape, length));
    }
    lent.push(address..address + length);
    Ok(Tensor::numbers(dtype, shape, lent::bytes(address, length, owner)))
}

fn misfit(dtype: DType, shape: &[i64], came: usize) -> PyErr {
    PyValueError::new_err(format!("{came} bytes or strings came for {} of shape {shape:?}", dtype.name()))
}

/// Asks, and waits for the answer, `seconds` at most.
pub(super) fn answer<'py>(
    py: Python<'py>,
    server: &Arc<ServerState>,
    question: Question,
    seconds: Option<f64>,
) -> PyResult<Answered<'py>> {
    // A time that is not one, or longer than there is, is none.
    let limit = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).ok());
    let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
    let mut asked = pin!(direct::ask(server, question, deadline));
    loop {
        let waited = py.detach(|| {
            RUNTIME.with(|runtime| match runtime {
                Ok(runtime) => Ok(runtime.block_on(async { timeout(LOOKS, asked.as_mut()).await })),
                Err(why) => Err(Error::new(Kind::ResourceExhausted, format!("It cannot be waited: {why}"))),
            })
        });
        match waited {
            Ok(Ok(Ok(reply))) => return answered(py, reply),
            Ok(Ok(Err(why))) | Err(why) => return Err(raised(py, &why)),
            // Not yet there. An exception of a signal's handler ends the call.
            Ok(Err(_)) => py.check_signals()?,
        }
    }
}

fn answered(py: Python<'_>, reply: Reply) -> PyResult<Answered<'_>> {
    let outputs = reply.outputs.into_iter().map(|(alias, tensor)| {
        let (number, shape) = (tensor.dtype() as i32, tensor.shape().to_vec());
        let values = match tensor.data() {
            Data::Strings(strings) => {
                PyList::new(py, strings.iter().map(|one| PyBytes::new(py, one)))?.into_any()
            }
            Data::Numbers(bytes) if bytes.len() <= SMALL => PyBytes::new(py, bytes).into_any(),
            Data::Numbers(bytes) => Bound::new(py, Numbers(bytes.clone()))?.into_any(),
        };
        Ok((alias, number, shape, values))
    });
    Ok((reply.version, outputs.collect::<PyResult<_>>()?))
}
