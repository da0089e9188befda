"""Writes MobileNetV2 as a SavedModel that takes a photo's bytes and returns its label.

    python examples/mobilenet_v2/export.py build/models/mobilenet_v2/1
    python examples/mobilenet_v2/export.py build/models/mobilenet_v2/1 --weights FILE

Without FILE, Keras downloads its own ImageNet weights. FILE is a Keras weights file (.weights.h5, .keras, or
the .h5 that Keras itself downloads) or an int8 .tflite file of the same network.

Signatures, both from `image_bytes`: string [None], encoded JPEG or PNG pictures of any size
- `serving_default` -> `label` string [None]
- `top5` -> `labels` string [None, 5], `scores` float32 [None, 5], `classes` int32 [None, 5]: the five most
  probable, best first

Exit status 3: the default weights could not be downloaded, or the download is not a weights file.
"""

import argparse
import os
import socket
import sys
from pathlib import Path

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import tensorflow as tf
from tflite_weights import load_tflite_weights

SIZE = 224  # side of the square pictures that the network was trained on
LABELS = Path(__file__).with_name("labels.txt")
DOWNLOAD_TIMEOUT_SECONDS = 20.0
NO_WEIGHTS = 3
PICTURE = tf.TensorSpec((SIZE, SIZE, 3), tf.float32)


def build(weights: Path | None) -> keras.Model:
    """Builds the network with the weights of a file, or with Keras' own if `weights` is None."""
    if weights is None:
        socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_SECONDS)  # Keras sets none and would wait forever
        return keras.applications.MobileNetV2(weights="imagenet")
    if weights.suffix == ".tflite":
        model = keras.applications.MobileNetV2(weights=None)
        load_tflite_weights(model, weights)
        return model
    return keras.applications.MobileNetV2(weights=str(weights))


def decode(picture: tf.Tensor) -> tf.Tensor:
    """Decodes one picture, string [] -> float32 [224, 224, 3] in [-1, 1]."""
    pixels = tf.io.decode_image(picture, channels=3, expand_animations=False)
    pixels.set_shape([None, None, 3])
    return tf.image.resize(pixels, (SIZE, SIZE)) / 127.5 - 1.0


def export(model: keras.Model, labels: list[str], folder: str) -> None:
    """Writes the SavedModel with both signatures.

    `keras.export.ExportArchive` stores the variables that the signatures read. `tf.saved_model.save` of a
    `tf.Module` around a Keras 3 model does not: such a model loads, and its first request fails.
    """

    def probabilities(image_bytes: tf.Tensor) -> tf.Tensor:
        with tf.device("/cpu:0"):
            pictures = tf.map_fn(decode, image_bytes, fn_output_signature=PICTURE)
        return model(pictures, training=False)

    def label(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        best = tf.argmax(probabilities(image_bytes), axis=-1)
        return {"label": tf.gather(tf.constant(labels), best)}

    def top5(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        scores, classes = tf.math.top_k(probabilities(image_bytes), k=5)
        return {"labels": tf.gather(tf.constant(labels), classes), "scores": scores, "classes": classes}

    signature = [tf.TensorSpec([None], tf.string, name="image_bytes")]
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serving_default", label, input_signature=signature)
    archive.add_endpoint("top5", top5, input_signature=signature)
    archive.write_out(folder, verbose=False)


def main() -> int:
    """Returns the exit status: 3 if Keras' weights are not available."""
    parser = argparse.ArgumentParser(description="Export MobileNetV2, from picture bytes to label.")
    parser.add_argument("folder", help="version folder to write, for example build/models/mobilenet_v2/1")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="Keras weights, or .tflite")
    args = parser.parse_args()
    if args.weights is not None and not args.weights.is_file():
        parser.error(f"--weights: no such file: {args.weights}")
    try:
        model = build(args.weights)
    except Exception as error:  # Keras raises a bare Exception if its download fails
        if args.weights is not None:
            raise
        print(
            f"Keras' MobileNetV2 weights could not be had: {error}\n"
            "Check the network, or give a weights file: --weights FILE",
            file=sys.stderr,
        )
        return NO_WEIGHTS
    export(model, LABELS.read_text(encoding="utf-8").splitlines(), args.folder)
    print(f"exported to {args.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
