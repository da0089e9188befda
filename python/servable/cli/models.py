"""``servable models``, ``load``, ``unload``, ``label``, ``reload``: a running server's administration.

They connect to the address of ``servable serve --admin_address=HOST:PORT``, with TLS if it is given as
``https://HOST:PORT``, and speak the protocol of ``admin/http.py``. Exit statuses: 0 success, 1 refused or
failed, 2 invalid command line.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import quote, urlencode

from servable.cli.colour import Colours
from servable.cli.printable import printable
from servable.cli.table import table
from servable.errors import ServableError, StatusError
from servable.sizes import size_text

ADDRESS_VARIABLE = "SERVABLE_ADMIN_ADDRESS"
TOKEN_VARIABLES = ("SERVABLE_ADMIN_TOKEN", "SERVABLE_TOKEN")
"""The first that is set is sent. No argument names a token: others see the arguments of a process."""
DEFAULT_ADDRESS = "127.0.0.1:8502"
MARGIN_SECONDS = 30.0
"""Seconds that the command waits longer than the server."""
LONGEST_WAIT = 3600.0
"""Longest wait, in seconds, that the server allows; see ``admin/http.py``, which is not imported for it."""

NOT_IT = "is it the administration that answers there?"
"""The hint about an answer that is not the administration's."""

Fields = dict[str, Any]


@dataclass(frozen=True)
class Trust:
    """PEM files for TLS; "" for none.

    ca: authorities to trust instead of the system's. certificate and key: of this client, for a server that
    asks for one; the key may be in the certificate's file.
    """

    ca: str = ""
    certificate: str = ""
    key: str = ""


