"""What the tests of the server's edge share: counts, and headers of the PROXY protocol."""

from __future__ import annotations

import re
import socket
import struct
import urllib.request

from conftest import Served

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LOCAL, PROXY = 0x20, 0x21
TCP4, TCP6, UNIX, UNSPEC = 0x11, 0x21, 0x31, 0x00


def page(served: Served) -> str:
    """Returns the page of metrics, of the administration (``ADMIN``)."""
    # The log may be JSON.
    found = re.search(r"administration at (http://[0-9.:]+)", served.log)
    assert found, served.log
    with urllib.request.urlopen(f"{found[1]}/metrics", timeout=30) as reply:
        text: str = reply.read().decode()
    return text


def reached(served: Served, limit: str) -> int:
    """Returns how often clients have reached ``limit``."""
    return int(page(served).split(f'servable_limits_reached_total{{limit="{limit}"}} ')[1].split()[0])


def open_connections(served: Served) -> int:
    """Returns the number of open connections, that of this question among them."""
    return int(page(served).split("\nservable_connections ")[1].split()[0])


def version_1(client: str, port: int = 5555) -> bytes:
    """Makes a header of version 1."""
    family, own = ("TCP6", "::1") if ":" in client else ("TCP4", "127.0.0.1")
    return f"PROXY {family} {client} {own} {port} 443\r\n".encode()


def version_2(client: str = "", port: int = 5555, command: int = PROXY, tlvs: bytes = b"") -> bytes:
    """Makes a header of version 2; without a client, its family is UNSPEC."""
    if not client:
        return raw_version_2(command, UNSPEC, tlvs)
    kind = socket.AF_INET6 if ":" in client else socket.AF_INET
    address = socket.inet_pton(kind, client)
    told = address + bytes(len(address)) + struct.pack(">HH", port, 443) + tlvs
    return raw_version_2(command, TCP6 if ":" in client else TCP4, told)


def raw_version_2(command: int, family: int, told: bytes) -> bytes:
    """Makes a header of version 2 of these parts."""
    return SIGNATURE + bytes([command, family]) + struct.pack(">H", len(told)) + told
