"""What the log says of loads that fail."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from servable.errors import CancelledError, StatusError
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


def test_a_load_that_was_ended_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    StartReport().failed("m", PLACE, CancelledError("CANCELLED", "the version is not wanted any more"), None)
    assert [(one.levelname, one.getMessage()) for one in caplog.records] == [
        ("INFO", "ended the load of m version 1: the version is not wanted any more")
    ]


def test_of_a_model_that_is_gone_only_the_name_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    inputs, outputs = [("x", "float", "[-1]")], [("y", "float", "[-1]")]
    loaded: Any = SimpleNamespace(
        signatures=[("serving_default", inputs, outputs)], seconds=0.1, placement="caller"
    )
    report = StartReport()
    report.open_at({"rest": "127.0.0.1:8501"})
    for _ in range(2):
        report.loaded("m", PLACE, loaded)
        report.unloaded("m", PLACE)
    assert report._signatures == {"m": (-1, [])}
    assert caplog.text.count("try m:") == 1, "it is no new one when it comes back"
    report.loaded("m", AspiredVersion(2, "/models/m/2"), loaded)
    report.unloaded("m", PLACE)
    assert report._signatures["m"][0] == 2
