"""Puts the weights of an int8 MobileNetV2 .tflite file into the Keras model of the same network.

Such a file no longer has batch normalisation: it is folded into each convolution's int8 kernel (one scale per
output channel) and int32 bias. Both are converted back into floats. The Keras model has a normalisation layer
after every convolution instead of a bias, so the bias becomes that layer's beta, and its other weights are
chosen so that it changes nothing else.

The file's last layer may have 1001 classes, of which the first is "background"; it is left out.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

Floats = npt.NDArray[np.float32]


def load_tflite_weights(model: keras.Model, path: Path) -> None:
    """Sets every weight of `model`, a `keras.applications.MobileNetV2` with its classifier.

    Raises ValueError if the file holds another network (shapes or number of layers differ).
    """
    convolutions = read_convolutions(path)
    bias: Floats = np.zeros(0, np.float32)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            one = np.ones_like(bias)
            layer.set_weights([one, bias, 0 * one, one - np.float32(layer.epsilon)])
        elif isinstance(layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)):
            kernel, bias = next_convolution(convolutions, layer.name)
            layer.set_weights([kernel.transpose(1, 2, 3, 0)])  # outputs come first in the file
        elif isinstance(layer, keras.layers.Dense):
            kernel, bias = next_convolution(convolutions, layer.name)  # a 1x1 convolution in the file
            layer.set_weights([kernel[-layer.units :, 0, 0, :].T, bias[-layer.units :]])
    if next(convolutions, None) is not None:
        raise ValueError(f"{path} has more layers than MobileNetV2")


def next_convolution(convolutions: Iterator[tuple[Floats, Floats]], name: str) -> tuple[Floats, Floats]:
    """Returns the next (kernel, bias); ValueError names the Keras layer that is left without one."""
    found = next(convolutions, None)
    if found is None:
        raise ValueError(f"the .tflite file ends before layer {name} of MobileNetV2")
    return found


def read_convolutions(path: Path) -> Iterator[tuple[Floats, Floats]]:
    """Returns every convolution's kernel and bias as float32, in the order of the graph."""
    interpreter = open_interpreter(path)
    tensors = {details["index"]: details for details in interpreter.get_tensor_details()}
    for operation in interpreter._get_ops_details():  # the only way to get a file's operations in order
        if operation["op_name"] in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            _, kernel, bias = operation["inputs"]
            yield dequantised(interpreter, tensors[kernel]), dequantised(interpreter, tensors[bias])


def open_interpreter(path: Path) -> Any:
    """Opens TensorFlow Lite's interpreter, from its own package or, while TensorFlow has one, from there."""
    try:
        from ai_edge_litert import interpreter as litert

        open_file, resolvers = litert.Interpreter, litert.OpResolverType
    except ImportError:
        open_file, resolvers = tf.lite.Interpreter, tf.lite.experimental.OpResolverType
    without_delegates = resolvers.BUILTIN_WITHOUT_DEFAULT_DELEGATES  # a delegate hides the kernels
    interpreter = open_file(str(path), experimental_op_resolver_type=without_delegates)
    interpreter.allocate_tensors()
    return interpreter


def dequantised(interpreter: Any, details: dict[str, Any]) -> Floats:
    """Returns (integer - zero point) * scale, with a scale for the whole tensor or one per channel."""
    values = interpreter.get_tensor(details["index"]).astype(np.float64)
    quantization = details["quantization_parameters"]
    shape = [1] * values.ndim
    if len(quantization["scales"]) > 1:
        shape[quantization["quantized_dimension"]] = -1
    scales = quantization["scales"].astype(np.float64).reshape(shape)
    zeros = quantization["zero_points"].reshape(shape)
    return np.asarray((values - zeros) * scales, np.float32)
