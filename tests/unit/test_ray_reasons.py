"""The reason in what Ray says."""

from __future__ import annotations

import pytest

from servable.ray.reasons import reason


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("", ""),
        ("no trace", "no trace"),
        ("ray::run()\n  File x\nservable.errors.NotFoundError: NOT_FOUND: why", "NOT_FOUND: why"),
        ("x\nRuntimeError: RuntimeError: twice", "RuntimeError: twice"),
        ("x\nray.serve.exceptions.RayServeException: Prefix /shop is used", "Prefix /shop is used"),
        ("x\nray.exceptions.RayActorError: it died", "it died"),
        ("x\nOSError: [Errno 28] No space left", "[Errno 28] No space left"),
        ("NOT_FOUND: model m: why", "NOT_FOUND: model m: why"),
        ("Path: /x", "Path: /x"),
    ],
)
def test_the_last_line_without_the_class(message: str, expected: str) -> None:
    assert reason(message) == expected
