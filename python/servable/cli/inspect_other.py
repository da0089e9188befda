"""What ``servable inspect`` shows of models that are not SavedModels: what their engine says of them."""

from __future__ import annotations

import json
import os
from typing import Any

from servable.cli.table import table
from servable.engines.description import Description
from servable.savedmodel.example_request import curl_line
from servable.savedmodel.layout import model_name
from servable.savedmodel.saved_model import WARMUP_FILE, count_warmup
from servable.savedmodel.signature import Signature
from servable.sizes import size_text


def shown(model: Description, rest_at: str, as_json: bool) -> tuple[str, bool]:
    """Returns everything as text or JSON, and whether nothing is wrong with it."""
    records, problems = count_warmup(os.path.join(model.path, WARMUP_FILE))
    if as_json:
        return json.dumps(_fields(model, records, problems), indent=2), not problems
    lines = [
        model.path,
        f"  format    {model.format.title}",
        f"  engine    {model.engine}",
        f"  size      {size_text(model.bytes)}",
        f"  warm-up   {'none' if records is None else f'{records} requests'}",
        "",
        *table(("SIGNATURE", "", "NAME", "DTYPE", "SHAPE"), _rows(model.signatures)).splitlines(),
    ]
    curl = curl_line(model_name(model.path), list(model.signatures), rest_at)
    if curl:
        lines += ["", "ask it, once `servable serve` runs:", f"  {curl}"]
    lines += ["", *(f"problem: {one}" for one in problems)]
    if not problems:
        lines.append("nothing is wrong with it: its engine loads it")
    return "\n".join(lines), not problems


def _rows(signatures: tuple[Signature, ...]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for signature in signatures:
        head = signature.name
        for kind, arguments in (("in", signature.inputs), ("out", signature.outputs)):
            for alias, dtype, shape in arguments:
                rows.append((head, kind, alias, dtype, shape))
                head = ""
    return rows


def _fields(model: Description, records: int | None, problems: list[str]) -> dict[str, Any]:
    def arguments(listed: list[tuple[str, str, str]]) -> dict[str, dict[str, str]]:
        return {alias: {"dtype": dtype, "shape": shape} for alias, dtype, shape in listed}

    return {
        "path": model.path,
        "format": model.format.title,
        "engine": model.engine,
        "bytes": model.bytes,
        "warmup_records": records,
        "problems": problems,
        "signatures": {
            one.name: {"inputs": arguments(one.inputs), "outputs": arguments(one.outputs)}
            for one in model.signatures
        },
    }
