//! Options from Python: structs with the attributes of `_core.pyi`'s protocols, and their conversion for the core.

use crate::access::{AccessOptions, Output, Which};
use crate::admin;
use crate::auth::Auth;
use crate::batch;
use crate::config::{ConsoleAt, NonUtf8, Options};
use crate::engine::LoadOptions as EngineOptions;
use crate::engine::acceleration::{Acceleration, Lower};
use crate::engine::choice::{EngineKind, Engines};
use crate::engine::tensorflow;
use crate::error::{Error, Result};
use crate::exchange::RequestIds;
use crate::grpc;
use crate::http2::limits::ConnectionLimits;
use crate::lifecycle::{self, Batching};
use crate::log_format::LogFormat;
use crate::metrics::EdgeCounts;
use crate::pace::Pace;
use crate::payload::{FileLimits, Form, PayloadRule, Place};
use crate::proxies::{Networks, Proxies, ProxyProtocol};
use crate::scheduler::Limits;
use crate::servable::placement::Policy;
use crate::telemetry::Settings;
use crate::tls::{self, Tls};
use pyo3::prelude::*;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// `_core.CoreOptions`.
#[derive(FromPyObject)]
pub(super) struct CoreOptions {
    rest_address: Option<String>,
    grpc_address: Option<String>,
    grpc_socket_path: Option<PathBuf>,
    grpc_socket_takeover: bool,
    grpc_tls: Option<TlsOptions>,
    tls_files: Option<TlsFiles>,
    auth_file: Option<PathBuf>,
    health_pages: bool,
    open_inference: bool,
    openapi: bool,
    shared_memory: Option<String>,
    shared_memory_in_place: bool,
    grpc_limits: GrpcLimits,
    rest_timeout_ms: i64,
    cors: bool,
    cors_origins: Vec<String>,
    grpc_web: bool,
    max_body_bytes: usize,
    max_header_bytes: usize,
    header_timeout_seconds: f64,
    transfer_grace_seconds: f64,
    min_transfer_rate: u64,
    max_connections: usize,
    max_connections_per_peer: usize,
    idle_timeout_seconds: f64,
    trusted_proxies: Vec<String>,
    proxy_protocol: String,
    max_memory_in_flight: usize,
    max_depth: usize,
    gzip_min_bytes: usize,
    zstd: bool,
    http2_cleartext: bool,
    io_threads: usize,
    compute_threads: usize,
    queue_limits: QueueLimits,
    batch_threads: usize,
    libraries: HashMap<String, PathBuf>,
    missing_engines: HashMap<String, String>,
    op_libraries: Vec<PathBuf>,
    prometheus_path: Option<String>,
    metrics_path: Option<String>,
    console: String,
    tensor_content: bool,
    base64_non_utf8: bool,
    method_name_check: bool,
    grpc_health: bool,
    profiler: bool,
    profile_folder: Option<PathBuf>,
    access_log: Option<AccessLogOptions>,
    request_ids: String,
    payload_file_bytes: u64,
    payload_file_seconds: f64,
    lazy_load: bool,
    memory_budget: Option<u64>,
    backlog: u32,
}

/// `_core.AccessLogOptions`.
#[derive(FromPyObject)]
struct AccessLogOptions {
    errors_only: bool,
    share: f64,
    output: String,
    format: String,
}

/// `_core.PayloadLog`.
#[derive(FromPyObject)]
pub(super) struct PayloadLog {
    model: String,
    form: String,
    prefix: PathBuf,
    share: f64,
    sampling_config: Vec<u8>,
    tags: Vec<String>,
}

impl AccessLogOptions {
    fn options(self) -> Result<AccessOptions> {
        let output = match self.output.as_str() {
            "stdout" => Output::Stdout,
            "stderr" => Output::Stderr,
            path => Output::File(path.into()),
        };
        Ok(AccessOptions {
            which: if self.errors_only { Which::Errors } else { Which::All },
            share: self.share,
            output,
            format: LogFormat::named(&self.format).ok_or_else(|| unknown("log_format", &self.format))?,
        })
    }
}

