"""Warm-up files: recorded requests run before a version serves, and a failing one fails the load."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import Served
from prometheus import monitoring, samples
from servers import MODELS, ONE_TRY, serving
from stubs import set_floats
from tfrecord import WARM_UP, write
from wire import ask, predict

from servable.messages import message_class

pytestmark = pytest.mark.needs_tensorflow

QUIET = (ONE_TRY, "--synthetic_warmup=false")


def log() -> Any:
    return message_class("tensorflow.serving.PredictionLog")()


def predict_log(alias: str = "x") -> bytes:
    """Makes a predict of one float; its model's name does not matter."""
    record = log()
    record.predict_log.request.model_spec.name = "another"
    set_floats(record.predict_log.request.inputs[alias], 1.0)
    return bytes(record.SerializeToString())


@pytest.fixture
def version(base: Path) -> Path:
    """The folder of version 1 of ``half_plus_two``."""
    return base / "1"


def state(served: Served) -> dict[str, Any]:
    """Returns the status API's report on the only version."""
    (status,) = json.loads(ask(served, "GET", "/v1/models/m").body)["model_version_status"]
    return {"state": status["state"], **status["status"]}


def test_a_call_with_zeros_that_never_ends_is_given_up(tmp_path: Path) -> None:
    """It delays neither the start nor its own model."""
    with serving(MODELS / "normalise", MODELS / "half_plus_two") as served:
        assert "ready: 2 of 2 models available" in served.log
        reply = predict(served, "normalise", {"instances": [0.125, 0.25]})
        assert json.loads(reply.body) == {"predictions": [0.5, 1.0]}


def test_requests_are_run_before_the_version_serves(version: Path, tmp_path: Path) -> None:
    write(version / WARM_UP, [predict_log(), predict_log(), b""])
    iterations = "--num_request_iterations_for_warmup=3"
    with serving(f"m={version.parent}", *QUIET, iterations, monitoring(tmp_path)) as served:
        found = samples(served)
        labels = f'{{model_path="{version}",status="OK"}}'
        assert found[f":tensorflow:serving:model_warmup_records_read{labels}"] == "3"
        assert found[f":tensorflow:serving:model_warmup_latency_count{labels}"] == "1"
        assert int(found[":tensorflow:core:graph_runs{}"]) >= 2 * 3
        assert predict(served, "m", {"instances": [2.0]}).status == 200
        assert "Number of warmup records read: 3." in served.log


def test_a_request_that_fails_fails_the_load(version: Path) -> None:
    write(version / WARM_UP, [predict_log(), predict_log("no_such_input")])
    with serving(f"m={version.parent}", *QUIET) as served:
        assert state(served)["state"] == "END"
        assert state(served)["error_code"] == "INVALID_ARGUMENT"
        assert "no_such_input" in state(served)["error_message"]
        assert predict(served, "m", {"instances": [2.0]}).status == 404


def test_a_damaged_file_fails_the_load(version: Path) -> None:
    (version / WARM_UP).parent.mkdir()
    (version / WARM_UP).write_bytes(b"this is no file of records")
    with serving(f"m={version.parent}", *QUIET) as served:
        assert state(served) == {
            "state": "END",
            "error_code": "DATA_LOSS",
            "error_message": "corrupted record at 0 (Is this even a TFRecord file?). "
            "Please verify your warmup data is in TFRecord format.",
        }


def test_by_flag_the_file_is_not_looked_at(version: Path) -> None:
    write(version / WARM_UP, [b"no log"])
    with serving(f"m={version.parent}", *QUIET, "--enable_model_warmup=false") as served:
        assert predict(served, "m", {"instances": [2.0]}).status == 200


COLD = "the first request may be slow"


def graph_model(folder: Path, nodes: str, output: str, shape: str = "dim { size: -1 }") -> Path:
    """Writes a model of strings ``x``, given its graph behind them, as text."""
    version = folder / "1"
    version.mkdir(parents=True)
    info = 'name: "{}" dtype: DT_STRING tensor_shape {{ {} }}'
    version.joinpath("saved_model.pbtxt").write_text(
        f"""
        saved_model_schema_version: 1
        meta_graphs {{
          meta_info_def {{ tags: "serve" }}
          graph_def {{
            node {{
              name: "x" op: "Placeholder"
              attr {{ key: "dtype" value {{ type: DT_STRING }} }}
              attr {{ key: "shape" value {{ shape {{ {shape} }} }} }}
            }}
            {nodes}
            versions {{ producer: 27 }}
          }}
          signature_def {{
            key: "serving_default"
            value {{
              inputs {{ key: "x" value {{ {info.format("x:0", shape)} }} }}
              outputs {{ key: "y" value {{ {info.format(output, "unknown_rank: true")} }} }}
              method_name: "tensorflow/serving/predict"
            }}
          }}
        }}
        """
    )
    return folder


def runs(served: Served) -> int:
    """Returns how often a graph ran so far."""
    return int(samples(served)[":tensorflow:core:graph_runs{}"])


def decoder(folder: Path, op: str) -> Path:
    """Writes a model of one picture in ``x``."""
    return graph_model(folder, f'node {{ name: "y" op: "{op}" input: "x" }}', "y:0", shape="")


