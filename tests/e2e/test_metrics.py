"""The Prometheus endpoint: counts over both protocols, with TensorFlow Serving's names and format."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from clients import Stub, await_versions
from conftest import Served
from prometheus import PAGE, SERVING, monitoring, samples
from servers import MODELS, ONE_TRY, RELOADS, WITH_GRPC, put_version, serving, until
from stubs import own_message
from wire import ask, predict

pytestmark = pytest.mark.needs_tensorflow


@pytest.fixture
def served(base: Path, tmp_path: Path) -> Iterator[Served]:
    """Serves model ``m`` over both protocols, with its metrics."""
    with serving(f"m={base}", WITH_GRPC, RELOADS, monitoring(tmp_path), ONE_TRY) as running:
        yield running


def requests(model: str, status: str) -> str:
    return f'{SERVING}request_count{{model_name="{model}",status="{status}"}}'


def latencies(model: str, api: str, entrypoint: str) -> str:
    labels = f'model_name="{model}",API="{api}",entrypoint="{entrypoint}"'
    return f"{SERVING}request_latency_count{{{labels}}}"


def test_requests_are_counted_over_both_protocols_by_how_they_ended(served: Served) -> None:
    for _ in range(3):
        assert predict(served, "m", {"instances": [1.0]}).status == 200
    assert predict(served, "m", {"instances": "no"}).status == 400
    assert predict(served, "missing", {"instances": [1.0]}).status == 404
    assert ask(served, "GET", "/v1/models/m").status == 200
    assert ask(served, "GET", "/v1/elsewhere").status == 400
    with Stub(served) as stub:
        assert stub.predict("m") == 3.0
        with pytest.raises(grpc.RpcError):
            stub.predict("missing")
    found = samples(served)
    counted = {key: value for key, value in found.items() if key.startswith(f"{SERVING}request_count{{")}
    assert counted == {
        requests("m", "OK"): "5",
        requests("m", "INVALID_ARGUMENT"): "1",
        requests("missing", "NOT_FOUND"): "2",
        requests("", "INVALID_ARGUMENT"): "1",
    }
    assert found[latencies("m", "predict", "REST")] == "3"
    assert found[latencies("m", "", "REST")] == "1"
    assert found[latencies("m", "Predict", "GRPC")] == "1"


def test_a_histogram_counts_up_to_all(served: Served) -> None:
    predict(served, "m", {"instances": [1.0]})
    start = f'{SERVING}request_latency_bucket{{model_name="m",API="predict",entrypoint="REST",le="'
    found = samples(served)
    buckets = {
        key.removeprefix(start)[:-2]: int(value) for key, value in found.items() if key.startswith(start)
    }
    counts = list(buckets.values())
    assert len(counts) == 34 and counts == sorted(counts)
    assert list(buckets)[:5] == ["10", "18", "32.4", "58.32", "104.976"] and list(buckets)[-1] == "+Inf"
    assert counts[-1] == int(found[latencies("m", "predict", "REST")]) == 1
    total = found[f'{SERVING}request_latency_sum{{model_name="m",API="predict",entrypoint="REST"}}']
    assert float(total) > 0


def test_runs_and_loads_are_counted(served: Served, base: Path) -> None:
    runtime = f'{SERVING}runtime_latency_count{{model_name="m",API="Predict",runtime="TF1"}}'
    runs = ":tensorflow:core:graph_runs{}"
    before = samples(served)
    predict(served, "m", {"instances": [1.0]})
    after = samples(served)
    assert int(after[runs]) == int(before[runs]) + 1
    assert int(after[runtime]) == int(before.get(runtime, 0)) + 1
    put_version("unknown_op", base, 2)
    put_version("half_plus_two", base, 3)
    await_versions(served, "m", 3)
    found = samples(served)
    attempts = ':tensorflow:cc:saved_model:load_attempt_count{model_path="'
    assert {key: value for key, value in found.items() if key.startswith(attempts)} == {
        f'{attempts}{base}/1",status="success"}}': "1",
        f'{attempts}{base}/3",status="success"}}': "1",
    } | {key: "1" for key in [f'{attempts}{base}/2",status="fail"}}'] if key in found}
    assert int(found[f':tensorflow:cc:saved_model:load_latency{{model_path="{base}/1"}}']) > 0


def test_a_run_that_fails_is_not_counted(tmp_path: Path) -> None:
    """The same goes for requests refused before a run."""
    with serving(MODELS / "pair", monitoring(tmp_path)) as served:
        before = samples(served)
        together = predict(served, "pair", {"inputs": {"a": [1.0, 2.0], "b": [1, 2, 3]}})
        assert together.status == 400 and "Incompatible shapes" in together.text
        assert predict(served, "pair", {"inputs": {"a": [1.0]}}).status == 400
        assert predict(served, "pair", {"inputs": {"a": [1.0], "b": [1]}}).status == 200
        after = samples(served)
    runs, latency = ":tensorflow:core:graph_runs{}", f"{SERVING}runtime_latency_count{{"
    assert int(after[runs]) == int(before[runs]) + 1
    assert [int(value) for key, value in after.items() if key.startswith(latency)] == [1]


def test_a_reload_tells_by_how_much_metrics_grew(served: Served, base: Path) -> None:
    """For each metric the first series counts, which is that of version 1 here."""
    names = ["/tensorflow/cc/saved_model/load_attempt_count", "/tensorflow/no/such"]
    with Stub(served) as stub:
        assert stub.reload() == (0, "")
        # A version still there would continue to serve, without a load.
        assert until(lambda: predict(served, "m", {"instances": [1.0]}).status == 404)
        request = own_message("ReloadConfigRequest")(metric_names=names)
        listed = request.config.model_config_list.config.add(name="m", base_path=str(base))
        listed.model_platform = "tensorflow"
        reply = stub.call("HandleReloadConfigRequest", request)
    assert [(one.name, one.int64_value_increase) for one in reply.metric] == [(names[0], 1), (names[1], 0)]


def test_calls_that_were_cancelled_are_counted(tmp_path: Path) -> None:
    """Both those that wait for the only thread, and the one that holds it."""
    request = own_message("PredictRequest")()
    request.model_spec.name = "loop"
    request.inputs["steps"].dtype = 9
    request.inputs["steps"].int64_val.append(10**12)
    flags = ("--compute_threads=1", "--run_in=pool", monitoring(tmp_path), "--port=0")
    with serving(MODELS / "loop", *flags) as served, grpc.insecure_channel(served.grpc) as channel:
        stub = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        calls = [stub.future(request.SerializeToString(), timeout=3) for _ in range(3)]
        ended = {call.code() for call in calls}
        assert ended == {grpc.StatusCode.DEADLINE_EXCEEDED}

        def counted() -> int:
            statuses = ("CANCELLED", "DEADLINE_EXCEEDED")
            found = samples(served)
            return sum(int(found.get(requests("loop", status), 0)) for status in statuses)

        assert until(lambda: counted() == 3), samples(served)


def test_a_name_cannot_write_lines_of_its_own(served: Served) -> None:
    reply = ask(served, "GET", "/v1/models/x%0A%23%20TYPE%20evil%20gauge%0Aevil%7B%7D%201%22%5C")
    assert reply.status == 404
    text = ask(served, "GET", PAGE).text
    assert "\nevil" not in text and "\n# TYPE evil" not in text
    name = '{model_name="x\\n# TYPE evil gauge\\nevil{} 1\\"\\\\",status="NOT_FOUND"}'
    assert f"{SERVING}request_count{name} 1\n" in text
    samples(served)


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_the_page_answers_any_method(served: Served, method: str) -> None:
    reply = ask(served, method, PAGE, "body" if method in ("POST", "PUT") else None)
    assert reply.status == 200
    assert f"# TYPE {SERVING}request_count counter\n" in reply.text
    assert ask(served, method, f"{PAGE}?x=1").text == f"Unexpected path: {PAGE}?x=1. Should be {PAGE}"


def test_the_page_is_where_the_config_says(base: Path, tmp_path: Path) -> None:
    config = 'prometheus_config { enable: true path: "/v1/metrics" }'
    with serving(f"m={base}", monitoring(tmp_path, config)) as served:
        assert samples(served, "/v1/metrics")
        assert ask(served, "GET", PAGE).status == 404


def test_nothing_is_there_unless_it_is_enabled(base: Path, tmp_path: Path) -> None:
    with serving(f"m={base}", monitoring(tmp_path, "prometheus_config { }")) as served:
        assert ask(served, "GET", PAGE).status == 404


@pytest.mark.needs_shared
def test_examples_of_multi_inference_are_counted(shared: Path, tmp_path: Path) -> None:
    model = shared.resolve() / "testdata" / "tensorflow_serving" / "saved_model_half_plus_two_cpu"
    request = own_message("MultiInferenceRequest")()
    for signature in ("regress_x_to_y", "regress_x_to_y2"):
        task = request.tasks.add(method_name="tensorflow/serving/regress")
        task.model_spec.name, task.model_spec.signature_name = "m", signature
    for x in (1.0, 2.0, 3.0):
        example = request.input.example_list.examples.add()
        example.features.feature["x"].float_list.value.append(x)
    with serving(f"m={model}", WITH_GRPC, monitoring(tmp_path)) as served, Stub(served) as stub:
        reply = stub.call("MultiInference", request)
        assert len(reply.results) == 2
        del request.tasks[1]
        assert len(stub.call("MultiInference", request).results) == 1
        body = {"signature_name": "classify_x_to_y", "examples": [{"x": 1.0}]}
        assert ask(served, "POST", "/v1/models/m:classify", json.dumps(body)).status == 200
        found = samples(served)
    assert found[f'{SERVING}request_example_count_total{{model="m"}}'] == "6"
    assert found[f'{SERVING}request_example_counts_bucket{{model="m",le="4"}}'] == "2"
    assert found[latencies("m", "classify", "REST")] == "1"
    assert f'{SERVING}runtime_latency_count{{model_name="m",API="Classify",runtime="TF1"}}' in found
    assert f'{SERVING}runtime_latency_count{{model_name="m",API="Regress",runtime="TF1"}}' not in found
