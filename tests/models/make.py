"""Writes the small SavedModels next to it, which the end-to-end tests serve without ``../shared``.

    python tests/models/make.py

They are committed, so that the tests need no TensorFlow in Python. Each has one version, 1:

    half_plus_two      x float [None] -> y = 0.5 x + 2, with variables
    add_two            x float [None, None] -> y = x + 2
    pair               a float [None], b int32 [None] -> sum float [None], twice int32 [None]
    echo               x string [None] -> text, raw_bytes: the same strings
    narrow             h half [None], b bfloat16 [None] -> halves, brains: the same, sum float [None]
    loop               steps int64 [] -> done int64 []: that many iterations of a loop, about 10 us each;
                       signature fill: count int32 [] -> y float [count], ones
    normalise          x float [None] -> y: x over the power of two above its maximum; endless for zeros
    hidden_variables   a tf.Module around a Keras 3 model, exported without Keras: loads, cannot run
    lookup             word string [None] -> id int64 [None], by a table read from an asset
    asset              x float [None] -> y: the same; path, text string []: an asset's path and content
    tf1_lookup         lookup as TensorFlow 1 exports it, under the tags serve and tf1
    unknown_op         add_two with an operation that TensorFlow does not have
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

HERE = Path(__file__).resolve().parent
LARGEST = 100_000


class HalfPlusTwo(tf.Module):
    """Two variables, as in a trained model."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = tf.Variable(0.5, name="slope")
        self.offset = tf.Variable(2.0, name="offset")

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def serve(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        """X float [None] -> y float [None]."""
        return {"y": self.slope * x + self.offset}


class AddTwo(tf.Module):
    """A function of its input alone."""

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32, name="x")])
    def serve(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        """X float [batch, length] -> y of the same shape."""
        return {"y": x + 2.0}


class Pair(tf.Module):
    """Two inputs of different types, two outputs."""

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.float32, name="a"),
            tf.TensorSpec([None], tf.int32, name="b"),
        ]
    )
    def serve(self, a: tf.Tensor, b: tf.Tensor) -> dict[str, tf.Tensor]:
        """A float [n], b int32 [n] -> sum float [n], twice int32 [n]."""
        return {"sum": a + tf.cast(b, tf.float32), "twice": 2 * b}


class Narrow(tf.Module):
    """Numbers of 16 bits."""

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.float16, name="h"),
            tf.TensorSpec([None], tf.bfloat16, name="b"),
        ]
    )
    def serve(self, h: tf.Tensor, b: tf.Tensor) -> dict[str, tf.Tensor]:
        """H half [n], b bfloat16 [n] -> halves, brains, sum float [n]."""
        total = tf.cast(h, tf.float32) + tf.cast(b, tf.float32)
        return {"halves": tf.identity(h), "brains": tf.identity(b), "sum": total}


