"""Writes the small OpenVINO models next to it, ``openvino_*``, which the core's tests load.

    python tests/models/make_openvino.py

They are committed, so that the tests need no OpenVINO in Python. Each has one version, 1:

    pair      a float [None], b int32 [None] -> sum float [None], twice int32 [None]
    types     for each type T: x_T [None] -> y_T [None, 1], the same values
    fixed     x float [2, 3] -> y float [2, 4], x times weights
    wide      x float [None, 3] -> relu float [None, 3], x: as it is, large: 100,000 times the sum of each row
    unnamed   an input and an output without names, int32 [1 to 8] -> int32
    state     x float [1] -> total float [1], the sum of all that was fed since the load
    loop      steps int64 [], x float [1000] -> y float [1000]: x + 1, that many times
    branch    yes bool [], x float [1] -> y float [1]: x + 1 or x - 1
    strings   x string [None] -> y string [None, 1]
    small     x uint4 [2] -> y uint4 [2, 1]
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino
from openvino import Model, Output, Type, opset6, opset13

HERE = Path(__file__).resolve().parent
TYPES = ["f32", "f64", "f16", "bf16", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "boolean"]


def parameter(name: str, kind: str, shape: list[int | tuple[int, int]]) -> opset13.parameter:
    node = opset13.parameter(openvino.PartialShape(shape), getattr(Type, kind))
    if name:
        node.output(0).set_names({name})
        node.set_friendly_name(name)
    return node


def result(name: str, of: Output) -> opset13.result:
    node = opset13.result(of)
    if name:
        node.output(0).set_names({name})
        node.set_friendly_name(name)
    return node


def pair() -> Model:
    a, b = parameter("a", "f32", [-1]), parameter("b", "i32", [-1])
    total = opset13.add(a, opset13.convert(b, "f32"))
    twice = opset13.multiply(b, opset13.constant(np.array([2], np.int32)))
    return Model([result("sum", total), result("twice", twice)], [a, b])


def column(of: Output) -> Output:
    return opset13.reshape(of, opset13.constant(np.array([-1, 1], np.int64)), False)


def types() -> Model:
    inputs = [parameter(f"x_{kind}", kind, [-1]) for kind in TYPES]
    return Model([result(f"y_{kind}", column(x)) for kind, x in zip(TYPES, inputs, strict=True)], inputs)


def fixed() -> Model:
    x = parameter("x", "f32", [2, 3])
    weights = opset13.constant(np.arange(12, dtype=np.float32).reshape(3, 4))
    return Model([result("y", opset13.matmul(x, weights, False, False))], [x])


def wide() -> Model:
    x = parameter("x", "f32", [-1, 3])
    row = opset13.reduce_sum(x, opset13.constant(np.array([1], np.int64)), True)
    large = opset13.tile(row, opset13.constant(np.array([1, 100_000], np.int64)))
    same = opset13.result(x)
    return Model([result("relu", opset13.relu(x)), result("large", large), same], [x])


def unnamed() -> Model:
    x = parameter("", "i32", [(1, 8)])
    return Model([result("", opset13.negative(x))], [x])


def state() -> Model:
    x = parameter("x", "f32", [1])
    before = opset6.read_value(
        opset13.constant(np.zeros(1, np.float32)), "total", Type.f32, openvino.PartialShape([1])
    )
    total = opset13.add(before, x)
    return Model([result("total", total)], [opset6.assign(total, "total")], [x])


def loop() -> Model:
    steps, x = parameter("steps", "i64", []), parameter("x", "f32", [1000])
    value = opset13.parameter([1000], np.float32)
    more = opset13.result(opset13.constant(np.array(True)))
    body = Model([opset13.result(opset13.add(value, opset13.constant(np.float32(1)))), more], [value])
    node = opset13.loop(steps, opset13.constant(np.array(True)))
    node.set_function(body)
    node.set_special_body_ports([-1, 1])
    last = body.results[0].input(0).get_source_output()
    node.set_merged_input(value, x.output(0), last)
    return Model([result("y", node.get_iter_value(last, -1))], [steps, x])


def branch() -> Model:
    yes, x = parameter("yes", "boolean", []), parameter("x", "f32", [1])
    node = opset13.if_op(yes)
    ends = []
    for number in (1, -1):
        value = opset13.parameter([1], np.float32)
        step = opset13.constant(np.array([number], np.float32))
        ends.append((value, Model([opset13.result(opset13.add(value, step))], [value])))
    node.set_then_body(ends[0][1])
    node.set_else_body(ends[1][1])
    node.set_input(x.output(0), ends[0][0], ends[1][0])
    y = node.set_output(ends[0][1].results[0], ends[1][1].results[0])
    return Model([result("y", y)], [yes, x])


def strings() -> Model:
    x = parameter("x", "string", [-1])
    return Model([result("y", column(x))], [x])


def small() -> Model:
    x = parameter("x", "u4", [2])
    return Model([result("y", column(x))], [x])


MODELS: list[Callable[[], Model]] = [
    pair, types, fixed, wide, unnamed, state, loop, branch, strings, small,
]  # fmt: skip


def main() -> None:
    for make in MODELS:
        folder = HERE / f"openvino_{make.__name__}" / "1"
        shutil.rmtree(folder.parent, ignore_errors=True)
        folder.mkdir(parents=True)
        openvino.save_model(make(), folder / "model.xml", compress_to_fp16=False)
        if make is unnamed:
            xml = folder / "model.xml"
            xml.write_text(re.sub(r' (output_)?names="[^"]*"', "", xml.read_text()))


if __name__ == "__main__":
    main()