impl PayloadLog {
    pub(super) fn rule(self) -> Result<PayloadRule> {
        let form = Form::named(&self.form).ok_or_else(|| unknown("form", &self.form))?;
        let place = Place { form, prefix: self.prefix };
        let PayloadLog { model, share, sampling_config, tags, .. } = self;
        Ok(PayloadRule { model, place, share, sampling_config, tags })
    }
}

/// `_core.GrpcLimits`.
#[derive(FromPyObject)]
struct GrpcLimits {
    max_receive_bytes: usize,
    max_send_bytes: usize,
    max_calls: Option<u32>,
    max_header_bytes: Option<u32>,
    header_table_bytes: Option<u32>,
    max_frame_bytes: Option<u32>,
    call_window: Option<u32>,
    asked_every_ms: Option<u32>,
    answered_within_ms: Option<u32>,
    keys_within_ms: Option<u32>,
    max_idle_ms: Option<u32>,
    max_age_ms: Option<u32>,
    max_age_grace_ms: Option<u32>,
}

/// `_core.QueueLimits`.
#[derive(FromPyObject)]
struct QueueLimits {
    max_queue_milliseconds: Option<u64>,
    max_requests_in_flight: Option<usize>,
    max_requests_in_flight_per_model: Option<usize>,
    max_memory_in_flight_per_model: Option<usize>,
    model_weights: HashMap<String, f64>,
}

impl QueueLimits {
    /// Returns the scheduler's limits, with `slots` for runs, `spare` ones for short runs, and as many `batch_threads`.
    fn limits(self, slots: usize, spare: usize, batch_threads: usize) -> Limits {
        Limits {
            slots,
            spare,
            batches_at_once: spare,
            batch_threads,
            max_wait: self.max_queue_milliseconds.map(Duration::from_millis),
            max_requests: self.max_requests_in_flight,
            max_model_requests: self.max_requests_in_flight_per_model,
            max_model_bytes: self.max_memory_in_flight_per_model,
            weights: self.model_weights,
        }
    }
}

/// `_core.TlsOptions`.
#[derive(FromPyObject)]
struct TlsOptions {
    key: String,
    certificate: String,
    client_ca: String,
    client_verify: bool,
}

/// `_core.TlsFiles`.
#[derive(FromPyObject)]
struct TlsFiles {
    certificate: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
}

/// `_core.LoadOptions`.
#[derive(FromPyObject)]
pub(super) struct LoadOptions {
    engine: String,
    engine_tolerance: f64,
    engine_cache: PathBuf,
    engine_fresh: bool,
    engine_precision: String,
    engine_quantizer: Vec<String>,
    /// `None`: TensorFlow's session stays.
    engine_reference_idle: Option<f64>,
    prefer_tflite: bool,
    tags: Vec<String>,
    session_config: Vec<u8>,
    placement: String,
    batching: Option<BatchingOptions>,
    automatic_batching: bool,
    warmup: bool,
    warmup_iterations: u32,
    synthetic_warmup: bool,
    retrying: bool,
    most_memory: Option<u64>,
}

/// `_core.BatchingOptions`.
#[derive(FromPyObject)]
struct BatchingOptions {
    max_batch_size: usize,
    batch_timeout_micros: u64,
    max_enqueued_batches: usize,
    allowed_batch_sizes: Vec<usize>,
    pad_variable_length_inputs: bool,
    enable_large_batch_splitting: bool,
    max_execution_batch_size: usize,
}

/// `_core.AdminOptions`.
#[derive(FromPyObject)]
pub(super) struct AdminOptions {
    address: String,
    token: String,
    request_seconds: f64,
    max_connections: usize,
    max_answered: usize,
}

