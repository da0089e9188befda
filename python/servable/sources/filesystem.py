"""Versions in folders: polls base paths and announces the numbered folders that the policy selects.

A version is a *folder* with a decimal name within int64; leading zeros are allowed. TensorFlow Serving also
takes plain files and names such as ``+7`` for versions, which then fail to load; here they are skipped with
one log line. A base path that is a model's file has one version, reloaded when the file changes: that is
announced once two polls agree, as the file may be half written, or its weights not yet. Each model is polled
independently, and problems with its path are logged when they change, not at every poll.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from servable.config.values import All, Folder, ModelConfig, Specific, VersionPolicy
from servable.engines.formats import fingerprint
from servable.savedmodel import doctor
from servable.savedmodel.layout import has_model_ending, is_version_name
from servable.sources import LONE_VERSION, AspiredVersion, Receiver

_log = logging.getLogger("servable.filesystem")


@dataclass(frozen=True)
class Finding:
    """The result of polling one base path.

    versions: the aspired ones, ascending; None if the path could not be read. problems: one line each for the
    user (with its hint after a newline).
    """

    versions: tuple[AspiredVersion, ...] | None
    problems: tuple[str, ...] = ()


def look(model: ModelConfig) -> Finding:
    """Lists the base path of ``model`` once and applies its version policy.

    Never raises because of what is on the disk.
    """
    lone = _look_at_file(model) if has_model_ending(model.base_path) else None
    if lone is not None:
        return lone
    if isinstance(model.policy, Folder):
        return _look_at_folder(model, model.policy)
    try:
        with os.scandir(model.base_path) as entries:
            names = [(entry.name, _is_folder(entry)) for entry in entries]
    except OSError as error:
        return Finding(None, (doctor.base_path_unreadable(model.name, model.base_path, error),))
    except ValueError as error:
        # A path that no file can have.
        return Finding(None, (f"model {model.name}: the base path {model.base_path!r}: {error}",))
    found, problems = versions_among(names)
    aspired = tuple(
        _aspired(version, os.path.join(model.base_path, found[version]))
        for version in choose(model.policy, found)
    )
    if not found:
        problems.append(doctor.no_versions(model.name, model.base_path, [name for name, _ in names]))
    else:
        problems.extend(_absent(model, found))
    return Finding(aspired, tuple(problems))


def _absent(model: ModelConfig, found: dict[int, str]) -> Iterator[str]:
    """Yields a line for each version that the policy lists and that was not found."""
    for wanted in model.policy.versions if isinstance(model.policy, Specific) else ():
        if wanted not in found:
            yield doctor.version_absent(model.name, wanted, found)


def _look_at_file(model: ModelConfig) -> Finding | None:
    """Looks at a file that is a model by itself. Returns None if something else is at the base path."""
    path = model.base_path
    if not os.path.isfile(path):
        is_gone = not os.path.exists(path) and os.path.isdir(os.path.dirname(path))
        return Finding((), (doctor.model_file_gone(model.name, path),)) if is_gone else None
    version = model.policy.version if isinstance(model.policy, Folder) else LONE_VERSION
    chosen = choose(model.policy, [version])
    aspired = tuple(AspiredVersion(one, path, fingerprint(path), reloads=True) for one in chosen)
    return Finding(aspired, tuple(_absent(model, {version: path})))


def _look_at_folder(model: ModelConfig, policy: Folder) -> Finding:
    if os.path.isdir(model.base_path):
        return Finding((_aspired(policy.version, model.base_path),))
    return Finding((), (doctor.version_folder_gone(model.name, model.base_path),))


def _aspired(version: int, path: str) -> AspiredVersion:
    return AspiredVersion(version, path, fingerprint(path))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def versions_among(names: list[tuple[str, bool]]) -> tuple[dict[int, str], list[str]]:
    """Returns version → folder name among ``(name, is a folder)`` entries, and a line for each near miss.

    Of two names for one number (``1`` and ``001``) the later in byte order wins, as in TensorFlow Serving.
    """
    found: dict[int, str] = {}
    problems: list[str] = []
    for name, is_folder in sorted(names, key=lambda entry: os.fsencode(entry[0])):
        if not is_version_name(name):
            if _almost_version(name):
                problems.append(f"{name!r} is not a version: the name of a version folder is digits only")
        elif not is_folder:
            problems.append(f"{name!r} is not a version: it is not a folder")
        else:
            number = int(name)
            if number in found:
                problems.append(
                    f"{found[number]!r} and {name!r} are both version {number}: {name!r} is served"
                )
            found[number] = name
    return found, problems


def _almost_version(name: str) -> bool:
    """True for names that TensorFlow Serving or a person would read as a number: ``+7``, `` 7 ``, ``-5``."""
    bare = name.strip().lstrip("+-")
    return bare.isascii() and bare.isdigit()


def choose(policy: VersionPolicy, versions: Sequence[int] | dict[int, str]) -> list[int]:
    """Returns the versions that ``policy`` selects from ``versions``, ascending. Pure."""
    ordered = sorted(versions)
    if isinstance(policy, All):
        return ordered
    if isinstance(policy, Specific):
        return [version for version in ordered if version in policy.versions]
    if isinstance(policy, Folder):
        return [version for version in ordered if version == policy.version]
    return ordered[-max(1, policy.count) :]


_Late = dict[str, tuple[ModelConfig, Finding]]
"""Findings of replaced threads and the configuration each applies to, by model name."""


def _found_late(model: ModelConfig, late: _Late) -> Finding | None:
    asked, finding = late.get(model.name, (model, None))
    return finding if _same_place(asked, model) else None


def _same_place(one: ModelConfig, other: ModelConfig) -> bool:
    return (one.base_path, one.policy) == (other.base_path, other.policy)


LOOK_SECONDS = 10.0
"""Time after which polling one model counts as hanging, as on a file system that does not answer."""
FURTHER_LOOKS = 0.1
"""Fraction of that time for the other models while one hangs: a dead mount often holds several models."""
LOOKING_SHARE = 20
"""Polls take at most one of so many parts of the time: with thousands of models they are rarer."""
LAST_LOOK_SECONDS = 1.0
"""Longest time that ``stop`` waits for a poll under way."""

_Place = tuple[str, str]
"""A model's name and base path. A model moved away from a dead mount has a new key, so it is polled again."""


