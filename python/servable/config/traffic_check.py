"""Whether the traffic of a model can be spread as its configuration says: pure.

Whatever can be known without the files is refused here; a version that is not available is not: its share
goes to the default until it is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from servable.config.base_paths import Way
from servable.config.traffic import Traffic, TrafficRollBack, TrafficShadow, is_version
from servable.config.values import Folder, Latest, ModelConfig, Specific
from servable.errors import StatusError, invalid_argument

MOST_SHARES = 8
MOST_HEADERS = 16
LONGEST_NAME = 128
LONGEST_VALUE = 1024
"""The core reads no longer value of a header."""
LONGEST_TARGET = 128
FINEST = 4
"""Digits of a percentage after the point."""
MOST_SECONDS = 3600.0
MOST_REQUESTS = 1_000_000_000

RESERVED = "default"
"""Name of the default among the targets."""
SPELLING = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
"""Of the names of headers and of gRPC's metadata, in lower case."""


def check_traffic(
    models: Iterable[ModelConfig], before: Iterable[ModelConfig] = (), way: Way = Way.START
) -> None:
    """Raises ``StatusError`` for the first model whose traffic cannot be spread as it says.

    before: what is in force. The administration may move a label to a version that its rules name as well,
    which is how a version is promoted: ``traffic_warnings`` tells of it.
    """
    former = {model.name: model for model in before}
    for model in models:
        if model.traffic is None:
            continue
        try:
            _check(model, model.traffic)
            if not _stays(model, former.get(model.name), way) and (said := _met(model, model.traffic)):
                raise invalid_argument(said, "name each version once")
        except StatusError as error:
            said = f"Traffic of model {model.name}: {error.message}"
            raise StatusError(error.code, said, error.hint) from None


def traffic_warnings(models: Iterable[ModelConfig], before: Iterable[ModelConfig]) -> list[str]:
    """Returns what a change of labels makes of rules that stay, for each model that it makes something of."""
    former = {model.name: model for model in before}
    warnings = []
    for model in models:
        one = former.get(model.name)
        if model.traffic is None or one is None or one.traffic != model.traffic:
            continue
        said = _met(model, model.traffic)
        if said and said != _met(one, model.traffic):
            warnings.append(
                f"traffic of model {model.name}: {said}. The rules stay in force; "
                f"servable traffic clear {model.name} ends them"
            )
    return warnings


def _stays(model: ModelConfig, former: ModelConfig | None, way: Way) -> bool:
    """True if the rules are those in force, and whoever has moved labels need not have seen them."""
    if former is None or former.traffic != model.traffic:
        return False
    return way is Way.ADMINISTRATION or former.labels == model.labels


def _met(model: ModelConfig, traffic: Traffic) -> str:
    """Returns which targets have to be two versions and are one, as a sentence; "" if none."""
    named: dict[int, str] = {}
    if traffic.default_to:
        named[_number(traffic.default_to, model)] = traffic.default_to
    for share in traffic.shares:
        number = _number(share.to, model)
        if number in named:
            return f"{named[number]} and {share.to} are both version {number}"
        named[number] = share.to
    shadow = traffic.shadow
    if shadow is not None and traffic.default_to and not (traffic.shares or traffic.headers):
        number = _number(shadow.to, model)
        if number in named:
            return (
                f"the shadow, {shadow.to}, is version {number} as the default, {named[number]}, which gets "
                "everything: there is nothing to compare"
            )
    return ""


def _check(model: ModelConfig, traffic: Traffic) -> None:
    _check_spread(traffic)
    for target in traffic.targets():
        _check_target(target, model)
    for name in (*(header.name for header in traffic.headers), traffic.key_header):
        if name:
            _check_header_name(name)
    for header in traffic.headers:
        _check_header_value(header.name, header.value)
    if traffic.shadow is not None:
        _check_shadow(traffic, traffic.shadow)
    if traffic.roll_back is not None:
        _check_roll_back(traffic, traffic.roll_back)
    _check_policy(model, traffic)


def _check_spread(traffic: Traffic) -> None:
    if not (traffic.shares or traffic.headers or traffic.shadow):
        raise invalid_argument("it has neither a share, a header nor a shadow", "leave it out, or name one")
    if len(traffic.shares) > MOST_SHARES:
        raise invalid_argument(f"it has {len(traffic.shares)} shares; {MOST_SHARES} are the most")
    if len(traffic.headers) > MOST_HEADERS:
        raise invalid_argument(f"it has {len(traffic.headers)} headers; {MOST_HEADERS} are the most")
    if traffic.key_header and not traffic.shares:
        raise invalid_argument("a key_header needs shares to choose among")
    seen = {traffic.default_to}
    for share in traffic.shares:
        _check_percent(f"the share of {share.to}", share.percent)
        if share.to in seen:
            which = "is the default, which gets what is left" if share.to == traffic.default_to else "has two"
            raise invalid_argument(f"{share.to} {which}", "give each target one share")
        seen.add(share.to)
    total = sum(round(share.percent * 10**FINEST) for share in traffic.shares)
    if total > 100 * 10**FINEST:
        raise invalid_argument(f"the shares are {total / 10**FINEST:.10g} % together, more than 100 %")


