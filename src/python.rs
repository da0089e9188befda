//! The interface of the data plane for Python's control plane. Only this module uses Python, and only it releases the
//! GIL ([`released`]).

mod acceleration;
mod admin;
mod bench;
mod control_plane;
mod demand;
mod in_process;
mod options;
mod predict;
mod signatures;
mod traffic;

use crate::console::files::Files;
use crate::engine;
use crate::engine::choice::Engines;
use crate::engine::signature::DEFAULT_SIGNATURE;
use crate::engine::tensorflow::TensorFlow;
use crate::error::{Error, Kind, Result};
use crate::grpc;
use crate::host::allocator::Allocator;
use crate::host::descriptors::duplicate;
use crate::host::{stderr, stderr_pipe};
use crate::lifecycle::{self, Lifecycle};
use crate::log_format::LogFormat;
use crate::log_kept::{self, Kept};
use crate::log_line::{LogLine, json_line};
use crate::methods::record::RecordLimits;
use crate::metrics::Metrics;
use crate::native_line::NativeLine;
use crate::registry::{State, VersionChoice};
use crate::servable::Servable;
use crate::server::{Port, Server};
use admin::Place;
use options::{AdminOptions, CoreOptions, LoadOptions, PayloadLog};
use pyo3::exceptions::{PyException, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyTuple;
use signatures::{Described, Told};
use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::os::fd::{IntoRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::prelude::*;
use traffic::{Traffic, TrafficTold};

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

/// Information about a version, once loaded.
#[pyclass(frozen, get_all, module = "servable._core")]
struct LoadReport {
    seconds: f64,
    signatures: Vec<Described>,
    placement: String,
    memory_bytes: Option<u64>,
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
            let settings = options.grpc(on_reload.map(control_plane::reload), tls.clone())?;
            let server = Server::new(options.options(tls)?)?;
            let changes = on_model_control.map(control_plane::changes);
            changes.into_iter().for_each(|changes| server.allow_model_control(changes));
            let lifecycle = Lifecycle::new(server.state().clone());
            Ok(PyServer { server, lifecycle, engines, settings })
        };
        made().map_err(|error| raised(py, &error))
    }

    /// Brings the console along: its files (path, media type, content), and what answers its page on the REST port.
    fn bring_console(&self, py: Python<'_>, files: Vec<(String, String, PyBackedBytes)>, answer: Py<PyAny>) {
        let files = files.into_iter().map(|(path, kind, content)| (path, kind, content.to_vec())).collect();
        py.detach(|| self.server.bring_console(Files::new(files), control_plane::handler(answer)));
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

    fn set_on_demand(&self, py: Python<'_>, name: &str, version: i64, on_demand: bool) {
        py.detach(|| demand::set(self.server.state(), name, version, on_demand));
    }

    fn next_demand(&self, py: Python<'_>, seconds: f64) -> Option<(String, i64)> {
        py.detach(|| demand::next(self.server.state(), seconds))
    }

    fn demand_loaded(&self, py: Python<'_>, name: &str, version: i64) {
        py.detach(|| demand::loaded(self.server.state(), name, version));
    }

    fn demand_failed(&self, py: Python<'_>, name: &str, version: i64, error: demand::Failure, seconds: f64) {
        py.detach(|| demand::failed(self.server.state(), (name.into(), version), error, seconds));
    }

    fn end_demand(&self, py: Python<'_>) {
        py.detach(|| demand::end(self.server.state()));
    }

    /// Of each loaded version: model, number, seconds since its last run, in how many steps it was used, and by how many
    /// bytes it has grown since its load.
    fn uses(&self, py: Python<'_>) -> Vec<demand::Told> {
        py.detach(|| demand::uses(self.server.state()))
    }

    fn rest(&self, py: Python<'_>, name: &str, version: i64) -> bool {
        py.detach(|| self.lifecycle.rest(name, version))
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

    /// Replaces the names of the models that should be served.
    fn set_configured(&self, py: Python<'_>, names: HashSet<String>) {
        py.detach(|| self.server.state().registry.set_configured(names));
    }

    /// Spreads the traffic of a model so from now on; `None`: it is not spread. `renewed`: what was rolled back has its share again.
    #[pyo3(signature = (name, rules, renewed = false))]
    fn set_traffic(&self, py: Python<'_>, name: &str, rules: Option<Traffic>, renewed: bool) -> PyResult<()> {
        released(py, || {
            let rules = rules.map(Traffic::rules).transpose()?;
            self.server.state().registry.set_split(name, rules, renewed);
            Ok(())
        })
    }

    /// What has become of the traffic of a model; `None` if it is not spread.
    fn traffic(&self, py: Python<'_>, name: &str) -> Option<TrafficTold> {
        py.detach(|| traffic::told(&self.server.state().registry, name))
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

    /// Answers a question of this process. See `predict.rs` for the forms of values.
    #[pyo3(signature = (asked, inputs, outputs, timeout = None))]
    fn predict<'py>(
        &self,
        py: Python<'py>,
        asked: predict::Asked,
        inputs: Vec<predict::Given<'py>>,
        outputs: Vec<String>,
        timeout: Option<f64>,
    ) -> PyResult<predict::Answered<'py>> {
        let question = predict::question(asked, inputs, outputs)?;
        predict::answer(py, self.server.state(), question, timeout)
    }

    /// Answers a request to REST: status, headers, body; or returns a `Pending`, and calls `done` with that later.
    fn answer_rest<'py>(
        &self,
        py: Python<'py>,
        head: in_process::RestHead,
        body: PyBackedBytes,
        done: Py<PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        in_process::ask_rest(py, &self.server, head, body, done)
    }

    /// Answers a call of gRPC: code, details, metadata, message; or does as `answer_rest` does.
    fn answer_grpc<'py>(
        &self,
        py: Python<'py>,
        head: in_process::GrpcHead,
        message: PyBackedBytes,
        done: Py<PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        in_process::ask_grpc(py, &self.server, head, message, done)
    }

    /// Returns the version that a question is for, whose signatures `signatures` tells.
    #[pyo3(signature = (name, version = None, label = None))]
    fn find(&self, py: Python<'_>, name: &str, version: Option<i64>, label: Option<String>) -> PyResult<i64> {
        let found = self.server.state().registry.resolve(name, &predict::choice(version, label));
        found.map(|servable| servable.version()).map_err(|why| raised(py, &why))
    }

    /// Has this server never be freed: in a process that was forked, which has none of its threads.
    fn leak(slf: Py<PyServer>) {
        std::mem::forget(slf);
    }

    fn accelerations(&self, py: Python<'_>, name: &str, version: i64) -> PyResult<Vec<acceleration::Told>> {
        released(py, || {
            let choice = VersionChoice::Version(version);
            let servable = self.server.state().registry.resolve(name, &choice)?;
            let reports = servable.preparation().map(|preparation| preparation.reports());
            Ok(reports.unwrap_or_default().into_iter().map(acceleration::told).collect())
        })
    }

    /// The name of the engine that is for the files of a version; empty if the version is not served.
    fn engine(&self, name: &str, version: i64) -> &'static str {
        signatures::engine(&self.server.state().registry, name, version)
    }

    fn signatures(&self, py: Python<'_>, name: &str, version: i64) -> PyResult<Vec<Told>> {
        released(py, || signatures::told(&self.server.state().registry, name, version))
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
        let most_answered = options.most_answered();
        let options = options
            .options(address, &state.options, counts)
            .map_err(|why| PyValueError::new_err(why.message))?;
        admin::serve(py, Place { options, socket, most_answered }, answer, &self.server)
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
    let signatures = signatures::as_texts(servable.signatures());
    let memory_bytes = servable.taken();
    LoadReport { seconds: took.as_secs_f64(), signatures, placement: placement.to_owned(), memory_bytes }
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
        Ok(signatures::as_texts(model.signatures()))
    })
}

