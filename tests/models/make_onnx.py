"""Writes the small ONNX models next to it. They are committed, so that the tests need no package ``onnx``.

    python tests/models/make_onnx.py

Each has one version, 1:

    onnx_pair   a float [n], b int32 [n] -> sum float [n], twice int32 [n]
"""

from __future__ import annotations

from pathlib import Path

from onnx import ModelProto, TensorProto, checker, helper

HERE = Path(__file__).resolve().parent
# Old enough for every supported runtime.
OPSET = 17
IR_VERSION = 8


def pair() -> ModelProto:
    """Two inputs of different types, two outputs, as the SavedModel ``pair``."""
    vector = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["b"], ["b_float"], to=TensorProto.FLOAT),
            helper.make_node("Add", ["a", "b_float"], ["sum"]),
            helper.make_node("Add", ["b", "b"], ["twice"]),
        ],
        "pair",
        [vector("a", TensorProto.FLOAT, ["n"]), vector("b", TensorProto.INT32, ["n"])],
        [vector("sum", TensorProto.FLOAT, ["n"]), vector("twice", TensorProto.INT32, ["n"])],
    )
    opset = helper.make_opsetid("", OPSET)
    return helper.make_model(graph, producer_name="servable", opset_imports=[opset], ir_version=IR_VERSION)


def main() -> None:
    """Writes every model anew."""
    for name, model in {"onnx_pair": pair()}.items():
        checker.check_model(model, full_check=True)
        folder = HERE / name / "1"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.onnx").write_bytes(model.SerializeToString())
        print(f"{name}: {model.ByteSize()} bytes")


if __name__ == "__main__":
    main()
