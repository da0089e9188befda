"""Walks through a page as a reader would: runs its blocks, and compares what they print."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from conftest import ROOT, STOP_SECONDS, Served
from pages import Block, commands, is_run

MODELS = ROOT / "tests" / "models"
BLOCK_SECONDS = 120.0
ASKS_ADMINISTRATION = re.compile(r"\bservable (models|load|unload|label|reload|warmup record)\b")


@cache
def mobilenet() -> Path:
    """Returns the base path of the photo model, exported once."""
    base = Path(mkdtemp(prefix="servable-docs-")) / "mobilenet_v2"
    export = [sys.executable, str(ROOT / "examples" / "mobilenet_v2" / "export.py"), str(base / "1")]
    subprocess.run(export, check=True, capture_output=True)
    return base


class Walkthrough:
    """A reader's folder, shell and server. ``close`` ends the server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.served: Served | None = None
        (folder / "examples").symlink_to(ROOT / "examples")
        (folder / "panda.jpg").symlink_to(ROOT / "examples" / "mobilenet_v2" / "panda.jpg")
        tools = folder / ".bin"
        tools.mkdir()
        for name, what in (("servable", "-m servable"), ("python", ""), ("python3", "")):
            tool = tools / name
            tool.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {what} "$@"\n')
            tool.chmod(0o755)
        # An answer with an error's status is an error.
        (folder / ".curlrc").write_text("fail-with-body\nsilent\nshow-error\n")
        self.environment = {
            **os.environ,
            "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
            "CURL_HOME": str(folder),
            "KERAS_BACKEND": "tensorflow",
            "TF_CPP_MIN_LOG_LEVEL": "2",
        }

    def run(self, blocks: list[Block], with_python: bool) -> int:
        """Runs the blocks of a page; returns how many were run."""
        run = 0
        asks_administration = any(ASKS_ADMINISTRATION.search(one.text) for one in blocks if is_run(one))
        for block, following in zip(blocks, [*blocks[1:], None], strict=True):
            if "served" in block.marks:
                self._serve_models(block.marks["served"])
            if is_run(block):
                printed = self._run_commands(block, asks_administration)
                if following and following.language == "json":
                    check_answer(printed, following)
            elif block.language == "python" and with_python and "not run" not in block.marks:
                self._run_python(block)
            else:
                continue
            run += 1
        return run

    def close(self) -> None:
        """Stops the server, which has to end as it should."""
        served, self.served = self.served, None
        if served is None:
            return
        try:
            if served.process.poll() is None:
                assert served.stop() == 0, served.log
        finally:
            with suppress(ProcessLookupError):
                served.process.kill()
            served.process.wait(STOP_SECONDS)
            served.wait_closed()

    def _serve_models(self, said: str) -> None:
        words = said.split()
        flags = [word for word in words if word.startswith("--")]
        bases = [f"models/{word}" for word in words if not word.startswith("--")]
        self._serve(shlex.join(["servable", "serve", *bases, *flags]))

    def _serve(self, line: str, administered: bool = False) -> None:
        self.close()
        # Other servers may run here, too.
        line = re.sub(r"(--admin_address=[\w.]+):\d+", r"\1:0", line)
        for named in re.findall(r"(?<=models/)\w+", line):
            self._provide(named)
        flags = "--port=0 --rest_api_port=0" + (" --admin_address=127.0.0.1:0" if administered else "")
        process = subprocess.Popen(
            ["bash", "-c", f"exec {without_comment(line)} {flags}"],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.served = Served(process)
        ready = self.served.wait_for_line(r"ready: (\d+) of \d+ models")
        # The server does not wait for long conversions.
        if ready[1] == "0":
            self.served.wait_for_line(r"ready: [1-9]\d* of \d+ models")

    def _provide(self, name: str) -> None:
        """Puts a model of the tests into the folder, unless the page has made one of that name."""
        base = self.folder / "models" / name
        source = mobilenet() if name == "mobilenet_v2" else MODELS / name
        if not base.exists() and source.is_dir():
            shutil.copytree(source, base)

    def _run_commands(self, block: Block, administered: bool) -> str:
        """Runs the commands of a block; returns what the last has printed."""
        printed = ""
        lines = commands(block.text)
        for line in lines:
            if re.match(r"(\w+=\S+ )*servable serve ", line):
                self._serve(line, administered)
                continue
            done = self._bash(self._here(line))
            should_fail = "fails" in block.marks and line == lines[-1]
            log = self.served.log if self.served else ""
            said = f"{block.where}: {line}\n{done.stdout}{done.stderr}{log}"
            assert (done.returncode != 0) == should_fail, said
            printed = done.stdout
        return printed

    def _bash(self, line: str) -> subprocess.CompletedProcess[str]:
        environment = dict(self.environment)
        if self.served and (found := re.search(r"administration at http://(\S+?)/admin", self.served.log)):
            environment["SERVABLE_ADMIN_ADDRESS"] = found[1]
        return subprocess.run(
            ["bash", "-o", "pipefail", "-c", line],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=BLOCK_SECONDS,
            check=False,
        )

    def _run_python(self, block: Block) -> None:
        done = subprocess.run(
            [sys.executable, "-c", self._here(block.text)],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=BLOCK_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{block.where}\n{done.stderr}"

    def _here(self, text: str) -> str:
        """Returns a command or program with the addresses of the server in place of the usual ones."""
        if self.served is None:
            return text
        rest, grpc = self.served.rest_port, self.served.grpc_port
        here = text.replace("localhost:8501", f"localhost:{rest}")
        here = here.replace("localhost:8500", f"localhost:{grpc}")
        # The scripts of the examples take it as an argument.
        here = re.sub(r"(classify\.\w+ \S+)", rf"\1 localhost:{rest}", here)
        if "--server" in here:
            return here
        return here.replace("servable predict ", f"servable predict --server http://localhost:{rest} ")


def without_comment(line: str) -> str:
    """Returns a command without the comment at its end."""
    return re.sub(r"\s+#.*$", "", line)


def check_answer(printed: str, shown: Block) -> None:
    """Compares JSON that was printed with what the page shows, but for the last digits of numbers."""
    assert alike(json.loads(printed), json.loads(shown.text)), f"{shown.where}: it was\n{printed}"


def alike(got: Any, shown: Any) -> bool:
    """True if two values of JSON are the same but for the last digits of numbers."""
    if isinstance(got, dict) and isinstance(shown, dict):
        return got.keys() == shown.keys() and all(alike(got[key], shown[key]) for key in shown)
    if isinstance(got, list) and isinstance(shown, list):
        return len(got) == len(shown) and all(map(alike, got, shown))
    if isinstance(got, float) or isinstance(shown, float):
        return bool(got == pytest.approx(shown, rel=1e-3, abs=1e-3))
    return bool(got == shown)
