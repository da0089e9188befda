"""A real Prometheus scrapes a server under load: every expression of dashboard and alert rules has data.

Needs ``prometheus`` and ``promtool`` (Debian: ``apt-get install prometheus``); ``make test-prometheus`` runs
it.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from clients import Stub
from conftest import ROOT, Served
from model_configs import config_file, entry
from servers import MODELS, WITH_GRPC, put_version, serving, until
from test_metrics_list import ALERTS, expressions, selectors
from wire import ask, predict

pytestmark = [
    pytest.mark.needs_tensorflow,
    pytest.mark.skipif(
        not (shutil.which("prometheus") and shutil.which("promtool")),
        reason="there is no prometheus and promtool: `apt-get install prometheus`",
    ),
]

EXAMPLE = ROOT / "deploy" / "prometheus" / "prometheus.yml"
CHOSEN = {"$job": "servable", "$instance": ".*", "$model": ".*", "$__rate_interval": "30s"}
"""What Grafana would put in place of the dashboard's variables."""


WITH_TOKENS = "servable_requests_denied_total"
"""The metric that a server without tokens does not have."""


@contextmanager
def prometheus(folder: Path, served: Served, *features: str) -> Iterator[Callable[[str], Any]]:
    """Runs Prometheus by the example, but each second; yields a function that asks its API.

    features: more flags of Prometheus.
    """
    shutil.copy(ALERTS, folder / ALERTS.name)
    config = folder / EXAMPLE.name
    text, targets = re.subn(r'"localhost:\d+"', f'"127.0.0.1:{served.rest_port}"', EXAMPLE.read_text())
    assert targets == 1
    config.write_text(text.replace("15s", "1s"))
    subprocess.run(["promtool", "check", "config", config], check=True, capture_output=True, text=True)
    log = folder / "prometheus.log"
    flags = (f"--storage.tsdb.path={folder / 'data'}", "--web.listen-address=127.0.0.1:0", *features)
    with log.open("w") as stderr:
        process = subprocess.Popen(["prometheus", f"--config.file={config}", *flags], stderr=stderr)
    try:
        assert until(lambda: "Server is ready" in log.read_text() or process.poll() is not None, 60)
        found = re.search(r"Listening on.*address=(127\.0\.0\.1:\d+)", log.read_text())
        assert found, log.read_text()
        yield asks(found[1])
    finally:
        process.terminate()
        process.wait(60)


def asks(address: str) -> Callable[[str], Any]:
    def ask_api(path: str) -> Any:
        with urllib.request.urlopen(f"http://{address}/api/v1/{path}", timeout=30) as reply:
            return json.load(reply)["data"]

    return ask_api


@contextmanager
def load(served: Served) -> Iterator[None]:
    """Sends requests that end well and others all the while."""
    ended = threading.Event()

    def send() -> None:
        with Stub(served) as stub:
            while not ended.wait(0.02):
                predict(served, "m", {"instances": [1.0, 2.0]})
                predict(served, "m", {"instances": "no"})
                predict(served, "n", {"instances": [1.0]})
                stub.predict("m")

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(60)


def everything(base: Path, folder: Path) -> list[str]:
    """Returns the flags of a server of ``m``, whose traffic is spread, and ``n``, loaded on demand."""
    put_version("half_plus_two", base, 2)
    traffic = {"share": [{"to": "2", "percent": 50}], "shadow": {"to": "2", "percent": 100}}
    config = config_file(
        folder,
        entry("m", base, modelVersionPolicy={"all": {}}, traffic=traffic),
        entry("n", MODELS / "half_plus_two"),
    )
    on_demand = ("--lazy_load", "--memory_budget=1GiB")
    return [f"--model_config_file={config}", WITH_GRPC, "--enable_batching", *on_demand]


