"""Reads a SavedModel from its files alone: signatures, ops, sizes; without a server or TensorFlow.

Layout and messages: tensorflow/core/protobuf/{saved_model,meta_graph}.proto; variables are a tensor bundle
(``variables.index`` and ``variables.data-NNNNN-of-NNNNN``).
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from servable.errors import StatusError, invalid_argument
from servable.messages import message_class
from servable.regular_files import open_file
from servable.savedmodel import doctor, tensor_bundle
from servable.savedmodel.signature import Signature

LARGEST = 2**31 - 1
"""Largest file, in bytes; protobuf reads no larger message."""
HIDDEN_SIGNATURES = ("__saved_model_init_op", "__saved_model_train_op")
WARMUP_FILE = os.path.join("assets.extra", "tf_serving_warmup_requests")


@dataclass(frozen=True)
class MetaGraph:
    """One graph of the SavedModel, identified by its tag set.

    ops: number of occurrences of each op, including functions. methods: method name by signature. assets: the
    files it reads, below ``assets``.
    """

    tags: tuple[str, ...]
    signatures: tuple[Signature, ...]
    methods: dict[str, str]
    ops: Counter[str]
    tensorflow_version: str
    functions: int
    assets: tuple[str, ...]


@dataclass(frozen=True)
class SavedModel:
    """The content of one version's folder. Sizes in bytes."""

    path: str
    graphs: tuple[MetaGraph, ...]
    graph_bytes: int
    variables_bytes: int
    assets: tuple[str, ...]
    warmup_records: int | None
    problems: tuple[str, ...] = field(default=())


def read(path: str) -> SavedModel:
    """Reads the SavedModel in ``path``. Raises ``StatusError`` if there is none or it cannot be parsed."""
    file, message = _parse(path)
    graphs = tuple(_graph(one) for one in message.meta_graphs)
    folder = os.path.join(path, "variables")
    warmup_records, warmup_problems = count_warmup(os.path.join(path, WARMUP_FILE))
    return SavedModel(
        path=path,
        graphs=graphs,
        graph_bytes=os.path.getsize(file),
        variables_bytes=sum(size for _, size in _files(folder)),
        assets=tuple(sorted(name for name, _ in _files(os.path.join(path, "assets")))),
        warmup_records=warmup_records,
        problems=(*_problems(path, graphs), *warmup_problems),
    )


