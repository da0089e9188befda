"""The file of ``servable ray run``: read, checked, and turned into values, without Ray.

    applications:
      - name: shop
        route: /
        models:
          ranking: s3://bucket/models/ranking
        replicas: {min: 1, max: 4, target: 16}

Every error says where in the file it is, what was expected there, and what came.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from servable.embedded.configuration import parsed
from servable.errors import UsageError
from servable.ray.cluster_address import checked
from servable.ray.models import PLACE, Model, check_keys, is_number, read_models, shown
from servable.ray.yaml_text import parse
from servable.regular_files import open_file

MOST_BYTES = 1 << 20
"""Largest file that is read."""
PROXIES = {"every_node": "EveryNode", "head_only": "HeadOnly", "disabled": "Disabled"}
"""Where Ray's proxies run → Ray's word for it."""
_TOP = ("address", "http", "grpc", "proxies", "applications")
_APPLICATION = (
    *("name", "route", "models", "replicas", "multiplexed", "max_ongoing_requests", "max_queued_requests"),
    *("cpus", "gpus", "memory", "max_per_node", "health_check", "shutdown_seconds", "flags"),
)
_AUTOSCALING = {
    "min": "min_replicas",
    "max": "max_replicas",
    "initial": "initial_replicas",
    "target": "target_ongoing_requests",
    "upscale_delay": "upscale_delay_s",
    "downscale_delay": "downscale_delay_s",
    "metrics_interval": "metrics_interval_s",
    "look_back": "look_back_period_s",
}
"""Key of the file → field of Ray's AutoscalingConfig."""
_HEALTH = {"period": "health_check_period_s", "timeout": "health_check_timeout_s"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
MOST_PER_NODE = 100
"""Most replicas of an application on a node that Ray takes as a limit."""
LEAST_RESOURCE = 0.0001
"""Smallest part of a resource that Ray counts."""
_UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "kB": 10**3, "MB": 10**6, "GB": 10**9}
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([A-Za-z]*)")


@dataclass(frozen=True)
class Application:
    """One application.

    replicas: their number, or fields of Ray's AutoscalingConfig. options: those of ``serve.deployment``.
    """

    name: str
    route: str
    models: Mapping[str, Model]
    replicas: int | Mapping[str, float]
    multiplexed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    flags: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Configuration:
    """What a file says.

    address: of the cluster; "": the environment's, or this machine's, or a new one. grpc_port:
    None if there is no gRPC. proxies: in Ray's word.
    """

    applications: tuple[Application, ...]
    address: str = ""
    host: str = "127.0.0.1"
    http_port: int = 8000
    grpc_port: int | None = None
    proxies: str = "EveryNode"


def read_file(path: str) -> Configuration:
    """Reads a file; a pipe, which may have no writer, is refused. Raises ``UsageError``."""
    try:
        with open_file(path) as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    if len(content) > MOST_BYTES:
        raise UsageError(f"{path}: more than {MOST_BYTES} bytes, which is no configuration")
    try:
        return read(content.decode())
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 at byte {error.start}") from None
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def read(text: str) -> Configuration:
    """Reads the text of a file. Raises ``UsageError``."""
    given = parse(text)
    if not isinstance(given, Mapping):
        raise UsageError(f"expected a mapping with applications, got {shown(given)}")
    check_keys(given, _TOP, "the file")
    http = _mapping(given, "http", ("host", "port"))
    grpc = given.get("grpc", "off")
    listed = given.get("applications")
    if not isinstance(listed, Sequence) or isinstance(listed, str) or not listed:
        raise UsageError(f"applications: expected a list of applications, got {shown(listed)}")
    found = tuple(_application(one, f"applications[{number}]") for number, one in enumerate(listed))
    _check_distinct([one.name for one in found], "names")
    _check_distinct([one.route for one in found], "routes")
    proxies = given.get("proxies", "every_node")
    if not isinstance(proxies, str) or proxies not in PROXIES:
        raise UsageError(f"proxies: expected one of {', '.join(PROXIES)}, got {shown(proxies)}")
    http_port, grpc_port = _port(http.get("port", 8000), "http.port"), _grpc_port(grpc)
    if http_port == grpc_port and proxies != "disabled":
        raise UsageError(f"grpc.port: expected another port than http.port, got {grpc_port} for both")
    return Configuration(
        applications=found,
        address=checked(_text(given, "address", ""), "address"),
        host=_text(http, "host", "127.0.0.1", "http.host"),
        http_port=http_port,
        grpc_port=grpc_port,
        proxies=PROXIES[proxies],
    )


