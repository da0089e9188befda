"""Tokens: who may ask for what, over REST, gRPC and on the administration; nothing is open by forgetting."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import pytest
from certificates import Authority
from conftest import Served
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from http2 import Raw, assert_none_is_reset
from prometheus import PAGE, monitoring
from servers import ADMIN, DROP_IN, MODELS, WITH_GRPC, admin_url, serving, until
from stubs import floats_request, own_message
from tokens import TokenFile, get, grpc_call
from wire import Wire, ask, message, predict

from servable import AsyncClient, Client, _core
from servable.errors import PermissionDeniedError, UnauthenticatedError

pytestmark = pytest.mark.needs_tensorflow

HALF = "/v1/models/half_plus_two"
GOOD = {"instances": [2.0]}
WRONG = "servable.all." + "A" * 43
PREDICTION = "/tensorflow.serving.PredictionService/"
MODELS_SERVICE = "/tensorflow.serving.ModelService/"
INFERENCE = "/inference.GRPCInferenceService/"
HEALTH = "/grpc.health.v1.Health/"
PROFILER = (
    "Profile",
    "Terminate",
    "Monitor",
    "StartContinuousProfiling",
    "StopContinuousProfiling",
    "GetSnapshot",
)
REFLECTIONS = [f"/grpc.reflection.{v}.ServerReflection/ServerReflectionInfo" for v in ("v1", "v1alpha")]
REFUSED = {"UNAUTHENTICATED", "PERMISSION_DENIED"}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> TokenFile:
    file = TokenFile(tmp_path_factory.mktemp("tokens") / "tokens")
    file.add("all", "predict,read,manage")
    file.add("caller", "predict", "half*")
    file.add("reader", "read", "half*")
    file.add("watcher", "read")
    file.add("boss", "manage")
    return file


@pytest.fixture(scope="module")
def served(file: TokenFile) -> Iterator[Served]:
    log = file.path.with_name("access.log")
    flags = [file.flag, WITH_GRPC, ADMIN, "--access_log=all", f"--access_log_file={log}"]
    flags += ["--log_format=json", "--rest_api_enable_cors_support"]
    with serving(MODELS / "half_plus_two", MODELS / "pair", *flags, ready="administration at") as served:
        served.wait_for_line("ready: 2 of 2 models")
        yield served


def admin(served: Served) -> str:
    (line,) = [line for line in served.lines if "administration at http://" in line]
    return str(json.loads(line)["message"]).rpartition("administration at ")[2].removesuffix("/admin/models")


# ---- every way in


REST = [
    # method, path, and who may ask
    ("GET", "/livez", "anybody"),
    ("GET", "/healthz", "anybody"),
    ("GET", "/readyz", "anybody"),
    ("HEAD", "/readyz", "anybody"),
    ("OPTIONS", HALF, "anybody"),
    ("GET", "/readyz/half_plus_two", "all reader watcher"),
    ("GET", "/readyz/half_plus_two/1", "all reader watcher"),
    ("GET", "/readyz/pair", "all watcher"),
    ("GET", "/metrics", "all watcher boss"),
    ("GET", "/metrics?x", "all watcher boss"),
    ("GET", HALF, "all reader watcher"),
    ("HEAD", HALF, "all reader watcher"),
    ("GET", f"{HALF}/versions/1", "all reader watcher"),
    ("GET", "/v1/models/pair", "all watcher"),
    ("GET", "/v1/models/half%5Fplus_two", "all reader watcher"),
    ("GET", "/v1/models/%70air", "all watcher"),
    ("GET", "/V1/Models/pair", "all watcher"),
    ("GET", f"{HALF}/metadata", "all caller reader watcher"),
    ("GET", "/v1/models/pair/metadata", "all watcher"),
    ("POST", f"{HALF}:predict", "all caller"),
    ("POST", f"{HALF}/versions/1:predict", "all caller"),
    ("POST", f"{HALF}:classify", "all caller"),
    ("POST", f"{HALF}:regress", "all caller"),
    ("POST", "/v1/models/pair:predict", "all"),
    ("POST", "/v1/models/missing:predict", "all"),
    ("GET", "/v2/systemsharedmemory/status", "all caller"),
    ("POST", "/v2/systemsharedmemory/unregister", "all caller"),
    ("GET", "/", "anybody"),
    ("HEAD", "/console/index.js", "anybody"),
    ("GET", "/console/api/server", "all watcher boss"),
    ("GET", "/console/api/models", "all watcher boss"),
    ("GET", "/console/api/traffic?model=half_plus_two", "all watcher boss"),
    ("GET", "/console/api/models/half_plus_two", "all reader watcher"),
    ("GET", "/console/api/models/half%5Fplus_two", "all reader watcher"),
    ("GET", "/console/api/models/pair", "all watcher"),
    # What is nothing at all is told to every holder of a token.
    ("GET", "/console", "all caller reader watcher boss"),
    ("POST", "/", "all caller reader watcher boss"),
    ("GET", "/v1/other", "all caller reader watcher boss"),
    ("PUT", HALF, "all caller reader watcher boss"),
    ("POST", "/metrics", "all caller reader watcher boss"),
    ("POST", "/livez", "all caller reader watcher boss"),
    ("TRACE", "/", "all caller reader watcher boss"),
]


@pytest.mark.parametrize(("method", "path", "who"), REST, ids=[f"{one[0]} {one[1]}" for one in REST])
def test_rest(served: Served, file: TokenFile, method: str, path: str, who: str) -> None:
    body = json.dumps(GOOD) if method == "POST" else None

    def status(**headers: str) -> int:
        return ask(served, method, path, body, Origin="http://a.example", **headers).status

    anybody = who == "anybody"
    assert (status() == 401) != anybody
    assert (status(Authorization=f"Bearer {WRONG}") == 401) != anybody
    assert (status(X_API_Key=WRONG) == 401) != anybody
    for name, token in file.tokens.items():
        for headers in ({"Authorization": f"Bearer {token}"}, {"X_API_Key": token}):
            allowed = anybody or name in who.split()
            assert (status(**headers) not in (401, 403)) == allowed, name


def methods() -> list[str]:
    """Returns the paths of all methods that the core knows the messages of."""
    found = FileDescriptorSet.FromString(_core.descriptors())
    return [
        f"/{one.package}.{service.name}/{method.name}"
        for one in found.file
        for service in one.service
        for method in service.method
    ]


def asking_for(kind: str, model: str) -> bytes:
    request = own_message(kind)()
    if kind == "MultiInferenceRequest":
        request.tasks.add().model_spec.name = model
    else:
        request.model_spec.name = model
    return bytes(request.SerializeToString())


def check_of(service: str) -> bytes:
    return b"\n" + bytes([len(service)]) + service.encode()


def named(model: str) -> bytes:
    """Returns a request of the Open Inference Protocol for a model: its name is field 1 of all of them."""
    return b"\n" + bytes([len(model)]) + model.encode()


GRPC = [
    (PREDICTION + method, asking_for(kind, model), who)
    for model, who in (("half_plus_two", "all caller"), ("pair", "all"), ("missing", "all"))
    for method, kind in (
        ("Predict", "PredictRequest"),
        ("Classify", "ClassificationRequest"),
        ("Regress", "RegressionRequest"),
        ("MultiInference", "MultiInferenceRequest"),
    )
] + [
    (PREDICTION + "GetModelMetadata", asking_for("GetModelMetadataRequest", model), who)
    for model, who in (("half_plus_two", "all caller reader watcher"), ("pair", "all watcher"))
] + [
    (MODELS_SERVICE + "GetModelStatus", asking_for("GetModelStatusRequest", model), who)
    for model, who in (("half_plus_two", "all reader watcher"), ("pair", "all watcher"))
] + [
    (INFERENCE + method, named(model), who)
    for method, model, who in (
        ("ModelInfer", "half_plus_two", "all caller"),
        ("ModelInfer", "half_plus_two:serving_default", "all caller"),
        ("ModelInfer", "pair", "all"),
        ("ModelReady", "half_plus_two", "all reader watcher"),
        ("ModelReady", "pair", "all watcher"),
        ("ModelMetadata", "half_plus_two", "all caller reader watcher"),
        ("ModelMetadata", "pair", "all watcher"),
        ("ModelConfig", "half_plus_two", "all caller reader watcher"),
        ("ModelConfig", "pair", "all watcher"),
        ("ModelStatistics", "half_plus_two", "all reader watcher"),
        ("ModelStatistics", "pair", "all watcher"),
    )
] + [
    (INFERENCE + "ServerLive", b"", "anybody"),
    (INFERENCE + "ServerReady", b"", "anybody"),
    (INFERENCE + "ServerMetadata", b"", "all caller reader watcher boss"),
    # An error of a request is an answer there.
    (INFERENCE + "ModelStreamInfer", named("half_plus_two"), "all caller"),
    (INFERENCE + "ModelStatistics", b"", "all watcher"),
    (INFERENCE + "RepositoryIndex", b"", "all watcher boss"),
    # Clients of this server may change nothing, and this token could not.
    (INFERENCE + "RepositoryModelLoad", b"", ""),
    (INFERENCE + "RepositoryModelUnload", b"", ""),
    # There is none here, which callers are told.
    (INFERENCE + "SystemSharedMemoryStatus", b"", "all caller"),
    (INFERENCE + "SystemSharedMemoryRegister", b"", "all caller"),
    (INFERENCE + "SystemSharedMemoryUnregister", b"", "all caller"),
    # Empty messages, which change nothing.
    (MODELS_SERVICE + "HandleReloadConfigRequest", b"", "all boss"),
    *((f"/tensorflow.ProfilerService/{method}", b"", "all boss") for method in PROFILER),
    (HEALTH + "Check", b"", "anybody"),
    (HEALTH + "Check", check_of("PredictionService"), "all caller reader watcher boss"),
    (HEALTH + "Check", check_of("half_plus_two"), "all reader watcher"),
    (HEALTH + "Check", check_of("half_plus_two/1"), "all reader watcher"),
    (HEALTH + "Check", check_of("pair"), "all watcher"),
    (HEALTH + "Watch", b"", "all reader watcher"),
    (HEALTH + "Watch", check_of("half_plus_two"), "all reader watcher"),
    (HEALTH + "Watch", check_of("pair"), "all watcher"),
    *((path, b"", "all caller reader watcher boss") for path in REFLECTIONS),
    (HEALTH + "List", b"", "all boss"),
    ("/some.Service/Method", b"", "all boss"),
]  # fmt: skip


def test_the_list_of_methods_is_complete() -> None:
    known = {path for path, _, _ in GRPC}
    assert len(methods()) >= 10 and set(methods()) <= known


@pytest.mark.parametrize(("path", "request_message", "who"), GRPC)
def test_grpc(served: Served, file: TokenFile, path: str, request_message: bytes, who: str) -> None:
    anybody = who == "anybody"
    assert (grpc_call(served, path, request_message)[0] == "UNAUTHENTICATED") != anybody
    assert (grpc_call(served, path, request_message, WRONG)[0] == "UNAUTHENTICATED") != anybody
    for name, token in file.tokens.items():
        code, text = grpc_call(served, path, request_message, token)
        assert (code not in REFUSED) == (anybody or name in who.split()), (name, code, text)


def test_calls_that_are_refused_do_not_end_the_connection(served: Served) -> None:
    with Raw(served) as raw:
        assert_none_is_reset(raw, PREDICTION + "Predict", bytes(5), ("authorization", f"Bearer {WRONG}"))


def test_grpc_takes_api_keys(served: Served, file: TokenFile) -> None:
    with grpc.insecure_channel(served.grpc) as channel:
        method = channel.unary_unary(PREDICTION + "Predict")
        request = floats_request("half_plus_two", 2.0).SerializeToString()
        assert method(request, metadata=[("x-api-key", file.tokens["caller"])])


ADMINISTRATION = [
    ("GET", "/livez", "anybody"),
    ("GET", "/readyz", "anybody"),
    ("GET", "/readyz/half_plus_two", "all reader watcher"),
    ("GET", "/readyz/pair", "all watcher"),
    ("GET", "/metrics", "all watcher boss"),
    ("GET", "/admin/models", "all boss"),
    ("GET", "/admin/config", "all boss"),
    ("POST", "/admin/models/missing/reload", "all boss"),
    ("PATCH", "/admin/models/missing/labels", "all boss"),
    ("DELETE", "/admin/models/missing", "all boss"),
    ("GET", "/", "anybody"),
    ("GET", "/console/index.js", "anybody"),
    ("POST", "/", "all boss"),
    ("GET", "/other", "all boss"),
    ("GET", "/console/api/models", "all boss"),
    ("GET", "/console/api/changes", "all boss"),
    ("GET", f"{HALF}/metadata", "all boss"),
    ("POST", f"{HALF}:predict", "all boss"),
]


@pytest.mark.parametrize(("method", "path", "who"), ADMINISTRATION)
def test_administration(served: Served, file: TokenFile, method: str, path: str, who: str) -> None:
    with httpx.Client(base_url=admin(served)) as client:
        none = client.request(method, path)
        assert (none.status_code == 401) == (who != "anybody")
        assert (none.headers.get("www-authenticate") == "Bearer") == (who != "anybody")
        for name, token in file.tokens.items():
            status = client.request(method, path, headers={"Authorization": f"Bearer {token}"}).status_code
            assert (status not in (401, 403)) == (who == "anybody" or name in who.split()), name


def test_the_administrations_own_token_goes_with_them(file: TokenFile) -> None:
    flags = [ADMIN, file.flag]
    environment = {"SERVABLE_ADMIN_TOKEN": "secret"}
    with serving(MODELS / "half_plus_two", *flags, environment=environment) as served:
        url = f"{admin_url(served)}/admin/models"
        for token, status in [
            ("secret", 200),
            (file.tokens["boss"], 200),
            (file.tokens["caller"], 403),
            (WRONG, 401),
        ]:
            assert httpx.get(url, headers={"Authorization": f"Bearer {token}"}).status_code == status
        assert httpx.get(url).status_code == 401
        assert ask(served, "GET", HALF, Authorization="Bearer secret").status == 401, "it is no other port's"
        for variable, code in [("SERVABLE_TOKEN", 0), ("SERVABLE_ADMIN_TOKEN", 1)]:
            environment = {
                "SERVABLE_ADMIN_TOKEN": "",
                variable: file.tokens["boss" if code == 0 else "reader"],
            }
            command = [sys.executable, "-m", "servable", "models", f"--admin_address={admin_url(served)}"]
            listed = subprocess.run(
                command, env={**os.environ, **environment}, capture_output=True, text=True
            )
            assert listed.returncode == code, listed.stderr
            assert "half_plus_two" in listed.stdout if code == 0 else "manage" in listed.stderr


# ---- refusals


def test_refusals_say_what_to_do(served: Served, file: TokenFile) -> None:
    missing = get(served, HALF)
    assert (missing.status, missing.headers["www-authenticate"]) == (401, "Bearer")
    assert "X-API-Key" in missing.error
    wrong_secret, unknown = get(served, HALF, WRONG), get(served, HALF, WRONG.replace("all", "nobody"))
    assert wrong_secret.body == unknown.body and wrong_secret.status == 401
    forbidden = predict(served, "half_plus_two", GOOD, Authorization=file.bearer("reader"))
    assert (forbidden.status, "www-authenticate" in forbidden.headers) == (403, False)
    assert forbidden.error == "Token reader is not for this: it needs the scope predict"
    elsewhere = predict(served, "pair", GOOD, Authorization=file.bearer("caller"))
    assert elsewhere.error == "Token caller is not for model pair"
    nowhere = predict(served, "missing", GOOD, Authorization=file.bearer("caller"))
    assert (nowhere.status, nowhere.error) == (403, "Token caller is not for model missing"), "nor told of"
    code, text = grpc_call(
        served, PREDICTION + "Predict", asking_for("PredictRequest", "pair"), file.tokens["caller"]
    )
    assert (code, text) == ("PERMISSION_DENIED", "Token caller is not for model pair")


def test_a_large_body_is_not_read_for_nothing(served: Served, file: TokenFile) -> None:
    """The answer comes while most of the body is still to come; a small one costs nobody the connection."""
    with Wire(served) as wire:
        head = message("POST", f"{HALF}:predict", None, Content_Length=str(1 << 30))
        reply = wire.send(head).reply()
        assert (reply.status, reply.headers["connection"]) == (401, "close")
    with Wire(served) as wire:
        body = json.dumps(GOOD)
        assert wire.send(message("POST", f"{HALF}:predict", body)).reply().status == 401
        again = message("POST", f"{HALF}:predict", body, Authorization=file.bearer("caller"))
        assert wire.send(again).reply().status == 200
    with Wire(served) as wire:
        head = message(
            "POST", f"{HALF}:predict", None, Content_Length="9", Authorization=file.bearer("caller")
        )
        assert wire.send(head).send(b"{}       ").reply().status == 400


def test_browsers_of_other_origins_may_send_tokens(served: Served, file: TokenFile) -> None:
    preflight = ask(served, "OPTIONS", f"{HALF}:predict", Origin="http://a.example")
    assert "Authorization" in preflight.headers["access-control-allow-headers"]
    refused = get(served, HALF)
    assert (refused.status, refused.headers["access-control-allow-origin"]) == (401, "*")


def test_over_tls_and_http2(file: TokenFile, tmp_path: Path) -> None:
    authority = Authority()
    authority.issue("server").write(tmp_path, "server")
    flags = [f"--tls_cert_file={tmp_path / 'server.pem'}", f"--tls_key_file={tmp_path / 'server.key'}"]
    with (
        serving(MODELS / "half_plus_two", file.flag, *flags) as served,
        httpx.Client(
            base_url=f"https://127.0.0.1:{served.rest_port}", verify=authority.trusting(), http2=True
        ) as client,
    ):
        refused = client.post(f"{HALF}:predict", json={"instances": [1.0] * 100_000})
        assert (refused.http_version, refused.status_code) == ("HTTP/2", 401)
        assert refused.headers["www-authenticate"] == "Bearer"
        headers = {"Authorization": file.bearer("caller")}
        assert client.post(f"{HALF}:predict", json=GOOD, headers=headers).json() == {"predictions": [3.0]}
        assert client.get(HALF, headers=headers).status_code == 403


def test_the_drop_in_has_the_flag(file: TokenFile, tmp_path: Path) -> None:
    """TensorFlow Serving's page of metrics needs a token, and its Unix socket."""
    path = tmp_path / "s"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = f"--rest_api_port={free.getsockname()[1]}"
    flags = [f"--grpc_socket_path={path}", "--port=0", port, monitoring(tmp_path)]
    base = f"--model_base_path={MODELS / 'half_plus_two'}"
    with serving(base, "--model_name=half_plus_two", *flags, file.flag, command=DROP_IN) as served:
        assert [get(served, PAGE).status, get(served, PAGE, file.tokens["reader"]).status] == [401, 403]
        assert get(served, PAGE, file.tokens["watcher"]).status == 200
        assert ask(served, "POST", PAGE, "").status == 401
        with grpc.insecure_channel(f"unix:{path}") as channel:
            method = channel.unary_unary(PREDICTION + "Predict")
            request = floats_request("half_plus_two", 2.0).SerializeToString()
            with pytest.raises(grpc.RpcError) as refused:
                method(request)
            assert refused.value.code().name == "UNAUTHENTICATED"
            assert method(request, metadata=[("authorization", file.bearer("caller"))])


