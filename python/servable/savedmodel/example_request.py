"""A curl line that works for a model, made from its signature.

The body is row format (``instances``) when every input has an open first dimension, else columnar
(``inputs``). Values are examples, not meaningful data: ones, ``true``, text, and a one-pixel PNG where an
input's name says bytes of a picture are wanted. A body that would be too long to print is made on the spot by
a short Python expression.
"""

from __future__ import annotations

import json
from typing import NamedTuple
from urllib.parse import quote

from servable.savedmodel.signature import Signature

LONGEST_BODY = 400
"""Characters of JSON that are printed as they are."""

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
"""A red picture of one pixel, base64: what ``tf.io.decode_image`` takes in any mode."""

# What JSON can be converted to (spec of the REST API); the other dtypes have no conversion.
_INTEGERS = {"int8", "int16", "int32", "int64", "uint8", "uint32", "uint64"}
_FLOATS = {"float", "double"}
_BIGGEST = 4_000_000


def curl_line(model: str, signatures: list[Signature], rest_at: str) -> str:
    """A command to paste into a shell, for the REST API at ``rest_at`` (``host:port``).

    "" when no signature takes made-up values over REST.
    """
    signature = _pick(signatures)
    if signature is None:
        return ""
    body = _body(signature)
    if body is None:
        return ""
    url = f"http://{rest_at}/v1/models/{quote(model, safe='')}:predict"
    text = body.json()
    if len(text) <= LONGEST_BODY:
        return f"curl -d {_quoted(text)} {url}"
    return f"python3 -c {_quoted(f'import json; print(json.dumps({body.python()}))')} | curl -d @- {url}"


def example_body(signature: Signature) -> dict[str, object] | None:
    """The request body of ``curl_line`` for one signature, None where REST cannot feed it."""
    if not signature.inputs or not all(map(_able, signature.inputs)):
        return None
    body = _body(signature)
    if body is None:
        return None
    fields: dict[str, object] = json.loads(body.json())
    return fields


def _pick(signatures: list[Signature]) -> Signature | None:
    """``serving_default`` where there is one, else the first by name; only signatures REST can feed."""
    able = [
        one
        for one in signatures
        if one.inputs and not one.name.startswith("__") and all(map(_able, one.inputs))
    ]
    return next((one for one in able if one.name == "serving_default"), able[0] if able else None)


def _able(argument: tuple[str, str, str]) -> bool:
    _, dtype, shape = argument
    return dtype in _INTEGERS | _FLOATS | {"string", "bool"} and _count(_dims(shape)) <= _BIGGEST


class Nested(NamedTuple):
    """``value`` repeated into the shape ``dims``."""

    value: object
    dims: tuple[int, ...]

    def expand(self) -> object:
        """The nested lists themselves."""
        result = self.value
        for dim in reversed(self.dims):
            result = [result] * dim
        return result

    def python(self) -> str:
        """A Python expression for them, as short as they are long."""
        text = repr(self.value) if isinstance(self.value, bool | int | float) else json.dumps(self.value)
        for dim in reversed(self.dims):
            text = f"[{text}]*{dim}"
        return text


class _Row(NamedTuple):
    """A request body: ``key`` (instances or inputs) over values by alias.

    A lone input stands without its alias.
    """

    key: str
    values: dict[str, Nested]
    rows: int
    signature: str

    def json(self) -> str:
        content = self._content({alias: value.expand() for alias, value in self.values.items()})
        head = {"signature_name": self.signature} if self.signature else {}
        return json.dumps({**head, self.key: content}, ensure_ascii=False)

    def _content(self, expanded: dict[str, object]) -> object:
        one = next(iter(expanded.values())) if len(expanded) == 1 else expanded
        if self.key == "inputs":
            return one
        if len(expanded) == 1 and isinstance(one, float):
            return [1.0, 2.0, 5.0]
        return [one] * self.rows

    def python(self) -> str:
        each = {alias: value.python() for alias, value in self.values.items()}
        one = next(iter(each.values())) if len(each) == 1 else _dict_expression(each)
        content = one if self.key == "inputs" else f"[{one}]"
        head = f'"signature_name": {json.dumps(self.signature)}, ' if self.signature else ""
        return f'{{{head}"{self.key}": {content}}}'


def _dict_expression(each: dict[str, str]) -> str:
    return "{" + ", ".join(f"{json.dumps(alias)}: {text}" for alias, text in each.items()) + "}"


def _body(signature: Signature) -> _Row | None:
    name = "" if signature.name == "serving_default" else signature.name
    shapes = {alias: _dims(shape) for alias, _, shape in signature.inputs}
    by_row = all(dims is None or (dims and dims[0] < 0) for dims in shapes.values())
    values = {}
    for alias, dtype, _ in signature.inputs:
        dims = shapes[alias]
        if dims is None:
            dims = ()
        elif by_row:
            dims = dims[1:]
        values[alias] = Nested(_example(alias, dtype), tuple(1 if dim < 0 else dim for dim in dims))
    return _Row("instances" if by_row else "inputs", values, 1, name)


def _example(alias: str, dtype: str) -> object:
    if dtype == "string":
        pictured = alias == "bytes" or alias.endswith("_bytes") or "image" in alias
        return {"b64": PNG} if pictured else "text"
    if dtype == "bool":
        return True
    return 1.0 if dtype in _FLOATS else 1


def _dims(shape: str) -> tuple[int, ...] | None:
    """``[-1,224,224,3]`` as numbers; None for ``unknown``."""
    if not shape.startswith("["):
        return None
    return tuple(int(part) for part in shape.strip("[]").split(",") if part.strip())


def _count(dims: tuple[int, ...] | None) -> int:
    count = 1
    for dim in dims or ():
        count *= max(1, dim)
    return count


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