/// Returns the engines that Python found, by name.
pub(super) fn engines(
    libraries: HashMap<String, PathBuf>,
    missing: HashMap<String, String>,
    op_libraries: Vec<PathBuf>,
) -> Engines {
    fn by_kind<T>(named: HashMap<String, T>) -> HashMap<EngineKind, T> {
        named.into_iter().filter_map(|(name, of)| Some((EngineKind::from_name(&name)?, of))).collect()
    }
    Engines { libraries: by_kind(libraries), missing: by_kind(missing), op_libraries }
}

impl CoreOptions {
    pub(super) fn engines(&self) -> Engines {
        engines(self.libraries.clone(), self.missing_engines.clone(), self.op_libraries.clone())
    }

    /// Reads the files for TLS, if there are any.
    pub(super) fn tls(&self) -> Result<Option<Tls>> {
        let files = self.tls_files.as_ref().map(|files| tls::TlsFiles {
            certificate: files.certificate.clone(),
            key: files.key.clone(),
            client_ca: files.client_ca.clone(),
        });
        files.map(Tls::of_files).transpose()
    }

    /// Returns the settings of the gRPC API; `reload` replaces the configuration. `tls` is that of all ports, in whose
    /// place gRPC may have its own.
    pub(super) fn grpc(&self, reload: Option<grpc::Reload>, tls: Option<Tls>) -> Result<grpc::Settings> {
        let limits = ConnectionLimits {
            headers_within: seconds(self.header_timeout_seconds),
            pace: self.pace(),
            ..self.grpc_limits.connection()
        };
        Ok(grpc::Settings {
            health: self.grpc_health,
            profiler: self.profiler,
            profile_folder: self.profile_folder.clone(),
            max_message_bytes: self.grpc_limits.max_receive_bytes,
            max_reply_bytes: self.grpc_limits.max_send_bytes,
            limits,
            tls: self.grpc_tls.as_ref().map(TlsOptions::tls).transpose()?.or(tls),
            reload,
            ..grpc::Settings::default()
        })
    }

