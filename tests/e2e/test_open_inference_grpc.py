"""The Open Inference Protocol over gRPC, as its clients see it."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from conftest import SHARED, Served
from open_inference_grpc import DATATYPES, SERVICE, call, infer, inference, outputs, request, stream, strings
from servers import DROP_IN, MODELS, WITH_GRPC, resident_megabytes, serving, until
from stubs import failure
from tokens import TokenFile

pytestmark = pytest.mark.needs_tensorflow

UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
NAMES = ("half_plus_two", "pair", "echo", "narrow", "loop")
MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "access.log"


@pytest.fixture(scope="module")
def served(log: Path) -> Iterator[Served]:
    models = [MODELS / name for name in NAMES]
    ident = SHARED.resolve() / "testdata" / "ident"
    flags = [WITH_GRPC, "--access_log=all", f"--access_log_file={log}", "--log_format=json"]
    flags += ["--open_inference_model_control"]
    with serving(*models, *([ident] if ident.is_dir() else []), *flags) as server:
        yield server


@pytest.fixture(scope="module")
def channel(served: Served) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(served.grpc, options=UNLIMITED) as there:
        yield there


@pytest.fixture(autouse=True)
def answers_afterwards(channel: grpc.Channel) -> Iterator[None]:
    """After every test, a good request on the same channel must be answered."""
    yield
    assert outputs(infer(channel, half(2.0)))["y"].tolist() == [3.0]


def half(*values: float, **options: Any) -> Any:
    return request("half_plus_two", x=np.array(values, np.float32), **options)


# ---- tensors


def _sample(dtype: Any) -> np.ndarray[Any, Any]:
    """Returns twelve values that use all their bits."""
    pattern = np.random.default_rng(1).integers(0, 256, 12 * np.dtype(dtype).itemsize, dtype=np.uint8)
    if dtype is np.bool_:
        return (pattern % 2).astype(np.bool_).reshape(3, 4)
    return np.nan_to_num(pattern.view(dtype)).reshape(3, 4)


@pytest.mark.needs_shared
@pytest.mark.parametrize("datatype", DATATYPES)
def test_numbers_come_back_in_the_form_in_which_they_went(channel: grpc.Channel, datatype: str) -> None:
    dtype, field = DATATYPES[datatype]
    name, sent = f"ident:id_{np.dtype(dtype).name}", _sample(dtype)
    for typed in [False, True] if field else [False]:
        answer = infer(channel, request(name, typed=typed, x=sent))
        assert (len(answer.raw_output_contents) == 0) == typed
        assert (answer.model_name, answer.outputs[0].datatype) == (name, datatype)
        np.testing.assert_array_equal(outputs(answer)["y"], sent)


@pytest.mark.parametrize("typed", [False, True])
def test_strings_come_back_in_the_form_in_which_they_went(channel: grpc.Channel, typed: bool) -> None:
    for sent in ([b"one"], [b"", b"\xff\x00", b"x" * 100_000], [b""], []):
        answer = infer(channel, request("echo", typed=typed, x=sent))
        assert outputs(answer) == {"text": sent, "raw_bytes": sent}
        assert (len(answer.raw_output_contents) == 0) == typed


def test_narrow_numbers_are_only_sent_raw(channel: grpc.Channel) -> None:
    h, b = np.array([1.5, -2.0], np.float16), np.array([0x3FC0, 0xC000], np.uint16)
    sent = request("narrow", h=h)
    sent.inputs.add(name="b", datatype="BF16", shape=[2])
    sent.raw_input_contents.append(b.tobytes())
    answer = infer(channel, sent)
    assert [(one.name, one.datatype) for one in answer.outputs] == [
        ("brains", "BF16"),
        ("halves", "FP16"),
        ("sum", "FP32"),
    ]
    found = outputs(answer)
    assert (
        (found["halves"] == h).all() and (found["brains"] == b).all() and found["sum"].tolist() == [3.0, -4.0]
    )


@pytest.mark.parametrize("count", [0, 1, 100_000, 2_500_000])
def test_large_tensors(channel: grpc.Channel, count: int) -> None:
    x = np.random.default_rng(2).random(count, dtype=np.float32)
    for typed in [False, True]:
        y = outputs(infer(channel, request("half_plus_two", typed=typed, x=x)))["y"]
        np.testing.assert_array_equal(y, x * np.float32(0.5) + 2)


def test_inputs_may_come_in_any_order_and_outputs_are_those_asked_for(channel: grpc.Channel) -> None:
    a, b = np.array([1, 2], np.float32), np.array([3, 4], np.int32)
    for made in (request("pair", a=a, b=b), request("pair", b=b, a=a)):
        found = outputs(infer(channel, made))
        assert (found["sum"].tolist(), found["twice"].tolist()) == ([4, 6], [6, 8])
        made.outputs.add(name="twice")
        assert outputs(infer(channel, made)).keys() == {"twice"}
        made.outputs.add(name="sum")
        assert list(outputs(infer(channel, made))) == ["twice", "sum"]


def test_an_output_can_be_classified(channel: grpc.Channel) -> None:
    made = half(0.0, 4.0, 2.0)
    made.outputs.add(name="y").parameters["classification"].int64_param = 2
    answer = infer(channel, made)
    assert outputs(answer)["y"] == [b"4.000000:1", b"3.000000:2"]
    assert (answer.outputs[0].datatype, list(answer.outputs[0].shape)) == ("BYTES", [2])


def test_compressed_requests_are_read(served: Served) -> None:
    for compression in (grpc.Compression.Gzip, grpc.Compression.Deflate):
        with grpc.insecure_channel(served.grpc, compression=compression) as there:
            zeros = request("half_plus_two", x=np.zeros(50_000, np.float32))
            assert set(outputs(infer(there, zeros))["y"]) == {2.0}
            (answer,) = stream(there, [zeros])
            assert set(outputs(answer.infer_response)["y"]) == {2.0}


def test_a_deadline_ends_a_run(channel: grpc.Channel) -> None:
    endless = request("loop", steps=np.array(10**9, np.int64))
    assert failure(lambda: infer(channel, endless, timeout=0.3))[0] == "DEADLINE_EXCEEDED"


# ---- names


def test_versions_and_signatures_are_found_by_name(channel: grpc.Channel) -> None:
    answer = infer(channel, half(2.0, version="1", id="seven"))
    assert (answer.model_name, answer.model_version, answer.id) == ("half_plus_two", "1", "seven")
    count = np.array(3, np.int32)
    assert outputs(infer(channel, request("loop:fill", count=count)))["y"].tolist() == [1, 1, 1]
    by_parameter = request("loop", count=count)
    by_parameter.parameters["signature_name"].string_param = "fill"
    assert outputs(infer(channel, by_parameter))["y"].tolist() == [1, 1, 1]


def _model(name: str, version: str = "") -> Any:
    message = inference("ModelReadyRequest")
    message.name, message.version = name, version
    return message


def test_the_server_and_its_models_are_told_of(channel: grpc.Channel) -> None:
    assert call(channel, "ServerLive", inference("ServerLiveRequest")).live
    assert call(channel, "ServerReady", inference("ServerReadyRequest")).ready
    server = call(channel, "ServerMetadata", inference("ServerMetadataRequest"))
    assert server.name == "servable" and "classification" in server.extensions
    for name, version, ready in [
        ("pair", "", True),
        ("pair", "1", True),
        ("loop:fill", "", True),
        ("pair", "2", False),
        ("missing", "", False),
        ("pair:missing", "", False),
    ]:
        assert call(channel, "ModelReady", _model(name, version)).ready == ready, name
    asked = inference("ModelMetadataRequest")
    asked.name = "pair"
    told = call(channel, "ModelMetadata", asked)
    assert (told.name, list(told.versions), told.platform) == ("pair", ["1"], "tensorflow_savedmodel")
    assert [(one.name, one.datatype, list(one.shape)) for one in told.inputs] == [
        ("a", "FP32", [-1]),
        ("b", "INT32", [-1]),
    ]
    asked = inference("ModelConfigRequest")
    asked.name = "pair"
    config = call(channel, "ModelConfig", asked).config
    assert (config.name, config.backend, config.max_batch_size) == ("pair", "tensorflow", 0)
    assert [(one.name, one.data_type, list(one.dims)) for one in config.output] == [
        ("sum", 11, [-1]),
        ("twice", 8, [-1]),
    ]


def test_requests_are_counted(channel: grpc.Channel) -> None:
    asked = inference("ModelStatisticsRequest")
    asked.name = "echo"

    def counted() -> tuple[int, int]:
        (one,) = call(channel, "ModelStatistics", asked).model_stats
        assert (one.name, one.version) == ("echo", "1")
        return one.inference_stats.success.count, one.inference_stats.fail.count

    success, fail = counted()
    infer(channel, request("echo", x=[b"a"]))
    failure(lambda: infer(channel, request("echo")))
    list(stream(channel, [request("echo", x=[b"a"]), request("echo")]))
    assert counted() == (success + 2, fail + 2)
    every = call(channel, "ModelStatistics", inference("ModelStatisticsRequest")).model_stats
    assert {one.name for one in every} >= set(NAMES)


def test_models_are_unloaded_and_loaded(channel: grpc.Channel) -> None:
    def states(ready: bool = False) -> dict[str, str]:
        asked = inference("RepositoryIndexRequest")
        asked.ready = ready
        return {one.name: one.state for one in call(channel, "RepositoryIndex", asked).models}

    assert states().items() >= {name: "READY" for name in NAMES}.items()
    change = {kind: inference(f"RepositoryModel{kind}Request") for kind in ("Load", "Unload")}
    change["Load"].model_name = change["Unload"].model_name = "narrow"
    call(channel, "RepositoryModelUnload", change["Unload"])
    assert until(lambda: "narrow" not in states(ready=True))
    h = np.array([1], np.float16)
    code, text = failure(lambda: infer(channel, request("narrow", h=h)))
    assert code in ("NOT_FOUND", "UNAVAILABLE") and "narrow" in text
    call(channel, "RepositoryModelLoad", change["Load"])
    assert states(ready=True)["narrow"] == "READY"
    change["Load"].parameters["config"].string_param = "{}"
    assert failure(lambda: call(channel, "RepositoryModelLoad", change["Load"]))[0] == "INVALID_ARGUMENT"


def test_the_protocol_is_off_where_it_was_not_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "grpc.sock"
    flags = [f"--model_base_path={MODELS / 'half_plus_two'}", "--model_name=half_plus_two", "--port=0"]
    flags += ["--rest_api_port=0", f"--grpc_socket_path={path}"]
    for more, expected in [([], "UNIMPLEMENTED"), (["--open_inference_protocol"], "OK")]:
        with serving(*flags, *more, command=DROP_IN), grpc.insecure_channel(f"unix:{path}") as channel:
            assert failure(lambda: infer(channel, half(1.0)))[0] == expected


# ---- every rule broken once


def _changed(**fields: Any) -> Any:
    """Returns a good request whose only input is changed."""
    made = half(1.0, 2.0)
    for name, value in fields.items():
        if name == "shape":
            del made.inputs[0].shape[:]
            made.inputs[0].shape.extend(value)
        else:
            setattr(made.inputs[0], name, value)
    return made


def _raw(*contents: bytes, model: str = "half_plus_two") -> Any:
    made = half(1.0) if model == "half_plus_two" else request(model, x=[b"a"])
    del made.raw_input_contents[:]
    made.raw_input_contents.extend(contents)
    return made


def _contents(datatype: str = "FP32", **contents: Any) -> Any:
    made = _raw()
    made.inputs[0].datatype = datatype
    for name, values in contents.items():
        getattr(made.inputs[0].contents, name).extend(values)
    return made


def _mixed() -> Any:
    made = half(1.0)
    made.inputs[0].contents.fp32_contents.append(1.0)
    return made


def _twice() -> Any:
    made = half(1.0)
    made.inputs.append(made.inputs[0])
    made.raw_input_contents.append(made.raw_input_contents[0])
    return made


def _wanting(*names: str, classes: int | None = None) -> Any:
    made = half(1.0)
    for name in names:
        output = made.outputs.add(name=name)
        if classes is not None:
            output.parameters["classification"].int64_param = classes
    return made


def _parameter(name: str, value: Any, of_input: bool = False) -> Any:
    made = half(1.0)
    parameters = made.inputs[0].parameters if of_input else made.parameters
    setattr(parameters[name], "string_param" if isinstance(value, str) else "int64_param", value)
    return made


MISSING: dict[str, tuple[Any, str, str]] = {
    # name: request, code, a part of the text
    "no model": (inference("ModelInferRequest"), "NOT_FOUND", "unknown model"),
    "unknown model": (request("missing"), "NOT_FOUND", "Request for unknown model: 'missing' is not found"),
    "unknown version": (half(1.0, version="7"), "NOT_FOUND", "version 7 is not found"),
    "unknown signature": (request("half_plus_two:no"), "FAILED_PRECONDITION", "signature key"),
}
INVALID: dict[str, tuple[Any, str]] = {
    # name: request, a part of the text
    "no version": (half(1.0, version="-1"), "version string '-1'"),
    "unknown label": (_parameter("version_label", "no"), "label: no"),
    "a number as signature": (_parameter("signature_name", 1), "signature_name"),
    "no input": (request("half_plus_two"), "missing required input(s) ['x']"),
    "unknown input": (_changed(name="z"), "unexpected inference input 'z'"),
    "an input twice": (_twice(), "'x' already exists"),
    "unknown datatype": (_changed(datatype="FLOAT"), "'FLOAT'"),
    "other datatype": (_changed(datatype="INT32"), "data-type is 'INT32'"),
    "negative dimension": (_changed(shape=[-2]), "[-2]"),
    "no elements, negative": (_changed(shape=[0, -2]), "[0,-2]"),
    "overflowing shape": (_changed(shape=[2**62, 4]), "which no tensor has"),
    "as many bytes as wrap": (_changed(shape=[2**62 + 2]), "'x'"),
    "many dimensions": (_changed(shape=[1] * 100_000), "which no tensor has"),
    "other rank": (_changed(shape=[1, 2]), "Expected [-1], got [1,2]"),
    "shape and raw differ": (_changed(shape=[3]), "byte size 8 for input 'x', expecting 12"),
    "no raw": (_raw(), "unable to find data for input tensor 'x'"),
    "raw for nothing": (_raw(b"abcd", b""), "does not match the number of raw_input_contents"),
    "raw and contents": (_mixed(), "must not be specified when using raw_input_contents"),
    "contents of another field": (_contents(fp64_contents=[1.0]), "in fp64_contents"),
    "contents of two fields": (
        _contents(fp32_contents=[1.0], int_contents=[1]),

        "in int_contents",
    ),
    "too many contents": (_contents(fp32_contents=[1.0, 2.0]), "number of elements 2"),
    "BYTES beyond the end": (_raw(b"\x05\0\0\0abc", model="echo"), "beyond the end"),
    "BYTES of 4 GB": (_raw(b"\xff" * 4 + b"abc", model="echo"), "beyond the end"),
    "BYTES and more": (_raw(strings(b"a") + b"b", model="echo"), "after the last one"),
    "half a length": (_raw(b"\x01\0", model="echo"), "'x'"),
    "unknown output": (_wanting("z"), "unexpected inference output 'z'"),
    "an output twice": (_wanting("y", "y"), "'y' already requested"),
    "less than no classes": (_wanting("y", classes=-1), "classification"),
    "shared memory": (_parameter("shared_memory_region", "r", of_input=True), "shared"),
}  # fmt: skip


BROKEN = MISSING | {rule: (made, "INVALID_ARGUMENT", text) for rule, (made, text) in INVALID.items()}


@pytest.mark.parametrize("rule", BROKEN)
def test_who_breaks_a_rule_is_told(channel: grpc.Channel, rule: str) -> None:
    made, code, text = BROKEN[rule]
    found, said = failure(lambda: infer(channel, made))
    assert found == code and text in said, said
    made.id = "broken"
    bad, good = stream(channel, [made, half(2.0, id="good")])
    assert text in bad.error_message and bad.infer_response.id == "broken"
    assert (good.error_message, good.infer_response.id) == ("", "good")
    assert outputs(good.infer_response)["y"].tolist() == [3.0]


@pytest.mark.parametrize(
    "message", [b"\xff", b"\x0a\x05a", b"\x0a\x01\xff", b"\x2a\x02\x08\x01", b"\x08\x01"]
)
def test_bytes_that_are_no_request(channel: grpc.Channel, message: bytes) -> None:
    one = channel.unary_unary(SERVICE + "ModelInfer")
    code, text = failure(lambda: one(message, timeout=20))
    if message[0] == 0x2A:
        assert code == "NOT_FOUND", "which model comes first"
    else:
        assert (code, "expected a ModelInferRequest" in text) == ("INVALID_ARGUMENT", True)
    many = channel.stream_stream(SERVICE + "ModelStreamInfer")
    bad, good = many(iter([message, half(2.0).SerializeToString()]), timeout=20)
    assert b"expected a ModelInferRequest" in bad or b"unknown model" in bad
    assert b"half_plus_two" in good


def test_a_message_of_many_small_parts_takes_no_memory(served: Served, channel: grpc.Channel) -> None:
    """Each input, output and parameter of two bytes would be an object of a hundred."""
    before = resident_megabytes(served)
    for key in (b"\x2a\x00", b"\x32\x00", b"\x22\x00", b"\x3a\x00"):
        message = b"\x0a\x0dhalf_plus_two" + key * (8 * MEGABYTE)
        one = channel.unary_unary(SERVICE + "ModelInfer")
        assert failure(lambda: one(message, timeout=60))[0] == "INVALID_ARGUMENT"  # noqa: B023
    assert resident_megabytes(served) - before < 150


# ---- streams


class Sender:
    """Requests for a stream, sent when the test wants it."""

    def __init__(self) -> None:
        self._waiting: queue.Queue[Any] = queue.Queue()

    def send(self, message: Any) -> None:
        self._waiting.put(message)

    def end(self) -> None:
        self._waiting.put(None)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._waiting.get, None)


def test_answers_come_in_the_order_of_the_requests(channel: grpc.Channel) -> None:
    slow = request("loop", id="slow", steps=np.array(20_000, np.int64))
    quick = [half(float(index), id=str(index)) for index in range(100)]
    answers = list(stream(channel, [slow, *quick, slow]))
    assert [one.infer_response.id for one in answers] == ["slow", *map(str, range(100)), "slow"]
    assert all(one.infer_response.parameters["triton_final_response"].bool_param for one in answers)
    assert outputs(answers[3].infer_response)["y"].tolist() == [3.0]


def test_each_answer_comes_when_it_is_ready(channel: grpc.Channel) -> None:
    sender = Sender()
    answers = stream(channel, sender)
    for index in range(5):
        sender.send(half(float(index), id=str(index)))
        assert next(answers).infer_response.id == str(index)
    sender.end()
    assert list(answers) == []


def test_many_small_requests_of_a_stream_are_no_flood(channel: grpc.Channel) -> None:
    sender = Sender()
    answers = stream(channel, sender)
    for index in range(3000):
        sender.send(half(1.0, id=str(index)))
        assert next(answers).infer_response.id == str(index)
    for index in range(3000):
        sender.send(half(1.0, id=str(index)))
    sender.end()
    assert [one.infer_response.id for one in answers] == [str(index) for index in range(3000)]


def test_a_stream_without_requests_ends_well(channel: grpc.Channel) -> None:
    assert list(stream(channel, [])) == []


def test_who_leaves_a_stream_harms_nobody(channel: grpc.Channel) -> None:
    for _ in range(50):
        answers: Any = stream(channel, [request("loop", steps=np.array(2000, np.int64))] * 3)
        answers.cancel()


def test_a_stream_ends_at_its_deadline(channel: grpc.Channel) -> None:
    endless = request("loop", steps=np.array(10**9, np.int64))
    answers = stream(channel, [half(2.0), endless], timeout=0.5)
    assert failure(lambda: list(answers))[0] == "DEADLINE_EXCEEDED"


def test_a_client_that_takes_no_answers_holds_little_memory(served: Served) -> None:
    """The answers to a few kilobytes are megabytes each; all of them would be 8 GB."""
    with grpc.insecure_channel(served.grpc, options=UNLIMITED) as there:
        fill = request("loop:fill", count=np.array(2 * MEGABYTE, np.int32))
        before = resident_megabytes(served)
        answers: Any = stream(there, [fill] * 1000)
        next(answers)
        # Another client is answered all the while.
        with grpc.insecure_channel(served.grpc) as other:
            for _ in range(200):
                infer(other, half(1.0))
        # As many as are in flight, and what is on its way; not the rest.
        assert resident_megabytes(served) - before < 32 * 8 * 3
        answers.cancel()


def test_a_stream_ends_when_the_server_stops() -> None:
    with (
        serving(MODELS / "half_plus_two", WITH_GRPC, may_end=True) as there,
        grpc.insecure_channel(there.grpc) as channel,
    ):
        sender = Sender()
        answers = stream(channel, sender)
        sender.send(half(2.0))
        next(answers)
        stopping = threading.Thread(target=there.stop)
        stopping.start()
        assert failure(lambda: list(answers))[0] == "UNAVAILABLE"
        sender.end()
        stopping.join()


# ---- what operators see


def test_the_access_log_names_model_version_and_signature(log: Path, channel: grpc.Channel) -> None:
    log.write_text("")
    infer(channel, half(1.0), metadata=[("x-request-id", "one")])
    list(stream(channel, [half(1.0), request("echo")], metadata=[("x-request-id", "many")]))

    def lines() -> dict[str, list[dict[str, Any]]]:
        found = [json.loads(line) for line in log.read_text().splitlines()]
        return {name: [one for one in found if one["request_id"] == name] for name in ("one", "many")}

    assert until(lambda: [len(of) for of in lines().values()] == [1, 3]), log.read_text()
    (one,), many = lines()["one"], lines()["many"]
    assert (one["method"], one["model"], one["version"], one["signature"], one["code"]) == (
        "ModelInfer",
        "half_plus_two",
        1,
        "serving_default",
        "OK",
    )
    told = [(line["method"], line.get("model"), line["code"]) for line in many]
    assert sorted(told, key=str) == [
        ("ModelStreamInfer", "echo", "INVALID_ARGUMENT"),
        ("ModelStreamInfer", "half_plus_two", "OK"),
        ("ModelStreamInfer", None, "OK"),
    ]


def test_each_request_of_a_stream_shows_the_streams_token(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "tokens")
    file.add("one", "predict", in_flight="1")
    file.add("some", "predict", rate="3/h")
    with (
        serving(MODELS / "half_plus_two", MODELS / "pair", WITH_GRPC, file.flag) as there,
        grpc.insecure_channel(there.grpc) as channel,
    ):

        def ended(token: str) -> list[str]:
            made = [half(1.0)] * 5
            metadata = [("authorization", file.bearer(token))]
            sender = Sender()
            answers = stream(channel, sender, metadata=metadata)
            texts = []
            for one in made:
                sender.send(one)
                texts.append(next(answers).error_message)
            sender.end()
            return texts

        assert ended("one") == [""] * 5, "the stream itself is none of them"
        assert [bool(text) for text in ended("some")] == [False, False, False, True, True]
        assert failure(lambda: list(stream(channel, [half(1.0)])))[0] == "UNAUTHENTICATED"


def test_a_request_of_a_stream_is_checked_for_its_model(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "tokens")
    file.add("caller", "predict", "half*")
    with (
        serving(MODELS / "half_plus_two", MODELS / "pair", WITH_GRPC, file.flag) as there,
        grpc.insecure_channel(there.grpc) as channel,
    ):
        metadata = [("authorization", file.bearer("caller"))]
        made = [half(1.0), request("pair"), half(1.0)]
        texts = [one.error_message for one in stream(channel, made, metadata=metadata)]
        assert texts == ["", "Token caller is not for model pair", ""]
