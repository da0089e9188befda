"""The compiled core. Every method releases the GIL and may be called from any thread.

Import it first on a thread that lives until the process ends (the main thread).
"""

from collections.abc import Callable, Sequence
from typing import Final, Protocol, final

__all__ = [
    "STATES",
    "Administration",
    "BenchOutcome",
    "BenchRun",
    "BenchSeen",
    "BenchTimes",
    "CoreError",
    "LoadReport",
    "Numbers",
    "Pending",
    "Server",
    "bench_ask",
    "bench_picture",
    "crc32c",
    "describe",
    "descriptors",
    "give_back_stderr",
    "init_logging",
    "keep_log",
    "kept_log",
    "metrics",
    "preload",
    "take_over_stderr",
    "tokens",
    "version",
]

STATES: Final[tuple[str, ...]]
"""The states of a version, in the order of its life."""

class TlsOptions(Protocol):
    """``config.values.TlsOptions``, as far as the core reads it."""
    @property
    def key(self) -> str: ...
    @property
    def certificate(self) -> str: ...
    @property
    def client_ca(self) -> str: ...
    @property
    def client_verify(self) -> bool: ...

class TlsFiles(Protocol):
    """``config.values.TlsFiles``, as far as the core reads it."""
    @property
    def certificate(self) -> str: ...
    @property
    def key(self) -> str: ...
    @property
    def client_ca(self) -> str | None: ...

class GrpcLimits(Protocol):
    """``config.values.GrpcLimits``, as far as the core reads it."""
    @property
    def max_receive_bytes(self) -> int: ...
    @property
    def max_send_bytes(self) -> int: ...
    @property
    def max_calls(self) -> int | None: ...
    @property
    def max_header_bytes(self) -> int | None: ...
    @property
    def header_table_bytes(self) -> int | None: ...
    @property
    def max_frame_bytes(self) -> int | None: ...
    @property
    def call_window(self) -> int | None: ...
    @property
    def asked_every_ms(self) -> int | None: ...
    @property
    def answered_within_ms(self) -> int | None: ...
    @property
    def keys_within_ms(self) -> int | None: ...
    @property
    def max_idle_ms(self) -> int | None: ...
    @property
    def max_age_ms(self) -> int | None: ...
    @property
    def max_age_grace_ms(self) -> int | None: ...

class QueueLimits(Protocol):
    """``config.values.QueueLimits``, as far as the core reads it."""
    @property
    def max_queue_milliseconds(self) -> int | None: ...
    @property
    def max_requests_in_flight(self) -> int | None: ...
    @property
    def max_requests_in_flight_per_model(self) -> int | None: ...
    @property
    def max_memory_in_flight_per_model(self) -> int | None: ...
    @property
    def model_weights(self) -> dict[str, float]: ...

