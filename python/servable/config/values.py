"""The configuration as frozen values, from which the rest of the control plane is built.

``Arguments`` (as given) become a ``ServerConfig`` in ``settings.py``; text files become the same types in
``config_files.py``. Nothing here reads a file or the environment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from servable.config.flags import CPUS
from servable.config.traffic import Traffic
from servable.errors import StatusError, invalid_argument

PLATFORM = "tensorflow"
"""The only platform (TensorFlow Serving's stock build knows no other either)."""


@dataclass(frozen=True)
class Latest:
    """The ``count`` numerically highest versions; 0 counts as 1."""

    count: int = 1


@dataclass(frozen=True)
class All:
    """Every version."""


@dataclass(frozen=True)
class Specific:
    """The listed versions that exist. An empty list serves nothing."""

    versions: tuple[int, ...]


@dataclass(frozen=True)
class Folder:
    """``base_path`` itself is one version, a folder or a file, which is served under this number."""

    version: int


VersionPolicy = Latest | All | Specific | Folder


@dataclass(frozen=True)
class LoggingConfig:
    """What a model's ``logging_config`` says.

    collector: the form of the files; prefix: the beginning of their paths; rate: the share of requests.
    sampling and message: its SamplingConfig and itself, serialized.
    """

    collector: str = ""
    prefix: str = ""
    rate: float = 0.0
    sampling: bytes = b""
    message: bytes = b""


@dataclass(frozen=True)
class ModelConfig:
    """One model: its name, the location of its versions, and the policy that selects among them.

    labels: label → version; applied whenever the version is available. logging: which requests are logged.
    traffic: how requests are spread that name no version; None: the latest version gets them. pinned: with
    --lazy_load, its versions are loaded from the beginning and stay.
    """

    name: str
    base_path: str
    platform: str = PLATFORM
    policy: VersionPolicy = field(default_factory=Latest)
    labels: Mapping[str, int] = field(default_factory=dict)
    logging: LoggingConfig | None = None
    traffic: Traffic | None = None
    pinned: bool = False


@dataclass(frozen=True)
class AccessLogOptions:
    """The access log; the core reads these attributes by name.

    share: of the requests, from 0 to 1. output: ``stdout``, ``stderr``, or an absolute path. format: ``text``
    or ``json``.
    """

    errors_only: bool = False
    share: float = 1.0
    output: str = "stdout"
    format: str = "text"


@dataclass(frozen=True)
class PayloadLog:
    """The payload log of a model; the core reads these attributes by name.

    form: ``tfrecord`` or ``json``. prefix: the beginning of the paths of its files. share: of the requests,
    from 0 to 1. sampling_config: a serialized SamplingConfig, and tags: those of the model's graph, for the
    records.
    """

    model: str
    form: str
    prefix: str
    share: float
    sampling_config: bytes = b""
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class TlsOptions:
    """PEM texts (not paths) for the gRPC port.

    client_verify: a client certificate is required and verified.
    """

    key: str
    certificate: str
    client_ca: str = ""
    client_verify: bool = False


@dataclass(frozen=True)
class TlsFiles:
    """PEM files for TLS on both ports and the administration, which are followed while they change.

    The core reads these attributes by name. client_ca: clients must have a certificate of its authorities.
    """

    certificate: str
    key: str
    client_ca: str | None = None


@dataclass(frozen=True)
class GrpcLimits:
    """Limits on gRPC messages, calls and connections; the core reads these by name.

    Sizes in bytes, times in milliseconds. None: the core's own choice; 2**31 - 1 ms: forever. For the meaning
    and range of each see ``src/http2/limits.rs``.
    """

    max_receive_bytes: int = 2**31 - 1
    max_send_bytes: int = 2**31 - 1
    max_calls: int | None = None
    max_header_bytes: int | None = None
    header_table_bytes: int | None = None
    max_frame_bytes: int | None = None
    call_window: int | None = None
    asked_every_ms: int | None = None
    answered_within_ms: int | None = None
    keys_within_ms: int | None = None
    max_idle_ms: int | None = None
    max_age_ms: int | None = None
    max_age_grace_ms: int | None = None


@dataclass(frozen=True)
class QueueLimits:
    """What may wait for and use the threads of models; the core reads these attributes by name.

    None is no limit. max_queue_milliseconds: the longest predicted wait. The others count requests, and their
    bytes, that wait or run. model_weights: shares of the threads by model; 1 for those without.
    """

    max_queue_milliseconds: int | None = None
    max_requests_in_flight: int | None = None
    max_requests_in_flight_per_model: int | None = None
    max_memory_in_flight_per_model: int | None = None
    model_weights: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class CoreOptions:
    """Options of the core's ``Server``, which reads these attributes by name.

    Addresses are ``host:port`` (``[::]:8501``; port 0: any free one) or None for a port that stays closed.
    Sizes in bytes, ``rest_timeout_ms`` in milliseconds (0 or less: none), thread counts 0 for the core's own
    choice; batch_threads 0 if requests are not batched.

    header_timeout_seconds: from a request head's first byte to its last. transfer_grace_seconds: longest
    pause of a body or a reply; one that takes longer than this in all must average min_transfer_rate bytes a
    second. 0 is no limit for each of them. grpc_socket_takeover: from a server that listens there.
    libraries: the shared library of each engine that was found; missing_engines: for the others, why there is
    none. tls_files: of all ports, unless gRPC has its grpc_tls. auth_file: of the tokens that requests need,
    None if they need none. health_pages: on the REST port. cors: TensorFlow Serving's headers; cors_origins:
    whose pages may use the REST port, as browsers write them, or ``*``. grpc_web: on the REST port.
    open_inference: the Open Inference Protocol on the REST port and the gRPC port. openapi: descriptions of
    the API on the REST port. shared_memory: with what the names of files begin that clients of that protocol
    may register, empty for any; None if they may not. tensorflow_library: as stated. max_connections: on all
    ports; 0 for as many as there are descriptors for. max_connections_per_peer: 0 for no limit.
    idle_timeout_seconds: of connections of REST.
    trusted_proxies: networks, addresses and ``unix``; proxy_protocol: what they may say, or must, before a
    connection. prometheus_path: of TensorFlow Serving's metrics; metrics_path: of all; None for neither.
    console: the web page, and the history of traffic that it tells; ``nowhere``, at the ``administration``'s
    address, or ``everywhere``: on the REST port, too.
    max_memory_in_flight: bytes that all requests together may hold. profile_folder: where clients may
    have profiles stored, None for nowhere. request_ids: which are returned; ``off``, ``given``, ``told`` or
    ``all``.
    payload_file_bytes, payload_file_seconds: size and age at which a file of a payload log is followed by
    another. lazy_load: models may be loaded once they are asked for; memory_budget: what they may take, for
    metrics.
    """

    rest_address: str | None = None
    grpc_address: str | None = None
    grpc_socket_path: str | None = None
    grpc_socket_takeover: bool = False
    grpc_tls: TlsOptions | None = None
    tls_files: TlsFiles | None = None
    auth_file: str | None = None
    health_pages: bool = False
    open_inference: bool = False
    openapi: bool = False
    shared_memory: str | None = None
    shared_memory_in_place: bool = False
    grpc_limits: GrpcLimits = field(default_factory=GrpcLimits)
    rest_timeout_ms: int = 30000
    cors: bool = False
    cors_origins: tuple[str, ...] = ()
    grpc_web: bool = False
    max_body_bytes: int = 2**31 - 1
    max_header_bytes: int = 64 * 1024
    header_timeout_seconds: float = 30.0
    transfer_grace_seconds: float = 30.0
    min_transfer_rate: int = 1024
    max_connections: int = 0
    max_connections_per_peer: int = 0
    idle_timeout_seconds: float = 600.0
    trusted_proxies: tuple[str, ...] = ()
    proxy_protocol: str = "off"
    max_memory_in_flight: int = 1 << 30
    max_depth: int = 1000
    gzip_min_bytes: int = 1024
    zstd: bool = False
    http2_cleartext: bool = False
    io_threads: int = 0
    compute_threads: int = 0
    queue_limits: QueueLimits = field(default_factory=QueueLimits)
    batch_threads: int = 0
    tensorflow_library: str = ""
    libraries: dict[str, str] = field(default_factory=dict)
    missing_engines: dict[str, str] = field(default_factory=dict)
    op_libraries: tuple[str, ...] = ()
    prometheus_path: str | None = None
    metrics_path: str | None = None
    console: str = "nowhere"
    tensor_content: bool = False
    base64_non_utf8: bool = False
    method_name_check: bool = False
    grpc_health: bool = False
    profiler: bool = True
    profile_folder: str | None = None
    access_log: AccessLogOptions | None = None
    request_ids: str = "off"
    payload_file_bytes: int = 128 << 20
    payload_file_seconds: float = 3600.0
    lazy_load: bool = False
    memory_budget: int | None = None
    log_level: str = "info"
    log_format: str = "text"
    backlog: int = 1024


@dataclass(frozen=True)
class BatchingOptions:
    """Options for running requests of several clients together; the core reads these attributes by name.

    The fields and defaults are those of TensorFlow Serving's BatchingParameters. Sizes in rows:
    max_batch_size is the largest request, and the largest batch unless enable_large_batch_splitting spreads
    requests over batches of max_execution_batch_size. num_batch_threads: batches that run at once in the
    whole server.
    """

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = CPUS
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    enable_large_batch_splitting: bool = False
    max_execution_batch_size: int = 1000


@dataclass(frozen=True)
class LoadOptions:
    """Options for loading one version; the core reads these attributes by name.

    tags: must equal the tag set of one meta graph. session_config: a serialized tensorflow.ConfigProto, or
    empty. placement: ``auto`` (measured), ``caller`` or ``pool``. warmup_iterations: runs of each warm-up
    record. retrying: a failure is not final, the version stays LOADING. batching: None if requests are not
    batched by parameters; batching_per_version: a version has its own in its folder, or none.
    automatic_batching: requests are batched without parameters.

    engine: of SavedModels; ``tensorflow``, ``auto`` (moved to a faster one whose answers are the same) or
    ``openvino`` (moved where its answers are the same, faster or not). engine_tolerance: the accepted
    difference of numbers, relative to a tensor's largest value. engine_cache: a folder for what was
    decided; engine_fresh: it is measured again whatever is there. engine_precision: ``f32``, ``bf16`` or
    ``int8``; engine_quantizer: the beginning of the command line that makes int8 models.
    engine_reference_idle: seconds without use until TensorFlow's session is let go where all runs have
    moved to a faster engine, or None: it stays.
    prefer_tflite: of a SavedModel and a TensorFlow Lite model in one folder, the latter is served.
    most_memory: bytes that the version may take, as far as that is measured.
    """

    tags: tuple[str, ...] = ("serve",)
    session_config: bytes = b""
    placement: str = "auto"
    warmup: bool = True
    warmup_iterations: int = 1
    synthetic_warmup: bool = False
    retrying: bool = False
    batching: BatchingOptions | None = None
    batching_per_version: bool = False
    automatic_batching: bool = False
    engine: str = "tensorflow"
    engine_tolerance: float = 1e-5
    engine_cache: str = ""
    engine_fresh: bool = False
    engine_precision: str = "f32"
    engine_quantizer: tuple[str, ...] = ()
    engine_reference_idle: float | None = None
    prefer_tflite: bool = False
    most_memory: int | None = None


@dataclass(frozen=True)
class LifecycleOptions:
    """Options of the manager for loading and unloading.

    start_threads: concurrent loads during startup; load_threads, unload_threads: afterwards. retries: further
    attempts after the first; retry_seconds: the pause between; final_errors: messages of the failures that no
    further attempt mends, such as that of a missing engine. policy: see ``lifecycle/policy.py``.
    allowed_base_paths: the prefixes that base paths must lie in, if any; see ``base_paths.py``.
    payload_log_dir: the folder that payload logs must lie in, if any; see ``payload_logging.py``.
    lazy_load: models are loaded once they are asked for, but for pinned_models. memory_budget: bytes that all
    loaded versions may take, 0 for no limit; see ``lifecycle/memory_budget.py``.
    """

    start_threads: int = 4
    load_threads: int = 1
    unload_threads: int = 1
    retries: int = 5
    retry_seconds: float = 60.0
    final_errors: tuple[str, ...] = ()
    policy: str = "availability_preserving"
    allowed_base_paths: tuple[str, ...] = ()
    payload_log_dir: str = ""
    lazy_load: bool = False
    memory_budget: int = 0
    pinned_models: tuple[str, ...] = ()


@dataclass(frozen=True)
class AdminOptions:
    """Where the administration listens (``host:port``) and the bearer token it asks for, "" for none.

    The core reads these attributes by name. request_seconds: from the opening of a connection, or its last
    answer, until the next request has come whole; and until an answer is taken. max_connections: open at
    once. max_answered: requests that operations answer at once, some for an hour; health is not counted.
    """

    address: str
    token: str = field(default="", repr=False)
    request_seconds: float = 30.0
    max_connections: int = 64
    max_answered: int = 32


@dataclass(frozen=True)
class ServerConfig:
    """Everything a server is started from.

    poll_seconds: pause between polls of local base paths (0: poll once; None: never); remote_poll_seconds: of
    remote stores, whose versions are fetched into cache_dir, archives up to max_archive_bytes.
    model_config_file is read again every config_poll_seconds (None: never) while serving. wait_for_retries:
    the ports stay closed until a failing model has used up its retries (as in TensorFlow Serving), otherwise
    until its first attempt has failed. allow_reload_rpc: clients may change the models by
    HandleReloadConfigRequest. allow_model_control: and load and unload them by the Open Inference Protocol.
    handover_socket: where the ports are taken over from a running server, and
    handed over to the next one; "" for nowhere. On shutdown the server answers new connections for
    drain_delay_seconds, then allows requests in flight grace_seconds.
    """

    models: tuple[ModelConfig, ...]
    core: CoreOptions
    load: LoadOptions
    lifecycle: LifecycleOptions
    poll_seconds: float | None = 1.0
    model_config_file: str = ""
    config_poll_seconds: float | None = None
    allow_reload_rpc: bool = True
    allow_model_control: bool = False
    drain_delay_seconds: float = 0.0
    grace_seconds: float = 30.0
    wait_for_retries: bool = False
    exit_on_failed_start: bool = False
    allow_unavailable_labels: bool = False
    models_dir: str = ""
    admin: AdminOptions | None = None
    handover_socket: str = ""
    remote_poll_seconds: float | None = 30.0
    cache_dir: str = ""
    max_archive_bytes: int = 1 << 32


def check_models(models: tuple[ModelConfig, ...], current: tuple[ModelConfig, ...] = ()) -> None:
    """Raises ``StatusError`` if TensorFlow Serving refuses the list of models, before anything has changed.

    current: the models served now; a kept name must keep its platform.
    """
    seen: set[str] = set()
    for model in models:
        if model.name in seen:
            raise invalid_argument(
                f"Illegal to list model {model.name} multiple times in config list",
                "give one of them another name",
            )
        seen.add(model.name)
        if not is_absolute(model.base_path):
            raise invalid_argument(
                f"Expected model {model.name} to have an absolute path or URI; "
                f"got base_path()={model.base_path}"
            )
    platforms = {model.name: model.platform for model in current}
    for model in models:
        before = platforms.get(model.name, model.platform)
        if before != model.platform:
            raise invalid_argument(
                f"Illegal to change a model's platform. For model {model.name} platform was {before} "
                f"and new platform requested is {model.platform}"
            )
        _check_servable(model)


def _check_servable(model: ModelConfig) -> None:
    if model.platform != PLATFORM:
        raise invalid_argument(f"Model {model.name} requests unsupported platform {model.platform}")
    if "\0" in model.base_path:
        raise invalid_argument(
            f"Expected model {model.name} to have a path without a NUL; got base_path()={model.base_path!r}"
        )
    if not _is_uri_or_path(model.base_path):
        raise invalid_argument(
            f"Expected model {model.name} to have a path or URI that can be read; "
            f"got base_path()={model.base_path!r}",
            "a host in brackets is an IPv6 address: http://[::1]:8000/model.zip",
        )
    for text in (model.name, *model.labels):
        # JSON can write them, protobuf and logs cannot.
        if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
            raise invalid_argument(f"A name or a label of model {model.name!a} is not UTF-8: {text!a}")
    if any(not -(2**63) <= version < 2**63 for version in model.labels.values()):
        raise StatusError("INVALID_ARGUMENT", f"A label of model {model.name} is outside of int64")


def _is_uri_or_path(path: str) -> bool:
    """False for a URI that cannot be taken apart."""
    if "://" not in path:
        return True
    try:
        urlsplit(path)
    except ValueError:
        return False
    return True


def is_absolute(path: str) -> bool:
    """True for an absolute path and for a URI such as ``s3://bucket/models``."""
    scheme, colon, _ = path.partition("://")
    return path.startswith("/") or bool(colon and scheme and scheme[0].isalpha() and _is_scheme(scheme))


def _is_scheme(text: str) -> bool:
    return all(character.isascii() and (character.isalnum() or character in "+-.") for character in text)
