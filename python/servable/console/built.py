"""The built files of the console's page, which the package brings along in ``assets/``.

Their sources are in ``console/``, and ``make console`` builds them.
"""

from __future__ import annotations

import logging
from pathlib import Path

_log = logging.getLogger("console")

FOLDER = Path(__file__).parent / "assets"
PAGE = "index.html"

MOST_BYTES = 16 << 20
"""Of all files together: the server has them in memory."""

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
}
"""Media types by the ending of a name; not those of the system, which differ."""

File = tuple[str, str, bytes]
"""Path below the root, media type, content."""


def files(folder: Path | None = None) -> list[File]:
    """Returns every file, sorted by path; none, with a warning, if they are missing or cannot be read."""
    folder = folder or FOLDER
    try:
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        read = [_file(folder, path) for path in paths]
    except OSError as error:
        _log.warning("the console is not there: %s cannot be read (%s)", folder, error.strerror or error)
        return []
    if not any(name == PAGE for name, _, _ in read):
        _log.warning(
            "the console is not there: %s has no %s. Install the package again, or run `make console` in a "
            "checkout; --console=false leaves the console out",
            folder,
            PAGE,
        )
        return []
    size = sum(len(content) for _, _, content in read)
    if size > MOST_BYTES:
        _log.warning("the console is not there: %s has %d bytes, more than %d", folder, size, MOST_BYTES)
        return []
    return read


def _file(folder: Path, path: Path) -> File:
    kind = _TYPES.get(path.suffix.lower(), "application/octet-stream")
    return path.relative_to(folder).as_posix(), kind, path.read_bytes()
