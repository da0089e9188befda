"""Builds the image's root file system from the Dockerfile, without a container engine.

A stage based on ``debian:NAME-slim`` starts with debootstrap's result (variant minbase, of which that image
is a slimmed form); RUN runs in that root, in its own mount and process namespaces; COPY copies. Stages with
other bases are not built: their files must be given. Needs root, debootstrap, and the package registries.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

from dockerfile import PROJECT, Copy, Instruction, Stage, copy

ENTER = Path(__file__).with_name("enter.sh")
SECONDS = 900
"""Longest duration of a step in seconds: it may download TensorFlow."""

NETWORK = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "PIP_INDEX_URL", "PIP_DEFAULT_TIMEOUT")
"""This machine's network settings, in capitals; an engine, too, passes the first three to a build."""

CERTIFICATES = "/run/certificates.pem"
"""Path of the certificates that pip trusts on this machine ($PIP_CERT), within a build step."""


@dataclass
class Image:
    """A built stage: its root file system, and the state set by instructions without files."""

    root: Path
    stage: Stage
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
    arguments: dict[str, str] = field(default_factory=dict)
    folder: str = "/"


class Builder:
    """Builds stages in order; each keeps its root below ``folder``.

    given: stages whose files already exist, by name. arguments: build arguments. bases: the folder of
    Debian's own roots, which are reused.
    """

    def __init__(
        self, folder: Path, given: Mapping[str, Path], arguments: Mapping[str, str], bases: Path
    ) -> None:
        self._folder = folder
        self._bases = bases
        self._roots = dict(given)
        self._arguments = arguments

    def build(self, stages: list[Stage]) -> Image:
        """Builds every stage not given; returns the last."""
        for number, stage in enumerate(stages):
            if stage.name not in self._roots:
                image = self._build(stage, self._folder / (stage.name or f"stage{number}"))
                self._roots[stage.name] = image.root
        return image

    def _build(self, stage: Stage, root: Path) -> Image:
        debian = stage.base.removeprefix("debian:").removesuffix("-slim")
        if f"debian:{debian}-slim" != stage.base:
            raise ValueError(f"cannot make {stage.base} here: give the files of stage {stage.name}")
        base = debian_root(self._bases / f"debian-{debian}", debian)
        subprocess.run(["cp", "-a", "--", str(base), str(root)], check=True)
        image = Image(root, stage)
        for one in stage.instructions:
            self._follow(image, one)
        return image

    def _follow(self, image: Image, one: Instruction) -> None:
        if one.keyword == "RUN":
            run(image, one.value)
        elif one.keyword == "COPY":
            self._copy(image, copy(one))
        elif one.keyword == "ENV":
            image.environment |= dict(word.split("=", 1) for word in one.words())
        elif one.keyword == "ARG":
            name, _, default = one.value.partition("=")
            image.arguments[name] = self._arguments.get(name, default)
        elif one.keyword == "WORKDIR":
            image.folder = one.value
            inside(image, one.value).mkdir(parents=True, exist_ok=True)

    def _copy(self, image: Image, copied: Copy) -> None:
        origin = self._roots[copied.stage] if copied.stage else PROJECT
        target = inside(image, copied.target)
        into = copied.target.endswith("/") or len(copied.sources) > 1
        for source in copied.sources:
            path = origin / Template(source).substitute(image.environment).lstrip("/")
            if path.is_dir():
                shutil.copytree(path, target, symlinks=True, dirs_exist_ok=True)
                continue
            file = target / path.name if into else target
            file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, file, follow_symlinks=False)


def inside(image: Image, path: str) -> Path:
    """Returns the location of a path of the image on this machine."""
    return image.root / (Path(image.folder) / path).as_posix().lstrip("/")


def debian_root(root: Path, name: str) -> Path:
    """Returns a root file system of Debian ``name`` at ``root``, made unless it exists."""
    if not root.exists():
        half = root.with_name(root.name + ".part")
        shutil.rmtree(half, ignore_errors=True)
        subprocess.run(
            ["debootstrap", "--variant=minbase", name, str(half)],
            check=True,
            timeout=SECONDS,
            stdout=subprocess.DEVNULL,
        )
        half.rename(root)
    return root


def run(image: Image, command: str) -> None:
    """Executes a RUN in shell form, as root, with this machine's network settings."""
    settings = {name: value for name, value in os.environ.items() if name.upper() in NETWORK}
    options = ["--network", "--directory", image.folder]
    if os.environ.get("PIP_CERT"):
        settings["PIP_CERT"] = CERTIFICATES
        options += ["--volume", f"{os.environ['PIP_CERT']}:{CERTIFICATES}"]
    variables = settings | image.arguments | image.environment
    assignments = [f"{name}={value}" for name, value in variables.items()]
    command_line = ["env", "-i", *assignments, "/bin/sh", "-c", command]
    subprocess.run([str(ENTER), str(image.root), *options, "--", *command_line], check=True, timeout=SECONDS)
