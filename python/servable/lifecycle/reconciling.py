"""Makes the versions of a model follow its last announcement, one policy action after another."""

from __future__ import annotations

from servable.lifecycle.condition import Condition
from servable.lifecycle.interfaces import CancellableCore
from servable.lifecycle.loading import Loader
from servable.lifecycle.models import Model, Version
from servable.lifecycle.policy import Load, Policy, Snapshot
from servable.lifecycle.state import State
from servable.sources import AspiredVersion


class Reconciler:
    """Decides by ``policy``, announces versions to ``core``, and passes loads and unloads to ``loader``.

    Has no state. Reads and changes what ``Models.changed`` guards, so callers hold it.
    """

    def __init__(self, core: CancellableCore, policy: Policy, loader: Loader) -> None:
        self._core = core
        self._policy = policy
        self._loader = loader

    def reconcile(self, model: Model) -> None:
        """Takes over the last announcement and starts every action that the policy requests."""
        self._merge(model)
        while True:
            versions = [(number, one.condition) for number, one in model.versions.items()]
            action = self._policy([Snapshot(number, one.state, one.aspired) for number, one in versions])
            if action is None:
                return
            version = model.versions[action.version]
            if isinstance(action, Load):
                version.condition = version.condition.load_queued()
                self._loader.submit_load(model, version)
            else:
                version.condition = version.condition.unload_begun()
                self._loader.submit_unload(model, version)

    def reload(self, model: Model) -> None:
        """Reloads serving versions from their files, and retries failed ones."""
        for version in model.versions.values():
            condition = version.condition
            if condition.may_reload:
                version.condition = condition.reload_queued()
                if condition.state is State.AVAILABLE:
                    self._loader.submit_reload(model, version)
                else:
                    self._loader.submit_load(model, version)
            elif condition.error is not None and not condition.reloading:
                version.condition = condition.retries_renewed()

    def retry(self, model: Model, version: Version) -> None:
        """Starts the next try of a load, which is due."""
        version.condition = version.condition.retry_queued()
        self._loader.submit_load(model, version)

    def retry_reload(self, model: Model, version: Version) -> None:
        """Starts the next try of a reload, which is due."""
        version.condition = version.condition.reload_queued()
        self._loader.submit_reload(model, version)

    def _merge(self, model: Model) -> None:
        """Marks the wanted versions.

        A version being unloaded that is wanted again counts as wanted, so that the policy keeps the serving
        ones meanwhile, and becomes new once it is gone.
        """
        wanted = {one.version: one for one in model.wanted or ()}
        for number, version in list(model.versions.items()):
            version.condition = version.condition.announced(number in wanted)
            if number not in wanted:
                self._withdraw(model, version)
            if version.condition.may_be_forgotten:
                del model.versions[number]
        for number, place in wanted.items():
            known = model.versions.get(number)
            if known is None:
                self._announce(model, Condition(place))
            elif known.condition.place != place:
                self._follow_files(model, known, place)

    def _announce(self, model: Model, condition: Condition) -> None:
        """Announces a new version, or one that is new again and unrelated to the one that failed."""
        number = condition.place.version
        model.versions[number] = Version(condition)
        self._core.announce(model.name, number)

    def _follow_files(self, model: Model, version: Version, place: AspiredVersion) -> None:
        """Follows a version's files, which moved or changed."""
        condition = version.condition
        if condition.has_failed:
            self._announce(model, condition.repaired(place))
        elif condition.may_be_repaired:
            version.condition = condition.repaired(place)
            self._loader.submit_load(model, version)
        elif condition.state is State.AVAILABLE and not place.reloads:
            version.condition = condition.moved(place)
        elif condition.state is State.AVAILABLE and condition.may_reload:
            # A change during a reload is followed after it.
            version.condition = condition.moved(place).reload_queued()
            self._loader.submit_reload(model, version)

    def _withdraw(self, model: Model, version: Version) -> None:
        """Ends a version that is no longer wanted and not loaded yet, or waits for its next try.

        One that is being loaded ends with that, early if possible.
        """
        condition = version.condition
        if condition.loading_since is not None:
            self._core.cancel(model.name, condition.place.version)
        if condition.may_be_withdrawn:
            version.condition = condition.withdrawn()
            error = condition.withdrawal
            self._core.fail(model.name, condition.place.version, error.code, error.message)
