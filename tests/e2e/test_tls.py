"""TLS on both ports and the administration: protocols, client certificates, renewed files, bad files."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from certificates import Authority, Issued, der, encrypted_key, serial_of
from conftest import Served
from prometheus import PAGE, monitoring
from servers import ADMIN, MODELS, run_to_its_end, serving, until
from stubs import PATIENCE, call, floats_request, own_message

from servable import Client

pytestmark = pytest.mark.needs_tensorflow

PREDICT = "/v1/models/half_plus_two:predict"
BODY = {"instances": [1.0, 2.0]}
ANSWER = {"predictions": [2.5, 3.0]}


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Path:
    """A folder with ``ca.pem``, and ``server`` and ``client`` as ``.pem`` and ``.key``."""
    folder = tmp_path_factory.mktemp("tls")
    (folder / "ca.pem").write_bytes(authority.pem)
    for name in ("server", "client"):
        authority.issue(name).write(folder, name)
    return folder


def tls(folder: Path) -> list[str]:
    return [f"--tls_cert_file={folder / 'server.pem'}", f"--tls_key_file={folder / 'server.key'}"]


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[Served]:
    flags = ["--port=0", ADMIN, monitoring(folder), "--header_timeout_seconds=1", *tls(folder)]
    with serving(MODELS / "half_plus_two", *flags) as served:
        yield served


@pytest.fixture(scope="module")
def closed(folder: Path) -> Iterator[Served]:
    """A server that clients need a certificate for."""
    flags = ["--port=0", ADMIN, *tls(folder), f"--tls_client_ca_file={folder / 'ca.pem'}"]
    flags += ["--access_log=all", f"--access_log_file={folder / 'access.log'}"]
    with serving(MODELS / "half_plus_two", *flags) as served:
        yield served


def at(served: Served) -> str:
    return f"https://127.0.0.1:{served.rest_port}"


def admin_at(served: Served) -> str:
    (line,) = [line for line in served.lines if "administration at https://" in line]
    return line.rpartition("administration at ")[2].removesuffix("/admin/models")


def grpc_predict(served: Served, credentials: grpc.ChannelCredentials) -> float:
    with grpc.secure_channel(f"localhost:{served.grpc_port}", credentials) as channel:
        reply = call(channel, "Predict", floats_request("half_plus_two", 1.0), own_message, PATIENCE)
    return float(reply.outputs["y"].float_val[0])


def refused_with(channel: grpc.Channel) -> grpc.StatusCode:
    predict = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    with pytest.raises(grpc.RpcError) as refused:
        predict(floats_request("half_plus_two", 1.0).SerializeToString(), timeout=PATIENCE)
    code: grpc.StatusCode = refused.value.code()
    return code


def failures(client: httpx.Client, reason: str) -> int:
    text = client.get(PAGE).text
    return int(text.split(f':servable:tls_handshake_failures{{reason="{reason}"}} ')[1].split()[0])


def run_command(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "servable", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


# ---- protocols


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
@pytest.mark.parametrize("http2", [True, False], ids=["h2", "http/1.1"])
def test_rest_speaks_the_http_that_both_know(
    served: Served, authority: Authority, version: ssl.TLSVersion, http2: bool
) -> None:
    context = authority.trusting()
    context.minimum_version = context.maximum_version = version
    with httpx.Client(base_url=at(served), verify=context, http2=http2) as client:
        for _ in range(3):
            reply = client.post(PREDICT, json=BODY)
            assert (reply.status_code, reply.json()) == (200, ANSWER)
            assert reply.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
            assert reply.headers["content-type"] == "application/json" and "date" in reply.headers


@pytest.mark.parametrize("http2", [True, False], ids=["h2", "http/1.1"])
def test_the_api_is_the_same_over_both(served: Served, authority: Authority, http2: bool) -> None:
    with httpx.Client(base_url=at(served), verify=authority.trusting(), http2=http2) as client:
        status = client.get("/v1/models/half_plus_two").json()["model_version_status"]
        assert [one["state"] for one in status] == ["AVAILABLE"]
        missing = client.post("/v1/models/other:predict", json=BODY)
        assert (missing.status_code, list(missing.json())) == (404, ["error"])
        head = client.head("/v1/models/half_plus_two")
        assert (head.status_code, head.content) == (200, b"") and int(head.headers["content-length"]) > 50
        assert client.put(PREDICT, json=BODY).status_code == 400
        large = [0.5] * 200_000
        reply = client.post(PREDICT, json={"instances": large}, headers={"Accept-Encoding": "gzip"})
        assert reply.json() == {"predictions": [2.25] * len(large)}
        assert reply.headers["content-encoding"] == "gzip"
        refused = client.get("/v1/models/half_plus_two", headers={"X-Large": "x" * 100_000})
        assert refused.status_code == 431
        many = {f"x-{number}": "" for number in range(100)}
        assert client.get("/v1/models/half_plus_two", headers=many).status_code == 431
        head = client.head("/v1/models/half_plus_two", headers=many)
        assert (head.status_code, head.content) == (431, b"")
        assert client.post(PREDICT, json=BODY).json() == ANSWER


def test_a_body_over_http2_may_be_too_large(folder: Path, authority: Authority) -> None:
    flags = ["--max_request_bytes=1000", *tls(folder)]
    with (
        serving(MODELS / "half_plus_two", *flags) as served,
        httpx.Client(base_url=at(served), verify=authority.trusting(), http2=True) as client,
    ):
        for count in (1000, 100_000):
            reply = client.post(PREDICT, json={"instances": [1.0] * count})
            assert reply.status_code == 413 and "max_request_bytes" in reply.json()["error"]
        assert client.post(PREDICT, json=BODY).json() == ANSWER


def test_many_requests_share_a_connection_of_http2(served: Served, authority: Authority) -> None:
    async def ask() -> list[Any]:
        limits = httpx.Limits(max_connections=1)
        async with httpx.AsyncClient(
            base_url=at(served), verify=authority.trusting(), http2=True, limits=limits, timeout=60
        ) as client:
            one = json.dumps({"instances": [0.5] * 20_000})
            replies = await asyncio.gather(*(client.post(PREDICT, content=one) for _ in range(50)))
            return [reply.json() for reply in replies]

    assert asyncio.run(ask()) == [{"predictions": [2.25] * 20_000}] * 50


def test_grpc_speaks_tls(served: Served, authority: Authority) -> None:
    assert grpc_predict(served, grpc.ssl_channel_credentials(authority.pem)) == 2.5


def test_the_client_and_the_commands_speak_tls(served: Served, authority: Authority, folder: Path) -> None:
    ca = str(folder / "ca.pem")
    for address in (at(served), f"grpcs://localhost:{served.grpc_port}"):
        with Client(address, ca_file=ca) as client:
            assert client.predict("half_plus_two", [1.0]).tolist() == [2.5]
    for command in (
        ["models", f"--admin_address={admin_at(served)}", f"--ca_file={ca}"],
        ["predict", "half_plus_two", "1", "2", f"--server={at(served)}", f"--ca_file={ca}"],
    ):
        ended = subprocess.run(
            [sys.executable, "-m", "servable", *command], capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stderr
        assert "AVAILABLE" in ended.stdout or "2.5" in ended.stdout, ended.stdout
    (line,) = [line for line in served.lines if "/v1/models/half_plus_two:predict" in line]
    assert "https://localhost:" in line


def test_the_commands_say_what_is_wrong_with_tls(served: Served, folder: Path) -> None:
    for ca, said in (
        ("", "is not trusted"),
        (str(folder / "none.pem"), "none.pem cannot be read: No such file or directory"),
    ):
        ended = run_command(["models", f"--admin_address={admin_at(served)}", f"--ca_file={ca}"])
        assert ended.returncode == 1 and said in ended.stderr, ended.stderr
    plain = run_command(["models", f"--admin_address={admin_at(served).removeprefix('https://')}"])
    assert plain.returncode == 1 and "HTTPS" in plain.stderr, plain.stderr


# ---- who does not get in


def test_clients_without_a_certificate_are_refused(
    closed: Served, authority: Authority, folder: Path
) -> None:
    own = folder / "client.pem", folder / "client.key"
    known, stranger = authority.trusting(own), Authority("of others").issue("stranger").write(folder, "other")
    for base in (at(closed), admin_at(closed)):
        path = "/v1/models/half_plus_two" if base == at(closed) else "/admin/models"
        with httpx.Client(base_url=base, verify=known) as client:
            assert client.get(path).status_code == 200
        for context in (authority.trusting(), authority.trusting(stranger)):
            with httpx.Client(base_url=base, verify=context) as client, pytest.raises(httpx.TransportError):
                client.get(path)
    key, certificate = own[1].read_bytes(), own[0].read_bytes()
    assert grpc_predict(closed, grpc.ssl_channel_credentials(authority.pem, key, certificate)) == 2.5
    unknown = grpc.ssl_channel_credentials(authority.pem)
    with grpc.secure_channel(f"localhost:{closed.grpc_port}", unknown) as channel:
        assert refused_with(channel) is grpc.StatusCode.UNAVAILABLE
    shown = [f"--cert_file={own[0]}", f"--key_file={own[1]}"]
    for command in (
        ["models", f"--admin_address={admin_at(closed)}"],
        ["predict", "half_plus_two", "1", f"--server={at(closed)}"],
        ["predict", "half_plus_two", "1", f"--server=grpcs://localhost:{closed.grpc_port}", "--timeout=5"],
    ):
        for more, status in ((shown, 0), ([], 1)):
            arguments = [*command, f"--ca_file={folder / 'ca.pem'}", *more]
            ended = run_command(arguments)
            assert ended.returncode == status, ended.stderr
            assert "nobody administers" not in ended.stderr
    log = folder / "access.log"
    for protocol in ("rest", "grpc"):
        assert until(lambda: any(f"protocol={protocol}" in line for line in log.read_text().splitlines()))  # noqa: B023
    assert all(" client=client " in line for line in log.read_text().splitlines())


def test_http_without_tls_is_told_so_and_counted(served: Served, authority: Authority) -> None:
    with httpx.Client(base_url=at(served), verify=authority.trusting()) as client:
        before = failures(client, "not_tls")
        for plain in (at(served), admin_at(served)):
            reply = httpx.post(plain.replace("https:", "http:") + PREDICT, json=BODY)
            assert reply.status_code == 400 and "HTTPS" in reply.json()["error"]
            assert reply.headers["connection"] == "close"
        with grpc.insecure_channel(served.grpc) as channel:
            assert refused_with(channel) is grpc.StatusCode.UNAVAILABLE
        # The administration counts nothing; gRPC's client may have tried several times.
        assert failures(client, "not_tls") >= before + 2


def test_a_handshake_has_a_time_limit(served: Served, authority: Authority) -> None:
    hello = b"\x16\x03\x01\x02\x00\x01"
    with httpx.Client(base_url=at(served), verify=authority.trusting()) as client:
        before = failures(client, "timeout")
        for begun in (b"", hello):
            with socket.create_connection(("127.0.0.1", served.rest_port), timeout=30) as slow:
                slow.sendall(begun)
                assert slow.recv(100) == b"", "the server closes, and says nothing"
        assert until(lambda: failures(client, "timeout") == before + 2)


BAD: dict[str, tuple[str, bytes | None, str]] = {
    "no certificate": ("server.pem", None, "--tls_cert_file: there is no file"),
    "no key": ("server.key", None, "--tls_key_file: there is no file"),
    "no authorities": ("ca.pem", None, "--tls_client_ca_file: there is no file"),
    "an empty certificate": ("server.pem", b"", "--tls_cert_file: expected a certificate"),
    "an empty key": ("server.key", b"", "--tls_key_file: expected one private key"),
    "empty authorities": ("ca.pem", b"", "--tls_client_ca_file: expected certificates of authorities"),
    "DER": ("server.pem", der(Authority().issue().certificate), "got something else (PEM is text"),
    "no PEM": ("server.key", b"no PEM\n", "got something else (PEM is text"),
    "another key": ("server.key", Authority().issue().key, "is not the key of the certificate in"),
    "an encrypted key": ("server.key", encrypted_key(), "got an encrypted one: decrypt it"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_a_failed_start(case: str, tmp_path: Path, authority: Authority) -> None:
    name, content, said = BAD[case]
    authority.issue().write(tmp_path, "server")
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    flags = [*tls(tmp_path), f"--tls_client_ca_file={tmp_path / 'ca.pem'}"]
    ended = run_to_its_end(MODELS / "half_plus_two", *flags)
    assert ended.returncode == 1, ended.stderr
    (line,) = ended.stdout.splitlines()
    assert line.startswith("Failed to start server. Error: INVALID_ARGUMENT: --tls_"), line
    assert said in line and str(tmp_path / name) in line and "Traceback" not in ended.stderr


def test_key_and_certificate_belong_together(folder: Path) -> None:
    for flag in tls(folder):
        ended = run_to_its_end(MODELS / "half_plus_two", flag)
        assert ended.returncode == 2
        assert "TLS needs both --tls_cert_file and --tls_key_file" in ended.stderr


# ---- renewal


@dataclass
class Asking:
    """Clients that ask without pause; ``failed`` has every answer that was not right."""

    answered: int = 0
    failed: list[str] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)

    def run(self, ask: Callable[[], float]) -> None:
        while not self.done.is_set():
            try:
                got = ask()
            except Exception as error:
                self.failed.append(repr(error))
                return
            self.answered += 1
            if got != 2.5:
                self.failed.append(str(got))


def shown(served: Served, authority: Authority) -> int:
    """Returns the serial number of the certificate that a new connection is shown."""
    with (
        socket.create_connection(("127.0.0.1", served.rest_port), timeout=30) as stream,
        authority.trusting().wrap_socket(stream, server_hostname="localhost") as encrypted,
    ):
        peer = encrypted.getpeercert(binary_form=True)
        assert peer is not None
        return serial_of(peer)


def renew(folder: Path, issued: Issued) -> None:
    """Writes the pair in place, in halves: at any time between, it is of no use."""
    for name, content in (("server.key", issued.key), ("server.pem", issued.certificate)):
        file = folder / name
        file.write_bytes(content[: len(content) // 2])
        file.write_bytes(content)


def test_renewed_files_are_used_and_no_request_fails(tmp_path: Path, authority: Authority) -> None:
    first = authority.issue()
    first.write(tmp_path, "server")
    with serving(MODELS / "half_plus_two", "--port=0", *tls(tmp_path)) as served:
        # Each has its own, as httpx sets in it what a client speaks.
        contexts = [authority.trusting() for _ in range(3)]

        def ask(client: httpx.Client) -> float:
            return float(client.post(PREDICT, json={"instances": [1.0]}).json()["predictions"][0])

        def ask_anew() -> float:
            with httpx.Client(base_url=at(served), verify=contexts[2], http2=True, timeout=60) as client:
                return ask(client)

        credentials = grpc.ssl_channel_credentials(authority.pem)
        asking = Asking()
        with (
            httpx.Client(base_url=at(served), verify=contexts[0], timeout=60) as kept,
            httpx.Client(base_url=at(served), verify=contexts[1], http2=True, timeout=60) as kept_http2,
            grpc.secure_channel(f"localhost:{served.grpc_port}", credentials) as channel,
        ):

            def ask_by_grpc() -> float:
                request = floats_request("half_plus_two", 1.0)
                reply = call(channel, "Predict", request, own_message, PATIENCE)
                return float(reply.outputs["y"].float_val[0])

            asks: list[Callable[[], float]] = [
                lambda: ask(kept),
                lambda: ask(kept_http2),
                ask_anew,
                ask_by_grpc,
            ]
            threads = [threading.Thread(target=asking.run, args=(one,), daemon=True) for one in asks]
            for thread in threads:
                thread.start()
            assert shown(served, authority) == first.serial
            for _ in range(2):
                issued = authority.issue()
                renew(tmp_path, issued)
                assert until(lambda: shown(served, authority) == issued.serial), served.log  # noqa: B023
            # A pair that does not match stays out, is told once, and is no end of following the files.
            (tmp_path / "server.key").write_bytes(authority.issue().key)
            served.wait_for_line(
                "TLS: what was read before stays in use: --tls_key_file: .* is not the key of"
            )
            assert shown(served, authority) == issued.serial
            last = authority.issue()
            renew(tmp_path, last)
            assert until(lambda: shown(served, authority) == last.serial), served.log
            reached = asking.answered + 20
            assert until(lambda: asking.answered >= reached or asking.failed)
            asking.done.set()
            for thread in threads:
                thread.join(PATIENCE)
        assert asking.failed == [], asking
        assert served.log.count("stays in use") == 1