def _parse(path: str) -> tuple[str, Any]:
    from google.protobuf import text_format
    from google.protobuf.message import DecodeError

    from servable.messages import pool

    binary, text = os.path.join(path, "saved_model.pb"), os.path.join(path, "saved_model.pbtxt")
    message = message_class("tensorflow.SavedModel")()
    file = binary if os.path.exists(binary) else text
    try:
        if os.path.getsize(file) > LARGEST:
            raise invalid_argument(f"{file} has more than {LARGEST} bytes, which no SavedModel has")
        with open_file(file) as opened:
            content = opened.read()
        if file == binary:
            message.ParseFromString(content)
        else:
            text_format.Parse(content, message, descriptor_pool=pool())
    except (FileNotFoundError, NotADirectoryError):
        raise StatusError(
            "NOT_FOUND",
            "Specified file path does not appear to contain a SavedModel bundle "
            f"(should have a file called `saved_model.pb`)\nSpecified file path: {path}",
        ) from None
    except OSError as error:
        code = "PERMISSION_DENIED" if isinstance(error, PermissionError) else "FAILED_PRECONDITION"
        raise StatusError(code, f"{file}; {error.strerror}") from None
    except (DecodeError, text_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        raise StatusError("DATA_LOSS", f"Can't parse {file} as a SavedModel: {error}") from None
    if not message.meta_graphs:
        raise StatusError("DATA_LOSS", f"{file} holds no graph: cannot parse it as a SavedModel")
    return file, message


def _graph(message: Any) -> MetaGraph:
    ops: Counter[str] = Counter(node.op for node in message.graph_def.node)
    functions = message.graph_def.library.function
    for function in functions:
        ops.update(node.op for node in function.node_def)
    shown = {name: one for name, one in message.signature_def.items() if name not in HIDDEN_SIGNATURES}
    return MetaGraph(
        tags=tuple(sorted(message.meta_info_def.tags)),
        signatures=tuple(
            Signature(name, _arguments(one.inputs), _arguments(one.outputs))
            for name, one in sorted(shown.items())
        ),
        methods={name: one.method_name for name, one in sorted(shown.items())},
        ops=ops,
        tensorflow_version=message.meta_info_def.tensorflow_version,
        functions=len(functions),
        assets=tuple(sorted(_asset_names(message))),
    )


def _asset_names(message: Any) -> set[str]:
    """Returns the asset names as a loader finds them; TensorFlow 1 kept them in a collection."""
    named = list(message.asset_file_def)
    if not named and "saved_model_assets" in message.collection_def:
        asset = message_class("tensorflow.AssetFileDef")
        named = [
            asset.FromString(one.value) for one in message.collection_def["saved_model_assets"].any_list.value
        ]
    return {one.filename for one in named}


def _arguments(infos: Any) -> list[tuple[str, str, str]]:
    return [
        (alias, dtype_name(info.dtype), _shape(info.tensor_shape)) for alias, info in sorted(infos.items())
    ]


def dtype_name(number: int) -> str:
    """Returns ``float`` for DT_FLOAT, as used in reports and by the core; ``dtype 99`` for an unknown one."""
    dtypes = message_class("tensorflow.TensorInfo").DESCRIPTOR.fields_by_name["dtype"].enum_type
    found = dtypes.values_by_number.get(number)
    return f"dtype {number}" if found is None else str(found.name).removeprefix("DT_").lower()


def _shape(shape: Any) -> str:
    if shape.unknown_rank:
        return "unknown"
    return "[" + ",".join(str(one.size) for one in shape.dim) + "]"


def _files(folder: str) -> list[tuple[str, int]]:
    """Returns (path below ``folder``, size) of every file; [] if there is no such folder."""
    found = []
    for root, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(root, name)
            found.append(
                (os.path.relpath(path, folder), os.path.getsize(path) if os.path.exists(path) else 0)
            )
    return found


def count_warmup(path: str) -> tuple[int | None, list[str]]:
    """Returns the number of requests in a warm-up file, None without one, and its problems."""
    from servable.savedmodel.tfrecord import MOST_RECORDS, read_records

    if not os.path.exists(path):
        return None, []
    advice = "make it again with `servable warmup make`, or remove it"
    try:
        count = sum(1 for _ in read_records(path))
    except StatusError:
        return None, [f"the warm-up file {path} is damaged: {advice}"]
    except OSError as error:
        return None, [f"the warm-up file {path} cannot be read ({error.strerror})"]
    if count > MOST_RECORDS:
        return count, [f"the warm-up file {path} has more than {MOST_RECORDS} requests: {advice}"]
    return count, []


def _problems(path: str, graphs: tuple[MetaGraph, ...]) -> list[str]:
    """Returns the problems that would prevent loading or use, as far as the files show."""
    problems = []
    if all("serve" not in graph.tags for graph in graphs):
        tags = "; ".join(",".join(graph.tags) or "(none)" for graph in graphs)
        problems.append(f"no graph has the tag serve: start the server with --saved_model_tags={tags}")
    if not any(graph.signatures for graph in graphs):
        problems.append("it has no signature, so nothing can be asked of it: export it with signatures=")
    denied = doctor.denied(path)
    if denied:
        return [*problems, doctor.permission(path, denied)]
    needs_variables = any(graph.ops.keys() & {"VarHandleOp", "VariableV2", "RestoreV2"} for graph in graphs)
    problems.extend(_variable_problems(os.path.join(path, "variables"), needs_variables))
    for name in sorted({name for graph in graphs for name in graph.assets}):
        if not os.path.isfile(os.path.join(path, "assets", name)):
            problems.append(
                f"the graph names assets/{name}, which is not there: the copy is incomplete, and a load that "
                "reads it fails"
            )
    return problems


def _variable_problems(folder: str, needed: bool) -> list[str]:
    """Finds missing, damaged or truncated files of a tensor bundle, as left by an incomplete copy."""
    sizes = dict(_files(folder))
    if not sizes:
        return (
            [f"the graph has variables and {folder} has no files: the copy is incomplete"] if needed else []
        )
    index = os.path.join(folder, "variables.index")
    if not sizes.get("variables.index"):
        return [f"{index} is missing or empty: the copy is incomplete"]
    try:
        with open_file(index) as file:
            shards = tensor_bundle.shards(file.read())
    except tensor_bundle.CompressedError:
        shards = tensor_bundle.Shards(_count_in_names(sizes), {})
    except OSError as error:
        return [f"{index} cannot be read ({error.strerror})"]
    except ValueError as error:
        return [f"{index} is damaged ({error}): copy it again"]
    for number in range(shards.count):
        name = f"variables.data-{number:05d}-of-{shards.count:05d}"
        if name not in sizes:
            return [f"{folder} lacks shard {number} of {shards.count} ({name}): the copy is incomplete"]
        least = shards.bytes.get(number, 0)
        if sizes[name] < least:
            return [f"{folder}/{name} has {sizes[name]} bytes of {least}: the copy is incomplete"]
    return []


def _count_in_names(names: Iterable[str]) -> int:
    """Returns the number of shards according to the names of those that exist."""
    found = [re.fullmatch(r"variables\.data-\d{5}-of-(\d{5})", name) for name in names]
    return max((int(one[1]) for one in found if one), default=1)
