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
    "loading": "Loading and unloading",
    "session": "TensorFlow",
    "batching": "Batching",
    "process": "The process",
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
        """The value when not given, for ``servable serve`` or for ``tensorflow_model_server``."""
        if serve and self.serve_default is not None:
            return self.serve_default
        return self.default


def _models() -> Iterable[Flag]:
    group = "models"
    yield Flag(
        "model_name", "string", "default", group, "name of the model when one is served by --model_base_path"
    )
    yield Flag(
        "model_base_path",
        "string",
        "",
        group,
        "folder that holds the model's version folders (.../model/1, .../model/2); an absolute path",
    )
    yield Flag(
        "model_config_file",
        "string",
        "",
        group,
        "text ModelServerConfig that lists the models; replaces the two above",
    )
    yield Flag(
        "model_config_file_poll_wait_seconds",
        "int32",
        0,
        group,
        "read the config file again this often and apply it; 0 or less: never",
    )
    yield Flag(
        "file_system_poll_wait_seconds",
        "int32",
        1,
        group,
        "how often to look for new versions; 0: once, negative: never",
    )
    yield Flag(
        "allow_version_labels_for_unavailable_models",
        "bool",
        False,
        group,
        "accept new labels on versions that are not available yet",
    )
    yield Flag(
        "saved_model_tags", "string", "serve", group, "comma list; must equal the tag set of one meta graph"
    )
    yield Flag(
        "prefer_tflite_model",
        "bool",
        False,
        group,
        "serve model.tflite where a version has one",
        no_effect="TensorFlow Lite models are not served yet: saved_model.pb is loaded",
    )
    yield Flag(
        "platform_config_file",
        "string",
        "",
        group,
        "text PlatformConfigMap that replaces the session flags",
    )


def _ports() -> Iterable[Flag]:
    group = "ports"
    yield Flag(
        "port",
        "port",
        8500,
        group,
        "gRPC port; tensorflow_model_server: 0 is off; serve: 0 is any free port, off is off",
    )
    yield Flag("grpc_socket_path", "string", "", group, "also answer gRPC on this Unix socket")
    yield Flag(
        "rest_api_port",
        "port",
        0,
        group,
        "REST port; tensorflow_model_server: 0 is off; serve: 0 is any free port, off is off",
        serve_default=8501,
    )
    yield Flag("host", "string", "", group, "address to bind both ports to; empty: every interface", own=True)
    yield Flag(
        "ssl_config_file",
        "string",
        "",
        group,
        "text SSLConfig (PEM texts): TLS on the gRPC port",
        no_effect="TLS is not served yet: the gRPC port stays closed, rather than open without it",
    )
    yield Flag(
        "use_alts_credentials",
        "bool",
        False,
        group,
        "Google's ALTS on the gRPC port",
        no_effect="ALTS exists only inside Google's cloud: gRPC is served without it",
    )


def _requests() -> Iterable[Flag]:
    group = "requests"
    yield Flag(
        "rest_api_timeout_in_ms",
        "int32",
        30000,
        group,
        "time a REST request may take, milliseconds; 0 or less: no limit",
    )
    yield Flag("rest_api_enable_cors_support", "bool", False, group, "CORS headers on /v1/ replies")
    yield Flag(
        "enable_signature_method_name_check",
        "bool",
        False,
        group,
        "refuse classify and regress on signatures whose method name says otherwise",
    )
    yield Flag(
        "enable_serialization_as_tensor_content",
        "bool",
        False,
        group,
        "gRPC Predict outputs as tensor_content",
    )
    yield Flag(
        "enable_grpc_healthcheck_service",
        "bool",
        False,
        group,
        "grpc.health.v1 on the gRPC port",
        serve_default=True,
    )
    yield Flag("enable_profiler", "bool", True, group, "tensorflow.ProfilerService on the gRPC port")
    yield Flag(
        "max_request_bytes",
        "int64",
        2**31 - 1,
        group,
        "largest request body, bytes, after decompression",
        own=True,
    )
    yield Flag("max_json_depth", "int32", 1000, group, "deepest nesting of brackets in a JSON body", own=True)
    yield Flag(
        "gzip_min_bytes",
        "int64",
        1024,
        group,
        "smallest REST reply that is compressed when asked; 0: never compress",
        own=True,
    )


