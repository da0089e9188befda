"""Shared memory of the Open Inference Protocol: regions that vanish, shrink, overlap or would escape."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from conftest import Served
from servers import MODELS, WITH_GRPC, resident_megabytes, run_to_its_end, serving, until
from stubs import PATIENCE
from tokens import TokenFile
from wire import Reply, ask

from servable.messages import message_class

pytestmark = pytest.mark.needs_tensorflow

PREFIX = f"servable_e2e_{os.getpid()}_"
FLAG = f"--shared_memory=/{PREFIX}"
FOLDER = Path("/dev/shm")
SERVICE = "/inference.GRPCInferenceService/"
VALUES = np.arange(100, dtype=np.float32)
ANSWER = VALUES / 2 + 2


@dataclass
class Client:
    """One way to ask: registers, forgets, tells, infers. Errors are ``(code or status, text)``."""

    served: Served
    protocol: str
    headers: dict[str, str] = field(default_factory=dict)

    def register(self, name: str, key: str, size: int, offset: int = 0) -> tuple[int, str] | None:
        if self.protocol == "rest":
            body = json.dumps({"key": key, "offset": offset, "byte_size": size})
            return self._refused(self._post(f"systemsharedmemory/region/{name}/register", body))
        return self._call("SystemSharedMemoryRegister", name=name, key=key, offset=offset, byte_size=size)[1]

    def unregister(self, name: str = "") -> tuple[int, str] | None:
        if self.protocol == "rest":
            where = f"/region/{name}" if name else ""
            return self._refused(self._post(f"systemsharedmemory{where}/unregister", ""))
        return self._call("SystemSharedMemoryUnregister", name=name)[1]

    def names(self) -> list[str]:
        if self.protocol == "rest":
            reply = ask(self.served, "GET", "/v2/systemsharedmemory/status", **self.headers)
            return sorted(region["name"] for region in json.loads(reply.body))
        return sorted(self._call("SystemSharedMemoryStatus", name="")[0].regions)

    def infer(self, inputs: dict[str, Any], outputs: dict[str, Any] | None = None, count: int = 100) -> Any:
        """Returns what is told of output ``y``: a dict; or a refusal."""
        if self.protocol == "rest":
            body: Any = {
                "inputs": [{"name": "x", "shape": [count], "datatype": "FP32", "parameters": inputs}]
            }
            if outputs is not None:
                body["outputs"] = [{"name": "y", "parameters": outputs}]
            reply = self._post("models/half_plus_two/infer", json.dumps(body))
            return self._refused(reply) or json.loads(reply.body)["outputs"][0]
        request = message_class("inference.ModelInferRequest")(model_name="half_plus_two")
        tensor = request.inputs.add(name="x", datatype="FP32", shape=[count])
        put(tensor.parameters, inputs)
        if outputs is not None:
            put(request.outputs.add(name="y").parameters, outputs)
        answer, refused = self._send("ModelInfer", request, "ModelInferResponse")
        if refused:
            return refused
        output = answer.outputs[0]
        told = {
            name: getattr(one, one.WhichOneof("parameter_choice")) for name, one in output.parameters.items()
        }
        raw = np.frombuffer(answer.raw_output_contents[0], np.float32)
        return {"name": output.name, "parameters": told, "data": raw.tolist()}

    def _post(self, path: str, body: str) -> Reply:
        return ask(self.served, "POST", f"/v2/{path}", body, **self.headers)

    @staticmethod
    def _refused(reply: Reply) -> tuple[int, str] | None:
        return None if reply.status == 200 else (reply.status, reply.error)

    def _call(self, method: str, **fields: Any) -> tuple[Any, tuple[int, str] | None]:
        request = message_class(f"inference.{method}Request")(**fields)
        return self._send(method, request, f"{method}Response")

    def _send(self, method: str, request: Any, answer: str) -> tuple[Any, tuple[int, str] | None]:
        metadata = [(name.lower(), value) for name, value in self.headers.items()]
        with grpc.insecure_channel(self.served.grpc) as channel:
            unary: Any = channel.unary_unary(SERVICE + method, None, None)
            try:
                got = unary(request.SerializeToString(), timeout=PATIENCE, metadata=metadata)
            except grpc.RpcError as error:
                refused: Any = error
                return None, (refused.code().value[0], refused.details())
        return message_class(f"inference.{answer}").FromString(got), None


def put(parameters: Any, values: dict[str, Any]) -> None:
    for name, value in values.items():
        kind = "string_param" if isinstance(value, str) else "int64_param"
        setattr(parameters[name], kind, value)


@contextmanager
def shared(name: str, content: bytes) -> Iterator[Path]:
    """A file of shared memory, as ``shm_open`` makes it."""
    path = FOLDER / f"{PREFIX}{name}"
    path.write_bytes(content)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def key(path: Path) -> str:
    return f"/{path.name}"


def place(region: str, size: int, offset: int = 0) -> dict[str, Any]:
    at = {"shared_memory_region": region, "shared_memory_byte_size": size}
    return {**at, "shared_memory_offset": offset} if offset else at


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(MODELS / "half_plus_two", WITH_GRPC, FLAG, "--max_memory_in_flight=16777216") as served:
        yield served


@pytest.fixture(params=["rest", "grpc"])
def client(served: Served, request: pytest.FixtureRequest) -> Iterator[Client]:
    one = Client(served, request.param)
    yield one
    assert one.unregister() is None and one.names() == []


def test_inputs_and_outputs_are_where_they_are_said(client: Client) -> None:
    with shared("in", VALUES.tobytes()) as first, shared("out", bytes(400)) as second:
        assert client.register("in", key(first), 400) is client.register("out", key(second), 400) is None
        assert client.names() == ["in", "out"]
        told = client.infer(place("in", 400), place("out", 400))
        assert told["parameters"]["shared_memory_region"] == "out"
        assert told["parameters"]["shared_memory_byte_size"] == 400
        assert not told.get("data")
        np.testing.assert_array_equal(np.frombuffer(second.read_bytes(), np.float32), ANSWER)
        assert client.infer(place("in", 40, 40), count=10)["data"] == ANSWER[10:20].tolist()
        # The same memory may be read and written.
        client.infer(place("in", 400), place("in", 400))
        np.testing.assert_array_equal(np.frombuffer(first.read_bytes(), np.float32), ANSWER)


def test_both_protocols_know_the_same_regions(served: Served) -> None:
    rest, stub = Client(served, "rest"), Client(served, "grpc")
    with shared("both", VALUES.tobytes()) as path:
        assert rest.register("r", key(path), 400) is None
        assert stub.names() == ["r"]
        assert stub.infer(place("r", 400))["data"] == ANSWER.tolist()
        assert stub.unregister("r") is None and rest.names() == []


def test_a_region_is_registered_once(client: Client) -> None:
    with shared("one", bytes(400)) as path:
        assert client.register("r", key(path), 400) is None
        again = client.register("r", key(path), 400)
        assert again is not None and again[0] in (409, 6)
        assert "already in manager" in again[1]


@pytest.mark.parametrize(
    "name",
    [
        "../etc/passwd",
        "/etc/passwd",
        "..",
        ".",
        "",
        "{prefix}x/../../etc/passwd",
        "{prefix}/x",
        "other",
        "sem.x",
    ],
)
def test_names_that_would_escape_are_refused(client: Client, name: str) -> None:
    refused = client.register("r", "/" + name.format(prefix=PREFIX), 8)
    assert refused is not None and refused[0] in (400, 403, 3, 7), refused


def test_links_and_folders_are_refused(client: Client, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(400))
    link, folder, pipe = (FOLDER / f"{PREFIX}{name}" for name in ("link", "folder", "pipe"))
    link.symlink_to(secret)
    folder.mkdir()
    os.mkfifo(pipe)
    try:
        for path in (link, folder, pipe, FOLDER / f"{PREFIX}none"):
            refused = client.register("r", key(path), 8)
            assert refused is not None and refused[0] in (400, 3), path
            assert "Unable to open shared memory region" in refused[1]
    finally:
        link.unlink()
        folder.rmdir()
        pipe.unlink()


@pytest.mark.parametrize(("offset", "size"), [(0, 401), (400, 1), (1, 400), (0, 0), (2**62, 2**62)])
def test_a_region_is_within_its_file(client: Client, offset: int, size: int) -> None:
    with shared("size", bytes(400)) as path:
        refused = client.register("r", key(path), size, offset)
        assert refused is not None and "failed to register shared memory region" in refused[1]


def test_regions_that_are_unknown_too_small_or_overlap_are_refused(client: Client) -> None:
    with shared("in", VALUES.tobytes()) as path:
        client.register("in", key(path), 400)
        for inputs, outputs, text in (
            (place("none", 400), None, "Unable to find shared memory region: 'none'"),
            (place("in", 400, 4), None, "Invalid offset + byte size"),
            (place("in", 400, 404), None, "Invalid offset for"),
            (place("in", 396), None, "unexpected total byte size 396"),
            (place("in", 400), place("none", 400), "Unable to find shared memory region"),
            (place("in", 400), place("in", 399), "should be at least 400 bytes"),
            ({"shared_memory_region": "in"}, None, "shared_memory_byte_size"),
            ({"shared_memory_byte_size": 400}, None, "shared_memory_region"),
            ({**place("in", 400), "shared_memory_offset": -4}, None, "shared_memory_offset"),
        ):
            refused = client.infer(inputs, outputs)
            assert isinstance(refused, tuple) and text in refused[1], (inputs, refused)
        assert client.infer(place("in", 400))["data"] == ANSWER.tolist()


def test_a_file_that_shrinks_or_vanishes_is_survived(client: Client) -> None:
    with shared("shrinks", VALUES.tobytes() + bytes(1 << 20)) as path:
        client.register("r", key(path), 400 + (1 << 20))
        os.truncate(path, 200)
        for inputs, outputs in ((place("r", 400), None), (place("r", 40), place("r", 40, 4096))):
            refused = client.infer(inputs, outputs, count=100 if outputs is None else 10)
            assert isinstance(refused, tuple) and "become shorter" in refused[1], refused
        assert path.stat().st_size == 200
        assert client.infer(place("r", 40), count=10)["data"] == ANSWER[:10].tolist()
        path.unlink()
        assert client.infer(place("r", 40), count=10)["data"] == ANSWER[:10].tolist()


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_floats_are_read_where_they_are_if_that_is_asked_for(protocol: str) -> None:
    flags = FLAG, "--shared_memory_in_place"
    with (
        serving(MODELS / "half_plus_two", WITH_GRPC, *flags) as served,
        shared("place", bytes(1 << 20)) as path,
    ):
        client = Client(served, protocol)
        assert client.register("r", key(path), 1 << 20) is None
        here = place("r", 400, 4096)
        for values in (VALUES, VALUES + 1):
            with path.open("r+b") as file:
                file.seek(4096)
                file.write(values.tobytes())
            assert client.infer(here)["data"] == (values / 2 + 2).tolist()
            # The answer takes the place of the input.
            assert client.infer(here, here)["parameters"]["shared_memory_region"] == "r"
            assert client.infer(here)["data"] == ((values / 2 + 2) / 2 + 2).tolist()
        os.truncate(path, 0)
        for _ in range(2):
            refused = client.infer(here)
            assert isinstance(refused, tuple) and "become shorter" in refused[1], refused
        os.truncate(path, 1 << 20)
        assert client.unregister("r") is client.register("r", key(path), 1 << 20) is None
        assert client.infer(here)["data"] == [2.0] * 100


def test_there_is_a_limit_to_regions(client: Client) -> None:
    with shared("many", bytes(8)) as path:
        refused = [client.register(str(index), key(path), 8) for index in range(129)]
        assert refused[:128] == [None] * 128
        assert refused[128] is not None and refused[128][0] in (429, 8)


def test_what_regions_hold_is_counted_as_memory(client: Client, served: Served) -> None:
    before = resident_megabytes(served)
    with shared("huge", b"") as path:
        os.truncate(path, 1 << 30)
        client.register("r", key(path), 1 << 30)
        refused = client.infer(place("r", 1 << 30), count=1 << 28)
        assert isinstance(refused, tuple) and refused[0] in (413, 503, 8), refused
    assert until(lambda: resident_megabytes(served) < before + 50)


def test_data_is_in_one_place(served: Served) -> None:
    with shared("in", VALUES.tobytes()) as path:
        rest = Client(served, "rest")
        rest.register("in", key(path), 400)
        body = {
            "name": "x",
            "shape": [100],
            "datatype": "FP32",
            "data": VALUES.tolist(),
            "parameters": place("in", 400),
        }
        reply = ask(served, "POST", "/v2/models/half_plus_two/infer", json.dumps({"inputs": [body]}))
        assert (reply.status, "both in the request and in shared memory" in reply.error) == (400, True)
        rest.unregister()


@pytest.mark.parametrize(
    "body",
    [
        "[]",
        "{",
        '{"key": 1}',
        '{"key": "/x", "offset": -1}',
        '{"key": "/x", "byte_size": 1.5}',
        '{"offset": "1"}',
    ],
)
def test_a_malformed_registration_is_refused(served: Served, body: str) -> None:
    reply = ask(served, "POST", "/v2/systemsharedmemory/region/r/register", body)
    assert reply.status in (400, 403) and reply.error


def test_what_is_not_there_is_told(served: Served) -> None:
    for path in ("cudasharedmemory/status", "cudasharedmemory/region/r/register"):
        reply = ask(served, "POST", f"/v2/{path}", "{}")
        assert (reply.status, "CUDA" in reply.error) == (501, True)
    assert ask(served, "GET", "/v2/systemsharedmemory/region/r/register").status == 405
    assert ask(served, "GET", "/v2/systemsharedmemory/region/none/status").status == 404
    assert ask(served, "POST", "/v2/systemsharedmemory/register", "{}").status == 404
    assert "system_shared_memory" in json.loads(ask(served, "GET", "/v2").body)["extensions"]


def test_without_the_flag_there_is_none() -> None:
    with serving(MODELS / "half_plus_two", WITH_GRPC) as served, shared("off", bytes(400)) as path:
        for protocol in ("rest", "grpc"):
            client = Client(served, protocol)
            refused = client.register("r", key(path), 400)
            assert refused is not None and refused[0] in (501, 12)
            assert "--shared_memory" in refused[1]
            refused = client.infer(place("r", 400))
            assert isinstance(refused, tuple) and "--shared_memory" in refused[1]
        assert "system_shared_memory" not in json.loads(ask(served, "GET", "/v2").body)["extensions"]


def test_a_region_is_its_tokens(tmp_path: Path) -> None:
    tokens = TokenFile(tmp_path / "tokens")
    for name in ("ann", "bob"):
        tokens.add(name)
    tokens.add("reader", "read")
    with (
        serving(MODELS / "half_plus_two", WITH_GRPC, FLAG, tokens.flag) as served,
        shared("own", VALUES.tobytes()) as path,
    ):
        for protocol in ("rest", "grpc"):
            ann, bob, reader = (
                Client(served, protocol, {"Authorization": tokens.bearer(name)})
                for name in ("ann", "bob", "reader")
            )
            assert ann.register("r", key(path), 400) is None
            assert (ann.names(), bob.names()) == (["r"], [])
            assert ann.infer(place("r", 400))["data"] == ANSWER.tolist()
            refused = bob.infer(place("r", 400))
            assert isinstance(refused, tuple) and "Unable to find" in refused[1]
            refused = reader.register("s", key(path), 400)
            assert refused is not None and refused[0] in (403, 7)
            bob.unregister()
            assert ann.names() == ["r"]
            ann.unregister()
        # Whose token is taken away holds no file.
        gone, bob = (
            Client(served, "rest", {"Authorization": tokens.bearer(name)}) for name in ("ann", "bob")
        )
        assert gone.register("r", key(path), 400) is None
        refused = bob.register("r", key(path), 400)
        assert refused is not None and "the holder of another token" in refused[1]
        tokens.remove("ann")
        assert until(lambda: bob.register("r", key(path), 400) is None)
        assert bob.names() == ["r"]


def test_the_flag_takes_a_prefix() -> None:
    ended = run_to_its_end(MODELS / "half_plus_two", "--shared_memory=true")
    assert ended.returncode != 0 and "--shared_memory expects" in ended.stderr
