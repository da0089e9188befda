"""Floods and broken clients beside a good one: what they cost it, and how the server ends them.

    python benches/floods.py [--seconds 12] [--rounds 2] [--only NAME …]

One attack at a time against a fresh server that gives clients 5 s for heads and transfers, all else by
default. Beside it a good client in a process of its own asks a tiny model over REST every 2 ms. Quiet and
attack take turns. A row an attack: what it sent in a second, how its connections or requests ended, the good
client's p50 and p99 in quiet and under attack, and the server's resident memory before, at most during, and
after.

The aims: every connection ends closed or with a status (a few may be open at the end: those that are younger
than their time), no status of the server's own failure (500, 2 INTERNAL), p99 within twice that of quiet,
memory after within 50 MB of before. Ends with status 1 if one is missed; "busy" is no attack, only as much
work in a process beside, so its row is the floor.

The attacker runs in a process of its own at nice 19, since client, attacker and server share the cores: it
takes what the others leave, and so disturbs the client by what it makes the *server* do, hardly by its own
computing. On a machine with more cores it would send more. The good client pauses because otherwise, on two
cores, an attacker with this priority would not get to send anything.

A whole run writes docs/performance.md (between its two markers) and benches/results/floods.json, any other
one build/bench/floods.json.
"""

from __future__ import annotations

import argparse
import datetime
import json
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from flood_attacks import ATTACKS, NOTHING, Count, Ports
from hostile import Server, Turns, beside
from report import machine, replace_between_markers, table

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "performance.md"
RECORD = ROOT / "benches" / "results" / "floods.json"
PARTIAL = ROOT / "build" / "bench" / "floods.json"
FLAGS = ("--header_timeout_seconds=5", "--transfer_grace_seconds=5", "--access_log=off")
PAUSE = 0.002
SETTLE_SECONDS = 30.0
MOST_MEMORY = 50.0
MOST_TIMES = 2.0
FAILURES = ("500", "grpc-status 2", "grpc-status 13", NOTHING)
"""Ends that no client may see."""


@dataclass
class Row:
    """One attack. Times in milliseconds, memory in MiB: before, at most, and after."""

    attack: str
    sent_per_second: float
    ends: dict[str, int]
    p50: tuple[float, float]
    p99: tuple[float, float]
    memory: tuple[float, float, float]
    slowest_livez: float
    cores: float

    def misses(self) -> list[str]:
        """Returns the aims that are missed."""
        if self.attack == "busy":
            return []
        missed = [f"{self.ends[end]} x {end}" for end in FAILURES if end in self.ends]
        if self.p99[1] > MOST_TIMES * self.p99[0]:
            missed.append("p99")
        if self.memory[2] > self.memory[0] + MOST_MEMORY:
            missed.append("memory")
        return missed

    def cells(self) -> list[str]:
        """Returns the row of the table."""
        before, most, after = self.memory
        ends = ", ".join(f"{end} ({number:,})" for end, number in Counter(self.ends).most_common(6))
        return [
            self.attack,
            f"{self.sent_per_second:,.0f}",
            ends,
            f"{self.p50[0]:.2f} → {self.p50[1]:.2f}",
            f"{self.p99[0]:.2f} → {self.p99[1]:.2f} ({self.p99[1] / self.p99[0]:.1f}x)",
            f"{before:.0f}, {most - before:+.0f}, {after - before:+.0f}",
            f"{self.slowest_livez:.0f}",
            f"{self.cores:.2f}",
            ", ".join(self.misses()) or "met",
        ]


HEADS = [
    "attack",
    "sent a second",
    "how it ends",
    "p50 ms",
    "p99 ms",
    "MiB before, most, after",
    "slowest `/livez` ms",
    "server, cores",
    "aims",
]


def attack(name: str, ports: Ports, until: float, results: Connection) -> None:
    """Runs in a process of its own, which takes only what the others leave of the cores."""
    os.nice(19)
    results.send(ATTACKS[name](ports, until))


def attacked(name: str, server: Server, seconds: float) -> Count:
    """Runs an attack to its end."""
    mine, theirs = multiprocessing.Pipe()
    arguments = (name, Ports(server.rest, server.grpc), time.monotonic() + seconds, theirs)
    process = multiprocessing.Process(target=attack, args=arguments)
    process.start()
    # Its own end is open here, too: what it cannot send would be waited for.
    theirs.close()
    count = mine.recv()
    process.join()
    assert isinstance(count, Count)
    return count


def measure(name: str, seconds: float, rounds: int) -> Row:
    """Alternates one attack with quiet."""
    server = Server.start(*FLAGS)
    total = Count()

    def attack_once() -> None:
        count = attacked(name, server, seconds)
        total.sent += count.sent
        total.ends += count.ends

    found = beside(server, attack_once, Turns(seconds, rounds, PAUSE, MOST_MEMORY / 2, SETTLE_SECONDS))
    server.stop()
    p50, p99 = found.percentiles(0.5), found.percentiles(0.99)
    rate, slowest = total.sent / found.spent, 1000 * found.slowest
    return Row(name, rate, dict(total.ends), p50, p99, found.memory, slowest, found.cores)


def main(argv: Sequence[str]) -> int:
    """Measures, prints and writes; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=12.0, help="of quiet, and of attack, in each round")
    parser.add_argument("--rounds", type=int, default=2, help="of quiet and attack, by turns")
    parser.add_argument("--only", action="append", metavar="NAME", help="attacks with this in their names")
    given = parser.parse_args(argv)
    names = [name for name in ATTACKS if not given.only or any(part in name for part in given.only)]
    if not names:
        parser.error(f"no attack has such a name; there are {', '.join(ATTACKS)}")
    rows = []
    for name in names:
        rows.append(measure(name, given.seconds, given.rounds))
        print(f"{name}: {', '.join(rows[-1].misses()) or 'met'}", file=sys.stderr, flush=True)
    text = table(HEADS, [row.cells() for row in rows])
    print(text)
    is_whole = not given.only and given.seconds >= 12 and given.rounds >= 2
    record = RECORD if is_whole else PARTIAL
    record.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "command": " ".join(["python benches/floods.py", *argv]),
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "rows": [asdict(row) | {"missed": row.misses()} for row in rows],
    }
    if is_whole:
        head = f"`{content['command']}`, {content['date']}, {os.cpu_count()} cores:\n\n"
        replace_between_markers(DOCUMENT, head + text + "\n", "benches/floods.py")
    record.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 1 if any(row.misses() for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
