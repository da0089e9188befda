"""Turns arguments as given into a configuration: interdependent defaults, checks, files.

The checks and their order are TensorFlow Serving's (spec: argument errors); ``servable serve`` adds paths on
the command line and the container's two environment variables.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace

from servable.config import channel_arguments, memory_limit
from servable.config.arguments import Arguments, check_text
from servable.config.base_paths import AllowedPaths, Way
from servable.config.browsers import allowed_origins, grpc_web
from servable.config.flags import CPUS
from servable.config.model_paths import cache_dir, folder_of_models, model_from_path, patience
from servable.config.proxies import trusted_proxies
from servable.config.queue_limits import queue_limits
from servable.config.residence import memory_budget, pinned_models
from servable.config.shared_memory import shared_memory
from servable.config.values import (
    AccessLogOptions,
    AdminOptions,
    BatchingOptions,
    CoreOptions,
    GrpcLimits,
    LifecycleOptions,
    LoadOptions,
    ModelConfig,
    ServerConfig,
    TlsFiles,
    TlsOptions,
    check_models,
    is_absolute,
)
from servable.engines.precision import quantizer
from servable.engines.tensorflow_library import ENVIRONMENT as LIBRARY_VARIABLE
from servable.errors import UsageError, invalid_argument

MIN_HEADER_BYTES = 8192
"""What HTTP is read into at once: a smaller limit would have no effect."""

LONGEST_SECONDS = 1e9
"""Thirty years: practically forever, and still a time threads can wait for (``threading.TIMEOUT_MAX``)."""


def server_config(arguments: Arguments, environment: Mapping[str, str]) -> ServerConfig:
    """Returns the configuration for a command line.

    Raises ``UsageError`` for what only ``servable serve`` refuses, ``StatusError`` with TensorFlow Serving's
    texts for the rest. Reads the text files that flags name; finds no library and opens no port.
    """
    _check_ports(arguments)
    models = _models(arguments, environment)
    _check_combinations(arguments)
    if arguments.text("model_config_file"):
        from servable.config.config_files import read_model_config_file

        models = read_model_config_file(arguments.text("model_config_file"))
    check_models(models)
    allowed = AllowedPaths.read(arguments.texts("allowed_base_paths"))
    allowed.check(models, (), Way.START)
    core = _core_options(arguments, environment)
    # Includes the environment and the current folder, which paths may begin with.
    check_text([text for model in models for text in (model.name, model.base_path)])
    check_text([core.tensorflow_library, *core.op_libraries])
    load = _load_options(arguments, environment)
    batch_threads = load.batching.num_batch_threads if load.batching else 0
    return ServerConfig(
        models=models,
        core=replace(core, batch_threads=batch_threads),
        load=load,
        models_dir=arguments.text("models_dir") and folder_of_models(arguments.text("models_dir")),
        lifecycle=replace(_lifecycle_options(arguments), allowed_base_paths=allowed.prefixes),
        poll_seconds=_poll_seconds(arguments, "file_system_poll_wait_seconds"),
        model_config_file=arguments.text("model_config_file"),
        config_poll_seconds=_positive(arguments.integer("model_config_file_poll_wait_seconds")),
        allow_reload_rpc=arguments.boolean("allow_reload_rpc"),
        allow_model_control=arguments.boolean("open_inference_model_control"),
        drain_delay_seconds=_span(arguments, "drain_delay_seconds"),
        grace_seconds=_waited(arguments.number("shutdown_grace_seconds")),
        wait_for_retries=not arguments.serve,
        exit_on_failed_start=arguments.boolean("exit_on_failed_start"),
        allow_unavailable_labels=arguments.boolean("allow_version_labels_for_unavailable_models"),
        admin=_admin(arguments, environment),
        handover_socket=_handover_socket(arguments),
        remote_poll_seconds=_poll_seconds(arguments, "remote_poll_wait_seconds"),
        cache_dir=cache_dir(arguments.text("model_cache_dir"), environment),
        max_archive_bytes=_at_least(arguments, "max_archive_bytes", 1),
    )


def _admin(arguments: Arguments, environment: Mapping[str, str]) -> AdminOptions | None:
    text = arguments.text("admin_address")
    if not text:
        return None
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit() and int(port[:6]) <= 65535):
        raise UsageError(f"--admin_address expects HOST:PORT, got {text!r}")
    token = arguments.text("admin_token") or environment.get("SERVABLE_ADMIN_TOKEN", "")
    try:
        check_text([token])
    except UsageError:
        # A text of its own, because the original would reveal the token.
        raise UsageError("--admin_token and $SERVABLE_ADMIN_TOKEN must be UTF-8") from None
    host = host.strip("[]")
    reached = address(host, int(port))
    # A name is kept, because clients may address the server by it.
    return AdminOptions(f"{host}:{int(port)}" if _is_name(host) else reached, token)


def _handover_socket(arguments: Arguments) -> str:
    path = arguments.text("handover_socket")
    if not path:
        return ""
    path = os.path.abspath(os.path.expanduser(path))
    check_text([path])
    return path


def _check_ports(arguments: Arguments) -> None:
    rest, grpc = arguments.port("rest_api_port"), arguments.port("port")
    socket = arguments.text("grpc_socket_path")
    if arguments.serve:
        if rest is None and grpc is None and not socket:
            raise UsageError(
                "--rest_api_port and --port are off and there is no --grpc_socket_path: nothing to serve on"
            )
        if rest and rest == grpc:
            raise UsageError(f"--rest_api_port and --port are both {rest}: give one of them another port")
    elif grpc is None and not socket:
        raise invalid_argument(
            "At least one of server_options.grpc_port or server_options.grpc_socket_path must be set.",
            "set --port, or --grpc_socket_path",
        )


def _check_combinations(arguments: Arguments) -> None:
    if arguments.boolean("use_alts_credentials") and arguments.text("ssl_config_file"):
        raise invalid_argument("Either use_alts_credentials must be false or ssl_config_file must be empty.")
    named = [arguments.text(name) for name in ("model_base_path", "model_config_file", "models_dir")]
    if not arguments.serve and not any(named):
        raise invalid_argument(
            "Both server_options.model_base_path and server_options.model_config_file are empty!",
            "set --model_base_path=/folder/of/versions, or --model_config_file",
        )
    if arguments.text("batching") == "auto" and arguments.boolean("enable_batching"):
        raise UsageError(
            "--batching=auto and --enable_batching exclude each other: leave out the first to set "
            "TensorFlow Serving's parameters, the second to need none"
        )
    if arguments.text("batching_parameters_file") and not arguments.boolean("enable_batching"):
        raise invalid_argument(
            "server_options.batching_parameters_file is set without setting "
            "server_options.enable_batching to true."
        )
    names = (
        "tensorflow_session_parallelism",
        "tensorflow_intra_op_parallelism",
        "tensorflow_inter_op_parallelism",
    )
    if all(arguments.integer(name) > 0 for name in names):
        raise invalid_argument(
            "Either configure server_options.tensorflow_session_parallelism or "
            "(server_options.tensorflow_intra_op_parallelism, "
            "server_options.tensorflow_inter_op_parallelism) separately. You cannot configure all."
        )


def _models(arguments: Arguments, environment: Mapping[str, str]) -> tuple[ModelConfig, ...]:
    """Returns the models named by flags, paths and environment.

    Those of a config file are read later and replace them.
    """
    chosen = [name for name in ("model_base_path", "model_config_file") if arguments.text(name)]
    if arguments.text("models_dir"):
        if chosen or arguments.positionals:
            other = f"--{chosen[0]}" if chosen else "PATH"
            raise UsageError(f"give --models_dir or {other}, not both: the models are those in the folder")
        return ()
    if not arguments.serve:
        return (ModelConfig(name=arguments.text("model_name"), base_path=arguments.text("model_base_path")),)
    if arguments.positionals:
        if chosen:
            raise UsageError(f"give PATH or --{chosen[0]}, not both")
        return _models_from_paths(arguments, patience(environment))
    if "model_config_file" in chosen:
        return ()
    if chosen:
        path = arguments.text("model_base_path")
        path = path if is_absolute(path) else os.path.abspath(os.path.expanduser(path))
        return (ModelConfig(name=arguments.text("model_name"), base_path=path),)
    return (_model_from_environment(arguments, environment),)


def _models_from_paths(arguments: Arguments, wait_seconds: float) -> tuple[ModelConfig, ...]:
    models = tuple(model_from_path(argument, wait_seconds) for argument in arguments.positionals)
    if "model_name" in arguments.given:
        if len(models) > 1:
            raise UsageError("--model_name names one model; with several paths write NAME=PATH for each")
        return (replace(models[0], name=arguments.text("model_name")),)
    return models


def _model_from_environment(arguments: Arguments, environment: Mapping[str, str]) -> ModelConfig:
    """Returns the container's model: ``$MODEL_BASE_PATH/$MODEL_NAME``, by default ``/models/model``."""
    folder = environment.get("MODEL_BASE_PATH") or "/models"
    name = (
        arguments.text("model_name")
        if "model_name" in arguments.given
        else environment.get("MODEL_NAME") or "model"
    )
    path = os.path.abspath(os.path.join(folder, name))
    stated = environment.get("MODEL_BASE_PATH") or environment.get("MODEL_NAME")
    if not stated and not os.path.isdir(path):
        raise UsageError(
            "nothing to serve: give a PATH (servable serve path/to/model), --model_config_file, "
            f"or MODEL_NAME and MODEL_BASE_PATH (their default, {path}, does not exist)"
        )
    return ModelConfig(name=name, base_path=path)


