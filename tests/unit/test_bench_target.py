"""Addresses and options of ``servable bench``, as they are typed."""

from __future__ import annotations

import pytest

from servable.bench.target import Model, Target, parse_model, parse_target
from servable.cli import bench_arguments
from servable.cli.bench import bench
from servable.errors import UsageError


@pytest.mark.parametrize(
    ("text", "target", "model"),
    [
        (
            "http://h:8501/v1/models/m:predict",
            Target("tensorflow", False, "h", 8501),
            Model("m"),
        ),
        ("http://h/v1/models/m/versions/3", Target("tensorflow", False, "h", 80), Model("m", version="3")),
        (
            "https://h/x/y/v1/models/m/labels/canary",
            Target("tensorflow", False, "h", 443, True, "/x/y"),
            Model("m", label="canary"),
        ),
        ("http://[::1]:1/v2/models/a%2Bb/infer", Target("v2", False, "::1", 1), Model("a+b")),
        ("http://h:1/v2/models/m/versions/2/infer", Target("v2", False, "h", 1), Model("m", version="2")),
        ("grpc://h/m", Target("tensorflow", True, "h", 8500), Model("m")),
        ("grpc://h/a%2Fb%20c", Target("tensorflow", True, "h", 8500), Model("a/b c")),
        (
            "http://h/v1/models/a%2Flabels%2F%3Apredict%20c/labels/d%2Fe:predict",
            Target("tensorflow", False, "h", 80),
            Model("a/labels/:predict c", label="d/e"),
        ),
        ("grpcs://h:1", Target("tensorflow", True, "h", 1, True), None),
        ("http://h:8501", Target("tensorflow", False, "h", 8501), None),
        (
            "http://h:8501/behind/a/proxy",
            Target("tensorflow", False, "h", 8501, False, "/behind/a/proxy"),
            None,
        ),
    ],
)
def test_addresses_are_read(text: str, target: Target, model: Model | None) -> None:
    assert parse_target(text) == (target, model)


@pytest.mark.parametrize(
    "text",
    [
        *("", "m", "h:8501", "ftp://h/m", "http://", "http://h:x/", "http://h:0/", "http://h:99999/"),
        *("http://h/v1/models/", "http://h/v1/other", "http://h/v1/models/m:classify", "http://h?x=y"),
        *(
            "grpc://h/a/b",
            "http://h/v1/models/a b",
            "grpc://h/m/versions/x",
            "grpc://h/m/versions/٣",
            f"grpc://h/m/versions/{10**18}",
            "http://u:p@h/",
            "http://[::1",
        ),
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected"):
        parse_target(text)


def test_the_protocol_has_to_be_that_of_the_address() -> None:
    assert parse_target("grpc://h/m", "v2")[0].protocol == "v2"
    with pytest.raises(UsageError, match="protocol"):
        parse_target("http://h/v1/models/m", "v2")


def test_models_have_weights() -> None:
    assert parse_model("m/versions/2=0.5", weighted=True) == Model("m", version="2", weight=0.5)
    assert parse_model("a", weighted=True).weight == 1.0
    for wrong in ("m=", "m=x", "m=0", "m=-1", "m=inf", "m=nan"):
        with pytest.raises(UsageError, match="weight"):
            parse_model(wrong, weighted=True)


def test_paths_are_those_of_the_protocol() -> None:
    rest = Target("tensorflow", False, "h", 1, prefix="/p")
    assert rest.model_path(Model("a/b")) == "/p/v1/models/a%2Fb"
    assert rest.model_path(Model("m", label="x")) == "/p/v1/models/m/labels/x"
    assert Target("v2", False, "h", 1).model_path(Model("m", version="7")) == "/v2/models/m/versions/7"


URL = "http://127.0.0.1:1/v1/models/m"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["http://h"],
        [URL, "--concurrency=0"],
        [URL, "--concurrency=1,x"],
        [URL, "--rate=-1"],
        [URL, "--rate=inf"],
        [URL, "--duration=0"],
        [URL, "--duration=1h"],
        [URL, "--timeout=x"],
        [URL, "--arrivals=random"],
        [URL, "--shape=x"],
        [URL, "--shape=x=-1"],
        [URL, "--body=a", "--log=b"],
        [URL, "--header=x"],
        [URL, "--seed=-1"],
        [URL, f"--seed={1 << 64}"],
        [URL, "--rate=20000000"],
        ["compare", URL, URL, "--pid=1"],
        [URL, "--model=m=0"],
        [URL, "--p99=50ms"],
        [URL, "--find-rate"],
        [URL, "--find-rate", "--p99=1ms", "--p50=1ms"],
        [URL, "--latency-chart=x.pdf"],
        [URL, "--pid=999999999"],
        [URL, "http://127.0.0.1:2/v1/models/m"],
        ["compare", URL],
        ["compare", URL, URL, "--concurrency=1,2"],
        ["compare", URL, URL, "--find-rate"],
        ["http://h/v2/models/m", "--model=n/labels/x"],
        [URL, "--unknown"],
    ],
)
def test_wrong_command_lines_end_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(arguments) == 2
    assert capsys.readouterr().err


def test_help_ends_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(["--help"]) == 0
    assert bench(["compare", "--help"]) == 0
    assert "--find-rate" in capsys.readouterr().out


def test_times_have_units() -> None:
    options = bench_arguments.load_parser().parse_args(
        [URL, "--duration=500ms", "--warm-up=0", "--timeout=2m", "--p99.9=1.5s"]
    )
    assert (options.duration, options.warm_up, options.timeout) == (0.5, 0.0, 120.0)
    assert getattr(options, "p99.9") == 1500.0
    assert bench_arguments.dashed("--warm_up=a_b") == "--warm-up=a_b"


def test_a_token_goes_with_every_request_and_no_header_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVABLE_TOKEN", "secret")
    parser = bench_arguments.load_parser()
    server, _ = bench_arguments.server_and_models([URL], parser.parse_args([URL, "--header=X-Y: z"]))
    assert server.headers == (("x-y", "z"), ("authorization", "Bearer secret"))
    own = parser.parse_args([URL, "--header=Authorization: mine"])
    assert bench_arguments.server_and_models([URL], own)[0].headers == (("authorization", "mine"),)
