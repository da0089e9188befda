"""Traces and metrics for an OpenTelemetry collector: what it receives, and that nothing waits for it."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from certificates import Authority
from clients import Stub
from conftest import Served
from servers import DROP_IN, FRIENDLY, MODELS, WITH_GRPC, put_version, serving, until
from stubs import METHODS, failure, floats_request
from wire import Wire, ask, message, predict

pytest.importorskip("opentelemetry.proto", reason="`make dev` installs opentelemetry-proto")

import collector as collectors
from collector import Collector, Span, by_grpc, by_http

openmetrics = pytest.importorskip("prometheus_client.openmetrics.parser")

pytestmark = pytest.mark.needs_tensorflow

HALF = MODELS / "half_plus_two"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"
GOOD = {"instances": [2.0, 5.0]}
SOON = {"OTEL_BSP_SCHEDULE_DELAY": "10"}
SERVER, INTERNAL = 2, 1
PROTOCOLS: dict[str, Callable[..., AbstractContextManager[Collector]]] = {
    "grpc": by_grpc,
    "http/protobuf": by_http,
}
ROUTE = "POST /v1/models/{model}:predict"
CALL = "tensorflow.serving.PredictionService/Predict"


def variables(collector: Collector, protocol: str = "http/protobuf", **more: str) -> dict[str, str]:
    """Returns the environment of a server that sends its traces to ``collector``."""
    to = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.address, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}
    return {**to, **SOON, **more}


def spans_named(collector: Collector, name: str, count: int = 1) -> list[Span]:
    """Returns the spans of a name once there are ``count``."""
    assert until(lambda: len(collector.named(name)) >= count), [span.name for span in collector.spans]
    found = collector.named(name)
    assert len(found) == count
    return found


def grpc_predict(served: Served, request: Any, *metadata: tuple[str, str]) -> None:
    service, _, _ = METHODS["Predict"]
    with Stub(served) as stub:
        method = stub.channel.unary_unary(
            f"/tensorflow.serving.{service}/Predict", type(request).SerializeToString, bytes
        )
        method(request, metadata=metadata, timeout=60)


def check_phases(spans: list[Span], names: list[str]) -> Span:
    """Checks that the first span is the server's, with a child of each name within its time; returns it."""
    (server,) = [span for span in spans if span.kind == SERVER]
    children = [span for span in spans if span.parent == server.span]
    assert [span.name for span in children if span.name != "queue"] == names
    for span in spans:
        assert server.start <= span.start <= span.end <= server.end, span
        assert span.trace == server.trace
    assert len({span.span for span in spans}) == len(spans)
    return server


@pytest.fixture(params=PROTOCOLS, scope="module")
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def collector(protocol: str) -> Iterator[Collector]:
    with PROTOCOLS[protocol]() as running:
        yield running


@pytest.fixture(scope="module")
def server(collector: Collector, protocol: str) -> Iterator[Served]:
    more = {
        "OTEL_EXPORTER_OTLP_HEADERS": "x-key=a%20b,x-more=1",
        "OTEL_SERVICE_NAME": "mine",
        "OTEL_RESOURCE_ATTRIBUTES": "zone=here%2C%20there,service.name=not-this",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
    }
    environment = variables(collector, protocol, **more)
    with serving(HALF, WITH_GRPC, "--engine=tensorflow", environment=environment) as served:
        assert re.search(rf"traces go to {re.escape(collector.address)}.* by (gRPC|HTTP)", served.log)
        yield served


@pytest.fixture
def received(collector: Collector) -> Collector:
    """The collector, empty."""
    collector.spans.clear()
    return collector


