"""TLS: a server is trusted if the given authority, or one of the system's, vouches for it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import grpc_stub
import http_stub
import pytest

from servable import Client
from servable.client import Tls
from servable.errors import InvalidArgumentError, UnavailableError

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="makes certificates with openssl")

Start = Callable[[Path], AbstractContextManager[Any]]


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for 127.0.0.1 and its key, in one file."""
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(folder / "key"), "-out", str(folder / "certificate")]
    subprocess.run([*command.split(), *names, *files], check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_bytes((folder / "certificate").read_bytes() + (folder / "key").read_bytes())
    return both


STARTS: dict[str, Start] = {
    "REST": lambda pem: http_stub.answering(http_stub.OK, pem=pem),
    "gRPC": lambda pem: grpc_stub.answering(grpc_stub.no_versions, pem=pem),
}


@pytest.fixture(params=STARTS)
def start(request: pytest.FixtureRequest) -> Start:
    """Starts a stub with TLS."""
    return STARTS[request.param]


def test_an_authority_of_ones_own(start: Start, pem: Path) -> None:
    certificate = pem.with_name("certificate")
    with start(pem) as stub, Client(stub.address, ca_file=str(certificate)) as client:
        assert client.status("m") == []


def test_a_server_that_nobody_vouches_for(start: Start, pem: Path) -> None:
    with start(pem) as stub, Client(stub.address, retries=0) as client, pytest.raises(UnavailableError):
        client.status("m")


def test_a_certificate_of_ones_own_is_read_from_one_file_or_two(start: Start, pem: Path) -> None:
    certificate, key = str(pem.with_name("certificate")), str(pem.with_name("key"))
    with start(pem) as stub:
        for own in ({"cert_file": str(pem)}, {"cert_file": certificate, "key_file": key}):
            with Client(stub.address, ca_file=Tls(certificate, **own)) as client:
                assert client.status("m") == []


def test_files_that_cannot_be_read_are_named(pem: Path, tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    for scheme in ("https", "grpcs"):
        address = f"{scheme}://127.0.0.1:1"
        for name in ("ca_file", "cert_file"):
            with pytest.raises(InvalidArgumentError, match=f"{name} {missing} cannot be read: No such file"):
                Client(address, ca_file=Tls(**{name: missing}))
    with pytest.raises(InvalidArgumentError, match="key_file is given without cert_file"):
        Tls(key_file=str(pem))