class CoreOptions(Protocol):
    """``config.values.CoreOptions``, as far as the core reads it."""
    @property
    def rest_address(self) -> str | None: ...
    @property
    def grpc_address(self) -> str | None: ...
    @property
    def grpc_socket_path(self) -> str | None: ...
    @property
    def grpc_socket_takeover(self) -> bool: ...
    @property
    def grpc_tls(self) -> TlsOptions | None: ...
    @property
    def tls_files(self) -> TlsFiles | None: ...
    @property
    def auth_file(self) -> str | None: ...
    @property
    def health_pages(self) -> bool: ...
    @property
    def open_inference(self) -> bool: ...
    @property
    def openapi(self) -> bool: ...
    @property
    def shared_memory(self) -> str | None: ...
    @property
    def shared_memory_in_place(self) -> bool: ...
    @property
    def grpc_limits(self) -> GrpcLimits: ...
    @property
    def rest_timeout_ms(self) -> int: ...
    @property
    def cors(self) -> bool: ...
    @property
    def cors_origins(self) -> Sequence[str]: ...
    @property
    def grpc_web(self) -> bool: ...
    @property
    def max_body_bytes(self) -> int: ...
    @property
    def max_header_bytes(self) -> int: ...
    @property
    def header_timeout_seconds(self) -> float: ...
    @property
    def transfer_grace_seconds(self) -> float: ...
    @property
    def min_transfer_rate(self) -> int: ...
    @property
    def max_connections(self) -> int: ...
    @property
    def max_connections_per_peer(self) -> int: ...
    @property
    def idle_timeout_seconds(self) -> float: ...
    @property
    def trusted_proxies(self) -> Sequence[str]: ...
    @property
    def proxy_protocol(self) -> str: ...
    @property
    def max_memory_in_flight(self) -> int: ...
    @property
    def max_depth(self) -> int: ...
    @property
    def gzip_min_bytes(self) -> int: ...
    @property
    def zstd(self) -> bool: ...
    @property
    def http2_cleartext(self) -> bool: ...
    @property
    def io_threads(self) -> int: ...
    @property
    def compute_threads(self) -> int: ...
    @property
    def queue_limits(self) -> QueueLimits: ...
    @property
    def batch_threads(self) -> int: ...
    @property
    def libraries(self) -> dict[str, str]: ...
    @property
    def missing_engines(self) -> dict[str, str]: ...
    @property
    def op_libraries(self) -> Sequence[str]: ...
    @property
    def prometheus_path(self) -> str | None: ...
    @property
    def metrics_path(self) -> str | None: ...
    @property
    def console(self) -> str: ...
    @property
    def tensor_content(self) -> bool: ...
    @property
    def base64_non_utf8(self) -> bool: ...
    @property
    def method_name_check(self) -> bool: ...
    @property
    def grpc_health(self) -> bool: ...
    @property
    def profiler(self) -> bool: ...
    @property
    def profile_folder(self) -> str | None: ...
    @property
    def access_log(self) -> AccessLogOptions | None: ...
    @property
    def request_ids(self) -> str: ...
    @property
    def payload_file_bytes(self) -> int: ...
    @property
    def payload_file_seconds(self) -> float: ...
    @property
    def lazy_load(self) -> bool: ...
    @property
    def memory_budget(self) -> int | None: ...
    @property
    def backlog(self) -> int: ...

class AccessLogOptions(Protocol):
    """``config.values.AccessLogOptions``, as far as the core reads it."""
    @property
    def errors_only(self) -> bool: ...
    @property
    def share(self) -> float: ...
    @property
    def output(self) -> str: ...
    @property
    def format(self) -> str: ...

class PayloadLog(Protocol):
    """``config.values.PayloadLog``, as far as the core reads it."""
    @property
    def model(self) -> str: ...
    @property
    def form(self) -> str: ...
    @property
    def prefix(self) -> str: ...
    @property
    def share(self) -> float: ...
    @property
    def sampling_config(self) -> bytes: ...
    @property
    def tags(self) -> Sequence[str]: ...

class TrafficShare(Protocol):
    """``config.traffic.TrafficShare``."""
    @property
    def to(self) -> str: ...
    @property
    def percent(self) -> float: ...

class TrafficHeader(Protocol):
    """``config.traffic.TrafficHeader``."""
    @property
    def name(self) -> str: ...
    @property
    def value(self) -> str: ...
    @property
    def to(self) -> str: ...

class TrafficShadow(Protocol):
    """``config.traffic.TrafficShadow``."""
    @property
    def to(self) -> str: ...
    @property
    def percent(self) -> float: ...
    @property
    def tolerance(self) -> float: ...
    @property
    def timeout_seconds(self) -> float: ...

class TrafficRollBack(Protocol):
    """``config.traffic.TrafficRollBack``."""
    @property
    def max_error_percent(self) -> float | None: ...
    @property
    def max_error_percent_above_default(self) -> float | None: ...
    @property
    def max_p99_milliseconds(self) -> float | None: ...
    @property
    def max_p99_ratio_to_default(self) -> float | None: ...
    @property
    def min_requests(self) -> int: ...
    @property
    def window_seconds(self) -> float: ...
    @property
    def for_seconds(self) -> float: ...
    @property
    def count_client_errors(self) -> bool: ...

class Traffic(Protocol):
    """``config.traffic.Traffic``."""
    @property
    def default_to(self) -> str: ...
    @property
    def shares(self) -> Sequence[TrafficShare]: ...
    @property
    def headers(self) -> Sequence[TrafficHeader]: ...
    @property
    def key_header(self) -> str: ...
    @property
    def shadow(self) -> TrafficShadow | None: ...
    @property
    def roll_back(self) -> TrafficRollBack | None: ...

