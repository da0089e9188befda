"""Reads and checks a model's files, without TensorFlow."""