@pytest.mark.timeout(300)
def test_every_expression_has_data(base: Path, tmp_path: Path) -> None:
    wanted = [_chosen(expression) for expression in expressions() if WITH_TOKENS not in expression]
    # What an alert compares is there, whether it fires or not.
    alerts = _alerts()
    inputs = {f"count({name})" for expression in alerts for name, _ in selectors(expression)}
    missing = {expression for expression in wanted if expression not in alerts} | inputs
    assert len(missing) > 30
    with (
        serving(*everything(base, tmp_path)) as served,
        load(served),
        prometheus(tmp_path, served) as ask_api,
    ):

        def complete() -> bool:
            missing.difference_update([one for one in missing if _has_data(ask_api, one)])
            return not missing

        assert until(complete, 120), missing
        assert len(_rules(ask_api)) == len(alerts)
        assert until(lambda: all(rule["health"] == "ok" for rule in _rules(ask_api)), 60), _rules(ask_api)


@pytest.mark.timeout(300)
def test_native_histograms_are_read_by_prometheus(base: Path, tmp_path: Path) -> None:
    quantile = "histogram_quantile(0.5, sum(rate(servable_request_duration_seconds[30s])))"
    with (
        serving(f"m={base}", WITH_GRPC) as served,
        load(served),
        prometheus(tmp_path, served, "--enable-feature=native-histograms") as ask_api,
    ):

        def known() -> bool:
            asked = ask_api(f"query?{urllib.parse.urlencode({'query': quantile})}")["result"]
            return bool(asked) and 0 < float(asked[0]["value"][1]) < 10

        assert until(known, 120)
        assert not _has_data(ask_api, "servable_request_duration_seconds_bucket"), (
            "native ones take their place"
        )


def _chosen(expression: str) -> str:
    for variable, text in CHOSEN.items():
        expression = expression.replace(variable, text)
    return expression


def _alerts() -> list[str]:
    """Returns the expressions of the alert rules, which have no variables."""
    return [expression for expression in expressions() if "$" not in expression]


def _rules(ask_api: Callable[[str], Any]) -> list[dict[str, Any]]:
    return [rule for group in ask_api("rules")["groups"] for rule in group["rules"]]


def _has_data(ask_api: Callable[[str], Any], expression: str) -> bool:
    return bool(ask_api(f"query?{urllib.parse.urlencode({'query': expression})}")["result"])


def test_promtool_finds_nothing_wrong_with_the_rules() -> None:
    checked = subprocess.run(
        ["promtool", "check", "rules", ALERTS], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_a_pod_that_was_not_asked_yet_has_a_number_for_the_autoscaler(tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    values = yaml.safe_load((ROOT / "deploy/kubernetes/prometheus-adapter.yaml").read_text())
    (rule,) = values["rules"]["custom"]
    # What prometheus-adapter puts in place of these.
    query = rule["metricsQuery"].replace("<<.GroupBy>>", "pod")
    query = query.replace("<<.LabelMatchers>>", 'namespace="models",pod=~"a|b"')
    series = {
        'servable_requests_in_flight{namespace="models",pod="a",model="m"}': "3x8",
        'servable_requests_in_flight{namespace="models",pod="a",model="n"}': "1x8",
        'servable_memory_in_flight_bytes{namespace="models",pod="a"}': "100x8",
        'servable_memory_in_flight_bytes{namespace="models",pod="b"}': "200x8",
    }
    sample = [{"labels": '{pod="a"}', "value": 4}, {"labels": '{pod="b"}', "value": 0}]
    test = {
        "interval": "15s",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [{"expr": query, "eval_time": "2m", "exp_samples": sample}],
    }
    file = tmp_path / "test.yaml"
    file.write_text(json.dumps({"tests": [test]}))
    done = subprocess.run(["promtool", "test", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_finds_nothing_wrong_with_the_servers_own_metrics(base: Path) -> None:
    """TensorFlow Serving's have colons in their names, which is for rules, and microseconds."""
    with serving(f"m={base}") as served:
        assert predict(served, "m", {"instances": [1.0]}).status == 200
        lines = ask(served, "GET", "/metrics").text.splitlines()
    own = [line for line in lines if not re.match(r"(# (HELP|TYPE) )?:", line)]
    assert len(own) > 100
    checked = subprocess.run(
        ["promtool", "check", "metrics"],
        input="\n".join(own) + "\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (checked.returncode, checked.stderr) == (0, ""), checked.stderr
