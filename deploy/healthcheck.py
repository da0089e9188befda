"""The image's health check: the server must answer, and its model must be available.

Healthy (exit 0): the REST port answers and, if one model is served by name, a version of it is AVAILABLE.
With a model config file an answer is enough, and with REST off, or if clients need a certificate, a token
or the PROXY protocol, an open port. Unhealthy (exit 1) otherwise, including a server that still waits for its
first model. The ports and the name are those that the running server was started with, parsed by its own
parser.
"""

from __future__ import annotations

import json
import socket
import ssl
import sys
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import quote

from servable.config.arguments import Arguments, parse

SECONDS = 3
"""Timeout of one answer; below the HEALTHCHECK's own limit, so that the reason can still be printed."""

SERVER = "tensorflow_model_server"


def trouble(processes: Path = Path("/proc")) -> str:
    """Describes the problem in one line; "" if healthy."""
    arguments = served_with(processes)
    if arguments is None:
        return f"no {SERVER} is running"
    rest, grpc = arguments.port("rest_api_port"), arguments.port("port")
    if rest is None:
        return closed(grpc) if grpc is not None else ""
    if answers_few(arguments):
        return closed(rest)
    try:
        states = states_of(arguments.text("model_name"), rest, bool(arguments.text("tls_cert_file")))
    except (OSError, ValueError) as error:
        return f"nothing answers on port {rest}: {error}"
    if arguments.text("model_config_file") or "AVAILABLE" in states:
        return ""
    return f"{arguments.text('model_name')} has no AVAILABLE version, only: {', '.join(states) or 'none'}"


def answers_few(arguments: Arguments) -> bool:
    """Returns whether the server answers only clients that bring what the check does not have."""
    needed = arguments.text("tls_client_ca_file") or arguments.text("auth_file")
    return bool(needed) or arguments.text("proxy_protocol") == "require"


def served_with(processes: Path) -> Arguments | None:
    """Returns the server's flags.

    The server is the first process, or a child of the one that ``docker run --init`` adds.
    """
    for file in sorted(processes.glob("[0-9]*/cmdline"), key=lambda file: int(file.parent.name)):
        try:
            words = file.read_bytes().decode("utf-8", "replace").split("\0")[:-1]
        except OSError:  # it has ended since
            continue
        for index, word in enumerate(words):
            if Path(word).name == SERVER:
                return parse(words[index + 1 :], serve=False)
    return None


def states_of(model: str, port: int, tls: bool = False) -> list[str]:
    """Returns the states of a model's versions; none if the server knows no such model."""
    # This machine's own port is not reached through a proxy, and its certificate is not one for 127.0.0.1.
    unverified = urllib.request.HTTPSHandler(context=ssl._create_unverified_context())
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), unverified)
    scheme = "https" if tls else "http"
    try:
        with opener.open(
            f"{scheme}://127.0.0.1:{port}/v1/models/{quote(model, safe='')}", timeout=SECONDS
        ) as answer:
            return [version["state"] for version in json.load(answer)["model_version_status"]]
    except urllib.error.HTTPError:
        return []


def closed(port: int) -> str:
    """Describes the problem if ``port`` is not open; "" if it is."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=SECONDS).close()
    except OSError as error:
        return f"nothing answers on port {port}: {error}"
    return ""


if __name__ == "__main__":
    problem = trouble()
    print(problem or "healthy")
    sys.exit(1 if problem else 0)