def test_a_rest_request_is_a_trace(server: Served, received: Collector) -> None:
    body = json.dumps(GOOD)
    reply = predict(
        server, "half_plus_two", body, traceparent=SAMPLED, tracestate="a=1,b=2", X_Request_Id="id"
    )
    assert reply.status == 200
    spans_named(received, ROUTE)
    span = check_phases(received.trace(TRACE), ["decode", "run", "encode"])
    assert (span.parent, span.state, span.flags, span.failed) == (PARENT, "a=1,b=2", 0x301, False)
    told = dict(span.attributes)
    assert told.pop("client.address") == "127.0.0.1" and told.pop("client.port") > 0
    assert told == {
        "http.request.method": "POST",
        "http.route": "/v1/models/{model}:predict",
        "url.path": "/v1/models/half_plus_two:predict",
        "url.scheme": "http",
        "http.response.status_code": 200,
        "http.request.body.size": len(body),
        "http.response.body.size": len(reply.body),
        "servable.model.name": "half_plus_two",
        "servable.model.version": 1,
        "servable.model.signature": "serving_default",
        "servable.model.engine": "tensorflow",
        "servable.request.rows": 2,
        "servable.request.id": "id",
    }


def test_a_grpc_call_is_one(server: Served, received: Collector) -> None:
    request = floats_request("half_plus_two", 2.0)
    grpc_predict(server, request, ("traceparent", SAMPLED), ("tracestate", "a=1"))
    spans_named(received, CALL)
    span = check_phases(received.trace(TRACE), ["decode", "run", "encode"])
    assert (span.parent, span.state, span.failed) == (PARENT, "a=1", False)
    known = {
        "rpc.system": "grpc",
        "rpc.service": "tensorflow.serving.PredictionService",
        "rpc.method": "Predict",
        "rpc.grpc.status_code": 0,
        "servable.model.name": "half_plus_two",
        "servable.request.rows": 1,
    }
    assert span.attributes | known == span.attributes


def test_a_request_without_a_trace_begins_one(server: Served, received: Collector) -> None:
    for parent in ({}, {"traceparent": "00-0-0-01"}):
        assert predict(server, "half_plus_two", GOOD, **parent).status == 200
    first, second = spans_named(received, ROUTE, 2)
    assert first.parent == second.parent == "" and first.trace != second.trace
    assert re.fullmatch(r"[0-9a-f]{32}", first.trace) and first.flags == 0x101


def test_what_the_client_does_not_sample_is_not(server: Served, received: Collector) -> None:
    assert predict(server, "half_plus_two", GOOD, traceparent=UNSAMPLED).status == 200
    assert predict(server, "half_plus_two", GOOD, traceparent=SAMPLED).status == 200
    assert [span.parent for span in spans_named(received, ROUTE)] == [PARENT]


def test_errors_are_told(server: Served, received: Collector) -> None:
    assert predict(server, "nobody", GOOD).status == 404
    (span,) = spans_named(received, ROUTE)
    assert (span.attributes["http.response.status_code"], span.attributes["error.type"]) == (404, "NOT_FOUND")
    assert not span.failed, "it is the client's"
    with Stub(server) as stub:
        assert failure(lambda: stub.predict("nobody"))[0] == "NOT_FOUND"
    (span,) = spans_named(received, CALL)
    assert (span.attributes["rpc.grpc.status_code"], span.failed) == (5, False)
    assert ask(server, "GET", "/v1/nothing").status == 400
    (span,) = spans_named(received, "GET")
    assert span.attributes["url.path"] == "/v1/nothing" and "http.route" not in span.attributes


def test_who_sends_is_told(server: Served, received: Collector) -> None:
    predict(server, "half_plus_two", GOOD)
    spans_named(received, ROUTE)
    known = {"service.name": "mine", "zone": "here, there", "telemetry.sdk.language": "rust"}
    assert received.resources[-1] | known == received.resources[-1]
    headers = received.headers[-1]
    assert (headers["x-key"], headers["x-more"]) == ("a b", "1")