def _application(given: object, where: str) -> Application:
    if not isinstance(given, Mapping):
        raise UsageError(f"{where}: expected a mapping with models, got {shown(given)}")
    check_keys(given, _APPLICATION, where)
    name = given.get("name", "default")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UsageError(f"{where}.name: expected letters, digits, _ . -, got {shown(name)}")
    route = given.get("route", "/")
    if not isinstance(route, str) or not re.fullmatch(r"/|(/[^/\s{}?#]+)+", route):
        raise UsageError(f"{where}.route: expected / or a path such as /shop, got {shown(route)}")
    models = read_models(given.get("models"), f"{where}.models")
    multiplexed = _number(given, "multiplexed", 0, where, least=0)
    if PLACE in models and not multiplexed:
        raise UsageError(
            f"{where}.models: a path with {PLACE} is for any model: say in multiplexed how many are loaded "
            "at once"
        )
    flags = {} if given.get("flags") is None else given["flags"]
    if not isinstance(flags, Mapping) or not all(isinstance(one, str) for one in flags):
        raise UsageError(f"{where}.flags: expected flags of servable serve, got {shown(flags)}")
    try:
        parsed(flags)
    except UsageError as error:
        raise UsageError(f"{where}.flags: {error}") from None
    replicas = _replicas(given.get("replicas", 1), f"{where}.replicas")
    return Application(name, route, models, replicas, multiplexed, _options(given, where), dict(flags))


def _replicas(given: object, where: str) -> int | Mapping[str, float]:
    if is_number(given):
        return _at_least(given, 1, where)
    if not isinstance(given, Mapping):
        raise UsageError(f"{where}: expected a number, or a mapping with min and max, got {shown(given)}")
    check_keys(given, tuple(_AUTOSCALING), where)
    found: dict[str, float] = {}
    for key, value in given.items():
        counts = key in ("min", "max", "initial")
        least = 1 if key == "max" else 0
        check: Callable[[Any, float, str], Any] = _at_least if counts else _amount
        found[_AUTOSCALING[key]] = check(value, least, f"{where}.{key}")
    fewest, most = found.get("min_replicas", 1), found.get("max_replicas", 1)
    if fewest > most:
        raise UsageError(
            f"{where}: min has to be max at most, got min: {fewest}, max: {most} (1 if not said)"
        )
    if not fewest <= found.get("initial_replicas", fewest) <= most:
        raise UsageError(f"{where}.initial: expected {fewest} to {most}, got {found['initial_replicas']}")
    if found.get("target_ongoing_requests") == 0:
        raise UsageError(f"{where}.target: expected more than 0 requests under way")
    return found


def _options(given: Mapping[Any, Any], where: str) -> dict[str, Any]:
    """Returns the options of the deployment."""
    options: dict[str, Any] = {}
    if "max_ongoing_requests" in given:
        options["max_ongoing_requests"] = _number(given, "max_ongoing_requests", 0, where, least=1)
    if "max_queued_requests" in given:
        options["max_queued_requests"] = _queued(given["max_queued_requests"], where)
    if "max_per_node" in given:
        options["max_replicas_per_node"] = _per_node(given, where)
    actor: dict[str, Any] = {}
    for key, name in (("cpus", "num_cpus"), ("gpus", "num_gpus")):
        if key in given:
            actor[name] = _resource(given[key], f"{where}.{key}", is_shared=key == "cpus")
    if "memory" in given:
        actor["memory"] = _size(given["memory"], f"{where}.memory")
    if actor:
        options["ray_actor_options"] = actor
    health = _mapping(given, "health_check", tuple(_HEALTH), f"{where}.health_check")
    for key, value in health.items():
        options[_HEALTH[key]] = _amount(value, 0.1, f"{where}.health_check.{key}")
    if "shutdown_seconds" in given:
        seconds = given["shutdown_seconds"]
        options["graceful_shutdown_timeout_s"] = _amount(seconds, 0, f"{where}.shutdown_seconds")
    return options


