"""Every example, as Helm and kubectl bring it to a real API server, which checks it strictly."""

from __future__ import annotations

import gzip
import subprocess
from pathlib import Path

import pytest
from control_plane import ControlPlane, bin_folder
from openapi_schemas import CRDS
from releases import CHART, namespace
from servers import until

EXAMPLES = sorted((CHART.parent / "examples").glob("*.yaml"))
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
KINDS = "deployments,services,poddisruptionbudgets,networkpolicies"


@pytest.fixture(scope="module")
def extended(plane: ControlPlane) -> ControlPlane:
    """A cluster that knows what KEDA and the Prometheus Operator define."""
    for name in ("scaledobjects", "servicemonitors"):
        definition = gzip.decompress((CRDS / f"{name}.yaml.gz").read_bytes()).decode()
        plane.kubectl("apply", "--server-side", "-f", "-", given=definition)

    def established() -> bool:
        found = [one["status"].get("conditions") or [] for one in plane.api.items(DEFINITIONS)]
        return all(any(one["type"] == "Established" for one in conditions) for conditions in found)

    assert until(established, 300)
    return plane


@pytest.mark.parametrize("values", EXAMPLES, ids=lambda path: path.stem)
def test_helm_installs_every_example(extended: ControlPlane, values: Path) -> None:
    where = namespace(extended, f"example-{values.stem}")
    # No pod has to run, and none is to be in the way of other tests.
    idle = ("--set", "replicas=0") if "kind:" not in values.read_text() else ()
    extended.helm("install", "servable", str(CHART), "-n", where, "-f", str(values), *idle)
    found = extended.kubectl("get", KINDS, "-n", where, "-o", "name").split()
    assert len(found) == 5
    extended.helm("uninstall", "servable", "-n", where)


def test_autoscaling_begins_with_the_pods_that_there_are(extended: ControlPlane) -> None:
    """A number of replicas that an upgrade takes out of a Deployment would else become one."""
    where = namespace(extended, "scaled-later")
    path = f"/apis/apps/v1/namespaces/{where}/deployments/servable"
    # Without a metric the autoscaler changes nothing by itself.
    scaling = ("--set", "autoscaling.kind=hpa", "--set", "autoscaling.minReplicas=1")
    for settings in (("--set", "replicas=3"), scaling, (*scaling, "--set", "minReadySeconds=1")):
        extended.helm("upgrade", "--install", "servable", str(CHART), "-n", where, *settings)
        assert extended.api.get(path)["spec"]["replicas"] == 3
    # The autoscaler leaves a Deployment of no pods alone.
    extended.kubectl("scale", "-n", where, "deployment/servable", "--replicas=0")
    extended.helm("upgrade", "servable", str(CHART), "-n", where, *scaling)
    assert extended.api.get(path)["spec"]["replicas"] == 1
    extended.helm("uninstall", "servable", "-n", where)


def test_going_back_leaves_the_number_of_pods_to_the_autoscaler(extended: ControlPlane) -> None:
    where = namespace(extended, "scaled-from-the-start")
    path = f"/apis/apps/v1/namespaces/{where}/deployments/servable"
    scaling = ("--set", "autoscaling.kind=hpa", "--set", "autoscaling.minReplicas=1")

    def scale(replicas: int) -> None:
        extended.kubectl("scale", "-n", where, "deployment/servable", f"--replicas={replicas}")

    for tag, replicas in (("v1", 3), ("v2", 7), ("v3", 10)):
        settings = (*scaling, "--set", f"image.tag={tag}")
        extended.helm("upgrade", "--install", "servable", str(CHART), "-n", where, *settings)
        scale(replicas)
    extended.helm("rollback", "servable", "1", "-n", where)
    spec = extended.api.get(path)["spec"]
    assert spec["replicas"] == 10
    assert spec["template"]["spec"]["containers"][0]["image"] == "servable:v1"
    extended.helm("uninstall", "servable", "-n", where)


def test_kubectl_applies_the_example_of_kustomize(extended: ControlPlane) -> None:
    namespace(extended, "models")
    command = [str(bin_folder() / "kustomize"), "build", str(CHART.parent / "examples" / "kustomize")]
    made = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    extended.kubectl("apply", "--server-side", "--validate=strict", "-f", "-", given=made)
    assert len(extended.kubectl("get", KINDS, "-n", "models", "-o", "name").split()) == 5
    extended.kubectl("delete", "-n", "models", "-f", "-", "--wait=false", given=made)
