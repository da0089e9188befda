"""What was measured of each server, and its record."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from load import Sample
from results import Spread, spread

CLIENTS = (1, 16, 64)


@dataclass(frozen=True)
class Run:
    """One start of one server with one model. seconds: from spawning it to its first right answer.

    resident: bytes of all its processes after the load, pages that they share counted once. samples: by
    number of clients. checked, wrong, failed: of the requests whose answers were checked; failures of the
    loads are in the samples.
    """

    server: str
    question: str
    seconds: float
    resident: int
    samples: dict[int, Sample]
    checked: int
    wrong: int
    failed: int


@dataclass(frozen=True)
class Failure:
    """Why a server was not measured. question: empty if it could not be installed."""

    server: str
    question: str
    reason: str


@dataclass
class Figures:
    """All of a run. titles: of servers and questions, by name, in order. versions: by server."""

    head: dict[str, Any]
    servers: dict[str, str]
    questions: dict[str, str]
    versions: dict[str, str] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def of(self, server: str, question: str) -> list[Run]:
        """Returns the runs of a server with a question, one a round."""
        return [run for run in self.runs if (run.server, run.question) == (server, question)]

    def spread(self, server: str, question: str, figure: Callable[[Run], float | None]) -> Spread | None:
        """Returns a figure of the rounds; None if it was not measured."""
        values = [value for value in map(figure, self.of(server, question)) if value is not None]
        return spread(values) if values else None

    def load(
        self, server: str, question: str, clients: int, figure: Callable[[Sample], float | None]
    ) -> Spread | None:
        """Returns a figure of the load of so many clients."""
        return self.spread(
            server, question, lambda run: figure(run.samples[clients]) if clients in run.samples else None
        )

    def bad(self, server: str, question: str) -> tuple[int, int]:
        """Returns how many answers were wrong, and how many requests failed."""
        runs = self.of(server, question)
        failed = sum(run.failed + sum(sample.errors for sample in run.samples.values()) for run in runs)
        return sum(run.wrong for run in runs), failed

    def reason(self, server: str, question: str) -> str:
        """Returns why there are no figures; empty if that is not known."""
        for failure in self.failures:
            if failure.server == server and failure.question in ("", question):
                return failure.reason
        return ""

    def write(self, path: Path) -> None:
        """Writes everything as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")


def read(path: Path) -> Figures:
    """Reads what ``write`` has written."""
    record = json.loads(path.read_text(encoding="utf-8"))
    runs = [
        Run(**run | {"samples": {int(clients): Sample(**one) for clients, one in run["samples"].items()}})
        for run in record.pop("runs")
    ]
    failures = [Failure(**failure) for failure in record.pop("failures")]
    return Figures(**record, runs=runs, failures=failures)
