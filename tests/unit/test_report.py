"""What the log says of loads that fail."""

from __future__ import annotations

import logging

import pytest

from servable.errors import StatusError
from servable.serving.report import StartReport
from servable.sources import AspiredVersion

PLACE = AspiredVersion(1, "/models/m/1")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (StatusError("NOT_FOUND", "gone"), "(not tried again): NOT_FOUND: gone"),
        (StatusError("DATA_LOSS", "it is damaged", "copy it"), "DATA_LOSS: it is damaged\n    copy it"),
        (StatusError("NOT_FOUND", "Op type not registered 'Foo'"), "--op_library=PATH"),
        (
            StatusError("NOT_FOUND", "Op type not registered 'Foo'", "its own advice"),
            "'Foo'\n    its own advice",
        ),
    ],
)
def test_an_errors_own_hint_comes_first(
    caplog: pytest.LogCaptureFixture, error: StatusError, expected: str
) -> None:
    caplog.set_level(logging.ERROR)
    StartReport().failed("m", PLACE, error, None)
    assert expected in caplog.text
    assert ("--op_library" in caplog.text) == ("--op_library" in expected)
