"""Istio's manifests, by the schemas of its own resources: ``istio.io/api``, a module of Go.

What its webhook checks beyond the schemas, rules in CEL, is not checked here; nor is Istio run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from front_kinds import FOLDER

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")

API = "SERVABLE_ISTIO_API"
"""The variable with the folder of istio.io/api."""


def manifests() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / "istio.yaml").read_text(encoding="utf-8")))


def envoy() -> Any:
    return yaml.safe_load((FOLDER / "envoy.yaml").read_text(encoding="utf-8"))


def strict(schema: Any) -> Any:
    """Returns the schema without room for fields that it does not name, which Kubernetes would drop."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    changed = {key: strict(value) for key, value in schema.items()}
    free = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object" and not free:
        changed["additionalProperties"] = False
    return changed


def schemas(folder: Path) -> Iterator[tuple[str, str, Any]]:
    """Yields group and version, kind, and schema of each resource."""
    text = (folder / "kubernetes" / "customresourcedefinitions.gen.yaml").read_text(encoding="utf-8")
    for definition in filter(None, yaml.safe_load_all(text)):
        spec = definition["spec"]
        for version in spec["versions"]:
            api = f"{spec['group']}/{version['name']}"
            yield api, spec["names"]["kind"], version["schema"]["openAPIV3Schema"]


@pytest.mark.skipif(API not in os.environ, reason="make test-fronts brings istio.io/api and runs this")
@pytest.mark.parametrize("manifest", manifests(), ids=lambda one: one["kind"])
def test_the_schemas_accept_it(manifest: dict[str, Any]) -> None:
    found = {(api, kind): schema for api, kind, schema in schemas(Path(os.environ[API]))}
    schema = strict(found[manifest["apiVersion"], manifest["kind"]]["properties"]["spec"])
    jsonschema.validate(manifest["spec"], schema)
    broken = manifest["spec"] | {"no such field": 1}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, schema)


def test_the_filter_hashes_as_envoy_does_in_the_test_with_traffic() -> None:
    (patch,) = [one["spec"]["configPatches"][0] for one in manifests() if one["kind"] == "EnvoyFilter"]
    listener = envoy()["static_resources"]["listeners"][0]
    routes = listener["filter_chains"][0]["filters"][0]["typed_config"]["route_config"]["virtual_hosts"][0]
    by_header, by_path = routes["routes"][0]["route"]["hash_policy"]
    assert by_header["header"]["header_name"] == "x-model"
    assert patch["patch"]["value"]["route"]["hash_policy"] == [by_path]


def test_what_is_tried_again_is_the_same_as_with_envoy() -> None:
    (service,) = [one["spec"] for one in manifests() if one["kind"] == "VirtualService"]
    listeners = envoy()["static_resources"]["listeners"]
    routes = [route for route in service["http"] if "route" in route]
    for route, listener in zip(routes, listeners, strict=True):
        config = listener["filter_chains"][0]["filters"][0]["typed_config"]["route_config"]
        policy = config["virtual_hosts"][0]["retry_policy"]
        by_envoy = set(policy["retry_on"].split(","))
        if "retriable-status-codes" in by_envoy:
            by_envoy = by_envoy - {"retriable-status-codes"} | set(map(str, policy["retriable_status_codes"]))
        assert set(route["retries"]["retryOn"].split(",")) == by_envoy
