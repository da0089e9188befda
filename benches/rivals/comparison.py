"""The comparison: installs, measures by turns, and writes tables, chart and record."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import http.client
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import report
import table
import tree
from commands import ROOT, SERVABLE, Server, log_file, servers
from environments import BUILD, FOLDER, Environment
from figures import CLIENTS, Failure, Figures, Run
from load import Client, Sample, wrk_version
from models import Model, prepare
from process import START_SECONDS, BenchError, Process
from questions import Asked, Question, check, questions, right_answer
from quiet import Patience
from start import free_port

RECORD = ROOT / "benches" / "results" / "rivals.json"
CHART = ROOT / "docs" / "images" / "rivals.svg"
UNFINISHED = BUILD / "unfinished.json"
POLL_SECONDS = 0.005
ERROR_BYTES = 300


@dataclass(frozen=True)
class Settings:
    """Durations and repetitions. seconds: of load for each sample; checking: of checked answers before.

    patience: seconds in all to wait for a quiet machine, and to repeat disturbed loads.
    """

    rounds: int
    seconds: float
    checking: float
    patience: float

    def __str__(self) -> str:
        return (
            f"Medians of {self.rounds} {'round' if self.rounds == 1 else 'rounds'}; servers by turns, each "
            f"started anew, {self.seconds:g} s for each load, wrk on the same cores."
        )


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description="Measure Servable beside what a Python user would pick instead."
    )
    names = [server.name for server in servers()]
    models = [question.name for question in questions()]
    parser.add_argument("--only", action="append", choices=names, help="this server; may be repeated")
    parser.add_argument("--model", action="append", choices=models, help="this model; may be repeated")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of all (3)")
    parser.add_argument("--seconds", type=float, default=5.0, help="seconds of each load (5)")
    parser.add_argument(
        "--patience", type=float, default=120.0, help="seconds in all to wait and measure again (120)"
    )
    parser.add_argument("--quick", action="store_true", help="one round of two seconds for each load")
    return parser.parse_args(argv)


class Comparison:
    """One run: the servers that could be installed, the models, the settings, and the figures so far."""

    def __init__(self, figures: Figures, settings: Settings, temporary: Path) -> None:
        self.figures = figures
        self.settings = settings
        self.temporary = temporary
        self.patience = Patience(settings.patience)
        self.models = prepare(BUILD.parent / "models")
        self.right: dict[str, list[Any]] = {}

    def install(self, wanted: Sequence[Server]) -> list[Server]:
        """Returns the servers that are there; of the others, the figures say why they are not."""
        there: list[Server] = []
        for server in wanted:
            try:
                self.figures.versions[server.name] = server.install()
                there.append(server)
            except (BenchError, OSError, subprocess.SubprocessError) as error:
                self._failed(server, "", f"does not install: {error}")
        return there

    def measure(self, wanted: Sequence[Server], asked: Sequence[Question]) -> None:
        """Measures every server with every question; whoever begins changes with the rounds."""
        for question in asked:
            self.right[question.name] = right_answer(question, self.models[question.model])
        for number in range(self.settings.rounds):
            first = number * len(wanted) // self.settings.rounds
            for question in asked:
                for server in [*wanted[first:], *wanted[:first]]:
                    print(f"round {number + 1}: {question.name}, {server.name}", flush=True)
                    self._measure(server, question)

    def _measure(self, server: Server, question: Question) -> None:
        try:
            self.figures.runs.append(self._run(server, question, self.models[question.model]))
            self.figures.write(UNFINISHED)  # what there is if the run is stopped
        except (BenchError, OSError) as error:
            self._failed(server, question.name, str(error))

    def _failed(self, server: Server, question: str, reason: str) -> None:
        print(f"{server.name}: {reason}", file=sys.stderr, flush=True)
        self.figures.failures.append(Failure(server.name, question, reason))

    def _run(self, server: Server, question: Question, model: Model) -> Run:
        port = free_port()
        url = f"http://127.0.0.1:{port}{server.path(model)}"
        asked = Asked(url, question.body, self.right[question.name], server.bare)
        body = BUILD / f"{question.name}.json"
        body.write_bytes(question.body)
        self.patience.wait()
        begun = time.monotonic()
        command = server.line(model, port, self.temporary)
        with tree.running(command, log_file(server, model)) as process:
            _first_answer(process, asked, begun)
            seconds = time.monotonic() - begun
            checked = check(asked, max(CLIENTS), self.settings.checking)
            samples = self._loads(server, question, url, body)
            return Run(
                server=server.name,
                question=question.name,
                seconds=seconds,
                resident=tree.resident_bytes(),
                samples=samples,
                checked=checked.answered,
                wrong=checked.wrong,
                failed=checked.failed,
            )

    def _loads(self, server: Server, question: Question, url: str, body: Path) -> dict[int, Sample]:
        """Returns what was measured by number of clients; a load that nothing answered is a failure."""
        samples = {}
        for clients in CLIENTS:
            try:
                samples[clients] = self._load(url, body, clients)
            except BenchError as error:
                self._failed(server, question.name, f"{clients} clients: {error}")
        return samples

    def _load(self, url: str, body: Path, clients: int) -> Sample:
        def measure() -> Sample:
            return tree.load_all(url, body, clients, self.settings.seconds)

        return self.patience.undisturbed(measure, lambda sample: sample.others)


def _first_answer(process: Process, asked: Asked, begun: float) -> None:
    """Returns once the server has answered; raises ``BenchError`` if it ends, is late, or is wrong."""
    while True:
        process.printed("$")  # raises if the process has ended
        client = Client(asked.url)
        with contextlib.suppress(OSError, http.client.HTTPException):
            status, reply = client.ask(asked.body)
            if status == 200 and asked.is_right(reply):
                return
            if status == 200:
                raise BenchError(f"the first answer is wrong: {reply[:ERROR_BYTES]!r}")
        client.close()
        if time.monotonic() - begun > START_SECONDS:
            raise BenchError(f"no answer after {START_SECONDS:g} s: {process.tail()}")
        time.sleep(POLL_SECONDS)


def main(argv: Sequence[str]) -> int:
    """Installs, measures, prints and writes; returns the exit status."""
    options = arguments(argv)
    settings = (
        Settings(1, 2.0, 1.0, 0.0)
        if options.quick
        else Settings(options.rounds, options.seconds, 2.0, options.patience)
    )
    wanted = [server for server in servers() if server.name in (options.only or [server.name])]
    asked = [question for question in questions() if question.name in (options.model or [question.name])]
    BUILD.mkdir(parents=True, exist_ok=True)
    figures = Figures(
        head={
            "command": " ".join(["python benches/rivals/run.py", *map(shlex.quote, argv)]),
            "date": datetime.date.today().isoformat(),
            "settings": str(settings),
        },
        servers={server.name: server.title for server in wanted},
        questions={question.name: question.title for question in asked},
    )
    try:
        _measure(figures, settings, wanted, asked)
        _write(figures, partial=bool(options.only or options.model or options.quick))
    except BenchError as error:
        print(f"benches/rivals/run.py: {error}", file=sys.stderr)
        return 1
    return _status(figures)


def _measure(
    figures: Figures, settings: Settings, wanted: Sequence[Server], asked: Sequence[Question]
) -> None:
    wrk_version()
    figures.head["machine"] = report.machine()
    tree.adopt()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # ends the server, too
    with tempfile.TemporaryDirectory(prefix="rivals") as temporary:
        comparison = Comparison(figures, settings, Path(temporary))
        comparison.measure(comparison.install(wanted), asked)


def _write(figures: Figures, partial: bool) -> None:
    """Prints the table; writes record and chart, and unless ``partial`` the tables of the documents."""
    print("\n" + table.full(figures), flush=True)
    record, chart = (BUILD / "partial.json", BUILD / "partial.svg") if partial else (RECORD, CHART)
    figures.write(record)
    drawing = Environment(FOLDER / "requirements-chart.txt", shared=False)
    drawing.install()
    chart.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([drawing.programs / "python", FOLDER / "chart.py", record, chart], check=True)
    print(f"{record.relative_to(ROOT)}, {chart.relative_to(ROOT)}", flush=True)
    if not partial:
        table.put(figures, chart)


def _status(figures: Figures) -> int:
    """Returns 1 if Servable was not measured in full, or failed a request."""
    bad = [failure.reason for failure in figures.failures if failure.server.startswith(SERVABLE)]
    for server in figures.servers:
        if server.startswith(SERVABLE):
            bad += [server for question in figures.questions if any(figures.bad(server, question))]
    if bad:
        print(f"benches/rivals/run.py: {', '.join(bad)} failed", file=sys.stderr)
    return 1 if bad else 0
