//! Tensors and statuses → JSON, in TensorFlow Serving's exact form.