class BatchingOptions(Protocol):
    """``config.values.BatchingOptions``, as far as the core reads it."""
    @property
    def max_batch_size(self) -> int: ...
    @property
    def batch_timeout_micros(self) -> int: ...
    @property
    def max_enqueued_batches(self) -> int: ...
    @property
    def allowed_batch_sizes(self) -> Sequence[int]: ...
    @property
    def pad_variable_length_inputs(self) -> bool: ...
    @property
    def enable_large_batch_splitting(self) -> bool: ...
    @property
    def max_execution_batch_size(self) -> int: ...

class LoadOptions(Protocol):
    """``config.values.LoadOptions``, as far as the core reads it."""
    @property
    def engine(self) -> str: ...
    @property
    def engine_tolerance(self) -> float: ...
    @property
    def engine_cache(self) -> str: ...
    @property
    def engine_fresh(self) -> bool: ...
    @property
    def engine_precision(self) -> str: ...
    @property
    def engine_quantizer(self) -> Sequence[str]: ...
    @property
    def engine_reference_idle(self) -> float | None: ...
    @property
    def prefer_tflite(self) -> bool: ...
    @property
    def tags(self) -> Sequence[str]: ...
    @property
    def session_config(self) -> bytes: ...
    @property
    def placement(self) -> str: ...
    @property
    def batching(self) -> BatchingOptions | None: ...
    @property
    def automatic_batching(self) -> bool: ...
    @property
    def warmup(self) -> bool: ...
    @property
    def warmup_iterations(self) -> int: ...
    @property
    def synthetic_warmup(self) -> bool: ...
    @property
    def retrying(self) -> bool: ...
    @property
    def most_memory(self) -> int | None: ...

class AdminOptions(Protocol):
    """``config.values.AdminOptions``, as far as the core reads it."""
    @property
    def address(self) -> str: ...
    @property
    def token(self) -> str: ...
    @property
    def request_seconds(self) -> float: ...
    @property
    def max_connections(self) -> int: ...
    @property
    def max_answered(self) -> int: ...

Times = tuple[tuple[float, float], tuple[float, float], tuple[float, float], tuple[float, float]]
"""Seconds of one run, of TensorFlow and of the candidate: wall and CPU time with one caller, then both with
as many callers as there are cores."""

Candidate = tuple[str, float | None, float | None, Times | None, str]
"""Engine, largest relative difference, share of answers that agree (of one in lower precision), times,
and why it was not chosen ("": it was)."""

Acceleration = tuple[str, str, str, str, int, list[Candidate]]
"""Signature; ``waiting``, ``preparing``, ``moved`` or ``stays``; engine; why; refused runs; candidates."""

Argument = tuple[str, str, list[int] | None]
"""Alias, dtype, shape."""

ToldSignature = tuple[str, str, list[Argument], list[Argument]]
"""Name, method, inputs, outputs."""

class CoreError(Exception):
    """A failure with a canonical code; ``args`` is ``(code, message)``."""

    code: str
    message: str

@final
class LoadReport:
    """Information about a version, once loaded.

    seconds: duration of the load. signatures: (name, inputs, outputs), each input or output (alias,
    lower-case dtype, shape text such as ``[-1,224,224,3]`` or ``unknown``). placement: where runs happen,
    ``caller`` or ``pool``. memory_bytes: what the load has taken of the memory; None if that was not
    measured, which only loads one after another are, with ``lazy_load``.
    """

    @property
    def seconds(self) -> float: ...
    @property
    def signatures(self) -> list[tuple[str, list[tuple[str, str, str]], list[tuple[str, str, str]]]]: ...
    @property
    def placement(self) -> str: ...
    @property
    def memory_bytes(self) -> int | None: ...

@final
class Administration:
    """A listening administration, until it is closed."""

    @property
    def address(self) -> str:
        """``host:port``."""
    def listener(self) -> int | None:
        """Returns a copy of the listening socket, a descriptor to be closed; None once it is closed."""
    def pass_on(self) -> None:
        """Accepts no more; leaves connections that wait to others who have the socket. Open ones go on."""
    def close(self) -> bool:
        """Stops listening, within a second. Requests being answered continue; True if there are none."""

