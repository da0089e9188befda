"""A node that runs pods as processes: what a kubelet does, as far as the tests need it, without a container
engine.

Each pod has a network namespace with an address of its own, its volumes, its containers with their users
and read-only roots (pod_process.py), init containers first; probes decide what the API server is told,
containers that end are started again, and a deleted pod gets SIGTERM, its grace, and SIGKILL. Not here:
images (their commands are in one layer), cgroups, preStop hooks, tokens of service accounts.
"""

from __future__ import annotations

import itertools
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import requests
from kube_api import STRATEGIC, Api, ApiError, Object
from pod_probes import Probe
from pod_process import Sandbox, start
from pod_volumes import Volumes

TICK = 0.1
BACK_OFF = 2.0
"""Seconds before a container is started a third time, and later ones."""

BRIDGE = "pods"
_numbers = itertools.count(10)


@dataclass(frozen=True)
class Place:
    """Where pods run. folder: not on the root's disk.

    layer: the files of containers' images, on top of this machine's; layers: those of some images, by their
    names. images: the content of images that are volumes.
    """

    api: Api
    folder: Path
    layer: Path
    images: Mapping[str, Path] = field(default_factory=dict)
    layers: Mapping[str, Path] = field(default_factory=dict)


@contextmanager
def node(place: Place, name: str, zone: str = "a") -> Iterator[NodeAgent]:
    """Adds a node that runs pods until the block ends."""
    agent = NodeAgent(place, name)
    agent.join(zone)
    thread = threading.Thread(target=agent.work, name=name)
    thread.start()
    try:
        yield agent
    except BaseException:
        # A test's failure: what the containers said is why.
        for pod in list(agent.pods.values()):
            for container in pod.processes:
                print(f"{pod.name}, {container}:\n{pod.log(container)[-4000:]}")
        raise
    finally:
        agent.stop()
        thread.join()
        # Nothing is to be scheduled here any more.
        place.api.delete(f"/api/v1/nodes/{name}")


class NodeAgent:
    """The agent of one node."""

    def __init__(self, place: Place, name: str) -> None:
        self.name = name
        self.pods: dict[str, RunningPod] = {}
        self._place = place
        self._stopped = threading.Event()

    def join(self, zone: str) -> None:
        """Registers the node."""
        labels = {"topology.kubernetes.io/zone": zone, "kubernetes.io/hostname": self.name}
        meta = {"name": self.name, "labels": labels}
        self._place.api.create("/api/v1/nodes", {"metadata": meta, "spec": {}})
        self._tell()

    def work(self) -> None:
        """Runs the node's pods until ``stop``."""
        for beat in itertools.count(1):
            if self._stopped.wait(TICK):
                break
            with suppress(requests.RequestException, ApiError):
                if beat % 50 == 0:
                    self._tell()
                self._look()
        for pod in list(self.pods.values()):
            pod.end()

    def stop(self) -> None:
        """Ends all pods, without the API server's knowledge: as when a machine is lost."""
        self._stopped.set()

    def pod(self, name: str) -> RunningPod:
        """Returns a running pod by its name."""
        return next(pod for pod in self.pods.values() if pod.name == name)

    def _look(self) -> None:
        found = self._place.api.items("/api/v1/pods", fieldSelector=f"spec.nodeName={self.name}")
        for pod in found:
            uid = pod["metadata"]["uid"]
            if uid not in self.pods:
                self.pods[uid] = RunningPod(self._place, pod)
                self.pods[uid].begin()
            if "deletionTimestamp" in pod["metadata"]:
                self.pods[uid].go(pod["metadata"].get("deletionGracePeriodSeconds", 30))
        there = {pod["metadata"]["uid"] for pod in found}
        for uid in [uid for uid in self.pods if uid not in there]:
            self.pods.pop(uid).end()

    def _tell(self) -> None:
        now = _now()
        room = {"cpu": "64", "memory": "256Gi", "pods": "110", "nvidia.com/gpu": "4"}
        ready = {"type": "Ready", "status": "True", "reason": "Agent", "lastHeartbeatTime": now}
        status = {"capacity": room, "allocatable": room, "conditions": [ready]}
        self._place.api.patch(f"/api/v1/nodes/{self.name}/status", {"status": status}, STRATEGIC)


