"""``servable optimize PATH``: finds the fastest engine for a SavedModel ahead of time.

Takes the paths and flags of ``servable serve``. The version is loaded and prepared as a server with
``--engine=auto`` would do it, without opening a port; what was found is printed, and kept in the cache: the
next server there measures nothing. Exit statuses: 0 everything is decided, 1 a model cannot be loaded or
tried, 2 invalid command line.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from servable.admin.acceleration import acceleration_fields
from servable.cli.inspect import version_folder
from servable.cli.table import table
from servable.config.arguments import parse
from servable.config.model_paths import is_remote, local_path
from servable.config.values import check_models
from servable.engines import libraries, precision, tensorflow_library
from servable.errors import ServableError, StatusError, UsageError
from servable.progress import board
from servable.savedmodel import foreign
from servable.savedmodel.layout import held_by, is_model_file, keras_file_at

if TYPE_CHECKING:
    from servable import _core
    from servable.config.values import LoadOptions, ServerConfig

POLL_SECONDS = 0.1
PATIENCE = 900.0
"""Seconds without a result after which the engines are not waited for any more."""
REQUESTS = "record some: servable warmup record MODEL (or `warmup make`, where the shapes are known)"
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
    """Runs the command. Ctrl-C ends the process at once: nothing that it writes can be half written."""
    before = signal.getsignal(signal.SIGINT)
    is_main = threading.current_thread() is threading.main_thread()
    if is_main:
        # Python's handler would wait for a load to return, and end it with a traceback.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        return _run([one for one in argv if one != "--json"], "--json" in argv)
    finally:
        if is_main:
            signal.signal(signal.SIGINT, before)


def _run(argv: Sequence[str], as_json: bool) -> int:
    try:
        arguments = parse(argv, serve=True)
        if arguments.help or not arguments.positionals:
            print(USAGE, end="", file=sys.stdout if arguments.help else sys.stderr)
            return 0 if arguments.help else 2
        from servable.config import settings

        config = settings.server_config(arguments, os.environ)
        check_models(config.models)
        tensorflow_library.set_onednn(arguments.text("tensorflow_onednn"))
        _check_cache(config.load.engine_cache)
    except UsageError as error:
        print(f"servable: {error}", file=sys.stderr)
        return 2
    except ServableError as error:
        _tell(error)
        return 1
    board.show_on(sys.stderr)
    try:
        found = dict(_optimized_models(config))
    finally:
        board.hide()
    if found or as_json:
        print(json.dumps(found, indent=2) if as_json else "\n".join(_described(found)))
    waiting = [
        (name, signature)
        for name, signatures in found.items()
        for signature, fields in signatures.items()
        if fields["progress"] == "waiting"
    ]
    for name, signature in waiting:
        print(f"servable: {name}: {signature} waits for a request; {REQUESTS}", file=sys.stderr)
    return 1 if waiting or len(found) < len(config.models) else 0


def _tell(error: ServableError, name: str = "") -> None:
    """Prints an error, of a model if there is a name, with its hint."""
    with board.behind():
        print(f"servable: {name}{': ' if name else ''}{str(error).replace(chr(10), ' ')}", file=sys.stderr)
        if isinstance(error, StatusError) and error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)


def _check_cache(folder: str) -> None:
    """Raises ``StatusError`` if nothing could be kept in the cache, before time is spent on it."""
    try:
        os.makedirs(folder, exist_ok=True)
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), folder)
    except OSError as error:
        code = "PERMISSION_DENIED" if isinstance(error, PermissionError) else "FAILED_PRECONDITION"
        raise StatusError(
            code,
            f"the cache {folder} cannot be written: {error.strerror}",
            "choose a folder that may be written: --model_cache_dir",
        ) from None


def _optimized_models(config: ServerConfig) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields what is known of each model; prints why of those of which nothing is."""
    for model in config.models:
        try:
            yield model.name, _optimized(config, model.name, model.base_path)
        except ServableError as error:
            _tell(error, model.name)


def _optimized(config: ServerConfig, name: str, base_path: str) -> dict[str, Any]:
    """Loads and prepares the newest version of one model; returns what is known of each signature."""
    from servable import _core

    path = _saved_model_at(base_path)
    try:
        core = _core_of(config)
        print(f"{name}: loading {path}", file=sys.stderr)
        with board.task(f"{name}: loading", detail=lambda: core.phase(name, 1)):
            core.load(name, 1, path, _load_options(config))
        if not board.is_shown:
            print(f"{name}: trying engines", file=sys.stderr)
        with board.task(f"{name}: trying engines", detail=lambda: _progress(core.accelerations(name, 1))):
            known = _decided(lambda: core.accelerations(name, 1))
        core.unload(name, 1)
    except _core.CoreError as error:
        raise StatusError(error.code, error.message) from None
    if not known:
        raise StatusError("UNIMPLEMENTED", f"{path} is no SavedModel, and runs in its own engine as it is")
    return {one[0]: acceleration_fields(one) for one in known if not one[0].startswith("__")}


def _progress(known: list[_core.Acceleration]) -> str:
    """Returns how far the trying is, in words."""
    decided = [one for one in known if one[1] in ("moved", "stays")]
    current = next((f", {one[0]} is {one[1]}" for one in known if one not in decided), "")
    return f"{len(decided)} of {len(known)} signatures decided{current}"


def _saved_model_at(base_path: str) -> str:
    """Returns the folder of the newest version. Raises ``StatusError`` if no engine could take it."""
    if is_remote(base_path):
        raise StatusError("INVALID_ARGUMENT", f"{base_path} is remote", "fetch it first, and give its folder")
    path = version_folder(local_path(base_path))
    if keras_file_at(path):
        raise StatusError(
            "UNIMPLEMENTED",
            f"{path} is a Keras file, which `servable serve` makes a SavedModel of",
            "serve it once, and give the folder that the log names",
        )
    if not (held_by(path) or is_model_file(path)):
        try:
            os.listdir(path)
        except PermissionError:
            raise StatusError("PERMISSION_DENIED", f"{path} may not be read") from None
        except OSError as error:
            raise StatusError("NOT_FOUND", f"{path} cannot be read: {error.strerror}") from None
        raise StatusError("NOT_FOUND", f"{path} holds no model", foreign.found_instead(path))
    return path


def _core_of(config: ServerConfig) -> _core.Server:
    """Returns a core without ports."""
    from servable import _core

    _core.init_logging("warn", "text")
    tensorflow_library.quiet()
    tensorflow_library.set_onednn("auto")
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


def _decided(
    look: Callable[[], list[_core.Acceleration]], clock: Callable[[], float] = time.monotonic
) -> list[_core.Acceleration]:
    """Waits until nothing more can be decided. Raises ``StatusError`` once nothing has changed for long."""
    before, since = look(), clock()
    while True:
        known = look()
        # One that waits with a reason waits for a request, and none will come.
        if all(one[1] in ("moved", "stays") or (one[1] == "waiting" and one[3]) for one in known):
            return known
        if known != before:
            before, since = known, clock()
        elif clock() - since >= PATIENCE:
            stuck = next(one for one in known if one[1] not in ("moved", "stays"))
            raise StatusError(
                "DEADLINE_EXCEEDED", f"{stuck[0]} has been {stuck[1]} for {PATIENCE:g} s without a result"
            )
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
