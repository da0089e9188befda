"""The client and the command line against running servers, over both protocols; the document's examples."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from conftest import ROOT, SHARED, Serve, Served
from servers import MODELS, serving

from servable import AsyncClient, Client
from servable.client import Classification, TensorSpec, VersionStatus
from servable.errors import (
    InvalidArgumentError,
    NotFoundError,
    UnavailableError,
    UnimplementedError,
)

pytestmark = pytest.mark.needs_tensorflow

REST_AND_GRPC = (sys.executable, "-m", "servable", "serve", "--port=0", "--rest_api_port=0")
PROTOCOLS = ["rest", "grpc", "socket"]


class Running(NamedTuple):
    served: Served
    addresses: dict[str, str]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Small models, and those of ../shared if available."""
    models = [MODELS / "half_plus_two", MODELS / "pair", MODELS / "echo"]
    models += [SHARED / "testdata" / name for name in ("ident", "multi") if SHARED.is_dir()]
    path = tmp_path_factory.mktemp("socket") / "s"
    with serving(*models, f"--grpc_socket_path={path}", command=REST_AND_GRPC) as served:
        yield Running(
            served, {"rest": served.rest, "grpc": f"grpc://{served.grpc}", "socket": f"unix://{path}"}
        )


@pytest.fixture(scope="module", params=PROTOCOLS)
def client(request: pytest.FixtureRequest, running: Running) -> Iterator[Client]:
    with Client(running.addresses[request.param]) as client:
        yield client


@pytest.fixture(scope="module")
def grpc_client(running: Running) -> Iterator[Client]:
    with Client(running.addresses["grpc"]) as client:
        yield client


def test_named_and_bare_values(client: Client) -> None:
    named = client.predict("half_plus_two", {"x": [1, 2, 5]})
    assert list(named) == ["y"]
    assert named["y"].dtype == np.float32
    assert named["y"].tolist() == [2.5, 3.0, 4.5]
    assert client.predict("half_plus_two", np.array([1.0, 2.0])).tolist() == [2.5, 3.0]
    assert client.predict("half_plus_two", 1).tolist() == [2.5]
    assert client.predict("half_plus_two", []).shape == (0,)


def test_two_inputs_and_outputs(client: Client) -> None:
    inputs = {"a": [0.5, 1.5], "b": np.array([1, 2])}
    both = client.predict("pair", inputs)
    assert both["sum"].tolist() == [1.5, 3.5]
    assert both["twice"].dtype == np.int32
    assert list(client.predict("pair", inputs, outputs=["twice"])) == ["twice"]
    assert list(both) == ["sum", "twice"]
    assert list(client.predict("pair", inputs, outputs=["twice", "sum", "twice"])) == ["twice", "sum"]


def test_strings(client: Client) -> None:
    values = ["text", "ä", b"\xff\x00", b""]
    expected = [b"text", b"\xc3\xa4", b"\xff\x00", b""]
    outputs = client.predict("echo", {"x": values})
    assert outputs["text"].tolist() == expected
    assert outputs["raw_bytes"].tolist() == expected
    assert client.predict("echo", Path(__file__), outputs="text")[0] == Path(__file__).read_bytes()


def test_versions(client: Client) -> None:
    assert client.predict("half_plus_two", [1], version=1).tolist() == [2.5]
    assert client.status("half_plus_two") == [VersionStatus(1, "AVAILABLE")]
    assert client.status("half_plus_two", version=1) == [VersionStatus(1, "AVAILABLE")]
    metadata = client.metadata("pair")
    assert (metadata.model, metadata.version) == ("pair", 1)
    signature = metadata.signatures["serving_default"]
    assert signature.inputs == {"a": TensorSpec("float", (-1,)), "b": TensorSpec("int32", (-1,))}


