"""The shutdown of a server under load: every request on its way gets its answer."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import grpc
import pytest
from clients import Stub
from conftest import Served
from servers import ADMIN, MODELS, serving, until
from wire import Wire, message, predict

pytestmark = pytest.mark.needs_tensorflow

PREDICT = "/v1/models/half_plus_two:predict"
BODY = json.dumps({"instances": [1.0]}).encode()


@dataclass
class Saturating:
    """Clients that send requests without pause on persistent connections; lost: requests without answers."""

    served: Served
    clients: int = 16
    answered: int = 0
    lost: list[str] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Saturating:
        self.threads = [threading.Thread(target=self._ask_until_refused) for _ in range(self.clients)]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self.threads:
            thread.join(60)

    def _ask_until_refused(self) -> None:
        assert self.served.rest_port is not None
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", self.served.rest_port, timeout=30)
            try:
                connection.connect()
            except ConnectionRefusedError:
                return
            if not self._keep_asking(connection):
                return

    def _keep_asking(self, connection: http.client.HTTPConnection) -> bool:
        """Sends requests until the server announces closing; False if one was lost."""
        while True:
            try:
                connection.request("POST", PREDICT, BODY)
                reply = connection.getresponse()
                assert json.loads(reply.read()) == {"predictions": [2.5]}
            except (OSError, http.client.HTTPException, AssertionError) as error:
                self.lost.append(repr(error))
                return False
            self.answered += 1
            if reply.will_close:
                connection.close()
                return True


@pytest.mark.parametrize("flags", [(), ("--drain_delay_seconds=1",)], ids=["at once", "after a delay"])
def test_no_request_is_lost(flags: tuple[str, ...]) -> None:
    with (
        serving(MODELS / "half_plus_two", *flags, may_end=True) as served,
        Saturating(served) as load,
    ):
        assert until(lambda: load.answered > 500)
        served.process.terminate()
        assert served.process.wait(60) == 0
    assert load.lost == []


@pytest.fixture
def draining() -> Iterator[Served]:
    """A server that has a drain delay, and so answers for some seconds after it is told to stop."""
    with serving(
        MODELS / "half_plus_two", "--port=0", "--drain_delay_seconds=4", ADMIN, may_end=True
    ) as served:
        yield served


def test_while_it_drains_new_connections_are_answered_and_told_to_go(draining: Served) -> None:
    with Wire(draining) as before:
        assert "connection" not in before.send(message("POST", PREDICT, BODY)).reply().headers
        draining.process.terminate()
        draining.wait_for_line("finishing requests in flight")
        assert until(
            lambda: predict(draining, "half_plus_two", {"instances": [1.0]}).headers.get("connection")
        )
        # A connection idle at the start of the shutdown is told with its next answer.
        reply = before.send(message("POST", PREDICT, BODY)).reply()
        assert (reply.status, reply.headers["connection"]) == (200, "close")
        assert before.closed()
        with Stub(draining) as stub:
            assert stub.predict("half_plus_two", 1.0) == 2.5
    assert draining.process.wait(60) == 0


def test_while_it_drains_health_says_so(draining: Served) -> None:
    path, asked = "/grpc.health.v1.Health", b"\x0a\x0cModelService"
    with grpc.insecure_channel(draining.grpc) as channel:
        watched = channel.unary_stream(f"{path}/Watch")(asked, timeout=30)
        assert next(watched) == b"\x08\x01"
        draining.process.terminate()
        assert next(watched) == b"\x08\x02"
        assert channel.unary_unary(f"{path}/Check")(asked, timeout=30) == b"\x08\x02"
    assert draining.process.wait(60) == 0


def test_a_client_of_grpc_goes_on_through_the_end(draining: Served) -> None:
    """Calls succeed until the connection is refused; a call that was sent is answered."""
    ends: list[grpc.StatusCode] = []
    answered = 0
    with Stub(draining) as stub:
        assert stub.predict("half_plus_two", 1.0) == 2.5
        draining.process.terminate()
        give_up = time.monotonic() + 60
        while not ends and time.monotonic() < give_up:
            try:
                assert stub.predict("half_plus_two", 1.0, timeout=3) == 2.5
                answered += 1
            except grpc.RpcError as error:
                ends.append(error.code())
                details = error.details()
    assert answered > 100
    # wait_for_ready: no server is there any more.
    assert ends == [grpc.StatusCode.DEADLINE_EXCEEDED] or "refused" in details, details
    assert draining.process.wait(60) == 0


def test_idle_connections_do_not_hold_up_the_end() -> None:
    server = serving(MODELS / "half_plus_two", "--port=0", may_end=True)
    with server as served, Wire(served) as idle, Stub(served) as stub:
        assert stub.predict("half_plus_two", 1.0) == 2.5
        assert idle.send(message("POST", PREDICT, BODY)).reply().status == 200
        began = time.monotonic()
        assert served.stop() == 0
        assert idle.closed()
        # Half the grace period: the end of it was not awaited.
        assert time.monotonic() - began < 15
