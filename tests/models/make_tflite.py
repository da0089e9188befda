"""Writes the small TensorFlow Lite models next to it, which tests load without ``../shared``.

    python tests/models/make_tflite.py

They are committed, so that the tests need no TensorFlow. Each has one version, 1:

    tflite_pair     a float [None], b int32 [None] -> sum float [None], twice int32 [None]
    tflite_types    a signature for each dtype, named by it: x [None] -> y [None, 1], the same values
    tflite_words    words string [None], order int32 [None] -> picked string [None], echo string [None]
    tflite_dense    x float [None, 3] -> y float [None, 2], a dense layer
    tflite_loop     steps int32 [] -> done int32 []: that many iterations of a loop
    tflite_counter  step float [] -> total float []: the sum of all steps so far, in a variable
    tflite_lookup   word string [None] -> id int64 [None], by a table
    tflite_flex     x float [None, 2, 2] -> y float [None], by an operator that only TensorFlow has
    tflite_where    x float [None] -> places int64 [None, 1]: a shape that depends on values
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf

HERE = Path(__file__).resolve().parent
DTYPES = (
    tf.float32,
    tf.float16,
    tf.float64,
    tf.int8,
    tf.int16,
    tf.int32,
    tf.int64,
    tf.uint8,
    tf.uint16,
    tf.uint32,
    tf.bool,
    tf.string,
)


def write(
    name: str, functions: dict[str, Callable[..., object]], module: tf.Module, *, flex: bool = False
) -> None:
    """Converts ``functions``, the signatures of a model by name."""
    module.functions = list(functions.values())
    signatures = {key: function.get_concrete_function() for key, function in functions.items()}
    path = str(HERE / name / "saved_model")
    tf.saved_model.save(module, path, signatures=signatures)
    converter = tf.lite.TFLiteConverter.from_saved_model(path, signature_keys=list(signatures))
    converter.experimental_enable_resource_variables = True
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if flex:
        converter.target_spec.supported_ops.append(tf.lite.OpsSet.SELECT_TF_OPS)
    version = HERE / name / "1"
    version.mkdir(parents=True, exist_ok=True)
    (version / "model.tflite").write_bytes(converter.convert())
    tf.io.gfile.rmtree(path)


def vector(dtype: tf.DType, name: str) -> tf.TensorSpec:
    """A vector of any length."""
    return tf.TensorSpec([None], dtype, name=name)


@tf.function(input_signature=[vector(tf.float32, "a"), vector(tf.int32, "b")])
def pair(a: tf.Tensor, b: tf.Tensor) -> dict[str, tf.Tensor]:
    """Two inputs, two outputs, two dtypes."""
    return {"sum": a + tf.cast(b, tf.float32), "twice": 2 * b}


def column(dtype: tf.DType) -> Callable[..., object]:
    """A function of one dtype that computes nothing."""

    @tf.function(input_signature=[vector(dtype, "x")])
    def function(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.reshape(x, [-1, 1])}

    return function


@tf.function(input_signature=[vector(tf.string, "words"), vector(tf.int32, "order")])
def words(words: tf.Tensor, order: tf.Tensor) -> dict[str, tf.Tensor]:
    """Strings by their places, and as they came."""
    return {"picked": tf.gather(words, order), "echo": tf.identity(words)}


WEIGHTS = tf.constant([[1.0, -1.0], [0.5, 2.0], [0.0, 3.0]])


@tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="x")])
def dense(x: tf.Tensor) -> dict[str, tf.Tensor]:
    """A matrix product."""
    return {"y": tf.matmul(x, WEIGHTS) + 1.0}


@tf.function(input_signature=[tf.TensorSpec([], tf.int32, name="steps")])
def loop(steps: tf.Tensor) -> dict[str, tf.Tensor]:
    """Counts to ``steps``."""
    return {"done": tf.while_loop(lambda i: i < steps, lambda i: (i + 1,), (tf.constant(0),))[0]}


class Counter(tf.Module):
    """A variable that runs change."""

    def __init__(self) -> None:
        super().__init__()
        self.total = tf.Variable(0.0)

    @tf.function(input_signature=[tf.TensorSpec([], tf.float32, name="step")])
    def add(self, step: tf.Tensor) -> dict[str, tf.Tensor]:
        """Adds to the variable."""
        self.total.assign_add(step)
        return {"total": self.total.read_value()}


class Lookup(tf.Module):
    """A table from words to numbers."""

    def __init__(self) -> None:
        super().__init__()
        keys, values = tf.constant(["one", "two"]), tf.constant([1, 2], tf.int64)
        self.table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), -1)

    @tf.function(input_signature=[vector(tf.string, "word")])
    def find(self, word: tf.Tensor) -> dict[str, tf.Tensor]:
        """Looks words up."""
        return {"id": self.table.lookup(word)}


@tf.function(input_signature=[tf.TensorSpec([None, 2, 2], tf.float32, name="x")])
def flex(x: tf.Tensor) -> dict[str, tf.Tensor]:
    """An operator that TensorFlow Lite does not have."""
    return {"y": tf.linalg.det(x)}


@tf.function(input_signature=[vector(tf.float32, "x")])
def where(x: tf.Tensor) -> dict[str, tf.Tensor]:
    """The places of values above zero."""
    return {"places": tf.where(x > 0.0)}


def main() -> None:
    """Writes all of them."""
    default = "serving_default"
    write("tflite_pair", {default: pair}, tf.Module())
    write("tflite_types", {dtype.name: column(dtype) for dtype in DTYPES}, tf.Module())
    write("tflite_words", {default: words}, tf.Module())
    write("tflite_dense", {default: dense}, tf.Module())
    write("tflite_loop", {default: loop}, tf.Module())
    counter = Counter()
    write("tflite_counter", {default: counter.add}, counter)
    lookup = Lookup()
    write("tflite_lookup", {default: lookup.find}, lookup)
    write("tflite_flex", {default: flex}, tf.Module(), flex=True)
    write("tflite_where", {default: where}, tf.Module())


if __name__ == "__main__":
    main()
