"""Makes ``Client`` from ``AsyncClient``: the same methods, arguments and docstrings, without ``await``.

Code is replaced by tokens. Strings and comments are replaced by ``TEXTS`` alone: if one still speaks of
``async`` or ``await``, that is an error.

Writes ``python/servable/client/sync_client.py``; with ``--check``, says whether it would write anything else.
"""

from __future__ import annotations

import argparse
import io
import re
import subprocess
import sys
import tokenize
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "python" / "servable" / "client"
ASYNC = FOLDER / "async_client.py"
SYNC = FOLDER / "sync_client.py"

TEXTS = {
    '''"""``AsyncClient``: a model server as an object, for asyncio.

``sync_client.py`` is generated from this file: run ``make client`` after a change here.
"""''': '''"""``Client``: a model server as an object.

Generated from ``async_client.py`` by ``make client``: edit that file instead.
"""''',
    "over REST or gRPC, for asyncio.": "over REST or gRPC.",
    """
    Messages may have any size. A client may be made anywhere and belongs to the event loop of its first call;
    any number of tasks may, and should, share it: it keeps its connections. Cancelling a task cancels its
    call. As an asynchronous context manager it closes them at the end.
""": """
    Messages may have any size. Threads may, and should, share a client: it keeps its connections. As a
    context manager it closes them at the end.
""",
    "import asyncio\n": "import time\n",
}
"""What is said otherwise where there is no event loop; every one has to be there."""
NAMES = {
    "AsyncClient": "Client",
    "asyncio.sleep": "time.sleep",
    "open_async_transport": "open_transport",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
}


def sync_client(source: str) -> str:
    """``sync_client.py`` as it follows from ``async_client.py``. Raises ``ValueError``."""
    for text, other in TEXTS.items():
        if text not in source:
            raise ValueError(f"{ASYNC.name} does not say {text!r} any more: change TEXTS of {__file__}")
        source = source.replace(text, other)
    source = _with_code_replaced(source)
    if found := re.search(r"\w*(async|await)\w*", source.replace(ASYNC.name, ""), re.IGNORECASE):
        raise ValueError(f"{found[0]} of {ASYNC.name} is left: say in {__file__} what becomes of it")
    return _formatted(source)


def _with_code_replaced(source: str) -> str:
    """Without ``async`` and ``await``, and with other ``NAMES``; strings and comments stay as they are."""
    code = [one for one in tokenize.generate_tokens(io.StringIO(source).readline) if one.string.strip()]
    lines = source.splitlines(keepends=True)
    # From the end, so that what is before keeps its place.
    for index in reversed(range(len(code))):
        end, other = _replaced(code[index:])
        if other is not None:
            row, start = code[index].start
            lines[row - 1] = lines[row - 1][:start] + other + lines[row - 1][end:]
    return "".join(lines)


def _replaced(code: list[tokenize.TokenInfo]) -> tuple[int, str | None]:
    """The column up to which the first tokens are replaced, and by what: None if they stay."""
    if code[0].type != tokenize.NAME:
        return 0, None
    if code[0].string in ("async", "await"):
        return code[1].start[1], ""
    for name, other in NAMES.items():
        parts = re.findall(r"\w+|\.", name)
        if [one.string for one in code[: len(parts)]] == parts:
            return code[len(parts) - 1].end[1], other
    return 0, None


def _formatted(source: str) -> str:
    """As ``make fmt`` leaves it: without ``async`` a line may fit that did not before."""
    command = [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(SYNC), "-"]
    return subprocess.run(command, input=source, stdout=subprocess.PIPE, text=True, check=True).stdout


def main(arguments: list[str] | None = None) -> str | None:
    """Writes the file, or says what is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the file is another")
    check = parser.parse_args(arguments).check
    made = sync_client(ASYNC.read_text())
    if not check:
        SYNC.write_text(made)
    elif SYNC.read_text() != made:
        return f"{SYNC.name} is not what {ASYNC.name} makes: make client"
    return None


if __name__ == "__main__":
    sys.exit(main())
