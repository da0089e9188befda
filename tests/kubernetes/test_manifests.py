"""The manifests by the tools of others: Helm, kustomize, kubeconform. Without a cluster."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from control_plane import bin_folder
from openapi_schemas import RELEASES
from releases import CHART
from render_kubernetes import stale

ROOT = CHART.parents[2]
EXAMPLES = sorted((ROOT / "deploy" / "kubernetes" / "examples").glob("*.yaml"))
KUSTOMIZATIONS = (
    "deploy/kubernetes/base",
    "deploy/kubernetes/examples/kustomize",
    "deploy/kserve/runtimes",
)

CLIENT_CERTIFICATES = (
    "tls.existingSecret=t",
    "tls.clientCA.existingSecret=ca",
    "serviceMonitor.enabled=true",
)


def tool(name: str, *arguments: str | Path, given: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [str(bin_folder() / name), *map(str, arguments)]
    return subprocess.run(command, input=given, capture_output=True, text=True, timeout=120, check=False)


def template(*arguments: str | Path, release: str = RELEASES[-1]) -> str:
    done = tool("helm", "template", "servable", CHART, "--kube-version", release, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def conforms(manifests: str, release: str) -> None:
    folder = f"{os.environ['SERVABLE_KUBERNETES_SCHEMAS']}/v{release}"
    schemas = folder + "/{{.ResourceKind}}{{.KindSuffix}}.json"
    arguments = ("-strict", "-summary", "-kubernetes-version", release, "-schema-location", schemas, "-")
    done = tool("kubeconform", *arguments, given=manifests)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Skipped: 0" in done.stdout and "Valid: 0," not in done.stdout, done.stdout


@pytest.mark.parametrize("values", [None, *EXAMPLES], ids=lambda path: path.stem if path else "defaults")
def test_helm_has_nothing_to_say(values: Path | None) -> None:
    done = tool("helm", "lint", "--strict", CHART, *(["-f", values] if values else []))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("values", [None, *EXAMPLES], ids=lambda path: path.stem if path else "defaults")
def test_the_chart_conforms(values: Path | None, release: str) -> None:
    conforms(template(*(["-f", values] if values else []), release=release), release)


def test_prometheus_has_a_certificate_where_clients_need_one() -> None:
    settings = (*CLIENT_CERTIFICATES, "serviceMonitor.clientCertificateSecret=scraper")
    made = template(*(word for one in settings for word in ("--set", one)))
    conforms(made, RELEASES[-1])
    (monitor,) = (one for one in yaml.safe_load_all(made) if one["kind"] == "ServiceMonitor")
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["tlsConfig"]["keySecret"] == {"name": "scraper", "key": "tls.key"}


ODD_TEXTS = (
    {"model": {"persistentVolumeClaim": {"claimName": "123", "subPath": "2024"}}},
    {"model": {"image": {"reference": "registry.example.com/flowers", "subPath": "1"}}},
    {"model": {"name": '"a"#b'}},
    {"flags": {"access_log_file": "a: b #c", "log_format": None, "memory_budget": 1e12}},
    {"config": "  model_config_list {\n}\n", "batching": " x: 1\ny\t2\n\n"},
    {"auth": {"existingSecret": "1"}, "priorityClassName": "on", "runtimeClassName": "2"},
    {"resources": None, "gpu": {"count": 1}},
    {"image": {"tag": "a" * 62 + "-1"}},
)


@pytest.mark.parametrize("values", ODD_TEXTS, ids=lambda values: "-".join(values))
def test_texts_stay_what_they_are(values: dict[str, Any], tmp_path: Path) -> None:
    """YAML takes many texts for numbers, booleans, comments or something with members."""
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    made = template("-f", file)
    conforms(made, RELEASES[-1])
    of_kind = {one["kind"]: one for one in yaml.safe_load_all(made)}
    (container,) = of_kind["Deployment"]["spec"]["template"]["spec"]["containers"]
    given = dict(word[2:].split("=", 1) for word in container["args"] if "=" in word)
    for name, value in values.get("flags", {}).items():
        expected = str(int(value)) if isinstance(value, float) else value
        assert given.get(name) == expected
    for name, key in (("config", "models.config"), ("batching", "batching.config")):
        if name in values:
            assert of_kind["ConfigMap"]["data"][key] == values[name]


def test_stores_of_a_config_may_be_reached() -> None:
    ports = []
    for config in ('base_path: "/models/m"', 'base_path: "s3://bucket/m"'):
        made = yaml.safe_load_all(template("--set", f"config={config}"))
        (policy,) = (one for one in made if one["kind"] == "NetworkPolicy")
        ports.append([port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]])
    assert ports == [[], [53, 53, 443]]


@pytest.mark.parametrize(
    ("uri", "ports"),
    [
        ("s3://bucket/m", [53, 53, 443]),
        ("http://minio:9000/m.tar.gz", [53, 53, 443, 9000]),
        ("http://files/m.tar.gz", [53, 53, 443, 80]),
    ],
)
@pytest.mark.parametrize("value", ["model.uri", "modelsDir"])
def test_the_port_of_a_store_may_be_reached(value: str, uri: str, ports: list[int]) -> None:
    made = yaml.safe_load_all(template("--set", f"{value}={uri}"))
    (policy,) = (one for one in made if one["kind"] == "NetworkPolicy")
    assert [port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]] == ports


def container_of(*settings: str) -> dict[str, Any]:
    """Returns the server's container, and in ``initContainers`` what runs before it."""
    made = yaml.safe_load_all(template(*(word for one in settings for word in ("--set", one))))
    (deployment,) = (one for one in made if one["kind"] == "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    return {**pod["containers"][0], "initContainers": pod.get("initContainers", [])}


def test_by_grpc_it_is_asked_only_whether_a_pod_is_ready() -> None:
    """Its health service says NOT_SERVING of a server that lives and has no model."""
    container = container_of("probes.protocol=grpc")
    assert "grpc" in container["readinessProbe"]
    for probe in ("startupProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["path"] == "/livez"


@pytest.mark.parametrize(
    ("setting", "path"),
    [("model.name=m", "/models/m"), ("modelsDir=/models", "/models"), ("config=x", "/models")],
)
def test_an_init_container_writes_where_the_server_looks(setting: str, path: str) -> None:
    container = container_of("model.initContainer.image=i", setting)
    (before,) = container["initContainers"]
    assert {"name": "MODEL_DIR", "value": path} in before["env"]
    for one in (container, before):
        assert path in [mount["mountPath"] for mount in one["volumeMounts"]]


def test_large_numbers_are_whole() -> None:
    assert (
        "--model_config_file_poll_wait_seconds=1000000"
        in container_of("config=x", "reloadSeconds=1000000")["args"]
    )


def test_a_name_with_a_dot_is_one_that_services_may_have() -> None:
    done = tool("helm", "template", "flowers.v2", CHART, "--kube-version", RELEASES[-1])
    assert done.returncode == 0, done.stderr
    names = {one["metadata"]["name"] for one in yaml.safe_load_all(done.stdout)}
    assert names == {"flowers-v2-servable", "flowers-v2-servable-headless"}


def test_a_chart_that_has_this_one_in_it_may_switch_it_off() -> None:
    template("--set", "enabled=true")


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("folder", KUSTOMIZATIONS)
def test_what_kustomize_makes_conforms(folder: str, release: str) -> None:
    done = tool("kustomize", "build", ROOT / folder)
    assert done.returncode == 0, done.stderr
    conforms(done.stdout, release)


@pytest.mark.parametrize("component", ["hpa", "keda", "servicemonitor"])
def test_every_component_goes_with_the_base(component: str, tmp_path: Path) -> None:
    folder = ROOT / "deploy" / "kubernetes"
    (tmp_path / "kustomization.yaml").write_text(
        f"resources: [{os.path.relpath(folder / 'base', tmp_path)}]\n"
        f"components: [{os.path.relpath(folder / 'components' / component, tmp_path)}]\n"
    )
    done = tool("kustomize", "build", tmp_path)
    assert done.returncode == 0, done.stderr
    conforms(done.stdout, RELEASES[-1])
    assert ("replicas:" in done.stdout) is (component == "servicemonitor")


def test_prefixes_and_labels_reach_what_kustomize_does_not_know(tmp_path: Path) -> None:
    folder = os.path.relpath(ROOT / "deploy" / "kubernetes", tmp_path)
    (tmp_path / "kustomization.yaml").write_text(
        f"namePrefix: a-\nresources: [{folder}/base]\n"
        f"components: [{folder}/components/keda, {folder}/components/servicemonitor]\n"
        "labels: [{includeSelectors: true, pairs: {app.kubernetes.io/instance: flowers}}]\n"
    )
    done = tool("kustomize", "build", tmp_path)
    assert done.returncode == 0, done.stderr
    made = {one["kind"]: one for one in yaml.safe_load_all(done.stdout)}
    assert made["ScaledObject"]["spec"]["scaleTargetRef"]["name"] == "a-servable"
    selected = made["ServiceMonitor"]["spec"]["selector"]["matchLabels"]
    assert selected["app.kubernetes.io/instance"] == "flowers"
    assert selected.items() <= made["Service"]["metadata"]["labels"].items()


def test_the_schemas_know_what_is_wrong() -> None:
    wrong = template().replace("maxSurge:", "maxSurges:")
    with pytest.raises(AssertionError, match="maxSurges"):
        conforms(wrong, RELEASES[-1])


def test_the_base_is_what_the_chart_makes() -> None:
    assert stale() == []


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["replica=3"], "replica"),
        (["model.name=a/b"], "model"),
        (["strategy.maxSurge=0"], "strategy"),
        (["autoscaling.kind=hpa", "autoscaling.minReplicas=0"], "minReplicas"),
        (["flags.Port=1"], "additional properties 'Port' not allowed"),
        (["flags.max_request_in_flight=5"], "additional properties 'max_request_in_flight' not allowed"),
        (["flags.proxy_protocol=require"], "give accept"),
        (
            ["autoscaling.kind=keda", "autoscaling.minReplicas=0"],
            "pods that are not there report no requests",
        ),
        (["model.persistentVolumeClaim.subPath=/flowers"], "subPath"),
        (["model.persistentVolumeClaim.subPath=a/../b"], "subPath"),
        (["gpu.resource=gpu"], "resource"),
        (["flags.rest_api_port=1"], "is set by the chart from its own values"),
        (["model.uri=s3://b/m", "model.image.reference=x"], "give one"),
        (["model.uri=s3://b/m", "config=x"], "model.uri is one model"),
        (["model.persistentVolumeClaim.claimName="], "no model"),
        (["tls.clientCA.existingSecret=ca"], "tls.clientCA needs tls.existingSecret"),
        (["tls.existingSecret=t", "probes.protocol=grpc"], "know no TLS"),
        (["flags.admin_token=x"], "SERVABLE_ADMIN_TOKEN"),
        ([*CLIENT_CERTIFICATES], "serviceMonitor.clientCertificateSecret"),
        (["serviceMonitor.enabled=true", "auth.existingSecret=t"], "serviceMonitor.tokenSecret.name"),
        (["modelsDir=/models", "config=x"], "modelsDir, config and model.uri"),
        (["flags.models_dir=/models"], "is set by the chart from its own values"),
        (["autoscaling.kind=hpa", "autoscaling.minReplicas=11"], "more than autoscaling.maxReplicas"),
        (["service.rest=80", "service.grpc=80"], "two ports"),
        (["strategy.maxSurge=0%"], "strategy"),
        (["model.name=a:b"], "model/name"),
        (["probes=null"], "missing property 'probes'"),
        (["podLabels.app\\.kubernetes\\.io/name=x"], "podLabels"),
        (["nodeSelector.gpu=true"], "got boolean, want string"),
        (["env[0].name=A", "env[0].value=1"], "env/0/value"),
        (["cache.sizeLimit=10GB"], "sizeLimit"),
    ],
)
def test_what_cannot_be_is_refused(settings: list[str], said: str) -> None:
    words = [word for one in settings for word in ("--set", one)]
    done = tool("helm", "template", "servable", CHART, "--kube-version", RELEASES[-1], *words)
    assert done.returncode != 0
    assert said in done.stderr
