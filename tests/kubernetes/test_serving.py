"""The chart on a real API server, controllers and scheduler, with real servers as its pods' processes,
under load.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from certificates import Authority
from control_plane import ControlPlane
from kube_api import ApiError
from metrics_adapter import adapter
from node_agent import NodeAgent, Place, node
from releases import CHART, Models, Release, claim, namespace
from servers import put_version, until
from traffic import asking

from servable.cli.tokens import new_line

HALF = {"instances": [1.0, 2.0, 5.0]}
PREDICT = "/v1/models/half_plus_two:predict"
VALUES = {
    "model": {"name": "half_plus_two", "persistentVolumeClaim": {"subPath": "half_plus_two"}},
    "drainSeconds": 2,
    "graceSeconds": 10,
    "probes": {"readinessPeriodSeconds": 1},
    "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": None},
}


@pytest.fixture(scope="module")
def nodes(plane: ControlPlane, run_folder: Path, layer: Path, models: Models) -> Iterator[list[NodeAgent]]:
    image = run_folder / "image"
    shutil.copytree(models.folder / "half_plus_two", image / "models")
    place = Place(plane.api, run_folder / "pods", layer, {"registry.example.com/flowers:2": image})
    with node(place, "real-a", "a") as first, node(place, "real-b", "b") as second:
        yield [first, second]


@pytest.fixture(scope="module")
def served(plane: ControlPlane, nodes: list[NodeAgent], models: Models) -> Iterator[Release]:
    """A release of two pods, which tests may change as long as they leave it serving."""
    where = namespace(plane, "serving", restricted=True)
    claim(plane, where, models.folder)
    release = Release(plane, where, dict(VALUES))
    release.install()
    release.settle()
    yield release
    plane.helm("uninstall", release.name, "-n", where, "--wait")


def pod_of(nodes: list[NodeAgent], name: str) -> tuple[NodeAgent, int]:
    agent = next(agent for agent in nodes if any(pod.name == name for pod in agent.pods.values()))
    return agent, agent.pod(name).processes["servable"].pid


def test_both_pods_serve_by_both_services(served: Release, nodes: list[NodeAgent]) -> None:
    for service in (served.service(), served.service(headless=True)):
        assert until(lambda service=service: len(service.ready()) == 2)
        for host, port in service.ready():
            answer = requests.post(f"http://{host}:{port}{PREDICT}", json=HALF, timeout=10)
            assert answer.json() == {"predictions": [2.5, 3.0, 4.5]}
    assert {port for _, port in served.service("grpc", headless=True).ready()} == {8500}
    # The scheduler has spread them.
    assert sorted(len(agent.pods) for agent in nodes) == [1, 1]


def test_the_process_is_nobody_and_writes_only_to_the_cache(served: Release, nodes: list[NodeAgent]) -> None:
    _, pid = pod_of(nodes, served.ready_pods()[0])
    status = Path(f"/proc/{pid}/status").read_text()
    assert "Uid:\t65532\t65532\t65532\t65532" in status
    assert "NoNewPrivs:\t1" in status
    mounts = Path(f"/proc/{pid}/mounts").read_text().splitlines()
    written = {line.split()[1]: line.split()[3].split(",")[0] for line in mounts}
    assert written["/"] == "ro" and written["/models/half_plus_two"] == "ro" and written["/cache"] == "rw"


def test_a_rolled_template_loses_no_request(served: Release) -> None:
    before = set(served.ready_pods())
    served.values["image"] = {"tag": "next"}
    with asking(served.service(), PREDICT, HALF) as counts:
        assert until(lambda: counts.answered > 200)
        served.install()
        served.settle()
        assert until(lambda: len(served.ready_pods()) == 2 and not before & set(served.ready_pods()))
        # Both new pods answer, too.
        assert until(lambda: len(counts.pods) == 4)
    print("rolled:", counts)
    assert counts.failed == {}
    assert counts.retried == 0


def test_an_upgrade_that_cannot_start_takes_nothing_away(served: Release) -> None:
    before = set(served.ready_pods())
    wrong = ("--reuse-values", "--set", "flags.max_requests_in_flight=many", "--atomic", "--timeout", "20s")
    with asking(served.service(), PREDICT, HALF) as counts:
        with pytest.raises(AssertionError, match="rolled back"):
            served.plane.helm("upgrade", served.name, str(CHART), "-n", served.namespace, *wrong)
        assert until(lambda: len(served.pods()) == 2)
    print("rolled back:", counts)
    assert set(served.ready_pods()) == before
    assert counts.failed == {} and counts.retried == 0


def test_a_new_version_is_served_without_a_new_pod(served: Release, models: Models) -> None:
    before = set(served.ready_pods())
    with asking(served.service(), PREDICT, HALF) as counts:
        put_version("half_plus_two", models.folder / "half_plus_two", 2)
        for host, port in served.service().ready():
            url = f"http://{host}:{port}/v1/models/half_plus_two/versions/2"
            assert until(lambda url=url: "AVAILABLE" in requests.get(url, timeout=10).text)
        answered = counts.answered
        assert until(lambda: counts.answered > answered + 100)
    print("new version:", counts)
    assert counts.failed == {} and counts.retried == 0
    assert set(served.ready_pods()) == before


def test_a_killed_server_is_started_again(served: Release, nodes: list[NodeAgent]) -> None:
    name = served.ready_pods()[0]
    _, pid = pod_of(nodes, name)
    with asking(served.service(), PREDICT, HALF) as counts:
        assert until(lambda: counts.answered > 200)
        os.kill(pid, signal.SIGKILL)
        path = f"{served.path('pods')}/{name}"

        def restarted() -> bool:
            return bool(served.plane.api.get(path)["status"]["containerStatuses"][0]["restartCount"] == 1)

        assert until(restarted) and until(lambda: len(served.ready_pods()) == 2)
        answered = counts.answered
        assert until(lambda: counts.answered > answered + 200)
    print("killed:", counts)
    # Requests on the killed server's connections were sent again, to the other one if need be.
    assert counts.failed == {}


def test_a_pod_deleted_by_force_is_replaced(served: Release) -> None:
    name = served.ready_pods()[0]
    with asking(served.service(), PREDICT, HALF) as counts:
        assert until(lambda: counts.answered > 200)
        served.plane.kubectl("delete", "pod", name, "-n", served.namespace, "--grace-period=0", "--force")
        assert until(lambda: name not in served.ready_pods() and len(served.ready_pods()) == 2)
    print("deleted:", counts)
    assert counts.failed == {}


def test_the_budget_allows_one_eviction_at_a_time(served: Release) -> None:
    first, second = served.ready_pods()

    def evict(name: str) -> None:
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
        served.plane.api.create(f"{served.path('pods')}/{name}/eviction", body)

    budget = served.path("poddisruptionbudgets", "apis/policy/v1") + f"/{served.name}"
    assert until(lambda: served.plane.api.get(budget)["status"].get("disruptionsAllowed") == 1)
    with asking(served.service(), PREDICT, HALF) as counts:
        evict(first)
        with pytest.raises(ApiError, match="disruption budget") as refused:
            evict(second)
        assert refused.value.status == 429
        assert until(lambda: len(served.ready_pods()) == 2 and first not in served.ready_pods())
    print("evicted:", counts)
    assert counts.failed == {} and counts.retried == 0


def test_the_config_changes_without_a_new_pod(served: Release) -> None:
    config = """model_config_list { config { name: "half_plus_two" base_path: "/models/half_plus_two"
      model_platform: "tensorflow" model_version_policy { all {} } %s } }"""
    served.values["config"] = config % ""
    served.values["model"] = {"name": "half_plus_two", "persistentVolumeClaim": {"subPath": ""}}
    served.values["reloadSeconds"] = 1
    served.install()
    served.settle()
    before = set(served.ready_pods())
    hosts = served.service().ready()
    served.values["config"] = config % 'version_labels { key: "stable" value: 1 }'
    with asking(served.service(), PREDICT, HALF) as counts:
        served.install()
        for host, port in hosts:
            url = f"http://{host}:{port}/v1/models/half_plus_two/labels/stable:predict"
            assert until(lambda url=url: requests.post(url, json=HALF, timeout=10).status_code == 200)
    print("config:", counts)
    assert counts.failed == {} and counts.retried == 0
    assert set(served.ready_pods()) == before


def test_requests_in_flight_scale_the_pods(
    plane: ControlPlane, nodes: list[NodeAgent], models: Models, run_folder: Path
) -> None:
    """By the real HorizontalPodAutoscaler; its metric comes from the pods by an adapter of the tests' own."""
    where = namespace(plane, "scaled")
    claim(plane, where, models.folder)
    scaling = {
        "kind": "hpa",
        "minReplicas": 1,
        "maxReplicas": 3,
        "requestsInFlight": 4,
        "scaleDownSeconds": 5,
    }
    loop = {"name": "loop", "persistentVolumeClaim": {"subPath": "loop"}}
    release = Release(plane, where, {**VALUES, "model": loop, "autoscaling": scaling})
    with adapter(plane.api, run_folder, "10.77.0.1"):
        release.install()
        release.settle()
        assert until(lambda: len(release.ready_pods()) == 1)
        body = {"signature_name": "serving_default", "inputs": 3000}
        with asking(release.service(), "/v1/models/loop:predict", body, clients=12) as counts:
            assert until(lambda: len(release.ready_pods()) == 3, 120), plane.kubectl(
                "describe", "hpa", "-n", where, check=False
            )
            answered = counts.answered
            assert until(lambda: counts.answered > answered + 50)
        with asking(release.service(), "/v1/models/loop:predict", body, clients=1) as few:
            assert until(lambda: len(release.pods()) == 1 and len(release.service().ready()) == 1, 180)
        print("scaled:", counts, few)
        assert counts.failed == {} and few.failed == {} and few.retried == 0
    plane.helm("uninstall", release.name, "-n", where, "--wait")


