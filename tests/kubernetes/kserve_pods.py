"""The pods that KServe makes of a runtime and an InferenceService, as far as its controller and its webhook
shape them.

By KServe v0.20.0: pkg/controller/v1beta1/inferenceservice/utils/utils.go (MergeRuntimeContainers,
ReplacePlaceholders), pkg/webhook/admission/pod/storage_initializer_injector.go, pkg/utils/storage.go
(modelcars).
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from typing import Any

from kube_api import Object

INITIALIZER_USER = 1000
MODELCAR_USER = 1010


def container(runtime: Object, name: str, arguments: Sequence[str] = ()) -> Object:
    """Returns the container of a predictor called ``name``: the runtime's, further arguments behind its
    own.
    """
    made = json.loads(json.dumps(runtime["spec"]["containers"][0]).replace("{{.Name}}", name))
    assert isinstance(made, dict)
    made["args"] = [*made.get("args", []), *arguments]
    made["env"] = [*made.get("env", []), {"name": "INFERENCE_SERVICE_NAME", "value": name}]
    # KServe's default.
    port = made.get("ports", [{"containerPort": 8080}])[0]["containerPort"]
    made.setdefault("readinessProbe", {"tcpSocket": {"port": port}, "periodSeconds": 1, "timeoutSeconds": 1})
    return made


def stored(runtime: Object, name: str, claim: str, path: str, arguments: Sequence[str] = ()) -> Object:
    """Returns the pod for ``pvc://CLAIM/PATH``: mounted where the storage initializer would have downloaded
    to.
    """
    server = container(runtime, name, arguments)
    mount = {"name": "kserve-pvc-source", "mountPath": "/mnt/models", "subPath": path, "readOnly": True}
    server["volumeMounts"] = [*server.get("volumeMounts", []), mount]
    source = {"name": "kserve-pvc-source", "persistentVolumeClaim": {"claimName": claim}}
    return _pod(runtime, name, [server], [source])


def downloaded(
    runtime: Object, name: str, uri: str, variables: Mapping[str, str], arguments: Sequence[str] = ()
) -> Object:
    """Returns the pod for a URI of a store: the storage initializer, with the store's variables, is first."""
    server = container(runtime, name, arguments)
    mount = {"name": "kserve-provision-location", "mountPath": "/mnt/models"}
    server["volumeMounts"] = [*server.get("volumeMounts", []), {**mount, "readOnly": True}]
    initializer = {
        "name": "storage-initializer",
        "image": "kserve/storage-initializer:v0.20.0",
        # The image's entrypoint.
        "command": ["/usr/bin/storage-initializer"],
        "args": [uri, "/mnt/models"],
        "env": [{"name": key, "value": value} for key, value in variables.items()],
        "volumeMounts": [mount],
        "securityContext": {"runAsUser": INITIALIZER_USER},
    }
    pod = _pod(runtime, name, [server], [{"name": "kserve-provision-location", "emptyDir": {}}])
    pod["spec"]["initContainers"] = [initializer]
    return pod


def modelcar(runtime: Object, name: str, image: str) -> Object:
    """Returns the pod for ``oci://IMAGE``: a second container, to whose files a link points once it has
    started.
    """
    server = container(runtime, name)
    server["env"].append({"name": "MODEL_INIT_MODE", "value": "async"})
    mount = {"name": "kserve-provision-location", "mountPath": "/mnt"}
    server["volumeMounts"] = [*server.get("volumeMounts", []), mount]
    server["securityContext"] = {**server.get("securityContext", {}), "runAsUser": MODELCAR_USER}
    link = "ln -sf /proc/$$/root/models /mnt/models && sleep infinity"
    car = {
        "name": "modelcar",
        "image": image,
        "args": ["sh", "-c", link],
        "volumeMounts": [copy.deepcopy(mount)],
        "securityContext": {"runAsUser": MODELCAR_USER},
    }
    pod = _pod(runtime, name, [server, car], [{"name": "kserve-provision-location", "emptyDir": {}}])
    pod["spec"]["shareProcessNamespace"] = True
    return pod


def _pod(runtime: Object, name: str, containers: list[Object], volumes: list[Any]) -> Object:
    return {
        "metadata": {"name": f"{name}-predictor", "labels": {"app": f"isvc.{name}-predictor"}},
        "spec": {"containers": containers, "volumes": [*runtime["spec"].get("volumes", []), *volumes]},
    }
