"""Asks a model of this process without a socket: values to arrays, arrays to the core, and back.

Needs numpy, as the client does, whose conversions these are. Arrays are lent to the engine, and its outputs
to numpy; only small ones are copied.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from servable._core import CoreError
from servable.client.answers import Metadata, Signature, TensorSpec
from servable.client.binding import Given, bind
from servable.client.codecs.codec import Choice
from servable.client.values.arrays import Array
from servable.client.values.dtypes import BY_NAME, dtype_named
from servable.client.values.tensors import of_stored, of_strings, plain_dtype, stored
from servable.errors import StatusError, invalid_argument, status_error

if TYPE_CHECKING:
    from servable import _core

SMALL_BYTES = 16 << 10
"""Largest array that is copied: that is cheaper than to lend it."""
MOST_WAYS = 256

Awaken = Callable[[str, "int | None", "str | None", "float | None"], None]
"""Has a version loaded that is loaded on demand: model, version, label, seconds. Raises ``StatusError``."""

Answer = Any
"""A dict of arrays by output for a mapping of inputs, one array for a value without a name."""


@dataclass(frozen=True)
class _Way:
    """What a question comes to for arrays that need no conversion: most of the time of a tiny model is that.

    inputs: number and numpy type by alias. outputs: those wanted; none for all.
    """

    version: int
    inputs: Mapping[str, tuple[int, np.dtype[Any]]]
    outputs: tuple[str, ...]


class Asking:
    """Asks one core; knows the signatures of the versions that were asked. Thread-safe.

    awaken: where models are loaded on demand.
    """

    def __init__(self, core: _core.Server, awaken: Awaken | None = None) -> None:
        self._core = core
        self._awaken = awaken
        self._known: dict[tuple[str, int], Metadata] = {}
        self._ways: dict[tuple[object, ...], _Way] = {}

    def predict(
        self,
        inputs: object,
        model: str,
        signature: str,
        version: int | str | None,
        outputs: str | Sequence[str] | None,
        timeout: float | None,
    ) -> Answer:
        """Returns the answer; see ``Server.predict``. Raises ``StatusError``."""
        if not isinstance(model, str):
            raise invalid_argument(
                f"the model's name is no text, but of type {type(model).__name__}",
                "inputs come first, then the model: predict(inputs, model)",
            )
        if outputs is not None and not isinstance(outputs, (str, tuple)):
            outputs = tuple(outputs)
        number = None if isinstance(version, str) else version
        label = version if isinstance(version, str) else None
        asked = model, number, label, signature
        is_bare = not isinstance(inputs, Mapping)
        key = (*asked, is_bare, outputs)
        try:
            if self._awaken is not None:
                timeout = self._awake(model, number, label, timeout)
            way = self._ways.get(key)
            if way is not None and self._core.find(model, number, label) == way.version:
                sent = _at_once(inputs, way.inputs)
                if sent is not None:
                    try:
                        return self._ask(asked, sent, way.outputs, is_bare, timeout)
                    except CoreError:
                        if not self._has_changed((model, way.version)):
                            raise
            given = Given(Choice(model, number, label), inputs, signature, outputs)
            return self._converted(given, key, timeout)
        except CoreError as error:
            raise status_error(error.code, error.message) from None

    def _awake(
        self, model: str, version: int | None, label: str | None, timeout: float | None
    ) -> float | None:
        """Waits until a version is loaded, with its signatures; returns what is left of ``timeout``."""
        assert self._awaken is not None
        until = None if timeout is None else time.monotonic() + timeout
        try:
            self._core.find(model, version, label)
        except CoreError:
            try:
                self._awaken(model, version, label, timeout)
            except StatusError as error:
                raise status_error(error.code, error.message, error.hint) from None
        return None if until is None else max(0.0, until - time.monotonic())

    def _has_changed(self, place: tuple[str, int]) -> bool:
        """Returns whether a version's signatures are not those that were known; they are from now on."""
        known = self._known.get(place)
        return self._read(place) != known

    def _converted(self, given: Given, key: tuple[object, ...], timeout: float | None) -> Answer:
        """Asks with values that are converted first.

        If known signatures lead to an error that others would explain, they are read again: the files of a
        version may have been replaced.
        """
        choice = given.choice
        place = choice.model, self._core.find(choice.model, choice.version, choice.label)
        known = self._known.get(place)
        try:
            return self._bound(given, known or self._read(place), key, timeout)
        except (CoreError, StatusError):
            fresh = self._read(place)
            if known in (None, fresh):
                raise
        return self._bound(given, fresh, key, timeout)

    def _bound(
        self, given: Given, metadata: Metadata, key: tuple[object, ...], timeout: float | None
    ) -> Answer:
        bound, choice = bind(given, metadata), given.choice
        inputs = metadata.signatures[bound.signature].inputs
        sent = [_sent(alias, array, inputs[alias].dtype) for alias, array in bound.inputs.items()]
        asked = choice.model, choice.version, choice.label, bound.signature
        answer = self._ask(asked, sent, bound.outputs, given.bare, timeout)
        if len(self._ways) >= MOST_WAYS:
            self._ways.clear()
        self._ways[key] = _Way(metadata.version, _plain(inputs), bound.outputs)
        return answer

    def _ask(
        self,
        asked: _core.Question,
        sent: Sequence[_core.Input],
        wanted: tuple[str, ...],
        is_bare: bool,
        timeout: float | None,
    ) -> Answer:
        _, outputs = self._core.predict(asked, sent, wanted, timeout)
        if is_bare:
            _, number, shape, values = outputs[0]
            return _received(number, shape, values)
        return {alias: _received(number, shape, values) for alias, number, shape, values in outputs}

    def _read(self, place: tuple[str, int]) -> Metadata:
        model, version = place
        read = {
            name: Signature(_specs(inputs), _specs(outputs))
            for name, _method, inputs, outputs in self._core.signatures(model, version)
        }
        metadata = self._known[place] = Metadata(model, version, read)
        return metadata


