"""Writes models as TensorFlow keeps them elsewhere than in SavedModels, into a folder: made, not committed.

python tests/models/make_foreign.py FOLDER

frozen.pb           a frozen graph: x float [None] -> y = 0.5 x + 2
v1/m.ckpt.*         a checkpoint of TensorFlow 1 with its graph, which is trained: x float [None] -> y = 3 x
v2/ckpt-1.*         a checkpoint of a Keras model, by Checkpoint(model): 2 a + 3 b + 1
named/ckpt-1.*      the same by Checkpoint(net=model)
hub/                a module as TensorFlow Hub kept them: a SavedModel without tags: y = 3 x
m.weights.h5        the weights of that Keras model
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
from tensorflow.core.protobuf import saved_model_pb2

v1 = tf.compat.v1


def keras_model() -> keras.Sequential:
    """Returns 2 a + 3 b + 1."""
    model = keras.Sequential([keras.Input([2]), keras.layers.Dense(1)])
    model.set_weights([np.array([[2.0], [3.0]]), np.array([1.0])])
    return model


def frozen(path: Path) -> None:
    """Writes a graph of constants."""
    with tf.Graph().as_default() as graph:
        x = v1.placeholder(tf.float32, [None], name="x")
        tf.add(0.5 * x, 2.0, name="y")
    path.write_bytes(graph.as_graph_def().SerializeToString())


def with_variables() -> tuple[tf.Tensor, tf.Tensor]:
    """Builds a graph of TensorFlow 1."""
    x = v1.placeholder(tf.float32, [None], name="x")
    w = v1.get_variable("w", initializer=3.0, use_resource=False)
    return x, tf.multiply(w, x, name="y")


def checkpoint(folder: Path) -> None:
    """Writes a checkpoint of a graph that is being trained."""
    folder.mkdir()
    with tf.Graph().as_default(), v1.Session() as session:
        _, y = with_variables()
        target = v1.placeholder(tf.float32, [None], name="target")
        loss = tf.reduce_mean((y - target) ** 2, name="loss")
        v1.train.GradientDescentOptimizer(0.1).minimize(loss, name="train")
        session.run(v1.global_variables_initializer())
        v1.train.Saver().save(session, str(folder / "m.ckpt"))


def hub_module(folder: Path) -> None:
    """Writes a SavedModel with the mark of a module."""
    with tf.Graph().as_default(), v1.Session() as session:
        x, y = with_variables()
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.Builder(str(folder))
        signature = v1.saved_model.predict_signature_def({"default": x}, {"default": y})
        builder.add_meta_graph_and_variables(session, [], {"default": signature})
        builder.save()
    # The library that made them left out how variables are restored.
    file = folder / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    for graph in model.meta_graphs:
        graph.ClearField("saver_def")
    file.write_bytes(model.SerializeToString())
    (folder / "tfhub_module.pb").write_bytes(b"\x08\x03")


def write(folder: Path) -> None:
    """Writes all of them."""
    frozen(folder / "frozen.pb")
    checkpoint(folder / "v1")
    hub_module(folder / "hub")
    model = keras_model()
    tf.train.Checkpoint(model).save(str(folder / "v2" / "ckpt"))
    tf.train.Checkpoint(net=model).save(str(folder / "named" / "ckpt"))
    model.save_weights(str(folder / "m.weights.h5"))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