class Administration:
    """A client of the administration at ``address``; ``token`` "" for none.

    patience: the longest silence of the server, in seconds; by default somewhat more than ``wait``.
    """

    def __init__(
        self,
        address: str,
        token: str,
        wait: float,
        trust: Trust | None = None,
        patience: float | None = None,
    ) -> None:
        self.address = address
        self._token = token
        self._wait = wait
        self._trust = trust or Trust()
        self._stated_patience = patience

    def ask(self, method: str, path: str, body: object = None) -> Fields:
        """Sends one request.

        Raises ``StatusError`` with the server's error, or UNAVAILABLE without a server.
        """
        fields = _fields(self.fetch(method, path, body))
        if fields is None:
            raise StatusError("UNKNOWN", "the answer is not JSON", NOT_IT)
        return fields

    def fetch(self, method: str, path: str, body: object = None) -> bytes:
        """Does the same as ``ask`` for an answer that is not JSON."""
        headers = {"Content-Type": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        content = None if body is None else json.dumps(body)
        try:
            connection = self._connection()
            connection.request(method, path, content, headers)
            reply = connection.getresponse()
            data = reply.read()
            connection.close()
        except (OSError, ValueError, HTTPException) as error:
            raise self._unavailable(error) from None
        if reply.status >= 400:
            raise _refusal(f"{reply.status} {reply.reason}", _fields(data) or {})
        return data

    def _connection(self) -> HTTPConnection:
        scheme, _, where = self.address.rpartition("://")
        host, _, port = where.rstrip("/").rpartition(":")
        host, seconds = host.strip("[]"), self._patience()
        if scheme not in ("", "http", "https") or not (port.isdecimal() and int(port[:6]) <= 65535):
            expected = f"--admin_address expects HOST:PORT or https://HOST:PORT, got {self.address!r}"
            raise StatusError("INVALID_ARGUMENT", expected)
        if scheme != "https":
            return HTTPConnection(host, int(port), timeout=seconds)
        return HTTPSConnection(host, int(port), timeout=seconds, context=self._context())

    def _context(self) -> Any:
        import ssl

        named = f"--ca_file {self._trust.ca}"
        try:
            context = ssl.create_default_context(cafile=self._trust.ca or None)
            if self._trust.certificate:
                named = f"--cert_file {self._trust.certificate}"
                # Without a password: OpenSSL would ask for one on the terminal.
                context.load_cert_chain(self._trust.certificate, self._trust.key or None, password="")
        except (OSError, ValueError) as error:
            said = error.strerror or error if isinstance(error, OSError) else error
            raise StatusError("INVALID_ARGUMENT", f"{named} cannot be read: {said}") from None
        return context

    def _unavailable(self, error: Exception) -> StatusError:
        import ssl

        if isinstance(error, ssl.SSLCertVerificationError):
            return StatusError(
                "UNAVAILABLE",
                f"the certificate of {self.address} is not trusted: {error.verify_message}",
                "give the PEM file of the authority that issued it as --ca_file, and the host as it names it",
            )
        if isinstance(error, ssl.SSLError):
            return StatusError(
                "UNAVAILABLE",
                f"no TLS connection with {self.address}: {error.reason or error}",
                "is it the port of the administration, and does it speak TLS? A server with"
                " --tls_client_ca_file wants a certificate: --cert_file",
            )
        return StatusError(
            "UNAVAILABLE",
            f"nobody administers at {self.address}: {error}",
            "start the server with --admin_address=HOST:PORT and give the same address here, "
            f"or in ${ADDRESS_VARIABLE}",
        )

    def _patience(self) -> float:
        """Returns the socket timeout. The server refuses an invalid wait, so any timeout will do for that."""
        if self._stated_patience is not None:
            return self._stated_patience
        wait = self._wait if 0 <= self._wait <= LONGEST_WAIT else LONGEST_WAIT
        return wait + MARGIN_SECONDS

    def waiting(self, path: str) -> str:
        """Returns ``path`` with the time that the server may take."""
        return f"{path}?{urlencode({'wait': self._wait})}"


def _fields(data: bytes) -> Fields | None:
    """Returns the JSON object that ``data`` is; None if it is none."""
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None


def _refusal(status: str, fields: Fields) -> StatusError:
    """Makes the error of an answer; of one that is not the administration's, but a proxy's, by its status."""
    if not isinstance(fields.get("error"), str):
        return StatusError("UNKNOWN", f"the answer is {status}, without the reason", NOT_IT)
    return StatusError(str(fields.get("code", "UNKNOWN")), fields["error"], str(fields.get("hint", "")))


def models_parser() -> argparse.ArgumentParser:
    """Returns the parser of ``servable models``."""
    parser = _parser(
        "models",
        "List the models of a running server, their versions and states. servable models prefetch NAME…: "
        "have models loaded that are loaded on demand, as they will be asked.",
    )
    parser.add_argument("name", nargs="?", help="only this model; or prefetch")
    parser.add_argument("names", nargs="*", metavar="NAME", help="after prefetch: the models to load")
    return parser


def models(argv: Sequence[str]) -> int:
    """Runs ``servable models [NAME]`` and ``servable models prefetch NAME…``."""
    parser = models_parser()
    given = parser.parse_intermixed_args(argv)
    if given.name == "prefetch" and given.names:
        return _run(given, lambda server: _prefetch(server, given))
    if given.names:
        parser.error(f"expected one NAME, or prefetch NAME…, got {given.name} {' '.join(given.names)}")

    def work(server: Administration) -> int:
        path = "/admin/models" + (f"/{part(given.name)}" if given.name else "")
        try:
            fields = server.ask("GET", path)
        except StatusError as error:
            if given.name == "prefetch" and error.code == "NOT_FOUND":
                hint = "to have models loaded, name them: servable models prefetch NAME…"
                raise StatusError(error.code, error.message, hint) from None
            raise
        _tell(given, fields, [fields] if given.name else fields["models"])
        return 0

    return _run(given, work)


def _prefetch(server: Administration, given: argparse.Namespace) -> int:
    """Has all models begin to load, then waits for them one after the other. Those not known hold up none."""
    begun, unknown = [], []
    for name in given.names:
        path = f"/admin/models/{part(name)}/prefetch"
        try:
            server.ask("POST", f"{path}?wait=0")
            begun.append(path)
        except StatusError as error:
            if error.code != "NOT_FOUND":
                raise
            unknown.append(error)
    told = [server.ask("POST", server.waiting(path)) for path in begun]
    if told:
        _tell(given, {"models": told}, told)
    if unknown:
        said = "; ".join(error.message for error in unknown)
        raise StatusError("NOT_FOUND", said, unknown[0].hint)
    return 0 if all(one["standing"] == "available" for one in told) else 1


def load_parser() -> argparse.ArgumentParser:
    """Returns the parser of ``servable load``."""
    parser = _parser(
        "load", "Serve a model, or another path or version policy of one that is served; its labels stay."
    )
    parser.add_argument("name")
    parser.add_argument("path", help="base path: the folder of numbered versions, a model's file, or a URI")
    parser.add_argument(
        "--versions",
        help="latest, latest:N, all, or numbers: 3,4 (default: what it is now; of a new model the latest)",
    )
    return parser


def load(argv: Sequence[str]) -> int:
    """Runs ``servable load NAME PATH``."""
    parser = load_parser()
    given = parser.parse_args(argv)
    path = given.path if "://" in given.path else os.path.abspath(os.path.expanduser(given.path))
    entry: Fields = {"base_path": path}
    try:
        if given.versions is not None:
            entry["model_version_policy"] = version_policy(given.versions)
    except ValueError as error:
        parser.error(str(error))

    def work(server: Administration) -> int:
        fields = server.ask("PUT", server.waiting(f"/admin/models/{part(given.name)}"), entry)
        _tell(given, fields)
        return 0 if fields["standing"] in ("available", "on_demand") else 1

    return _run(given, work)


def unload_parser() -> argparse.ArgumentParser:
    """Returns the parser of ``servable unload``."""
    parser = _parser("unload", "Stop serving a model; requests in flight are answered.")
    parser.add_argument("name")
    return parser


def unload(argv: Sequence[str]) -> int:
    """Runs ``servable unload NAME``."""
    given = unload_parser().parse_args(argv)

    def work(server: Administration) -> int:
        server.ask("DELETE", f"/admin/models/{part(given.name)}")
        unloaded = {"name": given.name, "unloaded": True}
        print(json.dumps(unloaded, indent=2) if given.json else f"{given.name} is served no longer")
        return 0

    return _run(given, work)


def label_parser() -> argparse.ArgumentParser:
    """Returns the parser of ``servable label``."""
    parser = _parser("label", "Put labels on versions of a model; LABEL= takes one away.")
    parser.add_argument("name")
    parser.add_argument("labels", nargs="+", metavar="LABEL=VERSION")
    return parser


def label(argv: Sequence[str]) -> int:
    """Runs ``servable label NAME LABEL=VERSION…``."""
    parser = label_parser()
    given = parser.parse_intermixed_args(argv)
    changes: dict[str, int | None] = {}
    for one in given.labels:
        text, equals, version = one.rpartition("=")
        if not equals or not text or (version and not _is_version(version)):
            parser.error(f"expected LABEL=VERSION or LABEL=, got {one!r}")
        changes[text] = int(version) if version else None

    def work(server: Administration) -> int:
        fields = server.ask("PATCH", f"/admin/models/{part(given.name)}/labels", changes)
        _tell(given, fields)
        return 0

    return _run(given, work)


def reload_parser() -> argparse.ArgumentParser:
    """Returns the parser of ``servable reload``."""
    parser = _parser(
        "reload", "Load a model's versions again from their files, or apply the config file again."
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("name", nargs="?")
    which.add_argument("--config", action="store_true", help="the model config file instead of a model")
    return parser


def reload(argv: Sequence[str]) -> int:
    """Runs ``servable reload NAME`` and ``servable reload --config``."""
    given = reload_parser().parse_args(argv)

    def work(server: Administration) -> int:
        if given.config:
            fields = server.ask("POST", "/admin/config/reload")
            count = len(fields["model_config_list"].get("config", []))
            said = f"the config file is applied: {count} models"
            print(json.dumps(fields, indent=2) if given.json else said)
            return 0
        fields = server.ask("POST", server.waiting(f"/admin/models/{part(given.name)}/reload"))
        _tell(given, fields)
        return 0 if fields["standing"] in ("available", "on_demand") else 1

    return _run(given, work)


def _tell(given: argparse.Namespace, fields: Fields, listed: Sequence[Fields] | None = None) -> None:
    """Prints what the server said of a model, or of those listed: as it is with ``--json``, or as a table."""
    if given.json:
        print(json.dumps(fields, indent=2))
    else:
        print(models_table([fields] if listed is None else listed, Colours.of(sys.stdout)), end="")


def version_policy(text: str) -> Fields:
    """Parses ``latest``, ``latest:2``, ``all`` or ``3,4`` into a ServableVersionPolicy.

    Raises ``ValueError``.
    """
    kind, _, count = text.partition(":")
    if kind == "latest" and (not count or _is_version(count)):
        return {"latest": {"num_versions": int(count or 1)}}
    if text == "all":
        return {"all": {}}
    numbers = text.split(",")
    if not all(_is_version(one.strip()) for one in numbers):
        raise ValueError(f"--versions expects latest, latest:N, all, or numbers like 3,4; got {text!r}")
    return {"specific": {"versions": [int(one) for one in numbers]}}


def _is_version(text: str) -> bool:
    """True for a number that a version may have, or that is not much larger."""
    return text.isascii() and text.isdigit() and len(text) < 20


def models_table(listed: Sequence[Fields], colours: Colours | None = None) -> str:
    """Formats one row per version, errors below; a model without versions has a row of its own."""
    rows, notes = [], []
    for model in listed:
        by_version: dict[int, list[str]] = {}
        for text, version in model.get("labels", {}).items():
            by_version.setdefault(version, []).append(text)
        for one in model["versions"]:
            rows.append(_row(model["name"], one, by_version.get(one["version"], [])))
            if "error" in one:
                error = one["error"]
                notes.append(f"{model['name']} version {one['version']}: {error['code']}: {error['message']}")
        if not model["versions"]:
            rows.append((model["name"], "-", model["standing"], "", "", "", model.get("base_path", "")))
    heads = ("MODEL", "VERSION", "STATE", "LABELS", "SIZE", "LOADED IN", "PATH")
    paint = {"AVAILABLE": "good", "FAILED": "bad"}
    known = colours or Colours(False)

    def painted(column: int, cell: str) -> str:
        name = paint.get(cell.strip(), "") if heads[column] == "STATE" else ""
        return getattr(known, name)(cell) if name else cell

    return table(heads, rows, painted) + "".join(f"{printable(note.rstrip())}\n" for note in notes)


def _row(name: str, version: Fields, labels: Sequence[str]) -> tuple[str, ...]:
    seconds = version.get("load_seconds")
    return (
        name,
        str(version["version"]),
        "FAILED" if "error" in version else version["state"],
        ",".join(sorted(labels)),
        size_text(version["file_bytes"]) if "file_bytes" in version else "",
        "" if seconds is None else f"{seconds:.2f} s",
        version.get("path", ""),
    )


def _parser(command: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"servable {command}", description=description)
    address_argument(parser)
    parser.add_argument("--json", action="store_true", help="print what the server said")
    parser.add_argument("--wait", type=float, default=60.0, help="seconds to wait for loads (default 60)")
    return parser


def address_argument(parser: argparse.ArgumentParser) -> None:
    """Adds ``--admin_address``, the address of the server's administration, and the files for TLS."""
    parser.add_argument(
        "--admin_address",
        "--admin-address",
        default=os.environ.get(ADDRESS_VARIABLE, DEFAULT_ADDRESS),
        help=f"HOST:PORT of the administration, https://HOST:PORT with TLS (default ${ADDRESS_VARIABLE}, "
        f"else {DEFAULT_ADDRESS})",
    )
    for name, said in (
        ("ca", "of the authorities to trust with TLS, instead of the system's"),
        ("cert", "of this client's certificate, for a server with --tls_client_ca_file"),
        ("key", "of its key, if that is not in the same file"),
    ):
        parser.add_argument(
            f"--{name}_file",
            f"--{name}-file",
            metavar="FILE",
            default=os.environ.get(f"SERVABLE_{name.upper()}_FILE", ""),
            help=f"PEM file {said} (default $SERVABLE_{name.upper()}_FILE)",
        )


def _run(given: argparse.Namespace, work: Callable[[Administration], int]) -> int:
    return asked(given, given.wait, work)


def asked(given: argparse.Namespace, wait: float, work: Callable[[Administration], int]) -> int:
    """Runs ``work`` with the server of ``address_argument``, which may take ``wait`` seconds.

    Returns the exit status.
    """
    trust = Trust(given.ca_file, given.cert_file, given.key_file)
    token = next(filter(None, map(os.environ.get, TOKEN_VARIABLES)), "")
    server = Administration(given.admin_address, token, wait, trust)
    try:
        return work(server)
    except StatusError as error:
        print(printable(f"servable: {error}"), file=sys.stderr)
        if error.hint:
            print(printable(f"hint: {error.hint}"), file=sys.stderr)
    except (ServableError, OSError) as error:
        print(f"servable: {error}", file=sys.stderr)
    return 1


def part(name: str) -> str:
    """Returns ``name`` quoted as a part of a path."""
    return quote(name, safe="")
