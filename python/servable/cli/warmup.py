"""``servable warmup make PATH``: a warm-up file from REST requests, without writing TFRecords by hand.

``warmup record MODEL`` makes one from the requests of live clients: see ``record.py``.

The file, ``assets.extra/tf_serving_warmup_requests`` in the version's folder, is replayed before the version
serves, also by TensorFlow Serving. Requests are predict bodies as sent by POST: ``--request`` takes JSON, or
``@file`` with one body, or with one per line (``.jsonl``). Without any, one is made up for each signature.
``warmup show PATH`` prints the content of a file. Files of a payload log are such files, too, but for their
answers, which a replay ignores: ``--log FILE`` takes requests from them.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import struct
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from servable.cli import record as record_command
from servable.cli.inspect import version_folder
from servable.engines.description import describe, other_format
from servable.errors import StatusError, invalid_argument
from servable.messages import message_class
from servable.savedmodel.example_request import example_body
from servable.savedmodel.layout import is_model_file, keras_file_at, model_name
from servable.savedmodel.saved_model import WARMUP_FILE, read
from servable.savedmodel.signature import Signature
from servable.savedmodel.tfrecord import MOST_RECORDS, read_records, write_warmup

FIELDS = {
    "float": "float_val",
    "double": "double_val",
    "int8": "int_val",
    "int16": "int_val",
    "int32": "int_val",
    "uint8": "int_val",
    "uint16": "int_val",
    "int64": "int64_val",
    "uint32": "uint32_val",
    "uint64": "uint64_val",
    "bool": "bool_val",
    "string": "string_val",
    "half": "half_val",
    "bfloat16": "half_val",
}
"""The field of a TensorProto with the values of each dtype (tensorflow/core/framework/tensor.proto)."""
RANGES = {
    "int8": range(-(1 << 7), 1 << 7),
    "int16": range(-(1 << 15), 1 << 15),
    "uint8": range(1 << 8),
    "uint16": range(1 << 16),
}
"""The values of dtypes whose field is wider."""


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = argparse.ArgumentParser(prog="servable warmup", description="Warm-up files of models.")
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("make", help="write a warm-up file from predict requests")
    making.add_argument("path", help="folder of a version, or of versions: the newest is taken")
    making.add_argument(
        "--request", action="append", default=[], metavar="JSON|@FILE", help="a predict body; repeatable"
    )
    making.add_argument(
        "--log",
        action="append",
        default=[],
        metavar="FILE",
        help="a TFRecord file of a payload log, whose requests are taken; repeatable",
    )
    making.add_argument("--append", action="store_true", help="keep the records that are there")
    recording = commands.add_parser("record", help="write a warm-up file from requests to a running server")
    record_command.add_arguments(recording)
    showing = commands.add_parser("show", help="print the records of a warm-up file, or of a payload log")
    showing.add_argument("path", help="folder of a version, or of versions; or a TFRecord file")
    return parser


def warmup(argv: Sequence[str]) -> int:
    """Runs the command; returns exit status 0 or 1."""
    given = parser().parse_args(argv)
    if given.command == "record":
        return record_command.record(given)
    try:
        path = os.path.abspath(os.path.expanduser(given.path))
        if given.command == "show":
            _show(path if _is_record_file(path) else os.path.join(version_folder(path), WARMUP_FILE))
        else:
            folder = version_folder(path)
            count = make(folder, given.request, given.append, logged_requests(given.log))
            print(f"{os.path.join(folder, WARMUP_FILE)}: {count} requests")
    except StatusError as error:
        print(f"servable: {error}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"servable: {error}", file=sys.stderr)
        return 1
    return 0


def _is_record_file(path: str) -> bool:
    return os.path.isfile(path) and not is_model_file(path) and not keras_file_at(path)


def logged_requests(files: Sequence[str]) -> list[bytes]:
    """Returns the different requests of payload logs as PredictionLogs without answers.

    As many as a warm-up file may hold.
    Raises ``StatusError`` for a damaged file.
    """
    logged: dict[bytes, None] = {}
    for path in files:
        for log in _logs(path):
            log.ClearField("log_metadata")
            kind = log.WhichOneof("log_type")
            if kind is not None:
                getattr(log, kind).ClearField("response")
                logged[bytes(log.SerializeToString(deterministic=True))] = None
            if len(logged) == MOST_RECORDS:
                return list(logged)
    return list(logged)


def _logs(path: str) -> Iterator[Any]:
    """Yields the PredictionLogs of a file. Raises ``StatusError`` for records that are something else."""
    from google.protobuf.message import DecodeError

    for number, data in enumerate(read_records(path), 1):
        try:
            yield message_class("tensorflow.serving.PredictionLog").FromString(data)
        except DecodeError:
            raise StatusError("DATA_LOSS", f"record {number} of {path} is no PredictionLog") from None


def make(folder: str, requests: Sequence[str], append: bool = False, logged: Sequence[bytes] = ()) -> int:
    """Writes the warm-up file of the version in ``folder``; returns its number of records.

    logged: PredictionLogs, kept as they are. Raises ``StatusError`` for a request that does not fit its
    signature; nothing is written then.
    """
    if is_model_file(folder):
        raise StatusError(
            "FAILED_PRECONDITION",
            f"{folder} is a file, and a warm-up file lies in a version's folder",
            f"move the model to {model_name(folder)}/1/model{os.path.splitext(folder)[1].lower()}",
        )
    signatures = {one.name: one for one in _signatures(folder)}
    name = model_name(folder)
    bodies = list(_bodies(requests)) if requests or logged else _made_up(signatures.values())
    records = [*logged, *(prediction_log(name, signatures, body) for body in bodies)]
    if not records:
        raise invalid_argument("no request could be made up for any signature", "give one with --request")
    return write_warmup(os.path.join(folder, WARMUP_FILE), records, append)


def _signatures(folder: str) -> tuple[Signature, ...]:
    other = other_format(folder)
    if other is not None:
        return describe(folder, other).signatures
    if keras_file_at(folder):
        raise StatusError(
            "FAILED_PRECONDITION",
            f"{keras_file_at(folder)} is a Keras file: its signatures are known once it has been converted",
            "serve it, and write the file from requests: servable warmup record",
        )
    graphs = read(folder).graphs
    return next((graph for graph in graphs if "serve" in graph.tags), graphs[0]).signatures


def _made_up(signatures: Iterable[Signature]) -> list[dict[str, Any]]:
    bodies = (example_body(one) for one in signatures)
    return [body for body in bodies if body is not None]


def _bodies(requests: Sequence[str]) -> Iterator[dict[str, Any]]:
    for text in requests:
        if not text.startswith("@"):
            yield _body(text, text)
            continue
        try:
            with open(text[1:], encoding="utf-8") as file:
                content = file.read()
        except UnicodeDecodeError:
            raise invalid_argument(f"{text[1:]} is not JSON: it is not UTF-8") from None
        # Not str.splitlines: JSON has other ends of lines in its texts.
        for line in content.split("\n") if text.endswith(".jsonl") else [content]:
            if line.strip():
                yield _body(line, text[1:])


def _body(text: str, source: str) -> dict[str, Any]:
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise invalid_argument(f"{source} is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise invalid_argument(f"{source} expects an object with instances or inputs")
    return body


def prediction_log(model: str, signatures: dict[str, Signature], body: dict[str, Any]) -> bytes:
    """Returns a serialized PredictionLog for one predict body. Raises ``StatusError``."""
    name = body.get("signature_name") or "serving_default"
    signature = signatures.get(name) if isinstance(name, str) else None
    if signature is None:
        raise invalid_argument(f"there is no signature {name}; there are {', '.join(signatures) or 'none'}")
    log = message_class("tensorflow.serving.PredictionLog")()
    request = log.predict_log.request
    request.model_spec.name, request.model_spec.signature_name = model, name
    for (alias, dtype, _), value in _values(signature, body):
        _fill(request.inputs[alias], alias, dtype, value)
    return bytes(log.SerializeToString(deterministic=True))


def _values(signature: Signature, body: dict[str, Any]) -> Iterator[tuple[tuple[str, str, str], Any]]:
    """Yields each input with its value, from the row or the column format."""
    if ("instances" in body) == ("inputs" in body):
        raise invalid_argument("a predict body has either instances or inputs")
    by_row = "instances" in body
    content = body["instances"] if by_row else body["inputs"]
    aliases = {one[0] for one in signature.inputs}
    if by_row and not isinstance(content, list):
        raise invalid_argument("instances expects a list")
    rows = content if by_row else [content]
    named = all(isinstance(row, dict) and row.keys() != {"b64"} for row in rows)
    for row in rows if named else ():
        if row.keys() != aliases:
            raise invalid_argument(f"expected the inputs {sorted(aliases)}, got {sorted(row)}")
    if not named and len(aliases) != 1:
        raise invalid_argument(f"several inputs need their names: {', '.join(sorted(aliases))}")
    for argument in signature.inputs:
        column = [row[argument[0]] for row in rows] if named else rows
        yield argument, column if by_row else column[0]


def _fill(tensor: Any, alias: str, dtype: str, value: Any) -> None:
    if dtype not in FIELDS:
        raise invalid_argument(f"input {alias}: JSON has no values of dtype {dtype}")
    dtypes = tensor.DESCRIPTOR.fields_by_name["dtype"].enum_type
    tensor.dtype = dtypes.values_by_name[f"DT_{dtype.upper()}"].number
    shape, flat = flattened(value, alias)
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    try:
        getattr(tensor, FIELDS[dtype]).extend(_converted(one, dtype) for one in flat)
    except (TypeError, ValueError, OverflowError, struct.error) as error:
        raise invalid_argument(f"input {alias} has dtype {dtype}: {error}") from None


def flattened(value: Any, alias: str) -> tuple[list[int], list[Any]]:
    """Returns shape and elements of nested lists, level by level.

    Raises ``StatusError`` if they are ragged.
    """
    shape: list[int] = []
    level = [value]
    while level and isinstance(level[0], list):
        sizes = {len(one) if isinstance(one, list) else -1 for one in level}
        if len(sizes) != 1:
            raise invalid_argument(f"input {alias}: lists of different lengths")
        shape.append(len(level[0]))
        level = [inner for one in level for inner in one]
    if any(isinstance(one, list) for one in level):
        raise invalid_argument(f"input {alias}: lists of different depths")
    return shape, level


def _converted(value: Any, dtype: str) -> Any:
    if dtype == "string":
        if isinstance(value, dict) and value.keys() == {"b64"}:
            return base64.b64decode(value["b64"], validate=True)
        if not isinstance(value, str):
            raise TypeError(f"expected text or {{'b64': …}}, got {value!r}")
        return value.encode()
    if dtype in RANGES and isinstance(value, int) and value not in RANGES[dtype]:
        raise ValueError(f"{value} is outside of its range")
    if dtype == "bool" and not isinstance(value, bool):
        raise TypeError(f"expected true or false, got {value!r}")
    if dtype == "half":
        return struct.unpack("<H", struct.pack("<e", value))[0]
    if dtype == "bfloat16":
        # The upper half of a float, rounded to nearest, ties to even.
        (bits,) = struct.unpack("<I", struct.pack("<f", value))
        return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    return value


def _show(path: str) -> None:
    from google.protobuf.json_format import MessageToJson

    from servable.messages import pool

    for log in _logs(path):
        print(MessageToJson(log, indent=None, preserving_proto_field_name=True, descriptor_pool=pool()))
