"""Hostile clients beside a good one: what they cost it, and what they make the server hold.

    python benches/hostile.py [--seconds 5] [--rounds 3] [--only NAME …]

Each attack runs against a fresh server with --max_memory_in_flight=96 MiB and --transfer_grace_seconds=5, all
else by default. Beside it, from a process of its own so that the attackers' Python does not slow it, a good
client asks a tiny model over REST without a pause, and a probe asks the administration for /livez ten times a
second. Quiet and attack take turns. A row an attack: the good client's p50 and p99 in quiet and under attack,
resident memory before, at most during, and after it, and the slowest /livez. The aims: p99 within twice that
of quiet, memory within 200 MB during and 50 MB after, /livez within 100 ms. Client, attacker and server share
the cores; "busy" is no attack, only as much work in a process beside them: the floor of what a busy neighbour
costs.

Where TensorFlow uses oneDNN, its allocator keeps the largest outputs that were ever held at once for later
runs (at most half of the budget, for one connection); TF_ONEDNN_USE_SYSTEM_ALLOCATOR=1 has them given back.
"""

from __future__ import annotations

import argparse
import gzip
import http.client
import multiprocessing
import re
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

MODEL = Path(__file__).resolve().parent.parent / "tests" / "models" / "half_plus_two"
MIB = 1 << 20
BUDGET = 96 * MIB
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
BODY = b'{"instances": [1.0]}'
PREDICT = "/v1/models/half_plus_two:predict"
RPC = "/tensorflow.serving.PredictionService/Predict"


