//! The interface of the data plane for Python's control plane. Only this module uses Python, and only it releases the
//! GIL ([`released`]).

mod acceleration;
mod admin;
mod bench;
mod options;

use crate::engine;
use crate::engine::choice::Engines;
use crate::engine::signature::{DEFAULT_SIGNATURE, Signature, TensorSpec};
use crate::engine::tensorflow::TensorFlow;
use crate::error::{Error, Kind, Result};
use crate::grpc;
use crate::host::allocator::Allocator;
use crate::host::descriptors::duplicate;
use crate::host::{stderr, stderr_pipe};
use crate::lifecycle::{self, Lifecycle};
use crate::log_format::LogFormat;
use crate::log_line::{LogLine, json_line};
use crate::methods::record::RecordLimits;
use crate::metrics::Metrics;
use crate::native_line::NativeLine;
use crate::open_inference::repository::ModelControl;
use crate::registry::{State, VersionChoice};
use crate::servable::Servable;
use crate::server::{Port, Server};
use options::{AdminOptions, CoreOptions, LoadOptions, PayloadLog};
use pyo3::exceptions::{PyException, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyTuple};
use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::os::fd::{IntoRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

pyo3::create_exception!(
    _core,
    CoreError,
    PyException,
    "What the core refused: args are (canonical code, message)."
);

/// Largest size of a recording, in bytes.
const MOST_RECORDED: usize = 256 << 20;

/// Longest time that the end of a server waits for the last lines and records of its logs.
const LAST_LINES: Duration = Duration::from_secs(2);

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// Runs `work` without the GIL and converts its error to a Python exception.
fn released<T: Send>(py: Python<'_>, work: impl FnOnce() -> Result<T> + Send) -> PyResult<T> {
    py.detach(work).map_err(|error| raised(py, &error))
}

fn raised(py: Python<'_>, error: &Error) -> PyErr {
    let raised = CoreError::new_err((error.kind.name(), error.message.to_string()));
    let value = raised.value(py);
    let named = value
        .setattr("code", error.kind.name())
        .and_then(|()| value.setattr("message", error.message.as_ref()));
    match named {
        Ok(()) => raised,
        Err(why) => why,
    }
}

/// A signature as text: name, inputs, outputs; each input or output: alias, dtype, shape.
type Described = (String, Vec<(String, String, String)>, Vec<(String, String, String)>);

/// Information about a version, once loaded.
#[pyclass(frozen, get_all, module = "servable._core")]
struct LoadReport {
    seconds: f64,
    signatures: Vec<Described>,
    placement: String,
}

/// The data plane: registry, ports, engine.
#[pyclass(frozen, name = "Server", module = "servable._core")]
struct PyServer {
    server: Server,
    lifecycle: Lifecycle,
    engines: Engines,
    settings: grpc::Settings,
}

#[pymethods]
impl PyServer {
    #[new]
    #[pyo3(signature = (options, on_reload = None, on_model_control = None))]
    fn new(
        py: Python<'_>,
        options: CoreOptions,
        on_reload: Option<Py<PyAny>>,
        on_model_control: Option<Py<PyAny>>,
    ) -> PyResult<PyServer> {
        let made = || {
            let engines = options.engines();
            let tls = options.tls()?;
            let settings = options.grpc(on_reload.map(|callback| reload(Arc::new(callback))), tls.clone())?;
            let server = Server::new(options.options(tls)?)?;
            on_model_control.into_iter().for_each(|callback| server.allow_model_control(control(callback)));
            let lifecycle = Lifecycle::new(server.state().clone());
            Ok(PyServer { server, lifecycle, engines, settings })
        };
        made().map_err(|error| raised(py, &error))
    }

    fn start(&self, py: Python<'_>) -> PyResult<HashMap<&'static str, String>> {
        let addresses = released(py, || self.server.start(self.settings.clone()))?;
        let named = [
            ("rest", addresses.rest.map(|address| address.to_string())),
            ("grpc", addresses.grpc.map(|address| address.to_string())),
            ("grpc_socket", addresses.grpc_socket.map(|path| path.display().to_string())),
        ];
        Ok(named.into_iter().filter_map(|(name, address)| Some((name, address?))).collect())
    }

    /// Has `start` use a copy of `socket`, which listens already, instead of opening `port`.
    fn adopt(&self, port: &str, socket: RawFd) -> PyResult<()> {
        let port =
            Port::named(port).ok_or_else(|| PyValueError::new_err(format!("there is no port {port}")))?;
        self.server.adopt(port, duplicate(socket)?);
        Ok(())
    }

    /// Copies of the listening sockets by port, which the caller has to close.
    fn listeners(&self, py: Python<'_>) -> PyResult<HashMap<&'static str, RawFd>> {
        let sockets = released(py, || self.server.listeners())?;
        Ok(sockets.into_iter().map(|(port, socket)| (port.name(), socket.into_raw_fd())).collect())
    }

    fn pass_on(&self, py: Python<'_>) {
        py.detach(|| self.server.pass_on());
    }

    fn wait_for_clients(&self, py: Python<'_>, seconds: f64) -> bool {
        let within = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        py.detach(|| self.server.wait_for_clients(within))
    }

    fn announce(&self, py: Python<'_>, name: &str, version: i64) -> PyResult<()> {
        self.set_state(py, name, version, State::Start, None)
    }

    fn fail(&self, py: Python<'_>, name: &str, version: i64, code: &str, message: String) -> PyResult<()> {
        let error = Error::new(Kind::from_name(code).unwrap_or(Kind::Unknown), message);
        self.set_state(py, name, version, State::End, Some(error))
    }

    fn load(
        &self,
        py: Python<'_>,
        name: &str,
        version: i64,
        path: PathBuf,
        options: LoadOptions,
    ) -> PyResult<LoadReport> {
        let options = options.options().map_err(|error| raised(py, &error))?;
        released(py, || {
            let started = Instant::now();
            let engine = self.engines.of(&path, &options.engine);
            let engine = engine.as_deref().map_err(Error::clone);
            let servable = self.lifecycle.load(engine, name, version, &path, &options)?;
            Ok(report(&servable, started.elapsed()))
        })
    }

    fn phase(&self, name: &str, version: i64) -> &'static str {
        self.lifecycle.phase(name, version).map_or("", lifecycle::Phase::name)
    }

    fn retire(&self, py: Python<'_>, name: &str, version: i64) -> PyResult<()> {
        released(py, || self.lifecycle.retire(name, version))
    }

    fn unload(&self, py: Python<'_>, name: &str, version: i64) -> PyResult<()> {
        released(py, || self.lifecycle.unload(name, version))
    }

    fn set_labels(&self, py: Python<'_>, name: &str, labels: HashMap<String, i64>) -> PyResult<()> {
        released(py, || {
            self.server.state().registry.set_labels(name, labels);
            Ok(())
        })
    }

    fn states(&self) -> Vec<(String, i64, &'static str, &'static str, String)> {
        let states = self.server.state().registry.states();
        states
            .into_iter()
            .map(|(name, status)| {
                let (code, message) = match status.error {
                    Some(error) => (error.kind.name(), error.message.into_owned()),
                    None => ("OK", String::new()),
                };
                (name, status.version, status.state.name(), code, message)
            })
            .collect()
    }

    fn accelerations(&self, py: Python<'_>, name: &str, version: i64) -> PyResult<Vec<acceleration::Told>> {
        released(py, || {
            let choice = VersionChoice::Version(version);
            let servable = self.server.state().registry.resolve(name, &choice)?;
            let reports = servable.preparation().map(|preparation| preparation.reports());
            Ok(reports.unwrap_or_default().into_iter().map(acceleration::told).collect())
        })
    }

    /// Records live requests to a model as serialized `PredictionLog`s; blocks until there are enough or time is up.
    fn record(
        &self,
        py: Python<'_>,
        name: &str,
        requests: usize,
        every: u64,
        seconds: f64,
    ) -> PyResult<Vec<Vec<u8>>> {
        let limits = RecordLimits { requests, every, bytes: MOST_RECORDED };
        let time = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        let records = released(py, || Ok(self.server.state().recorder.record(name, limits, time)))?;
        Ok(records.iter().map(|record| record.to_vec()).collect())
    }

    #[pyo3(signature = (address, options, answer, socket = None))]
    fn serve_admin(
        &self,
        py: Python<'_>,
        address: &str,
        options: AdminOptions,
        answer: Py<PyAny>,
        socket: Option<RawFd>,
    ) -> PyResult<admin::Administration> {
        let state = self.server.state();
        let counts = state.metrics.as_ref().map(Metrics::edge).unwrap_or_default();
        let options = options
            .options(address, &state.options, counts)
            .map_err(|why| PyValueError::new_err(why.message))?;
        admin::serve(py, &options, socket, answer, &self.server)
    }

    /// Logs the payloads of requests by these rules from now on, and by no others.
    fn set_payload_logs(&self, py: Python<'_>, logs: Vec<PayloadLog>) -> PyResult<()> {
        released(py, || {
            let rules = logs.into_iter().map(PayloadLog::rule).collect::<Result<_>>()?;
            self.server.state().recorder.payloads.configure(rules)
        })
    }

    /// Has the access log's file opened again, and new files of payload logs begun.
    fn reopen_logs(&self) {
        self.server.state().recorder.payloads.reopen();
        if let Some(access) = &self.server.state().access {
            access.reopen();
        }
    }

    fn drain(&self, py: Python<'_>) -> PyResult<()> {
        released(py, || {
            self.server.drain();
            Ok(())
        })
    }

    fn stop(&self, py: Python<'_>, grace_seconds: f64) -> PyResult<bool> {
        let grace = Duration::try_from_secs_f64(grace_seconds).unwrap_or_default();
        released(py, || {
            self.server.state().recorder.end();
            let finished = self.server.stop(grace);
            self.server.finish_logs(LAST_LINES);
            Ok(finished)
        })
    }
}

impl PyServer {
    fn set_state(
        &self,
        py: Python<'_>,
        name: &str,
        version: i64,
        state: State,
        error: Option<Error>,
    ) -> PyResult<()> {
        released(py, || {
            self.server.state().registry.set_state(name, version, state, error);
            Ok(())
        })
    }
}

fn report(servable: &Servable, took: Duration) -> LoadReport {
    let placement = if servable.in_caller(DEFAULT_SIGNATURE) { "caller" } else { "pool" };
    let signatures = as_texts(servable.signatures());
    LoadReport { seconds: took.as_secs_f64(), signatures, placement: placement.to_owned() }
}

fn as_texts(signatures: &BTreeMap<String, Signature>) -> Vec<Described> {
    let all = |specs: &[TensorSpec]| specs.iter().map(as_text).collect();
    let signatures = signatures.values();
    signatures.map(|one| (one.name.to_string(), all(&one.inputs), all(&one.outputs))).collect()
}

fn as_text(spec: &TensorSpec) -> (String, String, String) {
    let shape = spec.shape.as_ref().map_or_else(
        || "unknown".to_owned(),
        |shape| format!("[{}]", shape.iter().map(i64::to_string).collect::<Vec<_>>().join(",")),
    );
    (spec.alias.clone(), spec.dtype.name().to_owned(), shape)
}

/// Wraps Python's reload for gRPC; it receives the serialized config and the client's timeout in seconds.
fn reload(callback: Arc<Py<PyAny>>) -> grpc::Reload {
    Arc::new(move |config, timeout| {
        Python::attach(|py| {
            let seconds = timeout.map(|timeout| timeout.as_secs_f64());
            let called = callback.call1(py, (config.as_ref(), seconds));
            called.map(|_| ()).map_err(|raised| status_of(py, &raised))
        })
    })
}

/// Wraps Python's loading and unloading for the Open Inference Protocol; it receives `load` or `unload`, the model, and a
/// function that says whether the client has left.
fn control(callback: Py<PyAny>) -> ModelControl {
    Arc::new(move |change, model, asker| {
        Python::attach(|py| {
            let asker = asker.clone();
            let has_left = PyCFunction::new_closure(py, None, None, move |_, _| asker.has_left());
            let called = has_left.and_then(|has_left| callback.call1(py, (change.word(), model, has_left)));
            called.map(|_| ()).map_err(|raised| status_of(py, &raised))
        })
    })
}

/// Converts an exception by its `code` and `message`; one without them is an internal error.
fn status_of(py: Python<'_>, raised: &PyErr) -> Error {
    let attribute = |name| raised.value(py).getattr(name).and_then(|value| value.extract::<String>());
    match (attribute("code"), attribute("message")) {
        (Ok(code), Ok(message)) => Error::new(Kind::from_name(&code).unwrap_or(Kind::Unknown), message),
        _ => Error::internal(raised.to_string()),
    }
}

/// Opens TensorFlow's library and the op libraries; returns TensorFlow's version.
#[pyfunction]
fn preload(py: Python<'_>, path: PathBuf, op_libraries: Vec<PathBuf>) -> PyResult<String> {
    released(py, || {
        let tensorflow = TensorFlow::open(&path)?;
        for library in &op_libraries {
            tensorflow.load_ops(Path::new(library))?;
        }
        Ok(tensorflow.version())
    })
}

/// Loads the model in `path`, as a server would, and returns its signatures. The engines: see `CoreOptions`.
#[pyfunction]
fn describe(
    py: Python<'_>,
    path: PathBuf,
    libraries: HashMap<String, PathBuf>,
    missing_engines: HashMap<String, String>,
) -> PyResult<Vec<Described>> {
    released(py, || {
        let engines = options::engines(libraries, missing_engines, Vec::new());
        let options = engine::LoadOptions::default();
        let model = engines.of(&path, &options)?.load(&path, &options)?;
        Ok(as_texts(model.signatures()))
    })
}

/// Logs the core's messages of `level` (`error`, `warn`, `info`, `debug`, `trace`) and above to stderr, as `format`
/// (`text`, `json`). Only the first call has an effect.
#[pyfunction]
fn init_logging(level: &str, format: &str) {
    let format = LogFormat::named(format).unwrap_or_default();
    let level = level.parse().unwrap_or(tracing::Level::INFO);
    // Clients can provoke warnings of other libraries: these are only logged for debugging.
    let others = if level >= tracing::Level::DEBUG { level } else { tracing::Level::ERROR };
    let lines = tracing_subscriber::fmt::layer().with_writer(stderr::writer).event_format(LogLine(format));
    let wanted = Targets::new().with_target("servable", level).with_default(others);
    let _already_set = tracing_subscriber::registry().with(lines.with_filter(wanted)).try_init();
}

/// Makes lines of the log, as JSON, of what libraries write to stderr by themselves. Returns the descriptor that the log
/// is written to from now on.
#[pyfunction]
fn take_over_stderr() -> PyResult<i32> {
    stderr_pipe::take_over(|line| {
        let NativeLine { level, logger, source, message } = NativeLine::read(line);
        let source = source.map(|source| ("source", source.to_owned()));
        let line = json_line(level, logger, message, source.as_slice()) + "\n";
        // There is nowhere else to tell it.
        let _lost = stderr::writer().write_all(line.as_bytes());
    })?;
    Ok(stderr_pipe::log_descriptor())
}

/// Gives stderr back, once what was written to it is logged.
#[pyfunction]
fn give_back_stderr(py: Python<'_>) {
    py.detach(stderr_pipe::give_back);
}

/// Returns every message of `proto/` as a serialized `FileDescriptorSet`, imports before importers.
#[pyfunction]
fn descriptors() -> &'static [u8] {
    crate::pb::DESCRIPTORS
}

/// Returns the CRC-32C of `data`: 0xe3069283 for `123456789`.
#[pyfunction]
#[pyo3(name = "crc32c")]
fn checksum(data: &[u8]) -> u32 {
    crc32c::crc32c(data)
}

/// Returns the list of metrics: names, types, names of labels, explanations.
#[pyfunction]
fn metrics() -> Vec<(String, &'static str, &'static [&'static str], &'static str)> {
    crate::metrics::families().map(|one| (one.sample_name(), one.kind.name(), one.labels, one.help)).collect()
}

/// The tokens of a file: number of the line, name, and settings of each.
type Tokens = Vec<(usize, String, Vec<(&'static str, String)>)>;

/// Reads the text of a file of tokens.
#[pyfunction]
fn tokens(py: Python<'_>, text: &str) -> PyResult<Tokens> {
    let entries = crate::auth::parse(text).map_err(|why| raised(py, &Error::invalid(why)))?;
    Ok(entries.into_iter().map(|one| (one.number, one.name.to_string(), one.settings)).collect())
}

/// Returns the core's version.
#[pyfunction]
fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyServer>()?;
    module.add_class::<LoadReport>()?;
    module.add_class::<admin::Administration>()?;
    module.add_class::<bench::BenchTimes>()?;
    module.add_class::<bench::BenchSeen>()?;
    module.add_class::<bench::BenchOutcome>()?;
    module.add_class::<bench::BenchRun>()?;
    module.add_function(wrap_pyfunction!(bench::bench_ask, module)?)?;
    module.add_function(wrap_pyfunction!(bench::bench_picture, module)?)?;
    module.add("CoreError", module.py().get_type::<CoreError>())?;
    module.add("STATES", PyTuple::new(module.py(), State::ALL.map(State::name))?)?;
    module.add_function(wrap_pyfunction!(preload, module)?)?;
    module.add_function(wrap_pyfunction!(describe, module)?)?;
    module.add_function(wrap_pyfunction!(init_logging, module)?)?;
    module.add_function(wrap_pyfunction!(take_over_stderr, module)?)?;
    module.add_function(wrap_pyfunction!(give_back_stderr, module)?)?;
    module.add_function(wrap_pyfunction!(descriptors, module)?)?;
    module.add_function(wrap_pyfunction!(checksum, module)?)?;
    module.add_function(wrap_pyfunction!(metrics, module)?)?;
    module.add_function(wrap_pyfunction!(tokens, module)?)?;
    module.add_function(wrap_pyfunction!(version, module)?)
}