@final
class Numbers:
    """The numbers of an output, in the engine's memory: bytes that numpy reads where they are."""

    @property
    def __array_interface__(self) -> dict[str, object]: ...

Question = tuple[str, int | None, str | None, str]
"""What is asked: model, version, label (None for both: the newest version), signature ("": the default)."""

Input = tuple[str, int, Sequence[int], bytes | list[bytes] | tuple[int, int, object]]
"""Alias, TensorFlow's number of the dtype, shape, and values.

Those are row-major and little-endian; a list of the elements of strings; or (address, length, owner) of
memory that the owner keeps, and that nobody changes until there is an answer.
"""

Output = tuple[str, int, list[int], bytes | list[bytes] | Numbers]
"""Alias, TensorFlow's number of the dtype, shape, and values: large ones stay where they are."""

TrafficTarget = tuple[
    str,
    int | None,
    bool,
    list[tuple[str, int]],
    tuple[int, str, float] | None,
    tuple[int, int, float | None] | None,
]
"""A target: name, version and whether that is available; requests by the reason of their decision; the
version that was rolled back, why, and when; requests, errors and p99 in seconds of the last window, if it is
watched."""

ShadowTold = tuple[list[tuple[str, int]], list[tuple[str, float, float]], str | None, str | None]
"""Copies by what became of them; p50 and p99 in seconds of answers ``returned`` and of the ``shadow``'s; the
last error, and the last difference."""

RestHead = tuple[str, bytes, Sequence[tuple[bytes, bytes]]]
"""Method, target (path and query, percent-encoded), headers."""

RestAnswer = tuple[int, list[tuple[bytes, bytes]], bytes]
"""Status, headers, body."""

GrpcHead = tuple[str, Sequence[tuple[str, str]], float | None]
"""Path (``/package.Service/Method``), metadata that are text, and how long the client waits, in seconds."""

GrpcAnswer = tuple[int, str, list[tuple[str, str]], bytes]
"""Code, details, metadata of the end, serialized reply."""

@final
class Pending:
    """A request that is not answered yet."""

    def cancel(self) -> None:
        """Gives the request up, unless it is answered."""