def test_tls_and_tokens_from_secrets(plane: ControlPlane, nodes: list[NodeAgent], models: Models) -> None:
    where = namespace(plane, "secured")
    claim(plane, where, models.folder)
    authority = Authority()
    issued = authority.issue()
    secrets = f"/api/v1/namespaces/{where}/secrets"
    plane.api.create(
        secrets,
        {
            "metadata": {"name": "tls"},
            "type": "kubernetes.io/tls",
            "stringData": {"tls.crt": issued.certificate.decode(), "tls.key": issued.key.decode()},
        },
    )
    scopes: dict[str, str | None] = {"scopes": "predict", "models": "*"}
    (line, first), (another, second) = new_line("first", scopes), new_line("second", scopes)
    plane.api.create(secrets, {"metadata": {"name": "tokens"}, "stringData": {"tokens": f"{line}\n"}})
    values = {**VALUES, "replicas": 1, "tls": {"existingSecret": "tls"}, "auth": {"existingSecret": "tokens"}}
    release = Release(plane, where, values)
    release.install()
    release.settle()
    (host, port) = release.service().ready()[0]

    def status(shown: str) -> int:
        trusting = authority.trusting()
        # The certificate is one for localhost.
        trusting.check_hostname = False
        connection = http.client.HTTPSConnection(host, port, timeout=10, context=trusting)
        headers = {"Authorization": f"Bearer {shown}"} if shown else {}
        connection.request("POST", PREDICT, json.dumps(HALF), headers)
        try:
            return connection.getresponse().status
        finally:
            connection.close()

    assert [status(""), status(first), status(second)] == [401, 200, 401]
    both = base64.b64encode(f"{line}\n{another}\n".encode()).decode()
    plane.api.patch(f"{secrets}/tokens", {"data": {"tokens": both}})
    assert until(lambda: status(second) == 200)
    assert len(release.ready_pods()) == 1
    plane.helm("uninstall", release.name, "-n", where, "--wait")


