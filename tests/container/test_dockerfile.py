"""The Dockerfile as text: its contract, and that the copied files exist and suffice."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from dockerfile import PROJECT, Stage, stages

STAGES = {stage.name: stage for stage in stages()}
LAST = STAGES[""]


def from_context(stage: Stage) -> list[str]:
    return [source for copied in stage.copies() if not copied.stage for source in copied.sources]


def test_the_contract_of_tensorflow_serving() -> None:
    assert LAST.last("EXPOSE").split() == ["8500", "8501"]
    assert json.loads(LAST.last("ENTRYPOINT")) == ["/usr/bin/tf_serving_entrypoint.sh"]
    assert {"MODEL_BASE_PATH=/models", "MODEL_NAME=model"} <= set(LAST.last("ENV").split())
    assert LAST.last("STOPSIGNAL") == "SIGTERM"


def test_the_cache_is_where_its_folder_is() -> None:
    (cache,) = (value for value in LAST.last("ENV").split() if value.startswith("XDG_CACHE_HOME="))
    folder = cache.partition("=")[2] + "/servable"
    assert re.search(
        rf"^ *install -d .* {folder}$", (PROJECT / "deploy/install.sh").read_text(), re.MULTILINE
    )


def test_the_user_is_a_number_other_than_root() -> None:
    assert all(part.isdigit() and int(part) > 0 for part in LAST.last("USER").split(":"))


def test_build_arguments_choose_the_bases() -> None:
    assert [stage.base for stage in stages(arguments={"DEBIAN": "forky", "RUST_VERSION": "1.99"})] == [
        "rust:1.99-slim-forky",
        "debian:forky-slim",
        "debian:forky-slim",
    ]


@pytest.mark.parametrize("source", sorted({source for stage in stages() for source in from_context(stage)}))
def test_what_is_copied_is_there_and_not_ignored(source: str) -> None:
    assert (PROJECT / source).exists()
    kept = {
        line[1:].rstrip("/")
        for line in (PROJECT / ".dockerignore").read_text().splitlines()
        if line[:1] == "!"
    }
    assert kept & {source, *map(str, Path(source).parents)}


def test_the_sources_that_are_copied_make_a_crate(tmp_path: Path) -> None:
    for source in from_context(STAGES["wheel"]):
        path = PROJECT / source
        if path.is_dir():
            shutil.copytree(path, tmp_path / source, ignore=shutil.ignore_patterns("*.so"))
        elif path.parent == PROJECT:
            shutil.copy(path, tmp_path)
    command = ["cargo", "metadata", "--no-deps", "--offline", "--format-version=1"]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    (package,) = json.loads(found.stdout)["packages"]
    assert all(Path(target["src_path"]).is_file() for target in package["targets"])


@pytest.mark.parametrize("lock_file", ["cpu.txt", "engines.txt"])
def test_the_lock_files_have_hashes(lock_file: str) -> None:
    lines = (PROJECT / "requirements" / lock_file).read_text().splitlines()
    pinned = [number for number, line in enumerate(lines) if "==" in line]
    assert pinned and all(lines[number + 1].lstrip().startswith("--hash=sha256:") for number in pinned)


def test_the_packages_of_the_engines_are_locked() -> None:
    script = (PROJECT / "deploy/install.sh").read_text()
    wanted = set(re.findall(r"download_locked (\w+\.txt) ([\w-]+)", script))
    assert {package for _, package in wanted} == {"protobuf", "openvino", "onnxruntime", "ai-edge-litert"}
    for lock_file, package in wanted | {("cpu.txt", "tensorflow"), ("cpu.txt", "tensorflow-cpu")}:
        lines = (PROJECT / "requirements" / lock_file).read_text().splitlines()
        pins = [line for line in lines if line.startswith(f"{package}==")]
        # Several are for different Pythons, of which pip takes the image's.
        assert pins and (len(pins) == 1 or all("python_full_version" in pin for pin in pins)), package


def test_the_servers_own_dependencies_are_installed_in_the_image() -> None:
    project = (PROJECT / "pyproject.toml").read_text()
    (dependencies,) = re.findall(r"^dependencies = \[(.*?)\]", project, re.MULTILINE | re.DOTALL)
    assert re.findall(r'"([\w-]+)', dependencies) == ["protobuf"], "deploy/install.sh download"