def _per_node(given: Mapping[Any, Any], where: str) -> int:
    found = _number(given, "max_per_node", 0, where, least=1)
    if found > MOST_PER_NODE:
        raise UsageError(f"{where}.max_per_node: expected {MOST_PER_NODE} at most, got {shown(found)}")
    return found


def _resource(value: Any, where: str, is_shared: bool) -> float:
    """Returns an amount of a resource; of one that is not shared, several are taken as a whole only."""
    found = _amount(value, 0, where)
    if 0 < found < LEAST_RESOURCE:
        raise UsageError(f"{where}: expected 0, or {LEAST_RESOURCE} or more, got {shown(value)}")
    if not is_shared and found > 1 and found != int(found):
        raise UsageError(f"{where}: expected a part of one, or a whole number, got {shown(value)}")
    return found


def _queued(value: Any, where: str) -> int:
    if not is_number(value) or (value != -1 and value < 1):
        raise UsageError(
            f"{where}.max_queued_requests: expected 1 or more, or -1 for no limit, got {shown(value)}"
        )
    return int(value)


def _check_distinct(values: Sequence[str], what: str) -> None:
    twice = sorted({one for one in values if values.count(one) > 1})
    if twice:
        raise UsageError(f"applications: {what} have to differ, got {', '.join(twice)} more than once")


def _mapping(
    given: Mapping[Any, Any], key: str, known: tuple[str, ...], where: str = ""
) -> Mapping[str, Any]:
    value = {} if given.get(key) is None else given[key]
    if not isinstance(value, Mapping):
        raise UsageError(f"{where or key}: expected a mapping with {', '.join(known)}, got {shown(value)}")
    check_keys(value, known, where or key)
    return value


def _text(given: Mapping[Any, Any], key: str, default: str, where: str = "") -> str:
    value = given.get(key, default)
    if not isinstance(value, str):
        raise UsageError(f"{where or key}: expected text, got {shown(value)}")
    return value


def _number(given: Mapping[Any, Any], key: str, default: int, where: str, least: int) -> int:
    return _at_least(given.get(key, default), least, f"{where}.{key}")


def _at_least(value: Any, least: float, where: str) -> int:
    if not is_number(value) or value < least:
        raise UsageError(f"{where}: expected a whole number, {least} or more, got {shown(value)}")
    return int(value)


def _amount(value: Any, least: float, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value < 1e9:
        raise UsageError(f"{where}: expected a number, {least} or more, got {shown(value)}")
    return value


def _grpc_port(given: object) -> int | None:
    # YAML 1.1 reads the word off as false.
    if given is None or given is False or given == "off":
        return None
    if isinstance(given, Mapping):
        check_keys(given, ("port",), "grpc")
        given = given.get("port", 9000)
    return _port(given, "grpc.port")


def _port(value: object, where: str) -> int:
    if not is_number(value) or not 1 <= _at_least(value, 0, where) <= 65535:
        raise UsageError(f"{where}: expected a port, 1 to 65535, got {shown(value)}")
    return _at_least(value, 1, where)


def _size(value: object, where: str) -> int:
    found = _SIZE.fullmatch(str(value).strip()) if not isinstance(value, bool) else None
    if found is None or found[2] not in _UNITS:
        raise UsageError(f"{where}: expected bytes or a size such as 2GiB, got {shown(value)}")
    return int(float(found[1]) * _UNITS[found[2]])
