"""``servable optimize PATH``: finds the fastest engine for a SavedModel ahead of time.

Takes the paths and flags of ``servable serve``. The version is loaded and prepared as a server with
``--engine=auto`` would do it, without opening a port; what was found is printed, and kept in the cache: the
next server there measures nothing. Exit statuses: 0 everything is decided, 1 a model cannot be loaded or
tried, 2 invalid command line.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from servable.admin.acceleration import acceleration_fields
from servable.cli.inspect import version_folder
from servable.cli.table import table
from servable.config.arguments import parse
from servable.config.model_paths import is_remote, local_path
from servable.engines import libraries, precision, tensorflow_library
from servable.errors import StatusError, UsageError

if TYPE_CHECKING:
    from servable import _core
    from servable.config.values import LoadOptions, ServerConfig

POLL_SECONDS = 0.1
USAGE = """\
usage: servable optimize PATH... [--json] [flags of servable serve]

Loads a SavedModel, tries faster engines beside TensorFlow, and prints for each signature whether their
answers are the same, how long runs take, and what servers will use. The decision is kept in
--model_cache_dir; a file assets.extra/tf_serving_warmup_requests makes the comparison one of real requests.
"""
HEADS = (
    "SIGNATURE",
    "ENGINE",
    "LARGEST DIFFERENCE",
    "AGREEMENT",  # of what is in lower precision; see ``--engine_precision``
    "ONE CALLER",
    "ALL CORES",
    "CPU OF ONE",
    "DECISION",
)


def optimize(argv: Sequence[str]) -> int:
    """Runs the command."""
    as_json = "--json" in argv
    try:
        arguments = parse([one for one in argv if one != "--json"], serve=True)
        if arguments.help or not arguments.positionals:
            print(USAGE, end="", file=sys.stdout if arguments.help else sys.stderr)
            return 0 if arguments.help else 2
        from servable.config import settings

        config = settings.server_config(arguments, os.environ)
        tensorflow_library.set_onednn(arguments.text("tensorflow_onednn"))
        found = {model.name: _optimized(config, model.name, model.base_path) for model in config.models}
    except UsageError as error:
        print(f"servable: {error}", file=sys.stderr)
        return 2
    except StatusError as error:
        print(f"servable: {error}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        return 1
    print(json.dumps(found, indent=2) if as_json else "\n".join(_described(found)))
    undecided = (one for signatures in found.values() for one in signatures.values())
    return 1 if any(one["progress"] == "waiting" for one in undecided) else 0


def _optimized(config: ServerConfig, name: str, base_path: str) -> dict[str, Any]:
    """Loads and prepares the newest version of one model; returns what is known of each signature."""
    from servable import _core

    if is_remote(base_path):
        raise StatusError("INVALID_ARGUMENT", f"{base_path} is remote", "fetch it first, and give its folder")
    path = version_folder(local_path(base_path))
    core = _core_of(config)
    print(f"{name}: loading {path}", file=sys.stderr)
    try:
        core.load(name, 1, path, _load_options(config))
        known = _decided(core, name)
        core.unload(name, 1)
    except _core.CoreError as error:
        raise StatusError(error.code, error.message) from None
    if not known:
        raise StatusError("UNIMPLEMENTED", f"{path} is no SavedModel, and runs in its own engine as it is")
    return {one[0]: acceleration_fields(one) for one in known if not one[0].startswith("__")}


def _core_of(config: ServerConfig) -> _core.Server:
    """Returns a core without ports."""
    from servable import _core

    _core.init_logging("warn")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    found = libraries.find_all(config.core.tensorflow_library, os.environ)
    if error := precision.unavailable(config.load.engine_precision, found.missing.get("openvino", "")):
        raise error
    options = replace(
        config.core,
        rest_address=None,
        grpc_address=None,
        grpc_socket_path=None,
        libraries=found.found,
        missing_engines=found.missing,
    )
    return _core.Server(options)


def _load_options(config: ServerConfig) -> LoadOptions:
    engine = "auto" if config.load.engine == "tensorflow" else config.load.engine
    return replace(config.load, engine=engine, engine_fresh=True)


def _decided(core: _core.Server, name: str) -> list[_core.Acceleration]:
    """Waits until nothing more can be decided."""
    while True:
        known = core.accelerations(name, 1)
        # One that waits with a reason waits for a request, and none will come.
        if all(one[1] in ("moved", "stays") or (one[1] == "waiting" and one[3]) for one in known):
            return known
        time.sleep(POLL_SECONDS)


def _described(found: dict[str, dict[str, Any]]) -> Iterator[str]:
    for name, signatures in found.items():
        yield f"{name}\n"
        yield table(HEADS, [row for one in signatures.items() for row in _rows(*one)])
        for signature, fields in signatures.items():
            why = f": {fields['reason']}" if fields.get("reason") else ""
            yield f"  {signature} runs in {fields['engine']}{why}"


def _rows(signature: str, fields: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    if not fields["candidates"]:
        yield (signature, fields["engine"], "", "", "", "", "", fields["progress"])
    for candidate in fields["candidates"]:
        difference = candidate.get("largest_difference")
        agreement = candidate.get("agreement")
        times = candidate.get("milliseconds", {})
        yield (
            signature,
            candidate["engine"],
            "" if difference is None else f"{difference:.1e}",
            "" if agreement is None else f"{agreement:.1%}",
            *(_times(times.get(name)) for name in ("one_caller", "all_cores", "one_caller_cpu")),
            candidate["decision"],
        )
        signature = ""


def _times(pair: dict[str, float] | None) -> str:
    return "" if pair is None else f"{pair['tensorflow']:.2f} -> {pair['candidate']:.2f} ms"
