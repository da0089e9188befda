"""Releases of the chart on a control plane, with what they need there."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from conftest import ROOT
from control_plane import ControlPlane
from kube_api import Object
from servers import until
from traffic import Service

CHART = ROOT / "deploy" / "kubernetes" / "chart"
SECONDS = 90.0
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Models:
    """Folders of models: ``folder`` is the content of a volume; ``origin`` has the tests' own."""

    folder: Path
    origin: Path


@dataclass
class Release:
    """A release of the chart, in a namespace of its own."""

    plane: ControlPlane
    namespace: str
    values: dict[str, Any]
    name: str = "servable"

    def install(self) -> None:
        """Installs it, or brings it to its values, and returns at once."""
        file = self.plane.folder / f"{self.namespace}.yaml"
        file.write_text(yaml.safe_dump(self.values))
        self.plane.helm("upgrade", "--install", self.name, str(CHART), "-n", self.namespace, "-f", str(file))

    def settle(self) -> None:
        """Returns once all pods are new and ready."""
        where = f"deployment/{self.name}"
        self.plane.kubectl("rollout", "status", where, "-n", self.namespace, f"--timeout={SECONDS:.0f}s")

    def pods(self) -> list[Object]:
        """Returns its pods that are not about to go."""
        pods = self.plane.api.items(
            self.path("pods"), labelSelector=f"app.kubernetes.io/instance={self.name}"
        )
        return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]

    def ready_pods(self) -> list[str]:
        """Returns the names of those that are ready."""
        return [pod["metadata"]["name"] for pod in self.pods() if is_ready(pod)]

    def path(self, kind: str, group: str = "api/v1") -> str:
        """Returns the path of a kind of objects in the release's namespace."""
        return f"/{group}/namespaces/{self.namespace}/{kind}"

    def service(self, port: str = "rest", headless: bool = False) -> Service:
        """Returns its Service."""
        name = f"{self.name}-headless" if headless else self.name
        return Service(self.plane.api, self.namespace, name, port)


def is_ready(pod: Object) -> bool:
    """Returns whether a pod is ready."""
    conditions = pod.get("status", {}).get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def started(plane: ControlPlane, where: str, pod: Object) -> str:
    """Starts a pod without a Deployment; returns its address once it is ready."""
    path = f"/api/v1/namespaces/{where}/pods"
    plane.api.create(path, pod)
    name = pod["metadata"]["name"]
    assert until(lambda: is_ready(plane.api.get(f"{path}/{name}")), SECONDS), f"{name} is not ready"
    return str(plane.api.get(f"{path}/{name}")["status"]["podIP"])


def namespace(plane: ControlPlane, name: str, restricted: bool = False) -> str:
    """Makes a namespace; returns its name. restricted: by Kubernetes' strictest standard of what pods may."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"} if restricted else {}
    plane.api.create("/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
    path = f"/api/v1/namespaces/{name}/serviceaccounts"
    assert until(lambda: plane.api.items(path), SECONDS)
    return name


def claim(plane: ControlPlane, where: str, folder: Path, name: str = "models") -> None:
    """Makes a claim in a namespace, bound to a volume whose content is ``folder``."""
    volume = f"volume-{next(_numbers)}"
    size = {"storage": "1Gi"}
    spec = {"accessModes": ["ReadOnlyMany"], "storageClassName": "", "volumeName": volume}
    plane.api.create(
        "/api/v1/persistentvolumes",
        {
            "metadata": {"name": volume},
            "spec": {
                "capacity": size,
                "accessModes": ["ReadOnlyMany"],
                "hostPath": {"path": str(folder)},
                "claimRef": {"namespace": where, "name": name},
            },
        },
    )
    path = f"/api/v1/namespaces/{where}/persistentvolumeclaims"
    plane.api.create(path, {"metadata": {"name": name}, "spec": {**spec, "resources": {"requests": size}}})
    assert until(lambda: plane.api.get(f"{path}/{name}")["status"].get("phase") == "Bound", SECONDS)
