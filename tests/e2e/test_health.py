"""Health by HTTP and by gRPC: of the server, its models and their versions, serving and draining."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
import requests
from clients import await_versions
from conftest import Served
from servers import ADMIN, MODELS, ONE_TRY, WITH_GRPC, admin_url, put_version, serving, until
from wire import ask

pytestmark = pytest.mark.needs_tensorflow

PATH = "/grpc.health.v1.Health"
SERVING, NOT_SERVING, UNKNOWN = b"\x08\x01", b"\x08\x02", b"\x08\x03"
LIVE, READY, NOT_READY = ({"live": True}, {"ready": True}, {"ready": False})
PATIENCE = 30


def asked(service: str) -> bytes:
    """Returns a HealthCheckRequest."""
    return b"\x0a" + bytes([len(service)]) + service.encode() if service else b""


def check(channel: grpc.Channel, service: str) -> bytes:
    return bytes(channel.unary_unary(f"{PATH}/Check")(asked(service), timeout=PATIENCE))


def page(served: Served, path: str, method: str = "GET") -> tuple[int, object]:
    reply = ask(served, method, path)
    return reply.status, json.loads(reply.body) if reply.body else None


@contextmanager
def with_a_broken_one(base: Path, *flags: str) -> Iterator[Served]:
    """Serves version 1 of ``m``, which more may be added to, and ``broken``, which cannot be loaded."""
    broken = base.parent / "broken"
    (broken / "1").mkdir(parents=True)
    (broken / "1" / "saved_model.pb").write_bytes(b"no model")
    models = (f"m={base}", f"broken={broken}")
    with serving(*models, WITH_GRPC, ADMIN, ONE_TRY, *flags, may_end=True) as served:
        yield served


@pytest.fixture
def served(base: Path) -> Iterator[Served]:
    """A server that ends at once when it is told to."""
    with with_a_broken_one(base) as served:
        yield served


@pytest.fixture
def draining(base: Path) -> Iterator[Served]:
    """A server that answers for some seconds after it is told to end."""
    with with_a_broken_one(base, "--drain_delay_seconds=4") as served:
        yield served


def test_pages_and_services_follow_the_versions(served: Served, base: Path) -> None:
    for path, expected in {
        "/livez": (200, LIVE),
        "/healthz": (200, LIVE),
        "/readyz": (200, READY),
        "/readyz?verbose": (200, READY),
        "/readyz/m": (200, READY),
        "/readyz/m/1": (200, READY),
        "/readyz/m/2": (404, NOT_READY),
        "/readyz/broken": (503, NOT_READY),
        "/readyz/other": (404, NOT_READY),
    }.items():
        assert page(served, path) == expected, path
    assert ask(served, "POST", "/livez").status == 404
    with grpc.insecure_channel(served.grpc) as channel:
        for service in ("", "m", "m/1", "ModelService", "PredictionService"):
            assert check(channel, service) == SERVING, service
        assert check(channel, "broken") == check(channel, "broken/1") == NOT_SERVING
        for service in ("m/2", "other", "m/one"):
            with pytest.raises(grpc.RpcError) as error:
                check(channel, service)
            assert error.value.code() is grpc.StatusCode.NOT_FOUND
        watched = {
            service: channel.unary_stream(f"{PATH}/Watch")(asked(service), timeout=PATIENCE)
            for service in ("m/1", "m/2", "other")
        }
        first = {service: next(stream) for service, stream in watched.items()}
        assert first == {"m/1": SERVING, "m/2": UNKNOWN, "other": UNKNOWN}
        put_version("half_plus_two", base, 2)
        # It is NOT_SERVING while it loads, if that is seen.
        assert any(next(watched["m/2"]) == SERVING for _ in range(2))
        assert next(watched["m/1"]) == NOT_SERVING
        await_versions(served, "m", 2)
        assert (page(served, "/readyz/m/1"), page(served, "/readyz/m/2")) == ((503, NOT_READY), (200, READY))


def test_from_the_first_moment_of_the_end_nothing_is_ready_and_all_is_answered(draining: Served) -> None:
    with grpc.insecure_channel(draining.grpc) as channel:
        watched = [channel.unary_stream(f"{PATH}/Watch")(asked(one), timeout=60) for one in ("", "m", "m/1")]
        assert [next(stream) for stream in watched] == [SERVING] * 3
        draining.process.terminate()
        assert [next(stream) for stream in watched] == [NOT_SERVING] * 3
        assert [check(channel, one) for one in ("", "m", "m/1")] == [NOT_SERVING] * 3
        assert [page(draining, path) for path in ("/readyz", "/readyz/m")] == [(503, NOT_READY)] * 2
        assert page(draining, "/livez") == (200, LIVE)
        reply = ask(draining, "POST", "/v1/models/m:predict", json.dumps({"instances": [1.0]}))
        assert json.loads(reply.body) == {"predictions": [2.5]}
    assert draining.process.wait(60) == 0


def test_the_administration_has_the_same_pages(served: Served) -> None:
    for path, status in (("livez", 200), ("healthz", 200), ("readyz/m", 200), ("readyz/broken", 503)):
        assert requests.get(f"{admin_url(served)}/{path}", timeout=PATIENCE).status_code == status


def test_a_server_none_of_whose_models_can_be_asked_is_not_ready(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    (broken / "1").mkdir(parents=True)
    (broken / "1" / "saved_model.pb").write_bytes(b"no model")
    with (
        serving(f"broken={broken}", WITH_GRPC, ONE_TRY) as served,
        grpc.insecure_channel(served.grpc) as channel,
    ):
        assert (page(served, "/readyz"), page(served, "/livez")) == ((503, NOT_READY), (200, LIVE))
        assert (check(channel, ""), check(channel, "PredictionService")) == (NOT_SERVING, SERVING)


def test_a_server_is_not_ready_while_its_models_folder_has_nothing(tmp_path: Path) -> None:
    """Nothing is known of such a model, but it should be served."""
    base = tmp_path / "late"
    base.mkdir()
    with (
        serving(f"late={base}", WITH_GRPC, "--file_system_poll_wait_seconds=1") as served,
        grpc.insecure_channel(served.grpc) as channel,
    ):
        assert [page(served, path) for path in ("/readyz", "/readyz/late")] == [(503, NOT_READY)] * 2
        assert [check(channel, one) for one in ("", "late")] == [NOT_SERVING] * 2
        put_version("half_plus_two", base, 1)
        assert until(lambda: page(served, "/readyz") == (200, READY))
        assert [check(channel, one) for one in ("", "late")] == [SERVING] * 2


def test_the_pages_can_be_off_on_the_rest_port() -> None:
    with serving(MODELS / "half_plus_two", "--enable_rest_healthcheck=false", ADMIN) as served:
        assert [ask(served, "GET", path).status for path in ("/livez", "/healthz", "/readyz")] == [404] * 3
        assert requests.get(f"{admin_url(served)}/readyz", timeout=PATIENCE).status_code == 200


def test_a_thousand_watches_do_not_hold_anybody_up(served: Served, base: Path) -> None:
    with grpc.insecure_channel(served.grpc) as channel:
        stub = channel.unary_stream(f"{PATH}/Watch")
        watched = [stub(asked("m/2"), timeout=60) for _ in range(1000)]
        put_version("half_plus_two", base, 2)
        await_versions(served, "m", 2)
        assert until(lambda: page(served, "/readyz/m/2") == (200, READY))
        for stream in watched:
            assert SERVING in stream, "it was told what came last"


def test_a_name_of_any_length_is_not_kept(served: Served) -> None:
    """Names are held as long as their clients watch."""
    long = b"\x0a" + bytes([0x88, 0x27]) + b"x" * 5000
    with grpc.insecure_channel(served.grpc) as channel:
        with pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary(f"{PATH}/Check")(long, timeout=PATIENCE)
        assert refused.value.code() is grpc.StatusCode.OUT_OF_RANGE
        with pytest.raises(grpc.RpcError) as refused:
            next(channel.unary_stream(f"{PATH}/Watch")(long, timeout=PATIENCE))
        assert refused.value.code() is grpc.StatusCode.OUT_OF_RANGE
        assert check(channel, "m") == SERVING