def _core_options(arguments: Arguments, environment: Mapping[str, str]) -> CoreOptions:
    rest, grpc = rest_port(arguments), arguments.port("port")
    host, socket = arguments.text("host"), arguments.text("grpc_socket_path") or None
    return CoreOptions(
        rest_address=None if rest is None else address(host, rest),
        grpc_address=None if grpc is None else address(host, grpc),
        grpc_socket_path=socket,
        grpc_socket_takeover=not arguments.serve,
        grpc_tls=_tls(arguments),
        tls_files=_tls_files(arguments),
        auth_file=_auth_file(arguments),
        health_pages=arguments.boolean("enable_rest_healthcheck"),
        open_inference=arguments.boolean("open_inference_protocol"),
        openapi=arguments.boolean("openapi"),
        shared_memory=shared_memory(arguments),
        shared_memory_in_place=arguments.boolean("shared_memory_in_place"),
        grpc_limits=_grpc_limits(arguments),
        rest_timeout_ms=arguments.integer("rest_api_timeout_in_ms"),
        cors=arguments.boolean("rest_api_enable_cors_support"),
        cors_origins=allowed_origins(arguments),
        grpc_web=grpc_web(arguments, rest),
        max_body_bytes=_at_least(arguments, "max_request_bytes", 1),
        header_timeout_seconds=_span(arguments, "header_timeout_seconds"),
        transfer_grace_seconds=_span(arguments, "transfer_grace_seconds"),
        min_transfer_rate=_at_least(arguments, "min_transfer_rate", 0),
        max_connections=_at_least(arguments, "max_connections", 0),
        max_connections_per_peer=_at_least(arguments, "max_connections_per_peer", 0),
        max_header_bytes=_at_least(arguments, "max_header_bytes", MIN_HEADER_BYTES),
        idle_timeout_seconds=_span(arguments, "idle_timeout_seconds"),
        trusted_proxies=trusted_proxies(arguments),
        proxy_protocol=arguments.text("proxy_protocol"),
        max_memory_in_flight=_at_least(arguments, "max_memory_in_flight", 0) or memory_limit.share(),
        max_depth=_at_least(arguments, "max_json_depth", 1),
        gzip_min_bytes=_at_least(arguments, "gzip_min_bytes", 0),
        zstd=arguments.boolean("rest_api_zstd"),
        http2_cleartext=arguments.boolean("rest_api_http2_cleartext"),
        base64_non_utf8=arguments.boolean("base64_non_utf8"),
        io_threads=_at_least(arguments, "io_threads", 0),
        compute_threads=_at_least(arguments, "compute_threads", 0),
        queue_limits=queue_limits(arguments),
        tensorflow_library=arguments.text("tensorflow_library") or environment.get(LIBRARY_VARIABLE, ""),
        op_libraries=tuple(os.path.abspath(path) for path in arguments.texts("op_library")),
        prometheus_path=_prometheus_path(arguments),
        metrics_path=_metrics_path(arguments),
        console=_console(arguments),
        tensor_content=arguments.boolean("enable_serialization_as_tensor_content"),
        method_name_check=arguments.boolean("enable_signature_method_name_check"),
        grpc_health=arguments.boolean("enable_grpc_healthcheck_service"),
        profiler=arguments.boolean("enable_profiler"),
        profile_folder=arguments.text("profile_folder") or None,
        access_log=_access_log(arguments),
        request_ids=_request_ids(arguments),
        payload_file_bytes=_at_least(arguments, "payload_log_max_bytes", 0),
        payload_file_seconds=_span(arguments, "payload_log_max_seconds"),
        lazy_load=arguments.boolean("lazy_load"),
        memory_budget=memory_budget(arguments) or None,
        log_level=arguments.text("log_level"),
        log_format=arguments.text("log_format"),
    )


