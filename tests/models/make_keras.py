"""Writes Keras files for the end-to-end tests into a folder: made by the installed Keras, not committed.

python tests/models/make_keras.py FOLDER

sum.keras, sum.h5   x float [None, 2] -> 2 a + 3 b + 1
double.keras        x float [None, 2] -> 4 a + 6 b + 2
two.keras           a, b float [None, 3] -> both: a + b, last: b
half.keras          x float [None, 2] -> the sum of x, computed in float16
lambda.keras        a Lambda layer, which makes the file ``it ran`` wherever it is run
custom.keras        a layer of this program
unbuilt.keras       a model without an input shape
sum.weights.h5      the weights of sum
blind/1             a SavedModel of sum, normalised, whose signature does not see its variables
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf


class Triple(keras.layers.Layer):
    """A layer that only this program knows."""

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Returns 3 x."""
        return 3 * x


def weighted(*layers: keras.layers.Layer, factor: float = 1.0) -> keras.Sequential:
    """Returns 2 a + 3 b + 1, ``factor`` times, of what ``layers`` make of the input."""
    dense = keras.layers.Dense(1)
    model = keras.Sequential([keras.Input([2]), *layers, dense])
    dense.set_weights([factor * np.array([[2.0], [3.0]]), factor * np.array([1.0])])
    return model


def two() -> keras.Model:
    """Returns a model with two inputs and two outputs."""
    a, b = keras.Input([3], name="a"), keras.Input([3], name="b")
    return keras.Model({"a": a, "b": b}, {"both": keras.layers.Add()([a, b]), "last": b})


def half() -> keras.Sequential:
    """Returns a model that computes in float16, and answers in float32, which JSON has."""
    dense = keras.layers.Dense(1, dtype="float16", use_bias=False)
    model = keras.Sequential([keras.Input([2]), dense, keras.layers.Activation("linear", dtype="float32")])
    dense.set_weights([np.ones([2, 1])])
    return model


class Blind(tf.Module):
    """A model in a module: the signature reads other variables than those that are restored."""

    def __init__(self) -> None:
        super().__init__()
        self.model = weighted(keras.layers.Normalization(mean=[1.0, 2.0], variance=[4.0, 9.0]))

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
    def serve(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        """X float [None, 2] -> y float [None, 1]."""
        return {"y": self.model(x)}


def write_lambda(file: Path, witness: Path) -> None:
    """Writes a model whose layer makes the file ``witness``: now, and where it is loaded without care."""
    layer = keras.layers.Lambda(
        lambda x, path: [x, __import__("pathlib").Path(path).touch()][0], arguments={"path": str(witness)}
    )
    weighted(layer).save(file)
    witness.unlink()
    keras.models.load_model(file, safe_mode=False)
    witness.unlink()


def write(folder: Path) -> None:
    """Writes all of them."""
    weighted().save(folder / "sum.keras")
    weighted().save(folder / "sum.h5")
    weighted().save_weights(folder / "sum.weights.h5")
    weighted(factor=2.0).save(folder / "double.keras")
    two().save(folder / "two.keras")
    half().save(folder / "half.keras")
    write_lambda(folder / "lambda.keras", folder / "it ran")
    weighted(Triple()).save(folder / "custom.keras")
    keras.Sequential([keras.layers.Dense(1)]).save(folder / "unbuilt.keras")
    module = Blind()
    tf.saved_model.save(module, str(folder / "blind" / "1"), signatures={"serving_default": module.serve})


if __name__ == "__main__":
    write(Path(sys.argv[1]))
