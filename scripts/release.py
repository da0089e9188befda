"""Makes a release: `make release VERSION=1.2.3`; with `DRY_RUN=1` it shows what it would do.

Checks that there is something to release, sets the version in Cargo.toml and Cargo.lock, gives the
changelog's section Unreleased its version and date, commits, and tags the commit with that section as its
notes. Pushing is left to whoever releases: the tag makes the workflows build and publish.
"""

from __future__ import annotations

import argparse
import datetime
import difflib
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

UNRELEASED = "## [Unreleased]"
_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")
_IN_MANIFEST = re.compile(r'(\[package\]\nname = "servable"\nversion = ")([^"]+)(")')
_IN_LOCK = re.compile(r'(\[\[package\]\]\nname = "servable"\nversion = ")([^"]+)(")')


class RefusedError(Exception):
    """Why there is no release."""


def numbers(version: str) -> tuple[int, int, int]:
    """Returns the three numbers of a version. Raises ``RefusedError`` for anything else."""
    found = _VERSION.fullmatch(version)
    if not found:
        raise RefusedError(f"a version is three numbers such as 1.2.3, got {version or 'nothing'}")
    major, minor, patch = map(int, found.groups())
    return major, minor, patch


def current(manifest: str) -> str:
    """Returns the version in Cargo.toml."""
    found = _IN_MANIFEST.search(manifest)
    if not found:
        raise RefusedError("Cargo.toml begins with no [package] of the name servable and its version")
    return found[2]


def notes(changelog: str) -> str:
    """Returns what the section Unreleased says."""
    _, heading, after = changelog.partition(f"{UNRELEASED}\n")
    if not heading:
        raise RefusedError(f"CHANGELOG.md has no section {UNRELEASED}")
    section = re.split(r"^## ", after, maxsplit=1, flags=re.MULTILINE)[0].strip()
    if not re.search(r"^- ", section, re.MULTILINE):
        raise RefusedError("CHANGELOG.md has nothing under Unreleased")
    return section


def released(changelog: str) -> list[str]:
    """Returns the versions that the changelog has, the newest first."""
    return re.findall(r"^## \[(\d+\.\d+\.\d+)\]", changelog, re.MULTILINE)


def check(version: str, manifest: str, changelog: str) -> None:
    """Raises ``RefusedError`` unless ``version`` may follow."""
    new, now = numbers(version), numbers(current(manifest))
    before = released(changelog)
    if version in before:
        raise RefusedError(f"CHANGELOG.md has {version} already")
    # The first release may have the version that the sources have from the beginning.
    if new < now or (new == now and before):
        raise RefusedError(f"{version} is not newer than {current(manifest)}, the version in Cargo.toml")


def rewritten(version: str, date: str, files: Mapping[str, str]) -> dict[str, str]:
    """Returns the files of a release, by name, from what they are now."""
    manifest, lock, changelog = files["Cargo.toml"], files["Cargo.lock"], files["CHANGELOG.md"]
    if not _IN_LOCK.search(lock):
        raise RefusedError("Cargo.lock has no package of the name servable")
    heading = f"{UNRELEASED}\n\n## [{version}] - {date}\n"
    return {
        "Cargo.toml": _IN_MANIFEST.sub(rf"\g<1>{version}\g<3>", manifest),
        "Cargo.lock": _IN_LOCK.sub(rf"\g<1>{version}\g<3>", lock),
        "CHANGELOG.md": changelog.replace(f"{UNRELEASED}\n", heading, 1),
    }


def git(folder: Path, *arguments: str) -> str:
    """Runs git in ``folder`` and returns what it prints."""
    done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RefusedError(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


def check_repository(folder: Path, version: str, branch: str) -> None:
    """Raises ``RefusedError`` unless everything is committed, on the right branch, and the tag is free."""
    if changed := git(folder, "status", "--porcelain"):
        raise RefusedError(f"there are changes that are not committed:\n{changed}")
    on = git(folder, "rev-parse", "--abbrev-ref", "HEAD")
    if on != branch:
        raise RefusedError(f"releases are made on {branch}, and this is {on} (--branch)")
    if git(folder, "tag", "--list", f"v{version}"):
        raise RefusedError(f"there is a tag v{version} already")


def release(folder: Path, version: str, date: str, branch: str) -> str:
    """Makes the release in ``folder``; returns what is to be done next."""
    before, after, said = prepared(folder, version, date, branch)
    for name, text in after.items():
        (folder / name).write_text(text, encoding="utf-8")
    git(folder, "add", *before)
    git(folder, "commit", "--quiet", "-m", f"Release {version}")
    with tempfile.NamedTemporaryFile("w", suffix=".md", encoding="utf-8") as message:
        message.write(said)
        message.flush()
        # Headings begin with #, which is a comment to git unless it is told otherwise.
        git(folder, "tag", "--annotate", "--cleanup=verbatim", f"v{version}", "--file", message.name)
    return f"committed and tagged v{version}; to publish it: git push --follow-tags origin {branch}"


def dry_run(folder: Path, version: str, date: str, branch: str) -> str:
    """Returns what a release would change and say."""
    before, after, said = prepared(folder, version, date, branch)
    parts = []
    for name in before:
        lines = (before[name].splitlines(), after[name].splitlines())
        parts += [*difflib.unified_diff(*lines, name, name, lineterm="", n=1), ""]
    return "\n".join([*parts, f"The tag v{version} would say:", "", said])


def prepared(
    folder: Path, version: str, date: str, branch: str
) -> tuple[dict[str, str], dict[str, str], str]:
    """Returns the files as they are and will be, and the tag's message, once everything is checked."""
    files = {
        name: (folder / name).read_text(encoding="utf-8")
        for name in ("Cargo.toml", "Cargo.lock", "CHANGELOG.md")
    }
    check(version, files["Cargo.toml"], files["CHANGELOG.md"])
    said = f"Servable {version}\n\n{notes(files['CHANGELOG.md'])}\n"
    after = rewritten(version, date, files)
    check_repository(folder, version, branch)
    return files, after, said


def main(argv: list[str]) -> int:
    """Runs the command; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("version", nargs="?", default="")
    parser.add_argument("--dry-run", action="store_true", help="change nothing, show what would be done")
    parser.add_argument("--branch", default="main", help="the branch that releases are made on (%(default)s)")
    parser.add_argument("--folder", type=Path, default=Path(__file__).resolve().parent.parent)
    options = parser.parse_args(argv)
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    act = dry_run if options.dry_run else release
    try:
        print(act(options.folder, options.version, today, options.branch))
    except RefusedError as error:
        print(f"no release: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