def _access_log(arguments: Arguments) -> AccessLogOptions | None:
    which, share = arguments.text("access_log"), arguments.number("access_log_sample")
    if not 0 <= share <= 1:
        raise UsageError(f"--access_log_sample expects a number from 0 to 1, got {share:g}")
    output = arguments.text("access_log_file")
    if not output:
        raise UsageError("--access_log_file expects stdout, stderr or a path, got ''")
    if output not in ("stdout", "stderr"):
        output = os.path.abspath(os.path.expanduser(output))
        check_text([output])
    if which == "off":
        return None
    return AccessLogOptions(which == "errors", share, output, arguments.text("log_format"))


def _request_ids(arguments: Arguments) -> str:
    """Returns which identifiers of requests are returned."""
    which = arguments.text("request_ids")
    if which != "auto":
        return which
    return "given" if arguments.text("access_log") == "off" else "told"


def _load_options(arguments: Arguments, environment: Mapping[str, str]) -> LoadOptions:
    """Returns the load options of the platform config, if there is one, otherwise of the flags."""
    cache = cache_dir(arguments.text("model_cache_dir"), environment)
    options = LoadOptions(
        engine=arguments.text("engine"),
        engine_tolerance=_tolerance(arguments),
        engine_cache=os.path.join(cache, "engines"),
        engine_precision=_precision(arguments),
        engine_quantizer=quantizer() if arguments.text("engine_precision") == "int8" else (),
        engine_reference_idle=_reference_idle(arguments),
        prefer_tflite=arguments.boolean("prefer_tflite_model"),
        placement=arguments.text("run_in"),
    )
    platform_config = arguments.text("platform_config_file")
    if platform_config:
        from servable.config.config_files import read_platform_config

        return read_platform_config(platform_config, options)
    return replace(
        options,
        tags=tuple(arguments.text("saved_model_tags").split(",")),
        session_config=_session_config(arguments),
        warmup=arguments.boolean("enable_model_warmup"),
        warmup_iterations=max(1, arguments.integer("num_request_iterations_for_warmup")),
        synthetic_warmup=arguments.boolean("synthetic_warmup"),
        batching=_batching(arguments),
        automatic_batching=arguments.text("batching") == "auto",
        batching_per_version=arguments.boolean("enable_per_model_batching_parameters"),
    )


