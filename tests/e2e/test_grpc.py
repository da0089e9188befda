"""The gRPC port as seen by clients: tensors, deadlines, sockets, TLS, the standard services."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from conftest import SHARED, Served
from servers import DROP_IN, MODELS, put_version, run_to_its_end, serving
from stubs import call, failure, own_message
from wire import predict as ask_predict

from servable.messages import message_class

pytestmark = pytest.mark.needs_tensorflow

UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
DTYPES = {
    "float32": (1, np.float32),
    "float64": (2, np.float64),
    "int32": (3, np.int32),
    "uint8": (4, np.uint8),
    "int16": (5, np.int16),
    "int8": (6, np.int8),
    "int64": (9, np.int64),
    "bool": (10, np.bool_),
    "complex64": (8, np.complex64),
    "uint16": (17, np.uint16),
    "float16": (19, np.float16),
    "uint32": (22, np.uint32),
    "uint64": (23, np.uint64),
}
"""Name in signatures → number, numpy's type."""


def predict_request(model: str, signature: str = "", **inputs: Any) -> Any:
    """Returns a PredictRequest with numpy arrays as ``tensor_content``, or ready TensorProtos."""
    request = own_message("PredictRequest")()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    for alias, value in inputs.items():
        tensor = request.inputs[alias]
        if not isinstance(value, np.ndarray):
            tensor.CopyFrom(value)
            continue
        tensor.dtype = next(number for number, dtype in DTYPES.values() if dtype == value.dtype)
        tensor.tensor_shape.SetInParent()
        for size in value.shape:
            tensor.tensor_shape.dim.add(size=size)
        tensor.tensor_content = value.tobytes()
    return request


def predict(channel: grpc.Channel, request: Any, timeout: float = 60.0) -> Any:
    return call(channel, "Predict", request, own_message, timeout)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """Serves ``half_plus_two``, ``loop``, ``echo`` and, if available, ``ident``."""
    models = [MODELS / name for name in ("half_plus_two", "loop", "echo")]
    ident = SHARED.resolve() / "testdata" / "ident"
    with serving(*models, *([ident] if ident.is_dir() else []), "--port=0") as server:
        yield server


@pytest.fixture(scope="module")
def channel(served: Served) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(served.grpc, options=UNLIMITED) as open_channel:
        yield open_channel


# ---- tensors


def _sample(dtype: Any) -> np.ndarray[Any, Any]:
    """Returns twelve values that use all their bits."""
    pattern = np.random.default_rng(1).integers(0, 256, 12 * np.dtype(dtype).itemsize, dtype=np.uint8)
    if dtype is np.bool_:
        return (pattern % 2).astype(np.bool_).reshape(3, 4)
    return np.nan_to_num(pattern.view(dtype)).reshape(3, 4)


@pytest.mark.needs_shared
@pytest.mark.parametrize("name", DTYPES)
def test_numbers_come_back_in_either_form(channel: grpc.Channel, name: str) -> None:
    sent = _sample(DTYPES[name][1])
    by_content = predict(channel, predict_request("ident", f"id_{name}", x=sent)).outputs["y"]
    assert by_content.tensor_content == b""
    by_field = predict(channel, predict_request("ident", f"id_{name}", x=by_content)).outputs["y"]
    assert by_field == by_content


@pytest.mark.needs_shared
def test_outputs_as_content_by_flag() -> None:
    ident = SHARED.resolve() / "testdata" / "ident"
    flag = "--enable_serialization_as_tensor_content"
    with serving(ident, "--port=0", flag) as served, grpc.insecure_channel(served.grpc) as there:
        for name, (_, dtype) in DTYPES.items():
            sent = _sample(dtype)
            reply = predict(there, predict_request("ident", f"id_{name}", x=sent))
            assert reply.outputs["y"].tensor_content == sent.tobytes(), name


def test_strings_come_back_as_they_went(channel: grpc.Channel) -> None:
    request = predict_request("echo")
    tensor = request.inputs["x"]
    tensor.dtype = 7
    tensor.tensor_shape.dim.add(size=3)
    tensor.string_val.extend([b"", b"\xff\x00", b"x" * 100_000])
    reply = predict(channel, request)
    assert list(reply.outputs["raw_bytes"].string_val) == [b"", b"\xff\x00", b"x" * 100_000]


