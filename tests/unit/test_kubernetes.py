"""The manifests of deploy/kubernetes and deploy/kserve, without the tools of others: flags, ports and paths
that exist.

`make test-kubernetes` has Helm, kustomize, kubeconform and a real API server check them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from conftest import ROOT
from render_kubernetes import CHART, FOLDER, chart_hash, schema as schema_with_flags

from servable.config.flags import FLAGS

yaml = pytest.importorskip("yaml")

KSERVE = ROOT / "deploy" / "kserve"
RUNTIMES = sorted(path for path in (KSERVE / "runtimes").glob("*.yaml") if path.stem != "kustomization")
EXAMPLES = sorted((FOLDER / "examples").glob("*.yaml"))
MADE = [*(FOLDER / "base").rglob("*.yaml"), *(FOLDER / "components").rglob("*.yaml")]
OUTSIDE_OF_TEMPLATES = [
    path for path in [*FOLDER.rglob("*.yaml"), *KSERVE.rglob("*.yaml")] if "templates" not in path.parts
]
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
TEMPLATES = "\n".join(path.read_text() for path in sorted((CHART / "templates").iterdir()))


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def deployment() -> Any:
    return load(FOLDER / "base" / "deployment.yaml")


def flags_in(arguments: list[str]) -> set[str]:
    return {word[2:].partition("=")[0] for word in arguments if word.startswith("--")}


def merged(below: Any, above: Any) -> Any:
    """Returns values as Helm puts them together."""
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    both = {key: merged(below.get(key), value) for key, value in above.items()}
    return {**below, **both}


def paths_of(values: Any, before: str = "") -> Iterator[str]:
    """Yields the paths of what values.yaml sets: ``model.uri``."""
    for key, value in values.items():
        yield f"{before}{key}"
        if isinstance(value, dict):
            yield from paths_of(value, f"{before}{key}.")


@pytest.mark.parametrize("path", MADE, ids=lambda path: str(path.relative_to(FOLDER)))
def test_what_is_made_of_the_chart_is_of_this_chart(path: Path) -> None:
    assert path.read_text().partition("\n")[0].endswith(chart_hash()), "run `make kubernetes`"


@pytest.mark.parametrize("path", OUTSIDE_OF_TEMPLATES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_is_yaml(path: Path) -> None:
    assert load(path)


@pytest.mark.parametrize("values", [None, *EXAMPLES], ids=lambda path: path.stem if path else "defaults")
def test_values_are_as_their_schema_says(values: Path | None) -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    given = load(values) if values else {}
    jsonschema.Draft7Validator(schema).validate(merged(VALUES, given))
    for flag in given.get("flags", {}):
        assert flag in FLAGS


def test_the_schema_knows_the_flags() -> None:
    assert (CHART / "values.schema.json").read_text() == schema_with_flags(), "run `make kubernetes`"


def test_what_null_has_taken_away_may_be_null() -> None:
    """``helm upgrade --reuse-values`` has the schema see a null of before, other upgrades do not."""
    schema = jsonschema.Draft7Validator(json.loads((CHART / "values.schema.json").read_text()))
    spread = {"replicas": None, "topologySpread": None}
    for taken in ({"resources": {"limits": None}}, {"resources": None, **spread}):
        schema.validate(merged(VALUES, taken))
    schema.validate(merged(VALUES, {"flags": {"log_format": None}}))
    for read in ("probes", "drainSeconds"):
        assert not schema.is_valid({**VALUES, read: None})


def test_the_schema_knows_every_value_and_no_other() -> None:
    def known(schema: Any, before: str = "") -> Iterator[str]:
        for key, value in schema.get("properties", {}).items():
            yield f"{before}{key}"
            yield from known(value, f"{before}{key}.")

    schema = json.loads((CHART / "values.schema.json").read_text())
    free = ("flags.", "resources.", "podSecurityContext.", "securityContext.", "global", "topologySpread.")
    ours = {path for path in paths_of(VALUES) if not path.startswith(free)}
    assert {path for path in known(schema) if not path.startswith(free)} == ours | {"enabled"}


def test_templates_use_what_there_is() -> None:
    used = set(re.findall(r"\.Values\.([A-Za-z]+(?:\.[A-Za-z]+)*)", TEMPLATES))
    there = set(paths_of(VALUES))
    assert used <= there
    unused = {path.partition(".")[0] for path in there} - {path.partition(".")[0] for path in used}
    assert unused == set()


def test_flags_of_the_chart_exist() -> None:
    written = set(re.findall(r"^- (?:\{\{ printf \")?--([a-z_]+)", TEMPLATES, re.MULTILINE))
    assert {"model_base_path", "drain_delay_seconds", "auth_file", "tls_cert_file"} <= written
    assert written <= set(FLAGS)
    # What the chart sets cannot be set beside it.
    (taken,) = re.findall(r"\$taken := list (.*?) \}\}", TEMPLATES)
    assert written <= set(re.findall(r'"(\w+)"', taken)) <= set(FLAGS)


def test_the_base_asks_ports_that_the_server_opens() -> None:
    container = deployment()["spec"]["template"]["spec"]["containers"][0]
    assert container["command"] == ["/usr/bin/servable"] and container["args"][0] == "serve"
    opened = {"rest": "rest_api_port", "grpc": "port"}
    for port in container["ports"]:
        assert f"--{opened[port['name']]}={port['containerPort']}" in container["args"]
    for probe, path in (
        ("startupProbe", "/livez"),
        ("livenessProbe", "/livez"),
        ("readinessProbe", "/readyz"),
    ):
        assert container[probe]["httpGet"] == {"path": path, "port": "rest", "scheme": "HTTP"}
    for name in ("service", "service-headless"):
        ports = load(FOLDER / "base" / f"{name}.yaml")["spec"]["ports"]
        assert {port["targetPort"] for port in ports} == set(opened)


def test_the_base_ends_pods_after_the_server() -> None:
    pod = deployment()["spec"]["template"]["spec"]
    given = dict(word[2:].split("=", 1) for word in pod["containers"][0]["args"] if "=" in word)
    whole = int(given["drain_delay_seconds"]) + int(given["shutdown_grace_seconds"])
    assert pod["terminationGracePeriodSeconds"] > whole
    # As long as nodes take to learn that a pod goes.
    assert int(given["drain_delay_seconds"]) >= 5
    assert deployment()["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}


def test_the_base_gives_no_rights_away() -> None:
    pod = deployment()["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    for container in pod["containers"]:
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"] is True and security["capabilities"] == {"drop": ["ALL"]}
        mounts = {one["mountPath"]: one.get("readOnly", False) for one in container["volumeMounts"]}
        assert mounts == {"/cache": False, "/models/model": True}
        assert "--model_cache_dir=/cache" in container["args"]
        assert "--model_base_path=/models/model" in container["args"]


def test_the_metric_that_scales_exists() -> None:
    metrics = set(
        re.findall(r"^\| `(servable_\w+)`", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE)
    )
    files = [*(FOLDER / "components").rglob("*.yaml"), FOLDER / "prometheus-adapter.yaml"]
    named = {name for file in files for name in re.findall(r"servable_[a-z_]+", file.read_text())}
    # The second is that of every server, also of one that was not asked yet.
    assert named == {"servable_requests_in_flight", "servable_memory_in_flight_bytes"} and named <= metrics


@pytest.mark.parametrize("path", RUNTIMES, ids=lambda path: path.stem)
def test_a_runtime_starts_a_server_where_kserve_asks(path: Path) -> None:
    runtime = load(path)
    (container,) = runtime["spec"]["containers"]
    assert container["name"] == "kserve-container" and container["command"] == ["/usr/bin/servable"]
    assert container["args"][:2] == ["serve", "/mnt/models"]
    assert flags_in(container["args"]) <= set(FLAGS)
    assert "--rest_api_port=8080" in container["args"] and "--model_name={{.Name}}" in container["args"]
    assert runtime["spec"]["annotations"]["prometheus.kserve.io/port"] == "8080"
    assert runtime["metadata"]["name"] == f"servable-{path.stem}"


def test_examples_of_kserve_ask_for_formats_that_runtimes_have() -> None:
    formats = {one["name"] for path in RUNTIMES for one in load(path)["spec"]["supportedModelFormats"]}
    protocols = set(load(RUNTIMES[0])["spec"]["protocolVersions"])
    for path in (KSERVE / "examples").glob("*.yaml"):
        model = load(path)["spec"]["predictor"]["model"]
        assert model["modelFormat"]["name"] in formats, path
        assert model.get("protocolVersion", "v1") in protocols, path