@final
class Server:
    """The data plane: registry, engine, ports.

    ``on_reload(config, seconds)`` applies a serialized ModelServerConfig for HandleReloadConfigRequest, on a
    thread that may block; ``seconds``: the client's timeout, if it set one. An exception's ``code`` and
    ``message`` become the call's status. ``on_model_control(action, model, has_left)`` is called alike for
    clients of the Open Inference Protocol, with ``load`` or ``unload``, and a function that says whether the
    client waits no longer; without it, they may not.
    """

    def __new__(
        cls,
        options: CoreOptions,
        on_reload: Callable[[bytes, float | None], None] | None = None,
        on_model_control: Callable[[str, str, Callable[[], bool]], None] | None = None,
    ) -> Server: ...
    def bring_console(
        self,
        files: Sequence[tuple[str, str, bytes]],
        answer: Callable[[str, str, str, bytes], tuple[str, bytes]],
    ) -> None:
        """Brings the console along, before the ports and the administration are opened. Once.

        ``files``: path, media type and content of each; ``index.html`` is the page. ``answer``: as in
        ``serve_admin``, for what the page asks on the REST port, below ``/console/api/``; the core answers
        what it asks of the traffic, at both.
        """
    def start(self) -> dict[str, str]:
        """Opens the ports.

        Returns those opened: ``rest``, ``grpc`` → ``host:port``, ``grpc_socket`` → path.
        """
    def adopt(self, port: str, socket: int) -> None:
        """Has ``start`` use a copy of ``socket``, which listens already, instead of opening ``port``."""
    def listeners(self) -> dict[str, int]:
        """Copies of the listening sockets by port, as descriptors that the caller has to close."""
    def pass_on(self) -> None:
        """Accepts no connection from now on, and leaves those that wait to others who have the sockets.

        Before ``drain``, clients are told to come again, and health stays as it is.
        """
    def wait_for_clients(self, seconds: float) -> bool:
        """Waits until no connection is open; True if that happened in this time."""
    def announce(self, name: str, version: int) -> None:
        """Adds a known version, in state START."""
    def load(self, name: str, version: int, path: str, options: LoadOptions) -> LoadReport:
        """LOADING → AVAILABLE; blocks until the version is loaded, warmed up and published.

        On failure raises ``CoreError``; the version goes to END with that error, or stays LOADING if
        ``options.retrying``.
        """
    def retire(self, name: str, version: int) -> None:
        """AVAILABLE → UNLOADING; blocks until no request holds the version."""
    def unload(self, name: str, version: int) -> None:
        """UNLOADING → END; blocks until no request holds the version and its memory is freed."""
    def fail(self, name: str, version: int, code: str, message: str) -> None:
        """Sets a version to END with an error, without loading it."""
    def set_on_demand(self, name: str, version: int, on_demand: bool) -> None:
        """Says whether a request has a known version loaded; clients count it as available then."""
    def next_demand(self, seconds: float) -> tuple[str, int] | None:
        """Takes the version that requests have waited for longest; waits for one, ``seconds`` at most."""
    def demand_loaded(self, name: str, version: int) -> None:
        """Tells requests that wait for a version that it serves."""
    def demand_failed(self, name: str, version: int, error: tuple[str, str], seconds: float) -> None:
        """Tells them that it does not: code and message. Requests within ``seconds`` are told the same."""
    def end_demand(self) -> None:
        """Ends all waiting for loads, present and future."""
    def uses(self) -> list[tuple[str, int, float, int, int]]:
        """Per loaded version, with ``lazy_load``: (name, version, seconds since its last run, uses, growth).

        The uses are the tenths of a second that had a run. The growth is what it has taken of the memory
        since its load, in bytes.
        """
    def rest(self, name: str, version: int) -> bool:
        """AVAILABLE → UNLOADING, to be loaded on demand again, unless a request holds the version.

        Returns whether that was so; ``unload`` follows.
        """
    def set_configured(self, names: set[str]) -> None:
        """Replaces the names of the models that should be served: while none answers, the server is not ready."""
    def set_labels(self, name: str, labels: dict[str, int]) -> None:
        """Replaces the labels of a model."""
    def set_traffic(self, name: str, rules: Traffic | None, renewed: bool = False) -> None:
        """Spreads the requests to a model that name no version so from now on; None: the latest gets them.

        Rules that are in force already stay, with what they have rolled back, unless ``renewed``.
        """
    def traffic(self, name: str) -> tuple[list[TrafficTarget], ShadowTold | None] | None:
        """What has become of the traffic of a model; None if it is not spread. The default comes first."""
    def states(self) -> list[tuple[str, int, str, str, str]]:
        """Per version: (name, version, START | LOADING | AVAILABLE | UNLOADING | END, code, message)."""
    def predict(
        self, asked: Question, inputs: Sequence[Input], outputs: Sequence[str], timeout: float | None = None
    ) -> tuple[int, list[Output]]:
        """Answers a question of this process, as clients of gRPC's Predict are answered, without a socket.

        outputs: aliases of those wanted, none for all. timeout: in seconds. Returns the version and its
        outputs. Raises ``CoreError``, ``ValueError`` for values that do not fit their shape, and what the
        handler of a signal raises meanwhile.
        """
    def answer_rest(
        self, head: RestHead, body: bytes, done: Callable[[RestAnswer | None], object]
    ) -> RestAnswer | Pending:
        """Answers a request to REST as clients' requests are answered, without a socket.

        Returns the answer, or what is not answered yet: then ``done`` is called with the answer, on another
        thread; with None if there will be none. Raises ``CoreError`` if the server does not run.
        """
    def answer_grpc(
        self, head: GrpcHead, message: bytes, done: Callable[[GrpcAnswer | None], object]
    ) -> GrpcAnswer | Pending:
        """Does the same for a call of gRPC with one request and one reply."""
    def find(self, name: str, version: int | None = None, label: str | None = None) -> int:
        """Returns the version that a question is for. Raises ``CoreError``."""
    def leak(self) -> None:
        """Has this server never be freed: for a process that was forked, which has none of its threads."""
    def accelerations(self, name: str, version: int) -> list[Acceleration]:
        """Returns what is known of the acceleration of an available version, by signature.

        Empty if it is not accelerated. Raises ``CoreError``.
        """
    def engine(self, name: str, version: int) -> str:
        """Returns the name of the engine that is for the files of a version; "" if it is not served."""
    def signatures(self, name: str, version: int) -> list[ToldSignature]:
        """Returns the signatures of a version that is served: name, method, inputs, outputs.

        Each of the latter: alias, ``DT_FLOAT`` and so on, shape with -1 for unknown dimensions or None.
        Raises ``CoreError``.
        """
    def record(self, name: str, requests: int, every: int, seconds: float) -> list[bytes]:
        """Records successful requests to a model as serialized PredictionLogs, without duplicates.

        Takes one of ``every``. Blocks until there are ``requests`` of them, ``seconds`` have passed, the
        server stops, or another recording of the model begins.
        """
    def phase(self, name: str, version: int) -> str:
        """Returns the current phase of a version's load, in words; "" if it is not being loaded."""
    def serve_admin(
        self,
        address: str,
        options: AdminOptions,
        answer: Callable[[str, str, str, bytes], tuple[str, bytes]],
        socket: int | None = None,
    ) -> Administration:
        """Opens the administration at ``address`` (``IP:PORT``), which also answers health probes.

        ``socket``: a descriptor that listens already, of which a copy is used.

        ``options``: see ``config.AdminOptions``. ``answer(method, path, query, body)`` answers an authorized
        request with a content type and bytes, on a thread that may block. An exception's ``code``,
        ``message`` and ``hint`` become the error reply. Raises ``OSError`` if it cannot listen.
        """
    def set_payload_logs(self, logs: Sequence[PayloadLog]) -> None:
        """Logs the payloads of requests as these say from now on, and of no others.

        Waits until what was logged before is written, for some seconds at most.
        """
    def reopen_logs(self) -> None:
        """Opens the access log's file again, as its name may mean another one; ends those of payload logs."""
    def drain(self) -> None:
        """Starts telling clients to send their next requests elsewhere; still answers all of them."""
    def stop(self, grace_seconds: float) -> bool:
        """Stops accepting connections and finishes requests in progress or on their way.

        Returns True if all ended within ``grace_seconds``, after the last lines and records of its logs are
        written; False if a load or a reload that a client has asked for is still under way, which is not
        waited for.
        """

