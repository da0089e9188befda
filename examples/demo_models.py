"""Makes what the demo serves and sends, below build/demo, each by its own script in a process of its own.

What is there and up to date is kept. Everything is written elsewhere first and moved into place when
complete, so that an interrupted run leaves nothing that looks ready. No network is needed.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

MODELS = ("half_plus_two", "add_two", "mobilenet_v2")
EXAMPLES = Path(__file__).resolve().parent
BUILD = EXAMPLES.parent / "build" / "demo"
PHOTO = EXAMPLES / "mobilenet_v2" / "panda.jpg"
PHOTO_SHOWS = "giant panda"
SHOWN_LOG_LINES = 20
PLAIN_PROGRESS_SECONDS = 15


class DemoError(Exception):
    """A failed step; the text says which, and what to do."""


def folder_of(name: str) -> Path:
    """Returns the base folder of a model, which holds the version folder `1`."""
    return BUILD / "models" / name


def make(name: str) -> None:
    """Runs the model's export script unless there is a model newer than what it is made from."""
    if is_newer(folder_of(name) / "1" / "saved_model.pb", EXAMPLES / name):
        print(f"{name}: there already", flush=True)
        return
    making = fresh_folder(name)
    export([sys.executable, str(EXAMPLES / name / "export.py"), str(making / "1")], name)
    put_in_place(making, folder_of(name))


def make_pixels() -> Path:
    """Returns a file with the request for the photo's pixels, made unless there is a newer one."""
    request = BUILD / "panda_pixels.json"
    script = EXAMPLES / "mobilenet_v2" / "pixels.py"
    if not is_newer(request, script.parent):
        done = subprocess.run([sys.executable, str(script), str(PHOTO)], capture_output=True)
        if done.returncode != 0:
            raise DemoError(f"{script} failed:\n{done.stderr.decode(errors='replace')}")
        making = request.with_suffix(".part")
        making.write_bytes(done.stdout)
        making.rename(request)
    return request


def is_newer(made: Path, sources: Path) -> bool:
    """Returns whether `made` exists and is newer than every file below `sources`."""
    files = (file for file in sources.rglob("*") if file.is_file() and file.suffix != ".pyc")
    return made.is_file() and all(file.stat().st_mtime <= made.stat().st_mtime for file in files)


def fresh_folder(name: str) -> Path:
    """Creates an empty folder for writing the model, on the same disk as its final place."""
    making = BUILD / "making" / name
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    return making


def put_in_place(making: Path, folder: Path) -> None:
    """Moves the finished model to the folder it is served from."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    making.rename(folder)


def log_of(name: str) -> Path:
    """Returns the log file of a model's export script."""
    return BUILD / f"{name}.log"


def export(command: Sequence[str], name: str) -> None:
    """Runs an export script, showing progress and logging its output; raises DemoError if it fails."""
    log = log_of(name)
    started = time.monotonic()
    with (
        log.open("wb") as output,
        subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as process,
    ):
        try:
            show_progress(process, name, log)
        except BaseException:
            process.kill()
            raise
    seconds = time.monotonic() - started
    lines = log.read_text(errors="replace").splitlines()
    if process.returncode != 0:
        end = "\n".join(f"  {line}" for line in lines[-SHOWN_LOG_LINES:])
        raise DemoError(f"{name}: the export failed; the end of {log}:\n{end}")
    print(f"{name}: made in {seconds:.0f} s", flush=True)


def show_progress(process: subprocess.Popen[bytes], name: str, log: Path) -> None:
    """Waits for the process and shows the time: every second on a terminal, otherwise rarely."""
    on_terminal = sys.stdout.isatty()
    print(f"{name}: making it with TensorFlow (its output: {os.path.relpath(log)})", flush=True)
    started = time.monotonic()
    while True:
        try:
            process.wait(timeout=1 if on_terminal else PLAIN_PROGRESS_SECONDS)
            break
        except subprocess.TimeoutExpired:
            elapsed = f"{name}: {time.monotonic() - started:.0f} s"
            print(f"\r{elapsed}" if on_terminal else elapsed, end="" if on_terminal else "\n", flush=True)
    if on_terminal:
        print("\r\033[K", end="", flush=True)
