"""A container as a process: a root file system of its own, its volumes where it expects them, its user, its
network.

The root is this machine's, below a layer with the image's commands, and can be written to only where the
container says so. That needs root, and namespaces; no container engine.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kube_api import Object

CAPABILITY = "-all,+dac_read_search"
"""The one capability of programs of this machine: to read what is installed for its user alone."""

IMAGES_USER = 65532
"""Whom our images name."""


@dataclass
class Sandbox:
    """What the containers of a pod share. folder: on a file system that is not this machine's root."""

    namespace: str
    folder: Path
    volumes: Mapping[str, Path]
    layer: Path
    layers: Mapping[str, Path] = field(default_factory=dict)


def start(sandbox: Sandbox, pod: Object, container: Object, log: Path) -> subprocess.Popen[bytes]:
    """Starts a container; its process is the container's own."""
    script = sandbox.folder / f"{container['name']}.sh"
    script.write_text("\n".join(["set -eu", *_mounts(sandbox, container), _command(sandbox, pod, container)]))
    inside = ["ip", "netns", "exec", sandbox.namespace]
    with log.open("ab") as file:
        return subprocess.Popen(
            [*inside, "unshare", "--mount", "--propagation", "private", "bash", str(script)],
            stdout=file,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )


def _mounts(sandbox: Sandbox, container: Object) -> list[str]:
    base = sandbox.folder / container["name"]
    root, upper, work = base / "root", base / "upper", base / "work"
    for folder in (root, upper, work):
        folder.mkdir(parents=True, exist_ok=True)
    layer = sandbox.layers.get(container["image"], sandbox.layer)
    lines = [f"mount -t overlay overlay -o lowerdir={layer}:/,upperdir={upper},workdir={work} {root}"]
    lines += [f"mount --rbind /{system} {root}/{system}" for system in ("proc", "dev")]
    for mount in container.get("volumeMounts", []):
        if mount["name"] not in sandbox.volumes:
            continue
        origin = sandbox.volumes[mount["name"]] / mount.get("subPath", "")
        target = f"{root}{mount['mountPath']}"
        options = "-o ro" if mount.get("readOnly") else ""
        lines += [f"mkdir -p {target}", f"mount --bind {options} {origin} {target}"]
    if container.get("securityContext", {}).get("readOnlyRootFilesystem"):
        lines.append(f"mount -o remount,ro {root}")
    return lines


def _command(sandbox: Sandbox, pod: Object, container: Object) -> str:
    of_pod = pod["spec"].get("securityContext", {})
    security = {**of_pod, **container.get("securityContext", {})}
    user = security.get("runAsUser", IMAGES_USER if security.get("runAsNonRoot") else 0)
    group = security.get("runAsGroup", user)
    groups = [str(group), *([str(of_pod["fsGroup"])] if "fsGroup" in of_pod else [])]
    variables = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "HOME": "/"}
    variables |= {one["name"]: one["value"] for one in container.get("env", []) if "value" in one}
    words = ["chroot", str(sandbox.folder / container["name"] / "root"), "setpriv"]
    words += [f"--reuid={user}", f"--regid={group}", f"--groups={','.join(groups)}", "--no-new-privs"]
    capability = "-all" if container["image"] in sandbox.layers else CAPABILITY
    words += [f"--{kind}={capability}" for kind in ("inh-caps", "ambient-caps", "bounding-set")]
    words += ["env", "-i", *(f"{name}={value}" for name, value in variables.items())]
    # $(NAME) is replaced by Kubernetes.
    given = [*container.get("command", []), *container.get("args", [])]
    for name, value in variables.items():
        given = [word.replace(f"$({name})", value) for word in given]
    return "exec " + shlex.join([*words, *given])