class FilesystemSource:
    """Polls local base paths on one thread of its own. See ``Source`` for the contract.

    poll_seconds: pause between polls; 0: poll once after each ``watch``; None: never poll. A poll that hangs
    (a dead mount) keeps its thread, its model counts as missing meanwhile, and another thread continues with
    the other models. The result of the hanging poll is used when it arrives.
    """

    def __init__(self, poll_seconds: float | None = 1.0, look_seconds: float | None = None) -> None:
        self._poll_seconds = poll_seconds
        self._look_seconds = LOOK_SECONDS if look_seconds is None else look_seconds
        self._changed = threading.Condition()
        self._models: dict[str, ModelConfig] = {}
        self._generation = 0
        self._stopped = False
        self._receiver: Receiver | None = None
        # The polling thread; the place it is polling, and since when.
        self._poller: threading.Thread | None = None
        self._looking: tuple[_Place, float] | None = None
        # Places that earlier threads are still polling, findings that arrived late, and places already
        # reported in the log until a poll of them ends in time.
        self._hanging: set[_Place] = set()
        self._late: _Late = {}
        self._told: set[_Place] = set()
        # Owned by the polling thread: the last finding announced and logged per model, with its
        # configuration.
        self._announced: dict[str, tuple[ModelConfig, Finding]] = {}
        # Likewise: what the last poll found of models that are files.
        self._files: dict[str, tuple[AspiredVersion, ...]] = {}

    def watch(self, models: Sequence[ModelConfig]) -> None:
        """Replaces the list of models; they are polled at once."""
        with self._changed:
            self._models = {model.name: model for model in models}
            self._generation += 1
            self._changed.notify_all()

    def start(self, receiver: Receiver) -> None:
        """Starts the polling thread; with ``poll_seconds`` None there is nothing to start."""
        self._receiver = receiver
        if self._poll_seconds is None:
            return
        with self._changed:
            self._begin()
        threading.Thread(target=self._watch_looks, name="filesystem-watch", daemon=True).start()

    def stop(self) -> None:
        """Stops announcing. The polling thread ends with its current poll, which may hang."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
            poller = self._poller
        if poller is not None:
            poller.join(LAST_LOOK_SECONDS)

    def _begin(self) -> None:
        self._looking = None
        self._poller = threading.Thread(target=self._poll, name="filesystem-source", daemon=True)
        self._poller.start()

    def _watch_looks(self) -> None:
        """Replaces the polling thread when its poll hangs."""
        with self._changed:
            while not self._stopped:
                patience = self._look_seconds * (FURTHER_LOOKS if self._hanging else 1)
                self._changed.wait(patience / 4)
                if self._stopped or self._looking is None:
                    continue
                place, since = self._looking
                if time.monotonic() - since >= patience:
                    self._give_up(place, patience)
                    self._begin()

    def _give_up(self, place: _Place, patience: float) -> None:
        self._hanging.add(place)
        if place not in self._told:
            self._told.add(place)
            _log.warning(
                "looking at %s takes more than %g s: does the file system of %s answer? Others go on",
                place[0],
                patience,
                place[1],
            )
        known = self._models.get(place[0])
        if known is not None and known.base_path == place[1] and self._receiver is not None:
            # So that nobody waits for it, least of all at startup.
            self._receiver.missing(place[0])

    def _poll(self) -> None:
        while True:
            with self._changed:
                if self._stopped:
                    return
                models, generation = self._models, self._generation
                late, self._late = self._late, {}
            begun = time.thread_time()
            if not self._look_at_all(models, generation, late):
                return
            pause = self._poll_seconds and max(
                self._poll_seconds, (LOOKING_SHARE - 1) * (time.thread_time() - begun)
            )
            with self._changed:
                if self._generation == generation and not self._stopped and not self._late:
                    # Woken by ``watch``, ``stop`` and late findings; a spurious wake-up costs one poll.
                    self._changed.wait(pause or None)

    def _look_at_all(self, models: dict[str, ModelConfig], generation: int, late: _Late) -> bool:
        """Polls all models. Returns False if this thread has been replaced; its replacement starts over."""
        for name in [name for name in self._announced if name not in models]:
            if not self._announce(name, Finding(()), generation):
                return True
            del self._announced[name]
        for name, model in models.items():
            if not self._begin_to_look(model):
                continue
            came_late = _found_late(model, late)
            finding = came_late or look(model)
            if not self._has_looked(model, finding, in_time=came_late is None):
                return False
            asked, before = self._announced.get(name, (None, Finding(None)))
            for problem in finding.problems:
                if problem not in before.problems:
                    _log.warning("%s", problem)
            # Announced again if it was reported missing meanwhile, or if its configuration has changed.
            same = asked is not None and came_late is None and _same_place(asked, model)
            if same and not self._is_settled(name, before, finding):
                continue
            if not (same and before.versions == finding.versions) and not self._announce(
                name, finding, generation
            ):
                return True
            self._announced[name] = model, finding
        return True

    def _is_settled(self, name: str, before: Finding, finding: Finding) -> bool:
        """Returns whether a file that changed was found the same by the poll before this one."""
        found = finding.versions or ()
        if not (self._poll_seconds and before.versions and any(one.reloads for one in found)):
            return True
        last, self._files[name] = self._files.get(name), found
        return found in (before.versions, last)

    def _begin_to_look(self, model: ModelConfig) -> bool:
        """Records the start of a poll. Returns False if an earlier thread is still polling the model."""
        place = model.name, model.base_path
        with self._changed:
            if place in self._hanging:
                return False
            self._looking = place, time.monotonic()
            return True

    def _has_looked(self, model: ModelConfig, finding: Finding, in_time: bool) -> bool:
        """Records the end of a poll.

        Returns False if this thread has been replaced; the finding is then passed on.
        """
        place = model.name, model.base_path
        with self._changed:
            if threading.current_thread() is self._poller:
                self._looking = None
                if in_time:
                    self._told.discard(place)
                return True
            self._hanging.discard(place)
            self._late[model.name] = model, finding
            self._changed.notify_all()
            return False

    def _announce(self, name: str, finding: Finding, generation: int) -> bool:
        """Announces ``finding``.

        Returns False, without announcing, if the list has been replaced or ``stop`` called.
        """
        assert self._receiver is not None
        with self._changed:
            if self._stopped or self._generation != generation:
                return False
            if finding.versions is None:
                self._receiver.missing(name)
            else:
                self._receiver.aspire(name, finding.versions)
            return True
