"""``deploy/compose``, brought up with Docker, and what is lost when a server is killed under load.

``make test-compose`` makes or pulls the images and runs this. Without it, what is tested is whether the
files agree with each other.
"""

from __future__ import annotations

import json
import os
import runpy
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from front_kinds import Running
from front_load import CLIENTS, RestClient, load
from servers import until
from test_metrics_list import expressions, selectors

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")

COMPOSE = os.environ.get("SERVABLE_COMPOSE", "").split()
FILE = ROOT / "deploy" / "compose" / "compose.yaml"
MODEL = "half_plus_two"
SERVERS = ("servable-1", "servable-2")
PORTS = ("REST_PORT", "GRPC_PORT", "PROMETHEUS_PORT", "GRAFANA_PORT", "STORE_PORT")
OWN = "override.yaml" in " ".join(COMPOSE)
"""Whether the images are those of images.py, among which there is no Grafana."""
CHOSEN = {"$job": "servable", "$instance": ".*", "$model": ".*", "$__rate_interval": "1m"}
ABSENT = (
    "servable_requests_denied_total",
    "servable_batch",
    *("servable_split", "servable_shadow"),
    *("servable_versions", "servable_model_memory", "servable_memory_budget", "servable_load_wait"),
    "servable_model_rests",
)
"""What only servers tell with tokens, batching, traffic that is spread, or models on demand."""

up = pytest.mark.skipif(not COMPOSE, reason="make test-compose runs this: it needs a Docker daemon")


@dataclass(frozen=True)
class Project:
    """The project, up: its published ports."""

    place: Running
    prometheus: str
    grafana: str

    def compose(self, *words: str, **variables: str) -> str:
        """Returns the output of a command."""
        return compose(*words, **variables)


