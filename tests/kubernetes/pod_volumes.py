"""The volumes of a pod, as a kubelet makes them: folders on this machine, config maps and secrets renewed
atomically.
"""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from kube_api import Api, Object

NOBODY_WRITES = 0o555


class Volumes:
    """The volumes of one pod, in ``folder``.

    images: the folder of each image that a volume may be of, by its reference. group: what emptyDirs and
    secrets belong to.
    """

    def __init__(self, api: Api, pod: Object, folder: Path, images: Mapping[str, Path]) -> None:
        self._api = api
        self._namespace = pod["metadata"]["namespace"]
        self._volumes = pod["spec"].get("volumes", [])
        self._folder = folder
        self._images = images
        self._group = pod["spec"].get("securityContext", {}).get("fsGroup", 0)
        self._written: dict[str, dict[str, bytes]] = {}

    def make(self) -> dict[str, Path]:
        """Makes all of them; returns their folders by name. Raises ``ApiError`` while one is not there."""
        # Tokens of service accounts, which are projected, are left out: nothing here asks Kubernetes.
        return {volume["name"]: self._make(volume) for volume in self._volumes if "projected" not in volume}

    def renew(self) -> None:
        """Brings what has changed in config maps and secrets into their volumes."""
        for volume in self._volumes:
            if "configMap" in volume or "secret" in volume:
                self._make(volume)

    def _make(self, volume: Object) -> Path:
        path = self._folder / str(volume["name"])
        if "emptyDir" in volume:
            path.mkdir(parents=True, exist_ok=True)
            # Like a kubelet's with fsGroup.
            os.chown(path, -1, self._group)
            path.chmod(0o2777)
        elif "persistentVolumeClaim" in volume:
            return self._claimed(volume["persistentVolumeClaim"]["claimName"])
        elif "image" in volume:
            return self._images[volume["image"]["reference"]]
        elif "configMap" in volume or "secret" in volume:
            self._write(path, volume)
        else:
            raise NotImplementedError(f"volume {volume}")
        return path

    def _claimed(self, name: str) -> Path:
        claim = self._api.get(f"/api/v1/namespaces/{self._namespace}/persistentvolumeclaims/{name}")
        bound = self._api.get(f"/api/v1/persistentvolumes/{claim['spec']['volumeName']}")
        return Path(bound["spec"]["hostPath"]["path"])

    def _write(self, path: Path, volume: Object) -> None:
        """Writes the files into a folder of their own, to which a link then points: readers see all or
        nothing.
        """
        files = self._files(volume)
        if self._written.get(volume["name"]) == files:
            return
        number = len(list(path.glob("..v*"))) if path.exists() else 0
        now = path / f"..v{number}"
        now.mkdir(parents=True)
        for name, content in files.items():
            (now / name).write_bytes(content)
            os.chown(now / name, -1, self._group)
            (now / name).chmod(volume.get("secret", {}).get("defaultMode", 0o644))
        new = path / "..data_tmp"
        new.symlink_to(now.name)
        new.rename(path / "..data")
        for name in files:
            if not (path / name).is_symlink():
                (path / name).symlink_to(f"..data/{name}")
        for old in path.glob("..v*"):
            if old != now:
                shutil.rmtree(old)
                old.mkdir()  # keeps its number
        self._written[volume["name"]] = files

    def _files(self, volume: Object) -> dict[str, bytes]:
        kind, name, of = (
            ("configmaps", volume["configMap"]["name"], volume["configMap"])
            if "configMap" in volume
            else ("secrets", volume["secret"]["secretName"], volume["secret"])
        )
        data = self._api.get(f"/api/v1/namespaces/{self._namespace}/{kind}/{name}").get("data", {})
        wanted = {item["key"]: item["path"] for item in of.get("items", [])} or {key: key for key in data}
        decode = base64.b64decode if kind == "secrets" else str.encode
        return {path: decode(data[key]) for key, path in wanted.items()}
