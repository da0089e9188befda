//! The administration's interface to Python: the core handles HTTP, Python answers.

use super::{control_plane, released};
use crate::admin::{self, Behind};
use crate::control_plane::{Answer, Handler, Question};
use crate::host::descriptors::duplicate;
use crate::methods::{ServerState, exposition};
use crate::server::Server;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
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

/// Where an administration listens, and how.
pub(super) struct Place {
    pub(super) options: admin::Options,
    /// A socket that listens already.
    pub(super) socket: Option<RawFd>,
    /// Most requests that Python answers at once.
    pub(super) most_answered: usize,
}

/// Listens. `answer` answers all that is not answered here, as the metrics of `server` are.
pub(super) fn serve(
    py: Python<'_>,
    place: Place,
    answer: Py<PyAny>,
    server: &Server,
) -> PyResult<Administration> {
    let Place { options, socket, most_answered } = place;
    let socket = socket.map(duplicate).transpose().map_err(|why| os_error(py, &why))?;
    let handler = server.telling_traffic(control_plane::handler(answer));
    let behind = Behind {
        health: server.health(),
        handler: with_metrics(server.state().clone(), handler),
        desk: server.control_plane().desk(most_answered),
        console: server.console_of_administration(),
    };
    let served = py.detach(|| match socket {
        Some(socket) => admin::serve_on(socket.into(), &options, behind),
        None => admin::serve(&options, behind),
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
    Arc::new(move |question: &Question| {
        let wanted = server.options.metrics_path.as_deref().filter(|path| *path == question.path);
        let page = wanted.filter(|_| question.method == "GET").and_then(|_| {
            let exposition::Page { content_type, bytes } = exposition::page(&server, &question.accept)?;
            Some(Answer { content_type: content_type.to_owned(), bytes })
        });
        page.map_or_else(|| handler(question), Ok)
    })
}
