"""What has become of the models that are to be served: which do not serve, and why."""

from __future__ import annotations

from servable.config.model_paths import is_remote
from servable.config.values import Folder, ModelConfig, Specific
from servable.errors import StatusError, status_error
from servable.lifecycle.availability import Availability
from servable.lifecycle.manager import Manager
from servable.savedmodel import doctor
from servable.sources.filesystem import look

ANSWERS = {Availability.AVAILABLE, Availability.ON_DEMAND}
"""How a model is whose requests are answered, though the first may have to wait for its load."""
_TO_COME = {Availability.WAITING, Availability.HANGING}


def unavailable(model: ModelConfig, failure: tuple[int, StatusError] | None) -> StatusError:
    """Returns the error of a model that does not serve, of which this is the version that failed."""
    if failure is not None:
        version, error = failure
        is_version = isinstance(model.policy, Folder)
        path = model.base_path if is_version else f"{model.base_path}/{version}"
        hint = error.hint or doctor.load_hint(path, error.message)
        return status_error(error.code, f"model {model.name} version {version}: {error.message}", hint)
    problems = () if is_remote(model.base_path) else look(model).problems
    said = problems[0] if problems else f"model {model.name}: no version was found in {model.base_path}"
    message, _, hint = said.partition("\n")
    return status_error("NOT_FOUND", message, hint.strip())


def problems(manager: Manager) -> dict[str, str]:
    """Returns why models do not serve, by name; also of one that lacks a version which is listed, or that
    serves a former one, as those that are wanted have failed.

    What the manager knows: the disk is not looked at, which might not answer.
    """
    availability, errors = manager.availability(), manager.errors()
    found = {}
    for model in manager.configured():
        is_there = availability.get(model.name) in ANSWERS
        said = _lacks_a_part(manager, model) if is_there else ""
        if not is_there:
            said = _lacks(model, availability.get(model.name), errors.get(model.name))
        if said:
            found[model.name] = f"model {model.name}{said}"
    return found


def _lacks(model: ModelConfig, now: Availability | None, failure: tuple[int, StatusError] | None) -> str:
    if failure is not None:
        return f" version {failure[0]}: {failure[1].message}"
    if now in _TO_COME:
        return ": it is still being loaded"
    return f": no version was found in {model.base_path}"


def _lacks_a_part(manager: Manager, model: ModelConfig) -> str:
    for version in model.policy.versions if isinstance(model.policy, Specific) else ():
        if not manager.is_available(model.name, version):
            failure = manager.failure(model.name, version)
            return f" version {version}: {failure[1].message if failure else 'it is not available'}"
    conditions = manager.conditions(model.name)
    wanted = {number: one for number, one in conditions.items() if one.aspired}
    failed = {number: one.error for number, one in wanted.items() if one.error is not None}
    serving = [number for number in conditions if manager.is_available(model.name, number)]
    if failed and serving and not wanted.keys() & set(serving):
        latest = max(failed)
        return f" version {latest}: {failed[latest].message}; version {max(serving)} serves in its place"
    return ""