def _precision(arguments: Arguments) -> str:
    precision = arguments.text("engine_precision")
    if precision != "f32" and arguments.text("engine") == "tensorflow":
        raise UsageError(
            f"--engine_precision={precision} is for a faster engine beside TensorFlow: it needs "
            "--engine=auto or --engine=openvino, got --engine=tensorflow"
        )
    return precision


def _reference_idle(arguments: Arguments) -> float | None:
    seconds = arguments.number("engine_reference_idle_seconds")
    if not 0 <= seconds <= 1e9:
        raise UsageError(
            f"--engine_reference_idle_seconds expects a number from 0 (never) to 1e9, got {seconds:g}"
        )
    return seconds or None


def _tolerance(arguments: Arguments) -> float:
    tolerance = arguments.number("engine_tolerance")
    if not 0 <= tolerance <= 1:
        raise UsageError(f"--engine_tolerance expects a number from 0 to 1, got {tolerance:g}")
    return tolerance


def _batching(arguments: Arguments) -> BatchingOptions | None:
    path = arguments.text("batching_parameters_file")
    if not arguments.boolean("enable_batching"):
        return None
    if not path:
        return BatchingOptions()
    from servable.config import batching

    return batching.read(path)


def _lifecycle_options(arguments: Arguments) -> LifecycleOptions:
    return LifecycleOptions(
        start_threads=4 * CPUS,
        load_threads=max(1, arguments.integer("num_load_threads")),
        unload_threads=max(1, arguments.integer("num_unload_threads")),
        retries=max(0, arguments.integer("max_num_load_retries")),
        retry_seconds=_waited(arguments.integer("load_retry_interval_micros") / 1e6),
        policy=arguments.text("aspired_version_policy"),
        payload_log_dir=_payload_log_dir(arguments),
        lazy_load=arguments.boolean("lazy_load"),
        memory_budget=memory_budget(arguments),
        pinned_models=pinned_models(arguments),
    )