class BenchTarget(Protocol):
    """``bench.plan.CoreTarget``: a server under load."""
    @property
    def grpc(self) -> bool: ...
    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def tls(self) -> bool: ...
    @property
    def ca_file(self) -> str | None: ...
    @property
    def cert_file(self) -> str | None: ...
    @property
    def key_file(self) -> str | None: ...

class BenchRequest(Protocol):
    """``bench.plan.Request``: a path, headers or metadata, and a body or message (None: a GET)."""
    @property
    def path(self) -> str: ...
    @property
    def headers(self) -> Sequence[tuple[str, str]]: ...
    @property
    def body(self) -> bytes | None: ...

class BenchGroup(Protocol):
    """``bench.plan.Group``: the requests to one model, sent by turns, with its weight."""
    @property
    def weight(self) -> float: ...
    @property
    def requests(self) -> Sequence[BenchRequest]: ...

class BenchPlan(Protocol):
    """``bench.plan.CorePlan``: a load. Times in seconds; without a rate, a closed loop of callers."""
    @property
    def target(self) -> BenchTarget: ...
    @property
    def groups(self) -> Sequence[BenchGroup]: ...
    @property
    def concurrency(self) -> int: ...
    @property
    def rate(self) -> float | None: ...
    @property
    def arrivals(self) -> str: ...
    @property
    def max_outstanding(self) -> int: ...
    @property
    def threads(self) -> int: ...
    @property
    def connections(self) -> int: ...
    @property
    def warm_up(self) -> float: ...
    @property
    def duration(self) -> float: ...
    @property
    def count(self) -> int | None: ...
    @property
    def timeout(self) -> float: ...
    @property
    def seed(self) -> int: ...

@final
class BenchTimes:
    """Times in nanoseconds, of which each is told at most half a percent too long; the longest is exact."""
    @property
    def count(self) -> int: ...
    @property
    def max(self) -> int: ...
    @property
    def mean(self) -> float: ...
    def quantile(self, quantile: float) -> int:
        """Returns a time that this share (0 to 1) of all do not exceed; 0 without any."""
    def steps(self) -> list[tuple[int, int]]:
        """Returns the times that were seen, ascending, and how often each was."""

