"""``servable openapi URL|PATH``: prints the OpenAPI document of a running server, of one of its models, or of
a model's files, which a server of this process loads for that.

Exit statuses: 0 printed, 1 there is no server or no document, 2 invalid command line.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys

from servable.bench.asking import NotAnsweredError, Server
from servable.bench.plan import CoreTarget
from servable.bench.target import Target, parse_target
from servable.cli.printable import printable
from servable.cli.tls_options import add_tls_options
from servable.errors import ServableError, StatusError, UsageError

EXIT_ERROR = 1
EXIT_USAGE = 2
TOKEN_VARIABLE = "SERVABLE_TOKEN"
_MODEL = re.compile(
    r"(?P<server>https?://.+?)(?P<model>/v1/models/[^/:?#]+(?:/versions/[0-9]+|/labels/[^/:?#]+)?)"
    r"(?::predict|/metadata|/openapi\.json)?/?"
)
_SERVER = re.compile(r"(?P<server>https?://(?!.*/v1(?:/|$))[^?#]+?)(?:/openapi\.json)?/?")

_INTRO = """\
Print the OpenAPI 3.1 document of a running server, or of one of its models.

URL is http://HOST:PORT for the server, http://HOST:PORT/v1/models/NAME for a model; /versions/N or
/labels/LABEL may follow the name. A token comes from $SERVABLE_TOKEN.

PATH is a model as servable serve takes it, where no server runs: its newest version is loaded, and the
document says what a server at http://localhost:8501 would.
"""

_EXAMPLES = """\
examples:
  servable openapi http://localhost:8501 > openapi.json
  servable openapi http://localhost:8501/v1/models/half_plus_two/versions/1
  servable openapi models/half_plus_two
"""

WITHOUT_SERVER = "http://localhost:8501"
"""The address in the document of a model's files: the default one of a server."""


def openapi(argv: list[str]) -> int:
    """Runs the subcommand; returns the exit status."""
    try:
        options = parser().parse_args(argv)
    except SystemExit as end:
        # argparse has printed the help (0) or the error (2).
        return int(end.code or 0)
    try:
        print(document(options))
    except UsageError as error:
        print(f"servable openapi: {error}\nsee servable openapi --help", file=sys.stderr)
        return EXIT_USAGE
    except ServableError as error:
        print(printable(f"servable openapi: {error}"), file=sys.stderr)
        if isinstance(error, StatusError) and error.hint:
            print(printable(f"hint: {error.hint}"), file=sys.stderr)
        return EXIT_ERROR
    return 0


def parser() -> argparse.ArgumentParser:
    """Returns the command's parser."""
    parser = argparse.ArgumentParser(
        prog="servable openapi",
        description=_INTRO,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("url", metavar="URL|PATH", help="the server, one of its models, or a model's files")
    add_tls_options(parser)
    parser.add_argument("--timeout", metavar="SECONDS", type=float, default=30.0, help="default %(default)g")
    return parser


def document(options: argparse.Namespace) -> str:
    """Returns the document with the server's address in it. Raises ``ServableError``."""
    if "://" not in options.url and os.path.exists(options.url):
        return _of_files(options.url, options.timeout)
    target, path = place(options.url)
    text = _asked(target, path, options)
    return _addressed(text, target.shown, options.url)


def _asked(target: Target, path: str, options: argparse.Namespace) -> bytes:
    core = CoreTarget(
        grpc=False,
        host=target.host,
        port=target.port,
        tls=target.tls,
        ca_file=options.ca_file,
        cert_file=options.cert_file,
        key_file=options.key_file,
    )
    token = os.environ.get(TOKEN_VARIABLE, "")
    headers = (("Authorization", f"Bearer {token}"),) if token else ()
    try:
        return Server(target, core, headers, options.timeout).ask(path)
    except NotAnsweredError as error:
        if any(words in error.failure.text for words in ("Not Found: /", "Malformed request: ")):
            raise ServableError(f"{error}\nthe server describes its API only with --openapi") from None
        raise


def _of_files(path: str, timeout: float) -> str:
    """Returns the document of a model that no server has."""
    from urllib.parse import quote

    from servable.embedded.server import serve

    # As ``servable serve`` has it, but for where it can be asked.
    with serve(path, port=None, console=False) as server:
        (name,) = server.models()
        target, _ = parse_target(server.url)
        core = CoreTarget(grpc=False, host=target.host, port=target.port)
        asked = Server(target, core, (), timeout)
        return _addressed(asked.ask(f"/v1/models/{quote(name, safe='')}/openapi.json"), WITHOUT_SERVER, path)


def _addressed(text: bytes, address: str, source: str) -> str:
    try:
        fields = json.loads(text)
        fields["servers"] = [{"url": address}]
    except (ValueError, TypeError):
        raise ServableError(f"what {source} answers is no OpenAPI document") from None
    return json.dumps(fields, indent=2, ensure_ascii=not _prints_unicode())


def place(url: str) -> tuple[Target, str]:
    """Returns the server that ``url`` names, and the path of the document there. Raises ``UsageError``."""
    if url.startswith(("grpc://", "grpcs://")):
        raise UsageError(f"{url!r} is an address of gRPC; OpenAPI is for REST: http://HOST:PORT")
    if "://" not in url:
        raise UsageError(
            f"{url!r} is neither a URL nor a path that is there: expected http://HOST:PORT, "
            "http://HOST:PORT/v1/models/NAME, or a model as servable serve takes it"
        )
    found = _MODEL.fullmatch(url) or _SERVER.fullmatch(url)
    if not found:
        raise UsageError(f"{url!r} is neither http://HOST:PORT nor http://HOST:PORT/v1/models/NAME")
    # What names the model stays as it is, percent-encoded.
    target, _ = parse_target(found["server"])
    return target, f"{target.prefix}{found.groupdict().get('model', '')}/openapi.json"


def _prints_unicode() -> bool:
    encoding = getattr(sys.stdout, "encoding", None) or ""
    return encoding.lower().replace("-", "") == "utf8"
