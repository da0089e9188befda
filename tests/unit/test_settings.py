"""From arguments to a configuration: defaults, checks and their order, the environment."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from servable.config.arguments import parse
from servable.config.flags import CPUS
from servable.config.settings import address, server_config
from servable.config.values import (
    AccessLogOptions,
    Folder,
    ModelConfig,
    ServerConfig,
    TlsFiles,
    check_models,
)
from servable.errors import StatusError, UsageError
from servable.sizes import parse_size

NO_ENVIRONMENT: Mapping[str, str] = {}


def drop_in(*argv: str) -> ServerConfig:
    return server_config(parse(argv, serve=False), NO_ENVIRONMENT)


def serve(*argv: str, environment: Mapping[str, str] = NO_ENVIRONMENT) -> ServerConfig:
    return server_config(parse(argv, serve=True), environment)


def test_tensorflows_session_stays_unless_a_time_is_given() -> None:
    def idle(*flags: str) -> float | None:
        return drop_in("--model_base_path=/m", *flags).load.engine_reference_idle

    assert idle() is idle("--engine_reference_idle_seconds=0") is None
    assert idle("--engine_reference_idle_seconds=0.5") == 0.5
    for wrong in ("-1", "2e9", "nan"):
        with pytest.raises(UsageError, match="engine_reference_idle_seconds"):
            idle(f"--engine_reference_idle_seconds={wrong}")


def test_the_drop_ins_defaults() -> None:
    config = drop_in("--model_base_path=/m")
    assert config.models == (ModelConfig("default", "/m"),)
    assert config.core.rest_address is None
    assert config.core.grpc_address is not None and config.core.grpc_address.endswith(":8500")
    assert config.core.rest_timeout_ms == 30000
    assert (config.core.zstd, config.core.http2_cleartext) == (False, False)
    assert (config.poll_seconds, config.config_poll_seconds) == (1.0, None)
    assert (config.lifecycle.retries, config.lifecycle.retry_seconds) == (5, 60.0)
    assert (config.lifecycle.start_threads, config.lifecycle.load_threads) == (4 * CPUS, 1)
    assert (config.load.tags, config.load.session_config) == (("serve",), b"")
    assert config.wait_for_retries


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["--port=0"],
            "At least one of server_options.grpc_port or server_options.grpc_socket_path must be set.",
        ),
        (
            ["--use_alts_credentials", "--ssl_config_file=/x"],
            "Either use_alts_credentials must be false or ssl_config_file must be empty.",
        ),
        ([], "Both server_options.model_base_path and server_options.model_config_file are empty!"),
        (
            ["--model_base_path=/m", "--batching_parameters_file=/b"],
            "server_options.batching_parameters_file is set without setting "
            "server_options.enable_batching to true.",
        ),
        (
            [
                "--model_base_path=/m",
                "--tensorflow_session_parallelism=1",
                "--tensorflow_intra_op_parallelism=1",
                "--tensorflow_inter_op_parallelism=1",
            ],
            "Either configure server_options.tensorflow_session_parallelism or "
            "(server_options.tensorflow_intra_op_parallelism, "
            "server_options.tensorflow_inter_op_parallelism) separately. You cannot configure all.",
        ),
        (
            ["--model_base_path=relative"],
            "Expected model default to have an absolute path or URI; got base_path()=relative",
        ),
    ],
)
def test_argument_errors(argv: list[str], message: str) -> None:
    with pytest.raises(StatusError) as error:
        drop_in(*argv)
    assert (error.value.code, error.value.message) == ("INVALID_ARGUMENT", message)


def test_the_checks_come_in_tensorflow_servings_order() -> None:
    everything = [
        "--port=0",
        "--use_alts_credentials",
        "--ssl_config_file=/x",
        "--batching_parameters_file=/b",
    ]
    with pytest.raises(StatusError, match="At least one"):
        drop_in(*everything)
    with pytest.raises(StatusError, match="use_alts_credentials"):
        drop_in(*everything[1:])
    with pytest.raises(StatusError, match="are empty!"):
        drop_in(*everything[3:])


def test_the_drop_in_without_grpc_needs_a_socket() -> None:
    config = drop_in("--port=0", "--grpc_socket_path=s.sock", "--model_base_path=/m")
    assert (config.core.grpc_address, config.core.grpc_socket_path) == (None, "s.sock")


def test_the_drop_in_leaves_rest_out_on_the_grpc_port() -> None:
    assert drop_in("--port=8500", "--rest_api_port=8500", "--model_base_path=/m").core.rest_address is None


def test_serves_ports(tmp_path: Path) -> None:
    config = serve(str(tmp_path))
    assert config.core.rest_address is not None and config.core.rest_address.endswith(":8501")
    assert serve(str(tmp_path), "--rest_api_port=off").core.rest_address is None
    free = serve(str(tmp_path), "--port=0").core.grpc_address
    assert free is not None and free.endswith(":0")
    assert not config.wait_for_retries


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--port=off", "--rest_api_port=off"], "nothing to serve on"),
        (["--port=7", "--rest_api_port=7"], "both 7"),
        (["--model_base_path=/m"], "give PATH or --model_base_path, not both"),
        (["--model_config_file=/m"], "give PATH or --model_config_file, not both"),
        (["--max_json_depth=0"], "--max_json_depth expects at least 1, got 0"),
        (["--host=no.such.host.invalid"], "--host expects an address"),
        ([f"--host={'x' * 64}.example"], "--host expects an address"),
    ],
)
def test_what_serve_refuses(tmp_path: Path, argv: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        serve(str(tmp_path), *argv)


def test_several_paths(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    config = serve(str(tmp_path / "a"), f"c={tmp_path / 'b'}")
    assert [model.name for model in config.models] == ["a", "c"]
    with pytest.raises(StatusError, match="Illegal to list model a multiple times"):
        serve(str(tmp_path / "a"), f"a={tmp_path / 'b'}")
    with pytest.raises(UsageError, match="NAME=PATH"):
        serve(str(tmp_path / "a"), str(tmp_path / "b"), "--model_name=x")
    assert serve(str(tmp_path / "a"), "--model_name=x").models[0].name == "x"


def test_one_versions_folder(tmp_path: Path) -> None:
    (tmp_path / "m" / "4").mkdir(parents=True)
    (tmp_path / "m" / "4" / "saved_model.pb").touch()
    assert serve(str(tmp_path / "m" / "4")).models == (
        ModelConfig("m", str(tmp_path / "m" / "4"), policy=Folder(4)),
    )


@pytest.mark.parametrize(
    ("environment", "argv", "name", "path"),
    [
        ({"MODEL_NAME": "m"}, [], "m", "/models/m"),
        ({"MODEL_BASE_PATH": "/srv"}, [], "model", "/srv/model"),
        ({"MODEL_NAME": "m", "MODEL_BASE_PATH": "/srv/"}, [], "m", "/srv/m"),
        ({"MODEL_NAME": "m"}, ["--model_name=n"], "n", "/models/n"),
        ({"MODEL_NAME": "m"}, ["--model_base_path=/x"], "default", "/x"),
    ],
)
def test_the_containers_contract(environment: dict[str, str], argv: list[str], name: str, path: str) -> None:
    assert serve(*argv, environment=environment).models == (ModelConfig(name, path),)


def test_nothing_to_serve(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to serve: give a PATH"):
        serve("--model_name=no_such_model_here")


def test_serve_makes_a_base_path_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert serve("--model_base_path=m").models[0].base_path == str(tmp_path / "m")


def test_flags_reach_the_core() -> None:
    core = drop_in(
        "--model_base_path=/m",
        "--rest_api_port=1",
        "--host=127.0.0.1",
        "--rest_api_timeout_in_ms=-1",
        "--rest_api_enable_cors_support",
        "--enable_signature_method_name_check",
        "--enable_serialization_as_tensor_content",
        "--max_request_bytes=10",
        "--max_json_depth=20",
        "--gzip_min_bytes=0",
        "--io_threads=3",
        "--compute_threads=5",
        "--tensorflow_library=/lib.so",
        "--op_library=/op.so",
        "--log_level=debug",
    ).core
    assert (core.rest_address, core.grpc_address) == ("127.0.0.1:1", "127.0.0.1:8500")
    assert (core.rest_timeout_ms, core.cors, core.method_name_check, core.tensor_content) == (
        -1,
        True,
        True,
        True,
    )
    assert (core.max_body_bytes, core.max_depth, core.gzip_min_bytes) == (10, 20, 0)
    assert (core.io_threads, core.compute_threads) == (3, 5)
    assert (core.tensorflow_library, core.op_libraries, core.log_level) == ("/lib.so", ("/op.so",), "debug")


def test_the_access_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert drop_in("--model_base_path=/m").core.access_log is None

    def log(*argv: str) -> AccessLogOptions | None:
        return drop_in("--model_base_path=/m", "--access_log=all", *argv).core.access_log

    assert log() == AccessLogOptions(False, 1.0, "stdout", "text")
    assert log("--access_log=errors", "--access_log_sample=0.5", "--log_format=json") == AccessLogOptions(
        True, 0.5, "stdout", "json"
    )
    assert log("--access_log_file=stderr") == AccessLogOptions(output="stderr")
    assert log("--access_log_file=./stdout") == AccessLogOptions(output=f"{tmp_path}/stdout")
    for wrong in ("--access_log_sample=1.5", "--access_log_sample=-1", "--access_log_file="):
        with pytest.raises(UsageError, match=wrong.partition("=")[0]):
            log(wrong)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ((), ("off", "given")),
        (("--access_log=errors",), ("off", "told")),
        (("--request_ids=auto",), ("given", "given")),
        (("--request_ids=off", "--access_log=all"), ("off", "off")),
        (("--request_ids=all",), ("all", "all")),
    ],
)
def test_the_identifiers_that_are_returned(flags: tuple[str, ...], expected: tuple[str, str]) -> None:
    """In ``tensorflow_model_server``, and in ``servable serve``."""
    configs = drop_in("--model_base_path=/m", *flags), serve("--model_base_path=/m", *flags)
    assert tuple(config.core.request_ids for config in configs) == expected


def test_payload_logs() -> None:
    config = drop_in("--model_base_path=/m")
    assert (config.core.payload_file_bytes, config.core.payload_file_seconds) == (128 << 20, 3600.0)
    assert config.lifecycle.payload_log_dir == ""
    flags = "--payload_log_dir=/logs/", "--payload_log_max_bytes=0", "--payload_log_max_seconds=0"
    config = drop_in("--model_base_path=/m", *flags)
    assert (config.core.payload_file_bytes, config.core.payload_file_seconds) == (0, 0.0)
    assert config.lifecycle.payload_log_dir == "/logs"


def test_the_library_from_the_environment() -> None:
    environment = {"SERVABLE_TENSORFLOW_LIBRARY": "/e.so", "MODEL_NAME": "m"}
    assert serve(environment=environment).core.tensorflow_library == "/e.so"
    assert serve("--tensorflow_library=/f.so", environment=environment).core.tensorflow_library == "/f.so"


def test_flags_reach_loading() -> None:
    config = drop_in(
        "--model_base_path=/m",
        "--saved_model_tags=serve,gpu",
        "--engine=tensorflow",
        "--run_in=pool",
        "--enable_model_warmup=false",
        "--num_request_iterations_for_warmup=3",
        "--synthetic_warmup",
        "--num_load_threads=2",
        "--num_unload_threads=3",
        "--max_num_load_retries=1",
        "--load_retry_interval_micros=-5",
        "--file_system_poll_wait_seconds=-1",
        "--model_config_file_poll_wait_seconds=7",
        "--aspired_version_policy=resource_preserving",
        "--shutdown_grace_seconds=2.5",
    )
    load, lifecycle = config.load, config.lifecycle
    assert (load.tags, load.placement, load.warmup) == (("serve", "gpu"), "pool", False)
    assert load.engine == "tensorflow"
    assert (load.warmup_iterations, load.synthetic_warmup) == (3, True)
    assert (lifecycle.load_threads, lifecycle.unload_threads) == (2, 3)
    assert (lifecycle.retries, lifecycle.retry_seconds, lifecycle.policy) == (1, 0.0, "resource_preserving")
    assert (config.poll_seconds, config.config_poll_seconds, config.grace_seconds) == (None, 7.0, 2.5)


@pytest.mark.parametrize(
    ("host", "port", "text"),
    [("1.2.3.4", 5, "1.2.3.4:5"), ("::1", 0, "[::1]:0"), ("localhost", 7, "127.0.0.1:7")],
)
def test_addresses(host: str, port: int, text: str) -> None:
    assert address(host, port) in (text, "[::1]:7")


def test_every_interface_by_default() -> None:
    assert address("", 9) in ("[::]:9", "0.0.0.0:9")


def test_a_grpc_message_keeps_both_limits() -> None:
    argument = "--grpc_channel_arguments=grpc.max_receive_message_length="
    for asked, limit in [("300", 100), ("100", 300)]:
        config = drop_in("--model_base_path=/m", f"{argument}{asked}", f"--max_request_bytes={limit}")
        assert (config.core.grpc_limits.max_receive_bytes, config.core.max_body_bytes) == (100, limit)
    assert drop_in("--model_base_path=/m", f"{argument}-1").core.grpc_limits.max_receive_bytes == 2**31 - 1


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("localhost:7", ("localhost:7",)),
        ("127.0.0.1:7", ("127.0.0.1:7",)),
        ("[::1]:7", ("[::1]:7",)),
        (":7", ("[::]:7", "0.0.0.0:7")),
    ],
)
def test_the_administrations_address_keeps_its_name(tmp_path: Path, given: str, meant: tuple[str]) -> None:
    admin = serve(str(tmp_path), f"--admin_address={given}").admin
    assert admin is not None and admin.address in meant


def test_an_administrations_name_that_means_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expects an address of this machine"):
        serve(str(tmp_path), "--admin_address=no.such.host.invalid:7")


@pytest.mark.parametrize("text", ["inf", "1e30", "9223372037", "1e400"])
def test_a_time_without_end_can_be_waited_for(text: str) -> None:
    """A lock raises OverflowError beyond ``threading.TIMEOUT_MAX``, even when it is free."""
    flags = [f"--shutdown_grace_seconds={text}", f"--load_retry_interval_micros={2**63 - 1}"]
    flags += [f"--{name}_wait_seconds={2**31 - 1}" for name in ("file_system_poll", "model_config_file_poll")]
    config = drop_in("--model_base_path=/m", *flags)
    times = [config.grace_seconds, config.lifecycle.retry_seconds]
    times += [config.poll_seconds or 0, config.config_poll_seconds or 0]
    for seconds in times:
        assert seconds > 1e8
        assert threading.Lock().acquire(timeout=seconds)


@pytest.mark.parametrize(("text", "seconds"), [("-inf", 0.0), ("-1", 0.0), ("0", 0.0), ("2.5", 2.5)])
def test_times_that_end(text: str, seconds: float) -> None:
    assert drop_in("--model_base_path=/m", f"--shutdown_grace_seconds={text}").grace_seconds == seconds


def test_a_time_that_is_no_number() -> None:
    with pytest.raises(UsageError, match="--shutdown_grace_seconds expects a number, got 'nan'"):
        drop_in("--model_base_path=/m", "--shutdown_grace_seconds=nan")


def test_an_environment_that_is_not_utf_8(tmp_path: Path) -> None:
    bad = "/\udcff"
    for environment in ({"MODEL_BASE_PATH": bad}, {"SERVABLE_TENSORFLOW_LIBRARY": bad, "MODEL_NAME": "m"}):
        with pytest.raises(UsageError, match="must be UTF-8"):
            serve(environment=environment)
    with pytest.raises(UsageError, match="TOKEN must be UTF-8") as error:
        serve(str(tmp_path), "--admin_address=:0", environment={"SERVABLE_ADMIN_TOKEN": "secret\udcff"})
    assert "secret" not in str(error.value)


def test_metrics_are_on_in_servable_serve_alone_unless_told() -> None:
    assert serve("--model_base_path=/m").core.metrics_path == "/metrics"
    assert serve("--model_base_path=/m", "--metrics_path=/a/b.txt").core.metrics_path == "/a/b.txt"
    assert serve("--model_base_path=/m", "--metrics_path=").core.metrics_path is None
    assert drop_in("--model_base_path=/m").core.metrics_path is None
    assert drop_in("--model_base_path=/m", "--metrics_path=/metrics").core.metrics_path == "/metrics"
    assert serve("--model_base_path=/m").core.prometheus_path is None


@pytest.mark.parametrize(
    "path", ["metrics", "/", "/m?x", "/m m", "/V1/models/m", "/admin/models", "/é", "/m\n"]
)
def test_the_page_of_metrics_hides_no_other(path: str) -> None:
    with pytest.raises(UsageError, match="--metrics_path expects a path"):
        serve("--model_base_path=/m", f"--metrics_path={path}")


def test_the_file_of_tokens_is_an_absolute_path(tmp_path: Path) -> None:
    assert serve(str(tmp_path)).core.auth_file is None
    assert serve(str(tmp_path), "--auth_file=t").core.auth_file == os.path.abspath("t")
    assert serve(str(tmp_path), "--auth_file=/t").core.auth_file == "/t"
    for parsed in (serve, drop_in):
        with pytest.raises(UsageError, match="--auth_file expects a path, got ''"):
            parsed(f"--model_base_path={tmp_path}", "--auth_file=")


def test_tls_files_are_taken_together_and_as_absolute_paths(tmp_path: Path) -> None:
    assert serve(str(tmp_path)).core.tls_files is None
    files = serve(str(tmp_path), "--tls_cert_file=c", "--tls_key_file=/k").core.tls_files
    assert files == TlsFiles(certificate=os.path.abspath("c"), key="/k", client_ca=None)
    asking = serve(str(tmp_path), "--tls_cert_file=/c", "--tls_key_file=/k", "--tls_client_ca_file=/a")
    assert asking.core.tls_files == TlsFiles("/c", "/k", "/a")
    for flag in ("--tls_cert_file=/c", "--tls_key_file=/k", "--tls_client_ca_file=/a"):
        with pytest.raises(UsageError, match="needs both --tls_cert_file and --tls_key_file"):
            serve(str(tmp_path), flag)


def test_only_serve_has_pages_of_health_on_the_rest_port_by_default(tmp_path: Path) -> None:
    assert serve(str(tmp_path)).core.health_pages
    assert not drop_in("--model_base_path=/m").core.health_pages
    assert drop_in("--model_base_path=/m", "--enable_rest_healthcheck").core.health_pages


def test_models_on_demand_and_their_budget(tmp_path: Path) -> None:
    folder = f"--models_dir={tmp_path}"
    config = serve(folder, "--lazy_load", "--memory_budget=2GiB", "--pinned_models=a, b", "--pinned_models=c")
    lifecycle = config.lifecycle
    assert (lifecycle.lazy_load, lifecycle.memory_budget) == (True, 2 << 30)
    assert lifecycle.pinned_models == ("a", "b", "c")
    assert (config.core.lazy_load, config.core.memory_budget) == (True, 2 << 30)
    assert (config.models_dir, config.models) == (str(tmp_path), ())
    assert serve(folder).core.memory_budget is None
    assert drop_in(folder).models_dir == str(tmp_path)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--memory_budget=2GiB"], "--memory_budget needs --lazy_load"),
        (["--lazy_load", "--memory_budget=much"], "--memory_budget: expected a size such as 500MB or 2GiB"),
        (["--lazy_load", "--memory_budget=1kB"], "--memory_budget expects at least 1MiB, got '1kB'"),
        (["--lazy_load", "--memory_budget=0"], "--memory_budget expects at least 1MiB, got '0'"),
        (["--lazy_load", "--memory_budget=-1GiB"], "expected a size such as 500MB or 2GiB, got '-1GiB'"),
        (["--lazy_load", "--memory_budget=nan"], "expected a size such as 500MB or 2GiB, got 'nan'"),
        (["--lazy_load", f"--memory_budget={'9' * 400}"], "got one of 400 digits"),
        (["--lazy_load", "--memory_budget=99999999TiB"], "--memory_budget expects at most 1024PiB"),
        (["--pinned_models=a"], "--pinned_models needs --lazy_load"),
        (["--models_dir=/no/such/folder"], "--models_dir expects a folder"),
        (["--models_dir=/", "--model_config_file=/c"], "give --models_dir or --model_config_file, not both"),
    ],
)
def test_what_does_not_go_together_is_refused(argv: list[str], message: str, tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    place = [] if any("models_dir" in one for one in argv) else [str(tmp_path)]
    with pytest.raises(UsageError, match=message):
        serve(*place, *argv)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("12", 12),
        ("1.5GB", 1_500_000_000),
        ("2GiB", 2 << 30),
        ("3 Mi", 3 << 20),
        ("4k", 4000),
        ("1TB", 10**12),
    ],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "1XB", "1e9", "1.2.3GB", "\u0661GB", "1 G i B"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (ModelConfig("m", "http://[::1/m.zip"), "a path or URI that can be read"),
        (ModelConfig("m", "http://::1]/m.zip"), "a path or URI that can be read"),
        (ModelConfig("\ud800", "/m"), "is not UTF-8"),
        (ModelConfig("m", "/m", labels={"\ud800": 1}), "is not UTF-8"),
    ],
)
def test_models_that_nothing_could_follow_are_refused(model: ModelConfig, words: str) -> None:
    with pytest.raises(StatusError, match=words) as error:
        check_models((model,))
    assert error.value.code == "INVALID_ARGUMENT"
    str(error.value).encode()


def test_a_path_may_have_brackets() -> None:
    check_models((ModelConfig("m", "/models/[1"), ModelConfig("n", "http://[::1]:80/n.zip")))