# ---- what is told


def test_names_are_logged_and_secrets_are_not(served: Served, file: TokenFile) -> None:
    log = file.path.with_name("access.log")
    predict(served, "half_plus_two", GOOD, Authorization=file.bearer("caller"), X_Request_Id="by-rest")
    ask(served, "GET", HALF, Authorization=f"Bearer {WRONG}", X_Request_Id="by-nobody")
    with grpc.insecure_channel(served.grpc) as channel:
        metadata = [("authorization", file.bearer("caller")), ("x-request-id", "by-grpc")]
        request = floats_request("half_plus_two", 2.0).SerializeToString()
        channel.unary_unary(PREDICTION + "Predict")(request, metadata=metadata)
    lines: dict[str, dict[str, str]] = {}

    def complete() -> bool:
        read = [json.loads(line) for line in log.read_text().splitlines()]
        lines.update({line["request_id"]: line for line in read})
        return {"by-rest", "by-grpc", "by-nobody"} <= lines.keys()

    assert until(complete)
    assert (lines["by-rest"]["client"], lines["by-grpc"]["client"]) == ("caller", "caller")
    assert "client" not in lines["by-nobody"]
    everything = log.read_text() + served.log
    for token in [*file.tokens.values(), WRONG]:
        assert token.rpartition(".")[2][:10] not in everything