def _payload_log_dir(arguments: Arguments) -> str:
    folder = arguments.text("payload_log_dir")
    check_text([folder])
    return os.path.abspath(os.path.expanduser(folder)) if folder else ""


def _session_config(arguments: Arguments) -> bytes:
    """Returns the serialized ConfigProto; b"", without importing protobuf, if no flag sets anything."""
    intra = arguments.integer("tensorflow_intra_op_parallelism")
    inter = arguments.integer("tensorflow_inter_op_parallelism")
    if intra <= 0 and inter <= 0:
        intra = inter = arguments.integer("tensorflow_session_parallelism")
    fraction = arguments.number("per_process_gpu_memory_fraction")
    path, precision = arguments.text("tensorflow_session_config_file"), arguments.text("mixed_precision")
    if not (path or intra or inter or fraction or precision == "bfloat16"):
        return b""
    from servable.config.config_files import session_config

    return session_config(path, intra, inter, fraction, bfloat16=precision == "bfloat16")


def rest_port(arguments: Arguments) -> int | None:
    """Returns the REST port. TensorFlow Serving turns REST off if it is given the gRPC port's number."""
    port = arguments.port("rest_api_port")
    return None if port and port == arguments.port("port") else port


def _tls(arguments: Arguments) -> TlsOptions | None:
    path = arguments.text("ssl_config_file")
    if not path:
        return None
    from servable.config.config_files import read_ssl_config

    return read_ssl_config(path)


def _tls_files(arguments: Arguments) -> TlsFiles | None:
    certificate, key, client_ca = map(arguments.text, ("tls_cert_file", "tls_key_file", "tls_client_ca_file"))
    if not (certificate or key or client_ca):
        return None
    if not (certificate and key):
        raise UsageError(
            "TLS needs both --tls_cert_file and --tls_key_file"
            + (", and --tls_client_ca_file works with these" if client_ca else "")
        )
    check_text([certificate, key, client_ca])
    # The server may change its folder; the files are read again.
    authorities = os.path.abspath(client_ca) if client_ca else None
    return TlsFiles(os.path.abspath(certificate), os.path.abspath(key), authorities)


