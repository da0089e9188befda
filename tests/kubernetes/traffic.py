"""Clients of a Service: each request goes to one of its ready pods, as kube-proxy would send it, and is
counted.
"""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import requests
from kube_api import Api, ApiError

LAG_SECONDS = 0.5
"""How old the list of pods may be, as it is on nodes."""

PAUSE_SECONDS = 0.05
"""The first pause before a request is sent again; each further one is twice as long."""

PATIENCE_SECONDS = 5.0
"""How long a client tries. The address of a pod that is gone refuses connections until it has left the list:
a client that tries again without a pause has used up three tries by then.
"""

SECONDS = 20.0
"""How long an answer may take."""

CONNECT_SECONDS = 1.0
"""How long a connection may take: at the address of a pod that was deleted by force, nobody says no."""


@dataclass(frozen=True)
class Service:
    """A Service, and the port of its pods that is asked."""

    api: Api
    namespace: str
    name: str
    port: str = "rest"

    def ready(self) -> list[tuple[str, int]]:
        """Returns the addresses of the pods that a new connection may go to."""
        slices = self.api.items(
            f"/apis/discovery.k8s.io/v1/namespaces/{self.namespace}/endpointslices",
            labelSelector=f"kubernetes.io/service-name={self.name}",
        )
        return sorted(
            (address, port["port"])
            for one in slices
            for endpoint in one["endpoints"] or []
            if endpoint["conditions"].get("ready")
            for address in endpoint["addresses"]
            for port in one["ports"]
            if port["name"] == self.port
        )


@dataclass
class Counts:
    """What became of requests. retried: lost their connection, and were answered when sent again.

    tries: most that one request took.
    """

    answered: int = 0
    retried: int = 0
    tries: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    pods: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, pod: str, tries: int, failure: str) -> None:
        """Counts a request."""
        with self._lock:
            self.tries = max(self.tries, tries)
            if failure:
                self.failed[failure] += 1
            else:
                self.answered += 1
                self.retried += tries > 1
                self.pods[pod] += 1


class Clients:
    """Clients that ask one after the other, each over connections that it keeps."""

    def __init__(self, service: Service, path: str, body: object) -> None:
        self.counts = Counts()
        self._service = service
        self._path = path
        self._body = json.dumps(body)
        self._pods: list[tuple[str, int]] = service.ready()
        self._stopped = threading.Event()

    def ask_on(self) -> None:
        """Asks until ``stop``."""
        open_ones: dict[tuple[str, int], http.client.HTTPConnection] = {}
        while not self._stopped.is_set():
            self._once(open_ones)
        for connection in open_ones.values():
            connection.close()

    def follow(self) -> None:
        """Follows the list of pods until ``stop``."""
        while not self._stopped.wait(LAG_SECONDS):
            with suppress(requests.RequestException, ApiError):
                self._pods = self._service.ready()

    def stop(self) -> None:
        """Ends all of it."""
        self._stopped.set()

    def _once(self, open_ones: dict[tuple[str, int], http.client.HTTPConnection]) -> None:
        failure, pod, tries = "no pod is ready", "", 0
        give_up = time.monotonic() + PATIENCE_SECONDS
        while failure and time.monotonic() < give_up:
            if tries:
                # A client's way between two attempts; nothing that is tested is waited for.
                self._stopped.wait(PAUSE_SECONDS * 2 ** (tries - 1))
            tries += 1
            pods = self._pods
            if not pods:
                continue
            chosen = random.choice(pods)
            pod = chosen[0]
            connection = open_ones.pop(chosen, None) or http.client.HTTPConnection(*chosen)
            try:
                connect(connection)
                connection.request("POST", self._path, self._body)
                answer = connection.getresponse()
                text = answer.read()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                failure = type(error).__name__
                continue
            if answer.will_close:
                connection.close()
            else:
                open_ones[chosen] = connection
            # What a server has answered is not sent again.
            if answer.status != 200:
                self.counts.add(pod, tries, f"{answer.status}: {text[:80]!r}")
                return
            failure = ""
        self.counts.add(pod, tries, failure)


def connect(connection: http.client.HTTPConnection) -> None:
    """Connects, unless it is connected. Raises ``OSError``."""
    if connection.sock is None:
        connection.timeout = CONNECT_SECONDS
        connection.connect()
        connection.sock.settimeout(SECONDS)


@contextmanager
def asking(service: Service, path: str, body: object, clients: int = 4) -> Iterator[Counts]:
    """Has clients ask until the block ends."""
    them = Clients(service, path, body)
    threads = [threading.Thread(target=them.ask_on) for _ in range(clients)]
    threads.append(threading.Thread(target=them.follow))
    for thread in threads:
        thread.start()
    try:
        yield them.counts
    finally:
        them.stop()
        for thread in threads:
            thread.join()
