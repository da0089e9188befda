"""Reads and writes how traffic is spread as the ``traffic`` of a ModelConfig message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from servable.config.json_fields import fields_of, message_from_fields
from servable.config.traffic import Traffic, TrafficHeader, TrafficRollBack, TrafficShadow, TrafficShare
from servable.messages import message_class

SHADOW_FIELDS = ("tolerance", "timeout_seconds")
ROLL_BACK_FIELDS = (
    "max_error_percent",
    "max_error_percent_above_default",
    "max_p99_milliseconds",
    "max_p99_ratio_to_default",
    "min_requests",
    "window_seconds",
    "for_seconds",
)
"""Fields that may be absent, with the names of the values."""


def traffic_of(message: Any) -> Traffic:
    """Returns what a TrafficSplit says; ``traffic_check.py`` checks it."""
    return Traffic(
        default_to=message.default_to,
        shares=tuple(TrafficShare(one.to, one.percent) for one in message.share),
        headers=tuple(TrafficHeader(one.name.lower(), one.value, one.to) for one in message.header),
        key_header=message.key_header.lower(),
        shadow=_shadow(message.shadow) if message.HasField("shadow") else None,
        roll_back=_roll_back(message.roll_back) if message.HasField("roll_back") else None,
    )


def traffic_from_fields(fields: Mapping[str, Any]) -> Traffic:
    """Parses a TrafficSplit in protobuf's JSON form, either spelling of names. Raises ``StatusError``."""
    return traffic_of(message_from_fields("TrafficSplit", fields))


def traffic_fields(traffic: Traffic) -> dict[str, Any]:
    """Returns the traffic in protobuf's JSON form, names as in the text format."""
    message = message_class("tensorflow.serving.TrafficSplit")()
    write_traffic(traffic, message)
    return fields_of(message)


def write_traffic(traffic: Traffic, message: Any) -> None:
    """Writes the traffic into an empty TrafficSplit, which is present from then on."""
    message.SetInParent()
    message.default_to, message.key_header = traffic.default_to, traffic.key_header
    for share in traffic.shares:
        message.share.add(to=share.to, percent=share.percent)
    for header in traffic.headers:
        message.header.add(name=header.name, value=header.value, to=header.to)
    if traffic.shadow is not None:
        message.shadow.to, message.shadow.percent = traffic.shadow.to, traffic.shadow.percent
        _write_present(traffic.shadow, message.shadow, SHADOW_FIELDS)
    if traffic.roll_back is not None:
        message.roll_back.SetInParent()
        message.roll_back.count_client_errors = traffic.roll_back.count_client_errors
        _write_present(traffic.roll_back, message.roll_back, ROLL_BACK_FIELDS)


def _shadow(message: Any) -> TrafficShadow:
    return TrafficShadow(message.to, message.percent, **_present(message, SHADOW_FIELDS))


def _roll_back(message: Any) -> TrafficRollBack:
    fields = _present(message, ROLL_BACK_FIELDS)
    return TrafficRollBack(**fields, count_client_errors=message.count_client_errors)


def _present(message: Any, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(message, name) for name in names if message.HasField(name)}


def _write_present(value: object, message: Any, names: tuple[str, ...]) -> None:
    """Writes what differs from the default, so that what is written is what was given."""
    default = {name: getattr(type(value), name) for name in names}
    for name in names:
        given = getattr(value, name)
        if given is not None and given != default[name]:
            setattr(message, name, given)
