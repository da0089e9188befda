"""Makes the versions of a model follow its last announcement, one policy action after another."""

from __future__ import annotations

from collections.abc import Callable, Collection

from servable.lifecycle.condition import Condition
from servable.lifecycle.interfaces import CancellableCore
from servable.lifecycle.loading import Loader
from servable.lifecycle.models import Model, Version
from servable.lifecycle.policy import Load, Policy, Snapshot
from servable.lifecycle.state import State
from servable.sources import AspiredVersion


class Reconciler:
    """Decides by ``policy``, announces versions to ``core``, and passes loads and unloads to ``loader``.

    Has no state. Reads and changes what ``Models.changed`` guards, so callers hold it. puts_off: returns
    whether the versions of a model are loaded on demand; see ``on_demand.py``.
    """

    def __init__(
        self,
        core: CancellableCore,
        policy: Policy,
        loader: Loader,
        puts_off: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._core = core
        self._policy = policy
        self._loader = loader
        self._puts_off = puts_off

    def announce(self, model: Model) -> None:
        """Makes known what the last announcement wants; ``reconcile`` follows.

        A version being unloaded that is wanted again counts as wanted, so that the policy keeps the serving
        ones meanwhile, and becomes new once it is gone.
        """
        wanted = {one.version: one for one in model.wanted or ()}
        next_one = _next_one(model, wanted)
        for number, version in model.versions.items():
            before, version.condition = version.condition, version.condition.announced(number in wanted)
            if not before.aspired and version.condition.aspired and before.is_put_off_load:
                # It was withdrawn, and its load goes on or begins again.
                self._core.set_on_demand(model.name, number, True)
        for number, place in wanted.items():
            known = model.versions.get(number)
            if known is None or known.condition.may_be_forgotten:
                put_off = number != next_one and self._puts_off(model.name)
                self._announce(model, Condition(place), put_off)
            elif known.condition.place != place:
                self._follow_files(model, known, place)
            if number == next_one and model.waits_for_demand(number):
                self._announce(model, Condition(place), put_off=False)

    def reconcile(self, model: Model) -> None:
        """Ends what is not wanted any more, and starts every action that the policy requests.

        Call ``announce`` before: there is no moment in which a request finds neither the old nor the new.
        """
        for number, version in list(model.versions.items()):
            if not model.wants(number):
                self._withdraw(model, version)
                if version.condition.may_be_forgotten:
                    self._forget(model, version)
        while True:
            versions = [
                (number, one.condition)
                for number, one in model.versions.items()
                if not model.waits_for_demand(number)
            ]
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

    def try_again(self, model: Model, version: Version) -> None:
        """Makes a version new whose load on demand failed; somebody asks for it again."""
        condition = version.condition
        self._announce(model, condition.repaired(condition.place), put_off=True)

    def rest(self, model: Model, version: Version) -> bool:
        """Unloads a version to make room, unless a request holds it; returns whether it does."""
        number = version.condition.place.version
        if not version.condition.may_rest or not self._core.rest(model.name, number):
            return False
        version.condition = version.condition.rested()
        self._loader.submit_rest(model, version)
        return True

    def retry(self, model: Model, version: Version) -> None:
        """Starts the next try of a load, which is due."""
        version.condition = version.condition.retry_queued()
        self._loader.submit_load(model, version)

    def retry_reload(self, model: Model, version: Version) -> None:
        """Starts the next try of a reload, which is due."""
        version.condition = version.condition.reload_queued()
        self._loader.submit_reload(model, version)

    def _announce(self, model: Model, condition: Condition, put_off: bool) -> None:
        """Announces a new version, or one that is new again and unrelated to the one that failed.

        put_off: it is loaded on demand.
        """
        number = condition.place.version
        known = model.versions.get(number)
        model.versions[number] = Version(condition.put_off() if put_off else condition)
        self._core.announce(model.name, number)
        if put_off or (known is not None and known.condition.on_demand):
            self._core.set_on_demand(model.name, number, put_off)

    def _forget(self, model: Model, version: Version) -> None:
        """Forgets a version at END that is not wanted."""
        number = version.condition.place.version
        del model.versions[number]
        if version.condition.on_demand:
            model.failures.pop(number, None)
            self._core.set_on_demand(model.name, number, False)

    def _follow_files(self, model: Model, version: Version, place: AspiredVersion) -> None:
        """Follows a version's files, which moved or changed."""
        condition = version.condition
        if condition.has_failed:
            model.failures.pop(place.version, None)
            self._announce(model, condition.repaired(place), condition.on_demand)
            if condition.on_demand and not self._puts_off(model.name):
                # It stays now, and nobody may ask for it. Requests wait for its load, as they did.
                model.demanded.add(place.version)
        elif condition.may_be_repaired:
            version.condition = condition.repaired(place)
            self._loader.submit_load(model, version)
        elif condition.state is State.START or (condition.state is State.AVAILABLE and not place.reloads):
            version.condition = condition.moved(place)
        elif condition.state is State.AVAILABLE and condition.may_reload:
            # A change during a reload is followed after it.
            version.condition = condition.moved(place).reload_queued()
            self._loader.submit_reload(model, version)

    def _withdraw(self, model: Model, version: Version) -> None:
        """Ends a version that is no longer wanted and not loaded yet, or waits for its next try.

        One that is being loaded ends with that, early if possible, and if nobody has to wait for it. It does
        not count as available meanwhile, as one that is loaded on demand would.
        """
        condition, number = version.condition, version.condition.place.version
        if not model.awaits(number):
            if condition.is_put_off_load:
                self._core.set_on_demand(model.name, number, False)
            if condition.loading_since is not None:
                self._core.cancel(model.name, number)
        if condition.may_be_withdrawn:
            version.condition = condition.withdrawn()
            error = condition.withdrawal
            self._core.fail(model.name, number, error.code, error.message)


def _next_one(model: Model, wanted: Collection[int]) -> int | None:
    """Returns the highest of the ``wanted`` versions if it follows ones that are in use: it is not put off.

    A new one does. One that is known does if nothing wanted is in use: what is goes once it serves. Whoever
    asks for the model goes on with the former one until then.
    """
    loaded = (State.LOADING, State.AVAILABLE)
    in_use = {number for number, one in model.versions.items() if one.condition.state in loaded}
    latest = max(wanted, default=None)
    if not in_use or latest is None or (latest in model.versions and not in_use.isdisjoint(wanted)):
        return None
    return latest