    /// Returns the server's options; `tls` is that of its ports.
    pub(super) fn options(self, tls: Option<Tls>) -> Result<Options> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let (pace, proxies) = (self.pace(), self.proxies()?);
        // Where nothing is said of the first, there is a slot for each batch that may run.
        let slots =
            if self.compute_threads > 0 { self.compute_threads } else { (2 * cores).max(self.batch_threads) };
        Ok(Options {
            rest_address: address("rest_address", self.rest_address)?,
            grpc_address: address("grpc_address", self.grpc_address)?,
            grpc_socket_path: self.grpc_socket_path,
            grpc_socket_takeover: self.grpc_socket_takeover,
            tls,
            auth: self.auth_file.map(Auth::of_file).transpose()?,
            health_pages: self.health_pages,
            open_inference: self.open_inference,
            openapi: self.openapi,
            shared_memory: self.shared_memory,
            shared_memory_in_place: self.shared_memory_in_place,
            rest_timeout: u64::try_from(self.rest_timeout_ms)
                .ok()
                .filter(|timeout| *timeout > 0)
                .map(Duration::from_millis),
            cors: self.cors,
            cors_origins: self.cors_origins,
            grpc_web: self.grpc_web,
            max_body_bytes: self.max_body_bytes,
            max_header_bytes: self.max_header_bytes,
            headers_within: seconds(self.header_timeout_seconds),
            pace,
            max_memory_in_flight: self.max_memory_in_flight,
            max_connections: self.max_connections,
            max_connections_per_peer: Some(self.max_connections_per_peer).filter(|most| *most > 0),
            idle: seconds(self.idle_timeout_seconds),
            proxies,
            max_depth: self.max_depth,
            gzip_min_bytes: self.gzip_min_bytes,
            zstd: self.zstd,
            http2_cleartext: self.http2_cleartext,
            io_threads: if self.io_threads > 0 { self.io_threads } else { cores },
            limits: self.queue_limits.limits(slots, cores, self.batch_threads),
            lazy_load: self.lazy_load,
            memory_budget: self.memory_budget,
            backlog: self.backlog,
            non_utf8: if self.base64_non_utf8 { NonUtf8::Base64 } else { NonUtf8::Raw },
            tensor_content: self.tensor_content,
            method_name_check: self.method_name_check,
            prometheus_path: self.prometheus_path,
            metrics_path: self.metrics_path,
            console: match self.console.as_str() {
                "nowhere" => ConsoleAt::Nowhere,
                "administration" => ConsoleAt::Administration,
                "everywhere" => ConsoleAt::Everywhere,
                other => return Err(unknown("console", other)),
            },
            access: self.access_log.map(AccessLogOptions::options).transpose()?,
            request_ids: match self.request_ids.as_str() {
                "off" => RequestIds::Off,
                "given" => RequestIds::Given,
                "told" => RequestIds::Told,
                "all" => RequestIds::All,
                other => return Err(unknown("request_ids", other)),
            },
            telemetry: Settings::of_environment(),
            payload_files: FileLimits {
                bytes: self.payload_file_bytes,
                age: seconds(self.payload_file_seconds),
            },
        })
    }

    /// Returns the proxies that may say whom they speak for, if there are any.
    fn proxies(&self) -> Result<Option<Arc<Proxies>>> {
        let protocol = match self.proxy_protocol.as_str() {
            "off" => ProxyProtocol::Off,
            "accept" => ProxyProtocol::Accept,
            "require" => ProxyProtocol::Require,
            other => return Err(unknown("proxy_protocol", other)),
        };
        if self.trusted_proxies.is_empty() {
            return Ok(None);
        }
        let trusted = Networks::read(self.trusted_proxies.iter().map(String::as_str))?;
        Ok(Some(Arc::new(Proxies { trusted, protocol })))
    }

    /// Returns the required pace of clients; `None` for any.
    fn pace(&self) -> Option<Pace> {
        let bytes_per_second = self.min_transfer_rate;
        seconds(self.transfer_grace_seconds).map(|grace| Pace { grace, bytes_per_second })
    }
}

impl GrpcLimits {
    /// Returns the connection limits: `None` selects the default, and gRPC's largest time means no limit.
    fn connection(&self) -> ConnectionLimits {
        const FOR_EVER: u32 = i32::MAX as u32;
        let millis = |millis: u32| Duration::from_millis(millis.into());
        let span = |given: Option<u32>, default: Duration| given.map_or(default, millis);
        let end = |given: Option<u32>, default: Option<Duration>| {
            given.map_or(default, |given| (given != FOR_EVER).then(|| millis(given)))
        };
        let own = ConnectionLimits::default();
        ConnectionLimits {
            max_calls: self.max_calls.unwrap_or(own.max_calls),
            max_header_bytes: self.max_header_bytes.unwrap_or(own.max_header_bytes),
            header_table_bytes: self.header_table_bytes.unwrap_or(own.header_table_bytes),
            max_frame_bytes: self.max_frame_bytes.unwrap_or(own.max_frame_bytes),
            call_window: self.call_window.unwrap_or(own.call_window),
            asked_every: end(self.asked_every_ms, own.asked_every),
            answered_within: span(self.answered_within_ms, own.answered_within),
            keys_within: span(self.keys_within_ms, own.keys_within),
            max_idle: end(self.max_idle_ms, own.max_idle),
            max_age: end(self.max_age_ms, own.max_age),
            max_age_grace: end(self.max_age_grace_ms, own.max_age_grace),
            ..own
        }
    }
}

impl TlsOptions {
    fn tls(&self) -> Result<Tls> {
        Tls::new(&self.key, &self.certificate, &self.client_ca, self.client_verify)
    }
}

