//! The boundary: what Python's control plane may ask of the data plane. The only place that knows Python, and the
//! only place that releases the GIL ([`released`]).

mod admin;

use crate::batch;
use crate::config::{NonUtf8, Options};
use crate::engine::LoadOptions;
use crate::engine::choice::{EngineKind, Engines};
use crate::engine::signature::{DEFAULT_SIGNATURE, TensorSpec};
use crate::engine::tensorflow::{self, TensorFlow};
use crate::error::{Error, Kind, Result};
use crate::grpc;
use crate::http2::{limits::ConnectionLimits, tls::Tls};
use crate::lifecycle::{self, Lifecycle};
use crate::log_line::LogLine;
use crate::methods::record::RecordLimits;
use crate::pace::Pace;
use crate::registry::State;
use crate::servable::Servable;
use crate::servable::placement::Policy;
use crate::server::Server;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::collections::HashMap;
use std::net::SocketAddr;
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

/// Bytes of one recording, in all.
const MOST_RECORDED: usize = 256 << 20;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// So many requests may wait in batches: each has a thread, of which little more than its stack's first page is used.
const WAITING_THREADS: usize = 512;

/// Runs `work` without the GIL and gives its error Python's form.
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

/// A signature for people: name, inputs, outputs; each of these alias, dtype, shape.
type Described = (String, Vec<(String, String, String)>, Vec<(String, String, String)>);

