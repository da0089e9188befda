"""The one list of flags, from which the parser, the ``--help`` texts and the documentation are made.

Names, types and defaults of TensorFlow Serving's flags are its own. ``no_effect`` is set for those that are
accepted and do nothing here; giving such a flag another value than its default is answered with that sentence
in the log. ``serve_default`` is set where ``servable serve`` starts from a friendlier value than
``tensorflow_model_server``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

Value = bool | int | float | str | tuple[str, ...] | None

CPUS = os.cpu_count() or 1

GROUPS = {
    "models": "What to serve",
    "ports": "Where to serve it",
    "requests": "Requests",
    "overload": "Overload, and shares of the machine",
    "loading": "Loading and unloading",
    "session": "TensorFlow",
    "batching": "Batching",
    "process": "The process",
    "logs": "Logs",
    "other": "Accepted for TensorFlow Serving's sake",
}


@dataclass(frozen=True)
class Flag:
    """One flag.

    kind: ``bool``, ``int32``, ``int64``, ``float``, ``string``, ``strings`` (may be repeated), ``port``
    (int32, and ``off`` in ``servable serve``), or ``choice`` (one of ``choices``). default: as in TensorFlow
    Serving. own: True for a flag that TensorFlow Serving does not have.
    """

    name: str
    kind: str
    default: Value
    group: str
    help: str
    serve_default: Value = None
    no_effect: str = ""
    own: bool = False
    choices: tuple[str, ...] = ()

    def default_for(self, serve: bool) -> Value:
        """Returns the default for ``servable serve`` or for ``tensorflow_model_server``."""
        if serve and self.serve_default is not None:
            return self.serve_default
        return self.default


_MODELS = (
    Flag(
        "model_name",
        "string",
        "default",
        "models",
        "name of the model when one is served by --model_base_path",
    ),
    Flag(
        "model_base_path",
        "string",
        "",
        "models",
        "folder that holds the model's version folders (.../model/1, .../model/2); an absolute path",
    ),
    Flag(
        "model_config_file",
        "string",
        "",
        "models",
        "text ModelServerConfig that lists the models; replaces the two above",
    ),
    Flag(
        "models_dir",
        "string",
        "",
        "models",
        "folder, or URI (s3://bucket/models), in which every folder with versions or a model is a model of "
        "its name; it is followed while the server runs",
        own=True,
    ),
    Flag(
        "model_config_file_poll_wait_seconds",
        "int32",
        0,
        "models",
        "read the config file again this often and apply it; 0 or less: never",
    ),
    Flag(
        "file_system_poll_wait_seconds",
        "int32",
        1,
        "models",
        "how often to look for new versions; 0: once, negative: never",
    ),
    Flag(
        "remote_poll_wait_seconds",
        "int32",
        30,
        "models",
        "how often to look for new versions in remote stores (s3://, gs://, …); 0: once, negative: never",
        own=True,
    ),
    Flag(
        "model_cache_dir",
        "string",
        "",
        "models",
        "folder that remote versions are fetched into, and Keras files converted into; empty: servable in "
        "$XDG_CACHE_HOME, or in ~/.cache",
        own=True,
    ),
    Flag(
        "max_archive_bytes",
        "int64",
        1 << 32,
        "models",
        "largest archive that is fetched (http://….tar.gz), bytes, packed or unpacked",
        own=True,
    ),
    Flag(
        "allow_version_labels_for_unavailable_models",
        "bool",
        False,
        "models",
        "accept new labels on versions that are not available yet",
    ),
    Flag(
        "allow_reload_rpc",
        "bool",
        True,
        "models",
        "clients of gRPC may change the models (HandleReloadConfigRequest), to local paths and to what "
        "--allowed_base_paths lists",
        serve_default=False,
        own=True,
    ),
    Flag(
        "allowed_base_paths",
        "strings",
        (),
        "models",
        "comma list of folders and URIs (/models,s3://bucket/models) that every base path must lie in, "
        "however it is configured; empty: any, but by gRPC no remote ones",
        own=True,
    ),
    Flag(
        "saved_model_tags",
        "string",
        "serve",
        "models",
        "comma list; must equal the tag set of one meta graph",
    ),
    Flag(
        "prefer_tflite_model",
        "bool",
        False,
        "models",
        "serve model.tflite where a version has one beside its SavedModel",
    ),
    Flag(
        "platform_config_file",
        "string",
        "",
        "models",
        "text PlatformConfigMap that replaces the session flags",
    ),
)

_PORTS = (
    Flag(
        "port",
        "port",
        8500,
        "ports",
        "gRPC port; tensorflow_model_server: 0 is off; serve: 0 is any free port, off is off",
    ),
    Flag("grpc_socket_path", "string", "", "ports", "also answer gRPC on this Unix socket"),
    Flag(
        "rest_api_port",
        "port",
        0,
        "ports",
        "REST port; tensorflow_model_server: 0 is off; serve: 0 is any free port, off is off",
        serve_default=8501,
    ),
    Flag("host", "string", "", "ports", "address to bind both ports to; empty: every interface", own=True),
    Flag(
        "handover_socket",
        "string",
        "",
        "ports",
        "Unix socket at which a running server hands its ports to the next one with the same flag, without a "
        "failed request; empty: none",
        own=True,
    ),
    Flag(
        "grpc_channel_arguments",
        "string",
        "",
        "ports",
        "comma list of name=value for gRPC's C core; those that set sizes of messages, metadata, frames and "
        "windows, calls at once, keep-alive, or the age of connections take effect; the log names the others",
    ),
    Flag("ssl_config_file", "string", "", "ports", "text SSLConfig (PEM texts): TLS on the gRPC port"),
    Flag(
        "tls_cert_file",
        "string",
        "",
        "ports",
        "PEM file of the server's certificate and those between it and its authority: TLS on both ports and "
        "the administration (--ssl_config_file goes before it for gRPC); read again when it changes",
        own=True,
    ),
    Flag(
        "tls_key_file",
        "string",
        "",
        "ports",
        "PEM file of the private key of --tls_cert_file; read again when it changes",
        own=True,
    ),
    Flag(
        "tls_client_ca_file",
        "string",
        "",
        "ports",
        "PEM file of authorities, one of which must have signed every client's certificate; empty: clients "
        "need none",
        own=True,
    ),
    Flag(
        "auth_file",
        "string",
        "",
        "ports",
        "file of tokens (servable token new makes it), one of which every request must show, on both ports "
        "and the administration, except probes of the whole server; read again when it changes; by default "
        "none",
        own=True,
    ),
    Flag(
        "use_alts_credentials",
        "bool",
        False,
        "ports",
        "Google's ALTS on the gRPC port",
        no_effect="ALTS exists only inside Google's cloud: gRPC is served without it",
    ),
)

_REQUESTS = (
    Flag(
        "rest_api_timeout_in_ms",
        "int32",
        30000,
        "requests",
        "time a REST request may take, milliseconds; 0 or less: no limit",
    ),
    Flag("rest_api_enable_cors_support", "bool", False, "requests", "CORS headers on /v1/ replies"),
    Flag(
        "cors_allowed_origins",
        "string",
        "",
        "requests",
        "origins whose pages may use the REST port, separated by commas: https://a.example; *: all",
        own=True,
    ),
    Flag("grpc_web", "bool", False, "requests", "gRPC-Web for browsers, on the REST port", own=True),
    Flag(
        "enable_signature_method_name_check",
        "bool",
        False,
        "requests",
        "refuse classify and regress on signatures whose method name says otherwise",
    ),
    Flag(
        "enable_serialization_as_tensor_content",
        "bool",
        False,
        "requests",
        "gRPC Predict outputs as tensor_content",
    ),
    Flag(
        "enable_grpc_healthcheck_service",
        "bool",
        False,
        "requests",
        "grpc.health.v1 on the gRPC port",
        serve_default=True,
    ),
    Flag(
        "enable_rest_healthcheck",
        "bool",
        False,
        "requests",
        "/livez, /healthz, /readyz and /readyz/MODEL on the REST port",
        serve_default=True,
        own=True,
    ),
    Flag(
        "open_inference_protocol",
        "bool",
        False,
        "requests",
        "the Open Inference Protocol (KServe v2) on the REST port and the gRPC port",
        serve_default=True,
        own=True,
    ),
    Flag(
        "openapi",
        "bool",
        False,
        "requests",
        "descriptions of the API by OpenAPI on the REST port: /openapi.json, /v1/models/NAME/openapi.json",
        serve_default=True,
        own=True,
    ),
    Flag(
        "open_inference_model_control",
        "bool",
        False,
        "requests",
        "lets clients of the Open Inference Protocol load and unload models",
        own=True,
    ),
    Flag(
        "shared_memory",
        "string",
        "",
        "requests",
        "lets clients of the Open Inference Protocol keep tensors in files of /dev/shm whose names begin so: "
        "/PREFIX; *: any",
        own=True,
    ),
    Flag(
        "shared_memory_in_place",
        "bool",
        False,
        "requests",
        "has models read floats in shared memory where clients have them, without a copy; who may register "
        "files can then change them while a model computes",
        own=True,
    ),
    Flag("enable_profiler", "bool", True, "requests", "tensorflow.ProfilerService on the gRPC port"),
    Flag(
        "profile_folder",
        "string",
        "/",
        "requests",
        "folder below which the profiler's clients may have profiles stored; empty: in replies only",
        serve_default="",
        own=True,
    ),
    Flag(
        "max_request_bytes",
        "int64",
        2**31 - 1,
        "requests",
        "largest REST body or gRPC message, bytes, after decompression",
        own=True,
    ),
    Flag(
        "max_memory_in_flight",
        "int64",
        0,
        "requests",
        "bytes that all requests together may hold, from their bodies, unpacked, to replies that are not "
        "taken yet; half of it for each connection; 0: a quarter of the machine's or the container's memory",
        own=True,
    ),
    Flag(
        "header_timeout_seconds",
        "float",
        30.0,
        "requests",
        "time from the first byte of a request's head to its last, on both ports; 0: no limit",
        own=True,
    ),
    Flag(
        "transfer_grace_seconds",
        "float",
        30.0,
        "requests",
        "how long a body may stop coming, or a reply being taken, before it is given up; 0: no limit",
        own=True,
    ),
    Flag(
        "min_transfer_rate",
        "int64",
        1024,
        "requests",
        "bytes a second, on average, that bodies must come and replies be taken at after the grace; 0: any",
        own=True,
    ),
    Flag(
        "max_header_bytes",
        "int32",
        64 * 1024,
        "requests",
        "largest head of a REST request, bytes, from 8192 on; gRPC: grpc.max_metadata_size in "
        "--grpc_channel_arguments",
        own=True,
    ),
    Flag(
        "idle_timeout_seconds",
        "float",
        600.0,
        "requests",
        "how long a connection to the REST port may wait for a request; 0: no limit; gRPC: "
        "grpc.max_connection_idle_ms in --grpc_channel_arguments",
        own=True,
    ),
    Flag(
        "max_connections",
        "int32",
        0,
        "requests",
        "connections at once, on both ports together; more, and those that have waited for their clients for "
        "longest are closed; 0: as many as the limit on open files allows, less a reserve",
        own=True,
    ),
    Flag(
        "max_connections_per_peer",
        "int32",
        0,
        "requests",
        "connections at once of one client (an IPv4 address, or an IPv6 network /64), on both ports; those "
        "of --trusted_proxies are not counted; 0: no limit, but once --max_connections are open, those of a "
        "client that has more than half of them are closed first",
        own=True,
    ),
    Flag(
        "trusted_proxies",
        "strings",
        (),
        "requests",
        "comma list of addresses, networks (10.0.0.0/8,fd00::/8) and unix, the Unix socket: Forwarded, "
        "X-Forwarded-For and the PROXY protocol from there say who the client is",
        own=True,
    ),
    Flag(
        "proxy_protocol",
        "choice",
        "off",
        "requests",
        "header of the PROXY protocol, version 1 or 2, before each connection to both ports: accept it from "
        "--trusted_proxies, or require it, and close all others",
        own=True,
        choices=("off", "accept", "require"),
    ),
    Flag("max_json_depth", "int32", 1000, "requests", "deepest nesting of brackets in a JSON body", own=True),
    Flag(
        "gzip_min_bytes",
        "int64",
        1024,
        "requests",
        "smallest REST reply that is compressed when asked; 0: never compress",
        own=True,
    ),
    Flag(
        "rest_api_zstd",
        "bool",
        False,
        "requests",
        "REST bodies with Content-Encoding: zstd, and replies for clients that accept it, as with gzip",
        serve_default=True,
        own=True,
    ),
    Flag(
        "rest_api_http2_cleartext",
        "bool",
        False,
        "requests",
        "HTTP/2 on the REST port without TLS, for clients that begin with it; with TLS they may choose it",
        serve_default=True,
        own=True,
    ),
    Flag(
        "base64_non_utf8",
        "bool",
        False,
        "requests",
        "REST string outputs that are not UTF-8 as base64 objects; off: raw, as TensorFlow Serving",
        own=True,
    ),
)

_LOADING = (
    Flag(
        "lazy_load",
        "bool",
        False,
        "loading",
        "load a model once it is asked for; its first request waits for that, within its deadline",
        own=True,
    ),
    Flag(
        "memory_budget",
        "string",
        "",
        "loading",
        "most memory of all loaded models, such as 8GB or 8GiB, as it is measured; those that "
        "are used least make room, never one with requests in flight; empty: no limit; needs --lazy_load",
        own=True,
    ),
    Flag(
        "pinned_models",
        "strings",
        (),
        "loading",
        "comma list of models that, with --lazy_load, are loaded from the beginning and never make room; "
        "pinned: true in the config file says so, too",
        own=True,
    ),
    Flag(
        "num_load_threads", "int32", 0, "loading", "versions loaded at once after start-up; 0: one at a time"
    ),
    Flag("num_unload_threads", "int32", 0, "loading", "versions unloaded at once; 0: one at a time"),
    Flag("max_num_load_retries", "int32", 5, "loading", "further tries after a load failed"),
    Flag(
        "load_retry_interval_micros",
        "int64",
        60_000_000,
        "loading",
        "pause between tries, microseconds; negative: none",
    ),
    Flag(
        "aspired_version_policy",
        "choice",
        "availability_preserving",
        "loading",
        "load the new version before the old one goes, or (less memory) after",
        own=True,
        choices=("availability_preserving", "resource_preserving"),
    ),
    Flag(
        "enable_model_warmup",
        "bool",
        True,
        "loading",
        "replay assets.extra/tf_serving_warmup_requests before a version serves",
    ),
    Flag(
        "num_request_iterations_for_warmup",
        "int32",
        0,
        "loading",
        "how often to run each warm-up record; 0: once",
    ),
    Flag(
        "synthetic_warmup",
        "bool",
        True,
        "loading",
        "call each signature with made-up values before it serves, where that is known to change nothing",
        own=True,
    ),
    Flag(
        "exit_on_failed_start",
        "bool",
        False,
        "loading",
        "end with status 255 when a configured model cannot be served at start, as TensorFlow Serving does",
        own=True,
    ),
    Flag(
        "flush_filesystem_caches",
        "bool",
        True,
        "loading",
        "drop file-system caches after loading",
        no_effect="local files need no cache flush",
    ),
    Flag(
        "remove_unused_fields_from_bundle_metagraph",
        "bool",
        True,
        "loading",
        "keep only the signatures of a loaded MetaGraphDef",
        no_effect="only the signatures are ever kept",
    ),
)

_SESSION = (
    Flag(
        "tensorflow_session_parallelism",
        "int64",
        0,
        "session",
        "threads within and between ops, when neither of the next two is set; 0: TensorFlow decides",
    ),
    Flag(
        "tensorflow_intra_op_parallelism",
        "int64",
        0,
        "session",
        "threads within one op; 0: TensorFlow decides",
    ),
    Flag("tensorflow_inter_op_parallelism", "int64", 0, "session", "threads between ops; 0: four per core"),
    Flag(
        "tensorflow_session_config_file",
        "string",
        "",
        "session",
        "text ConfigProto; the thread and GPU memory flags overwrite theirs",
    ),
    Flag(
        "per_process_gpu_memory_fraction",
        "float",
        0.0,
        "session",
        "share of GPU memory to take; 0: TensorFlow decides",
    ),
    Flag("mixed_precision", "string", "", "session", "bfloat16: let oneDNN compute in bfloat16"),
    Flag(
        "engine",
        "choice",
        "tensorflow",
        "session",
        "what runs SavedModels: tensorflow; auto: a faster engine once it is proven to answer the same; "
        "openvino: it, wherever it answers the same. servable serve takes auto only if OpenVINO is there",
        serve_default="auto",
        own=True,
        choices=("auto", "openvino", "tensorflow"),
    ),
    Flag(
        "engine_tolerance",
        "float",
        1e-5,
        "session",
        "how much a number of a faster engine may differ, as a part of its tensor's largest value",
        own=True,
    ),
    Flag(
        "engine_precision",
        "choice",
        "f32",
        "session",
        "what a faster engine computes SavedModels with: f32; bf16, where the processor has it; int8, made "
        "with NNCF (servable[int8]). Answers differ then, and are measured; taken where accurate enough",
        own=True,
        choices=("f32", "bf16", "int8"),
    ),
    Flag(
        "engine_reference_idle_seconds",
        "float",
        0.0,
        "session",
        "after so many seconds without a run that needs it, TensorFlow's session of a model whose signatures "
        "have all moved to a faster engine is let go, which frees the memory of its weights; 0: never. The "
        "price: the next run with a new shape, or with numbers that are not finite, waits until the session "
        "is loaded again, and fails with UNAVAILABLE if the version's files have gone or changed",
        own=True,
    ),
    Flag(
        "tensorflow_onednn",
        "choice",
        "auto",
        "session",
        "oneDNN's kernels in TensorFlow, for the whole process: on is faster, rounds otherwise, and is for "
        "clients that are trusted, as some shapes of inputs end the process; auto: off, unless the "
        "environment says otherwise (TF_ENABLE_ONEDNN_OPTS)",
        own=True,
        choices=("auto", "on", "off"),
    ),
    Flag(
        "run_in",
        "choice",
        "auto",
        "session",
        "where models run: in the caller's thread, in TensorFlow's pool, or as measured at load",
        own=True,
        choices=("auto", "caller", "pool"),
    ),
    Flag(
        "tensorflow_library",
        "string",
        "",
        "session",
        "TensorFlow's library, or its folder; empty: $SERVABLE_TENSORFLOW_LIBRARY, else the installed one",
        own=True,
    ),
    Flag(
        "op_library", "strings", (), "session", "a shared library with further ops; may be repeated", own=True
    ),
    Flag(
        "xla_cpu_compilation_enabled",
        "bool",
        False,
        "session",
        "allow XLA JIT on the CPU",
        no_effect="XLA compiles what a model marks for it, nothing else",
    ),
    Flag(
        "xla_gpu_compilation_enabled",
        "bool",
        False,
        "session",
        "allow XLA JIT on the GPU",
        no_effect="XLA compiles what a model marks for it, nothing else",
    ),
)

_BATCHING = (
    Flag(
        "batching",
        "choice",
        "off",
        "batching",
        "auto: requests that come while their model runs are run together, as many as measurements show "
        "to be worth it; needs no parameters",
        own=True,
        choices=("off", "auto"),
    ),
    Flag(
        "enable_batching",
        "bool",
        False,
        "batching",
        "run requests of several clients as one: rows that came while another run went on, up to 1000",
    ),
    Flag(
        "batching_parameters_file",
        "string",
        "",
        "batching",
        "text BatchingParameters; needs --enable_batching",
    ),
    Flag(
        "enable_per_model_batching_parameters",
        "bool",
        False,
        "batching",
        "read batching_params.pbtxt from each version's folder, and batch no version without; "
        "needs --enable_batching",
    ),
)

_PROCESS = (
    Flag(
        "monitoring_config_file",
        "string",
        "",
        "process",
        "text MonitoringConfig: Prometheus metrics on the REST port",
    ),
    Flag(
        "metrics_path",
        "string",
        "",
        "process",
        "path of all metrics, for Prometheus, on the REST port and the administration's; empty: off",
        serve_default="/metrics",
        own=True,
    ),
    Flag(
        "console",
        "bool",
        True,
        "process",
        "the console, a web page to look at the server with: at the administration's address, and with "
        "servable serve on the REST port, at /",
        own=True,
    ),
    Flag(
        "io_threads",
        "int32",
        0,
        "process",
        "threads that read and answer requests; 0: one per core",
        own=True,
    ),
    Flag(
        "compute_threads",
        "int32",
        0,
        "process",
        "requests that run at once, apart from those short enough for the I/O threads; 0: two per core",
        own=True,
    ),
    Flag(
        "drain_delay_seconds",
        "float",
        0.0,
        "process",
        "after SIGTERM or SIGINT, how long new connections are still answered, while clients are told to go "
        "elsewhere and /readyz says no; longer than a load balancer takes to notice",
        own=True,
    ),
    Flag(
        "shutdown_grace_seconds",
        "float",
        30.0,
        "process",
        "how long requests in flight may take after SIGTERM or SIGINT, and after the drain delay",
        own=True,
    ),
    Flag(
        "admin_address",
        "string",
        "",
        "process",
        "HOST:PORT of the administration: /admin, /livez, /readyz; empty: off",
        own=True,
    ),
    Flag(
        "admin_token",
        "string",
        "",
        "process",
        "bearer token of the administration; better in $SERVABLE_ADMIN_TOKEN, where no process list shows it",
        own=True,
    ),
    Flag("version", "bool", False, "process", "print the versions of the server and of TensorFlow, and exit"),
)

_LOGS = (
    Flag(
        "log_level",
        "choice",
        "info",
        "logs",
        "least severe lines to log",
        own=True,
        choices=("debug", "info", "warning", "error"),
    ),
    Flag(
        "log_format",
        "choice",
        "text",
        "logs",
        "json: each line is an object, also those of TensorFlow and other libraries",
        own=True,
        choices=("text", "json"),
    ),
    Flag(
        "access_log",
        "choice",
        "off",
        "logs",
        "log a line for each request, or for each that fails",
        own=True,
        choices=("off", "errors", "all"),
    ),
    Flag(
        "access_log_sample",
        "float",
        1.0,
        "logs",
        "share of these requests that is logged, from 0.0 to 1.0, chosen by chance",
        own=True,
    ),
    Flag(
        "access_log_file",
        "string",
        "stdout",
        "logs",
        "stdout, stderr, or a file to append to, which may be renamed at any time",
        own=True,
    ),
    Flag(
        "request_ids",
        "choice",
        "off",
        "logs",
        "which identifiers are returned as X-Request-Id, and as metadata x-request-id over gRPC: those that "
        "clients sent (given), also ones that are made for requests that are logged or traced (told), or for "
        "all (all); auto: told with an access log, otherwise given",
        serve_default="auto",
        own=True,
        choices=("auto", "off", "given", "told", "all"),
    ),
    Flag(
        "payload_log_dir",
        "string",
        "",
        "logs",
        "folder in which the files of every logging_config must lie; empty: anywhere, but nothing new by "
        "HandleReloadConfigRequest",
        own=True,
    ),
    Flag(
        "payload_log_max_bytes",
        "int64",
        128 << 20,
        "logs",
        "size from which on a file of a payload log is followed by another; 0: no limit",
        own=True,
    ),
    Flag(
        "payload_log_max_seconds",
        "float",
        3600.0,
        "logs",
        "age at which it is; 0: no limit",
        own=True,
    ),
)

_THREADS = "the server sizes its own threads; see --io_threads and --compute_threads"

_OTHER = (
    Flag("rest_api_num_threads", "int32", 4 * CPUS, "other", "REST threads", no_effect=_THREADS),
    Flag("grpc_max_threads", "int32", 4 * CPUS, "other", "gRPC threads", no_effect=_THREADS),
    Flag(
        "num_tflite_pools",
        "int32",
        CPUS,
        "other",
        "TensorFlow Lite interpreter pools",
        no_effect="the engine makes interpreters as requests need them",
    ),
    Flag(
        "num_tflite_interpreters_per_pool",
        "int32",
        1,
        "other",
        "TensorFlow Lite interpreters in each pool",
        no_effect="the engine makes interpreters as requests need them",
    ),
    Flag(
        "thread_pool_factory_config_file",
        "string",
        "",
        "other",
        "text ThreadPoolFactoryConfig",
        no_effect="there is no thread pool factory to configure; see --tensorflow_intra_op_parallelism",
    ),
    Flag(
        "skip_initialize_tpu", "bool", False, "other", "TPU builds only", no_effect="there is no TPU support"
    ),
)

_OVERLOAD = (
    Flag(
        "max_queue_milliseconds",
        "int64",
        None,
        "overload",
        "a request is refused at once if it would wait longer than this for a model's threads; off: only if "
        "it would be too late for its deadline, or if clients do not wait that long",
        own=True,
    ),
    Flag(
        "max_requests_in_flight",
        "int64",
        None,
        "overload",
        "requests that wait for a model's threads or run there, of all models",
        own=True,
    ),
    Flag(
        "max_requests_in_flight_per_model",
        "int64",
        None,
        "overload",
        "the same for each model",
        own=True,
    ),
    Flag(
        "max_memory_in_flight_per_model",
        "int64",
        None,
        "overload",
        "bytes that such requests of a model may hold; the first is accepted in any case",
        own=True,
    ),
    Flag(
        "model_weights",
        "string",
        "",
        "overload",
        "NAME=WEIGHT,…: shares of the threads when several models want them; 1 for the others",
        own=True,
    ),
)

_GROUPED = (_MODELS, _PORTS, _REQUESTS, _OVERLOAD, _LOADING, _SESSION, _BATCHING, _PROCESS, _LOGS, _OTHER)

FLAGS: dict[str, Flag] = {flag.name: flag for group in _GROUPED for flag in group}
"""Every flag by its name, in the order of the help text."""


def nearest(name: str, names: Iterable[str] | None = None) -> str:
    """Returns the flag whose name is closest to ``name`` (underscored), or "" if none is close."""
    import difflib

    found = difflib.get_close_matches(name, list(names or FLAGS), n=1, cutoff=0.6)
    return found[0] if found else ""


def shown(value: Value) -> str:
    """Formats a default or value as a user would type it: ``true``, ``off``, ``""``."""
    if value is None:
        return "off"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ",".join(value)
    return str(value)


def no_effect_lines(values: dict[str, Value], serve: bool) -> list[str]:
    """Returns a sentence for each flag that is set to other than its default and has no effect here."""
    return [
        f"--{flag.name}={shown(values[flag.name])} has no effect: {flag.no_effect}"
        for flag in FLAGS.values()
        if flag.no_effect and values.get(flag.name, flag.default) != flag.default_for(serve)
    ]
