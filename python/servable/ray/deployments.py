"""Makes applications of Ray Serve out of models."""

from __future__ import annotations

import hashlib
import inspect
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from servable.embedded.configuration import parsed
from servable.errors import UsageError
from servable.ray.models import PLACE, check_keys, is_number, read_models, shown
from servable.ray.package import ray_and_serve

if TYPE_CHECKING:
    from servable.embedded.configuration import Flag

OPTIONS: dict[str, Any] = {"max_ongoing_requests": 64}
"""Options of the deployment, if nothing else is said. Ray's 5 would leave nothing to batch."""
SAID_BY = {
    "name": "name",
    "num_replicas": "replicas",
    "autoscaling_config": "replicas",
    "user_config": "models",
    "version": "models, flags and multiplexed",
}
"""Options of ``serve.deployment`` that are made from arguments, and from which."""
END_SECONDS = 10.0
"""Seconds that a replica which is to end has beyond the time of a REST request."""
TARGET = 16
"""Requests under way in a replica that autoscaling aims at, if nothing else is said."""


def deployment(
    models: str | os.PathLike[str] | Mapping[str, Any],
    *,
    name: str = "servable",
    replicas: int | Mapping[str, Any] = 1,
    multiplexed: int = 0,
    options: Mapping[str, Any] | None = None,
    **flags: Flag,
) -> Any:
    """Returns an application for ``serve.run``, whose replicas have Servable's core in their process.

    models: a path or URI that every node can read; or a mapping from names to these, or to mappings of
    ``path``, ``versions`` (``latest``, ``all``, numbers) and ``labels``. They go to running replicas without
    a restart when only they change. replicas: their number; or the fields of Ray's AutoscalingConfig, such as
    ``{"min_replicas": 1, "max_replicas": 4}``, by the requests under way. multiplexed: most models that a
    replica has loaded at once, of which each is loaded when it is asked for; the path may then have
    ``{model}`` for the name of any. options: others of ``serve.deployment``. flags: those of
    ``servable serve``.

    Raises ``UsageError`` for what is wrong, and ``MissingPackageError`` without Ray.
    """
    found = read_models(models)
    if not is_number(multiplexed) or multiplexed < 0:
        raise UsageError(f"multiplexed: expected a number of models, 0 or more, got {shown(multiplexed)}")
    if PLACE in found and not multiplexed:
        raise UsageError(
            f"models: a path with {PLACE} is for any model: say how many are loaded at once, multiplexed=8"
        )
    patience = parsed(flags).integer("rest_api_timeout_in_ms") / 1000
    # Ray's 20 seconds would cut requests that may take longer, without a word.
    ending = {"graceful_shutdown_timeout_s": patience + END_SECONDS} if patience > 0 else {}
    scale, chosen = _replicas(replicas), {**OPTIONS, **ending, **_checked_options(options)}
    _, serve = ray_and_serve()
    _check_known(serve, scale, chosen)
    from servable.ray.replica import Replica

    plain = {one: model.plain() for one, model in found.items()}
    try:
        made = serve.deployment(Replica, name=name, user_config={"models": plain}, **chosen, **scale)
    except (TypeError, ValueError) as error:
        raise UsageError(f"Ray refuses it: {' '.join(str(error).split())}") from None
    return _versioned(made, sorted(flags.items()), multiplexed).bind(dict(flags), multiplexed)


def _checked_options(options: object) -> Mapping[str, Any]:
    """Returns the options of a deployment, of which none is said otherwise."""
    if options is None:
        return {}
    if not isinstance(options, Mapping):
        raise UsageError(f"options: expected a mapping of options of serve.deployment, got {shown(options)}")
    for key in options:
        if key in SAID_BY:
            raise UsageError(f"options: {key} follows from {SAID_BY[key]}, which is an argument of its own")
    return options


def _check_known(serve: Any, scale: Mapping[str, Any], chosen: Mapping[str, Any]) -> None:
    """Raises ``UsageError`` for a name that Ray does not know, some of which it would ignore."""
    from ray.serve.config import AutoscalingConfig

    if "autoscaling_config" in scale:
        check_keys(scale["autoscaling_config"], tuple(AutoscalingConfig.model_fields), "replicas")
    known = inspect.signature(serve.deployment).parameters
    check_keys(chosen, tuple(one for one in known if one[0] != "_" and one not in SAID_BY), "options")


def _versioned(made: Any, *decisive: object) -> Any:
    """Returns the deployment with a version that follows from what a replica cannot take over while it runs.

    Without one, Ray takes each run of an application for new code, and replaces every replica. It gives files
    such versions, but takes them from programs only by an option of its own.
    """
    import servable

    said = repr((servable.__version__, *decisive)).encode()
    try:
        return made.options(version=hashlib.sha256(said).hexdigest()[:16], _internal=True)
    except (TypeError, ValueError):
        return made


def _replicas(replicas: int | Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(replicas, Mapping):
        return {"autoscaling_config": {"target_ongoing_requests": TARGET, **replicas}}
    if not is_number(replicas) or replicas < 1:
        raise UsageError(f"replicas: expected a number, or a mapping for autoscaling, got {shown(replicas)}")
    return {"num_replicas": replicas}
