//! The administration's interface to Python: the core handles HTTP, Python answers.

use super::released;
use crate::admin::{self, AdminRequest, Answer, Handler, Refusal};
use crate::error::Kind;
use crate::host::descriptors::duplicate;
use crate::methods::{ServerState, exposition};
use crate::server::Server;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use std::os::fd::{IntoRawFd, RawFd};
use std::sync::Arc;

/// A listening administration.
#[pyclass(frozen, module = "servable._core")]
pub(super) struct Administration(admin::Administration);

#[pymethods]
impl Administration {
    #[getter]
    fn address(&self) -> String {
        self.0.address().to_string()
    }

    /// A copy of the listening socket, which the caller has to close; `None` once it is closed.
    fn listener(&self) -> PyResult<Option<RawFd>> {
        Ok(self.0.listener()?.map(IntoRawFd::into_raw_fd))
    }

    fn pass_on(&self) {
        self.0.pass_on();
    }

    fn close(&self, py: Python<'_>) -> PyResult<bool> {
        released(py, || Ok(self.0.close()))
    }
}

/// Listens, at `socket` if there is one that listens already. `answer`: called with method, path, query and body, returns content type and bytes; the `code`, `message` and
/// `hint` of an exception become the error reply. The metrics of `server` are answered here.
pub(super) fn serve(
    py: Python<'_>,
    options: &admin::Options,
    socket: Option<RawFd>,
    answer: Py<PyAny>,
    server: &Server,
) -> PyResult<Administration> {
    let socket = socket.map(duplicate).transpose().map_err(|why| os_error(py, &why))?;
    let handler = with_metrics(server.state().clone(), handler(answer));
    let served = py.detach(|| match socket {
        Some(socket) => admin::serve_on(socket.into(), options, server.health(), handler),
        None => admin::serve(options, server.health(), handler),
    });
    served.map(Administration).map_err(|why| os_error(py, &why))
}

/// Makes the `OSError` that Python itself would have raised.
fn os_error(py: Python<'_>, why: &std::io::Error) -> PyErr {
    let Some(number) = why.raw_os_error() else { return PyOSError::new_err(why.to_string()) };
    let text = py.import("os").and_then(|os| os.call_method1("strerror", (number,))?.extract::<String>());
    text.map_or_else(|failed| failed, |text| PyOSError::new_err((number, text)))
}

/// Returns a handler that answers requests for the page of metrics, and leaves the others to `handler`.
fn with_metrics(server: Arc<ServerState>, handler: Handler) -> Handler {
    Arc::new(move |request: &AdminRequest| {
        let wanted = server.options.metrics_path.as_deref().filter(|path| *path == request.path);
        let page = wanted.filter(|_| request.method.as_str() == "GET").and_then(|_| {
            let exposition::Page { content_type, bytes } = exposition::page(&server, &request.accept)?;
            Some(Answer { content_type: content_type.to_owned(), bytes })
        });
        page.map_or_else(|| handler(request), Ok)
    })
}

fn handler(answer: Py<PyAny>) -> Handler {
    Arc::new(move |request: &AdminRequest| {
        let answered = Python::try_attach(|py| {
            let called = call(py, &answer, request);
            called.map_err(|raised| refusal(py, &raised))
        });
        // The interpreter is shutting down.
        answered.unwrap_or_else(|| Err(Refusal::new(Kind::Unavailable, "The server is stopping")))
    })
}

fn call(py: Python<'_>, answer: &Py<PyAny>, request: &AdminRequest) -> PyResult<Answer> {
    let AdminRequest { method, path, query, body, .. } = request;
    let answered = answer.bind(py).call1((method.as_str(), path, query, PyBytes::new(py, body)))?;
    let (content_type, content): (String, Bound<'_, PyBytes>) = answered.extract()?;
    Ok(Answer { content_type, bytes: content.as_bytes().to_vec() })
}

/// Converts an exception by its `code`, `message` and `hint`; one without the first two is an internal error.
fn refusal(py: Python<'_>, raised: &PyErr) -> Refusal {
    let attribute = |name| -> PyResult<String> {
        // Text from a client may contain a lone surrogate, which UTF-8 cannot represent.
        Ok(raised.value(py).getattr(name)?.cast::<PyString>()?.to_string_lossy().into_owned())
    };
    match (attribute("code"), attribute("message")) {
        (Ok(code), Ok(message)) => Refusal::new(Kind::from_name(&code).unwrap_or(Kind::Unknown), message)
            .hint(attribute("hint").unwrap_or_default()),
        _ => Refusal::new(Kind::Internal, raised.to_string()),
    }
}