def _plain(inputs: Mapping[str, TensorSpec]) -> dict[str, tuple[int, np.dtype[Any]]]:
    """Returns number and numpy type of the inputs whose arrays need no conversion."""
    found = {}
    for alias, spec in inputs.items():
        number = BY_NAME[spec.dtype].number if spec.dtype in BY_NAME else 0
        dtype = plain_dtype(number) if number else None
        if dtype is not None:
            found[alias] = number, dtype
    return found


def _at_once(inputs: Any, plain: Mapping[str, tuple[int, np.dtype[Any]]]) -> list[_core.Input] | None:
    """Returns what is sent of arrays that are as they have to be; None if one is not."""
    if not isinstance(inputs, Mapping):
        if len(plain) != 1:
            return None
        inputs = {next(iter(plain)): inputs}
    sent: list[_core.Input] = []
    for alias, array in inputs.items():
        known = plain.get(alias)
        if known is None or type(array) is not np.ndarray or array.dtype is not known[1] or not array.ndim:
            return None
        if array.nbytes > SMALL_BYTES and not array.flags.c_contiguous:
            return None
        sent.append((alias, known[0], array.shape, _values(array)))
    return sent


def _specs(told: list[_core.Argument]) -> dict[str, TensorSpec]:
    return {
        alias: TensorSpec(dtype.removeprefix("DT_").lower(), None if shape is None else tuple(shape))
        for alias, dtype, shape in told
    }


def _sent(alias: str, array: Array, dtype: str) -> _core.Input:
    number = dtype_named(dtype).number
    if dtype == "string":
        return alias, number, array.shape, array.reshape(-1).tolist()
    return alias, number, array.shape, _values(stored(array, dtype))


def _values(numbers: Array) -> bytes | tuple[int, int, object]:
    if numbers.nbytes <= SMALL_BYTES:
        return numbers.tobytes()
    address: int = numbers.__array_interface__["data"][0]
    return address, numbers.nbytes, numbers


def _received(number: int, shape: list[int], values: bytes | list[bytes] | _core.Numbers) -> Array:
    if isinstance(values, list):
        return of_strings(values, tuple(shape))
    return of_stored(values, number, tuple(shape))
