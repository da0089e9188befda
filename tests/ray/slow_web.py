"""A web server with a model in an archive, of which the end comes once a test says so."""

from __future__ import annotations

import io
import threading
import zipfile
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

SECONDS = 120.0
"""Longest wait for the test."""


class SlowWeb:
    """The server, as a context. url: of its folder, where every ``.zip`` is the model, but ``none.zip``."""

    def __init__(self, model: Path) -> None:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for file in sorted(one for one in model.rglob("*") if one.is_file()):
                archive.write(file, file.relative_to(model))
        self.goes_on = threading.Event()
        self._content = packed.getvalue()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> SlowWeb:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.goes_on.set()
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # as its base class
                content = web._content
                if self.path == "/none.zip":
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                half = len(content) // 2
                # Who only asks whether it is there takes none of it.
                with suppress(OSError):
                    self.wfile.write(content[:half])
                    self.wfile.flush()
                    web.goes_on.wait(SECONDS)
                    self.wfile.write(content[half:])

            def log_message(self, *_: Any) -> None:
                """Logs nothing."""

        return Handler
