"""Predict over REST as numpy's files: which calls go so, what is sent, how replies are read."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import numpy as np
import pytest

from servable.client.answers import Metadata, Signature, TensorSpec
from servable.client.binding import Given, bind
from servable.client.codecs.codec import Call, Choice
from servable.client.codecs.numpy_files import NPY, NPZ, read, written
from servable.client.codecs.rest import RestCodec
from servable.client.dialogue import Dialogue, Send
from servable.client.limits import Limits
from servable.client.reply import Reply, accepted_by, media_of
from servable.errors import InternalError, InvalidArgumentError, StatusError

FLOATS, INTS = TensorSpec("float", (-1,)), TensorSpec("int32", (-1,))
STRINGS = TensorSpec("string", (-1,))
FILES = frozenset({"application/json", NPY, NPZ})
JSON = "application/json;compact=true"


def call(
    inputs: dict[str, TensorSpec], outputs: dict[str, TensorSpec], values: Any, **options: Any
) -> Call[Any]:
    accepts, json = options.pop("accepts", FILES), options.pop("json", False)
    name = options.pop("signature", "serving_default")
    metadata = Metadata("m", 1, {name: Signature(inputs, outputs)}, accepts)
    given = Given(Choice("m"), values, name, options.pop("wanted", None))
    return RestCodec(json).predict(bind(given, metadata))


def loaded(made: Call[Any]) -> Any:
    assert made.body is not None
    content = np.load(io.BytesIO(made.body), allow_pickle=False)
    return content if isinstance(content, np.ndarray) else dict(content)


def reply(media: str, **arrays: np.ndarray[Any, Any]) -> Reply:
    return Reply.of(written(arrays, alone=media == NPY)[1], media, None)


def test_one_array_goes_as_a_file() -> None:
    made = call({"x": FLOATS}, {"y": FLOATS}, [1, 2])
    assert made.headers == {
        "Content-Type": NPY,
        "Accept": f"{NPY}, {JSON};q=0.5",
        "X-Signature-Name": "serving_default",
    }
    assert made.path == "/v1/models/m:predict"
    array = loaded(made)
    assert (array.dtype, array.tolist()) == (np.float32, [1, 2])
    answer = made.read(reply(NPY, y=np.array([3], np.float32))).outputs["y"]
    assert (answer.tolist(), answer.flags.writeable) == ([3], True)


def test_several_go_as_an_archive_and_only_what_is_wanted_comes() -> None:
    signature = ({"a": FLOATS, "b": INTS}, {"y": FLOATS, "z ä": INTS, "w": INTS})
    made = call(*signature, {"a": [1], "b": [2]}, wanted=["z ä", "y"])
    assert made.headers["Content-Type"] == NPZ and made.headers["Accept"].startswith(f"{NPZ},")
    assert made.path == "/v1/models/m:predict?outputs=z%20%C3%A4,y"
    assert {name: array.dtype for name, array in loaded(made).items()} == {"a": np.float32, "b": np.int32}
    arrays = {"y": np.array([1.5], np.float32), "z ä": np.array([7], np.int32)}
    assert list(made.read(reply(NPZ, **arrays)).outputs) == ["z ä", "y"]
    assert "outputs" not in call(*signature, {"a": [1], "b": [2]}).path


def test_scalars_and_empty_arrays_keep_their_shapes() -> None:
    for value in (np.float32(7), np.zeros((0, 3), np.float32), np.ones((2, 3), np.float32).T):
        made = call({"x": TensorSpec("float", None)}, {"y": TensorSpec("float", None)}, value)
        array = loaded(made)
        assert array.shape == np.shape(value) and array.flags.c_contiguous
        np.testing.assert_array_equal(made.read(reply(NPY, y=array)).outputs["y"], value)


@pytest.mark.parametrize(
    "options",
    [
        {"accepts": frozenset()},
        {"accepts": frozenset({NPY})},
        {"json": True},
        {"signature": "ä"},
        {"signature": "a\nb"},
    ],
)
def test_json_goes_where_files_cannot(options: dict[str, Any]) -> None:
    made = call({"x": FLOATS}, {"y": FLOATS}, [1, 2], **options)
    assert made.body is not None and made.body.startswith(b"{")
    assert "Content-Type" not in made.headers
    assert made.read(b'{"outputs": [3]}').outputs["y"].tolist() == [3]


def test_strings_go_as_json_either_way() -> None:
    made = call({"x": STRINGS}, {"y": FLOATS}, [b"a"])
    assert made.body is not None and made.body.startswith(b"{")
    assert made.headers == {"Accept": f"{NPY}, {JSON};q=0.5"}
    assert made.read(reply(NPY, y=np.array([3], np.float32))).outputs["y"].tolist() == [3]
    made = call({"x": FLOATS}, {"y": STRINGS}, [1])
    assert (made.headers["Content-Type"], made.headers["Accept"]) == (NPY, JSON)
    assert made.read(Reply.of(b'{"outputs": ["a"]}', "application/json", None)).outputs["y"].tolist() == [
        b"a"
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        reply(NPY, y=np.array([3.0])),
        Reply.of(b"\x93NUMPY", NPY, None),
        Reply.of(b"", NPY, None),
        Reply.of(b"PK", NPZ, None),
        reply(NPZ, z=np.array([3], np.float32)),
        Reply.of(b"<html>", "text/html", None),
        Reply.of(written({"y": np.array([3.0])}, alone=True)[1], "application/json", None),
    ],
)
def test_what_is_no_answer_is_told(wrong: Reply) -> None:
    made = call({"x": FLOATS}, {"y": FLOATS}, [1])
    with pytest.raises(InternalError, match="not what a model server answers"):
        made.read(wrong)


def test_objects_are_never_read() -> None:
    file = io.BytesIO()
    np.save(file, np.array([None]), allow_pickle=True)
    with pytest.raises(ValueError, match="pickle"):
        read(NPY, file.getvalue(), "y")


def test_headers_of_replies() -> None:
    told = Reply.of(b"x", "Application/JSON; charset=utf-8", f"{NPY} , {NPZ};q=1,, image/*")
    assert media_of(told) == "application/json" and told == b"x"
    assert accepted_by(told) == {NPY, NPZ, "image/*"}
    assert (media_of(b"x"), accepted_by(b"x")) == ("", frozenset())
    assert accepted_by(Reply.of(b"x", None, None)) == frozenset()


def test_metadata_knows_what_the_server_accepts() -> None:
    content = (
        b'{"model_spec": {"name": "m", "version": "1"}, "metadata": {"signature_def": {"signature_def": {}}}}'
    )
    read_metadata = RestCodec().metadata(Choice("m")).read
    plain, told = read_metadata(content), read_metadata(Reply.of(content, None, f"{NPY}, {NPZ}"))
    assert (plain.accepts, told.accepts) == (frozenset(), {NPY, NPZ})
    assert plain == told, "what can be sent is no change of the signatures"


NO_JSON = InvalidArgumentError("INVALID_ARGUMENT", "JSON Parse error: Invalid value. at offset: 0")


def asked(dialogue: Dialogue, *replies: Any) -> list[str]:
    """Predicts with these replies, errors thrown; returns the forms of what was sent."""
    steps, left, sent = dialogue.predict(Given(Choice("m"), [1.0])), list(replies), []
    step = next(steps)
    try:
        while True:
            assert isinstance(step, Send)
            asks = step.call.body is None
            sent.append("metadata" if asks else step.call.headers.get("Content-Type", "json"))
            reply = left.pop(0)
            step = steps.throw(reply) if isinstance(reply, Exception) else steps.send(reply)
    except StopIteration as done:
        assert done.value.tolist() == [3]
    except StatusError:
        sent.append("failed")
    assert left == []
    return sent


def metadata_reply(accepts: str | None) -> Reply:
    spec = '{"dtype": "DT_FLOAT", "tensor_shape": {"unknown_rank": false, "dim": [{"size": "-1"}]}}'
    signature = f'{{"inputs": {{"x": {spec}}}, "outputs": {{"y": {spec}}}, "method_name": ""}}'
    content = (
        '{"model_spec": {"name": "m", "version": "1"}, "metadata": {"signature_def": {"signature_def": '
        f'{{"serving_default": {signature}}}}}}}}}'
    )
    return Reply.of(content.encode(), "application/json", accepts)


def test_a_server_that_takes_files_no_longer_gets_json() -> None:
    answer, other = b'{"outputs": [3]}', InvalidArgumentError("INVALID_ARGUMENT", "HTTP status 415")
    files = reply(NPY, y=np.array([3], np.float32))
    dialogue = Dialogue(RestCodec(), Limits(10.0, 3))
    assert asked(dialogue, metadata_reply(f"{NPY}, {NPZ}"), files) == ["metadata", NPY]
    # The server was replaced by TensorFlow Serving.
    assert asked(dialogue, NO_JSON, answer) == [NPY, "json"]
    assert asked(dialogue, metadata_reply(None), answer) == ["metadata", "json"]
    # There are servers of both kinds behind the address.
    dialogue = Dialogue(RestCodec(), Limits(10.0, 3))
    assert asked(dialogue, metadata_reply(f"{NPY}, {NPZ}"), NO_JSON, answer) == ["metadata", NPY, "json"]
    # One whose error says something else, but whose metadata is plain.
    dialogue = Dialogue(RestCodec(), Limits(10.0, 3))
    asked(dialogue, metadata_reply(f"{NPY}, {NPZ}"), files)
    assert asked(dialogue, other, metadata_reply(None), answer) == [NPY, "metadata", "json"]
    # What is wrong with the values is not sent twice.
    dialogue = Dialogue(RestCodec(), Limits(10.0, 3))
    assert asked(dialogue, metadata_reply(f"{NPY}, {NPZ}"), other) == ["metadata", NPY, "failed"]


def test_archives_that_cannot_be_unpacked() -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as files:
        files.writestr("y.npy", bytes(1000))
    content = made.getvalue()
    spoilt, encrypted = bytearray(content), bytearray(content)
    spoilt[35:38] = b"\xff\xff\xff"
    encrypted[6] |= 1
    encrypted[content.index(b"PK\1\2") + 8] |= 1
    for one in (spoilt, encrypted):
        with pytest.raises(ValueError, match="no archive"):
            read(NPZ, bytes(one), "y")