def compose(*words: str, **variables: str) -> str:
    environment = {**os.environ, **dict.fromkeys(PORTS, "0"), **variables}
    done = subprocess.run([*COMPOSE, *words], capture_output=True, text=True, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def published(service: str, port: int) -> int:
    return int(compose("port", service, str(port)).rpartition(":")[2])


@pytest.fixture(scope="module")
def project() -> Iterator[Project]:
    """Everything, up, with the model served."""
    services = [name for name in declared() if not (OWN and name == "grafana")]
    try:
        compose("up", "-d", *services)
        place = Running(published("front", 8501), published("front", 8500), ())
        ready = until(lambda: not ask(place), 180)
        assert ready, compose("logs", "--no-color")
        prometheus = f"http://127.0.0.1:{published('prometheus', 9090)}/api/v1"
        grafana = "" if OWN else f"http://127.0.0.1:{published('grafana', 3000)}"
        yield Project(place, prometheus, grafana)
    finally:
        subprocess.run([*COMPOSE, "down", "--volumes"], cwd=ROOT, capture_output=True, check=False)


def declared() -> dict[str, Any]:
    return dict(yaml.safe_load(FILE.read_text(encoding="utf-8"))["services"])


def ask(place: Running) -> str:
    """Returns what goes wrong with a request over REST."""
    client = RestClient(place)
    try:
        return client.ask(MODEL)
    finally:
        client.close()


def ask_prometheus(project: Project, path: str) -> Any:
    with urllib.request.urlopen(f"{project.prometheus}/{path}", timeout=30) as reply:
        return json.load(reply)["data"]


def value(project: Project, expression: str) -> list[Any]:
    found = ask_prometheus(project, f"query?{urllib.parse.urlencode({'query': expression})}")
    return list(found["result"])


@up
@pytest.mark.timeout(600)
def test_the_model_came_from_the_store(project: Project) -> None:
    said = project.compose("logs", "--no-color", "upload")
    assert f"s3://models/{MODEL}: 1 versions new" in said
    for server in SERVERS:
        assert f"from s3://models/{MODEL}" in project.compose("logs", "--no-color", server)


@up
@pytest.mark.timeout(600)
def test_prometheus_has_data_for_every_expression(project: Project) -> None:
    """Of dashboard and alert rules, from both servers, which get requests of both protocols through Envoy."""
    wanted = [one for one in expressions() if not any(name in one for name in ABSENT)]
    alerts = {one for one in wanted if "$" not in one}
    missing = {with_choices(one) for one in wanted if one not in alerts}
    missing |= {f"count({name})" for one in alerts for name, _ in selectors(one)}
    asked = len(missing)
    with load(project.place, [MODEL]) as clients:

        def complete() -> bool:
            assert status_of_nonsense(project.place) == 400
            missing.difference_update([one for one in missing if value(project, one)])
            return not missing

        complete_in_time = until(complete, 180)
    assert complete_in_time and not clients.failures, (missing, clients.told())
    targets = ask_prometheus(project, "targets")["activeTargets"]
    assert {(one["labels"]["instance"], one["health"]) for one in targets} == {
        (f"{server}:8501", "up") for server in SERVERS
    }
    for protocol in ("rest", "grpc"):
        by_server = value(
            project, f'sum by (instance) (servable_requests_total{{protocol="{protocol}",outcome="OK"}})'
        )
        assert len(by_server) == 2 and all(float(one["value"][1]) > 0 for one in by_server), by_server
    print(f"{asked} expressions have data; {clients.told()}")


def status_of_nonsense(place: Running) -> int:
    """Returns the status of a request that the model cannot answer."""
    client = RestClient(place)
    try:
        return client.request("POST", f"/v1/models/{MODEL}:predict", b'{"instances": "no"}')[0]
    finally:
        client.close()


def with_choices(expression: str) -> str:
    for variable, text in CHOSEN.items():
        expression = expression.replace(variable, text)
    return expression


@up
@pytest.mark.timeout(600)
def test_a_server_is_killed_under_load_and_started_again(project: Project) -> None:
    killed = SERVERS[0]
    with load(project.place, [MODEL]) as clients:
        clients.mark = time.monotonic()
        project.compose("kill", killed)
        clients.wait_for(2000)
        lost = len(clients.failures)
        assert lost <= 2 * 2 * CLIENTS, clients.told()
        project.compose("start", killed)
        healthy = until(lambda: answered_by(project, killed), 120)
        clients.wait_for(2000)
        assert healthy and len(clients.failures) == lost, clients.told()
    print(clients.told())


@up
@pytest.mark.timeout(600)
def test_a_server_is_restarted_under_load(project: Project) -> None:
    restarted = SERVERS[1]
    with load(project.place, [MODEL]) as clients:
        project.compose("restart", "-t", "45", restarted)
        assert until(lambda: answered_by(project, restarted), 120), clients.told()
        clients.wait_for(1000)
    assert not clients.failures, clients.told()
    print(clients.told())


@up
@pytest.mark.timeout(600)
def test_a_server_starts_while_the_store_is_away(project: Project) -> None:
    """From its cache, while the other one goes on."""
    with load(project.place, [MODEL]) as clients:
        project.compose("stop", "store")
        project.compose("restart", "-t", "45", SERVERS[0])
        assert until(lambda: answered_by(project, SERVERS[0]), 120), clients.told()
        project.compose("start", "store")
    assert not clients.failures, clients.told()


@up
@pytest.mark.timeout(600)
def test_a_new_version_comes_by_the_store(project: Project, tmp_path: Path) -> None:
    for version in ("1", "2"):
        shutil.copytree(ROOT / "tests" / "models" / MODEL / "1", tmp_path / version)
    tmp_path.chmod(0o755)
    with load(project.place, [MODEL]) as clients:
        said = project.compose("run", "--rm", "--no-deps", "upload", MODEL=str(tmp_path))
        assert "1 versions new, 1 there already" in said
        assert until(lambda: versions_through(project) == {"2"}, 120), clients.told()
    assert not clients.failures, clients.told()


def versions_through(project: Project) -> set[str]:
    """Returns the versions that ten questions find available, whichever server answers."""
    found: set[str] = set()
    client = RestClient(project.place)
    try:
        for _ in range(10):
            statuses = json.loads(client.request("GET", f"/v1/models/{MODEL}")[1])["model_version_status"]
            found |= {one["version"] for one in statuses if one["state"] == "AVAILABLE"}
    finally:
        client.close()
    return found


def answered_by(project: Project, server: str) -> bool:
    """Returns whether the server, started anew, has answered requests of both protocols."""
    program = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8501/metrics').read().decode())"
    try:
        page = project.compose("exec", "-T", server, "/opt/servable/bin/python", "-Ic", program)
    except AssertionError:
        return False
    lines = [line for line in page.splitlines() if line.startswith("servable_requests_total{")]
    found = {protocol for protocol in ("rest", "grpc") for line in lines if f'protocol="{protocol}"' in line}
    return len(found) == 2


@up
@pytest.mark.skipif(OWN, reason="there is no image of Grafana among those of images.py")
@pytest.mark.timeout(600)
def test_grafana_has_the_dashboard(project: Project) -> None:
    address = f"{project.grafana}/api/dashboards/uid/servable"
    password = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    password.add_password(None, project.grafana, "admin", "servable")
    opener = urllib.request.build_opener(urllib.request.HTTPBasicAuthHandler(password))

    def there() -> bool:
        try:
            with opener.open(address, timeout=10) as reply:
                return bool(json.load(reply)["dashboard"]["panels"])
        except (OSError, urllib.error.HTTPError):
            return False

    assert until(there, 120)


def test_what_is_mounted_is_there() -> None:
    for name, service in declared().items():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (FILE.parent / source).exists(), (name, source)


def test_every_image_of_others_has_a_version() -> None:
    for name, service in declared().items():
        image = service["image"]
        assert "build" in service or image.rpartition(":")[2][0] in "v0123456789", (name, image)


def test_grafanas_files_agree_with_the_project() -> None:
    """Grafana itself may not be at hand: what it is told has to be where it looks."""
    services = declared()
    folder = ROOT / "deploy" / "grafana" / "provisioning"
    (source,) = yaml.safe_load((folder / "datasources" / "prometheus.yaml").read_text())["datasources"]
    (provider,) = yaml.safe_load((folder / "dashboards" / "servable.yaml").read_text())["providers"]
    assert urllib.parse.urlsplit(source["url"]).hostname in services and source["type"] == "prometheus"
    mounts = dict(reversed(one.removesuffix(":ro").split(":")) for one in services["grafana"]["volumes"])
    assert mounts["/etc/grafana/provisioning"] == "../grafana/provisioning"
    assert mounts[f"{provider['options']['path']}/servable.json"] == "../grafana/servable.json"
    variables = json.loads((ROOT / "deploy" / "grafana" / "servable.json").read_text())["templating"]["list"]
    assert [one["query"] for one in variables if one["type"] == "datasource"] == [source["type"]]


def test_the_front_and_prometheus_know_the_servers() -> None:
    services = declared()
    front = (ROOT / "deploy" / "fronts" / "envoy.yaml").read_text()
    scraped = yaml.safe_load((FILE.parent / "prometheus.yml").read_text())["scrape_configs"][0][
        "static_configs"
    ]
    assert set(SERVERS) <= services.keys()
    assert scraped == [{"targets": [f"{server}:8501" for server in SERVERS]}]
    assert all(
        f"address: {server}, port_value: {port}" in front for server in SERVERS for port in (8500, 8501)
    )
    drain = next(one for one in services["servable-1"]["command"] if one.startswith("--drain_delay_seconds="))
    assert (
        float(drain.partition("=")[2])
        < float(services["servable-1"]["stop_grace_period"].removesuffix("s")) - 30
    )


def test_the_upload_says_what_it_did(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed")
    url = f"memory://bucket-{os.getpid()}/m"
    upload = runpy.run_path(str(FILE.parent / "upload.py"), run_name="upload")["upload"]
    with pytest.raises(SystemExit, match="has no version"):
        upload(tmp_path, url)
    (tmp_path / "1" / "variables").mkdir(parents=True)
    (tmp_path / "1" / "variables" / "index").write_text("x")
    assert upload(tmp_path, url) == f"{url}: 1 versions new, 0 there already"
    assert upload(tmp_path, url) == f"{url}: 0 versions new, 1 there already"
    store, place = fsspec.core.url_to_fs(url)
    assert store.cat_file(f"{place}/1/variables/index") == b"x"
