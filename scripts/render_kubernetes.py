"""Makes the kustomize base and its components from the Helm chart: `make kubernetes`.

The chart is the one source, but for the names of flags in its schema, which are those of the server. What is
made says in its first line of which chart it was made, so that a test without Helm finds what is out of date;
`--check` compares all of it, with Helm.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from servable.config.flags import FLAGS

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "deploy" / "kubernetes"
CHART = FOLDER / "chart"
SCHEMA = CHART / "values.schema.json"
NAME = "servable"
HELMS_OWN = ("app.kubernetes.io/managed-by", "helm.sh/chart")
"""Labels that say who made an object: not Helm, in a base."""

COMPONENTS: Mapping[str, tuple[str, Sequence[str]]] = {
    "hpa": ("HorizontalPodAutoscaler", ["autoscaling.kind=hpa"]),
    "keda": ("ScaledObject", ["autoscaling.kind=keda"]),
    "servicemonitor": ("ServiceMonitor", ["serviceMonitor.enabled=true"]),
}
"""Each component: the kind of its object, and the values that make it."""

CONFIGURATIONS: Mapping[str, Mapping[str, Any]] = {
    "keda": {
        "nameReference": [
            {
                "kind": "Deployment",
                "fieldSpecs": [{"kind": "ScaledObject", "path": "spec/scaleTargetRef/name"}],
            }
        ]
    },
    "servicemonitor": {"commonLabels": [{"kind": "ServiceMonitor", "path": "spec/selector/matchLabels"}]},
}
"""Where kustomize, which does not know these kinds, finds names and selectors for its prefixes and labels."""

UNSCALED = [{"op": "remove", "path": "/spec/replicas"}]
"""What autoscaling changes in the Deployment: a number of replicas there would undo it at every `apply`."""


def helm() -> str | None:
    """Returns Helm: $HELM, the one that `make test-kubernetes` builds, or an installed one; None if there
    is none.
    """
    tools = os.environ.get("SERVABLE_KUBERNETES_BIN") or ROOT / "build" / "kubernetes" / "bin"
    built = Path(tools) / "helm"
    return os.environ.get("HELM") or (str(built) if built.exists() else shutil.which("helm"))


def chart_hash() -> str:
    """Returns a hash of whatever decides what is made: the chart, and this file."""
    whole = hashlib.sha256(Path(__file__).read_bytes())
    for path in sorted(path for path in CHART.rglob("*") if path.is_file()):
        whole.update(f"{path.relative_to(CHART)}\0{path.stat().st_size}\0".encode())
        whole.update(path.read_bytes())
    return whole.hexdigest()


def schema() -> str:
    """Returns the schema of the chart's values, with the server's flags as the names in ``flags``."""
    known = json.loads(SCHEMA.read_text())
    flags = known["properties"]["flags"]
    (value,) = flags["patternProperties"].values()
    flags["patternProperties"] = {f"^({'|'.join(sorted(FLAGS))})$": value}
    return json.dumps(known, indent=2) + "\n"


def made() -> dict[Path, str]:
    """Returns the content of every file that is made, by its path."""
    files: dict[Path, str] = {}
    base = list(objects([]))
    for one in base:
        files[FOLDER / "base" / file_name(one)] = text(one)
    files[FOLDER / "base" / "kustomization.yaml"] = text(
        kustomization("Kustomization", resources=sorted(file_name(one) for one in base))
    )
    for component, (kind, values) in COMPONENTS.items():
        (one,) = [one for one in objects(values) if one["kind"] == kind]
        folder = FOLDER / "components" / component
        files[folder / file_name(one)] = text(one)
        more: dict[str, Any] = {}
        if component != "servicemonitor":
            target = {"kind": "Deployment", "name": NAME}
            more["patches"] = [{"target": target, "patch": yaml.safe_dump(UNSCALED, sort_keys=False)}]
        if component in CONFIGURATIONS:
            files[folder / "configuration.yaml"] = text(CONFIGURATIONS[component])
            more["configurations"] = ["configuration.yaml"]
        files[folder / "kustomization.yaml"] = text(
            kustomization("Component", resources=[file_name(one)], **more)
        )
    return files


def objects(values: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yields the objects of the chart, without what is Helm's own."""
    program = helm()
    if program is None:
        raise SystemExit("helm is not there: bash tests/kubernetes/tools.sh builds it, or set $HELM")
    settings = [word for value in values for word in ("--set", value)]
    # Helm as Go builds it takes the cluster to be an old one.
    oldest = ["--namespace", "default", "--kube-version", "1.27.0"]
    command = [program, "template", NAME, str(CHART), *oldest, *settings]
    rendered = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    for one in yaml.safe_load_all(rendered):
        if one:
            labels = one["metadata"]["labels"]
            one["metadata"]["labels"] = {key: labels[key] for key in labels if key not in HELMS_OWN}
            yield one


def kustomization(kind: str, **content: Any) -> dict[str, Any]:
    """Returns a file of kustomize."""
    version = "v1alpha1" if kind == "Component" else "v1beta1"
    return {"apiVersion": f"kustomize.config.k8s.io/{version}", "kind": kind, **content}


def file_name(one: Mapping[str, Any]) -> str:
    """Returns the name of the file of an object."""
    name = one["metadata"]["name"].removeprefix(NAME).lstrip("-")
    return f"{one['kind'].lower()}{'-' + name if name else ''}.yaml"


def text(one: Mapping[str, Any]) -> str:
    """Returns a file."""
    head = f"# Made of the chart by `make kubernetes`: {chart_hash()}\n"
    return head + yaml.safe_dump(dict(one), sort_keys=False, width=1000)


def stale() -> list[str]:
    """Returns what differs from what would be made; needs Helm."""
    wanted = made()
    there = {path for folder in ("base", "components") for path in (FOLDER / folder).rglob("*.yaml")}
    different = {path for path, content in wanted.items() if not path.exists() or path.read_text() != content}
    return sorted(str(path.relative_to(ROOT)) for path in different | (there - set(wanted)))


def main() -> int:
    """Makes the files, or compares them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare, and change nothing")
    if parser.parse_args().check:
        different = stale()
        print("\n".join(f"not as the chart has it: {path}; run `make kubernetes`" for path in different))
        return 1 if different else 0
    SCHEMA.write_text(schema())
    for folder in ("base", "components"):
        shutil.rmtree(FOLDER / folder, ignore_errors=True)
    for path, content in made().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
