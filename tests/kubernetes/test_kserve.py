"""KServe: its definitions on a real API server, our runtimes and examples in them, and the pods that they
make.

KServe's own controller is not run here: kserve_pods.py makes the pods as it does.
"""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import yaml
from control_plane import ControlPlane
from kserve_pods import modelcar, stored
from kube_api import Object
from node_agent import NodeAgent, Place, node
from openapi_schemas import CRDS
from releases import CHART, Models, claim, namespace, started
from servers import MODELS, until

DEPLOY = CHART.parents[1] / "kserve"
RUNTIMES = sorted(path for path in (DEPLOY / "runtimes").glob("*.yaml") if path.stem != "kustomization")
EXAMPLES = sorted((DEPLOY / "examples").glob("*.yaml"))
THEIRS = Path(__file__).with_name("kserve") / "kserve-tensorflow-serving.yaml"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
CAR = "registry.example.com/models/half_plus_two:1"
HALF = {"instances": [1.0, 2.0, 5.0]}
HALF_V2 = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [3], "data": [1.0, 2.0, 5.0]}]}


@pytest.fixture(scope="module")
def kserve(plane: ControlPlane) -> ControlPlane:
    """A cluster that knows KServe's kinds."""
    for path in CRDS.glob("*.yaml.gz"):
        # InferenceService's is too large for the annotation of a client-side apply.
        plane.kubectl("apply", "--server-side", "-f", "-", given=gzip.decompress(path.read_bytes()).decode())
    assert until(lambda: all(map(is_established, plane.api.items(DEFINITIONS))), 300)
    return plane


def is_established(definition: Object) -> bool:
    conditions = definition["status"].get("conditions") or []
    return any(one["type"] == "Established" and one["status"] == "True" for one in conditions)


@pytest.fixture(scope="module")
def agent(kserve: ControlPlane, run_folder: Path, layer: Path) -> Iterator[NodeAgent]:
    car = run_folder / "car"
    shutil.copytree(MODELS / "half_plus_two", car / "models")
    place = Place(kserve.api, run_folder / "kserve-pods", layer, layers={CAR: car})
    with node(place, "kserve", "a") as started:
        yield started


def serving(kserve: ControlPlane, where: str, pod: Object) -> str:
    """Runs a pod until it is ready; returns the address of its REST API."""
    # The other nodes are for other tests.
    pod["spec"]["nodeName"] = "kserve"
    return f"http://{started(kserve, where, pod)}:8080"


def runtime(name: str) -> Object:
    loaded = yaml.safe_load((DEPLOY / "runtimes" / f"{name}.yaml").read_text())
    assert isinstance(loaded, dict)
    return loaded


@pytest.mark.parametrize("path", [*RUNTIMES, *EXAMPLES], ids=lambda path: path.stem)
def test_the_api_server_takes_it_whole(kserve: ControlPlane, path: Path) -> None:
    # An unknown member is an error, as for a person who mistypes it.
    kserve.kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", str(path))


def test_the_api_server_knows_what_is_wrong(kserve: ControlPlane, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(
        (DEPLOY / "examples" / "canary.yaml").read_text().replace("canaryTraffic", "canaryTrafic")
    )
    said = kserve.kubectl(
        "apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", str(wrong), check=False
    )
    assert "canaryTraficPercent" in said


def test_their_runtime_with_our_image(kserve: ControlPlane, agent: NodeAgent, models: Models) -> None:
    """The swap that docs/kserve.md shows: nothing of their runtime for TensorFlow Serving changes but the
    image.
    """
    kserve.kubectl("apply", "--server-side", "-f", str(THEIRS))
    change = '[{"op": "replace", "path": "/spec/containers/0/image", "value": "servable:v0.1.0"}]'
    kserve.kubectl(
        "patch", "clusterservingruntime", "kserve-tensorflow-serving", "--type=json", f"--patch={change}"
    )
    path = "/apis/serving.kserve.io/v1alpha1/clusterservingruntimes/kserve-tensorflow-serving"
    swapped = kserve.api.get(path)
    where = namespace(kserve, "swap")
    claim(kserve, where, models.folder)
    url = serving(kserve, where, stored(swapped, "flowers", "models", "half_plus_two"))
    answer = requests.post(f"{url}/v1/models/flowers:predict", json=HALF, timeout=10)
    assert answer.json() == {"predictions": [2.5, 3.0, 4.5]}
    assert "AVAILABLE" in requests.get(f"{url}/v1/models/flowers", timeout=10).text


@pytest.mark.parametrize(
    ("format", "model", "path"),
    [
        ("tensorflow", "half_plus_two", "half_plus_two"),
        ("tensorflow", "half_plus_two", "half_plus_two/1"),
    ],
)
def test_our_runtime_by_both_protocols(
    kserve: ControlPlane, agent: NodeAgent, format: str, model: str, path: str
) -> None:
    """With folders of versions and without, as stores have both."""
    where = namespace(kserve, f"ours-{format}-{path.count('/')}")
    claim(kserve, where, MODELS)
    url = serving(kserve, where, stored(runtime(format), "flowers", "models", path))
    answer = requests.post(f"{url}/v1/models/flowers:predict", json=HALF, timeout=10)
    assert answer.json() == {"predictions": [2.5, 3.0, 4.5]}
    answer = requests.post(f"{url}/v2/models/flowers/infer", json=HALF_V2, timeout=10)
    assert answer.json()["outputs"][0]["data"] == [2.5, 3.0, 4.5]
    assert requests.get(f"{url}/v2/models/flowers/ready", timeout=10).status_code == 200


def test_a_modelcar(kserve: ControlPlane, agent: NodeAgent) -> None:
    where = namespace(kserve, "modelcar")
    url = serving(kserve, where, modelcar(runtime("tensorflow"), "flowers", CAR))
    answer = requests.post(f"{url}/v1/models/flowers:predict", json=HALF, timeout=10)
    assert answer.json() == {"predictions": [2.5, 3.0, 4.5]}