@pytest.fixture(scope="module")
def batched(
    collector: Collector, protocol: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """A server whose batches begin with four rows, however long these take to come."""
    folder = tmp_path_factory.mktemp("batched")
    put_version("half_plus_two", folder / "m", 1)
    file = folder / "batching.config"
    file.write_text("max_batch_size { value: 4 } batch_timeout_micros { value: 3600000000 }")
    given = ("--enable_batching", f"--batching_parameters_file={file}")
    with serving(
        f"m={folder / 'm'}", WITH_GRPC, *given, environment=variables(collector, protocol)
    ) as served:
        yield served


def test_the_trace_of_a_batched_request_is_complete(batched: Served, received: Collector) -> None:
    traces = ["1" * 32, "2" * 32]
    parents = [f"00-{trace}-{PARENT}-01" for trace in traces]
    with ThreadPoolExecutor(2) as pool:
        asks = [pool.submit(predict, batched, "m", GOOD, traceparent=parent) for parent in parents]
        assert [one.result().status for one in asks] == [200, 200]
    servers = spans_named(received, ROUTE, 2)
    assert until(lambda: len(received.named("batch")) == 3)
    (own,) = [span for span in received.named("batch") if not span.parent]
    assert own.kind == INTERNAL and own.trace not in traces
    assert sorted(own.links) == sorted((span.trace, span.span) for span in servers)
    told = {"servable.batch.requests": 2, "servable.batch.rows": 4, "servable.batch.size": 4}
    assert own.attributes == told
    assert [span.name for span in received.trace(own.trace)] == ["batch", "run"]
    for trace in traces:
        spans = received.trace(trace)
        check_phases(spans, ["decode", "batch", "encode"])
        assert "queue" in [span.name for span in spans]
        (batch,) = [span for span in spans if span.name == "batch"]
        (run,) = [span for span in spans if span.name == "run"]
        assert batch.links == [(own.trace, own.span)] and run.parent == batch.span
        assert batch.start <= run.start <= run.end <= batch.end


def test_who_leaves_is_told(batched: Served, received: Collector) -> None:
    with Wire(batched) as wire:
        wire.send(message("POST", "/v1/models/m:predict", json.dumps(GOOD), traceparent=SAMPLED))
        # It waits for its batch by now, or will see that nobody waits.
        assert until(lambda: "m" in ask(batched, "GET", "/v1/models/m").text)
    (span,) = spans_named(received, ROUTE)
    assert (span.trace, span.failed, span.attributes["error.type"]) == (TRACE, True, "CANCELLED")
    assert "http.response.status_code" not in span.attributes


def test_automatic_batches_are_told(collector: Collector, received: Collector, protocol: str) -> None:
    """Which requests run together is up to chance: what there is must be whole."""
    environment = variables(collector, protocol)
    with (
        serving(HALF, "--batching=auto", "--run_in=pool", environment=environment) as served,
        ThreadPoolExecutor(16) as pool,
    ):
        asks = [pool.submit(predict, served, "half_plus_two", GOOD) for _ in range(200)]
        assert {one.result().status for one in asks} == {200}
        assert until(lambda: len(received.named(ROUTE)) == 200)
        assert until(
            lambda: all(any(span.span == of for span in received.spans) for _, of in linked(received))
        )
    for span in received.named(ROUTE):
        names = {one.name for one in received.trace(span.trace)}
        assert {"decode", "run", "encode"} <= names


def linked(received: Collector) -> list[tuple[str, str]]:
    return [link for span in received.named("batch") if span.parent for link in span.links]


# ---- a collector that does not do what it should


@pytest.fixture
def http_collector() -> Iterator[Collector]:
    with by_http() as running:
        yield running


def lost(served: Served) -> dict[str, float]:
    """Returns the spans by what became of them."""
    found = re.findall(
        r'^servable_trace_spans_total\{outcome="(\w+)"\} (\d+)$', ask(served, "GET", "/metrics").text, re.M
    )
    return {outcome: float(count) for outcome, count in found}


def test_errors_of_the_collector_are_tried_again_or_told(
    protocol: str, collector: Collector, received: Collector
) -> None:
    passing: Any = 503 if protocol != "grpc" else grpc.StatusCode.UNAVAILABLE
    lasting: Any = 400 if protocol != "grpc" else grpc.StatusCode.INVALID_ARGUMENT
    with serving(HALF, environment=variables(collector, protocol)) as served:
        collector.fails[:] = [passing, passing]
        assert predict(served, "half_plus_two", GOOD).status == 200
        spans_named(received, ROUTE)
        assert until(lambda: lost(served)["sent"] >= 4)
        collector.fails[:] = [lasting]
        assert predict(served, "half_plus_two", GOOD).status == 200
        assert until(lambda: lost(served)["failed"] > 0)
        served.wait_for_line(r"spans for .* are lost: it answered")
        collector.rejects = 2
        assert predict(served, "half_plus_two", GOOD).status == 200
        assert until(lambda: lost(served)["rejected"] > 0)
        collector.rejects = 0


def test_a_collector_that_is_away_holds_nobody_up() -> None:
    # Bound, but nobody listens.
    with socket.socket() as away:
        away.bind(("127.0.0.1", 0))
        check_nobody_waits(f"http://127.0.0.1:{away.getsockname()[1]}")


def check_nobody_waits(address: str) -> None:
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": address,
        "OTEL_EXPORTER_OTLP_TIMEOUT": "300",
        "OTEL_BSP_MAX_QUEUE_SIZE": "16",
    }
    with serving(HALF, environment={**environment, **SOON}) as served:
        for _ in range(50):
            assert predict(served, "half_plus_two", GOOD).status == 200
        assert until(lambda: lost(served)["failed"] > 0)

        def are_too_many() -> bool:
            for _ in range(50):
                assert predict(served, "half_plus_two", GOOD).status == 200
            return lost(served)["queue_full"] > 0

        assert until(are_too_many)
        lines = rf"spans for {re.escape(address)}/v1/traces by HTTP are lost: "
        # Whichever comes first, it does not hide the other.
        for why in ("there is no connection", "too many wait to be sent"):
            assert until(lambda why=why: re.search(lines + why, served.log)), why