def _auth_file(arguments: Arguments) -> str | None:
    path = arguments.text("auth_file")
    if not path and "auth_file" in arguments.given:
        # A variable without a value, most likely: the server must not be open by accident.
        raise UsageError("--auth_file expects a path, got '': leave it out if requests need no token")
    check_text([path])
    # The server may change its folder; the file is read again.
    return os.path.abspath(os.path.expanduser(path)) if path else None


def _grpc_limits(arguments: Arguments) -> GrpcLimits:
    """Returns the limits of --grpc_channel_arguments, within --max_request_bytes."""
    limits, _ = channel_arguments.read(arguments.text("grpc_channel_arguments"))
    most = _at_least(arguments, "max_request_bytes", 1)
    return replace(limits, max_receive_bytes=min(limits.max_receive_bytes, most))


def _prometheus_path(arguments: Arguments) -> str | None:
    """Returns the path of the metrics; TensorFlow Serving reads the monitoring config only if REST is on."""
    path = arguments.text("monitoring_config_file")
    if not path or rest_port(arguments) is None:
        return None
    from servable.config.config_files import read_monitoring_config

    return read_monitoring_config(path)


def _metrics_path(arguments: Arguments) -> str | None:
    """Returns the path of all metrics. It is no path of the API, so that it hides none of these."""
    path = arguments.text("metrics_path")
    if not path:
        return None
    taken = path == "/" or path.lower().startswith("/v1/") or path.startswith(("/admin/", "/console/"))
    if taken or not re.fullmatch(r"/[\w.~/-]*", path, re.ASCII):
        raise UsageError(
            "--metrics_path expects a path of letters, digits and . _ ~ - / that is not / or below /v1/, "
            f"/admin/ or /console/, got {path!r}"
        )
    return path


def _console(arguments: Arguments) -> str:
    """Returns where the console is: TensorFlow Serving's REST port stays as it is."""
    if arguments.boolean("console"):
        if arguments.serve and rest_port(arguments) is not None:
            return "everywhere"
        if arguments.text("admin_address"):
            return "administration"
    return "nowhere"


def _poll_seconds(arguments: Arguments, name: str) -> float | None:
    seconds = arguments.integer(name)
    return None if seconds < 0 else _waited(seconds)


def _positive(seconds: int) -> float | None:
    return _waited(seconds) if seconds > 0 else None


def _waited(seconds: float) -> float:
    """Bounds ``seconds``, which may be infinite, to a time that can be waited for."""
    return min(max(0.0, float(seconds)), LONGEST_SECONDS)


def _span(arguments: Arguments, name: str) -> float:
    """Returns a flag's seconds, 0 for no limit."""
    seconds = arguments.number(name)
    if seconds < 0:
        raise UsageError(f"--{name} expects at least 0, got {seconds:g}")
    return min(seconds, LONGEST_SECONDS)


def _at_least(arguments: Arguments, name: str, least: int) -> int:
    value = arguments.integer(name)
    if value < least:
        raise UsageError(f"--{name} expects at least {least}, got {value}")
    return value


def address(host: str, port: int) -> str:
    """Returns ``host:port`` for the core; an empty host is every interface, including IPv6 if available."""
    if not host:
        host = "::" if _has_ipv6() else "0.0.0.0"
    elif _is_name(host):
        host = _resolved(host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_name(host: str) -> bool:
    """False for an IP address (judged by its characters) and for an empty text."""
    return not all(character in "0123456789abcdefABCDEF.:" for character in host)


def _resolved(host: str) -> str:
    import socket

    try:
        return str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])
    except (OSError, UnicodeError) as error:
        said = error.strerror if isinstance(error, OSError) else "no name of a host is like that"
        raise UsageError(f"--host expects an address of this machine, got {host!r}: {said}") from None


def _has_ipv6() -> bool:
    """True if IPv6 works: containers often run without it, and binding ``[::]`` then fails."""
    import socket

    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::", 0))
    except OSError:
        return False
    return True