def _loading() -> Iterable[Flag]:
    group = "loading"
    yield Flag(
        "num_load_threads", "int32", 0, group, "versions loaded at once after start-up; 0: one at a time"
    )
    yield Flag("num_unload_threads", "int32", 0, group, "versions unloaded at once; 0: one at a time")
    yield Flag("max_num_load_retries", "int32", 5, group, "further tries after a load failed")
    yield Flag(
        "load_retry_interval_micros",
        "int64",
        60_000_000,
        group,
        "pause between tries, microseconds; negative: none",
    )
    yield Flag(
        "aspired_version_policy",
        "choice",
        "availability_preserving",
        group,
        "load the new version before the old one goes, or (less memory) after",
        own=True,
        choices=("availability_preserving", "resource_preserving"),
    )
    yield Flag(
        "enable_model_warmup",
        "bool",
        True,
        group,
        "replay assets.extra/tf_serving_warmup_requests before a version serves",
    )
    yield Flag(
        "num_request_iterations_for_warmup",
        "int32",
        0,
        group,
        "how often to run each warm-up record; 0: once",
    )
    yield Flag(
        "synthetic_warmup",
        "bool",
        False,
        group,
        "without a warm-up file, make one call from the signature before a version serves",
        own=True,
    )
    yield Flag(
        "exit_on_failed_start",
        "bool",
        False,
        group,
        "end with status 255 when a configured model cannot be served at start, as TensorFlow Serving does",
        own=True,
    )
    yield Flag(
        "flush_filesystem_caches",
        "bool",
        True,
        group,
        "drop file-system caches after loading",
        no_effect="local files need no cache flush",
    )
    yield Flag(
        "remove_unused_fields_from_bundle_metagraph",
        "bool",
        True,
        group,
        "keep only the signatures of a loaded MetaGraphDef",
        no_effect="only the signatures are ever kept",
    )


def _session() -> Iterable[Flag]:
    group = "session"
    yield Flag(
        "tensorflow_session_parallelism",
        "int64",
        0,
        group,
        "threads within and between ops, when neither of the next two is set; 0: TensorFlow decides",
    )
    yield Flag(
        "tensorflow_intra_op_parallelism", "int64", 0, group, "threads within one op; 0: TensorFlow decides"
    )
    yield Flag(
        "tensorflow_inter_op_parallelism", "int64", 0, group, "threads between ops; 0: TensorFlow decides"
    )
    yield Flag(
        "tensorflow_session_config_file",
        "string",
        "",
        group,
        "text ConfigProto; the thread and GPU memory flags overwrite theirs",
    )
    yield Flag(
        "per_process_gpu_memory_fraction",
        "float",
        0.0,
        group,
        "share of GPU memory to take; 0: TensorFlow decides",
    )
    yield Flag("mixed_precision", "string", "", group, "bfloat16: let oneDNN compute in bfloat16")
    yield Flag(
        "run_in",
        "choice",
        "auto",
        group,
        "where models run: in the caller's thread, in TensorFlow's pool, or as measured at load",
        own=True,
        choices=("auto", "caller", "pool"),
    )
    yield Flag(
        "tensorflow_library",
        "string",
        "",
        group,
        "TensorFlow's library, or its folder; empty: $SERVABLE_TENSORFLOW_LIBRARY, else the installed one",
        own=True,
    )
    yield Flag(
        "op_library", "strings", (), group, "a shared library with further ops; may be repeated", own=True
    )
    yield Flag(
        "xla_cpu_compilation_enabled",
        "bool",
        False,
        group,
        "allow XLA JIT on the CPU",
        no_effect="XLA compiles what a model marks for it, nothing else",
    )
    yield Flag(
        "xla_gpu_compilation_enabled",
        "bool",
        False,
        group,
        "allow XLA JIT on the GPU",
        no_effect="XLA compiles what a model marks for it, nothing else",
    )


