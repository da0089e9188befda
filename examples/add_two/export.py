"""Writes a SavedModel without variables that adds 2 to every element of a vector.

    python examples/add_two/export.py build/models/add_two/1

Signature `serving_default`: `x` float32 [None, None], a batch of vectors of equal length -> `y`, of the same
shape. The first dimension is the batch, so both forms of a REST request look natural: `{"instances": [[1.0,
2.0, 5.0]]}` is one vector, and so is `{"inputs": [[1.0, 2.0, 5.0]]}`.
"""

import argparse

import tensorflow as tf


class AddTwo(tf.Module):
    """A pure function of its input."""

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32, name="x")])
    def serve(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        """x float32 [batch, length] -> y float32 [batch, length]."""
        return {"y": x + 2.0}


def main() -> None:
    """Writes the folder named on the command line."""
    parser = argparse.ArgumentParser(description="Export x + 2 as a SavedModel.")
    parser.add_argument("folder", help="version folder to write, for example build/models/add_two/1")
    folder = parser.parse_args().folder
    module = AddTwo()
    tf.saved_model.save(module, folder, signatures={"serving_default": module.serve})
    print(f"exported to {folder}")


if __name__ == "__main__":
    main()
