"""A server inside of this very process: its life, its predictions, its looks, its log."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import pickle
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from engines import found
from servers import MODELS, until

import servable
from servable.errors import (
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    StatusError,
    UnavailableError,
    UsageError,
)

pytestmark = pytest.mark.needs_tensorflow

SEVERAL = {name: MODELS / name for name in ("half_plus_two", "pair", "echo", "loop")}
ONE = MODELS / "half_plus_two"


@pytest.fixture(scope="module")
def server() -> Iterator[servable.Server]:
    with servable.serve(SEVERAL) as server:
        yield server


def page(address: str) -> str:
    with urllib.request.urlopen(address) as reply:
        return str(reply.read().decode())


# ---- predictions


def test_the_answers_are_those_of_both_protocols(server: servable.Server) -> None:
    inputs = {"a": np.array([0.5, 1.5], np.float32), "b": [1, 2]}
    direct = server.predict(inputs, "pair")
    assert list(direct) == ["sum", "twice"]
    assert (direct["sum"].dtype, direct["twice"].dtype) == (np.float32, np.int32)
    for address in (server.url, f"grpc://{server.grpc_address}"):
        with servable.Client(address) as client:
            asked = client.predict("pair", inputs)
        assert {name: one.tolist() for name, one in asked.items()} == {
            name: one.tolist() for name, one in direct.items()
        }


def test_values_without_a_name_and_the_outputs_wanted(server: servable.Server) -> None:
    assert server.predict([1, 2, 5], "half_plus_two").tolist() == [2.5, 3.0, 4.5]
    assert server.predict(2, "half_plus_two", version=1).tolist() == [3.0]
    only = server.predict({"a": [1.0], "b": [2]}, "pair", outputs=["twice"])
    assert {name: one.tolist() for name, one in only.items()} == {"twice": [4]}


def test_strings(server: servable.Server) -> None:
    answer = server.predict(["text", b"\xff\x00", ""], "echo", outputs="text")
    assert answer.tolist() == [b"text", b"\xff\x00", b""]


def test_nothing_and_scalars(server: servable.Server) -> None:
    assert server.predict(np.empty(0, np.float32), "half_plus_two").shape == (0,)
    assert server.predict({"steps": 3}, "loop")["done"].tolist() == 3
    filled = server.predict({"count": 70_000}, "loop", signature="fill")["y"]
    assert (filled.shape, filled.min(), filled.max()) == ((70_000,), 1.0, 1.0)


@pytest.mark.parametrize("count", [1, 4_096, 150_528])
@pytest.mark.parametrize("skew", [0, 1])
def test_large_arrays_are_lent_wherever_they_begin(server: servable.Server, count: int, skew: int) -> None:
    numbers = np.arange(count + skew, dtype=np.float32)[skew:]
    answer = server.predict(numbers, "half_plus_two")
    np.testing.assert_array_equal(answer, numbers / 2 + 2)
    assert not answer.flags.writeable
    turned = np.asfortranarray(np.stack([numbers, numbers], axis=1))[:, 1]
    np.testing.assert_array_equal(server.predict(turned, "half_plus_two"), answer)


def test_models_are_loaded_on_demand() -> None:
    def loaded(server: servable.Server) -> set[str]:
        return {name for name, (one, *_) in server.models().items() if one.state == "AVAILABLE"}

    broken = {"unknown_op": MODELS / "unknown_op"}
    with servable.serve({**SEVERAL, **broken}, lazy_load=True, memory_budget="1GiB") as server:
        assert loaded(server) == set()
        for _ in range(2):
            assert server.predict([1], "half_plus_two", timeout=60).tolist() == [2.5]
        assert loaded(server) == {"half_plus_two"}
        assert server.predict({"a": [1.0], "b": [2]}, "pair", version=1)["twice"].tolist() == [4]
        server.load(MODELS / "half_plus_two", "other")
        assert loaded(server) == {"half_plus_two", "pair"}
        assert server.predict([1], "other").tolist() == [2.5]
        for _ in range(2):
            with pytest.raises(
                UnavailableError, match=r"unknown_op version 1 could not be loaded: .*not registered"
            ):
                server.predict([1], "unknown_op")
        with pytest.raises(NotFoundError, match=r"Servable not found for request: Latest\(none\)"):
            server.predict([1], "none")


def test_an_answer_outlives_its_server() -> None:
    numbers = np.arange(100_000, dtype=np.float32)
    with servable.serve(ONE) as server:
        answer = server.predict(numbers)
    np.testing.assert_array_equal(answer, numbers / 2 + 2)


@pytest.mark.parametrize("engine", [name for name in ("onnx", "openvino", "tflite") if name in found().found])
def test_other_engines(engine: str) -> None:
    with servable.serve(MODELS / f"{engine}_pair", "pair") as server:
        answer = server.predict({"a": np.arange(20_000, dtype=np.float32), "b": np.ones(20_000, np.int32)})
        assert answer["sum"][-1] == 20_000
        # Many answers that are kept take nothing away from those to come.
        kept = [server.predict({"a": [1.0, float(one)], "b": [2, 3]})["sum"] for one in range(50)]
    assert [one.tolist() for one in kept] == [[3.0, one + 3.0] for one in range(50)]


def test_threads(server: servable.Server) -> None:
    def ask(number: int) -> list[float]:
        answer: list[float] = server.predict([number] * 5000, "half_plus_two").tolist()
        return answer

    with ThreadPoolExecutor(8) as threads:
        for number, answer in enumerate(threads.map(ask, range(100))):
            assert answer == [number / 2 + 2] * 5000


@pytest.mark.parametrize("flags", [{"batching": "auto"}, {"enable_batching": True}, {"run_in": "pool"}])
def test_the_way_is_that_of_every_request(flags: dict[str, Any]) -> None:
    with servable.serve(ONE, **flags) as server, ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda one: server.predict([one], timeout=30).tolist(), range(40)))
        assert answers == [[one / 2 + 2] for one in range(40)]
        counted = re.findall(
            r'^servable_requests_total\{model="half_plus_two".*outcome="OK".* (\d+)$',
            page(server.url + "/metrics"),
            re.MULTILINE,
        )
    assert sum(map(int, counted)) == 40


@pytest.mark.parametrize(
    ("inputs", "options", "kind", "text"),
    [
        ([1], {"model": "none"}, NotFoundError, "Servable not found for request: Latest(none)"),
        ([1], {"version": 7}, NotFoundError, "Servable not found for request: Specific(half_plus_two, 7)"),
        ([1], {"version": "stable"}, InvalidArgumentError, "Unrecognized servable version label: stable"),
        (
            [1],
            {"signature": "s"},
            InvalidArgumentError,
            'Serving signature name: "s" not found in signature def',
        ),
        ({}, {}, InvalidArgumentError, "input size does not match signature: 0!=1"),
        ([1], {"outputs": "z"}, InvalidArgumentError, "the signature has no output 'z'"),
        (["a"], {}, InvalidArgumentError, "input 'x' takes float, got text"),
        ([1], {"version": 1 << 70}, InvalidArgumentError, "expected an integer of 64 bits"),
        ([1], {"model": "\ud800"}, InvalidArgumentError, "half a character"),
        ({"a": [1.0, 2.0, 3.0], "b": [1, 2]}, {"model": "pair"}, StatusError, "Incompatible shapes"),
    ],
)
def test_errors(
    server: servable.Server, inputs: Any, options: dict[str, Any], kind: type[StatusError], text: str
) -> None:
    with pytest.raises(kind, match=re.escape(text)):
        server.predict(inputs, **{"model": "half_plus_two", **options})


def test_a_model_has_to_be_named_among_several(server: servable.Server) -> None:
    with pytest.raises(InvalidArgumentError, match="there are several models") as error:
        server.predict([1])
    assert "half_plus_two, pair, echo, loop" in error.value.hint


def test_a_call_ends_in_time(server: servable.Server) -> None:
    with pytest.raises(DeadlineExceededError):
        server.predict({"steps": 1 << 60}, "loop", timeout=0.2)


def test_with_await() -> None:
    async def work() -> list[list[float]]:
        async with servable.serve_async(ONE) as server:
            answers = await asyncio.gather(*(server.apredict([one]) for one in range(20)))
            assert server.is_running
        assert not server.is_running
        return [one.tolist() for one in answers]

    assert asyncio.run(work()) == [[one / 2 + 2] for one in range(20)]


# ---- its life


def test_it_starts_and_stops_as_often_as_one_likes() -> None:
    server = servable.Server(ONE, "m")
    assert repr(server) == "<servable.Server, which is not running>"
    server.stop()
    for _ in range(2):
        assert server.start() is server.start()
        url = server.url
        assert server.predict([1]).tolist() == [2.5]
        assert json.loads(page(f"{url}/v1/models/m"))["model_version_status"][0]["state"] == "AVAILABLE"
        server.stop()
        server.stop()
        with pytest.raises(urllib.error.URLError):
            page(url)
        for use in (lambda: server.predict([1]), server.models, server.logs, lambda: server.url):
            with pytest.raises(FailedPreconditionError, match="the server is not running"):
                use()


def test_several_run_beside_each_other(server: servable.Server) -> None:
    with servable.serve(ONE) as other, servable.serve(ONE, "again") as third:
        assert len({one.url for one in (server, other, third)}) == 3
        assert len({one.grpc_address for one in (server, other, third)}) == 3
        assert (list(other.models()), list(third.models())) == (["half_plus_two"], ["again"])
        assert third.predict([1]).tolist() == other.predict([1]).tolist() == [2.5]
    assert server.predict([1], "half_plus_two").tolist() == [2.5]


def test_an_exception_ends_it() -> None:
    with pytest.raises(ZeroDivisionError), servable.serve(ONE) as server:
        url = server.url
        raise ZeroDivisionError
    with pytest.raises(urllib.error.URLError):
        page(url)


def test_one_that_nobody_has_any_more_ends() -> None:
    url = servable.serve(ONE).url

    def is_gone() -> bool:
        try:
            page(url)
        except urllib.error.URLError:
            return True
        return False

    assert until(is_gone)


def test_ports_may_be_off() -> None:
    with servable.serve(ONE, port=None) as server:
        assert page(f"{server.url}/v1/models/half_plus_two")
        with pytest.raises(FailedPreconditionError, match="gRPC is off"):
            _ = server.grpc_address


def test_no_signal_is_taken_from_the_program() -> None:
    import signal

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    with servable.serve(ONE):
        assert {number: signal.getsignal(number) for number in before} == before


def test_models_that_cannot_be_served(tmp_path: Path) -> None:
    with pytest.raises(StatusError, match=r"model unknown_op version 1: .*not registered") as error:
        servable.serve(MODELS / "unknown_op")
    assert (error.value.code, type(error.value)) == ("NOT_FOUND", NotFoundError)
    with pytest.raises(NotFoundError, match="no such folder") as error:
        servable.serve(tmp_path / "nowhere")
    with pytest.raises(NotFoundError, match=r"servable empty|model empty"):
        servable.serve({"fine": ONE, "empty": tmp_path})
    text = tmp_path / "text.txt"
    text.write_text("none")
    with pytest.raises(InvalidArgumentError, match=r"text\.txt is a file"):
        servable.serve(text)
    for nothing in ({}, 7, [ONE]):
        with pytest.raises(InvalidArgumentError):
            servable.serve(nothing)


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ({"nonsense": 1}, "unknown flag --nonsense"),
        ({"rest_api_prot": 1}, "did you mean --rest_api_port"),
        ({"port": "x"}, "--port expects a whole number"),
        ({"model_config_file": "x"}, "not for an embedded server"),
        ({"port": None, "rest_api_port": None}, "nothing to serve on"),
    ],
)
def test_wrong_flags(flags: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        servable.serve(ONE, **flags)


# ---- its looks, and its log


def test_how_it_looks(server: servable.Server) -> None:
    port = server.url.rpartition(":")[2]
    assert re.fullmatch(
        r"<servable\.Server of echo \(1 AVAILABLE\), .*; REST at http://127\.0\.0\.1:\d+, gRPC at .*>",
        repr(server),
    )
    html = server._repr_html_()
    assert f"<code>http://127.0.0.1:{port}</code>" in html
    assert html.count("AVAILABLE") == len(SEVERAL)


def test_hostile_names_are_text() -> None:
    name = "<script>alert('\u202e')</script>&" + "x" * 10_000
    with servable.serve(ONE, name) as server:
        html, line = server._repr_html_(), repr(server)
        assert server.predict([1]).tolist() == [2.5]
    assert "<script>" not in html and "&lt;script&gt;alert(&#x27;\\u202e" in html
    assert len(html) < 2000 and len(line) < 1000 and line.isprintable()


def test_the_log_is_kept_and_nothing_is_written(capfd: pytest.CaptureFixture[str]) -> None:
    with servable.serve(ONE) as server:
        said = server.logs()
        with pytest.raises(InvalidArgumentError):
            server.predict(["a"])
    printed, lines = capfd.readouterr()
    # Those of TensorFlow, where a test before has loaded it with other settings.
    written = [line for line in lines.splitlines() if not line.startswith("I0000")]
    assert (printed, written) == ("", [])
    assert "servable: loaded half_plus_two version 1 from" in said
    assert "ready: 1 of 1 models available" in said


def test_it_stays_in_its_process(server: servable.Server) -> None:
    with pytest.raises(TypeError, match="belongs to its process"):
        pickle.dumps(server)


# ---- the documentation

DOCUMENT = ROOT / "docs" / "python.md"
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
EXPECTED = [
    (code, BLOCKS[number + 1][1])
    for number, (language, code) in enumerate(BLOCKS[:-1])
    if language == "python" and not BLOCKS[number + 1][0]
]


def test_the_documents_examples(tmp_path: Path) -> None:
    assert len(EXPECTED) >= 4
    names: dict[str, Any] = {}
    before = os.getcwd()
    os.chdir(ROOT)
    try:
        for code, expected in EXPECTED:
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile(code, str(DOCUMENT), "exec"), names)
            assert re.sub(r":\d{4,5}", ":PORT", printed.getvalue()) == expected
    finally:
        os.chdir(before)