def _batching() -> Iterable[Flag]:
    group = "batching"
    pending = "requests are not batched yet: each runs on its own"
    yield Flag(
        "enable_batching", "bool", False, group, "run requests of several clients as one", no_effect=pending
    )
    yield Flag(
        "batching_parameters_file",
        "string",
        "",
        group,
        "text BatchingParameters; needs --enable_batching",
        no_effect=pending,
    )
    yield Flag(
        "enable_per_model_batching_parameters",
        "bool",
        False,
        group,
        "read batching_params.pbtxt from each version's folder; needs --enable_batching",
        no_effect=pending,
    )


def _process() -> Iterable[Flag]:
    group = "process"
    yield Flag(
        "monitoring_config_file",
        "string",
        "",
        group,
        "text MonitoringConfig: Prometheus metrics on the REST port",
    )
    yield Flag(
        "io_threads", "int32", 0, group, "threads that read and answer requests; 0: one per core", own=True
    )
    yield Flag(
        "compute_threads",
        "int32",
        0,
        group,
        "threads that run models too slow for the I/O threads; 0: four per core",
        own=True,
    )
    yield Flag(
        "shutdown_grace_seconds",
        "float",
        30.0,
        group,
        "how long requests in flight may take after SIGTERM or SIGINT",
        own=True,
    )
    yield Flag(
        "log_level",
        "choice",
        "info",
        group,
        "least severe lines to log",
        own=True,
        choices=("debug", "info", "warning", "error"),
    )
    yield Flag(
        "version", "bool", False, group, "print the versions of the server and of TensorFlow, and exit"
    )


def _other() -> Iterable[Flag]:
    group = "other"
    threads = "the server sizes its own threads; see --io_threads and --compute_threads"
    yield Flag("rest_api_num_threads", "int32", 4 * CPUS, group, "REST threads", no_effect=threads)
    yield Flag("grpc_max_threads", "int32", 4 * CPUS, group, "gRPC threads", no_effect=threads)
    yield Flag(
        "grpc_channel_arguments",
        "string",
        "",
        group,
        "comma list of k=v for gRPC's C core",
        no_effect="the gRPC port is not served by gRPC's C core, which these arguments tune",
    )
    yield Flag(
        "num_tflite_pools",
        "int32",
        CPUS,
        group,
        "TensorFlow Lite interpreter pools",
        no_effect="TensorFlow Lite models are not served yet",
    )
    yield Flag(
        "num_tflite_interpreters_per_pool",
        "int32",
        1,
        group,
        "TensorFlow Lite interpreters in each pool",
        no_effect="TensorFlow Lite models are not served yet",
    )
    yield Flag(
        "thread_pool_factory_config_file",
        "string",
        "",
        group,
        "text ThreadPoolFactoryConfig",
        no_effect="there is no thread pool factory to configure; see --tensorflow_intra_op_parallelism",
    )
    yield Flag(
        "skip_initialize_tpu", "bool", False, group, "TPU builds only", no_effect="there is no TPU support"
    )


def _all() -> dict[str, Flag]:
    makers = (_models, _ports, _requests, _loading, _session, _batching, _process, _other)
    return {flag.name: flag for maker in makers for flag in maker()}


FLAGS: dict[str, Flag] = _all()
"""Every flag by its name, in the order of the help text."""


def nearest(name: str, names: Iterable[str] | None = None) -> str:
    """The flag whose name is closest to ``name`` (underscored), or "" when none is close."""
    import difflib

    found = difflib.get_close_matches(name, list(names or FLAGS), n=1, cutoff=0.6)
    return found[0] if found else ""


def shown(value: Value) -> str:
    """A default or value as one would type it: ``true``, ``off``, ``""``."""
    if value is None:
        return "off"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ",".join(value)
    return str(value)


def no_effect_lines(values: dict[str, Value], serve: bool) -> list[str]:
    """One sentence for each flag that was set to another value than its default and does nothing here."""
    return [
        f"--{flag.name}={shown(values[flag.name])} has no effect: {flag.no_effect}"
        for flag in FLAGS.values()
        if flag.no_effect and values.get(flag.name, flag.default) != flag.default_for(serve)
    ]