/// Logs the core's messages of `level` (`error`, `warn`, `info`, `debug`, `trace`) and above to stderr, as `format`
/// (`text`, `json`). Only the first call has an effect.
#[pyfunction]
fn init_logging(level: &str, format: &str) {
    log_to(level, LogFormat::named(format).unwrap_or_default(), stderr::writer);
}

/// Keeps the last messages of `level` and above as lines of text, for `kept_log`, instead of writing them. It is the same
/// choice as `init_logging`: only the first call of either has an effect.
#[pyfunction]
fn keep_log(level: &str) {
    log_to(level, LogFormat::Text, || Kept);
}

/// Returns the lines that are kept, the oldest first.
#[pyfunction]
fn kept_log(py: Python<'_>) -> Vec<String> {
    py.detach(log_kept::lines)
}

fn log_to<W>(level: &str, format: LogFormat, writer: W)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let level = level.parse().unwrap_or(tracing::Level::INFO);
    // Clients can provoke warnings of other libraries: these are only logged for debugging.
    let others = if level >= tracing::Level::DEBUG { level } else { tracing::Level::ERROR };
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).event_format(LogLine(format));
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
    module.add_class::<predict::Numbers>()?;
    module.add_class::<in_process::Pending>()?;
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
    module.add_function(wrap_pyfunction!(keep_log, module)?)?;
    module.add_function(wrap_pyfunction!(kept_log, module)?)?;
    module.add_function(wrap_pyfunction!(take_over_stderr, module)?)?;
    module.add_function(wrap_pyfunction!(give_back_stderr, module)?)?;
    module.add_function(wrap_pyfunction!(descriptors, module)?)?;
    module.add_function(wrap_pyfunction!(checksum, module)?)?;
    module.add_function(wrap_pyfunction!(metrics, module)?)?;
    module.add_function(wrap_pyfunction!(tokens, module)?)?;
    module.add_function(wrap_pyfunction!(version, module)?)
}