class Echo(tf.Module):
    """Strings unchanged, under a plain name and under one that ends with ``_bytes``."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="x")])
    def serve(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        """X string [n] -> text, raw_bytes string [n]."""
        return {"text": tf.identity(x), "raw_bytes": tf.identity(x)}


class Loop(tf.Module):
    """Time and memory on request."""

    @tf.function(input_signature=[tf.TensorSpec([], tf.int64, name="steps")])
    def serve(self, steps: tf.Tensor) -> dict[str, tf.Tensor]:
        """Steps int64 [] -> done int64 []."""
        zero = tf.constant(0, tf.int64)
        done = tf.while_loop(lambda i: i < steps, lambda i: (i + 1,), (zero,), parallel_iterations=1)
        return {"done": done[0]}

    @tf.function(input_signature=[tf.TensorSpec([], tf.int32, name="count")])
    def fill(self, count: tf.Tensor) -> dict[str, tf.Tensor]:
        """Count int32 [] -> y float [count]."""
        return {"y": tf.ones([count])}


class Normalise(tf.Module):
    """A loop that ends for its intended inputs, but not for zeros."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def serve(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        """X float [n], with one value above 0 -> y float [n]."""
        scale = tf.constant(1.0)
        top = tf.reduce_max(x)
        scale, _ = tf.while_loop(
            lambda scale, value: value < 1.0, lambda scale, value: (scale * 2.0, value * 2.0), (scale, top)
        )
        return {"y": x * scale}


class HiddenVariables(tf.Module):
    """A common mistake with Keras 3: restoring fills other variables than the function reads."""

    def __init__(self) -> None:
        super().__init__()
        import keras

        self.model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1, name="dense")])

    @tf.function(input_signature=[tf.TensorSpec([None, 1], tf.float32, name="x")])
    def serve(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        """X float [None, 1] -> y float [None, 1]."""
        return {"y": self.model(x)}


WORDS = "red\ngreen\nblue\n"


class Lookup(tf.Module):
    """A vocabulary: a resource that the init op fills from a file of the export."""

    def __init__(self) -> None:
        super().__init__()
        words = Path(tempfile.mkdtemp()) / "words.txt"
        words.write_text(WORDS)
        self.words = tf.saved_model.Asset(str(words))
        self.table = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(
                self.words.asset_path,
                tf.string,
                tf.lookup.TextFileIndex.WHOLE_LINE,
                tf.int64,
                tf.lookup.TextFileIndex.LINE_NUMBER,
            ),
            default_value=-1,
        )

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="word")])
    def serve(self, word: tf.Tensor) -> dict[str, tf.Tensor]:
        """Word string [None] -> id int64 [None], -1 for words missing from the file."""
        return {"id": self.table.lookup(word)}


class Asset(tf.Module):
    """A file of the export that the graph itself opens, by the path passed to it."""

    def __init__(self) -> None:
        super().__init__()
        words = Path(tempfile.mkdtemp()) / "words.txt"
        words.write_text(WORDS)
        self.words = tf.saved_model.Asset(str(words))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def serve(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        """X float [n] -> y, the same; path, text string []."""
        path = self.words.asset_path
        return {"y": tf.identity(x), "path": path, "text": tf.io.read_file(path)}


def tf1_lookup(folder: Path) -> None:
    """Writes ``lookup`` with the builder of TensorFlow 1: a graph, a session, a main op, several tags."""
    v1 = tf.compat.v1
    words = folder.parent / "words.txt"
    words.write_text(WORDS)
    with tf.Graph().as_default(), v1.Session() as session:
        columns = tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
        initializer = tf.lookup.TextFileInitializer(str(words), tf.string, *columns)
        table = tf.lookup.StaticHashTable(initializer, default_value=-1)
        word = v1.placeholder(tf.string, [None], name="word")
        offset = v1.get_variable("offset", initializer=tf.constant(0, tf.int64))
        signature = v1.saved_model.predict_signature_def({"word": word}, {"id": table.lookup(word) + offset})
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        builder = v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(
            session,
            ["serve", "tf1"],
            signature_def_map={"serving_default": signature},
            assets_collection=v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS),
            main_op=v1.tables_initializer(),
        )
        builder.save()


def save(module: tf.Module, folder: Path) -> None:
    """Writes ``module`` with ``serve`` as the default signature, without debug information."""
    signatures = {"serving_default": module.serve}
    if hasattr(module, "fill"):
        signatures["fill"] = module.fill
    options = tf.saved_model.SaveOptions(save_debug_info=False)
    tf.saved_model.save(module, str(folder), signatures=signatures, options=options)


def break_operation(folder: Path) -> None:
    """Renames every AddV2 of the SavedModel in ``folder`` to an operation that does not exist."""
    path = folder / "saved_model.pb"
    model = saved_model_pb2.SavedModel()
    model.ParseFromString(path.read_bytes())
    graph = model.meta_graphs[0].graph_def
    nodes = [node for function in graph.library.function for node in function.node_def]
    for node in [*graph.node, *nodes]:
        if node.op == "AddV2":
            node.op = "ServableTestsNoSuchOp"
    path.write_bytes(model.SerializeToString())


def unknown_op(folder: Path) -> None:
    """Writes ``add_two`` with a broken operation."""
    save(AddTwo(), folder)
    break_operation(folder)


def saved(module: Callable[[], tf.Module]) -> Callable[[Path], None]:
    """Returns a writer of ``module``."""
    return lambda folder: save(module(), folder)


MODELS: dict[str, Callable[[Path], None]] = {
    "half_plus_two": saved(HalfPlusTwo),
    "add_two": saved(AddTwo),
    "pair": saved(Pair),
    "echo": saved(Echo),
    "narrow": saved(Narrow),
    "loop": saved(Loop),
    "normalise": saved(Normalise),
    "hidden_variables": saved(HiddenVariables),
    "lookup": saved(Lookup),
    "asset": saved(Asset),
    "tf1_lookup": tf1_lookup,
    "unknown_op": unknown_op,
}


def main() -> None:
    """Writes every model anew; fails if one is too large to commit."""
    for name, write in MODELS.items():
        with tempfile.TemporaryDirectory() as scratch:
            made = Path(scratch) / "1"
            write(made)
            size = sum(file.stat().st_size for file in made.rglob("*") if file.is_file())
            if size > LARGEST:
                raise SystemExit(f"{name} has {size} bytes, more than {LARGEST}")
            target = HERE / name
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(made, target / "1")
        print(f"{name}: {size} bytes")


if __name__ == "__main__":
    main()
