"""What is to be served, as programs and files say it, and as it goes to other nodes: plain values, checked.

    "s3://bucket/models/pair"
    {"pair": "s3://bucket/models/pair", "other": {"path": "/models/other", "versions": [1, 2]}}

Whether a path is there is up to the node that serves it.
"""

from __future__ import annotations

import difflib
import os
import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

from servable.config.model_paths import model_from_path
from servable.config.values import (
    All,
    Folder,
    Latest,
    ModelConfig,
    Specific,
    VersionPolicy,
    is_absolute,
)
from servable.errors import NotFoundError, StatusError, UsageError, invalid_argument
from servable.savedmodel.layout import is_version_name

PLACE = "{model}"
"""What stands for a model's name in the path of any model."""
NAME = re.compile(r"[^/:\s][^/:]{0,254}")
"""A name that paths of REST can have."""
SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
"""A name of a client's that may become a part of a path: it leads to no other folder."""
_KEYS = ("path", "versions", "labels")
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 100
_SHORT.maxlist = _SHORT.maxdict = 10
"""Shows a part of what is large: by anchors, a short file of YAML has a value of any size."""


@dataclass(frozen=True)
class Model:
    """Where a model is, and what is served of it.

    versions: ``latest``, ``all``, or numbers. labels: label → version.
    """

    path: str
    versions: str | tuple[int, ...] = "latest"
    labels: Mapping[str, int] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """Returns it as JSON has it."""
        versions = self.versions if isinstance(self.versions, str) else list(self.versions)
        return {"path": self.path, "versions": versions, "labels": dict(self.labels)}

    def config(self, name: str, may_come: bool = False) -> ModelConfig:
        """Returns it as a server takes it. Raises ``StatusError`` if nothing can be there.

        may_come: a path with nothing is taken, too, for a folder that comes: the server waits for it.
        """
        path = self.path.replace(PLACE, name)
        try:
            model = replace(_at(path, may_come), name=name, labels=dict(self.labels))
        except UsageError as error:
            if "://" not in path and not os.path.exists(path):
                raise NotFoundError("NOT_FOUND", str(error)) from None
            raise invalid_argument(str(error)) from None
        if self.versions == "latest":
            return model
        if isinstance(model.policy, Folder):
            raise invalid_argument(f"model {name}: {path} is one version: leave out versions")
        if isinstance(self.versions, str):
            return replace(model, policy=All())
        return replace(model, policy=Specific(self.versions))


def _at(path: str, may_come: bool) -> ModelConfig:
    try:
        return model_from_path(path)
    except UsageError:
        if not may_come or "://" in path or os.path.exists(path):
            raise
        number = os.path.basename(os.path.normpath(path))
        policy: VersionPolicy = Folder(int(number)) if is_version_name(number) else Latest()
        return ModelConfig("", os.path.abspath(path), policy=policy)


def to_start_with(models: Mapping[str, Model]) -> tuple[dict[str, ModelConfig], dict[str, str]]:
    """Returns what a server starts with, and the reasons of models that it cannot take at all.

    A path with nothing may get something: the server waits for it. Raises the first ``StatusError`` if no
    model can be taken as it is.
    """
    configs: dict[str, ModelConfig] = {}
    errors: dict[str, StatusError] = {}
    for name, model in models.items():
        try:
            configs[name] = model.config(name)
        except StatusError as error:
            errors[name] = error
    if errors and not configs:
        raise next(iter(errors.values()))
    refused = {}
    for name, why in errors.items():
        if isinstance(why, NotFoundError):
            configs[name] = models[name].config(name, may_come=True)
        else:
            refused[name] = f"model {name}: {why.message}"
    return configs, refused


def read_models(given: object, where: str = "models") -> dict[str, Model]:
    """Returns the models by name; that of a path with ``PLACE`` under this.

    Raises ``UsageError`` with ``where`` the value stands.
    """
    if isinstance(given, (str, os.PathLike)):
        model = read_model(given, where)
        return {PLACE if PLACE in model.path else _name_of(model.path, where): model}
    if not isinstance(given, Mapping) or not given:
        raise UsageError(f"{where}: expected a path, or a mapping from names to paths, got {shown(given)}")
    found = {}
    for name, value in given.items():
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise UsageError(f"{where}: expected a model's name without / and :, got {shown(name)}")
        found[name] = read_model(value, f"{where}.{name}")
    return found


def read_model(given: object, where: str) -> Model:
    """Returns one model: a path, or a mapping with ``path``, ``versions`` and ``labels``."""
    if isinstance(given, os.PathLike):
        given = os.fspath(given)
    if isinstance(given, str):
        given = {"path": given}
    if not isinstance(given, Mapping):
        raise UsageError(
            f"{where}: expected a path, or a mapping with {', '.join(_KEYS)}, got {shown(given)}"
        )
    check_keys(given, _KEYS, where)
    path = given.get("path")
    if not isinstance(path, str) or not path:
        raise UsageError(f"{where}.path: expected a path or a URI, got {shown(path)}")
    if "://" not in path:
        path = os.path.expanduser(path)
    if not is_absolute(path):
        raise UsageError(
            f"{where}.path: expected an absolute path or a URI, which means the same on every node, "
            f"got {shown(path)}"
        )
    versions = _versions(given.get("versions", "latest"), where)
    return Model(path, versions, _labels(given.get("labels"), versions, where))


def _versions(given: object, where: str) -> str | tuple[int, ...]:
    if given in ("latest", "all"):
        return str(given)
    numbers = [given] if is_number(given) else given
    if isinstance(numbers, (list, tuple)) and numbers and all(map(_is_version, numbers)):
        return tuple(dict.fromkeys(numbers))
    raise UsageError(f"{where}.versions: expected latest, all, or numbers, got {shown(given)}")


def _labels(given: object, versions: str | tuple[int, ...], where: str) -> dict[str, int]:
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not all(
        isinstance(label, str) and _is_version(version) for label, version in given.items()
    ):
        raise UsageError(f"{where}.labels: expected label: version, got {shown(given)}")
    for label, version in given.items():
        if isinstance(versions, tuple) and version not in versions:
            listed = ", ".join(map(str, versions))
            raise UsageError(f"{where}.labels.{label}: expected one of versions, {listed}, got {version}")
    return dict(given)


def _is_version(value: object) -> bool:
    return is_number(value) and 0 <= cast(int, value) < 1 << 63


def _name_of(path: str, where: str) -> str:
    """Returns the name of the only model, by its path."""
    parts = [part for part in path.split("://")[-1].split("/") if part]
    # The folder of one version is named by the model's.
    if len(parts) > 1 and parts[-1].isdigit():
        parts.pop()
    name = parts[-1].partition(".")[0] if parts else ""
    if not NAME.fullmatch(name):
        raise UsageError(f"{where}: {shown(path)} names no model: give a mapping from its name to it")
    return name


def check_keys(given: Mapping[Any, object], known: tuple[str, ...], where: str) -> None:
    """Raises ``UsageError`` for a key that is not known, with the one that may be meant."""
    for key in given:
        if key in known:
            continue
        near = difflib.get_close_matches(str(key), known, n=1)
        meant = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(known)}"
        raise UsageError(f"{where}: unknown key {shown(key)}{meant}")


def is_number(value: object) -> bool:
    """True for an integer, which a bool is not here."""
    return isinstance(value, int) and not isinstance(value, bool)


def shown(value: object) -> str:
    """Returns a value as errors show it."""
    text = _SHORT.repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
