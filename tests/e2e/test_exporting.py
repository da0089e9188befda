"""The code of docs/exporting.md: each block is run as it stands, and what it makes is served and asked.

A framework that is not installed is skipped; ``make test-exports`` installs them.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from conftest import ROOT
from servers import ONE_TRY, serving
from wire import ask

pytestmark = pytest.mark.timeout(300)

PAGE = ROOT / "docs" / "exporting.md"
NEEDS = ("keras", "jax", "torch", "onnxscript", "sklearn", "skl2onnx", "tensorflow")
EXPORT_SECONDS = 240.0
_BLOCKS = re.compile(r"```python\n(.*?)```.*?```sh\n(.*?)```.*?```json\n(.*?)```", re.DOTALL)


@dataclass(frozen=True)
class Export:
    """One example: the code, the commands that prepare and ask, and the answer that the page shows."""

    code: str
    commands: list[str]
    answer: str

    @property
    def served(self) -> str:
        """The path that ``servable serve`` is given."""
        (line,) = [one for one in self.commands if one.startswith("servable serve ")]
        return line.removeprefix("servable serve ")

    def needs(self) -> list[str]:
        """The packages that it takes and that are not here."""
        imported = set(re.findall(r"^(?:import|from) (\w+)", self.code, re.MULTILINE))
        if "dynamo=True" in self.code:
            imported.add("onnxscript")
        return sorted(name for name in imported & set(NEEDS) if find_spec(name) is None)


def exports() -> list[Export]:
    return [
        Export(code, commands.strip().splitlines(), answer)
        for code, commands, answer in _BLOCKS.findall(PAGE.read_text(encoding="utf-8"))
    ]


def cases() -> list[object]:
    """The examples: what makes an ONNX file is served without TensorFlow."""
    marks = {True: [], False: [pytest.mark.needs_tensorflow]}
    return [pytest.param(one, id=one.served, marks=marks["onnx" in one.code]) for one in exports()]


def test_every_block_of_the_page_is_found() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert len(exports()) == text.count("```python") == text.count("```sh") == text.count("```json") >= 6
    assert len({one.served for one in exports()}) == len(exports())


@pytest.mark.skipif(find_spec("servable._core") is None, reason="the core is not built")
@pytest.mark.parametrize("export", cases())
def test_what_the_page_shows(tmp_path: Path, export: Export) -> None:
    missing = export.needs()
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}; `make test-exports` installs what it takes")
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "2"}
    run = subprocess.run(
        [sys.executable, "-c", export.code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=EXPORT_SECONDS,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    for command in export.commands:
        if not command.startswith(("servable ", "curl ")):
            subprocess.run(command, shell=True, cwd=tmp_path, check=True)
    (curl,) = [shlex.split(one) for one in export.commands if one.startswith("curl ")]
    body, url = curl[2], curl[3]
    cache = f"--model_cache_dir={tmp_path / 'cache'}"
    with serving(tmp_path / export.served, ONE_TRY, cache) as served:
        if "UNIMPLEMENTED" in served.log and export.served.endswith(".onnx"):
            pytest.skip("this core has no engine for ONNX")
        if "ready: 0 of 1 models" in served.log:
            # Its ports open before a long conversion ends.
            served.wait_for_line("ready: 1 of 1 models", EXPORT_SECONDS)
        reply = ask(served, "POST", urlsplit(url).path, body)
    assert reply.status == 200, reply.text
    got, shown = json.loads(reply.body)["predictions"], json.loads(export.answer)["predictions"]
    assert got == [pytest.approx(one, rel=1e-5) for one in shown]
