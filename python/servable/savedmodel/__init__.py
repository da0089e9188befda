"""Reading and judging a model's files, without TensorFlow."""
