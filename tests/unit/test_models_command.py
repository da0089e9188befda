"""The commands for a running server's administration, where something else answers at its address."""

from __future__ import annotations

from pathlib import Path

import pytest
from http_stub import answering

from servable.cli.models import label, models, reload, version_policy
from servable.cli.warmup import warmup
from servable.savedmodel.tfrecord import write_records

LIST = {"models": []}


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (502, b"<html>Bad Gateway</html>", "the answer is 502 Bad Gateway, without the reason"),
        (404, {"detail": "no such page"}, "the answer is 404 Not Found, without the reason"),
        (500, {"error": {"why": "?"}}, "the answer is 500 Internal Server Error"),
        (400, b"[1]", "the answer is 400 Bad Request"),
        (
            404,
            {"error": "There is no model m", "code": "NOT_FOUND", "hint": "n?"},
            "There is no model m\nhint: n?",
        ),
        (404, {"error": "gone"}, "UNKNOWN: gone"),
        (200, b"hello", "the answer is not JSON"),
        (200, b"[]", "the answer is not JSON"),
        (200, b"[" * 200_000, "the answer is not JSON"),
    ],
)
def test_what_is_no_administration_is_told(
    capsys: pytest.CaptureFixture[str], status: int, body: bytes | dict[str, object], said: str
) -> None:
    with answering((status, body)) as stub:
        assert models([f"--admin_address={stub.address}"]) == 1
        assert said in capsys.readouterr().err
        assert reload(["m", f"--admin_address={stub.address}"]) == 1


def test_what_is_known_is_loaded_by_a_hint_and_what_is_not_is_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    unknown = (404, {"error": "There is no model x", "code": "NOT_FOUND", "hint": "served are: a, b"})
    known = (200, {"name": "a", "standing": "available", "versions": []})
    with answering(unknown, known, known) as stub:
        assert models(["prefetch", "x", "a", f"--admin_address={stub.address}"]) == 1
    assert [path.split("?")[0] for _, path, _, _ in stub.requests] == [
        "/admin/models/x/prefetch",
        *["/admin/models/a/prefetch"] * 2,
    ]
    told = capsys.readouterr()
    assert "There is no model x" in told.err and "served are: a, b" in told.err
    assert "\na " in told.out
    with answering(unknown) as stub:
        assert models(["prefetch", f"--admin_address={stub.address}"]) == 1
    assert "servable models prefetch NAME" in capsys.readouterr().err


def test_an_administration_is_understood(capsys: pytest.CaptureFixture[str]) -> None:
    with answering((200, LIST)) as stub:
        assert models([f"--admin_address={stub.address}"]) == 0
    assert capsys.readouterr().out.startswith("MODEL")


def test_numbers_without_end_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    digits = "9" * 5000
    for argv in ([f"canary={digits}"], ["canary=²"]):
        with pytest.raises(SystemExit, match="2"):
            label(["m", *argv])
        assert "expected LABEL=VERSION" in capsys.readouterr().err
    for versions in (digits, f"latest:{digits}"):
        with pytest.raises(ValueError, match="--versions expects"):
            version_policy(versions)
    assert models(["--admin_address=127.0.0.1:99999"]) == 1
    assert "--admin_address expects" in capsys.readouterr().err


def test_more_requests_than_a_file_holds_are_not_recorded_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "requests"
    argv = ["record", "m", f"--output={file}", "--admin_address=127.0.0.1:1"]
    assert warmup([*argv, "--requests=1001"]) == 1
    assert "may hold 1000 records" in capsys.readouterr().err
    write_records(str(file), [b"one", b"two"])
    assert warmup([*argv, "--requests=999", "--append"]) == 1
    assert "has 2, and may hold 1000 records\nhint: --requests=998 at most" in capsys.readouterr().err
    assert warmup([*argv, "--requests=998", "--append"]) == 1
    assert "nobody administers at 127.0.0.1:1" in capsys.readouterr().err


@pytest.mark.parametrize(("standing", "status"), [("available", 0), ("on_demand", 0), ("failed", 1)])
def test_a_reload_of_what_is_loaded_on_demand_has_not_failed(standing: str, status: int) -> None:
    with answering((200, {"name": "m", "standing": standing, "versions": []})) as stub:
        assert reload(["m", f"--admin_address={stub.address}"]) == status
