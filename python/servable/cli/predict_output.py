"""Formats the output of ``servable predict``: as JSON, or as a table."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from typing import Any

from servable.client.values.arrays import Array

_CONTROLS = re.compile("[\x7f-\x9f]")
"""What a terminal may obey, and JSON need not escape."""
WIDEST_CELL = 60
"""Widest table cell, in characters; longer texts end in ``…``."""


def as_json(outputs: Mapping[str, Array]) -> str:
    """Formats an object, one line per output. Bytes are text if they are UTF-8, otherwise ``{"b64": …}``."""
    lines = [f"  {json.dumps(name)}: {_text(array)}" for name, array in outputs.items()]
    return "{\n" + ",\n".join(lines) + "\n}" if lines else "{}"


def escaped(text: str) -> str:
    """Returns either output in ASCII: other characters become JSON escapes, which JSON reads back."""
    return re.sub("[^\\x00-\\x7f]+", lambda found: json.dumps(found[0])[1:-1], text)


def as_table(outputs: Mapping[str, Array]) -> str:
    """Formats one row per element of the batch; or, without a common first dimension, one per output."""
    lengths = {array.shape[:1] for array in outputs.values()}
    if len(lengths) == 1 and lengths != {()}:
        columns = [[_shown(name), *(_cell(row) for row in array)] for name, array in outputs.items()]
    else:
        columns = [
            ["output", *map(_shown, outputs)],
            ["dtype", *(str(array.dtype) for array in outputs.values())],
            ["shape", *(str(list(array.shape)) for array in outputs.values())],
            ["value", *(_cell(array) for array in outputs.values())],
        ]
    widths = [max(map(len, column)) for column in columns]
    rows = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in zip(*columns, strict=True)
    ]
    return "\n".join([rows[0], "  ".join("-" * width for width in widths), *rows[1:]])


def _cell(value: Any) -> str:
    import numpy as np

    plain = _plain(np.asarray(value, dtype=object) if isinstance(value, bytes) else np.asarray(value))
    text = plain if isinstance(plain, str) else _dumped(plain)
    text = _shown(text)
    return text if len(text) <= WIDEST_CELL else text[: WIDEST_CELL - 1] + "…"


def _shown(text: str) -> str:
    return text if text.isprintable() else repr(text)[1:-1]


def _text(array: Array) -> str:
    return _dumped(_plain(array))


def _dumped(value: Any) -> str:
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False))


def _plain(array: Array) -> Any:
    """Returns nested lists of JSON values, with floats in the fewest digits that their dtype needs."""
    import numpy as np

    plain = np.empty(array.shape, dtype=object)
    flat = plain.reshape(-1)
    for index, value in enumerate(array.reshape(-1)):
        flat[index] = _plain_value(value)
    return plain.tolist()


def _plain_value(value: Any) -> Any:
    import numpy as np

    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return {"b64": base64.b64encode(value).decode()}
    if isinstance(value, np.bool_):
        return bool(value)
    # ml_dtypes' 4-bit integers are not numpy's.
    if isinstance(value, np.integer) or "int" in value.dtype.name:
        return int(value)
    if isinstance(value, np.complexfloating):
        return str(value)
    if value.dtype.name == "bfloat16":
        # ml_dtypes prints more digits.
        texts = (f"{float(value):.{digits}g}" for digits in range(1, 5))
        return float(next((text for text in texts if value.dtype.type(float(text)) == value), str(value)))
    return float(str(value))