@dataclass
class Server:
    """A running server and its three ports."""

    process: subprocess.Popen[str]
    rest: int = 0
    grpc: int = 0
    admin: int = 0
    lines: list[str] = field(default_factory=list)

    @staticmethod
    def start(*flags: str) -> Server:
        """Starts a server with these flags on free ports and waits until it is ready."""
        ports = ("--admin_address=127.0.0.1:0", "--port=0", "--rest_api_port=0")
        command = [sys.executable, "-m", "servable", "serve", str(MODEL), *ports, *flags]
        server = Server(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
        assert server.process.stderr is not None
        for line in server.process.stderr:
            server.lines.append(line)
            for name, pattern in (
                ("rest", r"REST API at:\S+?:(\d+) "),
                ("grpc", r"ModelServer at \S+:(\d+) "),
                ("admin", r"administration at http://[^/]*:(\d+)/"),
            ):
                found = re.search(pattern, line)
                if found:
                    setattr(server, name, int(found[1]))
            if "models available" in line:
                break
        threading.Thread(target=lambda: list(server.process.stderr or ()), daemon=True).start()
        return server

    def stop(self) -> None:
        """Sends SIGTERM and waits for the end."""
        self.process.terminate()
        self.process.wait(60)

    def resident(self) -> float:
        """Returns the resident memory in MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024

    def cpu_seconds(self) -> float:
        """Returns user and system time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100


# ---- the good client, and the probe


def ask_on_and_on(port: int, results: Connection, pause: float = 0.0) -> None:
    """Runs in a process of its own: answers each ``take`` with the latencies, in seconds, since the last."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    latencies: list[float] = []
    while True:
        began = time.perf_counter()
        connection.request("POST", PREDICT, BODY)
        reply = connection.getresponse()
        content = reply.read()
        latencies.append(time.perf_counter() - began)
        if reply.status != 200 or b"2.5" not in content:
            results.send(f"the good client was answered {reply.status}: {content[:200]!r}")
            return
        if results.poll():
            if results.recv() == "end":
                return
            results.send(latencies)
            latencies = []
        if pause:
            time.sleep(pause)


class GoodClient:
    """A client in a process of its own that asks on and on. pause: seconds between two requests."""

    def __init__(self, port: int, pause: float = 0.0) -> None:
        self._results, theirs = multiprocessing.Pipe()
        arguments = (port, theirs, pause)
        self._process = multiprocessing.Process(target=ask_on_and_on, args=arguments, daemon=True)
        self._process.start()

    def take(self) -> list[float]:
        """Returns the latencies, in seconds, since the last call."""
        self._results.send("take")
        taken = self._results.recv()
        assert isinstance(taken, list), taken
        return taken

    def end(self) -> None:
        """Ends it."""
        self._results.send("end")
        self._process.join(10)


class Watch:
    """Samples memory every 10 ms and the administration's health every 100 ms."""

    def __init__(self, server: Server) -> None:
        self.most = server.resident()
        self.slowest = 0.0
        self._server = server
        self._done = threading.Event()
        self._threads = [threading.Thread(target=one) for one in (self._memory, self._health)]

    def __enter__(self) -> Watch:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    def _memory(self) -> None:
        while not self._done.wait(0.01):
            self.most = max(self.most, self._server.resident())

    def _health(self) -> None:
        while not self._done.wait(0.1):
            began = time.perf_counter()
            connection = http.client.HTTPConnection("127.0.0.1", self._server.admin, timeout=30)
            connection.request("GET", "/livez")
            assert connection.getresponse().status == 200
            connection.close()
            self.slowest = max(self.slowest, time.perf_counter() - began)


# ---- the attacks: each runs until ``until``, a time of time.monotonic, in a process of its own


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Returns one HTTP/2 frame."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def call_head() -> bytes:
    """Returns the header block of a Predict."""
    fields = [(":method", "POST"), (":scheme", "http"), (":path", RPC), (":authority", "x")]
    fields += [("content-type", "application/grpc"), ("te", "trailers")]
    literal = [bytes([len(one)]) + one.encode() for pair in fields for one in pair]
    return b"".join(b"\0" + name + value for name, value in zip(literal[::2], literal[1::2], strict=True))


def drawn_out() -> bytes:
    """Returns a Predict of some dozen bytes whose tensor has 5 million floats."""
    # A dimension of 5,000,000 as a varint.
    shape = b"\x12" + bytes([5]) + b"\x08" + bytes([0xC0, 0x96, 0xB1, 0x02])
    tensor = b"\x08\x01" + b"\x12" + bytes([len(shape)]) + shape + b"\x2a\x04\0\0\x80\x3f"
    entry = b"\x0a\x01x\x12" + bytes([len(tensor)]) + tensor
    spec = b"\x0a\x0dhalf_plus_two"
    message = b"\x0a" + bytes([len(spec)]) + spec + b"\x12" + bytes([len(entry)]) + entry
    return b"\0" + len(message).to_bytes(4, "big") + message


def connect(port: int) -> socket.socket:
    """Connects to a port of this machine."""
    return socket.create_connection(("127.0.0.1", port), timeout=30)


def window_of_nothing(rest: int, grpc: int, until: float) -> None:
    """Sends twelve Predicts with tensors that expand, on connections that take no reply."""
    while time.monotonic() < until:
        with connect(grpc) as sock, suppress(OSError):
            sock.sendall(PREFACE + frame(4, 0, 0, b"\0\4\0\0\0\0"))
            for stream in range(1, 25, 2):
                sock.sendall(frame(1, 4, stream, call_head()) + frame(0, 1, stream, drawn_out()))
            sock.settimeout(1.0)
            while time.monotonic() < until and sock.recv(65536):
                pass


def gzip_bombs(rest: int, grpc: int, until: float) -> None:
    """Sends thirty-two bodies of 40 KB at once that decompress to 40 MB each."""
    body = gzip.compress(b'{"instances": [1.0]' + b" " * (40 * MIB) + b"}")
    head = (
        f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    while time.monotonic() < until:
        socks = [connect(rest) for _ in range(32)]
        for sock in socks:
            sock.sendall(head.encode() + body)
        for sock in socks:
            sock.recv(65536)
            sock.close()
        time.sleep(0.5)


def idle_connections(rest: int, grpc: int, until: float) -> None:
    """Opens as many idle connections as this process may."""
    socks = []
    with suppress(OSError):
        for _ in range(1000):
            socks.append(connect(rest))
    time.sleep(max(0.0, until - time.monotonic()))


def slow_bodies(rest: int, grpc: int, until: float) -> None:
    """Sends bodies at a byte a second on 500 connections, which are reopened when they are cut off."""
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n".encode()

    def begin() -> socket.socket:
        sock = connect(rest)
        sock.sendall(head)
        return sock

    socks = [begin() for _ in range(500)]
    while time.monotonic() < until:
        for index, sock in enumerate(socks):
            try:
                sock.sendall(b" ")
            except OSError:
                sock.close()
                socks[index] = begin()
        time.sleep(1.0)


def busy(rest: int, grpc: int, until: float) -> None:
    """Not an attack: keeps a core busy, and hands bytes to the system as a flood does."""
    near, far = socket.socketpair()
    threading.Thread(target=lambda: [None for _ in iter(lambda: far.recv(1 << 20), b"")], daemon=True).start()
    with near:
        while time.monotonic() < until:
            near.sendall(b"." * 8192)


def flood(cheap: bytes, most: int = sys.maxsize) -> Callable[[int, int, float], None]:
    """Sends the same frame endlessly, on a new connection after ``most`` or when the server has closed."""

    def run(rest: int, grpc: int, until: float) -> None:
        while time.monotonic() < until:
            with connect(grpc) as sock, suppress(OSError):
                sock.sendall(PREFACE + frame(4, 0, 0))
                sent = 0
                while time.monotonic() < until and sent < most:
                    sock.sendall(cheap * 500)
                    sent += 500

    return run


ATTACKS: dict[str, Callable[[int, int, float], None]] = {
    "window of nothing": window_of_nothing,
    "gzip bombs": gzip_bombs,
    "idle connections": idle_connections,
    "slow bodies": slow_bodies,
    "PRIORITY flood": flood(frame(2, 0, 1, b"\0\0\0\0\x09")),
    "WINDOW_UPDATE flood": flood(frame(8, 0, 0, b"\0\0\0\1")),
    "PRIORITY flood, 1,500 a connection": flood(frame(2, 0, 1, b"\0\0\0\0\x09"), most=1500),
    "PRIORITY flood, 500 a connection": flood(frame(2, 0, 1, b"\0\0\0\0\x09"), most=500),
    "busy": busy,
    "PING flood": flood(frame(6, 1, 0, b"anything")),
}


# ---- the table


def percentile(latencies: list[float], share: float) -> float:
    """Returns a percentile in milliseconds."""
    return 1000 * statistics.quantiles(latencies, n=1000)[round(share * 1000) - 1]


@dataclass(frozen=True)
class Turns:
    """Rounds of quiet and attack, each of so many seconds.

    pause: seconds between two requests of the good client. settled: MiB above those before at which memory
    counts as given back, for which is waited ``settle_seconds`` at most.
    """

    seconds: float
    rounds: int
    pause: float = 0.0
    settled: float = 50.0
    settle_seconds: float = 20.0


@dataclass(frozen=True)
class Beside:
    """What an attack did to a good client beside it, and to the server.

    quiet, attacked: latencies in seconds. spent: seconds of attack. cores: used by the server meanwhile.
    memory: MiB before, at most, and after. slowest: the slowest /livez, in seconds.
    """

    quiet: list[float]
    attacked: list[float]
    spent: float
    cores: float
    memory: tuple[float, float, float]
    slowest: float

    def percentiles(self, share: float) -> tuple[float, float]:
        """Returns that of the good client in quiet and under attack, in milliseconds."""
        return percentile(self.quiet, share), percentile(self.attacked, share)


def beside(server: Server, attack: Callable[[], None], turns: Turns) -> Beside:
    """Alternates ``attack``, which lasts as long as it is meant to, with quiet.

    The samplers run in both phases, because they cost the client time as well.
    """
    good = GoodClient(server.rest, turns.pause)
    time.sleep(1.0)
    before, cpu, spent = server.resident(), 0.0, 0.0
    quiet: list[float] = []
    attacked: list[float] = []
    with Watch(server) as watch:
        for _ in range(turns.rounds):
            good.take()
            time.sleep(turns.seconds)
            quiet += good.take()
            used, began = server.cpu_seconds(), time.monotonic()
            attack()
            attacked += good.take()
            cpu += server.cpu_seconds() - used
            spent += time.monotonic() - began
    good.end()
    settled = time.monotonic() + turns.settle_seconds
    while server.resident() > before + turns.settled and time.monotonic() < settled:
        time.sleep(0.2)
    memory = (before, watch.most, server.resident())
    return Beside(quiet, attacked, spent, cpu / spent, memory, watch.slowest)


def measure(name: str, turns: Turns) -> str:
    """Returns the row of an attack."""
    server = Server.start(f"--max_memory_in_flight={BUDGET}", "--transfer_grace_seconds=5")

    def attack() -> None:
        arguments = (server.rest, server.grpc, time.monotonic() + turns.seconds)
        process = multiprocessing.Process(target=ATTACKS[name], args=arguments)
        process.start()
        process.join()

    found = beside(server, attack, turns)
    server.stop()
    p50, p99, (before, most, after) = found.percentiles(0.5), found.percentiles(0.99), found.memory
    return (
        f"| {name} | {p50[0]:.2f} → {p50[1]:.2f} | {p99[0]:.2f} → {p99[1]:.2f} ({p99[1] / p99[0]:.1f}x) "
        f"| {before:.0f}, +{most - before:.0f}, +{after - before:.0f} | {1000 * found.slowest:.0f} "
        f"| {found.cores:.2f} | {len(found.attacked)} |"
    )


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="of quiet, and of attack, in each round")
    parser.add_argument("--rounds", type=int, default=3, help="of quiet and attack, by turns")
    parser.add_argument(
        "--only", action="append", choices=sorted(ATTACKS), help="this attack; may be repeated"
    )
    given = parser.parse_args()
    print("| attack | p50 ms | p99 ms | MiB before, most, after | slowest /livez ms | cores | answers |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in given.only or ATTACKS:
        print(measure(name, Turns(given.seconds, given.rounds)), flush=True)


if __name__ == "__main__":
    main()
