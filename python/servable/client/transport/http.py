"""Calls over HTTP/1.1 with httpx: connections are kept, for all threads or for the tasks of an event loop."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

from servable.client.packages import load
from servable.client.reply import Reply
from servable.client.transport.address import Address
from servable.client.transport.connection import Connection, Tls, closed
from servable.client.transport.request import Request
from servable.errors import (
    DeadlineExceededError,
    InvalidArgumentError,
    StatusError,
    UnavailableError,
    UnknownError,
    invalid_argument,
    status_error,
)

if TYPE_CHECKING:
    import httpx

# The status table of TensorFlow Serving's REST API in reverse: of codes that share a status, the more likely
# one. 413, 502 and the like come from proxies.
_CODES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    408: "DEADLINE_EXCEEDED",
    409: "ABORTED",
    413: "RESOURCE_EXHAUSTED",
    415: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_SHOWN = 1000
"""Most characters shown of an error text that is not the server's own JSON."""


class HttpTransport:
    """Sends calls and waits. Any number of threads may share one."""

    def __init__(self, address: Address, connection: Connection) -> None:
        httpx = load("httpx")
        self._address = address
        self._connect_seconds = connection.connect_timeout
        transport = httpx.HTTPTransport(**_transport_options(httpx, address, connection))
        self._client = httpx.Client(**_client_options(address, connection, transport))

    def send(self, request: Request, seconds: float | None) -> bytes:
        """Returns the reply's body. Raises ``StatusError``s.

        httpx limits each read, not their sum: the sum is checked between reads, so that a server that sends
        drop by drop can stretch the limit, at most to twice its length.
        """
        import httpx

        if self._client.is_closed:
            raise closed()
        until = None if seconds is None else time.monotonic() + seconds
        options = _request_options(self._address, request, self._timeout(seconds))
        try:
            with self._client.stream(**options) as response:
                parts = []
                for part in response.iter_bytes():
                    parts.append(part)
                    if until is not None and time.monotonic() > until:
                        raise _too_late()
            return _body(response, b"".join(parts))
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise _as_status(error, self._address) from error

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def _timeout(self, seconds: float | None) -> Any:
        return _timeout(seconds, self._connect_seconds)


class AsyncHttpTransport:
    """Sends calls from one event loop."""

    def __init__(self, address: Address, connection: Connection) -> None:
        httpx = load("httpx")
        self._address = address
        self._connect_seconds = connection.connect_timeout
        transport = httpx.AsyncHTTPTransport(**_transport_options(httpx, address, connection))
        self._client = httpx.AsyncClient(**_client_options(address, connection, transport))

    async def send(self, request: Request, seconds: float | None) -> bytes:
        """Returns the reply's body. Raises ``StatusError``s."""
        import httpx

        options = _request_options(self._address, request, _timeout(seconds, self._connect_seconds))
        try:
            response = await asyncio.wait_for(self._client.request(**options), seconds)
        except (TimeoutError, asyncio.TimeoutError):
            raise _too_late() from None
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise _as_status(error, self._address) from error
        return _body(response, response.content)

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()


def _transport_options(httpx: Any, address: Address, connection: Connection) -> dict[str, Any]:
    options: dict[str, Any] = {
        # One connection per caller: a limit would be an invisible queue.
        "limits": httpx.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=60.0),
        "trust_env": False,
    }
    if address.socket:
        options["uds"] = address.socket
    if address.tls:
        options["verify"] = _context(connection.tls)
    return options


def _context(tls: Tls) -> Any:
    import ssl

    named = f"ca_file {tls.ca_file}"
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
        if tls.cert_file is not None:
            named = f"cert_file {tls.cert_file}"
            if tls.key_file is not None:
                named += f" with key_file {tls.key_file}"
            # Without a password: OpenSSL would ask for one on the terminal.
            context.load_cert_chain(tls.cert_file, tls.key_file, password="")
    except (OSError, ValueError) as error:
        said = error.strerror or error if isinstance(error, OSError) else error
        raise invalid_argument(f"{named} cannot be read: {said}") from None
    return context


def _client_options(address: Address, connection: Connection, transport: Any) -> dict[str, Any]:
    # The server compresses replies on request; on a local network that costs more than it saves.
    # TensorFlow Serving does not look at Accept.
    headers = {
        "Accept": "application/json;compact=true",
        "Accept-Encoding": "identity",
        "User-Agent": "servable",
        **connection.headers,
    }
    return {"transport": transport, "headers": headers, "trust_env": False}


def _request_options(address: Address, request: Request, timeout: Any) -> dict[str, Any]:
    content = {} if request.body is None else {"content": request.body}
    headers = {} if request.body is None else {"Content-Type": "application/json", **request.headers}
    return {
        "method": "GET" if request.body is None else "POST",
        "url": address.target + request.path,
        "headers": headers,
        "timeout": timeout,
        **content,
    }


def _timeout(seconds: float | None, connect_seconds: float | None) -> Any:
    import httpx

    limits = [one for one in (seconds, connect_seconds) if one is not None]
    return httpx.Timeout(seconds, connect=min(limits, default=None))


def _body(response: httpx.Response, content: bytes) -> bytes:
    if response.status_code == 200:
        return Reply.of(content, response.headers.get("content-type"), response.headers.get("accept-post"))
    code = _CODES.get(response.status_code, "UNKNOWN")
    message = _error_text(content)
    if message is None:
        shown = content.decode("utf-8", "replace").strip()[:_SHOWN]
        message = f"HTTP status {response.status_code}" + (f": {shown}" if shown else "")
    raise status_error(code, message)


def _error_text(content: bytes) -> str | None:
    """Returns the text of TensorFlow Serving's ``{"error": …}``, or None if the body is anything else."""
    try:
        document = json.loads(content.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    text = document.get("error") if isinstance(document, dict) else None
    return text if isinstance(text, str) else None


def _too_late() -> DeadlineExceededError:
    return DeadlineExceededError("DEADLINE_EXCEEDED", "the server did not answer in time")


def _as_status(error: Exception, address: Address) -> StatusError:
    import httpx

    where = address.socket or address.target
    said = str(error) or type(error).__name__
    if isinstance(error, httpx.ConnectTimeout):
        return UnavailableError("UNAVAILABLE", f"no connection to {where} in time")
    if isinstance(error, httpx.TimeoutException):
        return _too_late()
    if isinstance(error, (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ProxyError)):
        return UnavailableError("UNAVAILABLE", f"no answer from {where}: {said}")
    if isinstance(error, UnicodeError):
        # Of the host's name, which the system's resolver cannot be asked for.
        return UnavailableError("UNAVAILABLE", f"no host can have the name in {where}")
    if isinstance(error, (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError)):
        return InvalidArgumentError("INVALID_ARGUMENT", f"the request cannot be sent to {where}: {said}")
    return UnknownError("UNKNOWN", f"{where}: {said}")