def test_errors(client: Client) -> None:
    with pytest.raises(NotFoundError, match=r"Latest\(nope\)"):
        client.predict("nope", 1)
    with pytest.raises(NotFoundError, match=r"Specific\(pair, 7\)"):
        client.predict("pair", {}, version=7)
    with pytest.raises(InvalidArgumentError, match="Unrecognized servable version label: stable"):
        client.predict("pair", {}, label="stable")
    with pytest.raises(NotFoundError, match="Could not find any versions of model nope"):
        client.status("nope")
    with pytest.raises(InvalidArgumentError):
        client.predict("pair", {"a": [1, 2, 3], "b": [1, 2]})
    with pytest.raises(InvalidArgumentError, match="b"):
        client.predict("pair", {"a": [1]})


def test_a_large_array(client: Client) -> None:
    array = np.random.default_rng(0).random(200_000, np.float32)
    np.testing.assert_allclose(client.predict("half_plus_two", array), array / 2 + 2, rtol=1e-6)


def test_threads(client: Client) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: client.predict("half_plus_two", number), range(100)))
    assert [answer.tolist() for answer in answers] == [[number / 2 + 2] for number in range(100)]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_asyncio(running: Running, protocol: str) -> None:
    async def ask() -> list[Any]:
        async with AsyncClient(running.addresses[protocol]) as client:
            with pytest.raises(NotFoundError):
                await client.predict("nope", 1)
            status = await client.status("pair")
            assert status == [VersionStatus(1, "AVAILABLE")]
            return await asyncio.gather(*(client.predict("half_plus_two", n) for n in range(20)))

    assert [one.tolist() for one in asyncio.run(ask())] == [[n / 2 + 2] for n in range(20)]


# ---- models of ../shared


NOT_IN_JSON = {"complex64", "complex128", "uint16"}


@pytest.mark.needs_shared
@pytest.mark.parametrize("protocol", [*PROTOCOLS, "rest as JSON"])
def test_every_dtype(running: Running, protocol: str) -> None:
    """Values come back unchanged, or JSON refuses the dtype."""
    tried = set()
    address = running.addresses[protocol.removesuffix(" as JSON")]
    with Client(address, json=protocol.endswith("JSON")) as client:
        for name, signature in client.metadata("ident").signatures.items():
            if name.startswith("__"):
                continue
            dtype = signature.inputs["x"].dtype
            row = {"string": [b"a", b"\xff"], "bool": [True, False]}.get(dtype, [1, 2])
            tried.add(dtype)
            if protocol == "rest as JSON" and dtype in NOT_IN_JSON:
                with pytest.raises(UnimplementedError, match=dtype):
                    client.predict("ident", [row, row], signature=name)
            else:
                assert client.predict("ident", [row, row], signature=name).tolist() == [row, row]
    assert tried > {"float", "double", "int64", "uint8", "string", "bool", "half", "bfloat16"}


@pytest.mark.needs_shared
def test_large_integers_next_to_small_ones(client: Client) -> None:
    values = [2**64 - 1, 1, 2**53 + 1]
    assert client.predict("ident", values, signature="id_uint64").tolist() == values
    with pytest.raises(InvalidArgumentError, match="got 18446744073709551615, which is outside of"):
        client.predict("ident", values, signature="id_int64")


@pytest.mark.needs_shared
def test_examples(client: Client) -> None:
    classes = client.classify("multi", [{"x": 1.0}, {"x": [2.0]}], signature="clas")
    assert len(classes) == 2
    assert classes[0][0] == Classification("a", 1.0)
    regressions = client.regress("multi", {"x": 1.0}, signature="reg1")
    assert (regressions.dtype, regressions.shape) == (np.float32, (1,))
    shared = client.regress("multi", [{"y": 1}], signature="reg1", context={"x": 1.0})
    assert shared.tolist() == regressions.tolist()
    with pytest.raises(InvalidArgumentError):
        client.classify("multi", [], signature="clas")


