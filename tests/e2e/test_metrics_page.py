"""The page of all metrics: where it is, what it says, and that the official parsers read every line."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from clients import Stub
from conftest import Served
from metric_messages import families, native_counts
from prometheus import PAGE, monitoring
from servers import ADMIN, DROP_IN, MODELS, WITH_GRPC, admin_url, put_version, serving, until
from stubs import own_message
from wire import Reply, Wire, ask, predict

from servable import _core

parser = pytest.importorskip("prometheus_client.parser", reason="`make dev` installs prometheus-client")
openmetrics = pytest.importorskip("prometheus_client.openmetrics.parser")

pytestmark = pytest.mark.needs_tensorflow

METRICS = "/metrics"
TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPEN = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PROTOBUF = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
PREDICTED = {"model": "m", "version": "1", "signature": "serving_default", "method": "predict"}

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def page(served: Served, accept: str = "") -> Reply:
    with Wire(served) as wire:
        header = f"Accept: {accept}\r\n" if accept else ""
        wire.send(f"GET {METRICS} HTTP/1.1\r\nHost: x\r\n{header}\r\n")
        return wire.final_reply()


def samples(served: Served) -> Samples:
    """Returns every sample of the page, read by the official parser."""
    families = parser.text_string_to_metric_families(page(served).text)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def value(found: Samples, name: str, **labels: str) -> float | None:
    return found.get((name, frozenset(labels.items())))


@pytest.fixture
def served(base: Path) -> Iterator[Served]:
    with serving(f"m={base}", WITH_GRPC, ADMIN) as running:
        yield running


def load(served: Served) -> None:
    """Sends requests that end in different ways over both protocols."""
    assert predict(served, "m", {"instances": [1.0, 2.0]}).status == 200
    assert predict(served, "m", {"instances": "no"}).status == 400
    assert predict(served, 'un"known\\\n', {"instances": [1.0]}).status in (400, 404)
    assert predict(served, "unknown", {"instances": [1.0]}).status == 404
    assert ask(served, "GET", "/v1/models/m").status == 200
    with Stub(served) as stub:
        assert stub.predict("m") == 3.0
        request = own_message("PredictRequest")()
        request.model_spec.name, request.model_spec.signature_name = "m", "missing"
        with pytest.raises(grpc.RpcError):
            stub.call("Predict", request)


def test_the_official_parsers_read_every_line(served: Served) -> None:
    load(served)
    text, opened = page(served), page(served, "application/openmetrics-text")
    assert (text.headers["content-type"], opened.headers["content-type"]) == (TEXT, OPEN)
    plain = {family.name: family for family in parser.text_string_to_metric_families(text.text)}
    rich = {family.name: family for family in openmetrics.text_string_to_metric_families(opened.text)}
    assert opened.text.endswith("\n# EOF\n") and "# EOF" not in text.text
    listed = {name: kind for name, kind, _, _ in _core.metrics()}
    # Both parsers name counters without their ending.
    assert len(plain) == len(rich) == len(listed)
    for name, kind in listed.items():
        short = name.removesuffix("_total") if kind == "counter" else name
        assert plain[short].type == {"info": "gauge"}.get(kind, kind)
        open_kind = "unknown" if kind == "counter" and name.startswith(":") else kind
        short = name.removesuffix("_total") if open_kind == "counter" else name.removesuffix("_info")
        assert rich[short].type == open_kind
    of_text, of_open = (
        [line.rsplit(" ", 1)[0] for line in of.text.splitlines() if not line.startswith("#")]
        for of in (text, opened)
    )
    assert of_text == of_open


def test_labels_are_those_of_the_list_and_names_that_clients_make_up_are_none(served: Served) -> None:
    load(served)
    labels = {name: set(labels) for name, _, labels, _ in _core.metrics()}
    for family in parser.text_string_to_metric_families(page(served).text):
        for sample in family.samples:
            name = sample.name if sample.name in labels else family.name
            assert sample.labels.keys() - {"le"} == labels[name], sample
            assert "unknown" not in sample.labels.values(), sample


def test_requests_are_counted_by_model_version_signature_method_protocol_and_outcome(served: Served) -> None:
    load(served)
    found = samples(served)

    def requests(outcome: str, protocol: str, **labels: str) -> float | None:
        every = {**PREDICTED, **labels}
        return value(found, "servable_requests_total", outcome=outcome, protocol=protocol, **every)

    nobody = {"version": "", "signature": ""}
    assert requests("OK", "rest") == requests("OK", "grpc") == 1
    assert requests("INVALID_ARGUMENT", "rest", signature="") == 1
    assert requests("FAILED_PRECONDITION", "grpc", signature="") == 1
    assert requests("NOT_FOUND", "rest", model="", **nobody) in (1, 2)
    assert requests("OK", "rest", method="other", **nobody) == 1
    for phase in ("decode", "run", "encode"):
        assert value(found, f"servable_request_{phase}_seconds_count", **PREDICTED) == 2
    assert value(found, "servable_request_duration_seconds_count", protocol="rest", **PREDICTED) == 1
    body = json.dumps({"instances": [1.0, 2.0]})
    assert value(found, "servable_request_bytes_total", protocol="rest", **PREDICTED) == len(body)
    sent = value(found, "servable_response_bytes_total", protocol="rest", **PREDICTED)
    assert sent == len(predict(served, "m", {"instances": [1.0, 2.0]}).body)
    assert value(found, "servable_requests_in_flight", **PREDICTED) == 0
    assert value(found, "servable_requests_refused_total", model="m", reason="overload") == 0


def test_models_and_the_process_are_told(served: Served, base: Path) -> None:
    found = samples(served)
    of_version = {"model": "m", "version": "1"}
    assert value(found, "servable_model_version_state", state="AVAILABLE", **of_version) == 1
    assert value(found, "servable_model_loads_total", model="m", outcome="OK") == 1
    assert value(found, "servable_model_load_seconds_count", model="m") == 1
    files = sum(file.stat().st_size for file in (base / "1").rglob("*") if file.is_file())
    assert value(found, "servable_model_file_bytes", **of_version) == files
    engine = {"signature": "serving_default", "engine": "tensorflow"}
    assert value(found, "servable_signature_engine_info", **of_version, **engine) == 1
    assert value(found, "servable_build_info", version=_core.version()) == 1
    for name in ("cpu_seconds_total", "resident_memory_bytes", "open_fds", "max_fds", "start_time_seconds"):
        assert (value(found, f"process_{name}") or 0) > 0, name
    resident = Path(f"/proc/{served.process.pid}/statm").read_text().split()[1]
    told = value(found, "process_resident_memory_bytes") or 0
    assert 0.5 < told / (int(resident) * 4096) < 2


def test_a_version_that_fails_is_told_and_one_that_is_gone_is_not(served: Served, base: Path) -> None:
    put_version("unknown_op", base, 2)
    states = {"model": "m", "version": "2", "state": "FAILED"}
    with serving(f"m={base}", "--max_num_load_retries=0", "--file_system_poll_wait_seconds=1") as other:
        put_version("half_plus_two", base, 3)

        def loaded() -> bool:
            return (
                value(
                    samples(other),
                    "servable_model_version_state",
                    **{**states, "version": "3", "state": "AVAILABLE"},
                )
                == 1
            )

        assert until(loaded)
        gone = {"model": "m", "version": "1"}
        assert until(lambda: not any(("version", "1") in labels for _, labels in samples(other))), gone


def test_a_load_that_failed_is_told(base: Path) -> None:
    put_version("unknown_op", base, 2)
    with serving(f"m={base}", "--max_num_load_retries=0", ready="models") as served:
        failed = {"model": "m", "version": "2", "state": "FAILED"}
        assert until(lambda: value(samples(served), "servable_model_version_state", **failed) == 1)
        loads = {
            dict(labels)["outcome"]: count
            for (name, labels), count in samples(served).items()
            if name == "servable_model_loads_total"
        }
        assert loads.pop("OK", 0) <= 1 and sum(loads.values()) == 1, loads


def test_a_batch_is_counted_with_its_rows_and_its_wait(base: Path) -> None:
    with serving(f"m={base}", "--enable_batching") as served:
        assert predict(served, "m", {"instances": [1.0, 2.0, 3.0]}).status == 200
        found = samples(served)
        of_version = {"model": "m", "version": "1"}
        assert value(found, "servable_batch_requests_bucket", le="1.0", **of_version) is not None
        rows, batches = (value(found, f"servable_batch_rows_{end}", **of_version) for end in ("sum", "count"))
        assert rows and batches and rows >= batches + 2
        assert value(found, "servable_request_queue_seconds_count", **PREDICTED) == 1
        assert value(found, "servable_request_run_seconds_count", **PREDICTED) == 1


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_page_is_for_those_who_look_whatever_they_ask(served: Served, method: str) -> None:
    reply = ask(served, method, f"{METRICS}?x=1")
    assert (reply.status, reply.headers["content-type"]) == (200, TEXT)
    assert ask(served, "POST", METRICS, "{}").status == 404


def test_the_page_is_on_the_administrations_port_too(served: Served) -> None:
    port = int(admin_url(served).rsplit(":", 1)[1])
    for accept, kind in ((None, TEXT), ("application/openmetrics-text", OPEN)):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", METRICS, headers={"Accept": accept} if accept else {})
        reply = connection.getresponse()
        text = reply.read().decode()
        connection.close()
        assert (reply.status, reply.headers["Content-Type"]) == (200, kind)
        assert "\nservable_requests_total{" in text or "# TYPE servable_requests" in text


def test_the_page_can_be_moved_and_closed(base: Path, tmp_path: Path) -> None:
    with serving(f"m={base}", "--metrics_path=/other", monitoring(tmp_path)) as served:
        assert ask(served, "GET", METRICS).status == 404
        assert "# TYPE servable_requests_total counter\n" in ask(served, "GET", "/other").text
        theirs = ask(served, "GET", PAGE).text
        assert "# TYPE :tensorflow:serving:request_count counter\n" in theirs and "\nservable_" not in theirs
    with serving(f"m={base}", "--metrics_path=") as served:
        assert ask(served, "GET", METRICS).status == 404


@pytest.mark.parametrize(("flags", "status"), [((), 404), (("--metrics_path=/metrics",), 200)])
def test_tensorflow_model_server_has_it_only_if_told(
    tmp_path: Path, base: Path, flags: tuple[str, ...], status: int
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = f"--rest_api_port={free.getsockname()[1]}"
    grpc_socket = f"--grpc_socket_path={tmp_path / 'grpc.sock'}"
    own = (grpc_socket, "--port=0", "--model_name=m", f"--model_base_path={base}", port)
    with serving(*own, *flags, command=DROP_IN) as served:
        assert ask(served, "GET", METRICS).status == status


def test_a_reply_is_compressed_for_who_takes_that(served: Served) -> None:
    with Wire(served) as wire:
        wire.send(f"GET {METRICS} HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n")
        assert wire.final_reply().headers["content-encoding"] == "gzip"


def test_a_client_that_leaves_is_counted_as_cancelled() -> None:
    request = json.dumps({"inputs": {"steps": 10**12}}).encode()
    flags = ("--compute_threads=1", "--run_in=pool", "--rest_api_timeout_in_ms=4000")
    with serving(MODELS / "loop", *flags) as served:
        with Wire(served) as wire:
            head = (
                f"POST /v1/models/loop:predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(request)}\r\n\r\n"
            )
            wire.send(head.encode() + request)

            def running() -> bool:
                found = samples(served)
                return any(
                    name == "servable_requests_in_flight" and count == 1 for (name, _), count in found.items()
                )

            assert until(running)

        def cancelled() -> bool:
            found = samples(served)
            return any(
                ("outcome", "CANCELLED") in labels and count == 1 for (_, labels), count in found.items()
            )

        assert until(cancelled)


def test_native_histograms_are_in_the_protobuf_page(served: Served) -> None:
    load(served)
    reply = page(served, PROTOBUF)
    assert (reply.status, reply.headers["content-type"]) == (200, PROTOBUF)
    found = {family.name: family for family in families(reply.body)}
    assert set(found) <= {name for name, *_ in _core.metrics()}
    assert found["servable_requests_total"].type == 0 and found["process_open_fds"].type == 1
    every = found["servable_request_duration_seconds"].metric
    for metric in every:
        histogram = metric.histogram
        counts = native_counts(histogram)
        assert histogram.schema == 2 and min(counts.values()) > 0
        assert histogram.zero_count + sum(counts.values()) == histogram.sample_count
        # Bucket i ends at 2^(i/4) seconds: all of them together are about as long as their sum says.
        longest = sum(count * 2 ** (index / 4) for index, count in counts.items())
        assert longest / 2**0.25 <= histogram.sample_sum * (1 + 1e-9) <= longest + 2**-20
        assert histogram.bucket[-1].cumulative_count == histogram.sample_count
        assert histogram.bucket[-1].upper_bound == float("inf")
    labels = [{pair.name: pair.value for pair in metric.label} for metric in every]
    assert {**PREDICTED, "protocol": "rest"} in labels and {**PREDICTED, "protocol": "grpc"} in labels


def test_the_protobuf_page_has_the_samples_of_the_others(served: Served) -> None:
    load(served)
    text, binary = samples(served), {family.name: family for family in families(page(served, PROTOBUF).body)}
    name = "servable_requests_total"
    counted = {
        (name, frozenset((pair.name, pair.value) for pair in metric.label)): metric.counter.value
        for metric in binary[name].metric
    }
    assert len(counted) > 3
    assert counted == {key: count for key, count in text.items() if key[0] == name}
