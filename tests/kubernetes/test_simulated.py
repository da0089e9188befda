"""Where pods go, and how many there are meanwhile: the real scheduler and controllers, with kwok's nodes
and pods.

Nothing runs in these pods; test_serving.py has some in which something does.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator

import pytest
from control_plane import ControlPlane, kwok
from releases import Release, namespace
from servers import until

ZONES = ("x", "y", "z")
TAINT = {"key": "simulated", "value": "true", "effect": "NoSchedule"}
VALUES = {
    "replicas": 9,
    "model": {"image": {"reference": "registry.example.com/flowers:2"}},
    "tolerations": [{"key": "simulated", "operator": "Exists"}],
    "nodeSelector": {"simulated": "true"},
}


def add_node(plane: ControlPlane, name: str, zone: str, gpus: int = 0) -> None:
    labels = {"simulated": "true", "topology.kubernetes.io/zone": zone, "kubernetes.io/hostname": name}
    taints = [TAINT]
    room = {"cpu": "16", "memory": "64Gi", "pods": "110"}
    if gpus:
        taints.append({"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"})
        room["nvidia.com/gpu"] = str(gpus)
    meta = {"name": name, "labels": labels, "annotations": {"kwok.x-k8s.io/node": "fake"}}
    status = {"capacity": room, "allocatable": room}
    plane.api.create("/api/v1/nodes", {"metadata": meta, "spec": {"taints": taints}, "status": status})


@pytest.fixture(scope="module")
def simulated(plane: ControlPlane) -> Iterator[ControlPlane]:
    """Two nodes in each of three zones."""
    with kwok(plane):
        for zone in ZONES:
            for number in range(2):
                add_node(plane, f"{zone}{number}", zone)
        yield plane


@pytest.fixture(scope="module")
def released(simulated: ControlPlane) -> Release:
    release = Release(simulated, namespace(simulated, "simulated"), dict(VALUES))
    release.install()
    release.settle()
    return release


def per_node(release: Release) -> Counter[str]:
    return Counter(pod["spec"]["nodeName"] for pod in release.pods())


def fewest_ready(release: Release, stopped: threading.Event, found: list[int]) -> None:
    while not stopped.wait(0.05):
        found.append(len(release.ready_pods()))


def test_pods_are_spread_over_zones_and_nodes(released: Release) -> None:
    nodes = per_node(released)
    assert Counter(node[0] for node in nodes.elements()) == {"x": 3, "y": 3, "z": 3}
    assert max(nodes.values()) == 2


def test_a_rolling_update_never_has_fewer_pods_and_spreads_the_new_ones(released: Release) -> None:
    found: list[int] = []
    stopped = threading.Event()
    watching = threading.Thread(target=fewest_ready, args=(released, stopped, found))
    watching.start()
    try:
        released.values["image"] = {"tag": "next"}
        released.install()
        released.settle()
    finally:
        stopped.set()
        watching.join()
    assert len(found) > 5 and min(found) >= 9
    assert until(
        lambda: Counter(node[0] for node in per_node(released).elements()) == {"x": 3, "y": 3, "z": 3}
    )


def test_a_node_is_drained_pod_by_pod(released: Release) -> None:
    # kubectl asks again for each pod whose eviction the budget refuses for now.
    said = released.plane.kubectl(
        "drain", "x0", "x1", "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=90s"
    )
    assert "drained" in said
    assert until(lambda: len(released.ready_pods()) == 9)
    assert not {"x0", "x1"} & set(per_node(released))
    released.plane.kubectl("uncordon", "x0", "x1")


def test_gpus_choose_their_node(simulated: ControlPlane) -> None:
    add_node(simulated, "gpu", "x", gpus=2)
    gpu = {"gpu": {"count": 1}, "replicas": 3, "strategy": {"maxUnavailable": 1, "maxSurge": 0}}
    release = Release(simulated, namespace(simulated, "gpu"), {**VALUES, **gpu})
    release.install()
    assert until(lambda: len(release.ready_pods()) == 2)
    # There are two.
    waiting = [pod for pod in release.pods() if "nodeName" not in pod["spec"]]
    assert len(waiting) == 1
    conditions = waiting[0]["status"]["conditions"]
    assert any("Insufficient nvidia.com/gpu" in one.get("message", "") for one in conditions)
    assert set(Counter(pod["spec"].get("nodeName") for pod in release.pods())) == {"gpu", None}