@pytest.mark.parametrize("count", [0, 1, 100_000, 2_500_000])
def test_large_tensors(channel: grpc.Channel, count: int) -> None:
    x = np.random.default_rng(2).random(count, dtype=np.float32)
    y = predict(channel, predict_request("half_plus_two", x=x)).outputs["y"]
    assert y.tensor_shape.dim[0].size == count
    np.testing.assert_array_equal(np.fromiter(y.float_val, np.float32, count), x * np.float32(0.5) + 2)


def test_compressed_requests_are_read(served: Served) -> None:
    x = np.zeros(50_000, np.float32)
    for compression in (grpc.Compression.Gzip, grpc.Compression.Deflate):
        with grpc.insecure_channel(served.grpc, compression=compression) as there:
            y = predict(there, predict_request("half_plus_two", x=x)).outputs["y"]
            assert set(y.float_val) == {2.0}


# ---- time


def test_a_deadline_ends_a_run(channel: grpc.Channel) -> None:
    endless = predict_request("loop", steps=np.array(10**9, np.int64))
    assert failure(lambda: predict(channel, endless, timeout=0.3))[0] == "DEADLINE_EXCEEDED"
    assert predict(channel, predict_request("loop", steps=np.array(3, np.int64))).outputs[
        "done"
    ].int64_val == [3]


def test_clients_that_leave_harm_nobody(channel: grpc.Channel) -> None:
    request = predict_request("loop", steps=np.array(2000, np.int64))
    path = "/tensorflow.serving.PredictionService/Predict"
    stub = channel.unary_unary(
        path, type(request).SerializeToString, own_message("PredictResponse").FromString
    )
    for left in [stub.future(request, timeout=60) for _ in range(200)]:
        left.cancel()
    assert list(
        predict(channel, predict_request("half_plus_two", x=np.ones(1, np.float32))).outputs["y"].float_val
    ) == [2.5]


# ---- arguments of gRPC's C core


def test_a_message_above_its_limit_is_not_taken_and_one_above_its_own_not_sent() -> None:
    limits = "grpc.max_receive_message_length=2000,grpc.max_send_message_length=1000"
    arguments = ("--port=0", f"--grpc_channel_arguments={limits}")
    with (
        serving(MODELS / "half_plus_two", *arguments) as served,
        grpc.insecure_channel(served.grpc, options=UNLIMITED) as there,
    ):
        ended = {}
        for count in (10, 400, 600):
            request = predict_request("half_plus_two", x=np.ones(count, np.float32))
            ended[count] = failure(lambda: predict(there, request))  # noqa: B023
        assert ended[10] == ("OK", "")
        for count, text in ((400, "Sent"), (600, "Received")):
            code, details = ended[count]
            limit = 1000 if text == "Sent" else 2000
            assert code == "RESOURCE_EXHAUSTED"
            assert re.fullmatch(rf"{text} message larger than max \(\d+ vs\. {limit}\)", details), details


def test_connections_are_renewed_at_their_age_and_no_call_fails() -> None:
    arguments = ("--port=0", "--grpc_channel_arguments=grpc.max_connection_age_ms=200")
    request = predict_request("half_plus_two", x=np.ones(1, np.float32))
    with serving(MODELS / "half_plus_two", *arguments) as served:
        connected, lost = threading.Event(), threading.Semaphore(0)

        def changed(state: grpc.ChannelConnectivity) -> None:
            if state is grpc.ChannelConnectivity.READY:
                connected.set()
            elif connected.is_set():
                connected.clear()
                lost.release()

        with grpc.insecure_channel(served.grpc) as there:
            there.subscribe(changed)
            assert list(predict(there, request).outputs["y"].float_val) == [2.5]
            # Unlike that call, these do not wait for a connection: they would fail without one.
            stub = there.unary_unary("/tensorflow.serving.PredictionService/Predict")
            renewed = 0
            while renewed < 3:
                stub(request.SerializeToString(), timeout=60)
                renewed += lost.acquire(blocking=False)
            there.unsubscribe(changed)