class RunningPod:
    """A pod with its processes, and the thread that looks after them."""

    def __init__(self, place: Place, pod: Object) -> None:
        self.name: str = pod["metadata"]["name"]
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._place = place
        self._pod = pod
        self._path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{self.name}"
        self._folder = place.folder / pod["metadata"]["uid"]
        self._number = next(_numbers)
        self.address = f"10.77.{self._number // 250}.{self._number % 250 + 1}"
        self._restarts: dict[str, int] = {}
        self._ended: dict[str, float] = {}
        self._grace: float | None = None
        self._going, self._ending = threading.Event(), threading.Event()
        self._told: Object = {}
        self._thread = threading.Thread(target=self._run, name=self.name)

    def begin(self) -> None:
        """Starts the pod."""
        self._thread.start()

    def go(self, grace: float) -> None:
        """Ends the pod within ``grace`` seconds, because it was deleted."""
        self._grace = grace
        self._going.set()

    def end(self) -> None:
        """Ends the pod at once; returns when it has ended."""
        self._ending.set()
        self._going.set()
        self._thread.join()

    def log(self, container: str = "servable") -> str:
        """Returns what a container has printed."""
        file = self._folder / f"{container}.log"
        return file.read_text(errors="replace") if file.exists() else ""

    def _run(self) -> None:
        try:
            self._connect()
            volumes = Volumes(self._place.api, self._pod, self._folder / "volumes", self._place.images)
            sandbox = Sandbox(
                self._netns, self._folder, self._volumes(volumes), self._place.layer, self._place.layers
            )
            if self._initialise(sandbox):
                self._look_after(sandbox, volumes)
        finally:
            self._finish()

    @property
    def _netns(self) -> str:
        return f"pod{self._number}"

    def _connect(self) -> None:
        self._folder.mkdir(parents=True)
        inner = f"ip -n {self._netns}"
        for line in (
            f"ip netns add {self._netns}",
            f"ip link add veth{self._number} type veth peer name eth0 netns {self._netns}",
            f"ip link set veth{self._number} master {BRIDGE} up",
            f"{inner} link set lo up",
            f"{inner} addr add {self.address}/16 dev eth0",
            f"{inner} link set eth0 up",
        ):
            subprocess.run(line.split(), check=True, capture_output=True)

    def _volumes(self, volumes: Volumes) -> dict[str, Path]:
        """Makes the volumes; waits for what is not there yet, as a kubelet does."""
        while not self._going.wait(TICK):
            try:
                return volumes.make()
            except (ApiError, KeyError, requests.RequestException):
                continue
        return {}

    def _initialise(self, sandbox: Sandbox) -> bool:
        for container in self._pod["spec"].get("initContainers", []):
            while True:
                if self._going.is_set():
                    return False
                process = start(sandbox, self._pod, container, self._log_of(container))
                self.processes[container["name"]] = process
                if process.wait() == 0:
                    break
                self._going.wait(1)
        return not self._going.is_set()

    def _look_after(self, sandbox: Sandbox, volumes: Volumes) -> None:
        containers = self._pod["spec"]["containers"]
        probes: dict[str, tuple[Probe, Probe, Probe]] = {}
        for turn in itertools.count():
            for container in containers:
                name = container["name"]
                process = self.processes.get(name)
                if process is None or (process.poll() is not None and self._may_restart(name)):
                    self._restarts[name] = self._restarts.get(name, -1) + 1
                    self.processes[name] = start(sandbox, self._pod, container, self._log_of(container))
                    startup, ready, live = (
                        Probe(self.address, container, kind)
                        for kind in ("startupProbe", "readinessProbe", "livenessProbe")
                    )
                    probes[name] = (startup, ready, live)
                self._ask(name, *probes[name])
            self._tell(
                {
                    name: self.processes[name].poll() is None and _is_ready(*three)
                    for name, three in probes.items()
                }
            )
            if turn % 10 == 9:
                with suppress(ApiError, requests.RequestException):
                    volumes.renew()
            if self._going.wait(TICK):
                return

    def _may_restart(self, name: str) -> bool:
        """Returns whether a container that has ended is started again now: at once the first time."""
        if self._restarts[name] == 0:
            return True
        ended = self._ended.setdefault(name, time.monotonic())
        if time.monotonic() < ended + BACK_OFF:
            return False
        del self._ended[name]
        return True

    def _ask(self, name: str, startup: Probe, ready: Probe, live: Probe) -> None:
        if startup.asked is not None and not startup.passed:
            startup.turn()
            if startup.failed:
                self.processes[name].kill()
            return
        ready.turn()
        live.turn()
        if live.failed:
            self.processes[name].terminate()

    def _tell(self, ready: Mapping[str, bool]) -> None:
        whole = "True" if all(ready.values()) else "False"
        kinds = {"Initialized": "True", "ContainersReady": whole, "Ready": whole, "PodScheduled": "True"}
        status: Object = {
            "phase": "Running",
            "podIP": self.address,
            "podIPs": [{"ip": self.address}],
            "conditions": [{"type": kind, "status": said} for kind, said in kinds.items()],
            "containerStatuses": [
                {
                    "name": container["name"],
                    "image": container["image"],
                    "imageID": container["image"],
                    "ready": ready[container["name"]],
                    "started": True,
                    "restartCount": self._restarts[container["name"]],
                    "state": {"running": {}},
                }
                for container in self._pod["spec"]["containers"]
            ],
        }
        if status == self._told:
            return
        changed = {
            **status,
            "conditions": [{**one, "lastTransitionTime": _now()} for one in status["conditions"]],
        }
        with suppress(ApiError, requests.RequestException):
            self._place.api.patch(f"{self._path}/status", {"status": changed}, STRATEGIC)
            self._told = status

    def _finish(self) -> None:
        """Ends the processes, as long as they may take; then the API server may forget the pod."""
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGKILL if self._ending.is_set() else signal.SIGTERM)
        for process in self.processes.values():
            try:
                process.wait(0.5 if self._ending.is_set() else self._grace)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        subprocess.run(["ip", "netns", "del", self._netns], check=False, capture_output=True)
        if self._grace is not None:
            uid = {"uid": self._pod["metadata"]["uid"]}
            with suppress(ApiError, requests.RequestException):
                self._place.api.delete(self._path, gracePeriodSeconds=0, preconditions=uid)

    def _log_of(self, container: Object) -> Path:
        return self._folder / f"{container['name']}.log"


def _is_ready(startup: Probe, ready: Probe, _: Probe) -> bool:
    started = startup.asked is None or startup.passed
    return started and (ready.asked is None or ready.passed)


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
