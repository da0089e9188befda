"""Command lines in both dialects."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from servable.config.arguments import parse
from servable.config.flags import FLAGS
from servable.errors import UsageError


@pytest.mark.parametrize("serve", [True, False])
@pytest.mark.parametrize(
    ("argv", "name", "value"),
    [
        (["--port=9"], "port", 9),
        (["--port", "9"], "port", 9),
        (["--port=1", "--port=2"], "port", 2),
        (["--enable_batching"], "enable_batching", True),
        (["--enable_batching=TRUE"], "enable_batching", True),
        (["--enable_batching=1"], "enable_batching", True),
        (["--enable_model_warmup=false"], "enable_model_warmup", False),
        (["--enable_model_warmup=0"], "enable_model_warmup", False),
        (["--enable_model_warmup", "false"], "enable_model_warmup", False),
        (["--model_name="], "model_name", ""),
        (["--model_name=a=b"], "model_name", "a=b"),
        (["--file_system_poll_wait_seconds", "-1"], "file_system_poll_wait_seconds", -1),
        (["--load_retry_interval_micros=9223372036854775807"], "load_retry_interval_micros", 2**63 - 1),
        (["--per_process_gpu_memory_fraction=0.5"], "per_process_gpu_memory_fraction", 0.5),
        (["--op_library=a.so", "--op_library=b.so"], "op_library", ("a.so", "b.so")),
        (["--log_level=debug"], "log_level", "debug"),
    ],
)
def test_values(argv: list[str], name: str, value: object, serve: bool) -> None:
    arguments = parse(argv, serve)
    assert arguments.values[name] == value
    assert arguments.given == {name}


@pytest.mark.parametrize("serve", [True, False])
@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["--port=x"], "--port expects a whole number, got 'x'"),
        (["--port="], "--port expects a whole number, got ''"),
        (["--port=65536"], "--port expects a port from 0 to 65535"),
        (["--port"], "--port needs a value: --port=N"),
        (["--port", "--enable_batching"], "--port needs a value: --port=N"),
        (["--num_load_threads=2147483648"], "--num_load_threads expects a whole number of 32 bits"),
        (["--num_load_threads=1_0"], "--num_load_threads expects a whole number"),
        (["--num_load_threads=\u0661"], "--num_load_threads expects a whole number"),
        (["--enable_batching=yes"], "--enable_batching expects true or false, got 'yes'"),
        (["--per_process_gpu_memory_fraction=much"], "--per_process_gpu_memory_fraction expects a number"),
        (["--run_in=gpu"], "--run_in expects one of auto, caller, pool, got 'gpu'"),
    ],
)
def test_values_that_do_not_parse(argv: list[str], text: str, serve: bool) -> None:
    with pytest.raises(UsageError) as error:
        parse(argv, serve)
    assert str(error.value).startswith(text)


def test_serve_takes_dashes_off_and_friendlier_defaults() -> None:
    arguments = parse(["--rest-api-port=off", "model", "--max-num-load-retries", "2"], serve=True)
    assert arguments.port("rest_api_port") is None
    assert arguments.port("port") == 8500
    assert arguments.integer("max_num_load_retries") == 2
    assert arguments.positionals == ("model",)
    assert parse([], serve=True).port("rest_api_port") == 8501


def test_port_0_is_any_port_for_serve_and_off_for_the_drop_in() -> None:
    assert parse(["--port=0"], serve=True).port("port") == 0
    assert parse(["--port=0"], serve=False).port("port") is None
    assert parse([], serve=False).port("rest_api_port") is None


@pytest.mark.parametrize(
    ("argument", "text"),
    [
        ("--rest_port=1", "unknown flag --rest_port; did you mean --rest_api_port?"),
        ("--xyzzy", "unknown flag --xyzzy"),
        ("-p", "unknown flag -p: flags begin with two dashes"),
    ],
)
def test_serve_refuses_unknown_flags(argument: str, text: str) -> None:
    with pytest.raises(UsageError) as error:
        parse([argument], serve=True)
    assert str(error.value) == text


def test_the_drop_in_keeps_unknown_flags_and_goes_on() -> None:
    arguments = parse(["--rest-api-port=1", "--xyzzy", "stray", "--port=7"], serve=False)
    assert arguments.unknown == ("--rest-api-port=1", "--xyzzy")
    assert arguments.positionals == ("stray",)
    assert arguments.port("port") == 7


def test_two_dashes_end_the_flags() -> None:
    assert parse(["a", "--", "--port=1", "b"], serve=True).positionals == ("a", "--port=1", "b")


@pytest.mark.parametrize("serve", [True, False])
def test_help(serve: bool) -> None:
    assert parse(["--help"], serve).help
    assert not parse([], serve).help


@given(st.lists(st.text(max_size=12) | st.sampled_from([f"--{name}" for name in FLAGS]), max_size=6))
def test_any_command_line_parses_or_is_refused_in_words(argv: list[str]) -> None:
    for serve in (True, False):
        try:
            arguments = parse(argv, serve)
        except UsageError as error:
            assert str(error)
        else:
            assert set(arguments.values) == set(FLAGS)


@given(st.integers(-(2**63), 2**63 - 1))
def test_every_int64_round_trips(value: int) -> None:
    assert (
        parse([f"--load_retry_interval_micros={value}"], serve=False).integer("load_retry_interval_micros")
        == value
    )
