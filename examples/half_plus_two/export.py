"""Writes the smallest useful SavedModel: y = 0.5 * x + 2.

    python examples/half_plus_two/export.py build/models/half_plus_two/1

Signature `serving_default`: `x` float32 [None] -> `y` float32 [None], element by element. The last folder of
the path is the version number; pass its parent to `servable serve`.
"""

import argparse

import tensorflow as tf


class HalfPlusTwo(tf.Module):
    """Two variables, as in a trained model, so that serving it also restores variables."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = tf.Variable(0.5, name="slope")
        self.offset = tf.Variable(2.0, name="offset")

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def serve(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        """x float32 [None] -> y float32 [None]."""
        return {"y": self.slope * x + self.offset}


def main() -> None:
    """Writes the folder named on the command line."""
    parser = argparse.ArgumentParser(description="Export y = 0.5 * x + 2 as a SavedModel.")
    parser.add_argument("folder", help="version folder to write, for example build/models/half_plus_two/1")
    folder = parser.parse_args().folder
    module = HalfPlusTwo()
    tf.saved_model.save(module, folder, signatures={"serving_default": module.serve})
    print(f"exported to {folder}")


if __name__ == "__main__":
    main()
