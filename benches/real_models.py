"""Networks that people serve, with random weights, which run exactly as long: the models of ``real.py``.

Each function returns a Keras model; ``EXPORTS`` writes it as a SavedModel. ``models.py`` calls this in the
process that may import TensorFlow. The weights come from a fixed seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SIGNATURE = "serving_default"
SEED = 10
PICTURE = (None, 224, 224, 3)
CATEGORIES = tuple(f"category {number}" for number in range(1000))
IDS, VOCABULARY, WIDTH, HEADS, LAYERS = 128, 8000, 256, 4, 4
SAMPLES = 4000
SIDE = 128
STEPS, CHANNELS = 64, 32
COLUMNS = 12
CLASSES = 10


@dataclass(frozen=True)
class Network:
    """A network to export: how it is built, its inputs' shapes and dtypes by alias, its output's alias."""

    build: Callable[[], Any]
    inputs: Mapping[str, tuple[tuple[int | None, ...], str]]
    output: str

    def export(self, version: Path) -> None:
        """Writes the SavedModel into the folder ``version``."""
        import keras  # type: ignore[import-untyped]
        import tensorflow as tf  # type: ignore[import-untyped]

        keras.utils.set_random_seed(SEED)
        model = self.build()
        fed = [tf.TensorSpec(shape, dtype, name=alias) for alias, (shape, dtype) in self.inputs.items()]

        def serve(*values: Any) -> dict[str, Any]:
            return {self.output: model(values[0] if len(values) == 1 else list(values), training=False)}

        archive = keras.export.ExportArchive()
        archive.track(model)
        archive.add_endpoint(SIGNATURE, serve, input_signature=fed)
        archive.write_out(str(version), verbose=False)


def resnet50() -> Any:
    """images float32 [N,224,224,3] -> probabilities float32 [N,1000]."""
    import keras

    return keras.applications.ResNet50(weights=None)


def efficientnet_b0() -> Any:
    """images float32 [N,224,224,3], 0 to 255 -> probabilities float32 [N,1000]."""
    import keras

    return keras.applications.EfficientNetB0(weights=None)


def transformer() -> Any:
    """ids int32 [N,128] -> probabilities float32 [N,10]: an encoder of four layers, 256 wide."""
    from keras import Input, Model, layers, ops

    ids = Input((IDS,), dtype="int32")
    positions = layers.Embedding(IDS, WIDTH)(ops.arange(IDS))
    x = layers.Embedding(VOCABULARY, WIDTH)(ids) + positions
    for _ in range(LAYERS):
        attended = layers.MultiHeadAttention(HEADS, WIDTH // HEADS)(x, x)
        x = layers.LayerNormalization()(x + attended)
        hidden = layers.Dense(4 * WIDTH, activation="gelu")(x)
        x = layers.LayerNormalization()(x + layers.Dense(WIDTH)(hidden))
    pooled = layers.GlobalAveragePooling1D()(x)
    return Model(ids, layers.Dense(CLASSES, activation="softmax")(pooled))


def lstm() -> Any:
    """steps float32 [N,64,32] -> probabilities float32 [N,10]."""
    from keras import Input, Model, layers

    steps = Input((STEPS, CHANNELS))
    last = layers.LSTM(128)(layers.LSTM(128, return_sequences=True)(steps))
    return Model(steps, layers.Dense(CLASSES, activation="softmax")(last))


def conv1d() -> Any:
    """samples float32 [N,4000,1] -> probabilities float32 [N,10]."""
    from keras import Input, Model, layers

    samples = x = Input((SAMPLES, 1))
    for filters in (32, 64, 64, 128):
        x = layers.Conv1D(filters, 9, strides=2, padding="same", use_bias=False)(x)
        x = layers.Activation("relu")(layers.BatchNormalization()(x))
    pooled = layers.GlobalAveragePooling1D()(x)
    return Model(samples, layers.Dense(CLASSES, activation="softmax")(pooled))


def unet() -> Any:
    """images float32 [N,128,128,3] -> mask float32 [N,128,128,1]."""
    from keras import Input, Model, layers

    def block(x: Any, filters: int) -> Any:
        for _ in range(2):
            x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        return x

    images = x = Input((SIDE, SIDE, 3))
    skipped = []
    for filters in (16, 32, 64):
        skipped.append(block(x, filters))
        x = layers.MaxPooling2D()(skipped[-1])
    x = block(x, 128)
    for filters, skip in zip((64, 32, 16), reversed(skipped), strict=True):
        x = layers.Conv2DTranspose(filters, 2, strides=2)(x)
        x = block(layers.Concatenate()([skip, x]), filters)
    return Model(images, layers.Conv2D(1, 1, activation="sigmoid")(x))


def table() -> Any:
    """category string [N,1], columns float32 [N,12] -> score float32 [N,1]."""
    from keras import Input, Model, layers

    category, columns = Input((1,), dtype="string"), Input((COLUMNS,))
    number = layers.StringLookup(vocabulary=list(CATEGORIES))(category)
    embedded = layers.Flatten()(layers.Embedding(len(CATEGORIES) + 1, 16)(number))
    x = layers.Concatenate()([embedded, columns])
    for width in (128, 64):
        x = layers.Dense(width, activation="relu")(x)
    return Model([category, columns], layers.Dense(1, activation="sigmoid")(x))


_PICTURES = {"images": (PICTURE, "float32")}
_SMALL_PICTURES = {"images": ((None, SIDE, SIDE, 3), "float32")}
_ROWS = {"category": ((None, 1), "string"), "columns": ((None, COLUMNS), "float32")}

NETWORKS = {
    "resnet50": Network(resnet50, _PICTURES, "probabilities"),
    "efficientnet_b0": Network(efficientnet_b0, _PICTURES, "probabilities"),
    "transformer": Network(transformer, {"ids": ((None, IDS), "int32")}, "probabilities"),
    "lstm": Network(lstm, {"steps": ((None, STEPS, CHANNELS), "float32")}, "probabilities"),
    "conv1d": Network(conv1d, {"samples": ((None, SAMPLES, 1), "float32")}, "probabilities"),
    "unet": Network(unet, _SMALL_PICTURES, "mask"),
    "table": Network(table, _ROWS, "score"),
}

EXPORTS: dict[str, Callable[[Path], None]] = {name: network.export for name, network in NETWORKS.items()}