@final
class BenchSeen:
    """What became of the requests of one group; only good answers are in ``times`` and ``received``.

    failures: kind (``status``, ``code``, ``connect``, ``timeout``, ``lost``, ``malformed``, ``unsent``),
    status or code or 0, count, and the text of the first.
    """
    @property
    def times(self) -> BenchTimes: ...
    @property
    def failures(self) -> list[tuple[str, int, int, str]]: ...
    @property
    def sent(self) -> int: ...
    @property
    def received(self) -> int: ...

@final
class BenchOutcome:
    """What became of a load.

    lag: how much later than intended requests were sent, of an open loop. cpu_seconds: of the load
    generator's threads; busiest: the largest share of a core that one of them used.
    """
    @property
    def groups(self) -> list[BenchSeen]: ...
    @property
    def lag(self) -> BenchTimes: ...
    @property
    def opened(self) -> int: ...
    @property
    def seconds(self) -> float: ...
    @property
    def cpu_seconds(self) -> float: ...
    @property
    def busiest(self) -> float: ...

@final
class BenchRun:
    """A load that runs from its construction on, in threads of its own. Raises ``CoreError``."""
    def __init__(self, plan: BenchPlan) -> None: ...
    def wait_measuring(self, limit: float) -> bool:
        """Waits until requests are counted, ``limit`` seconds at most; returns whether they are."""
    def wait(self, limit: float) -> bool:
        """Waits for the end, ``limit`` seconds at most; returns whether it has come."""
    def progress(self) -> tuple[int, int, BenchTimes]:
        """Returns good answers, failures, and the times of good answers, as of a moment ago."""
    def stop(self) -> None:
        """Ends the load at once; requests that are under way are dropped."""
    def outcome(self) -> BenchOutcome:
        """Waits for the end, and returns what became of the load. Once."""

def bench_ask(
    target: BenchTarget, request: BenchRequest, timeout: float
) -> tuple[bytes, tuple[str, int, str] | None]:
    """Sends one request. Returns the body or message of its answer, or kind, number and text of a failure."""

def bench_picture() -> bytes:
    """Returns a small picture: JPEG, 224 by 224."""

def preload(path: str, op_libraries: list[str]) -> str:
    """Opens TensorFlow's library and the op libraries; idempotent. Returns TensorFlow's version."""

def describe(
    path: str, libraries: dict[str, str], missing_engines: dict[str, str]
) -> list[tuple[str, list[tuple[str, str, str]], list[tuple[str, str, str]]]]:
    """Loads the model in ``path``, as a server would, and returns its signatures as in a ``LoadReport``.

    The engines: as in ``CoreOptions``. Raises ``CoreError``.
    """

def init_logging(level: str, format: str) -> None:
    """Logs the core's messages of ``level`` (error … trace) and above to stderr, as ``text`` or ``json``.

    Only the first call has an effect.
    """

def keep_log(level: str) -> None:
    """Keeps the last messages of ``level`` and above for ``kept_log``, instead of writing them.

    Only the first call of this or ``init_logging`` has an effect.
    """

def kept_log() -> list[str]:
    """Returns the lines that are kept, the oldest first, as text."""

def take_over_stderr() -> int:
    """Makes JSON lines of what libraries write to stderr by themselves.

    Returns the descriptor that the log is written to from now on.
    """

def give_back_stderr() -> None:
    """Gives stderr back, once what was written to it is logged."""

def crc32c(data: bytes) -> int:
    """Returns the CRC-32C of ``data``: 0xe3069283 for b"123456789"."""

def metrics() -> list[tuple[str, str, list[str], str]]:
    """Returns the list of metrics: names, types, names of labels, explanations."""

def tokens(text: str) -> list[tuple[int, str, list[tuple[str, str]]]]:
    """Reads a file of tokens: number of the line, name and settings of each. Raises ``CoreError``."""

def version() -> str:
    """Returns the version of the core."""

def descriptors() -> bytes:
    """Returns the serialized FileDescriptorSet of every message, imports before importers."""