/// What a load found.
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
    #[pyo3(signature = (options, on_reload = None))]
    fn new(py: Python<'_>, options: &Bound<'_, PyAny>, on_reload: Option<Py<PyAny>>) -> PyResult<PyServer> {
        let engines = Engines { tensorflow_library: options.getattr("tensorflow_library")?.extract()? };
        let settings = read_settings(options, on_reload.map(Arc::new))?;
        let options = read_options(options)?;
        let server = Server::new(options).map_err(|error| raised(py, &error))?;
        let lifecycle = Lifecycle::new(server.state().clone());
        Ok(PyServer { server, lifecycle, engines, settings })
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
        options: &Bound<'_, PyAny>,
    ) -> PyResult<LoadReport> {
        let options = read_load_options(options)?;
        released(py, || {
            let started = Instant::now();
            let engine = self.engines.of(&path, &options.engine)?;
            let servable = self.lifecycle.load(&*engine, name, version, &path, &options)?;
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

    fn forget(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        released(py, || {
            self.server.state().registry.forget(name);
            Ok(())
        })
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

    /// Live requests to a model as serialized `PredictionLog`s; blocks until there are enough or time is over.
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

    fn serve_admin(
        &self,
        address: &str,
        options: &Bound<'_, PyAny>,
        answer: Py<PyAny>,
    ) -> PyResult<admin::Administration> {
        admin::serve(address, options, answer, self.server.readiness())
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
            Ok(self.server.stop(grace))
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
    let described = |specs: &[TensorSpec]| specs.iter().map(describe).collect::<Vec<_>>();
    let signatures = servable
        .signatures()
        .values()
        .map(|signature| {
            (signature.name.clone(), described(&signature.inputs), described(&signature.outputs))
        })
        .collect();
    LoadReport { seconds: took.as_secs_f64(), signatures, placement: placement.to_owned() }
}

fn describe(spec: &TensorSpec) -> (String, String, String) {
    let shape = spec.shape.as_ref().map_or_else(
        || "unknown".to_owned(),
        |shape| format!("[{}]", shape.iter().map(i64::to_string).collect::<Vec<_>>().join(",")),
    );
    (spec.alias.clone(), spec.dtype.name().to_owned(), shape)
}

fn read_settings(options: &Bound<'_, PyAny>, on_reload: Option<Arc<Py<PyAny>>>) -> PyResult<grpc::Settings> {
    let limits = options.getattr("grpc_limits")?;
    Ok(grpc::Settings {
        health: options.getattr("grpc_health")?.extract()?,
        profiler: options.getattr("profiler")?.extract()?,
        profile_folder: options.getattr("profile_folder")?.extract()?,
        max_message_bytes: limits.getattr("max_receive_bytes")?.extract()?,
        max_reply_bytes: limits.getattr("max_send_bytes")?.extract()?,
        limits: ConnectionLimits {
            headers_within: seconds(options, "header_timeout_seconds")?,
            pace: read_pace(options)?,
            ..read_limits(&limits)?
        },
        tls: read_tls(&options.getattr("grpc_tls")?)?,
        reload: on_reload.map(reload),
        ..grpc::Settings::default()
    })
}

/// The limits of connections; None leaves a default, and the largest time of gRPC stands for ever.
fn read_limits(given: &Bound<'_, PyAny>) -> PyResult<ConnectionLimits> {
    const FOR_EVER: u32 = i32::MAX as u32;
    let value = |name: &str| given.getattr(name)?.extract::<Option<u32>>();
    let count = |name: &str, default: u32| PyResult::Ok(value(name)?.unwrap_or(default));
    let millis = |millis: u32| Duration::from_millis(millis.into());
    let span = |name: &str, default: Duration| PyResult::Ok(value(name)?.map_or(default, millis));
    let end = |name: &str, default: Option<Duration>| {
        let given = value(name)?;
        PyResult::Ok(given.map_or(default, |ms| (ms != FOR_EVER).then(|| millis(ms))))
    };
    let own = ConnectionLimits::default();
    Ok(ConnectionLimits {
        max_calls: count("max_calls", own.max_calls)?,
        max_header_bytes: count("max_header_bytes", own.max_header_bytes)?,
        header_table_bytes: count("header_table_bytes", own.header_table_bytes)?,
        max_frame_bytes: count("max_frame_bytes", own.max_frame_bytes)?,
        call_window: count("call_window", own.call_window)?,
        asked_every: end("asked_every_ms", own.asked_every)?,
        answered_within: span("answered_within_ms", own.answered_within)?,
        keys_within: span("keys_within_ms", own.keys_within)?,
        max_idle: end("max_idle_ms", own.max_idle)?,
        max_age: end("max_age_ms", own.max_age)?,
        max_age_grace: end("max_age_grace_ms", own.max_age_grace)?,
        ..own
    })
}

fn read_tls(options: &Bound<'_, PyAny>) -> PyResult<Option<Tls>> {
    if options.is_none() {
        return Ok(None);
    }
    let text = |name| options.getattr(name)?.extract::<String>();
    let client_verify: bool = options.getattr("client_verify")?.extract()?;
    Tls::new(&text("key")?, &text("certificate")?, &text("client_ca")?, client_verify)
        .map(Some)
        .map_err(|error| raised(options.py(), &error))
}

/// Python's reload as gRPC calls it: with the serialized config, and the seconds that the client waits.
fn reload(callback: Arc<Py<PyAny>>) -> grpc::Reload {
    Arc::new(move |config, timeout| {
        Python::attach(|py| {
            let seconds = timeout.map(|timeout| timeout.as_secs_f64());
            let called = callback.call1(py, (config.as_ref(), seconds));
            called.map(|_| ()).map_err(|raised| status_of(py, &raised))
        })
    })
}

/// An exception with `code` and `message` says what it is; any other is a fault of ours.
fn status_of(py: Python<'_>, raised: &PyErr) -> Error {
    let attribute = |name| raised.value(py).getattr(name).and_then(|value| value.extract::<String>());
    match (attribute("code"), attribute("message")) {
        (Ok(code), Ok(message)) => Error::new(Kind::from_name(&code).unwrap_or(Kind::Unknown), message),
        _ => Error::internal(raised.to_string()),
    }
}

/// None where the client may take any time.
fn read_pace(options: &Bound<'_, PyAny>) -> PyResult<Option<Pace>> {
    let grace = seconds(options, "transfer_grace_seconds")?;
    let bytes_per_second = options.getattr("min_transfer_rate")?.extract()?;
    Ok(grace.map(|grace| Pace { grace, bytes_per_second }))
}

/// A time of which 0 stands for none.
fn seconds(options: &Bound<'_, PyAny>, name: &str) -> PyResult<Option<Duration>> {
    let seconds: f64 = options.getattr(name)?.extract()?;
    Ok(Duration::try_from_secs_f64(seconds).ok().filter(|time| !time.is_zero()))
}

fn read_options(options: &Bound<'_, PyAny>) -> PyResult<Options> {
    let address = |name: &str| -> PyResult<Option<SocketAddr>> {
        let text: Option<String> = options.getattr(name)?.extract()?;
        text.map(|text| {
            text.parse().map_err(|_| {
                CoreError::new_err(("INVALID_ARGUMENT", format!("{name}: {text} is no IP:PORT")))
            })
        })
        .transpose()
    };
    let count = |name: &str| -> PyResult<usize> { options.getattr(name)?.extract() };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let batch_threads = count("batch_threads")?;
    let timeout: i64 = options.getattr("rest_timeout_ms")?.extract()?;
    Ok(Options {
        rest_address: address("rest_address")?,
        grpc_address: address("grpc_address")?,
        grpc_socket_path: options.getattr("grpc_socket_path")?.extract()?,
        grpc_socket_takeover: options.getattr("grpc_socket_takeover")?.extract()?,
        rest_timeout: u64::try_from(timeout).ok().filter(|timeout| *timeout > 0).map(Duration::from_millis),
        cors: options.getattr("cors")?.extract()?,
        max_body_bytes: count("max_body_bytes")?,
        max_header_bytes: count("max_header_bytes")?,
        headers_within: seconds(options, "header_timeout_seconds")?,
        pace: read_pace(options)?,
        max_memory_in_flight: count("max_memory_in_flight")?,
        max_connections: count("max_connections")?,
        max_depth: count("max_depth")?,
        gzip_min_bytes: count("gzip_min_bytes")?,
        io_threads: Some(count("io_threads")?).filter(|threads| *threads > 0).unwrap_or(cores),
        compute_threads: match (count("compute_threads")?, batch_threads) {
            (0, 0) => 4 * cores,
            (0, _) => WAITING_THREADS,
            (threads, _) => threads,
        },
        batch_threads,
        backlog: options.getattr("backlog")?.extract()?,
        non_utf8: match options.getattr("base64_non_utf8")?.extract()? {
            true => NonUtf8::Base64,
            false => NonUtf8::Raw,
        },
        tensor_content: options.getattr("tensor_content")?.extract()?,
        method_name_check: options.getattr("method_name_check")?.extract()?,
        prometheus_path: options.getattr("prometheus_path")?.extract()?,
    })
}

fn read_load_options(options: &Bound<'_, PyAny>) -> PyResult<lifecycle::Options> {
    let placement: String = options.getattr("placement")?.extract()?;
    Ok(lifecycle::Options {
        engine: LoadOptions {
            engine: EngineKind::from_name(&options.getattr("engine")?.extract::<String>()?),
            tensorflow: tensorflow::Options {
                tags: options.getattr("tags")?.extract()?,
                session_config: options.getattr("session_config")?.extract()?,
            },
        },
        placement: match placement.as_str() {
            "caller" => Policy::Caller,
            "pool" => Policy::Pool,
            _ => Policy::Auto,
        },
        batching: read_batching(&options.getattr("batching")?)?,
        warmup: options.getattr("warmup")?.extract()?,
        warmup_iterations: options.getattr("warmup_iterations")?.extract()?,
        synthetic_warmup: options.getattr("synthetic_warmup")?.extract()?,
        retrying: options.getattr("retrying")?.extract()?,
    })
}

fn read_batching(given: &Bound<'_, PyAny>) -> PyResult<Option<batch::Parameters>> {
    if given.is_none() {
        return Ok(None);
    }
    let count = |name: &str| -> PyResult<usize> { given.getattr(name)?.extract() };
    let is_split: bool = given.getattr("enable_large_batch_splitting")?.extract()?;
    Ok(Some(batch::Parameters {
        max_batch_size: count("max_batch_size")?,
        batch_timeout: Duration::from_micros(given.getattr("batch_timeout_micros")?.extract()?),
        max_enqueued_batches: count("max_enqueued_batches")?,
        allowed_batch_sizes: given.getattr("allowed_batch_sizes")?.extract()?,
        pad_variable_length_inputs: given.getattr("pad_variable_length_inputs")?.extract()?,
        split_at: is_split.then(|| count("max_execution_batch_size")).transpose()?,
    }))
}

/// Opens TensorFlow's library and the op libraries; gives its version.
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

/// Sends the core's log to stderr from `level` (`error`, `warn`, `info`, `debug`, `trace`) on. The first call counts.
#[pyfunction]
fn init_logging(level: &str) {
    let level = level.parse().unwrap_or(tracing::Level::INFO);
    // What other libraries complain of, clients can make them: it is for those who look for a fault.
    let others = if level >= tracing::Level::DEBUG { level } else { tracing::Level::ERROR };
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).event_format(LogLine);
    let wanted = Targets::new().with_target("servable", level).with_default(others);
    let _already_set = tracing_subscriber::registry().with(lines.with_filter(wanted)).try_init();
}

/// Every message of `proto/`, as a serialized `FileDescriptorSet`, imports before importers.
#[pyfunction]
fn descriptors() -> &'static [u8] {
    crate::pb::DESCRIPTORS
}

/// CRC-32C of `data`: 0xe3069283 for `123456789`.
#[pyfunction]
#[pyo3(name = "crc32c")]
fn checksum(data: &[u8]) -> u32 {
    crc32c::crc32c(data)
}

/// The core's version.
#[pyfunction]
fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyServer>()?;
    module.add_class::<LoadReport>()?;
    module.add_class::<admin::Administration>()?;
    module.add("CoreError", module.py().get_type::<CoreError>())?;
    module.add("STATES", PyTuple::new(module.py(), State::ALL.map(State::name))?)?;
    module.add_function(wrap_pyfunction!(preload, module)?)?;
    module.add_function(wrap_pyfunction!(init_logging, module)?)?;
    module.add_function(wrap_pyfunction!(descriptors, module)?)?;
    module.add_function(wrap_pyfunction!(checksum, module)?)?;
    module.add_function(wrap_pyfunction!(version, module)?)
}
