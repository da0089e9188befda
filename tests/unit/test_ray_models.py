"""What is to be served on Ray, in the forms that it may be given in; and for which model a request is."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings, strategies as st

from servable.config.values import All, Folder, Latest, Specific
from servable.errors import InvalidArgumentError, NotFoundError, UsageError
from servable.messages import message_class
from servable.ray.models import NAME, PLACE, SAFE_NAME, Model, read_models
from servable.ray.requested_model import of_message, of_path

PREDICT = "/tensorflow.serving.PredictionService/Predict"


def test_a_path_names_its_model() -> None:
    for path, name in [
        ("s3://bucket/models/half", "half"),
        ("s3://bucket/models/half/", "half"),
        ("s3://bucket/models/half/3", "half"),
        ("gs://half", "half"),
        ("/srv/models/half", "half"),
        ("/srv/models/net.onnx", "net"),
    ]:
        assert list(read_models(path)) == [name], path
    assert list(read_models(f"s3://b/{PLACE}")) == [PLACE]
    assert list(read_models(Path("/srv/m"))) == ["m"]


def test_mappings_say_more() -> None:
    given = {
        "a": "/m/a",
        "b": {"path": "/m/b", "versions": [2, 1, 2], "labels": {"stable": 1}},
        "c": "s3://c",
    }
    found = read_models(given)
    assert found["a"] == Model("/m/a")
    assert found["b"] == Model("/m/b", (2, 1), {"stable": 1})
    assert read_models({name: one.plain() for name, one in found.items()}) == found
    assert read_models({"m": {"path": "/m", "versions": 7}})["m"].versions == (7,)


@pytest.mark.parametrize(
    ("models", "text"),
    [
        (None, "models: expected a path, or a mapping"),
        ([], "models: expected a path"),
        ({}, "models: expected a path"),
        ("", "models.path: expected a path or a URI, got ''"),
        ("relative/path", "expected an absolute path or a URI, which means the same on every node"),
        ("/", "'/' names no model"),
        ({"a/b": "/m"}, "a model's name without / and :, got 'a/b'"),
        ({1: "/m"}, "a model's name without / and :, got 1"),
        ({"m": 1}, "models.m: expected a path, or a mapping with path, versions, labels, got 1"),
        ({"m": {"pth": "/m"}}, "models.m: unknown key 'pth'; did you mean path?"),
        ({"m": {"path": "/m", "versions": "newest"}}, "models.m.versions: expected latest, all, or numbers"),
        ({"m": {"path": "/m", "versions": []}}, "models.m.versions: expected"),
        ({"m": {"path": "/m", "versions": [True]}}, "models.m.versions: expected"),
        ({"m": {"path": "/m", "labels": {"a": "1"}}}, "models.m.labels: expected label: version"),
        ({"m": {"path": "/m", "versions": -4}}, "models.m.versions: expected latest, all, or numbers"),
        ({"m": {"path": "/m", "versions": 1 << 63}}, "models.m.versions: expected latest, all, or numbers"),
        ({"m": {"path": "/m", "labels": {"a": -1}}}, "models.m.labels: expected label: version"),
        ({"m": {"path": "/m", "labels": []}}, "models.m.labels: expected label: version"),
        (
            {"m": {"path": "/m", "versions": [1, 2], "labels": {"a": 3}}},
            "models.m.labels.a: expected one of versions, 1, 2, got 3",
        ),
        ({"m": {"path": "/m", "labels": [1]}}, "models.m.labels: expected label: version"),
    ],
)
def test_what_is_wrong_says_where(models: Any, text: str) -> None:
    with pytest.raises(UsageError) as error:
        read_models(models)
    assert text in str(error.value)


def test_models_become_those_of_a_server(tmp_path: Path) -> None:
    base = tmp_path / "m"
    (base / "1").mkdir(parents=True)
    path = str(base)
    assert Model(path).config("x").policy == Latest()
    assert Model(path, "all").config("x").policy == All()
    assert Model(path, (1,), {"l": 1}).config("x").policy == Specific((1,))
    assert (Model(path).config("x").name, Model(path).config("x").base_path) == ("x", path)
    assert Model(f"{tmp_path}/{PLACE}").config("m").base_path == path
    (base / "1" / "saved_model.pb").touch()
    version = str(base / "1")
    assert Model(version).config("x").policy == Folder(1)
    with pytest.raises(InvalidArgumentError, match="is one version: leave out versions"):
        Model(version, (1,)).config("x")
    with pytest.raises(NotFoundError, match="no such folder"):
        Model(str(tmp_path / "none")).config("x")


# ---- the model of a request


@settings(deadline=None)
@given(st.text(min_size=1, max_size=20))
def test_the_model_of_a_path(name: str) -> None:
    written = quote(name, safe="")
    for rest in ("", ":predict", "/versions/1:predict", "/metadata", "/infer", "?x=1"):
        assert of_path(f"/v1/models/{written}{rest}") == name
        assert of_path(f"/v2/models/{written}{rest}") == name
    for other in ("/", "/v1/models", "/v1/models/", "/v2", "/v3/models/m", f"/x/v1/models/{written}"):
        assert of_path(other) == ""


def test_names_of_clients_lead_nowhere_else() -> None:
    for bad in ("", ".", "..", ".hidden", "a/b", "../x", "a b", "-x", "\0", "é" * 10, "a" * 129, "a\n"):
        assert not SAFE_NAME.fullmatch(bad), bad
    for good in ("a", "model_1", "a.b-c", "_x"):
        assert SAFE_NAME.fullmatch(good) and NAME.fullmatch(good)


@settings(deadline=None)
@given(st.text(max_size=30), st.lists(st.floats(width=32), max_size=5), st.integers(0, 2**62))
def test_the_model_of_a_message(name: str, values: list[float], version: int) -> None:
    request = message_class("tensorflow.serving.PredictRequest")()
    request.inputs["x"].float_val.extend(values)
    request.model_spec.name = name
    request.model_spec.version.value = version
    assert of_message(PREDICT, request.SerializeToString()) == name
    infer = message_class("inference.ModelInferRequest")(model_name=name, model_version="1", id="x")
    assert of_message("/inference.GRPCInferenceService/ModelInfer", infer.SerializeToString()) == name
    several = message_class("tensorflow.serving.MultiInferenceRequest")()
    several.tasks.add().model_spec.name = name
    method = "/tensorflow.serving.PredictionService/MultiInference"
    assert of_message(method, several.SerializeToString()) == name
    assert of_message("/tensorflow.serving.PredictionService/Other", request.SerializeToString()) == ""


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_name_a_model_or_none(message: bytes) -> None:
    assert isinstance(of_message(PREDICT, message), str)


@settings(deadline=None)
@given(st.text(max_size=10), st.text(max_size=10))
def test_the_last_name_counts_as_in_protobuf(first: str, last: str) -> None:
    kind = message_class("inference.ModelInferRequest")
    both = kind(model_name=first).SerializeToString() + kind(model_name=last).SerializeToString()
    if last:
        assert (
            of_message("/inference.GRPCInferenceService/ModelInfer", both) == kind.FromString(both).model_name
        )
