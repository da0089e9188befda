"""The file of ``servable ray run``: what it may say, and what an error says."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from servable.cli import main
from servable.errors import MissingPackageError, UsageError
from servable.ray.cluster_address import checked, try_to_reach
from servable.ray.configuration import Application, Configuration, read, read_file
from servable.ray.models import Model
from servable.ray.yaml_text import parse

WHOLE = """
address: ray://head:10001
http: {host: 0.0.0.0, port: 8080}
grpc: {port: 9001}
proxies: head_only
applications:
  - name: shop
    route: /shop
    models:
      ranking: s3://bucket/models/ranking
      prices: {path: /models/prices, versions: [1, 2], labels: {stable: 1}}
    replicas: {min: 1, max: 4, target: 16, upscale_delay: 3, downscale_delay: 30}
    max_ongoing_requests: 100
    max_queued_requests: -1
    max_per_node: 2
    cpus: 2
    gpus: 0.5
    memory: 1.5 GiB
    health_check: {period: 5, timeout: 10}
    shutdown_seconds: 30
    flags: {batching: auto}
  - models: "s3://bucket/models/{model}"
    multiplexed: 8
    replicas: 2
"""


def test_a_file_that_says_everything() -> None:
    assert read(WHOLE) == Configuration(
        applications=(
            Application(
                name="shop",
                route="/shop",
                models={
                    "ranking": Model("s3://bucket/models/ranking"),
                    "prices": Model("/models/prices", (1, 2), {"stable": 1}),
                },
                replicas={
                    "min_replicas": 1,
                    "max_replicas": 4,
                    "target_ongoing_requests": 16,
                    "upscale_delay_s": 3,
                    "downscale_delay_s": 30,
                },
                options={
                    "max_ongoing_requests": 100,
                    "max_queued_requests": -1,
                    "max_replicas_per_node": 2,
                    "ray_actor_options": {"num_cpus": 2, "num_gpus": 0.5, "memory": 3 << 29},
                    "health_check_period_s": 5,
                    "health_check_timeout_s": 10,
                    "graceful_shutdown_timeout_s": 30,
                },
                flags={"batching": "auto"},
            ),
            Application("default", "/", {"{model}": Model("s3://bucket/models/{model}")}, 2, 8),
        ),
        address="ray://head:10001",
        host="0.0.0.0",
        http_port=8080,
        grpc_port=9001,
        proxies="HeadOnly",
    )


def test_a_file_that_says_little() -> None:
    found = read("applications: [{models: /models/m}]")
    assert found == Configuration((Application("default", "/", {"m": Model("/models/m")}, 1),))
    for off in ("off", "'off'", "null"):
        assert read(f"grpc: {off}\napplications: [{{models: /m}}]").grpc_port is None
    assert read("grpc: 9000\napplications: [{models: /m}]").grpc_port == 9000
    assert read("grpc: {}\napplications: [{models: /m}]").grpc_port == 9000


def one(**given: Any) -> str:
    return f"applications: [{ ({'models': '/m'} | given)!r}]"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "expected a mapping with applications, got None"),
        ("a: [", "not YAML: line 1, column 5: while parsing a flow node"),
        ("\tapplications: []", "not YAML: line 1, column 1: while scanning for the next token"),
        (f"{one()}\n{one()}", "not YAML: line 2, column 1: the key 'applications' is there twice"),
        ("applications: [{models: {m: /a, m: /b}}]", "column 33: the key 'm' is there twice"),
        ("? [1]\n: 2", "not YAML: line 1, column 3: while constructing a mapping, found unhashable key"),
        ("a: 2026-13-45", "not YAML: month must be in 1..12"),
        ("[1]", "expected a mapping with applications, got [1]"),
        ("aplications: []", "the file: unknown key 'aplications'; did you mean applications?"),
        ("applications: []", "applications: expected a list of applications, got []"),
        ("applications: text", "applications: expected a list"),
        ("applications: [1]", "applications[0]: expected a mapping with models, got 1"),
        ("applications: [{}]", "applications[0].models: expected a path, or a mapping"),
        (one(model="/m"), "applications[0]: unknown key 'model'; did you mean models?"),
        (one(name="a b"), "applications[0].name: expected letters, digits, _ . -, got 'a b'"),
        (one(route="shop"), "applications[0].route: expected / or a path such as /shop, got 'shop'"),
        (one(route="/shop/"), "applications[0].route"),
        (one(models={"m": "rel"}), "applications[0].models.m.path: expected an absolute path"),
        (one(models="/m/{model}"), "say in multiplexed how many are loaded at once"),
        (one(multiplexed=-1), "applications[0].multiplexed: expected a whole number, 0 or more, got -1"),
        (one(replicas=0), "applications[0].replicas: expected a whole number, 1 or more, got 0"),
        (one(replicas="many"), "applications[0].replicas: expected a number, or a mapping with min and max"),
        (one(replicas={"mni": 1}), "applications[0].replicas: unknown key 'mni'; did you mean min?"),
        (one(replicas={"min": 3, "max": 2}), "replicas: min has to be max at most, got min: 3, max: 2"),
        (one(replicas={"min": 3}), "replicas: min has to be max at most, got min: 3, max: 1 (1 if not said)"),
        (one(replicas={"max": 2, "initial": 3}), "applications[0].replicas.initial: expected 1 to 2, got 3"),
        (one(replicas={"max": 0}), "applications[0].replicas.max: expected a whole number, 1 or more, got 0"),
        (one(replicas={"max": 2, "target": 0}), "applications[0].replicas.target: expected more than 0"),
        (one(max_queued_requests=0), "max_queued_requests: expected 1 or more, or -1 for no limit, got 0"),
        (one(cpus="two"), "applications[0].cpus: expected a number, 0 or more, got 'two'"),
        (one(memory="2 XB"), "applications[0].memory: expected bytes or a size such as 2GiB, got '2 XB'"),
        (one(health_check={"every": 1}), "applications[0].health_check: unknown key 'every'"),
        (one(flags={"btching": 1}), "applications[0].flags: unknown flag --btching"),
        (one(flags={"model_name": "x"}), "applications[0].flags: model_name is not for an embedded server"),
        (one(flags=[1]), "applications[0].flags: expected flags of servable serve, got [1]"),
        ("http: {port: 0}\n" + one(), "http.port: expected a port, 1 to 65535, got 0"),
        ("http: [1]\n" + one(), "http: expected a mapping with host, port, got [1]"),
        ("http: {host: 1}\n" + one(), "http.host: expected text, got 1"),
        ("grpc: {prt: 1}\n" + one(), "grpc: unknown key 'prt'; did you mean port?"),
        ("grpc: true\n" + one(), "grpc.port: expected a port, 1 to 65535, got True"),
        ("address: 5\n" + one(), "address: expected text, got 5"),
        ("address: head\n" + one(), "address: expected HOST:PORT of a head, ray://HOST:PORT, auto, or local"),
        ("address: head:99999\n" + one(), "address: expected HOST:PORT of a head"),
        ("address: ray://head\n" + one(), "address: expected HOST:PORT of a head"),
        ("http: []\n" + one(), "http: expected a mapping with host, port, got []"),
        ("grpc: 0\n" + one(), "grpc.port: expected a port, 1 to 65535, got 0"),
        ("grpc: {port: 8000}\n" + one(), "grpc.port: expected another port than http.port, got 8000"),
        ("proxies: [a]\n" + one(), "proxies: expected one of every_node, head_only, disabled, got ['a']"),
        (one(gpus=1.5), "applications[0].gpus: expected a part of one, or a whole number, got 1.5"),
        ("applications: [{models: /m, cpus: 0.00001}]", "[0].cpus: expected 0, or 0.0001 or more, got 1e-05"),
        (one(max_per_node=1000), "applications[0].max_per_node: expected 100 at most, got 1000"),
        (one(flags=[]), "applications[0].flags: expected flags of servable serve, got []"),
        (one(health_check=0), "applications[0].health_check: expected a mapping with period, timeout, got 0"),
        ("proxies: all\n" + one(), "proxies: expected one of every_node, head_only, disabled, got 'all'"),
        ("applications: [{models: /a}, {models: /b, route: /b}]", "names have to differ, got default"),
        ("applications: [{models: /a}, {models: /b, name: b}]", "routes have to differ, got /"),
    ],
)
def test_what_is_wrong_says_where(text: str, error: str) -> None:
    with pytest.raises(UsageError) as raised:
        read(text)
    assert error in str(raised.value)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(
    st.sampled_from(["models", "name", "route", "replicas", "cpus", "memory", "health_check", "flags"]),
    values,
)
def test_any_value_is_taken_or_refused(key: str, value: object) -> None:
    import yaml

    try:
        found = read(yaml.safe_dump({"applications": [{"models": "/m", key: value}]}))
    except UsageError:
        return
    assert found.applications[0].models


@settings(deadline=None)
@given(st.sampled_from(["address", "http", "grpc", "proxies", "applications"]), values)
def test_any_value_of_the_file_is_taken_or_refused(key: str, value: object) -> None:
    import yaml

    try:
        found = read(yaml.safe_dump({"applications": [{"models": "/m"}], key: value}))
    except UsageError:
        return
    assert found.applications[0].models


def test_parts_of_resources() -> None:
    options = read(one(cpus=1.5, gpus=2.0)).applications[0].options
    assert options == {"ray_actor_options": {"num_cpus": 1.5, "num_gpus": 2.0}}
    assert read("proxies: disabled\ngrpc: 8000\n" + one()).grpc_port == 8000


@settings(deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    with pytest.raises(UsageError):
        read(text)


def test_the_command_checks_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "config.yaml"
    assert main(["ray", "run", str(file), "--check"]) == 2
    assert "cannot be read: No such file" in capsys.readouterr().err
    file.write_text(WHOLE)
    assert main(["ray", "run", str(file), "--check"]) == 0
    assert capsys.readouterr().out == f"{file} is right: shop, default\n"
    file.write_bytes(b"\xff")
    with pytest.raises(UsageError, match="not UTF-8 at byte 0"):
        read_file(str(file))
    file.write_bytes(b" " * (1 << 20) + b"x")
    assert main(["ray", "run", str(file)]) == 2
    assert "which is no configuration" in capsys.readouterr().err
    # Its writer may never come.
    os.mkfifo(tmp_path / "pipe")
    assert main(["ray", "run", "--check", str(tmp_path / "pipe")]) == 2
    assert "pipe cannot be read: it is a pipe" in capsys.readouterr().err


def test_without_ray_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import servable.ray

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'servable\[ray\]'"):
        servable.ray.deployment("/m")
    with pytest.raises(MissingPackageError, match=r"pip install 'servable\[ray\]'"):
        servable.ray.servers("/m")
    for wrong in ({"replicas": 0}, {"replicas": "x"}, {"multiplexed": -1}, {"nonsense": 1}):
        with pytest.raises((UsageError, MissingPackageError)):
            servable.ray.deployment("/m", **wrong)
    with pytest.raises(UsageError, match="multiplexed=8"):
        servable.ray.deployment("/m/{model}")


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ([1], "options: expected a mapping of options of serve.deployment, got [1]"),
        ({"num_replicas": 3}, "options: num_replicas follows from replicas, which is an argument"),
        ({"autoscaling_config": {}}, "options: autoscaling_config follows from replicas"),
        ({"name": "x"}, "options: name follows from name"),
        ({"user_config": {}}, "options: user_config follows from models"),
    ],
)
def test_options_say_nothing_that_arguments_do(given: Any, text: str) -> None:
    import servable.ray

    with pytest.raises(UsageError) as raised:
        servable.ray.deployment("/m", options=given)
    assert text in str(raised.value)


def test_servers_of_nodes_have_models_of_their_own_and_are_found_by_their_names() -> None:
    import servable.ray

    with pytest.raises(UsageError, match=r"it needs servable\.ray\.deployment"):
        servable.ray.servers("/m/{model}")
    with pytest.raises(
        UsageError, match=r"options: expected a mapping of Ray's options of actors, got \[1\]"
    ):
        servable.ray.servers("/m", options=[1])  # type: ignore[arg-type]
    for kept in ("name", "namespace", "scheduling_strategy"):
        with pytest.raises(UsageError, match=f"options: {kept} is set for each server"):
            servable.ray.servers("/m", options={kept: "x"})


def test_merged_keys_are_none_that_are_there_twice() -> None:
    text = "common: &x {<<: {cpus: 1}, cpus: 2}\nmore: {deep: &y {<<: *x, gpus: 1}}\nlast: {<<: *y, cpus: 3}"
    assert parse(text) == {
        "common": {"cpus": 2},
        "more": {"deep": {"cpus": 2, "gpus": 1}},
        "last": {"cpus": 3, "gpus": 1},
    }


def test_an_error_shows_a_part_of_what_is_large() -> None:
    with pytest.raises(UsageError, match=r"expected a path, or a mapping with path, .*, got \[\[\["):
        read(f"applications:\n - models:\n    m: {nested(40)}")


def nested(depth: int) -> str:
    """Returns a list of two equal lists, and so on, by anchors: with 2 ** depth values."""
    return f"[&a{depth} {nested(depth - 1)}, *a{depth}]" if depth else "[x, x, x, x]"


@pytest.mark.parametrize(
    "address", ["", "auto", "local", "head:6379", "10.0.0.1:6379", "[::1]:6379", "ray://head:10001", "of://x"]
)
def test_addresses(address: str) -> None:
    assert checked(address, "here") == address


def test_a_cluster_that_is_not_there_is_told_at_once() -> None:
    with socket.socket() as one_that_does_not_listen:
        one_that_does_not_listen.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{one_that_does_not_listen.getsockname()[1]}"
        for address in (place, f"ray://{place}"):
            with pytest.raises(ConnectionError, match=f"answers at {address}: Connection refused"):
                try_to_reach(address)
        one_that_does_not_listen.listen()
        try_to_reach(place)
    for without_place in ("", "auto", "local", "of://x"):
        try_to_reach(without_place)
