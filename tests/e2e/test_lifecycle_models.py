"""Features of SavedModels: tags, tables and assets, TensorFlow 1, custom ops, session configs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from clients import version_states
from conftest import Served
from servers import FRIENDLY, MODELS, run_to_its_end, serving
from wire import predict

from servable.engines.tensorflow_library import find

pytestmark = pytest.mark.needs_tensorflow

ONCE = "--max_num_load_retries=0"
OP = """
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/common_shape_fns.h"
using namespace tensorflow;
REGISTER_OP("ServableTestsNoSuchOp")
    .Input("x: float").Input("y: float").Output("z: float").Attr("T: type")
    .SetShapeFn(shape_inference::UnknownShape);
class SumOp : public OpKernel {
 public:
  using OpKernel::OpKernel;
  void Compute(OpKernelContext* context) override {
    const Tensor& x = context->input(0);
    const float y = context->input(1).scalar<float>()();
    Tensor* z = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(0, x.shape(), &z));
    auto from = x.flat<float>();
    auto to = z->flat<float>();
    for (int64_t i = 0; i < from.size(); ++i) to(i) = from(i) + y;
  }
};
REGISTER_KERNEL_BUILDER(Name("ServableTestsNoSuchOp").Device(DEVICE_CPU), SumOp);
"""


def ids(served: Served, model: str) -> object:
    reply = predict(served, model, {"instances": ["green", "red", "violet"]})
    return json.loads(reply.body)


def test_tables_are_filled_from_assets() -> None:
    with serving(MODELS / "lookup") as served:
        assert ids(served, "lookup") == {"predictions": [1, 0, -1]}


def test_a_model_of_tensorflow_1_by_its_tags() -> None:
    with serving(MODELS / "tf1_lookup", "--saved_model_tags=serve,tf1") as served:
        assert ids(served, "tf1_lookup") == {"predictions": [1, 0, -1]}


def test_other_tags_than_the_models_are_named() -> None:
    with serving(MODELS / "tf1_lookup", ONCE) as served:
        assert version_states(served, "tf1_lookup") == {1: "END"}
        assert "Could not find meta graph def matching supplied tags: { serve }" in served.log


def test_assets_are_found_after_a_move(tmp_path: Path) -> None:
    """Paths within the graph are those of the machine that made it."""
    shutil.copytree(MODELS / "tf1_lookup" / "1", tmp_path / "moved" / "5")
    with serving(tmp_path / "moved", "--saved_model_tags=tf1,serve") as served:
        assert ids(served, "moved") == {"predictions": [1, 0, -1]}


def test_a_model_is_told_the_plain_path_of_its_asset(tmp_path: Path) -> None:
    """Custom ops open it without TensorFlow's file systems."""
    shutil.copytree(MODELS / "asset", tmp_path / "moved")
    with serving(tmp_path / "moved") as served:
        reply = predict(served, "moved", {"inputs": {"x": [1.0]}})
    asset = tmp_path / "moved" / "1" / "assets" / "words.txt"
    assert json.loads(reply.body) == {"outputs": {"y": [1.0], "path": str(asset), "text": asset.read_text()}}


def test_session_configs(tmp_path: Path) -> None:
    config = tmp_path / "session.config"
    config.write_text(
        "allow_soft_placement: true graph_options { rewrite_options { constant_folding: OFF } }"
    )
    flags = (f"--tensorflow_session_config_file={config}", "--tensorflow_session_parallelism=1")
    with serving(MODELS / "half_plus_two", *flags) as served:
        assert predict(served, "half_plus_two", {"instances": [2.0]}).status == 200
    config.write_text("allow_soft_placement: maybe")
    refused = run_to_its_end(MODELS / "half_plus_two", *flags)
    assert f"INVALID_ARGUMENT: Invalid protobuf file: '{config}'" in refused.stdout


def test_ops_of_a_library(tmp_path: Path) -> None:
    """The model names an op that TensorFlow lacks; the library is built here with TensorFlow's headers."""
    tensorflow = Path(find()).parent
    if shutil.which("g++") is None or not (tensorflow / "include").is_dir():
        pytest.skip("no g++, or no headers of TensorFlow")
    source, library = tmp_path / "op.cc", tmp_path / "op.so"
    source.write_text(OP)
    linking = (f"-L{tensorflow}", "-l:libtensorflow_framework.so.2")
    command = (
        "g++",
        "-std=c++17",
        "-shared",
        "-fPIC",
        "-w",
        f"-I{tensorflow}/include",
        str(source),
        *linking,
    )
    subprocess.run([*command, "-o", str(library)], check=True, timeout=110)
    with serving(MODELS / "unknown_op", f"--op_library={library}", command=FRIENDLY) as served:
        reply = predict(served, "unknown_op", {"instances": [[1.0, 2.0]]})
        assert json.loads(reply.body) == {"predictions": [[3.0, 4.0]]}
    absent = run_to_its_end(MODELS / "unknown_op", f"--op_library={tmp_path / 'absent.so'}")
    assert absent.returncode == 1
    assert "absent.so" in absent.stdout


def test_a_warm_up_file_that_was_made_is_replayed_before_the_version_serves(tmp_path: Path) -> None:
    shutil.copytree(MODELS / "half_plus_two", tmp_path / "m")
    command = (sys.executable, "-m", "servable", "warmup", "make", str(tmp_path / "m"))
    subprocess.run([*command, "--request", '{"instances": [1.0, 2.0]}'], check=True, timeout=60)
    with serving(tmp_path / "m", ONCE) as served:
        assert version_states(served, "m") == {1: "AVAILABLE"}
    file = tmp_path / "m" / "1" / "assets.extra" / "tf_serving_warmup_requests"
    file.write_bytes(file.read_bytes()[:-1])
    with serving(tmp_path / "m", ONCE) as served:
        assert version_states(served, "m") == {1: "END"}
        assert "Please verify your warmup data is in TFRecord format." in served.log
