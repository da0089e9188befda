"""Asks a model of this process without a socket: values to arrays, arrays to the core, and back.

Needs numpy, as the client does, whose conversions these are. Arrays are lent to the engine, and its outputs
to numpy; only small ones are copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from servable._core import CoreError
from servable.client.answers import Metadata, Signature, TensorSpec
from servable.client.binding import Given, bind
from servable.client.codecs.codec import Choice
from servable.client.values.arrays import Array
from servable.client.values.dtypes import dtype_named
from servable.client.values.tensors import of_stored, of_strings, stored
from servable.errors import StatusError, status_error

if TYPE_CHECKING:
    from servable import _core

SMALL_BYTES = 16 << 10
"""Largest array that is copied: that is cheaper than to lend it."""

Answer = Any
"""A dict of arrays by output for a mapping of inputs, one array for a value without a name."""


class Asking:
    """Asks one core; knows the signatures of the versions that were asked."""

    def __init__(self, core: _core.Server) -> None:
        self._core = core
        self._known: dict[tuple[str, int], Metadata] = {}

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
        label = version if isinstance(version, str) else None
        choice = Choice(model, None if isinstance(version, str) else version, label)
        given = Given(choice, inputs, signature, outputs)
        try:
            return self._predict(given, timeout)
        except CoreError as error:
            raise status_error(error.code, error.message) from None

    def _predict(self, given: Given, timeout: float | None) -> Answer:
        """Asks. If known signatures lead to an error that others would explain, they are read again.

        The files of a version may have been replaced.
        """
        choice = given.choice
        key = choice.model, self._core.find(choice.model, choice.version, choice.label)
        known = self._known.get(key)
        try:
            return self._ask(given, known or self._read(key), timeout)
        except (CoreError, StatusError):
            fresh = self._read(key)
            if known in (None, fresh):
                raise
        return self._ask(given, fresh, timeout)

    def _ask(self, given: Given, metadata: Metadata, timeout: float | None) -> Answer:
        bound = bind(given, metadata)
        inputs = metadata.signatures[bound.signature].inputs
        sent = [_sent(alias, array, inputs[alias].dtype) for alias, array in bound.inputs.items()]
        choice = given.choice
        asked = choice.model, choice.version, choice.label, bound.signature
        _, outputs = self._core.predict(asked, sent, bound.outputs, timeout)
        answer = {alias: _received(number, shape, values) for alias, number, shape, values in outputs}
        return answer[bound.outputs[0]] if given.bare else answer

    def _read(self, key: tuple[str, int]) -> Metadata:
        model, version = key
        read = {
            name: Signature(_specs(inputs), _specs(outputs))
            for name, _method, inputs, outputs in self._core.signatures(model, version)
        }
        metadata = self._known[key] = Metadata(model, version, read)
        return metadata


def _specs(told: list[_core.Argument]) -> dict[str, TensorSpec]:
    return {
        alias: TensorSpec(dtype.removeprefix("DT_").lower(), None if shape is None else tuple(shape))
        for alias, dtype, shape in told
    }


def _sent(alias: str, array: Array, dtype: str) -> _core.Input:
    number = dtype_named(dtype).number
    if dtype == "string":
        return alias, number, array.shape, array.reshape(-1).tolist()
    numbers = stored(array, dtype)
    if numbers.nbytes <= SMALL_BYTES:
        return alias, number, array.shape, numbers.tobytes()
    address: int = numbers.__array_interface__["data"][0]
    return alias, number, array.shape, (address, numbers.nbytes, numbers)


def _received(number: int, shape: list[int], values: bytes | list[bytes] | _core.Numbers) -> Array:
    if isinstance(values, list):
        return of_strings(values, tuple(shape))
    return of_stored(values, number, tuple(shape))
