"""``servable ray run CONFIG``: serves the models of a file by Ray Serve.

Exit statuses: 0 success, 1 it cannot be run, 2 the command line or the file is wrong, 130 interrupted before
it ran, 143 ended by SIGTERM before it ran.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from servable.errors import MissingPackageError, StatusError, UsageError

if TYPE_CHECKING:
    from servable.ray.configuration import Configuration

EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = argparse.ArgumentParser(prog="servable ray", description="Servable on Ray Serve.")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser(
        "run",
        help="serve the models of a file",
        description="Serve the models of a YAML file as applications of Ray Serve: on the cluster that it "
        "names, or RAY_ADDRESS, or that of this machine, or a new one on it. Run again with a changed file, "
        "it changes what runs. Ctrl-C ends the applications, and what cannot be run ends those that are new.",
    )
    run.add_argument("config", metavar="CONFIG", help="a YAML file; see docs/ray.md")
    run.add_argument("--check", action="store_true", help="only check the file, without Ray")
    run.add_argument(
        "--detach", action="store_true", help="leave the applications in a cluster that runs, and return"
    )
    return parser


def ray(argv: Sequence[str]) -> int:
    """Runs the subcommand; returns the exit status."""
    from servable.ray.configuration import read_file

    given = parser().parse_args(argv)
    try:
        configuration = read_file(given.config)
        if given.check:
            names = ", ".join(one.name for one in configuration.applications)
            print(f"{given.config} is right: {names}")
            return 0
        return _run(configuration, given.detach)
    except KeyboardInterrupt:
        print("servable ray: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except UsageError as error:
        print(f"servable ray: {error}", file=sys.stderr)
        return 2
    except (MissingPackageError, StatusError, RuntimeError, ConnectionError) as error:
        print(f"servable ray: {error}", file=sys.stderr)
        return 1


def _run(configuration: Configuration, stays: bool) -> int:
    from servable.ray.running import Terminated, run, wait

    try:
        is_up = run(configuration, _say, stays)
    except Terminated:
        print("servable ray: terminated", file=sys.stderr)
        return EXIT_TERMINATED
    if is_up and not stays:
        wait(configuration, _say)
    return 0 if is_up else 1


def _say(line: str) -> None:
    print(line, flush=True)