def test_a_collector_that_hangs_holds_nobody_up(http_collector: Collector) -> None:
    http_collector.silent.set()
    environment = variables(http_collector, OTEL_BSP_MAX_QUEUE_SIZE="16", OTEL_BSP_MAX_EXPORT_BATCH_SIZE="8")
    with serving(HALF, environment=environment) as served:
        for _ in range(50):
            assert predict(served, "half_plus_two", GOOD).status == 200
        assert until(lambda: lost(served)["queue_full"] > 0)
    # It has ended in time, with all that waited.
    assert http_collector.spans == []


def test_the_end_of_a_server_sends_what_waits(http_collector: Collector) -> None:
    with serving(HALF, environment=variables(http_collector, OTEL_BSP_SCHEDULE_DELAY="3600000")) as served:
        for _ in range(10):
            assert predict(served, "half_plus_two", GOOD).status == 200
    assert len(http_collector.named(ROUTE)) == 10


def test_what_one_message_loses_the_next_does_not(http_collector: Collector) -> None:
    with serving(HALF, environment=variables(http_collector)) as served:
        predict(served, "half_plus_two", GOOD)
        spans_named(http_collector, ROUTE)
        http_collector.fails[:] = [500]
        predict(served, "half_plus_two", GOOD)
        assert until(lambda: lost(served)["failed"] > 0)
        predict(served, "half_plus_two", GOOD)
        spans_named(http_collector, ROUTE, 2)