def test_refusals_are_counted_by_reason(served: Served, file: TokenFile) -> None:
    def counts() -> dict[str, int]:
        text = get(served, "/metrics", file.tokens["watcher"]).text
        rows = [line for line in text.splitlines() if line.startswith("servable_requests_denied_total{")]
        return {row.split('"')[1]: int(row.split()[-1]) for row in rows}

    before = counts()
    assert set(before) == {"no_token", "invalid_token", "scope", "model", "rate", "in_flight"}
    get(served, HALF)
    get(served, HALF, WRONG)
    get(served, HALF, file.tokens["boss"])
    predict(served, "pair", GOOD, Authorization=file.bearer("caller"))
    after = counts()
    assert {reason for reason in after if after[reason] == before[reason] + 1} == {
        "no_token",
        "invalid_token",
        "scope",
        "model",
    }


# ---- the client


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_the_client_shows_its_token(
    served: Served, file: TokenFile, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = served.rest if protocol == "rest" else f"grpc://{served.grpc}"
    with Client(address, token=file.tokens["caller"]) as client:
        assert client.predict("half_plus_two", [2.0])[0] == 3.0
        with pytest.raises(PermissionDeniedError):
            client.predict("pair", {"x": [1.0]})
    monkeypatch.setenv("SERVABLE_TOKEN", file.tokens["caller"])
    with Client(address) as client:
        assert client.predict("half_plus_two", [2.0])[0] == 3.0
    for options in ({"token": ""}, {"headers": {"Authorization": f"Bearer {WRONG}"}}, {"token": WRONG}):
        with Client(address, **options) as client, pytest.raises(UnauthenticatedError) as refused:  # type: ignore[arg-type]
            client.status("half_plus_two")
        assert "AAA" not in str(refused.value) + repr(refused.value)


async def _asked(address: str, token: str) -> float:
    async with AsyncClient(address, token=token) as client:
        return float((await client.predict("half_plus_two", [2.0]))[0])


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_so_does_the_one_with_await(served: Served, file: TokenFile, protocol: str) -> None:
    address = served.rest if protocol == "rest" else f"grpc://{served.grpc}"
    assert asyncio.run(_asked(address, file.tokens["caller"])) == 3.0


def test_so_does_the_command(served: Served, file: TokenFile) -> None:
    command = [sys.executable, "-m", "servable", "predict", "half_plus_two", "2", "--server", served.rest]
    for token, status in [(file.tokens["caller"], 0), (WRONG, 1), ("", 1)]:
        environment = {**os.environ, "SERVABLE_TOKEN": token}
        asked = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert asked.returncode == status, asked.stderr
        assert "AAA" not in asked.stderr
