"""Makes JSON schemas for kubeconform: of Kubernetes' last three releases, and of the definitions in crds/.

Kubernetes publishes its API as OpenAPI, which lies in its Go module. What kubeconform's own schemas are
made of it, elsewhere, is made here: a file for each kind, in which unknown members are errors.
"""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

RELEASES = ("1.35.4", "1.36.3", "1.37.2")
"""The last three, by the newest of their modules that were served when this was written."""

KINDS = (
    ("", "v1", "ConfigMap"),
    ("", "v1", "Namespace"),
    ("", "v1", "Secret"),
    ("", "v1", "Service"),
    ("", "v1", "ServiceAccount"),
    ("apps", "v1", "Deployment"),
    ("autoscaling", "v2", "HorizontalPodAutoscaler"),
    ("networking.k8s.io", "v1", "NetworkPolicy"),
    ("policy", "v1", "PodDisruptionBudget"),
)
CRDS = Path(__file__).with_name("crds")
REFERENCE = "#/definitions/"
KIND = "x-kubernetes-group-version-kind"


def openapi(release: str) -> Mapping[str, Any]:
    """Returns the definitions of a release, from its Go module, which is fetched and verified by Go."""
    command = ["go", "mod", "download", "-json", f"k8s.io/kubernetes@v{release}"]
    # Outside of a module, none is asked for it.
    said = subprocess.run(command, check=True, capture_output=True, text=True, cwd="/").stdout
    file = Path(json.loads(said)["Dir"]) / "api" / "openapi-spec" / "swagger.json"
    definitions = json.loads(file.read_text())["definitions"]
    assert isinstance(definitions, dict)
    return definitions


def strict(schema: Any) -> Any:
    """Returns a schema of OpenAPI as JSON schema, without unknown members, and with what Kubernetes reads
    otherwise.
    """
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("format") == "int-or-string" or schema.get("x-kubernetes-int-or-string"):
        return {"type": ["string", "integer", "null"]}
    made = {key: strict(value) for key, value in schema.items() if key not in ("format", "description")}
    if "properties" in schema:
        made["properties"] = {name: strict(one) for name, one in schema["properties"].items()}
        if "additionalProperties" not in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
            made["additionalProperties"] = False
    if isinstance(made.get("type"), str):
        made["type"] = [made["type"], "null"]
    return made


def needed(name: str, definitions: Mapping[str, Any]) -> set[str]:
    """Returns the definitions that one refers to, directly or not, with itself."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting += references(definitions[one])
    return found


def references(schema: Any) -> Iterator[str]:
    """Yields the names that a schema refers to."""
    if isinstance(schema, dict):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"].removeprefix(REFERENCE)
        for one in schema.values():
            yield from references(one)
    elif isinstance(schema, list):
        for one in schema:
            yield from references(one)


def file_of(group: str, version: str, kind: str) -> str:
    """Returns the name of a schema, as in kubeconform's template ``{{.ResourceKind}}{{.KindSuffix}}``."""
    return f"{kind}-{group.partition('.')[0] + '-' if group else ''}{version}.json".lower()


def of_release(release: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields the schemas of a release by the names of their files."""
    definitions = dict(openapi(release))
    quantity = "io.k8s.apimachinery.pkg.api.resource.Quantity"
    definitions[quantity] = {"type": ["string", "number"]}
    names = {
        (one["group"], one["version"], one["kind"]): name
        for name, definition in definitions.items()
        for one in definition.get(KIND, [])
    }
    for group, version, kind in KINDS:
        name = names[(group, version, kind)]
        parts = {one: strict(definitions[one]) for one in needed(name, definitions)}
        yield file_of(group, version, kind), {"$ref": REFERENCE + name, "definitions": parts}


def of_definitions() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields the schemas of what others define."""
    for path in sorted(CRDS.glob("*.yaml.gz")):
        spec = yaml.safe_load(gzip.decompress(path.read_bytes()))["spec"]
        for version in spec["versions"]:
            schema = strict(version["schema"]["openAPIV3Schema"])
            schema["properties"]["metadata"] = {"type": "object"}
            yield file_of(spec["group"], version["name"], spec["names"]["kind"]), schema


def main(folder: Path) -> None:
    """Makes what is missing below ``folder``."""
    of_others = dict(of_definitions())
    for release in RELEASES:
        there = folder / f"v{release}"
        if not there.exists():
            half = there.with_suffix(".part")
            half.mkdir(parents=True, exist_ok=True)
            for name, schema in [*of_release(release), *of_others.items()]:
                (half / name).write_text(json.dumps(schema))
            half.rename(there)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