def test_arguments_without_effect_are_named_and_nothing_else_happens() -> None:
    arguments = "grpc.so_reuseport=0,grpc.max_connection_age_ms=soon,grpc.made_up=1"
    with serving(MODELS / "half_plus_two", "--port=0", f"--grpc_channel_arguments={arguments}") as served:
        said = [line.partition("--grpc_channel_arguments: ")[2] for line in served.lines]
        assert [line for line in said if line] == [
            "no effect here: grpc.so_reuseport, grpc.made_up (the gRPC port is not served by gRPC's C core)",
            "grpc.max_connection_age_ms expects a whole number of 32 bits, got 'soon': left out",
        ]
        assert _answers(served.grpc) == 2.5


# ---- sockets and TLS


def _answers(target: str, credentials: grpc.ChannelCredentials | None = None) -> float:
    request = predict_request("half_plus_two", x=np.ones(1, np.float32))
    named = [("grpc.ssl_target_name_override", "localhost")]
    open_channel = (
        grpc.secure_channel(target, credentials, named) if credentials else grpc.insecure_channel(target)
    )
    with open_channel as there:
        return float(predict(there, request).outputs["y"].float_val[0])


def test_a_unix_socket_that_a_dead_server_left_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "grpc.sock"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    with serving(MODELS / "half_plus_two", f"--grpc_socket_path={path}") as served:
        assert f"Running gRPC ModelServer at UNIX socket {path} ..." in served.log
        assert _answers(f"unix:{path}") == 2.5


def test_a_unix_socket_that_another_server_holds_is_taken_over_by_the_drop_in(tmp_path: Path) -> None:
    """As gRPC's C core does: TensorFlow Serving's own tests start one server after another on one path."""
    path = tmp_path / "grpc.sock"
    flags = (f"--model_base_path={MODELS / 'half_plus_two'}", "--port=0", f"--grpc_socket_path={path}")
    ready = "ready: 1 of 1 models"
    with (
        serving(*flags, "--model_name=first", command=DROP_IN, ready=ready),
        serving(*flags, "--model_name=half_plus_two", command=DROP_IN, ready=ready),
    ):
        assert _answers(f"unix:{path}") == 2.5


