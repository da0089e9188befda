"""The workflows of GitHub: few permissions, pinned actions, no secrets; actionlint where it is installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

yaml = pytest.importorskip("yaml")

FOLDER = ROOT / ".github" / "workflows"
FILES = sorted(FOLDER.glob("*.yml"))
WRITES = {
    ("wheels.yml", "publish"): {"id-token"},
    ("wheels.yml", "notes"): {"contents"},
    ("images.yml", "push"): {"packages"},
    ("images.yml", "together"): {"packages"},
    ("docs.yml", "publish"): {"pages", "id-token"},
}
"""What a job may change; everything else reads."""


def workflow(path: Path) -> dict[str, Any]:
    loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(loaded, dict)
    return loaded


def test_there_are_workflows_for_tests_wheels_images_and_docs() -> None:
    assert {path.name for path in FILES} == {"tests.yml", "wheels.yml", "images.yml", "docs.yml"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_permissions_are_the_least(path: Path) -> None:
    loaded = workflow(path)
    assert loaded["permissions"] == {"contents": "read"}
    for name, job in loaded["jobs"].items():
        written = {what for what, how in job.get("permissions", {}).items() if how == "write"}
        assert written == WRITES.get((path.name, name), set()), name
        assert isinstance(job["timeout-minutes"], int), name


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_actions_are_pinned_by_commit_with_their_version(path: Path) -> None:
    used = re.findall(r"uses: (.*)", path.read_text(encoding="utf-8"))
    assert used
    assert [one for one in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", one)] == []


def test_an_action_has_one_version_everywhere() -> None:
    pins: dict[str, set[str]] = {}
    for path in FILES:
        for name, commit in re.findall(r"uses: ([\w./-]+)@(\S+)", path.read_text(encoding="utf-8")):
            pins.setdefault(name, set()).add(commit)
    assert {name: found for name, found in pins.items() if len(found) > 1} == {}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_nothing_of_an_event_becomes_part_of_a_script(path: Path) -> None:
    """Names of branches and titles are chosen by others; scripts get what they need by the environment."""
    for name, job in workflow(path)["jobs"].items():
        for step in job["steps"]:
            assert "${{" not in step.get("run", ""), f"{name}: {step['run']}"
    assert "secrets." not in path.read_text(encoding="utf-8")


def test_a_checkout_keeps_no_credentials() -> None:
    for path in FILES:
        for job in workflow(path)["jobs"].values():
            for step in job["steps"]:
                if step.get("uses", "").startswith("actions/checkout@"):
                    assert step["with"] == {"persist-credentials": False}


def test_scripts_and_targets_that_are_called_are_there() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    text = "\n".join(path.read_text(encoding="utf-8") for path in FILES)
    targets = set(re.findall(r"run: make ([\w-]+)", text))
    assert {"wheel", "test-wheel"} <= targets
    assert [one for one in targets if f"\n{one}:" not in makefile] == []
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_what_is_promised_is_tested() -> None:
    """The oldest Python and Rust of the project's files are those of the workflows."""
    wheels = workflow(FOLDER / "wheels.yml")["jobs"]["pythons"]["strategy"]["matrix"]["python"]
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'requires-python = ">={wheels[0]}"' in project
    manifest = (ROOT / "Cargo.toml").read_text(encoding="utf-8")
    oldest = re.findall(r'rust-version = "([\d.]+)"', manifest)
    assert f"rustup default {oldest[0]}\n" in (FOLDER / "tests.yml").read_text(encoding="utf-8")


def actionlint() -> str | None:
    beside = Path(sys.executable).with_name("actionlint")
    return str(beside) if beside.exists() else shutil.which("actionlint")


def test_actionlint_finds_nothing() -> None:
    linter = actionlint()
    if linter is None:
        pytest.skip("actionlint is not installed: `make lint-workflows` builds it")
    done = subprocess.run(
        [linter, "-no-color", *map(str, FILES)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