@pytest.mark.parametrize("op", ["DecodeJpeg", "DecodePng", "DecodeGif", "DecodeBmp", "DecodeImage"])
def test_inputs_that_are_decoded_as_pictures_are_warmed_with_one(op: str, tmp_path: Path) -> None:
    with serving(decoder(tmp_path / "m", op), monitoring(tmp_path)) as served:
        assert COLD not in served.log
        assert runs(served) >= 2


def test_a_picture_that_is_too_small_is_followed_by_a_larger_one(tmp_path: Path) -> None:
    window = """
    node {
      name: "window" op: "Const"
      attr { key: "dtype" value { type: DT_INT32 } }
      attr { key: "value" value { tensor {
        dtype: DT_INT32 tensor_shape { dim { size: 4 } } int_val: [0, 0, 200, 200]
      } } }
    }
    node { name: "y" op: "DecodeAndCropJpeg" input: "x" input: "window" }
    """
    with serving(graph_model(tmp_path / "m", window, "y:0", shape="")) as served:
        assert COLD not in served.log


KEYS = """
node {{
  name: "{0}" op: "Const"
  attr {{ key: "dtype" value {{ type: DT_STRING }} }}
  attr {{ key: "value" value {{ tensor {{ dtype: DT_STRING tensor_shape {{ {1} }} {2} }} }} }}
}}
"""

NO_DEFAULT = """
node {
  name: "default" op: "Const"
  attr { key: "dtype" value { type: DT_FLOAT } }
  attr { key: "value" value { tensor { dtype: DT_FLOAT tensor_shape { dim { size: 0 } } } } }
}
"""


def test_inputs_that_are_parsed_as_examples_are_warmed_with_the_features_declared(tmp_path: Path) -> None:
    parse = """
    node {
      name: "y" op: "ParseExample"
      input: "x" input: "names" input: "key" input: "default"
      attr { key: "Nsparse" value { i: 0 } }
      attr { key: "Ndense" value { i: 1 } }
      attr { key: "sparse_types" value { list { } } }
      attr { key: "Tdense" value { list { type: DT_FLOAT } } }
      attr { key: "dense_shapes" value { list { shape { dim { size: 2 } } } } }
    }
    """
    names = KEYS.format("names", "dim { size: 0 }", "")
    key = KEYS.format("key", "", 'string_val: "price"')
    model = graph_model(tmp_path / "m", names + key + NO_DEFAULT + parse, "y:0")
    with serving(model, monitoring(tmp_path)) as served:
        assert COLD not in served.log
        assert runs(served) >= 2


def test_what_stays_cold_is_said_once_with_what_to_do(tmp_path: Path) -> None:
    model = graph_model(tmp_path / "m", 'node { name: "y" op: "ReadFile" input: "x" }', "y:0", shape="")
    with serving(model) as served:
        (line,) = [line for line in served.log.splitlines() if COLD in line]
    why = "serving_default (input x takes strings, and the model does not tell of what)"
    assert f"m version 1: {COLD}, as no warm-up call could be made for {why}." in line
    assert "`servable warmup record m`" in line
    assert "`servable warmup make PATH --request JSON`" in line


@pytest.mark.needs_shared
def test_a_model_of_photos_is_warm(shared: Path, tmp_path: Path) -> None:
    model = shared.resolve() / "mobilenet" / "mobilenet_v2"
    with serving(model, monitoring(tmp_path)) as served:
        assert COLD not in served.log
        assert runs(served) >= 2 * 2


def examples(request: Any) -> Any:
    """Returns ``request`` with two Examples."""
    for x in (1.0, 2.0):
        example = request.input.example_list.examples.add()
        example.features.feature["x"].float_list.value.append(x)
    return request


@pytest.mark.needs_shared
def test_requests_of_every_kind(shared: Path, tmp_path: Path) -> None:
    model = shared.resolve() / "testdata" / "tensorflow_serving" / "saved_model_half_plus_two_cpu"
    (source,) = [path for path in model.iterdir() if path.name.isdigit()]
    version = tmp_path / "m" / "7"
    shutil.copytree(source, version)
    classify, regress, multi, run = log(), log(), log(), log()
    examples(classify.classify_log.request).model_spec.signature_name = "classify_x_to_y"
    examples(regress.regress_log.request).model_spec.signature_name = "regress_x_to_y"
    for signature in ("regress_x_to_y", "regress_x_to_y2"):
        task = multi.multi_inference_log.request.tasks.add(method_name="tensorflow/serving/regress")
        task.model_spec.name, task.model_spec.signature_name = "m", signature
    examples(multi.multi_inference_log.request)
    set_floats(run.session_run_log.request.feed.add(name="x:0").tensor, 1.0)
    run.session_run_log.request.fetch.append("y:0")
    records = [one.SerializeToString() for one in (classify, regress, multi, run)]
    write(version / WARM_UP, [*records, predict_log()])
    with serving(f"m={version.parent}", *QUIET, monitoring(tmp_path)) as served:
        assert predict(served, "m", {"instances": [2.0]}).status == 200
        found = samples(served)
        read = f':tensorflow:serving:model_warmup_records_read{{model_path="{version}",status="OK"}}'
        assert found[read] == "5"
        for api in ("Predict", "Classify", "Regress"):
            runs = f':tensorflow:serving:runtime_latency_count{{model_name="m",API="{api}",runtime="TF1"}}'
            assert int(found[runs]) >= 1
        assert "skipped" not in served.log
