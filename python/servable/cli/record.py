"""``servable warmup record MODEL``: a warm-up file from the requests that a running server answers.

The server keeps copies of requests, over REST and gRPC, until there are enough or time is up; equal requests
count once, and failing ones are left out. The records are written here, into the folder of the newest version
being served, so that the next server that loads it is warm before it serves.
"""

from __future__ import annotations

import argparse
import io
import os
from typing import Any

from servable.cli.inspect import version_folder
from servable.cli.models import Administration, address_argument, asked, part
from servable.errors import StatusError, invalid_argument
from servable.savedmodel.saved_model import WARMUP_FILE
from servable.savedmodel.tfrecord import MOST_RECORDS, parse_records, read_records, write_warmup


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of ``servable warmup record``."""
    parser.add_argument("model", help="name of a model that the server serves")
    parser.add_argument(
        "--output",
        metavar="PATH",
        help="a version's folder, a folder of versions (the newest is taken), or a file to write; default: "
        "the folder of the newest version that serves, if it is on this machine",
    )
    parser.add_argument(
        "--requests",
        type=int,
        default=100,
        help=f"end after so many different ones (default 100; a file holds {MOST_RECORDS})",
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="or after so long (default 60)")
    parser.add_argument("--every", type=int, default=1, help="take one request of so many (default 1)")
    parser.add_argument("--append", action="store_true", help="keep the records that are there")
    address_argument(parser)


def record(given: argparse.Namespace) -> int:
    """Runs the parsed command; returns exit status 0, or 1 if nothing could be recorded."""

    def work(server: Administration) -> int:
        # Done first, so that an error does not take a minute to appear.
        path = _file(given.output) if given.output else _served_file(server, given.model)
        _check_room(path, given.requests, given.append)
        limits = {"requests": given.requests, "seconds": given.seconds, "every": given.every}
        data = server.fetch("POST", f"/admin/models/{part(given.model)}/record", limits)
        records = list(parse_records(io.BytesIO(data), "the server's answer"))
        if not records:
            raise StatusError(
                "NOT_FOUND",
                f"no request to {given.model} was answered within {given.seconds:g} s",
                "send it some meanwhile, or allow more --seconds",
            )
        count = write_warmup(path, records, given.append)
        print(f"{path}: {len(records)} requests recorded, {count} in all")
        return 0

    return asked(given, given.seconds, work)


def _check_room(path: str, requests: int, append: bool) -> None:
    """Raises ``StatusError`` if a file could not hold what is to be recorded."""
    there = sum(1 for _ in read_records(path)) if append and os.path.exists(path) else 0
    if there + requests > MOST_RECORDS:
        had = f"has {there}, and may" if there else "may"
        raise invalid_argument(
            f"{path} {had} hold {MOST_RECORDS} records", f"--requests={max(0, MOST_RECORDS - there)} at most"
        )


def _file(output: str) -> str:
    path = os.path.abspath(os.path.expanduser(output))
    return os.path.join(version_folder(path), WARMUP_FILE) if os.path.isdir(path) else path


def _served_file(server: Administration, model: str) -> str:
    """Returns the warm-up file of the newest version being served.

    Raises ``StatusError`` if it cannot be written.
    """
    versions: list[dict[str, Any]] = server.ask("GET", f"/admin/models/{part(model)}")["versions"]
    serving = [one["path"] for one in versions if one["state"] == "AVAILABLE" and "path" in one]
    if not serving:
        raise StatusError("FAILED_PRECONDITION", f"no version of {model} serves", "see servable models")
    if not os.path.isdir(serving[0]) or not os.access(serving[0], os.W_OK):
        raise StatusError(
            "FAILED_PRECONDITION",
            f"{serving[0]} is not on this machine, is no folder, or may not be written to",
            "say with --output where the warm-up file goes",
        )
    return os.path.join(serving[0], WARMUP_FILE)
