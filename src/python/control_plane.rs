//! The control plane as the core calls it: Python's functions, and their exceptions as errors.

use crate::control_plane::{Answer, Handler, Question, Refused};
use crate::error::{Error, Kind};
use crate::grpc;
use crate::open_inference::repository::ModelControl;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyCFunction, PyString};
use std::sync::Arc;

/// Wraps a function that answers questions: called with method, path, query and body, it returns a content type and bytes.
pub(super) fn handler(answer: Py<PyAny>) -> Handler {
    Arc::new(move |question: &Question| {
        let answered = Python::try_attach(|py| {
            let called = call(py, &answer, question);
            called.map_err(|raised| refused(py, &raised))
        });
        // The interpreter is shutting down.
        answered.unwrap_or_else(|| Err(Refused::new(Kind::Unavailable, "The server is stopping")))
    })
}

fn call(py: Python<'_>, answer: &Py<PyAny>, question: &Question) -> PyResult<Answer> {
    let Question { method, path, query, body, .. } = question;
    let answered = answer.bind(py).call1((method, path, query, PyBytes::new(py, body)))?;
    let (content_type, content): (String, Bound<'_, PyBytes>) = answered.extract()?;
    Ok(Answer { content_type, bytes: content.as_bytes().to_vec() })
}

/// Wraps Python's reload for gRPC; it receives the serialized config and the client's timeout in seconds.
pub(super) fn reload(callback: Py<PyAny>) -> grpc::Reload {
    Arc::new(move |config, timeout| {
        Python::attach(|py| {
            let seconds = timeout.map(|timeout| timeout.as_secs_f64());
            let called = callback.call1(py, (config.as_ref(), seconds));
            called.map(|_| ()).map_err(|raised| error(py, &raised))
        })
    })
}

/// Wraps Python's loading and unloading for the Open Inference Protocol; it receives `load` or `unload`, the model, and a
/// function that says whether the client has left.
pub(super) fn changes(callback: Py<PyAny>) -> ModelControl {
    Arc::new(move |change, model, asker| {
        Python::attach(|py| {
            let asker = asker.clone();
            let has_left = PyCFunction::new_closure(py, None, None, move |_, _| asker.has_left());
            let called = has_left.and_then(|has_left| callback.call1(py, (change.word(), model, has_left)));
            called.map(|_| ()).map_err(|raised| error(py, &raised))
        })
    })
}

/// Converts an exception by its `code`, `message` and `hint`; one without the first two is an internal error.
fn refused(py: Python<'_>, raised: &PyErr) -> Refused {
    let attribute = |name| -> PyResult<String> {
        // Text from a client may contain a lone surrogate, which UTF-8 cannot represent.
        Ok(raised.value(py).getattr(name)?.cast::<PyString>()?.to_string_lossy().into_owned())
    };
    match (attribute("code"), attribute("message")) {
        (Ok(code), Ok(message)) => Refused::new(Kind::from_name(&code).unwrap_or(Kind::Unknown), message)
            .hint(attribute("hint").unwrap_or_default()),
        _ => Refused::new(Kind::Internal, raised.to_string()),
    }
}

/// Does the same without the hint, for protocols that have no place for it.
fn error(py: Python<'_>, raised: &PyErr) -> Error {
    let Refused { kind, message, .. } = refused(py, raised);
    Error::new(kind, message)
}