@pytest.mark.parametrize("which", PROTOCOLS)
def test_a_collector_behind_tls(which: str, tmp_path: Path) -> None:
    authority = Authority()
    files = [str(path) for path in authority.issue().write(tmp_path, "collector")]
    roots = tmp_path / "roots.pem"
    roots.write_bytes(authority.pem)
    with PROTOCOLS[which]((files[0], files[1])) as running:
        environment = variables(running, which, OTEL_EXPORTER_OTLP_CERTIFICATE=str(roots))
        with serving(HALF, environment=environment) as served:
            assert predict(served, "half_plus_two", GOOD).status == 200
            spans_named(running, ROUTE)
        # Without the authority, nothing is sent to a stranger.
        with serving(HALF, environment=variables(running, which, SSL_CERT_FILE=str(files[0]))) as served:
            assert predict(served, "half_plus_two", GOOD).status == 200
            served.wait_for_line("spans for https://.* are lost")


# ---- when nothing is sent


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://nobody.invalid"},
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://nobody.invalid"},
    ],
)
def test_nothing_is_sent_unless_asked_for(environment: dict[str, str]) -> None:
    with serving(HALF, environment=environment) as served:
        assert predict(served, "half_plus_two", GOOD).status == 200
        assert not threads(served) & {"servable-traces", "servable-metrics"}
        assert "traces go to" not in served.log


def threads(served: Served) -> set[str]:
    """Returns the names of the server's threads."""
    names = set()
    for task in Path(f"/proc/{served.process.pid}/task").iterdir():
        # One may have ended meanwhile.
        with suppress(FileNotFoundError, ProcessLookupError):
            names.add((task / "comm").read_text().strip())
    return names


def test_values_that_make_no_sense_are_told_of(http_collector: Collector) -> None:
    wrong = {"OTEL_BSP_MAX_QUEUE_SIZE": "many", "OTEL_TRACES_SAMPLER": "sometimes"}
    with serving(HALF, environment=variables(http_collector, **wrong)) as served:
        assert 'OTEL_TRACES_SAMPLER is "sometimes"' in served.log
        assert 'OTEL_BSP_MAX_QUEUE_SIZE is "many"' in served.log
        assert predict(served, "half_plus_two", GOOD).status == 200
        spans_named(http_collector, ROUTE)


# ---- metrics, exemplars, the access log


