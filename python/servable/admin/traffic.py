"""How the traffic of a model is spread and what has become of it, as the administration tells it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

from servable.admin.interfaces import ShadowTold, TrafficTarget
from servable.config.traffic import Traffic

Fields = dict[str, Any]


def traffic_told(traffic: Traffic, known: tuple[Sequence[TrafficTarget], ShadowTold | None] | None) -> Fields:
    """Returns the configuration (``rules``, as in a config file) with what the core knows."""
    from servable.config.traffic_messages import traffic_fields

    targets, shadow = known if known is not None else ((), None)
    shares = {share.to: share.percent for share in traffic.shares}
    fields: Fields = {
        "rules": traffic_fields(traffic),
        "targets": [_target(one, traffic, shares) for one in targets],
    }
    if shadow is not None and traffic.shadow is not None:
        fields["shadow"] = _shadow(traffic.shadow.to, shadow)
    return fields


def _target(known: TrafficTarget, traffic: Traffic, shares: dict[str, float]) -> Fields:
    to, version, available, counts, rolled_back, window = known
    fields: Fields = {"to": to}
    if to == "default":
        fields["percent"] = round(100 - sum(shares.values()), 4)
        if traffic.default_to:
            fields["named"] = traffic.default_to
    elif to in shares:
        fields["percent"] = shares[to]
    fields |= {"version": version, "available": available, "requests": {name: n for name, n in counts if n}}
    if rolled_back is not None:
        number, why, at = rolled_back
        when = datetime.fromtimestamp(at, timezone.utc).isoformat(timespec="seconds")
        fields["rolled_back"] = {"version": number, "why": why, "at": when}
    if window is not None:
        requests, errors, p99 = window
        fields["window"] = {"requests": requests, "errors": errors}
        if p99 is not None:
            fields["window"]["p99_milliseconds"] = round(p99 * 1e3, 3)
    return fields


def _shadow(to: str, known: ShadowTold) -> Fields:
    counts, times, error, difference = known
    outcomes = dict(counts)
    fields: Fields = {
        "to": to,
        "compared": outcomes.get("equal", 0) + outcomes.get("different", 0),
        "requests": outcomes,
    }
    for side, half, most in times:
        fields[f"{side}_milliseconds"] = {"p50": round(half * 1e3, 3), "p99": round(most * 1e3, 3)}
    if error is not None:
        fields["last_error"] = error
    if difference is not None:
        fields["last_difference"] = difference
    return fields