def test_a_unix_socket_is_reached_however_it_is_written(tmp_path: Path, monkeypatch: Any) -> None:
    """Clients send the path as the host, with any ``:``, ``@`` and ``[`` in it."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "a:b:c[d@ü %2F~$"
    folder.mkdir()
    path = folder / "s@"
    with serving(MODELS / "half_plus_two", f"--grpc_socket_path={path}"):
        for target in (f"unix:{path}", f"unix://{path}", f"unix:{path.relative_to(tmp_path)}"):
            assert _answers(target.replace("%", "%25")) == 2.5, target


def _certificate(folder: Path, name: str, *issuer: str) -> tuple[bytes, bytes]:
    """Makes key and certificate, signed by ``ca`` or self-signed."""
    key, certificate = folder / f"{name}.key", folder / f"{name}.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    command += ["-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", f"/CN={name}"]
    command += ["-addext", "subjectAltName=DNS:localhost", *issuer]
    subprocess.run(command, check=True, capture_output=True)
    return key.read_bytes(), certificate.read_bytes()


@pytest.mark.skipif(
    shutil.which("openssl") is None, reason="openssl makes the certificates and is not installed"
)
def test_tls_with_client_certificates(tmp_path: Path) -> None:
    _, ca = _certificate(tmp_path, "ca")
    signed = ("-CA", str(tmp_path / "ca.pem"), "-CAkey", str(tmp_path / "ca.key"))
    signed += ("-addext", "basicConstraints=critical,CA:FALSE")
    key, certificate = _certificate(tmp_path, "server", *signed)
    client_key, client_certificate = _certificate(tmp_path, "client", *signed)
    config = own_message("SSLConfig")(
        server_key=key.decode(), server_cert=certificate.decode(), custom_ca=ca.decode(), client_verify=True
    )
    file = tmp_path / "ssl.config"
    file.write_text(str(config))
    path = tmp_path / "grpc.sock"
    listening = ("--port=0", f"--grpc_socket_path={path}")
    with serving(MODELS / "half_plus_two", *listening, f"--ssl_config_file={file}") as served:
        known = grpc.ssl_channel_credentials(ca, client_key, client_certificate)
        assert _answers(served.grpc, known) == 2.5
        assert _answers(f"unix:{path}", known) == 2.5
        stranger = grpc.ssl_channel_credentials(ca)
        request = predict_request("half_plus_two", x=np.ones(1, np.float32))
        for credentials in (stranger, None):
            there = (
                grpc.secure_channel(served.grpc, credentials)
                if credentials
                else grpc.insecure_channel(served.grpc)
            )
            with there:
                stub = there.unary_unary("/tensorflow.serving.PredictionService/Predict")
                assert failure(lambda: stub(request.SerializeToString(), timeout=10))[0] == "UNAVAILABLE"  # noqa: B023


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('server_key: "x" server_cert: "y"', "server_key of the SSL config"),
        ("client_verify: false", "of the SSL config"),
    ],
)
def test_a_wrong_tls_config_is_a_failed_start(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "ssl.config"
    file.write_text(text)
    model, at_socket = f"--model_base_path={MODELS / 'half_plus_two'}", f"--grpc_socket_path={tmp_path / 's'}"
    flags = (model, "--port=0", at_socket, f"--ssl_config_file={file}")
    ended = run_to_its_end(*flags, command=DROP_IN)
    assert ended.returncode == 255, ended.stderr
    assert "Failed to start server. Error: INVALID_ARGUMENT" in ended.stdout
    assert said in ended.stdout and "Traceback" not in ended.stderr


@pytest.mark.needs_shared
@pytest.mark.parametrize(
    ("tasks", "code", "text"),
    [
        (["foo", "tensorflow/serving/regress"], "UNIMPLEMENTED", "Unsupported signature method_name: foo"),
        (
            ["tensorflow/serving/regress"] * 2,
            "INVALID_ARGUMENT",
            "Duplicate evaluation of signature: regress_x_to_y",
        ),
    ],
)
def test_tasks_are_checked_one_after_the_other(shared: Path, tasks: list[str], code: str, text: str) -> None:
    model = shared.resolve() / "testdata" / "tensorflow_serving" / "saved_model_half_plus_two_cpu"
    request = own_message("MultiInferenceRequest")()
    for method in tasks:
        task = request.tasks.add(method_name=method)
        task.model_spec.name, task.model_spec.signature_name = "m", "regress_x_to_y"
    with serving(f"m={model}", "--port=0") as served, grpc.insecure_channel(served.grpc) as channel:
        assert failure(lambda: call(channel, "MultiInference", request, own_message)) == (code, text)


def test_the_method_name_is_checked_over_both_protocols(tmp_path: Path) -> None:
    base = tmp_path / "odd"
    folder = put_version("half_plus_two", base, 1)
    graph = message_class("tensorflow.SavedModel").FromString((folder / "saved_model.pb").read_bytes())
    graph.meta_graphs[0].signature_def["serving_default"].method_name = "my/method"
    (folder / "saved_model.pb").write_bytes(graph.SerializeToString())
    request = predict_request("odd", x=np.ones(1, np.float32))
    for flag, refused in (("--enable_signature_method_name_check", True), ("--port=0", False)):
        with serving(base, "--port=0", flag) as served, grpc.insecure_channel(served.grpc) as channel:
            if not refused:
                assert predict(channel, request).outputs["y"].float_val[:] == [2.5]
                assert ask_predict(served, "odd", {"instances": [1.0]}).status == 200
                continue
            code, text = failure(lambda: predict(channel, request))
            assert code == "INTERNAL" and text.endswith("Was: my/method")
            reply = ask_predict(served, "odd", {"instances": [1.0]})
            assert (reply.status, reply.error) == (500, text)


# ---- the standard services


def test_health_is_served_for_tensorflow_servings_names(channel: grpc.Channel) -> None:
    path = "/grpc.health.v1.Health/Check"
    serving_status = b"\x08\x01"
    for name in (b"", b"ModelService", b"PredictionService"):
        asked = bytes([10, len(name)]) + name if name else b""
        assert channel.unary_unary(path)(asked, timeout=60) == serving_status
    assert failure(lambda: channel.unary_unary(path)(b"\x0a\x01x", timeout=60))[0] == "NOT_FOUND"
    watched = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"")
    assert next(watched) == serving_status
    # The stream is left open: it must not delay the server's shutdown.


def test_a_watch_of_an_unknown_service_stays_open(channel: grpc.Channel) -> None:
    watched = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"\x0a\x01x", timeout=1)
    assert next(watched) == b"\x08\x03"
    assert failure(lambda: next(watched))[0] == "DEADLINE_EXCEEDED"


def _services(channel: grpc.Channel) -> bytes:
    path = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    list_services = b"\x3a\x00"
    (reply,) = list(channel.stream_stream(path)(iter([list_services]), timeout=60))
    return bytes(reply)


def test_reflection_lists_what_is_served(channel: grpc.Channel) -> None:
    optional = (b"grpc.health.v1.Health", b"tensorflow.ProfilerService")
    always = (b"tensorflow.serving.PredictionService", b"tensorflow.serving.ModelService")
    assert all(service in _services(channel) for service in (*always, *optional))
    off = ("--enable_grpc_healthcheck_service=false", "--enable_profiler=false")
    with (
        serving(MODELS / "half_plus_two", "--port=0", *off) as served,
        grpc.insecure_channel(served.grpc) as there,
    ):
        listed = _services(there)
        assert all(service in listed for service in always)
        assert not any(service in listed for service in optional)
        for path in ("/grpc.health.v1.Health/Check", "/tensorflow.ProfilerService/Monitor"):
            assert failure(lambda: there.unary_unary(path)(b"", timeout=60))[0] == "UNIMPLEMENTED"  # noqa: B023


def test_session_service_is_not_served(channel: grpc.Channel) -> None:
    path = "/tensorflow.serving.SessionService/SessionRun"
    assert failure(lambda: channel.unary_unary(path)(b"", timeout=60))[0] == "UNIMPLEMENTED"


CAPTURE = """
import sys, tensorflow as tf
tf.profiler.experimental.client.trace("grpc://" + sys.argv[1], sys.argv[2], 500, num_tracing_attempts=5)
"""


def test_tensorflows_own_client_captures_a_profile(tmp_path: Path) -> None:
    with serving(MODELS / "half_plus_two", "--port=0", f"--profile_folder={tmp_path}") as served:
        capture_a_profile(served, tmp_path)


def test_a_profile_is_stored_where_that_is_allowed_only(served: Served, tmp_path: Path) -> None:
    request = message_class("tensorflow.ProfileRequest")()
    request.repository_root, request.session_id, request.duration_ms = str(tmp_path), "s", 1
    with grpc.insecure_channel(served.grpc) as channel:
        ask = channel.unary_unary("/tensorflow.ProfilerService/Profile", type(request).SerializeToString)
        status, text = failure(lambda: ask(request, timeout=60))
    assert status == "PERMISSION_DENIED" and "--profile_folder" in text
    assert list(tmp_path.iterdir()) == []


def capture_a_profile(served: Served, tmp_path: Path) -> None:
    done = threading.Event()

    def busy() -> None:
        request = predict_request("half_plus_two", x=np.ones(1, np.float32))
        with grpc.insecure_channel(served.grpc) as there:
            while not done.is_set():
                predict(there, request)

    client = threading.Thread(target=busy)
    client.start()
    try:
        command = [sys.executable, "-c", CAPTURE, served.grpc, str(tmp_path)]
        capture = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    finally:
        done.set()
        client.join()
    profiles = list(tmp_path.glob("plugins/profile/*/*.xplane.pb"))
    assert len(profiles) == 1, capture.stdout + capture.stderr
    profile = profiles[0].read_bytes()
    for name in (b"/host:CPU", b"servable::decode", b"servable::run", b"servable::encode", b"servable-io-"):
        assert name in profile
