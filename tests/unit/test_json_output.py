"""``--json``: the shapes that docs/command-line.md promises, for every command that prints a table."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from http_stub import answering

from servable.cli import main
from servable.cli.commands import LIST
from servable.cli.completion_words import all_words
from servable.config.flags import FLAGS

PAGE = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
MODEL = {
    "name": "m",
    "base_path": "/models/m",
    "standing": "available",
    "labels": {"stable": 1},
    "versions": [{"version": 1, "state": "AVAILABLE", "path": "/models/m/1"}],
}
Capture = pytest.CaptureFixture[str]


def printed(capsys: Capture, *argv: str, status: int = 0) -> Any:
    """Runs a command, and returns what it printed."""
    assert main(list(argv)) == status
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("argv", "reply", "expected"),
    [
        (["models"], {"models": [MODEL]}, {"models": [MODEL]}),
        (["models", "m"], MODEL, MODEL),
        (["load", "m", "/models/m"], MODEL, MODEL),
        (["label", "m", "stable=1"], MODEL, MODEL),
        (["reload", "m"], MODEL, MODEL),
        (
            ["reload", "--config"],
            {"model_config_list": {"config": []}},
            {"model_config_list": {"config": []}},
        ),
        (["unload", "m"], {}, {"name": "m", "unloaded": True}),
    ],
)
def test_a_running_servers_models(
    capsys: Capture, argv: list[str], reply: dict[str, Any], expected: dict[str, Any]
) -> None:
    with answering((200, reply)) as stub:
        assert printed(capsys, *argv, "--json", f"--admin_address={stub.address}") == expected
        assert main([*argv, f"--admin_address={stub.address}"]) == 0
        assert not capsys.readouterr().out.startswith("{")


def test_tokens(tmp_path: Path, capsys: Capture) -> None:
    file = str(tmp_path / "tokens")
    assert main(["token", "new", "anna", "--rate", "5/s", "--auth_file", file]) == 0
    capsys.readouterr()
    (token,) = printed(capsys, "token", "list", "--json", "--auth_file", file)["tokens"]
    assert (token["name"], token["scopes"], token["rate"]) == ("anna", "predict,read", "5/s")
    assert "sha256" not in json.dumps(token)


def test_flags(capsys: Capture) -> None:
    flags = printed(capsys, "flags", "--json")["flags"]
    assert [one["name"] for one in flags] == list(FLAGS)
    assert set(flags[0]) == shape_of("servable flags --json", "flags")
    (engine,) = [one for one in flags if one["name"] == "engine"]
    assert engine["choices"] == list(FLAGS["engine"].choices)


def test_versions(capsys: Capture) -> None:
    found = printed(capsys, "version", "--json", "--tensorflow_library=/no/such/lib")
    assert set(found) == shape_of("servable version --json", "")
    assert found["engines"]["TensorFlow"] is None
    assert set(found["engines"]) == {"TensorFlow", "ONNX Runtime", "OpenVINO", "LiteRT"}


def test_artifacts(tmp_path: Path, capsys: Capture) -> None:
    found = printed(capsys, "inspect", "--json", str(tmp_path), status=1)
    assert set(found) == shape_of("servable inspect --json", "")
    assert found["kind"] == "empty-folder"


def shape_of(command: str, key: str) -> set[str]:
    """Returns the keys that the page shows below ``command``: of the first one in ``key``, if given."""
    block = re.search(rf"`{re.escape(command)}`.*?```json\n(.*?)```", PAGE, re.DOTALL)
    assert block is not None, command
    shown = json.loads(block[1])
    return set(shown[key][0] if key else shown)


def test_every_block_of_the_page_is_json() -> None:
    blocks = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) >= 6
    for one in blocks:
        json.loads(one)


def test_every_command_that_prints_a_table_has_json() -> None:
    tables = {
        "inspect",
        "optimize",
        "models",
        "load",
        "label",
        "reload",
        "token list",
        "bench",
        "bench compare",
        "flags",
        "version",
        "doctor",
        "predict",
    }
    words = {one.command: one for one in all_words()}
    assert {name for name in tables if "--json" not in words[name].flags} == set()
    # And the page names each command.
    assert [one.name for one in LIST if f"`servable {one.name}" not in PAGE] == []
