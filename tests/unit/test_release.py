"""`make release`: on a copy of the repository's files, in a repository of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

SCRIPT = ROOT / "scripts" / "release.py"
FILES = ("Cargo.toml", "Cargo.lock", "CHANGELOG.md")
WHO = {f"GIT_{role}_{what}": f"{what}@x" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(folder), *arguments],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **WHO},
    ).stdout


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A repository with the files that a release changes, as they are here."""
    for name in FILES:
        shutil.copy(ROOT / name, tmp_path)
    changelog = tmp_path / "CHANGELOG.md"
    text = changelog.read_text()
    if re.search(r"## \[Unreleased\]\n+## ", text):  # just released
        changelog.write_text(text.replace("## [Unreleased]\n", "## [Unreleased]\n\n- Something.\n", 1))
    git(tmp_path, "init", "--quiet", "--initial-branch=main")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "All")
    return tmp_path


def release(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments, "--folder", str(folder)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **WHO},
    )


def version_in(folder: Path) -> tuple[str, str]:
    package = r'name = "servable"\nversion = "([^"]+)"'
    manifest = re.findall(package, (folder / "Cargo.toml").read_text())
    lock = re.findall(package, (folder / "Cargo.lock").read_text())
    assert len(manifest) == len(lock) == 1
    return manifest[0], lock[0]


def test_a_release_sets_versions_and_date_commits_and_tags(copy: Path) -> None:
    done = release(copy, "98.7.6")
    assert done.returncode == 0, done.stderr
    assert "git push --follow-tags origin main" in done.stdout
    assert version_in(copy) == ("98.7.6", "98.7.6")
    changelog = (copy / "CHANGELOG.md").read_text()
    assert re.search(r"^## \[Unreleased\]\n\n## \[98\.7\.6\] - \d{4}-\d\d-\d\d\n\n", changelog, re.MULTILINE)
    assert git(copy, "status", "--porcelain") == ""
    assert git(copy, "log", "-1", "--format=%s").strip() == "Release 98.7.6"
    said = git(copy, "tag", "--list", "v98.7.6", "--format=%(contents)")
    assert said.startswith("Servable 98.7.6\n\n")
    assert re.search(r"^- ", said, re.MULTILINE)
    assert git(copy, "rev-parse", "v98.7.6^{commit}") == git(copy, "rev-parse", "HEAD")


def test_the_next_release_starts_from_an_empty_section(copy: Path) -> None:
    assert release(copy, "98.7.6").returncode == 0
    again = release(copy, "98.7.7")
    assert again.returncode == 1
    assert "nothing under Unreleased" in again.stderr


def test_a_dry_run_changes_nothing(copy: Path) -> None:
    before = {name: (copy / name).read_text() for name in FILES}
    done = release(copy, "98.7.6", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert '+version = "98.7.6"' in done.stdout
    assert "+## [98.7.6] - " in done.stdout
    assert "Servable 98.7.6" in done.stdout
    assert {name: (copy / name).read_text() for name in FILES} == before
    assert git(copy, "tag", "--list") == ""
    assert git(copy, "status", "--porcelain") == ""


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("", "three numbers such as 1.2.3, got nothing"),
        ("1.2", "three numbers"),
        ("v1.2.3", "three numbers"),
        ("1.2.3rc1", "three numbers"),
        ("0.0.1", "is not newer than"),
    ],
)
def test_versions_that_are_refused(copy: Path, version: str, said: str) -> None:
    done = release(copy, *([version] if version else []))
    assert done.returncode == 1
    assert said in done.stderr


def test_changes_that_are_not_committed_are_refused(copy: Path) -> None:
    (copy / "Cargo.toml").write_text((copy / "Cargo.toml").read_text() + "\n")
    done = release(copy, "98.7.6")
    assert done.returncode == 1
    assert "not committed" in done.stderr
    assert git(copy, "tag", "--list") == ""


def test_another_branch_and_a_taken_tag_are_refused(copy: Path) -> None:
    git(copy, "tag", "v98.7.6")
    assert "a tag v98.7.6 already" in release(copy, "98.7.6").stderr
    git(copy, "checkout", "--quiet", "-b", "work")
    assert "this is work" in release(copy, "98.7.7").stderr
