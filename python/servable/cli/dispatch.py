"""The two commands: ``servable`` with its subcommands, and ``tensorflow_model_server``, the drop-in.

Nothing heavy is imported until it is needed: this module costs a few milliseconds.

Exit statuses. ``servable``: 0 success, 1 the server could not start or did not answer, 2 invalid command
line, 130 interrupted, 141 nobody reads the output. ``tensorflow_model_server``: 0 stopped or ``--version``,
255 everything else, ``--help`` included, as in TensorFlow Serving.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from servable.cli.commands import BY_NAME, usage
from servable.cli.ending import ended
from servable.cli.standard_streams import escape_what_output_lacks, open_closed_ones
from servable.errors import ServableError, StatusError, TensorFlowNotFoundError, UsageError

if TYPE_CHECKING:
    from servable.config.arguments import Arguments
    from servable.config.values import ServerConfig
    from servable.engines.tensorflow_library import Opening

EXIT_USAGE = 2
EXIT_ERROR = 1
EXIT_MODEL_SERVER = 255


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command ``servable``; returns the exit status."""
    open_closed_ones()
    escape_what_output_lacks()
    return ended(lambda: _main(argv))


def _main(argv: Sequence[str] | None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = arguments[0] if arguments else "help"
    if not all(map(str.isascii, arguments)):
        from servable.config.arguments import check_text

        try:
            check_text(arguments)
        except UsageError as error:
            return _wrong(error)
    if command in ("help", "--help", "-h"):
        print(usage(), end="")
        return 0 if arguments else EXIT_USAGE
    command = "version" if command == "--version" else command
    if command not in BY_NAME:
        import difflib

        close = difflib.get_close_matches(command, list(BY_NAME), n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        print(f"servable: unknown command {command}{hint}\n{usage()}", end="", file=sys.stderr)
        return EXIT_USAGE
    return _command(command)(arguments[1:])


def _command(name: str) -> Callable[[list[str]], int]:
    """Returns what runs a command; its module is imported now."""
    from importlib import import_module

    found = BY_NAME[name]
    run: Callable[[list[str]], int] = getattr(import_module(f"servable.cli.{found.module}"), found.function)
    return run


def tensorflow_model_server(argv: Sequence[str] | None = None) -> int:
    """Runs ``tensorflow_model_server``, with TensorFlow Serving's syntax, defaults, texts and statuses."""
    open_closed_ones()
    with _hangups_held():
        return _model_server(list(sys.argv[1:] if argv is None else argv))


def _model_server(argv: list[str]) -> int:
    from servable.cli.usage import server_usage
    from servable.config.arguments import parse

    try:
        arguments = parse(argv, serve=False)
    except UsageError as error:
        print(error, file=sys.stderr)
        print(server_usage(), end="")
        return EXIT_MODEL_SERVER
    if arguments.help:
        print(server_usage(), end="")
        return EXIT_MODEL_SERVER
    if arguments.boolean("version"):
        _print_versions(arguments, "TensorFlow ModelServer", "TensorFlow Library")
        return 0
    return _start(arguments)


@contextmanager
def _hangups_held() -> Iterator[None]:
    """Blocks SIGHUP until there is a server to handle it (``Server.run``): by default it ends a process."""
    import signal

    if not hasattr(signal, "SIGHUP"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def serve(argv: list[str]) -> int:
    """Runs ``servable serve``."""
    with _hangups_held():
        return _parsed_serve(argv)


def _parsed_serve(argv: list[str]) -> int:
    from servable.config.arguments import parse

    try:
        arguments = parse(argv, serve=True)
    except UsageError as error:
        return _wrong(error)
    if arguments.help:
        from servable.cli.usage import serve_usage

        print(serve_usage(), end="")
        return 0
    if arguments.boolean("version"):
        return version([])
    return _start(arguments)


def flags(argv: list[str]) -> int:
    """Runs ``servable flags``."""
    from servable.cli.usage import json_list, markdown_table, server_usage

    texts = {"": lambda: server_usage("servable"), "--markdown": markdown_table, "--json": json_list}
    if len(argv) > 1 or "".join(argv) not in texts:
        said = "servable flags takes --markdown, --json or nothing, got"
        return _wrong(UsageError(f"{said} {' '.join(argv)}"))
    print(texts["".join(argv)](), end="")
    return 0


def version(argv: list[str]) -> int:
    """Runs ``servable version``."""
    from servable.config.arguments import parse

    try:
        arguments = parse([one for one in argv if one != "--json"], serve=True)
    except UsageError as error:
        return _wrong(error)
    if "--json" in argv:
        _print_json_of_versions(arguments)
    else:
        _print_versions(arguments, "Servable", "TensorFlow")
    return 0


def _print_json_of_versions(arguments: Arguments) -> None:
    import json

    import servable
    from servable.engines import libraries, tensorflow_library

    engines: dict[str, str | None] = {"TensorFlow": None}
    with suppress(ServableError):
        engines["TensorFlow"] = tensorflow_library.version(arguments.text("tensorflow_library"))
    engines |= {package.title: None for package in libraries.PACKAGES}
    engines |= libraries.versions(libraries.find_all("", os.environ))
    print(json.dumps({"servable": servable.__version__, "engines": engines}, indent=2))


def _print_versions(arguments: Arguments, server: str, library: str) -> None:
    import servable
    from servable.engines import libraries, tensorflow_library

    print(f"{server}: {servable.__version__}")
    try:
        print(f"{library}: {tensorflow_library.version(arguments.text('tensorflow_library'))}")
    except ServableError as error:
        print(f"{library}: none ({str(error).splitlines()[0]})")
    if arguments.serve:
        for title, version in libraries.versions(libraries.find_all("", os.environ)).items():
            print(f"{title}: {version}")


def _wrong(error: UsageError) -> int:
    print(f"servable: {error}\nsee servable serve --help", file=sys.stderr)
    return EXIT_USAGE


def _start(arguments: Arguments) -> int:
    """Configures and runs a server; returns the exit status."""
    from servable.serving.log_format import log_to_stderr

    log_to_stderr(arguments.text("log_level"), arguments.text("log_format"))
    if arguments.serve and arguments.text("log_format") == "text":
        from servable.progress import board

        board.show_on(sys.stderr)
    try:
        _log_oddities(arguments)
        return _run(arguments)
    except UsageError as error:
        if arguments.serve:
            return _wrong(error)
        return _failed(arguments, StatusError("INVALID_ARGUMENT", str(error)))
    except StatusError as error:
        return _failed(arguments, error)
    except TensorFlowNotFoundError as error:
        head, _, hint = str(error).partition("\n")
        return _failed(arguments, StatusError("NOT_FOUND", head, hint.strip()))


def _run(arguments: Arguments) -> int:
    import logging

    from servable.config import settings
    from servable.serving.engines import with_engines

    is_engine_given = "engine" in arguments.given
    config = settings.server_config(arguments, os.environ)
    config, opening = with_engines(config, is_engine_given, arguments.text("tensorflow_onednn"))
    if not arguments.serve and not is_engine_given and "openvino" in config.core.libraries:
        logging.getLogger("servable.engine").info(
            "SavedModels run in TensorFlow alone; --engine=auto would move those to OpenVINO that it answers "
            "alike and faster (servable optimize PATH shows which)"
        )
    return _run_server(config, opening)


def _run_server(config: ServerConfig, opening: Opening) -> int:
    from servable.serving.ports import allow_many_connections
    from servable.serving.server import Server, check_ports, leave
    from servable.serving.surroundings import Surroundings

    allow_many_connections()
    around = Surroundings.find(config, os.environ)
    check_ports(config, around.sockets)
    status = Server(config, before_loading=opening.wait, around=around).run()
    # Everything is unloaded: the destructors of TensorFlow's library could only fail.
    leave(status)
    return status


def _log_oddities(arguments: Arguments) -> None:
    """Logs a line for each argument without a meaning here, and for each flag without an effect."""
    import logging

    from servable.config import channel_arguments
    from servable.config.arguments import suggestion
    from servable.config.flags import no_effect_lines

    log = logging.getLogger("servable.flags")
    for unknown in arguments.unknown:
        log.warning("unknown argument: %s%s", unknown, suggestion(unknown[2:].partition("=")[0]))
    if not arguments.serve:
        if arguments.port("rest_api_port") and arguments.port("rest_api_port") == arguments.port("port"):
            log.error("rest_api_port cannot be the same as port: the REST API stays off")
        for positional in arguments.positionals:
            log.warning("unknown argument: %s (flags are written --name=value)", positional)
    _, about_arguments = channel_arguments.read(arguments.text("grpc_channel_arguments"))
    for line in [*about_arguments, *no_effect_lines(arguments.values, arguments.serve)]:
        log.warning("%s", line)


def _failed(arguments: Arguments, error: StatusError) -> int:
    """Reports why the server did not start: TensorFlow Serving's text on stdout, a hint on stderr."""
    import threading

    from servable.serving.server import leave

    print(f"Failed to start server. Error: {error}", flush=True)
    if error.hint:
        print(f"hint: {error.hint}", file=sys.stderr)
    status = EXIT_ERROR if arguments.serve else EXIT_MODEL_SERVER
    if threading.active_count() > 1:
        # They may be inside TensorFlow; nothing is gained by waiting for them.
        leave(status)
    return status
