"""The program of ``make demo``, where nothing can be downloaded."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
NO_PROXY_IS_THERE = "http://nowhere.invalid"
TIME = re.compile(r"^  (\S[\w +,]*?) +[0-9.]+ ms  (.*?)(?:  \(.*\))?$", re.MULTILINE)


@pytest.mark.needs_tensorflow
@pytest.mark.timeout(300)
def test_the_demo_makes_its_models_and_recognises_the_photo_without_a_network(tmp_path: Path) -> None:
    shutil.copytree(PROJECT / "examples", tmp_path / "examples")  # the models are made beside it
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), NO_PROXY_IS_THERE)
    downloads = {"KERAS_HOME": str(tmp_path / "keras")}  # nothing that Keras downloaded earlier
    done = subprocess.run(
        [sys.executable, "examples/demo.py", "--exit", "--rest_api_port=0", "--port=0"],
        cwd=tmp_path,
        env={**os.environ, **proxies, **downloads},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All 3 answers are right." in done.stdout
    seen = TIME.findall(done.stdout)
    assert seen[0] == ("TensorFlow", "giant panda"), done.stdout
    assert {label for _, label in seen} == {"giant panda"}
