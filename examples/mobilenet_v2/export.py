"""Writes MobileNetV2 as a SavedModel that takes a photo's bytes and returns its label.

    python examples/mobilenet_v2/export.py build/models/mobilenet_v2/1
    python examples/mobilenet_v2/export.py build/models/mobilenet_v2/1 --weights FILE
    python examples/mobilenet_v2/export.py build/models/mobilenet_v2/1 --keras_weights

Without an option, the weights are those in weights/, and no network is needed. FILE is an int8 .tflite file
of the same network, or a Keras weights file (.weights.h5, .keras, or the .h5 that Keras itself downloads).
`--keras_weights` lets Keras download its own ImageNet weights, 14 MB.

Signatures, both from `image_bytes`: string [None], encoded JPEG or PNG pictures of any size
- `serving_default` -> `label` string [None]
- `top5` -> `labels` string [None, 5], `scores` float32 [None, 5], `classes` int32 [None, 5]: the five most
  probable, best first

The same weights and TensorFlow make the same files, but for fingerprint.pb.
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
FOLDER = Path(__file__).parent
LABELS = FOLDER / "labels.txt"
WEIGHTS = FOLDER / "weights" / "tf2_mobilenet_v2_1.0_224_ptq.tflite"
DOWNLOAD_TIMEOUT_SECONDS = 20.0
PICTURE = tf.TensorSpec((SIZE, SIZE, 3), tf.float32)
PHOTOS = tf.TensorSpec([None], tf.string, name="image_bytes")


def build_with_keras_weights() -> keras.Model:
    """Builds the network with the weights that Keras downloads, and keeps in ~/.keras."""
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_SECONDS)  # Keras sets none and would wait forever
    try:
        return keras.applications.MobileNetV2(weights="imagenet")
    except Exception as error:  # Keras raises a bare Exception if its download fails
        sys.exit(f"Keras' MobileNetV2 weights could not be had: {error}")


def build(weights: Path) -> keras.Model:
    """Builds the network with the weights of a file."""
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


class Serving(tf.Module):
    """The network between a photo's bytes and its label."""

    def __init__(self, model: keras.Model, labels: list[str]) -> None:
        super().__init__()
        # tf.saved_model.save stores what attributes hold: here the variables that the signatures read, each
        # once. In a Keras 3 model it would find others, which no signature reads.
        self.weights = [weight.value for weight in model.weights]
        self.network = lambda pictures: model(pictures, training=False)
        self.labels = tf.constant(labels)

    def classify(self, image_bytes: tf.Tensor) -> tf.Tensor:
        """Photos string [None] -> probabilities float32 [None, 1000]."""
        with tf.device("/cpu:0"):
            pictures = tf.map_fn(decode, image_bytes, fn_output_signature=PICTURE)
        return self.network(pictures)

    @tf.function(input_signature=[PHOTOS])
    def label(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        """The most probable class."""
        best = tf.argmax(self.classify(image_bytes), axis=-1)
        return {"label": tf.gather(self.labels, best)}

    @tf.function(input_signature=[PHOTOS])
    def top5(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        """The five most probable classes, best first."""
        scores, classes = tf.math.top_k(self.classify(image_bytes), k=5)
        return {"labels": tf.gather(self.labels, classes), "scores": scores, "classes": classes}


def main() -> None:
    """Writes the folder named on the command line."""
    parser = argparse.ArgumentParser(description="Export MobileNetV2, from picture bytes to label.")
    parser.add_argument("folder", help="version folder to write, for example build/models/mobilenet_v2/1")
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--weights", type=Path, metavar="FILE", default=WEIGHTS, help=".tflite, or Keras weights"
    )
    source.add_argument("--keras_weights", action="store_true", help="download Keras' own, 14 MB")
    args = parser.parse_args()
    if not args.weights.is_file():
        parser.error(f"--weights: no such file: {args.weights}")
    model = build_with_keras_weights() if args.keras_weights else build(args.weights)
    serving = Serving(model, LABELS.read_text(encoding="utf-8").splitlines())
    signatures = {"serving_default": serving.label, "top5": serving.top5}
    tf.saved_model.save(serving, args.folder, signatures=signatures)
    print(f"exported to {args.folder}")


if __name__ == "__main__":
    main()
