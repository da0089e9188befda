"""Changes of what a running server serves: by its model config file, which is read again, and by clients.

A change that is refused, or a file that cannot be read, changes nothing; the log says why.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial

from servable.admin.changes import Changes
from servable.admin.model_control import ModelControl
from servable.config.base_paths import Way
from servable.config.values import ModelConfig, ServerConfig
from servable.errors import StatusError
from servable.lifecycle.availability import Availability
from servable.lifecycle.manager import Manager
from servable.serving.settling import not_available

_log = logging.getLogger("servable.server")


class ConfigChanges:
    """Applies changed configurations to ``manager``, and records in ``changes`` what came of them."""

    def __init__(
        self, config: ServerConfig, manager: Manager, model_control: ModelControl, changes: Changes
    ) -> None:
        self._config = config
        self._manager = manager
        self._model_control = model_control
        self._changes = changes
        # What the file said when it was last applied, and why it could not be the last time.
        self._followed: tuple[ModelConfig, ...] | None = config.models
        self._not_applied: tuple[str, str] | None = None
        self._rereading = threading.Lock()

    # ---- the file

    def reload(self) -> None:
        """Reads the model config file again and applies it; errors are logged and change nothing."""
        try:
            self._changes.record("reload_config", None, self.reread)
        except StatusError as error:
            self._log_not_applied(error)

    def reread(self) -> None:
        """Does the same as ``reload``, but raises the ``StatusError``, and records nothing."""
        # One at a time, so that what was read last is applied last.
        with self._rereading:
            models = self._read()
            self._apply(models)
            self._followed = models

    def reread_in_time(self) -> bool:
        """Does the same for the first configuration. Returns whether it is applied."""
        try:
            self.reread()
        except StatusError as error:
            self._log_not_applied(error)
            return False
        return True

    def follow(self, ended: threading.Event) -> None:
        """Looks at the file every ``--model_config_file_poll_wait_seconds``, until ``ended``."""
        while not ended.wait(self._config.config_poll_seconds):
            self._reload_if_changed()

    def _reload_if_changed(self) -> None:
        """Applies the file only if it has changed: otherwise it would undo an administrator's changes."""
        try:
            with self._rereading:
                models = self._read()
                if models != self._followed:
                    self._changes.record("reload_config", None, lambda: self._apply(models))
                    self._followed = models
            if self._not_applied is not None:
                self._not_applied = None
                _log.info("%s can be applied again", self._config.model_config_file)
        except Exception as error:
            # The next poll will most likely report the same, or find a readable file.
            said = f"{type(error).__name__}: {error}", getattr(error, "hint", "")
            if said != self._not_applied:
                self._not_applied = said
                self._log_not_applied(error)

    def _read(self) -> tuple[ModelConfig, ...]:
        from servable.config.config_files import read_model_config_file

        return read_model_config_file(self._config.model_config_file, replacing=True)

    def _apply(self, models: tuple[ModelConfig, ...], way: Way = Way.START) -> None:
        with self._model_control.replaced():
            self._manager.apply(models, self._config.allow_unavailable_labels, way)

    def _log_not_applied(self, error: Exception) -> None:
        file = self._config.model_config_file
        if not isinstance(error, StatusError):
            _log.error("%s is not applied", file, exc_info=error)
            return
        hint = f"\n    {error.hint}" if error.hint else ""
        _log.error("%s is not applied: %s%s", file, error, hint)

    # ---- clients

    def reload_request(self, serialized: bytes, timeout: float | None = None) -> None:
        """Handles HandleReloadConfigRequest: applies a ModelServerConfig, waits for the models new in it.

        timeout: seconds until the caller gives up (DEADLINE_EXCEEDED; the configuration stays applied), None
        if the caller never does: a model with nothing to load is then an immediate error instead of an
        endless wait. Raises ``StatusError``; a refused request changes nothing.
        """
        from servable.config.config_files import models_of
        from servable.messages import message_class

        if not self._config.allow_reload_rpc:
            raise StatusError(
                "PERMISSION_DENIED",
                "HandleReloadConfigRequest is off: clients may not change what this server serves",
                "start it with --allow_reload_rpc, or use the administration",
            )
        config = message_class("tensorflow.serving.ModelServerConfig").FromString(serialized)
        if config.WhichOneof("config") is None:
            return
        models = models_of(config)
        new = {model.name for model in models} - set(self._manager.availability())
        self._changes.record("reload_config", None, lambda: self._apply(models, Way.RPC), "client")
        self._wait_for_new(new, timeout)

    def _wait_for_new(self, names: set[str], timeout: float | None) -> None:
        ended = {Availability.AVAILABLE, Availability.ON_DEMAND, Availability.FAILED} | (
            {Availability.MISSING} if timeout is None else set()
        )
        # A name that a later reload has removed is no longer waited for.
        done = self._manager.wait(
            lambda now: all(now.get(name, Availability.FAILED) in ended for name in names), timeout
        )
        availability = self._manager.availability()
        late = sorted(name for name in names if availability.get(name, Availability.FAILED) not in ended)
        if not done and late:
            raise StatusError(
                "DEADLINE_EXCEEDED", f"models still without an available version: {', '.join(late)}"
            )
        bad = {
            name for name in names if availability.get(name) in (Availability.FAILED, Availability.MISSING)
        }
        if bad:
            raise StatusError("UNKNOWN", not_available(self._manager, bad, "model(s)"))

    def control_model(self, action: str, name: str, has_left: Callable[[], bool]) -> None:
        """Handles a client's load or unload by the Open Inference Protocol. Raises ``StatusError``."""
        _log.info("%s of model %s by the Open Inference Protocol", action, name)
        try:
            answer = partial(self._model_control.answer, action, name, has_left)
            self._changes.record(action, name, answer, "client")
        finally:
            if has_left():
                _log.info("nobody waits any more for the %s of model %s", action, name)
