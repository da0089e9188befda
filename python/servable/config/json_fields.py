"""Messages of the configuration in protobuf's JSON form, as the administration takes and tells them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from servable.errors import invalid_argument
from servable.messages import message_class, pool


def message_from_fields(name: str, fields: Mapping[str, Any]) -> Any:
    """Returns the message ``tensorflow.serving.NAME`` of ``fields``, whose names have either spelling.

    Raises ``StatusError``.
    """
    from google.protobuf import json_format

    message = message_class(f"tensorflow.serving.{name}")()
    try:
        json_format.ParseDict(dict(fields), message, descriptor_pool=pool())
    except json_format.ParseError as error:
        raise invalid_argument(f"Not a {name}: {error}") from None
    return message


def fields_of(message: Any) -> dict[str, Any]:
    """Returns a message's fields that are present, names as in the text format."""
    from google.protobuf import json_format

    fields: dict[str, Any] = json_format.MessageToDict(
        message, preserving_proto_field_name=True, descriptor_pool=pool()
    )
    return fields