def _check_percent(what: str, percent: float) -> None:
    if not (math.isfinite(percent) and 0 <= percent <= 100):
        raise invalid_argument(f"{what} expects a percentage from 0 to 100, got {percent:g}")
    if round(percent, FINEST) != percent:
        raise invalid_argument(f"{what} expects {FINEST} digits after the point at most, got {percent!r}")


def _check_target(target: str, model: ModelConfig) -> None:
    if not target or len(target) > LONGEST_TARGET:
        raise invalid_argument(
            f"a target expects a version or a label of up to {LONGEST_TARGET} letters, got {target!r}"
        )
    if target == RESERVED:
        raise invalid_argument(f"a label called {RESERVED} cannot be a target", "give it another name")
    if not is_version(target) and target not in model.labels:
        known = ", ".join(sorted(model.labels)) or "none"
        raise invalid_argument(
            f"{target} is neither a version nor a label of the model; its labels: {known}",
            'version_labels { key: "' + target + '" value: VERSION }',
        )


def _check_header_name(name: str) -> None:
    if len(name) > LONGEST_NAME or not SPELLING.fullmatch(name):
        raise invalid_argument(f"{name!r} cannot be the name of a header")


def _check_header_value(name: str, value: str) -> None:
    if not value or len(value) > LONGEST_VALUE or not all(" " <= letter <= "~" for letter in value):
        raise invalid_argument(
            f"header {name} expects a value of up to {LONGEST_VALUE} printable ASCII letters, got {value!r}"
        )
    if value != value.strip():
        raise invalid_argument(f"header {name} expects a value without spaces around it, got {value!r}")


def _check_shadow(traffic: Traffic, shadow: TrafficShadow) -> None:
    if shadow.to == traffic.default_to and not (traffic.shares or traffic.headers):
        raise invalid_argument(
            f"the shadow is the default, {shadow.to}, which gets everything: there is nothing to compare",
            "name another version as the shadow",
        )
    _check_percent("the shadow", shadow.percent)
    if shadow.percent == 0:
        raise invalid_argument("the shadow expects a percentage above 0", "leave it out to have none")
    _check_range("tolerance", shadow.tolerance, 0, 1)
    _check_range("timeout_seconds", shadow.timeout_seconds, 0.001, MOST_SECONDS)


def _check_roll_back(traffic: Traffic, rule: TrafficRollBack) -> None:
    if not (traffic.shares or traffic.headers):
        raise invalid_argument("roll_back needs a share or a header that can be taken back")
    bounds = rule.bounds()
    if not bounds:
        raise invalid_argument("roll_back has no bound", "such as max_error_percent: 5")
    for name, bound in bounds.items():
        most = 100 if name.startswith("max_error") else 1e9
        _check_range(f"roll_back.{name}", bound, 0, most)
    if not 1 <= rule.min_requests <= MOST_REQUESTS:
        raise invalid_argument(
            f"roll_back.min_requests expects 1 to {MOST_REQUESTS}, got {rule.min_requests}"
        )
    _check_range("roll_back.window_seconds", rule.window_seconds, 1, MOST_SECONDS)
    _check_range("roll_back.for_seconds", rule.for_seconds, 0, MOST_SECONDS)


def _check_range(what: str, value: float, least: float, most: float) -> None:
    if not (math.isfinite(value) and least <= value <= most):
        raise invalid_argument(f"{what} expects a number from {least:g} to {most:g}, got {value:g}")


def _check_policy(model: ModelConfig, traffic: Traffic) -> None:
    """Refuses a version policy that does not keep every version loaded that is named."""
    named = {_number(target, model) for target in traffic.targets()}
    policy, needed = model.policy, len(named) + (not traffic.default_to)
    every = (
        "model_version_policy { all {} }, or specific { versions: … }; of a running server: "
        f"servable load {model.name} PATH --versions=all"
    )
    if isinstance(policy, Latest) and max(1, policy.count) < needed:
        raise invalid_argument(
            f"it needs {needed} versions at once, and the version policy keeps the latest "
            f"{max(1, policy.count)} only",
            every,
        )
    if isinstance(policy, Specific | Folder):
        kept = set(policy.versions) if isinstance(policy, Specific) else {policy.version}
        missing = sorted(named - kept)
        if missing:
            raise invalid_argument(f"its version policy does not keep version {missing[0]}", every)
        if not traffic.default_to and not kept - named:
            raise invalid_argument(
                "its version policy keeps no version that could be the default", "name it as default_to"
            )


def _number(target: str, model: ModelConfig) -> int:
    return int(target) if is_version(target) else model.labels[target]