def test_every_folder_is_a_model(plane: ControlPlane, nodes: list[NodeAgent], models: Models) -> None:
    where = namespace(plane, "folders", restricted=True)
    claim(plane, where, models.folder)
    flags = {"lazy_load": True, "memory_budget": "1GiB"}
    model = {"persistentVolumeClaim": {"claimName": "models"}}
    values = {**VALUES, "replicas": 1, "model": model, "modelsDir": "/models", "flags": flags}
    release = Release(plane, where, values)
    release.install()
    release.settle()
    ((host, port),) = release.service().ready()
    for name, body in (("half_plus_two", HALF), ("loop", {"inputs": 3})):
        answer = requests.post(f"http://{host}:{port}/v1/models/{name}:predict", json=body, timeout=30)
        assert answer.status_code == 200, answer.text
    plane.helm("uninstall", release.name, "-n", where, "--wait")


@pytest.mark.parametrize("source", ["image", "init"])
def test_models_from_images_and_init_containers(
    plane: ControlPlane, nodes: list[NodeAgent], models: Models, source: str
) -> None:
    where = namespace(plane, f"from-{source}", restricted=True)
    model = {
        "image": {"image": {"reference": "registry.example.com/flowers:2", "subPath": "models"}},
        "init": {
            "initContainer": {
                "image": "busybox",
                "command": ["sh", "-c", f"cp -r {models.origin}/half_plus_two/1 $(MODEL_DIR)/1"],
            }
        },
    }[source]
    values = {
        **VALUES,
        "replicas": 1,
        "model": {"name": "half_plus_two", **model},
        "probes": {"protocol": "grpc", "readinessPeriodSeconds": 1},
        "batching": "max_batch_size { value: 8 }",
        "flags": {"max_requests_in_flight": 100, "access_log": "errors"},
    }
    release = Release(plane, where, values)
    release.install()
    release.settle()
    ((host, port),) = release.service().ready()
    answer = requests.post(f"http://{host}:{port}{PREDICT}", json=HALF, timeout=10)
    assert answer.json() == {"predictions": [2.5, 3.0, 4.5]}, json.dumps(release.pods())
    plane.helm("uninstall", release.name, "-n", where, "--wait")
