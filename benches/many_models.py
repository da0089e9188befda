"""Thousands of models on one machine: how fast a server of them starts, what each takes, and how it does
under traffic that asks few of them often and most of them rarely.

    python benches/many_models.py start [--models 10000] [--store]
    python benches/many_models.py traffic [--models 1000] [--rooms 0.1 0.3 1.0] [--requests 5000]

``start``: time until a server knows all models of a folder, on the clock and of the CPU, and the memory of
each while none is loaded. ``--store``: as of a bucket, by fsspec's store of local files (links to those of
the model): listed whole, and nothing fetched.
``traffic``: requests by Zipf's law over REST, one client after another's answer, within budgets for a share
of all models: the share of requests whose model was loaded, and how long requests took. Prints Markdown,
which docs/many-models.md has. The models are links to one small model, as what is measured is not its size.
"""

from __future__ import annotations

import argparse
import http.client
import os
import random
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from process import Process, memory_bytes
from residency import zipf

MODEL = Path(__file__).resolve().parent.parent / "tests" / "models" / "half_plus_two"
BODY = b'{"instances": [2.0]}'
RUNS = 3


def folder_of(models: int, folder: Path, store: bool = False) -> Path:
    """Makes a folder of models. store: for a store of files, which has no links to folders."""
    first = folder.parent / f"{folder.name}, the model"
    if store:
        shutil.copytree(MODEL, first)
    for number in range(models):
        model = folder / f"m{number:05}"
        if store:
            # Links do not lead from one disk to another.
            shutil.copytree(first, model, copy_function=os.link)
        else:
            model.symlink_to(MODEL, target_is_directory=True)
    return folder


@contextmanager
def serving(folder: Path | str, log: Path, *flags: str) -> Iterator[tuple[Process, int, float]]:
    """Runs a server of these models; yields it, its port, and the seconds that its start took."""
    command = [sys.executable, "-m", "servable", "serve", f"--models_dir={folder}", "--lazy_load"]
    begun = time.monotonic()
    process = Process([*command, "--port=off", "--rest_api_port=0", "--metrics_path=/metrics", *flags], log)
    try:
        process.wait_for(r"ready: \d+ of \d+ models")
        seconds = time.monotonic() - begun
        port = int(process.wait_for(r"Exporting HTTP/REST API at:\S+:(\d+) ")[1])
        yield process, port, seconds
    finally:
        process.stop()


def cpu_seconds(pid: int) -> float:
    """Returns the processor time of a process (proc(5), stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def start(models: int, scratch: Path, store: bool) -> None:
    """Prints how long starts take, and what each unloaded model takes of the memory."""
    rows = []
    cache = scratch / "cache"
    for count in (1, models):
        folder = scratch / f"of {count}"
        folder.mkdir()
        folder_of(count, folder, store)
        place = f"local://{folder}" if store else folder
        runs = []
        for run in range(RUNS):
            log = scratch / f"start {count} {run}.log"
            with serving(place, log, f"--model_cache_dir={cache}") as (process, _, took):
                threads = len(os.listdir(f"/proc/{process.pid}/task"))
                resident = memory_bytes(process.pid, "VmRSS")
                runs.append((took, cpu_seconds(process.pid), resident, threads))
        rows.append((count, *(statistics.median(column) for column in zip(*runs, strict=True))))
    fetched = len(list(cache.glob("*/*/saved_model.pb")))
    print("| models | start, s | CPU, s | resident, MB | each, KB | threads |")
    print("| --- | --- | --- | --- | --- | --- |")
    least = rows[0][3]
    for count, took, cpu, resident, threads in rows:
        each = f"{(resident - least) / count / 1e3:.1f}" if count > 1 else ""
        print(f"| {count:,} | {took:.2f} | {cpu:.2f} | {resident / 1e6:.1f} | {each} | {threads:.0f} |")
    if store:
        print(f"\nFetched to the disk: {fetched}.")


def ask(connection: http.client.HTTPConnection, model: int) -> float:
    """Returns the seconds of one request."""
    begun = time.monotonic()
    connection.request("POST", f"/v1/models/m{model:05}:predict", BODY)
    reply = connection.getresponse()
    content = reply.read()
    if reply.status != 200:
        raise RuntimeError(f"{reply.status}: {content!r}")
    return time.monotonic() - begun


def metric(port: int, name: str) -> float:
    """Returns the value of a metric without labels, or the sum of those with."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


def clients(port: int, models: int, options: argparse.Namespace) -> list[float]:
    """Sends the requests of all clients; returns their seconds, without those of the first tenth."""
    took: list[float] = []
    lock = threading.Lock()

    def client(seed: int) -> None:
        draw = zipf(models, options.exponent, random.Random(seed))
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        mine = [ask(connection, draw()) for _ in range(options.requests // options.clients)]
        with lock:
            took.extend(mine[len(mine) // 10 :])

    threads = [threading.Thread(target=client, args=(seed,)) for seed in range(options.clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(took)


def traffic(options: argparse.Namespace, scratch: Path) -> None:
    """Prints hit rates and times for each budget."""
    models = options.models
    folder = scratch / "models"
    folder.mkdir()
    folder_of(models, folder)
    with serving(folder, scratch / "one.log") as (_, port, _):
        connection = http.client.HTTPConnection("127.0.0.1", port)
        for model in range(21):
            ask(connection, model)
        all_ = metric(port, "servable_model_memory_bytes")
        connection.close()
        ask(http.client.HTTPConnection("127.0.0.1", port), 0)
        one = all_ / 21
    print(
        f"Each model takes {one / 1e6:.2f} MB; Zipf, s = {options.exponent:g}; {options.clients} clients.\n"
    )
    print("| room for | budget, MB | loaded at the end | hit rate | p50, ms | p90, ms | p99, ms | unloads |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for room in options.rooms:
        budget = int(one * models * room * 1.05)
        flags = (f"--memory_budget={budget}", "--rest_api_timeout_in_ms=0")
        with serving(folder, scratch / f"{room}.log", *flags) as (_, port, _):
            took = clients(port, models, options)
            waits = metric(port, "servable_load_waits_total")
            sent = options.requests // options.clients * options.clients
            loaded = metric(port, 'servable_versions{state="AVAILABLE"}')
            rests = metric(port, "servable_model_rests_total")
        shown = [f"{1e3 * took[int(len(took) * share)]:.1f}" for share in (0.5, 0.9, 0.99)]
        cells = [f"{room:.0%}", f"{budget / 1e6:.0f}", f"{loaded:.0f}", f"{1 - waits / sent:.1%}", *shown]
        print(f"| {' | '.join(cells)} | {rests:.0f} |", flush=True)


def main() -> None:
    """Runs what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("what", choices=["start", "traffic"])
    parser.add_argument("--models", type=int)
    parser.add_argument("--store", action="store_true", help="start: as of a bucket")
    parser.add_argument(
        "--rooms", type=float, nargs="+", default=[0.1, 0.3, 1.0], help="shares of all models"
    )
    parser.add_argument("--exponent", type=float, default=1.0)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--requests", type=int, default=4000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if options.what == "start":
            start(options.models or 10_000, Path(scratch), options.store)
        else:
            options.models = options.models or 1000
            traffic(options, Path(scratch))


if __name__ == "__main__":
    main()
