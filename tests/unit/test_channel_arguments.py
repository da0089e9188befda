"""``--grpc_channel_arguments``: the effective ones, and the messages about others."""

from __future__ import annotations

import pytest

from servable.config.channel_arguments import EFFECTIVE, read
from servable.config.values import GrpcLimits

INT32_MAX = 2**31 - 1


def limits(text: str) -> GrpcLimits:
    """Returns the limits for a value that causes no message."""
    limits, lines = read(text)
    assert lines == []
    return limits


def test_nothing_given_changes_nothing() -> None:
    assert read("") == (GrpcLimits(), [])


def test_each_argument_has_its_limit() -> None:
    given = [f"{name}={20000 + number}" for number, name in enumerate(EFFECTIVE)]
    values = dict(item.split("=") for item in given)
    found = limits(",".join(given))
    assert found == GrpcLimits(
        max_receive_bytes=int(values["grpc.max_receive_message_length"]),
        max_send_bytes=int(values["grpc.max_send_message_length"]),
        max_calls=int(values["grpc.max_concurrent_streams"]),
        max_header_bytes=int(values["grpc.absolute_max_metadata_size"]),
        header_table_bytes=int(values["grpc.http2.hpack_table_size.decoder"]),
        max_frame_bytes=int(values["grpc.http2.max_frame_size"]),
        call_window=int(values["grpc.http2.lookahead_bytes"]),
        asked_every_ms=int(values["grpc.keepalive_time_ms"]),
        answered_within_ms=int(values["grpc.keepalive_timeout_ms"]),
        keys_within_ms=int(values["grpc.server_handshake_timeout_ms"]),
        max_idle_ms=int(values["grpc.max_connection_idle_ms"]),
        max_age_ms=int(values["grpc.max_connection_age_ms"]),
        max_age_grace_ms=int(values["grpc.max_connection_age_grace_ms"]),
    )


def test_blanks_do_not_matter_and_the_last_one_counts() -> None:
    assert limits(" grpc.max_concurrent_streams = 7 ,grpc.max_concurrent_streams=+8") == GrpcLimits(
        max_calls=8
    )


def test_messages_are_unlimited_below_zero() -> None:
    unlimited = limits("grpc.max_receive_message_length=-1,grpc.max_send_message_length=-1")
    assert unlimited == GrpcLimits(max_receive_bytes=INT32_MAX, max_send_bytes=INT32_MAX)
    none = limits("grpc.max_receive_message_length=0,grpc.max_send_message_length=0")
    assert none == GrpcLimits(max_receive_bytes=0, max_send_bytes=0)


@pytest.mark.parametrize(
    ("text", "most"),
    [
        ("grpc.max_metadata_size=4000", 16384),
        ("grpc.max_metadata_size=20000", 25000),
        (f"grpc.max_metadata_size={INT32_MAX}", INT32_MAX),
        ("grpc.absolute_max_metadata_size=4000", 4000),
        ("grpc.absolute_max_metadata_size=4000,grpc.max_metadata_size=20000", 4000),
    ],
)
def test_the_hard_limit_of_metadata_follows_from_the_soft_one(text: str, most: int) -> None:
    assert limits(text) == GrpcLimits(max_header_bytes=most)


@pytest.mark.parametrize(
    ("item", "used", "line"),
    [
        (
            "grpc.http2.max_frame_size=1",
            GrpcLimits(max_frame_bytes=16384),
            "grpc.http2.max_frame_size expects 16384 to 16777215, got 1: 16384 is used",
        ),
        (
            "grpc.http2.max_frame_size=99999999",
            GrpcLimits(max_frame_bytes=16777215),
            "grpc.http2.max_frame_size expects 16384 to 16777215, got 99999999: 16777215 is used",
        ),
        (
            "grpc.http2.lookahead_bytes=0",
            GrpcLimits(call_window=5),
            "grpc.http2.lookahead_bytes expects 5 to 2147483647, got 0: 5 is used",
        ),
        (
            "grpc.keepalive_time_ms=-3",
            GrpcLimits(asked_every_ms=1),
            "grpc.keepalive_time_ms expects 1 to 2147483647, got -3: 1 is used",
        ),
        (
            "grpc.max_concurrent_streams=-1",
            GrpcLimits(),
            "grpc.max_concurrent_streams expects at least 0, got -1: left out",
        ),
        (
            "grpc.max_connection_age_ms=0",
            GrpcLimits(),
            "grpc.max_connection_age_ms expects at least 1, got 0: left out",
        ),
        (
            "grpc.max_connection_age_ms=1e3",
            GrpcLimits(),
            "grpc.max_connection_age_ms expects a whole number of 32 bits, got '1e3': left out",
        ),
        (
            "grpc.max_send_message_length=2147483648",
            GrpcLimits(),
            "grpc.max_send_message_length expects a whole number of 32 bits, got '2147483648': left out",
        ),
        (
            "grpc.max_connection_age_ms",
            GrpcLimits(),
            "expected name=value, got 'grpc.max_connection_age_ms': left out",
        ),
        ("=5", GrpcLimits(), "expected name=value, got '=5': left out"),
        ("", GrpcLimits(), "expected name=value, got '': left out"),
        (
            "grpc.b=1",
            GrpcLimits(),
            "no effect here: grpc.b (the gRPC port is not served by gRPC's C core)",
        ),
    ],
)
def test_what_is_not_done_as_said_has_a_line_and_harms_nothing(
    item: str, used: GrpcLimits, line: str
) -> None:
    found, lines = read(f"{item},grpc.http2.hpack_table_size.decoder=0")
    assert (found.header_table_bytes, lines) == (0, [f"--grpc_channel_arguments: {line}"])
    assert {**vars(found), "header_table_bytes": None} == vars(used)


def test_one_line_names_all_without_effect() -> None:
    _, lines = read("grpc.b=1,grpc.a=x=y,grpc.b=2")
    (line,) = lines
    assert "no effect here: grpc.b, grpc.a (" in line
