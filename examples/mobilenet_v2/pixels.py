"""Prints a photo as a REST request to the int8 model in weights/, which takes pixels instead of a JPEG file.

    python examples/mobilenet_v2/pixels.py PHOTO

The request has one instance, uint8 [224, 224, 3]. The answer has a score of 0 to 255 for each of 1001
classes: "background", then the lines of labels.txt.
"""

import argparse
import json
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf

SIZE = 224  # side of the square pictures that the network was trained on


def pixels(photo: bytes) -> tf.Tensor:
    """Decodes a JPEG or PNG photo and resizes it, string -> uint8 [224, 224, 3]."""
    decoded = tf.io.decode_image(photo, channels=3, expand_animations=False)
    resized = tf.image.resize(decoded, (SIZE, SIZE))
    return tf.cast(tf.round(resized), tf.uint8)


def main() -> None:
    """Prints the request for the photo named on the command line."""
    parser = argparse.ArgumentParser(description="Print a photo as a REST request with pixels.")
    parser.add_argument("photo", type=Path, help="a JPEG or PNG file")
    photo = parser.parse_args().photo.read_bytes()
    print(json.dumps({"instances": [pixels(photo).numpy().tolist()]}, separators=(",", ":")))


if __name__ == "__main__":
    main()