@pytest.mark.needs_shared
def test_multi_inference(grpc_client: Client) -> None:
    examples = [{"x": 1.0}, {"x": 2.0}]
    both = grpc_client.multi_inference("multi", examples, {"reg1": "regress", "clas": "classify"})
    assert list(both) == ["reg1", "clas"]
    assert both["reg1"].tolist() == grpc_client.regress("multi", examples, signature="reg1").tolist()
    assert both["clas"] == grpc_client.classify("multi", examples, signature="clas")


# ---- servers that change


def test_reload(serve: Serve) -> None:
    served = serve(MODELS / "half_plus_two", "--allow_reload_rpc")
    with Client(f"grpc://{served.grpc}") as client:
        client.reload({"pair": MODELS / "pair"})
        assert client.predict("pair", {"a": [1], "b": [1]})["sum"].tolist() == [2.0]
        with pytest.raises(NotFoundError):
            client.predict("half_plus_two", 1)
        with pytest.raises(InvalidArgumentError, match="absolute path"):
            client.reload({"pair": "relative/path"})
        labelled = f'name: "pair" base_path: "{MODELS}/pair" version_labels {{ key: "stable" value: 1 }}'
        client.reload(f'model_config_list {{ config {{ {labelled} model_platform: "tensorflow" }} }}')
        with Client(served.rest) as rest:
            for one in (client, rest):
                answer = one.predict("pair", {"a": [1], "b": [1]}, label="stable")
                assert answer["twice"].tolist() == [2]
                assert one.metadata("pair", label="stable").version == 1


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_a_server_that_has_gone(serve: Serve, protocol: str) -> None:
    served = serve(MODELS / "half_plus_two")
    address = served.rest if protocol == "rest" else f"grpc://{served.grpc}"
    with Client(address, retries=1) as client:
        assert client.predict("half_plus_two", 1).tolist() == [2.5]
        assert served.stop() == 0
        with pytest.raises(UnavailableError):
            client.predict("half_plus_two", 1)


# ---- the documentation

DOCUMENT = ROOT / "docs" / "client.md"
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
EXPECTED = [
    (language, code, BLOCKS[number + 1][1])
    for number, (language, code) in enumerate(BLOCKS[:-1])
    if language and not BLOCKS[number + 1][0]
]


def test_the_document_has_examples_of_both_kinds() -> None:
    kinds = [language for language, _, _ in EXPECTED]
    assert kinds.count("python") >= 6
    assert kinds.count("sh") >= 4
    assert len(kinds) == sum(1 for language, _ in BLOCKS if language)


def at(running: Running, code: str) -> str:
    """Returns the documented lines, with the addresses of the running server."""
    rest, grpc = running.addresses["rest"], running.addresses["grpc"]
    return re.sub(r"grpc://localhost:\d+", grpc, re.sub(r"http://localhost:\d+", rest, code))


def test_the_documents_python(running: Running) -> None:
    names: dict[str, Any] = {}
    try:
        for language, code, expected in EXPECTED:
            if language == "python":
                printed = io.StringIO()
                with contextlib.redirect_stdout(printed):
                    exec(compile(at(running, code), str(DOCUMENT), "exec"), names)
                assert printed.getvalue() == expected
    finally:
        names["client"].close()


@pytest.mark.parametrize(
    ("code", "expected"),
    [(code, expected) for language, code, expected in EXPECTED if language == "sh"],
    ids=lambda text: text.splitlines()[0][:40],
)
def test_the_documents_commands(running: Running, code: str, expected: str) -> None:
    """Standard output and error together, as on a terminal."""
    command = at(running, code).replace("servable predict", f"{sys.executable} -m servable predict").strip()
    if "--server" not in command:
        command += f" --server {running.addresses['rest']}"
    done = subprocess.run(
        ["bash", "-c", command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "100"},
    )
    assert done.stdout == expected
    assert done.returncode == (1 if "NOT_FOUND" in expected else 0)
