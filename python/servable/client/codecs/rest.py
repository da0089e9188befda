"""The ``Codec`` for REST: calls as JSON; predict as numpy's files where the server says that it takes these.

In JSON, predict uses the columnar format, which preserves shapes. Bytes are sent as ``{"b64": …}``; text and
base64 in replies become bytes, and numbers become arrays of the dtype in the metadata.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote

import numpy as np

from servable.client.answers import Classification, Metadata, Signature, TensorSpec, VersionStatus
from servable.client.codecs import rest_arrays
from servable.client.codecs.codec import BoundRequest, Call, Choice, Prediction
from servable.client.codecs.numpy_files import NPY, NPZ
from servable.client.reply import accepted_by, media_of
from servable.client.values.arrays import Array, read_numbers
from servable.client.values.dtypes import bfloat16_as_float32, dtype_named
from servable.client.values.examples import Examples, json_body
from servable.client.values.tensors import as_bfloat16
from servable.errors import InternalError, UnimplementedError, invalid_argument

T = TypeVar("T")


@dataclass(frozen=True)
class RestCodec:
    """See ``Codec``. json: arrays are never sent in another form."""

    json: bool = False

    def predict(self, bound: BoundRequest) -> Call[Prediction]:
        """``POST …:predict``, with arrays as numpy stores them where that can be."""
        accepted = None if self.json else rest_arrays.accepted(bound)
        headers = {} if accepted is None else {"Accept": f"{accepted}, {rest_arrays.JSON};q=0.5"}
        if self.json or not rest_arrays.carries_inputs(bound):
            return self._predict_json(bound, headers)
        media, content = rest_arrays.body(bound)
        headers = {
            "Accept": rest_arrays.JSON,
            **headers,
            "Content-Type": media,
            "X-Signature-Name": bound.signature,
        }
        path = f"{_path(bound.choice)}:predict{rest_arrays.query(bound)}"
        return Call(path, content, lambda reply: _prediction(reply, bound), headers=headers)

    def _predict_json(self, bound: BoundRequest, headers: Mapping[str, str]) -> Call[Prediction]:
        """TensorFlow Serving returns all outputs; those not wanted are dropped."""
        signature = bound.metadata.signatures[bound.signature]
        for alias in bound.inputs:
            _check_carried(signature.inputs[alias].dtype, f"input {alias!r}")
        columns = {alias: _json_value(array) for alias, array in bound.inputs.items()}
        lone = len(signature.inputs) == 1 and len(columns) == 1
        body = {
            "signature_name": bound.signature,
            **({"outputs": bound.outputs} if rest_arrays.is_filtered(bound) else {}),
            # An input called b64 would be taken for base64.
            "inputs": next(iter(columns.values())) if lone else columns,
        }
        path = f"{_path(bound.choice)}:predict"
        return Call(path, _json(body), lambda reply: _prediction(reply, bound), headers=headers)

    def classify(
        self, choice: Choice, signature: str, examples: Examples
    ) -> Call[list[list[Classification]]]:
        """``POST …:classify``."""

        def read(reply: Any) -> list[list[Classification]]:
            return [
                [Classification(str(label), float(score)) for label, score in row] for row in reply["results"]
            ]

        return _post(choice, "classify", _with_signature(signature, examples), read)

    def regress(self, choice: Choice, signature: str, examples: Examples) -> Call[Array]:
        """``POST …:regress``."""
        body = _with_signature(signature, examples)
        return _post(choice, "regress", body, lambda reply: np.array(reply["results"], np.float32))

    def multi_inference(
        self, choice: Choice, tasks: Mapping[str, str], examples: Examples
    ) -> Call[dict[str, Any]]:
        """Not in the REST API."""
        raise UnimplementedError(
            "UNIMPLEMENTED", "the REST API has no multi-inference", "give the client a grpc:// address"
        )

    def status(self, choice: Choice) -> Call[list[VersionStatus]]:
        """``GET …``."""
        return Call(_path(choice), None, lambda content: _parsed(content, _statuses))

    def metadata(self, choice: Choice) -> Call[Metadata]:
        """``GET …/metadata``."""
        return Call(
            _path(choice) + "/metadata",
            None,
            lambda content: _parsed(content, lambda reply: _metadata(reply, accepted_by(content))),
        )

    def reload(self, config: bytes) -> Call[None]:
        """Not in the REST API."""
        raise UnimplementedError(
            "UNIMPLEMENTED",
            "the REST API cannot reload the configuration",
            "give the client a grpc:// address",
        )


def _path(choice: Choice) -> str:
    if not choice.model:
        raise invalid_argument("the model's name is empty")
    path = f"/v1/models/{quote(choice.model, safe='')}"
    if choice.version is not None:
        if choice.version < 0:
            raise invalid_argument(f"the REST API has no negative versions, got {choice.version}")
        return f"{path}/versions/{choice.version}"
    return path if choice.label is None else f"{path}/labels/{quote(choice.label, safe='')}"


def _post(choice: Choice, verb: str, body: Mapping[str, Any], read: Callable[[Any], T]) -> Call[T]:
    return Call(f"{_path(choice)}:{verb}", _json(body), lambda reply: _parsed(reply, read))


def _json(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def _prediction(content: bytes, bound: BoundRequest) -> Prediction:
    """Reads the reply of predict, whatever its form."""
    if media_of(content) in (NPY, NPZ):
        outputs = _checked(content, lambda content: rest_arrays.outputs(media_of(content), content, bound))
    else:
        outputs = _parsed(content, lambda reply: _json_outputs(reply["outputs"], bound))
    return Prediction({alias: outputs[alias] for alias in bound.outputs or tuple(sorted(outputs))})


def _json_outputs(value: Any, bound: BoundRequest) -> dict[str, Array]:
    specs = bound.metadata.signatures[bound.signature].outputs
    is_whole = isinstance(value, dict) and value.keys() == specs.keys()
    if rest_arrays.is_filtered(bound) and not is_whole:
        specs = rest_arrays.wanted_outputs(bound)
    outputs = _outputs(value, specs)
    return {alias: outputs[alias] for alias in bound.outputs or tuple(outputs)}


def _with_signature(signature: str, examples: Examples) -> dict[str, Any]:
    head = {"signature_name": signature} if signature else {}
    return {**head, **json_body(examples)}


def _parsed(content: bytes, read: Callable[[Any], T]) -> T:
    """Applies ``read`` to the JSON. Bytes that are not UTF-8 survive in strings as surrogates."""
    return _checked(content, lambda content: read(json.loads(content.decode("utf-8", "surrogateescape"))))


def _checked(content: bytes, read: Callable[[bytes], T]) -> T:
    """Applies ``read``, and says what is wrong with a reply that cannot be read."""
    try:
        return read(content)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        start = content[:80].decode("utf-8", "replace")
        raise InternalError(
            "INTERNAL",
            f"the reply is not what a model server answers ({type(error).__name__}: {error}): {start!r}",
            "is there a proxy or another server at this address?",
        ) from None


def _check_carried(dtype: str, what: str) -> None:
    if not dtype_named(dtype).rest:
        raise UnimplementedError(
            "UNIMPLEMENTED",
            f"the REST API cannot carry {what} of dtype {dtype}",
            "give the client a grpc:// address",
        )


def _json_value(array: Array) -> Any:
    if array.dtype != object:
        return array.tolist()
    encoded = np.empty(array.shape, dtype=object)
    flat = encoded.reshape(-1)
    for index, value in enumerate(array.reshape(-1).tolist()):
        flat[index] = {"b64": base64.b64encode(value).decode()}
    return encoded.tolist()


def _outputs(value: Any, specs: Mapping[str, TensorSpec]) -> dict[str, Array]:
    """Returns the outputs by alias; a single output comes without its alias."""
    named = {next(iter(specs)): value} if len(specs) == 1 else value
    return {alias: _array(content, specs[alias]) for alias, content in sorted(named.items())}


def _array(value: Any, spec: TensorSpec) -> Array:
    if spec.dtype == "string":
        array = _strings(value)
    else:
        _check_carried(spec.dtype, "an output")
        array = _numbers(value, dtype_named(spec.dtype).type)
        if spec.dtype == "bfloat16" and bfloat16_as_float32():
            array = as_bfloat16(array)
    return _with_declared_rank(array, spec.shape)


def _numbers(value: Any, wanted: np.dtype[Any]) -> Array:
    """Raises ``ValueError`` for numbers of another dtype, as after a change of version."""
    array = read_numbers(value, wanted)
    accepted = {"b": "b", "i": "iuO", "u": "iuO"}.get(wanted.kind, "iuf")
    if array.size and array.dtype.kind not in accepted:
        raise ValueError(f"{array.dtype} values where the metadata says {wanted}")
    with np.errstate(over="ignore"):
        converted = array.astype(wanted)
    if wanted.kind in "iu" and not np.array_equal(converted, array):
        raise ValueError(f"numbers outside of {wanted}")
    return converted


def _with_declared_rank(array: Array, declared: tuple[int, ...] | None) -> Array:
    """Adds the declared lengths below an empty list: JSON cannot distinguish shape [0, 3] from [0]."""
    if array.size or declared is None or array.ndim >= len(declared):
        return array
    return array.reshape((*array.shape, *(max(0, length) for length in declared[array.ndim :])))


def _strings(value: Any) -> Array:
    nested = np.array(value, dtype=object)
    array = np.empty(nested.shape, dtype=object)
    flat = array.reshape(-1)
    for index, one in enumerate(nested.reshape(-1).tolist()):
        flat[index] = _bytes(one)
    return array


def _bytes(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    try:
        return base64.b64decode(value["b64"], validate=True)
    except binascii.Error as error:
        raise ValueError(f"base64: {error}") from None


def _statuses(reply: Any) -> list[VersionStatus]:
    return [
        VersionStatus(
            int(one["version"]),
            one["state"],
            one["status"]["error_code"],
            one["status"]["error_message"],
        )
        for one in reply["model_version_status"]
    ]


def _metadata(reply: Any, accepts: frozenset[str]) -> Metadata:
    spec = reply["model_spec"]
    definitions = reply["metadata"]["signature_def"]["signature_def"]
    signatures = {
        name: Signature(_specs(one["inputs"]), _specs(one["outputs"]), one["method_name"])
        for name, one in sorted(definitions.items())
    }
    return Metadata(spec["name"], int(spec["version"]), signatures, accepts)


def _specs(infos: Mapping[str, Any]) -> dict[str, TensorSpec]:
    return {alias: _spec(info) for alias, info in sorted(infos.items())}


def _spec(info: Mapping[str, Any]) -> TensorSpec:
    dtype = info["dtype"].removeprefix("DT_").removesuffix("_REF").lower()
    shape = info.get("tensor_shape", {"unknown_rank": False, "dim": []})
    if shape["unknown_rank"]:
        return TensorSpec(dtype, None)
    return TensorSpec(dtype, tuple(int(dim["size"]) for dim in shape["dim"]))
