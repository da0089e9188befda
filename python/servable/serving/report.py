"""Reports a start in the log: what was loaded, what failed and why, the addresses, and example requests.

Listens to the manager; everything goes through the log, so that one level and one format apply to all of it.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from servable.errors import CancelledError, StatusError
from servable.savedmodel import doctor
from servable.savedmodel.signature import Signature
from servable.sources import AspiredVersion

if TYPE_CHECKING:
    from servable.lifecycle.interfaces import Report

_log = logging.getLogger("servable")


class StartReport:
    """The manager's ``Listener``: one line per version loaded, failed, unloaded.

    Then the addresses and curl commands. scheme: of REST's URLs.
    """

    def __init__(self, scheme: str = "http") -> None:
        self._scheme = scheme
        self._lock = threading.Lock()
        self._signatures: dict[str, tuple[int, list[Signature]]] = {}
        self._rest_at: str | None = None

    def loaded(self, model: str, version: AspiredVersion, report: Report) -> None:
        """Logs one line: name, version, path, seconds, signatures."""
        signatures = [Signature(*one) for one in report.signatures]
        _log.info(
            "loaded %s version %d from %s in %.2f s; %s",
            model,
            version.version,
            version.path,
            report.seconds,
            _described(signatures, report.placement),
        )
        with self._lock:
            newest = self._signatures.get(model, (-1, []))[0]
            first_after_start = self._rest_at is not None and model not in self._signatures
            if version.version >= newest:
                self._signatures[model] = (version.version, signatures)
        if first_after_start:
            self._log_curl(model)

    def failed(self, model: str, version: AspiredVersion, error: StatusError, next_try: float | None) -> None:
        """Logs the error, a hint below it, and whether the load will be retried.

        A load that was ended has not failed.
        """
        if isinstance(error, CancelledError):
            _log.info("ended the load of %s version %d: %s", model, version.version, error.message)
            return
        text = f"{error.code}: {error.message}".rstrip().replace("\n", "\n    ")
        outlook = "not tried again" if next_try is None else f"next try in {next_try:g} s"
        hint = error.hint or doctor.load_hint(version.path, error.message)
        _log.error(
            "could not load %s version %d from %s (%s): %s%s",
            model,
            version.version,
            version.path,
            outlook,
            text,
            f"\n    {hint}" if hint else "",
        )

    def unloaded(self, model: str, version: AspiredVersion) -> None:
        """Logs one line."""
        _log.info("unloaded %s version %d", model, version.version)
        with self._lock:
            # The name stays: a model that comes back is no new one.
            if self._signatures.get(model, (-1, []))[0] == version.version:
                self._signatures[model] = (-1, [])

    def open_at(self, addresses: dict[str, str], *, console: bool = False) -> None:
        """Logs the lines that scripts wait for, with the actual ports, and a curl command for each model.

        console: it is on the REST port.
        """
        if "grpc" in addresses:
            _log.info("Running gRPC ModelServer at %s ...", _shown(addresses["grpc"], "0.0.0.0"))
        if "grpc_socket" in addresses:
            _log.info("Running gRPC ModelServer at UNIX socket %s ...", addresses["grpc_socket"])
        if "rest" not in addresses:
            return
        rest_at = _shown(addresses["rest"], "localhost")
        with self._lock:
            self._rest_at = rest_at
            models = list(self._signatures)
        for model in models[:10]:
            self._log_curl(model)
        _log.info("Exporting HTTP/REST API at:%s ...", rest_at)
        if console:
            _log.info("in a browser: %s://%s/", self._scheme, rest_at)

    def _log_curl(self, model: str) -> None:
        with self._lock:
            rest_at, signatures = self._rest_at, self._signatures[model][1]
        # Not needed before the ports are open, so it is kept out of the time to the first answer.
        from servable.savedmodel.example_request import curl_line

        at = f"{self._scheme}://{rest_at}"
        line = curl_line(model, signatures, at) if rest_at is not None else ""
        if line:
            _log.info("try %s:\n    %s", model, line)


def _shown(address: str, everywhere: str) -> str:
    """Returns ``address``; if it is every interface, in TensorFlow Serving's notation."""
    host, _, port = address.rpartition(":")
    return f"{everywhere}:{port}" if host in ("[::]", "0.0.0.0") else address


def _described(signatures: list[Signature], placement: str) -> str:
    texts = [
        f"{one.name}({_arguments(one.inputs)}) -> ({_arguments(one.outputs)})"
        for one in sorted(signatures, key=lambda one: one.name != "serving_default")
        if not one.name.startswith("__")
    ]
    shown = "; ".join(texts[:4]) + (f"; and {len(texts) - 4} more signatures" if len(texts) > 4 else "")
    where = {"caller": "in the caller's thread", "pool": "in threads of the scheduler"}.get(
        placement, placement
    )
    return (shown or "no signatures") + (f"; runs {where}" if where else "")


def _arguments(arguments: list[tuple[str, str, str]]) -> str:
    shown = [
        f"{alias}: {dtype}{'' if shape == 'unknown' else shape}" for alias, dtype, shape in arguments[:8]
    ]
    return ", ".join(shown) + (f", … {len(arguments) - 8} more" if len(arguments) > 8 else "")