@pytest.mark.parametrize("command", [FRIENDLY, DROP_IN])
def test_metrics_are_those_of_the_page(command: tuple[str, ...], protocol: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = f"--rest_api_port={free.getsockname()[1]}"
    grpc_socket = f"--grpc_socket_path={tmp_path / 'grpc.sock'}"
    given = [port, grpc_socket, "--port=0", f"--model_base_path={HALF}", "--model_name=half_plus_two"]
    arguments: list[Any] = [HALF] if command is FRIENDLY else [*given, "--metrics_path=/metrics"]
    with PROTOCOLS[protocol]() as running:
        environment = {
            "OTEL_METRICS_EXPORTER": "otlp",
            "OTEL_METRIC_EXPORT_INTERVAL": "100",
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": running.address
            + ("/v1/metrics" if protocol != "grpc" else ""),
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_SERVICE_NAME": "mine",
        }
        with serving(*arguments, command=command, environment=environment) as served:
            for _ in range(3):
                assert predict(served, "half_plus_two", GOOD).status == 200
            assert predict(served, "nobody", GOOD).status == 404
            assert until(lambda: sum(sent(running).get("servable_requests_total", {}).values()) == 4)
            page = on_page(served)
        received = sent(running)
        assert running.resources[-1]["service.name"] == "mine"
        assert not running.spans, "traces were not asked for"
    assert set(received) == set(page)
    # Asking for the page changes the others: it takes a connection.
    changing = ("process_", "servable_memory", "servable_connections")
    own = [name for name in page if not name.startswith(changing)]
    assert {name: received[name] for name in own} == {name: page[name] for name in own}


Values = dict[frozenset[tuple[str, str]], Any]


def sent(collector: Collector) -> dict[str, Values]:
    """Returns metric → labels → value; of a histogram: its sum and its counts by limit."""

    def value(point: Any) -> Any:
        if hasattr(point, "bucket_counts"):
            limits = [*point.explicit_bounds, float("inf")]
            assert sum(point.bucket_counts) == point.count and len(limits) == len(point.bucket_counts)
            return round(point.sum, 9), dict(zip(limits, point.bucket_counts, strict=True))
        assert point.start_time_unix_nano <= point.time_unix_nano
        return getattr(point, point.WhichOneof("value"))

    def of(metric: Any) -> Values:
        kind = getattr(metric, metric.WhichOneof("data"))
        if metric.WhichOneof("data") != "gauge":
            assert kind.aggregation_temporality == 2, "cumulative"
        pairs = [(collectors.attributes(point.attributes), value(point)) for point in kind.data_points]
        return {frozenset(labels.items()): number for labels, number in pairs}

    return {metric.name: of(metric) for metric in collector.metrics}


def on_page(served: Served) -> dict[str, Values]:
    """Returns the same of the page, without TensorFlow Serving's metrics and what has no sample."""
    text = ask(served, "GET", "/metrics", accept="application/openmetrics-text").text
    found: dict[str, Values] = {}
    for family in openmetrics.text_string_to_metric_families(text):
        if family.name.startswith(":"):
            continue
        for sample in family.samples:
            labels = {name: text for name, text in sample.labels.items() if text and name != "le"}
            key = frozenset(labels.items())
            if family.type != "histogram":
                found.setdefault(sample.name, {})[key] = sample.value
                continue
            total, counts = found.setdefault(family.name, {}).get(key, (0.0, {}))
            if sample.name.endswith("_bucket"):
                counts = {**counts, float(sample.labels["le"]): sample.value - sum(counts.values())}
            elif sample.name.endswith("_sum"):
                total = round(sample.value, 9)
            found[family.name][key] = total, counts
    return found


def test_exemplars_are_those_of_sampled_traces(http_collector: Collector) -> None:
    with serving(HALF, environment=variables(http_collector)) as served:
        assert predict(served, "half_plus_two", GOOD, traceparent=SAMPLED).status == 200
        (span,) = spans_named(http_collector, ROUTE)
        (exemplar,) = exemplars(served)
        assert (exemplar.labels["trace_id"], exemplar.labels["span_id"]) == (TRACE, span.span)
        assert 0 < exemplar.value <= (span.end - span.start) / 1e9
        assert abs(float(exemplar.timestamp) - span.end / 1e9) < 60
        assert " # {" not in ask(served, "GET", "/metrics").text, "OpenMetrics alone has them"
    with serving(HALF) as served:
        for parent in ({}, {"traceparent": UNSAMPLED}):
            assert predict(served, "half_plus_two", GOOD, **parent).status == 200
        assert exemplars(served) == []
        assert predict(served, "half_plus_two", GOOD, traceparent=SAMPLED).status == 200
        (exemplar,) = exemplars(served)
        assert exemplar.labels == {"trace_id": TRACE, "span_id": PARENT}, "the client's own"


def exemplars(served: Served) -> list[Any]:
    text = ask(served, "GET", "/metrics", accept="application/openmetrics-text").text
    families = openmetrics.text_string_to_metric_families(text)
    samples = [sample for family in families for sample in family.samples if sample.exemplar]
    assert {sample.name for sample in samples} <= {"servable_request_duration_seconds_bucket"}
    for sample in samples:
        assert sample.exemplar.value <= float(sample.labels["le"])
    return [sample.exemplar for sample in samples]


def test_the_access_log_names_the_trace(http_collector: Collector, tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    log = ("--access_log=all", "--log_format=json", f"--access_log_file={file}")
    with serving(HALF, *log, environment=variables(http_collector), ready="ready: ") as served:
        assert predict(served, "half_plus_two", GOOD).status == 200
        (span,) = spans_named(http_collector, ROUTE)
        assert until(lambda: file.read_text())
        line = json.loads(file.read_text().splitlines()[0])
        assert (line["trace_id"], line["request_id"]) == (span.trace, span.attributes["servable.request.id"])
