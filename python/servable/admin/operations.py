"""Administrative operations on a running server.

Models: inspect, load, unload, reload, label, spread traffic, record. Configuration: show, reload.

Takes and returns plain values; ``http.py`` converts them to and from HTTP. Every change is a new
configuration for the manager, so nothing can be done here that a config file or HandleReloadConfigRequest
could not do. A change lasts until the config file changes, a reload is requested, or the server ends.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from servable.admin.acceleration import acceleration_fields
from servable.admin.interfaces import Core, State
from servable.admin.model_control import ModelControl
from servable.admin.traffic import traffic_told
from servable.config.values import PLATFORM, Folder, ModelConfig, ServerConfig
from servable.errors import StatusError, invalid_argument
from servable.lifecycle.availability import Availability
from servable.lifecycle.inventory import Inventory, resident_bytes

if TYPE_CHECKING:
    from servable.config.traffic import Traffic
    from servable.savedmodel.signature import Signature

Fields = dict[str, Any]
Grown = Mapping[tuple[str, int], int]
"""By how many bytes loaded versions have grown since their loads."""

MOST_COUNTED = 1_000_000
"""Largest ``requests`` and ``every`` of a recording."""


class Management:
    """Operations on a running server. Every method may be called from any thread.

    control: of clients that load and unload models, with the manager. reread: applies the model config file
    again, raises ``StatusError``.
    """

    def __init__(
        self,
        config: ServerConfig,
        control: ModelControl,
        inventory: Inventory,
        core: Core,
        reread: Callable[[], None],
    ) -> None:
        self._config = config
        self._manager = control.manager
        self._decided = control.decided
        self._inventory = inventory
        self._core = core
        self._reread = reread

    # ---- looking

    def models(self) -> Fields:
        """Returns every configured model and every one with a known version, by name; and resident memory."""
        states = self._states_by_model()
        configured = {one.name: one for one in self._manager.configured()}
        availability, grown = self._manager.availability(), self._grown()
        return {
            "models": [
                self._model(name, configured.get(name), availability.get(name), states.get(name, ()), grown)
                for name in sorted(configured.keys() | states.keys())
            ],
            "resident_bytes": resident_bytes(),
        }

    def model(self, name: str) -> Fields:
        """Returns one model. Raises ``StatusError`` NOT_FOUND."""
        states, available = self._states_by_model(), self._manager.availability().get(name)
        if available is None and name not in states:
            raise self._unknown(name)
        return self._model(name, self._find(name), available, states.get(name, ()), self._grown())

    def _grown(self) -> Grown:
        """Returns what loaded versions have taken of the memory since their loads, if that is measured."""
        if not self._config.lifecycle.lazy_load:
            return {}
        return {(name, version): grown for name, version, _, _, grown in self._core.uses()}

    def _states_by_model(self) -> dict[str, list[State]]:
        grouped: dict[str, list[State]] = {}
        for state in self._core.states():
            grouped.setdefault(state[0], []).append(state)
        return grouped

    def _model(
        self,
        name: str,
        config: ModelConfig | None,
        available: Availability | None,
        states: Sequence[State],
        grown: Grown,
    ) -> Fields:
        fields: Fields = {"name": name, "standing": available.value if available else "removed"}
        if config is not None:
            from servable.config.config_files import policy_fields

            fields["base_path"] = config.base_path
            fields["version_policy"] = policy_fields(config.policy)
            fields["labels"] = dict(config.labels)
            if config.traffic is not None:
                fields["traffic"] = traffic_told(config.traffic, self._core.traffic(name))
            if config.pinned or name in self._config.lifecycle.pinned_models:
                fields["pinned"] = True
        newest_first = sorted(states, key=lambda state: -state[1])
        fields["versions"] = [self._version(state, grown) for state in newest_first]
        return fields

    def _version(self, of: State, grown: Grown) -> Fields:
        name, version, state, code, message = of
        fields: Fields = {"version": version, "state": state}
        if code != "OK":
            fields["error"] = {"code": code, "message": message}
        loading = self._manager.loading(name, version)
        if loading is not None:
            fields |= {"loading_seconds": round(loading[0], 3), "waits_for": loading[1]}
        known = self._inventory.of(name, version)
        if known is not None:
            fields |= {
                "path": known.path,
                "load_seconds": round(known.seconds, 3),
                "available_since": known.since,
                "file_bytes": known.bytes,
                "memory_bytes_estimate": known.memory_bytes,
                # In place of the estimate, too.
                **_measured(known.taken, grown.get((name, version), 0)),
                "runs_in": known.placement,
                "engines": self._engines(name, version) if state == "AVAILABLE" else {},
                "signatures": {
                    one.name: _signature(one) for one in known.signatures if not one.name.startswith("__")
                },
            }
        return fields

    def _engines(self, name: str, version: int) -> Fields:
        """Returns what runs each signature, and why, as far as the engine is chosen by measuring."""
        try:
            known = self._core.accelerations(name, version)
        except Exception as error:
            # It may have been unloaded meanwhile.
            if not hasattr(error, "code"):
                raise
            return {}
        return {one[0]: acceleration_fields(one) for one in known if not one[0].startswith("__")}

    def record(self, name: str, limits: Mapping[str, Any]) -> list[bytes]:
        """Records clients' requests as PredictionLogs; see ``_core.Server.record``.

        limits: ``requests`` (100), ``seconds`` (60), ``every`` (1). Waits until there are enough, ``seconds``
        at most. Raises ``StatusError``.
        """
        self._must_be_configured(name)
        requests, every = _count(limits, "requests", 100), _count(limits, "every", 1)
        seconds = limits.get("seconds", 60)
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= 3600:
            raise invalid_argument(f"seconds expects a number above 0, up to 3600, got {seconds!r}")
        return self._core.record(name, requests, every, seconds)

    def config(self) -> Fields:
        """Returns the configuration in force: the models as in a config file, and the values of the flags."""
        from servable.config.config_files import config_fields

        flags = dataclasses.asdict(dataclasses.replace(self._config, models=(), admin=None))
        del flags["models"], flags["admin"]
        flags["core"].pop("grpc_tls")
        flags["load"].pop("session_config")
        return {**config_fields(self._manager.configured()), "server": flags}

    def config_text(self) -> str:
        """Returns the models as a text ModelServerConfig, usable as a config file."""
        from servable.config.config_files import config_text

        return config_text(self._manager.configured())

    # ---- changing

    def load(self, name: str, entry: Mapping[str, Any], wait_seconds: float) -> Fields:
        """Adds or changes a model. entry: a ModelConfig in protobuf's JSON form, with at least ``base_path``.

        Fields missing from the entry (policy, labels, logging, traffic, pinned) stay as they are; an empty
        value removes them.

        Waits until the model is available or has failed, ``wait_seconds`` at most; the result tells which.
        """
        from servable.config.config_files import model_from_fields

        if not isinstance(entry, Mapping) or not (entry.get("base_path") or entry.get("basePath")):
            raise invalid_argument(f"base_path of model {name} is missing", '{"base_path": "/models/NAME"}')
        if entry.get("name", name) != name:
            raise invalid_argument(f"The path names model {name} and the body {entry['name']}")
        new = model_from_fields({"model_platform": PLATFORM, **entry, "name": name})

        def edited(models: tuple[ModelConfig, ...]) -> tuple[ModelConfig, ...]:
            before = next((one for one in models if one.name == name), None)
            now = new if before is None else _completed(new, entry, before)
            return (*(one for one in models if one.name != name), now)

        with self._decided(name):
            self._manager.change(edited, self._config.allow_unavailable_labels)
        return self._settled(name, wait_seconds)

    def unload(self, name: str) -> Fields:
        """Removes a model from the configuration; it unloads once its last request is answered.

        One that a client has unloaded is not there for clients to load again either.
        """
        with self._decided(name) as was_unloaded:
            if not was_unloaded:
                self._must_be_configured(name)
            self._manager.change(lambda models: tuple(one for one in models if one.name != name))
        return {"name": name, "standing": "removed"}

    def reload(self, name: str, wait_seconds: float) -> Fields:
        """Loads every version of a model from its files again; the old ones serve until the new ones do."""
        self._must_be_configured(name)
        if not self._manager.reload(name, wait_seconds):
            raise StatusError("DEADLINE_EXCEEDED", f"Model {name} is still being reloaded")
        return self.model(name)

    def prefetch(self, name: str, wait_seconds: float) -> Fields:
        """Has the latest version of a model loaded, if it is loaded on demand: a hint that it will be asked.

        Waits for that, ``wait_seconds`` at most.
        """
        self._must_be_configured(name)
        self._manager.prefetch(name)
        if wait_seconds > 0:
            waiting = (Availability.ON_DEMAND, Availability.WAITING)
            self._manager.wait(lambda now: now.get(name, Availability.FAILED) not in waiting, wait_seconds)
        return self.model(name)

    def label(self, name: str, changes: Mapping[str, int | None]) -> Fields:
        """Sets labels, and removes those given as None; the others stay.

        Raises ``StatusError`` for a version that is not available, as a reload would.
        """
        self._must_be_configured(name)
        for label, version in changes.items():
            if version is not None and (isinstance(version, bool) or not isinstance(version, int)):
                raise invalid_argument(f"Label {label} expects a version number or null, got {version!r}")

        def edited(models: tuple[ModelConfig, ...]) -> tuple[ModelConfig, ...]:
            return tuple(_labelled(one, changes) if one.name == name else one for one in models)

        self._manager.change(edited, self._config.allow_unavailable_labels)
        return self.model(name)

    def traffic(self, name: str) -> Fields:
        """Returns how a model's traffic is spread, and what has become of it; only its name if it is not."""
        self._must_be_configured(name)
        config = self._find(name)
        traffic = config.traffic if config is not None else None
        told = {} if traffic is None else traffic_told(traffic, self._core.traffic(name))
        return {"name": name, **told}

    def set_traffic(self, name: str, entry: Mapping[str, Any]) -> Fields:
        """Spreads a model's traffic as ``entry``, a TrafficSplit in protobuf's JSON form, says.

        What was rolled back before has its share again. Raises ``StatusError``.
        """
        from servable.config.traffic_messages import traffic_from_fields

        new = traffic_from_fields(entry)
        return self._spread(name, lambda _: new)

    def clear_traffic(self, name: str) -> Fields:
        """Spreads a model's traffic no longer: the latest version gets what names none."""
        return self._spread(name, lambda _: None)

    def resume_traffic(self, name: str) -> Fields:
        """Gives what was rolled back its share again. Raises ``StatusError`` if the traffic is not spread."""

        def kept(traffic: Traffic | None) -> Traffic:
            if traffic is None:
                said = f"The traffic of model {name} is not spread"
                raise StatusError(
                    "FAILED_PRECONDITION", said, "spread it first: servable traffic set, or PUT its rules"
                )
            return traffic

        return self._spread(name, kept)

    def _spread(self, name: str, edit: Callable[[Traffic | None], Traffic | None]) -> Fields:
        self._must_be_configured(name)

        def edited(models: tuple[ModelConfig, ...]) -> tuple[ModelConfig, ...]:
            return tuple(
                dataclasses.replace(one, traffic=edit(one.traffic)) if one.name == name else one
                for one in models
            )

        self._manager.change(edited, self._config.allow_unavailable_labels, renewed=name)
        return self.traffic(name)

    def reload_config(self) -> Fields:
        """Applies the model config file again, whether or not it has changed."""
        if not self._config.model_config_file:
            raise StatusError("FAILED_PRECONDITION", "The server was started without --model_config_file")
        self._reread()
        return self.config()

    def _settled(self, name: str, seconds: float) -> Fields:
        ended = {
            Availability.AVAILABLE,
            Availability.ON_DEMAND,
            Availability.FAILED,
            Availability.FAILING,
            Availability.HANGING,
            Availability.MISSING,
        }
        self._manager.wait(lambda now: now.get(name, Availability.FAILED) in ended, seconds)
        return self.model(name)

    def _find(self, name: str) -> ModelConfig | None:
        return next((one for one in self._manager.configured() if one.name == name), None)

    def _must_be_configured(self, name: str) -> None:
        if self._find(name) is None:
            raise self._unknown(name)

    def _unknown(self, name: str) -> StatusError:
        names = ", ".join(sorted(one.name for one in self._manager.configured())[:10])
        return StatusError("NOT_FOUND", f"There is no model {name}", f"served are: {names or 'none'}")