impl LoadOptions {
    pub(super) fn options(self) -> Result<lifecycle::Options> {
        let forced = match self.engine.as_str() {
            "tensorflow" => None,
            "auto" => Some(false),
            "openvino" => Some(true),
            other => return Err(unknown("engine", other)),
        };
        let lower = match self.engine_precision.as_str() {
            "" | "f32" => None,
            "bf16" => Some(Lower::Bf16),
            "int8" => Some(Lower::Int8 { quantizer: self.engine_quantizer }),
            other => return Err(unknown("engine_precision", other)),
        };
        let reference_idle = self.engine_reference_idle.map(Duration::try_from_secs_f64).transpose();
        let reference_idle =
            reference_idle.map_err(|why| Error::invalid(format!("engine_reference_idle: {why}")))?;
        let acceleration = forced.map(|forced| Acceleration {
            forced,
            tolerance: self.engine_tolerance,
            cache: self.engine_cache,
            fresh: self.engine_fresh,
            lower,
            reference_idle,
        });
        let placement = match self.placement.as_str() {
            "auto" => Policy::Auto,
            "caller" => Policy::Caller,
            "pool" => Policy::Pool,
            other => return Err(unknown("placement", other)),
        };
        Ok(lifecycle::Options {
            engine: EngineOptions {
                prefer_tflite: self.prefer_tflite,
                acceleration,
                tensorflow: tensorflow::Options { tags: self.tags, session_config: self.session_config },
            },
            placement,
            batching: match self.batching {
                Some(parameters) => Batching::Parameters(parameters.into()),
                None if self.automatic_batching => Batching::Automatic,
                None => Batching::Off,
            },
            warmup: self.warmup,
            warmup_iterations: self.warmup_iterations,
            synthetic_warmup: self.synthetic_warmup,
            retrying: self.retrying,
            most_memory: self.most_memory,
        })
    }
}

fn unknown(option: &str, name: &str) -> Error {
    Error::invalid(format!("{option}: there is no {name}"))
}

impl From<BatchingOptions> for batch::Parameters {
    fn from(given: BatchingOptions) -> batch::Parameters {
        batch::Parameters {
            max_batch_size: given.max_batch_size,
            batch_timeout: Duration::from_micros(given.batch_timeout_micros),
            max_enqueued_batches: given.max_enqueued_batches,
            allowed_batch_sizes: given.allowed_batch_sizes,
            pad_variable_length_inputs: given.pad_variable_length_inputs,
            split_at: given.enable_large_batch_splitting.then_some(given.max_execution_batch_size),
        }
    }
}

impl AdminOptions {
    /// Returns the number of requests that may be answered at once.
    pub(super) fn most_answered(&self) -> usize {
        self.max_answered
    }

    /// Returns the options of an administration that listens at `at`, the resolved `address`, with the encryption and the
    /// tokens of the `server`'s ports.
    pub(super) fn options(
        self,
        at: &str,
        server: &Options,
        counts: Arc<EdgeCounts>,
    ) -> Result<admin::Options> {
        Ok(admin::Options {
            address: at.parse().map_err(|_| Error::invalid(format!("{at} is no IP:PORT")))?,
            name: self.address.rsplit_once(':').map_or("", |(name, _)| name).to_owned(),
            token: self.token,
            auth: server.auth.clone(),
            metrics_path: server.metrics_path.clone(),
            tls: server.tls.clone(),
            request_within: seconds(self.request_seconds).unwrap_or_default(),
            max_connections: self.max_connections,
            counts,
        })
    }
}

fn address(name: &str, text: Option<String>) -> Result<Option<SocketAddr>> {
    let parsed =
        text.map(|text| text.parse().map_err(|_| Error::invalid(format!("{name}: {text} is no IP:PORT"))));
    parsed.transpose()
}

/// Converts seconds to a duration; 0 means none.
fn seconds(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds).ok().filter(|time| !time.is_zero())
}
