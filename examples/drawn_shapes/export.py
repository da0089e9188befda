"""Trains a small Keras classifier on pictures it draws itself, and writes it as a SavedModel.

    python examples/drawn_shapes/export.py build/models/drawn_shapes/1 --samples build/samples

For machines that cannot download a picture model's weights: it needs no network and less than a minute. The
signatures are those of examples/mobilenet_v2, from `image_bytes`: string [None], encoded JPEG or PNG
- `serving_default` -> `label` string [None]: circle, cross, ring, square, star or triangle
- `top5` -> `labels` string [None, 5], `scores` float32 [None, 5], `classes` int32 [None, 5]: the five most
  probable, best first

The last line reports the accuracy of the exported function on fresh drawings, encoded as JPEG and larger than
the training pictures. Below 98 % nothing is kept and the exit status is 1.
"""

import argparse
import os
import shutil
import sys
from pathlib import Path

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from drawing import SHAPES, draw, draw_many

SIZE = 48  # side of the square pictures that the network sees, in pixels
PHOTO_SIZE = 240  # side of the pictures that the model is asked about
TRAINED_ON, ASKED = 8000, 300
EPOCHS, BATCH = 6, 64
LEAST_RIGHT = 0.98
SEED = 7
PICTURE = tf.TensorSpec((SIZE, SIZE, 3), tf.float32)


def build() -> keras.Model:
    """Pictures float32 [None, 48, 48, 3] in [0, 255] -> probabilities [None, 6]."""
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Input((SIZE, SIZE, 3)),
            layers.Rescaling(1 / 127.5, -1),
            *convolution(16, kernel=5, stride=2),
            *convolution(32),
            layers.MaxPooling2D(),
            *convolution(64),
            layers.MaxPooling2D(),
            *convolution(96),
            layers.GlobalMaxPooling2D(),  # a corner is a corner wherever it is
            layers.Dense(len(SHAPES), activation="softmax"),
        ]
    )


def convolution(filters: int, kernel: int = 3, stride: int = 1) -> list[keras.Layer]:
    """A convolution, normalised and rectified."""
    layers = keras.layers
    return [
        layers.Conv2D(filters, kernel, stride, padding="same", use_bias=False),
        layers.BatchNormalization(momentum=0.9),  # the default, 0.99, needs more steps than there are
        layers.ReLU(),
    ]


def train(model: keras.Model, random: np.random.Generator) -> None:
    """Fits the model to drawings, with a learning rate that falls to zero."""
    print(f"drawing {TRAINED_ON} pictures of {', '.join(SHAPES)}", flush=True)
    pictures, classes = draw_many(TRAINED_ON, SIZE, random)
    rate = keras.optimizers.schedules.CosineDecay(3e-3, EPOCHS * TRAINED_ON // BATCH)
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(pictures.astype(np.float32), classes, batch_size=BATCH, epochs=EPOCHS, verbose=2)


def decode(picture: tf.Tensor) -> tf.Tensor:
    """Decodes one picture, string [] -> float32 [48, 48, 3] in [0, 255]."""
    pixels = tf.io.decode_image(picture, channels=3, expand_animations=False)
    pixels.set_shape([None, None, 3])
    return tf.image.resize(pixels, (SIZE, SIZE), antialias=True)


def export(model: keras.Model, folder: str) -> None:
    """Writes the SavedModel with both signatures."""

    def probabilities(image_bytes: tf.Tensor) -> tf.Tensor:
        with tf.device("/cpu:0"):
            pictures = tf.map_fn(decode, image_bytes, fn_output_signature=PICTURE)
        return model(pictures, training=False)

    def label(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        best = tf.argmax(probabilities(image_bytes), axis=-1)
        return {"label": tf.gather(tf.constant(list(SHAPES)), best)}

    def top5(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        scores, classes = tf.math.top_k(probabilities(image_bytes), k=5)
        return {"labels": tf.gather(tf.constant(list(SHAPES)), classes), "scores": scores, "classes": classes}

    signature = [tf.TensorSpec([None], tf.string, name="image_bytes")]
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serving_default", label, input_signature=signature)
    archive.add_endpoint("top5", top5, input_signature=signature)
    archive.write_out(folder, verbose=False)


def share_right(folder: str, random: np.random.Generator) -> float:
    """Returns the share of fresh drawings that the SavedModel in `folder` labels right, from JPEG bytes."""
    pictures, classes = draw_many(ASKED, PHOTO_SIZE, random)
    encoded = tf.stack([tf.io.encode_jpeg(picture) for picture in pictures])
    labels = tf.saved_model.load(folder).signatures["serving_default"](image_bytes=encoded)["label"]
    expected = np.array(list(SHAPES))[classes]
    return float(np.mean([label.decode() for label in labels.numpy()] == expected))


def write_samples(folder: Path, random: np.random.Generator) -> None:
    """Writes one JPEG picture per shape, named after it: circle.jpg and so on."""
    folder.mkdir(parents=True, exist_ok=True)
    for shape in SHAPES:
        encoded = tf.io.encode_jpeg(draw(shape, PHOTO_SIZE, random), quality=90)
        (folder / f"{shape}.jpg").write_bytes(encoded.numpy())


def main() -> int:
    """Returns the exit status: 1 if the classifier is not accurate enough."""
    parser = argparse.ArgumentParser(description="Train a classifier of drawn shapes and export it.")
    parser.add_argument("folder", help="version folder to write, for example build/models/drawn_shapes/1")
    parser.add_argument(
        "--samples", type=Path, metavar="FOLDER", help="also write a JPEG picture of each shape here"
    )
    args = parser.parse_args()
    keras.utils.set_random_seed(SEED)
    random = np.random.default_rng(SEED)
    model = build()
    train(model, random)
    export(model, args.folder)
    right = share_right(args.folder, random)
    if right < LEAST_RIGHT:
        shutil.rmtree(args.folder)
        print(f"only {right:.1%} of {ASKED} fresh drawings labelled right: not kept", file=sys.stderr)
        return 1
    if args.samples is not None:
        write_samples(args.samples, random)
    print(f"exported to {args.folder}\n{right:.1%} of {ASKED} fresh drawings labelled right")
    return 0


if __name__ == "__main__":
    sys.exit(main())