def _measured(taken: int | None, grown: int) -> Fields:
    """Returns what a version has taken of the memory, if that was measured."""
    if taken is None:
        return {}
    measured = max(0, taken + grown)
    return {"memory_bytes_estimate": measured, "memory_bytes_measured": measured}


def _count(limits: Mapping[str, Any], name: str, default: int) -> int:
    value = limits.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= MOST_COUNTED:
        raise invalid_argument(f"{name} expects a whole number from 1 to {MOST_COUNTED}, got {value!r}")
    return value


def _completed(new: ModelConfig, entry: Mapping[str, Any], before: ModelConfig) -> ModelConfig:
    """Completes ``new``, read from ``entry``: fields missing from the entry are taken from ``before``."""

    def states(field: str) -> bool:
        head, *rest = field.split("_")
        return field in entry or head + "".join(map(str.capitalize, rest)) in entry

    kept: Fields = {}
    if not states("version_labels"):
        kept["labels"] = before.labels
    if not states("logging_config"):
        kept["logging"] = before.logging
    if not states("traffic"):
        kept["traffic"] = before.traffic
    if not states("pinned"):
        kept["pinned"] = before.pinned
    # A policy for a path that is itself a version's folder is valid for that path only.
    moved = isinstance(before.policy, Folder) and new.base_path != before.base_path
    if not states("model_version_policy") and not moved:
        kept["policy"] = before.policy
    return dataclasses.replace(new, **kept)


def _labelled(model: ModelConfig, changes: Mapping[str, int | None]) -> ModelConfig:
    merged = {**model.labels, **changes}
    kept = {label: version for label, version in sorted(merged.items()) if version is not None}
    return dataclasses.replace(model, labels=kept)


def _signature(signature: Signature) -> Fields:
    def listed(arguments: list[tuple[str, str, str]]) -> dict[str, str]:
        return {
            alias: f"{dtype}{shape if shape.startswith('[') else ''}" for alias, dtype, shape in arguments
        }

    return {"inputs": listed(signature.inputs), "outputs": listed(signature.outputs)}
