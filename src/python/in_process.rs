//! Requests of Python's own process by their bytes: begun in the thread that asks, without the GIL. What is not answered
//! at once goes on in threads of the core, and its answer is brought to a function of Python's.

use super::raised;
use crate::error::guarded;
use crate::grpc::in_process as grpc;
use crate::rest::in_process as rest;
use crate::server::{Answering, Server};
use bytes::Bytes;
use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
use pyo3::types::{PyBytes, PyList};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::task::AbortHandle;

/// What a request to REST says before its body: method, target, headers.
pub(super) type RestHead = (PyBackedStr, PyBackedBytes, Vec<(PyBackedBytes, PyBackedBytes)>);

/// The same of a call of gRPC: path, metadata, and how long the client waits, in seconds.
pub(super) type GrpcHead = (PyBackedStr, Vec<(PyBackedStr, PyBackedStr)>, Option<f64>);

/// A request that is not answered yet.
#[pyclass(frozen, module = "servable._core")]
pub(super) struct Pending(AbortHandle);

#[pymethods]
impl Pending {
    /// Gives the request up, unless it is answered.
    fn cancel(&self) {
        self.0.abort();
    }
}

/// Writes an answer as Python gets it.
type Write<T> = for<'py> fn(Python<'py>, &T) -> PyResult<Bound<'py, PyAny>>;

/// Asks REST. Returns the answer, or what is not answered yet.
pub(super) fn ask_rest<'py>(
    py: Python<'py>,
    server: &Server,
    (method, target, headers): RestHead,
    body: PyBackedBytes,
    done: Py<PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let headers = headers.iter().map(|(name, value)| (&name[..], &value[..])).collect();
    let asked = rest::Asked { method: &method, target: &target, headers, body: Bytes::from_owner(body) };
    let answering = server.ask_rest(asked).map_err(|why| raised(py, &why))?;
    begin(py, server, answering, done, rest_answer)
}

/// Asks gRPC in the same way.
pub(super) fn ask_grpc<'py>(
    py: Python<'py>,
    server: &Server,
    (path, metadata, timeout): GrpcHead,
    message: PyBackedBytes,
    done: Py<PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let metadata = metadata.iter().map(|(name, value)| (&name[..], &value[..])).collect();
    let timeout = timeout.and_then(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).ok());
    let asked = grpc::Asked { path: &path, metadata, message: Bytes::from_owner(message), timeout };
    let answering = server.ask_grpc(asked).map_err(|why| raised(py, &why))?;
    begin(py, server, answering, done, grpc_answer)
}

fn begin<'py, T: Send + 'static>(
    py: Python<'py>,
    server: &Server,
    mut answering: Answering<T>,
    done: Py<PyAny>,
    write: Write<T>,
) -> PyResult<Bound<'py, PyAny>> {
    let threads = server.own_threads().map_err(|why| raised(py, &why))?;
    let first = py.detach(|| {
        let _timers = threads.enter();
        // Nobody is woken: what is not ready is polled again by its task.
        guarded(|| Ok(answering.as_mut().poll(&mut Context::from_waker(Waker::noop()))))
    });
    match first.map_err(|why| raised(py, &why))? {
        Poll::Ready((answer, slot)) => {
            let written = write(py, &answer);
            drop(slot);
            written
        }
        Poll::Pending => {
            let waiting = Waiting(Some(done));
            let task = threads.spawn(async move {
                let (answer, slot) = answering.await;
                waiting.tell(|py| write(py, &answer).ok());
                // A server that stops has brought every answer.
                drop(slot);
            });
            Ok(Bound::new(py, Pending(task.abort_handle()))?.into_any())
        }
    }
}

/// Who waits for an answer. Dropped before it came, it is told that there is none.
struct Waiting(Option<Py<PyAny>>);

impl Waiting {
    fn tell<F>(mut self, answer: F)
    where
        F: for<'py> FnOnce(Python<'py>) -> Option<Bound<'py, PyAny>>,
    {
        let Some(done) = self.0.take() else { return };
        // Without an interpreter, or with a loop that has ended, nobody waits.
        let _told = Python::try_attach(|py| done.call1(py, (answer(py),)).map(|_| ()));
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.0.is_some() {
            Waiting(self.0.take()).tell(|_| None);
        }
    }
}

/// Returns status, headers, body.
fn rest_answer<'py>(py: Python<'py>, answer: &rest::Answered) -> PyResult<Bound<'py, PyAny>> {
    let headers = answer.headers().map(|(name, value)| (PyBytes::new(py, name), PyBytes::new(py, value)));
    let headers = PyList::new(py, headers)?;
    let answer = (answer.status(), headers, PyBytes::new(py, answer.body()));
    Ok(answer.into_pyobject(py)?.into_any())
}

/// Returns code, details, metadata of the end, message.
fn grpc_answer<'py>(py: Python<'py>, answer: &grpc::Answered) -> PyResult<Bound<'py, PyAny>> {
    let metadata: Vec<(&str, &str)> = answer.metadata().collect();
    let length = answer.message.iter().map(Bytes::len).sum();
    let message = PyBytes::new_with(py, length, |mut left| {
        for piece in &answer.message {
            let (filled, rest) = std::mem::take(&mut left).split_at_mut(piece.len());
            filled.copy_from_slice(piece);
            left = rest;
        }
        Ok(())
    })?;
    let answer = (answer.code, &answer.details, metadata, message);
    Ok(answer.into_pyobject(py)?.into_any())
}
