"""What a model costs while nobody asks it: start, memory, metrics, looks at its folder or at its store.

    python benches/control_traffic.py [--models 1,100,300] [--store-models 20] [--seconds 20]

The tiny model, under so many names. *Resident* is that of the server once all are loaded, *idle* its CPU time
while nothing is asked, *scrape* that of a page of metrics. Looks at a store are counted by it; it is
moto's S3 on this machine, with ``--remote_poll_wait_seconds=1`` and versions that do not change.
"""

from __future__ import annotations

import argparse
import collections
import os
import re
import shutil
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from process import Process, cpu_seconds, memory_bytes
from quiet import load_before

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "tests" / "models" / "half_plus_two"
SCRAPES = 10


@contextmanager
def server(folder: Path, *arguments: str) -> Iterator[tuple[Process, str, float]]:
    """Runs a server; yields it, the address of REST, and the seconds until every model was served."""
    command = [sys.executable, "-m", "servable", "serve", "--port=off", "--rest_api_port=0", *arguments]
    begin = time.monotonic()
    with Process(command, folder / "server.log") as process:
        process.wait_for(r"ready: (\d+) of \1 models")
        took = time.monotonic() - begin
        port = process.wait_for(r"HTTP/REST API at:\S+:(\d+) ")[1]
        yield process, f"http://127.0.0.1:{port}", took


def config(folder: Path, count: int, path: Callable[[int], str]) -> str:
    """Returns the flag for a file with so many models."""
    entries = (
        f'config {{ name: "m{n}" base_path: "{path(n)}" model_platform: "tensorflow" }}' for n in range(count)
    )
    file = folder / f"{count}.config"
    file.write_text("model_config_list {\n" + "\n".join(entries) + "\n}\n")
    return f"--model_config_file={file}"


def local(folder: Path, count: int, seconds: float) -> str:
    """Returns the row of a server with so many models in folders."""
    for number in range(count):
        if not (folder / f"m{number}").exists():
            shutil.copytree(MODEL, folder / f"m{number}")
    with server(folder, config(folder, count, lambda n: str(folder / f"m{n}"))) as (process, address, took):
        time.sleep(3)  # what the start has left behind is over
        resident, before = memory_bytes(process.pid, "VmRSS"), cpu_seconds(process.pid)
        time.sleep(seconds)
        idle = (cpu_seconds(process.pid) - before) / seconds
        before, size = cpu_seconds(process.pid), 0
        for _ in range(SCRAPES):
            with urllib.request.urlopen(f"{address}/metrics") as page:
                size = len(page.read())
        scrape = (cpu_seconds(process.pid) - before) / SCRAPES
        with urllib.request.urlopen(f"{address}/metrics") as page:
            series = sum(not line.startswith(b"#") for line in page.read().splitlines())
    cells = (f"{took:.2f}", f"{resident / 1e6:.0f}", f"{idle * 1e3:.1f}", f"{series:,}", f"{size / 1e3:,.0f}")
    return f"| {count:,} | {' | '.join(cells)} | {scrape * 1e3:.1f} |"


class Counted:
    """A WSGI application whose requests are counted by method and what they ask for."""

    def __init__(self, application: Any) -> None:
        self._application = application
        self.seen: collections.Counter[str] = collections.Counter()

    def __call__(self, environment: dict[str, Any], start: Any) -> Any:
        """Counts the request, and has it answered."""
        listing = "list-type" in environment.get("QUERY_STRING", "")
        self.seen[f"{environment['REQUEST_METHOD']}{' list' if listing else ''}"] += 1
        return self._application(environment, start)


@contextmanager
def store() -> Iterator[tuple[Counted, str]]:
    """Runs an S3 store; yields its counts and its address."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Silent(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

        def log(self, type: str, message: str, *args: Any) -> None:
            """Says nothing."""

    counted = Counted(DomainDispatcherApplication(create_backend_app))
    running = make_server("127.0.0.1", 0, counted, threaded=True, request_handler=Silent)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    try:
        yield counted, f"http://127.0.0.1:{running.server_port}"
    finally:
        running.shutdown()


def remote(folder: Path, count: int, seconds: float) -> str:
    """Returns a sentence about looks at a store with so many models."""
    import fsspec

    with store() as (counted, address):
        access = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}
        os.environ.update({**access, "AWS_ENDPOINT_URL": address})
        files = fsspec.filesystem("s3", endpoint_url=address)
        files.mkdir("bucket")
        for number in range(count):
            files.put(str(MODEL / "1"), f"bucket/m{number}/1", recursive=True)
        flags = ("--remote_poll_wait_seconds=1", f"--model_cache_dir={folder / 'cache'}")
        paths = config(folder, count, lambda n: f"s3://bucket/m{n}")
        with server(folder, paths, *flags) as (process, _, took):
            time.sleep(3)
            counted.seen.clear()
            before, begin = cpu_seconds(process.pid), time.monotonic()
            time.sleep(seconds)
            passed = time.monotonic() - begin
            used = cpu_seconds(process.pid) - before
    looks = count * passed
    kinds = ", ".join(f"{number / looks:.2f} {kind}" for kind, number in counted.seen.most_common())
    return (
        f"{count} models in a store: served after {took:.1f} s; a look at one takes {kinds}, and "
        f"{used / looks * 1e3:.2f} ms of CPU in the server"
    )


def main(argv: Sequence[str]) -> int:
    """Measures, and prints a table and a sentence."""
    parser = argparse.ArgumentParser(description="What a model costs while nobody asks it.")
    parser.add_argument("--models", default="1,100,300")
    parser.add_argument("--store-models", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args(argv)
    counts = [int(one) for one in re.findall(r"\d+", options.models)]
    print(f"{load_before()}\n")
    print("| models | start s | resident MB | idle ms/s | series | page KB | scrape ms |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory(prefix="servable-control-") as name:
        for count in counts:
            print(local(Path(name), count, options.seconds), flush=True)
        if options.store_models:
            print("\n" + remote(Path(name), options.store_models, options.seconds))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
