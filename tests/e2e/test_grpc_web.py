"""gRPC-Web and CORS on the REST port: what browsers send, and every rule broken once."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from certificates import Authority
from conftest import Served
from grpc_web import BINARY, PREDICT, TEXT, Answer, framed, post, read
from servers import MODELS, run_to_its_end, serving
from stubs import floats_request, own_message
from tokens import TokenFile
from wire import Wire, ask, message, predict

pytestmark = pytest.mark.needs_tensorflow

PAGE, OTHER = "https://a.example", "https://b.example"
ALLOW, EXPOSE = "access-control-allow-origin", "access-control-expose-headers"
ASKED = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": "x-grpc-web,content-type"}
HEALTH = "/grpc.health.v1.Health/"


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> TokenFile:
    file = TokenFile(tmp_path_factory.mktemp("tokens") / "tokens")
    file.add("all")
    file.add("pair", models="pair")
    return file


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    log = tmp_path_factory.mktemp("log") / "access.log"
    flags = ["--grpc_web", f"--cors_allowed_origins={PAGE},http://app.example:3000", "--access_log=all"]
    flags += [f"--access_log_file={log}", "--log_format=json", "--transfer_grace_seconds=2"]
    with serving(MODELS / "half_plus_two", MODELS / "loop", *flags, ready="2 of 2 models") as served:
        yield served


def request(*values: float, model: str = "half_plus_two") -> bytes:
    data: bytes = floats_request(model, *values).SerializeToString()
    return data


GOOD = framed(request(2.0))


def call(
    served: Served, data: bytes = GOOD, path: str = PREDICT, media_type: str = BINARY, **headers: str
) -> Answer:
    with Wire(served) as wire:
        return read(wire.send(post(data, path, media_type, **headers)).final_reply())


def values(answer: Answer) -> list[float]:
    return list(answer.one().outputs["y"].float_val)


# ---- calls


@pytest.mark.parametrize("media_type", [BINARY, f"{BINARY}+proto", TEXT, f"{TEXT}+proto", f"{BINARY}; x=y"])
def test_a_call_is_answered_in_its_form(served: Served, media_type: str) -> None:
    answer = call(served, media_type=media_type)
    assert values(answer) == [3.0]
    assert answer.trailers == {"grpc-status": "0"}
    text = media_type.startswith(TEXT)
    assert answer.reply.headers["content-type"] == f"{TEXT if text else BINARY}+proto"


@pytest.mark.parametrize(("sent", "accepted"), [(BINARY, TEXT), (TEXT, f"{BINARY}+proto")])
def test_the_answer_may_be_asked_for_in_the_other_form(served: Served, sent: str, accepted: str) -> None:
    answer = call(served, media_type=sent, Accept=accepted)
    assert values(answer) == [3.0]
    assert answer.reply.headers["content-type"].startswith(accepted.removesuffix("+proto"))


def test_other_methods_are_there_too(served: Served) -> None:
    asked = own_message("GetModelStatusRequest")()
    asked.model_spec.name = "half_plus_two"
    path = "/tensorflow.serving.ModelService/GetModelStatus"
    answer = call(served, framed(asked.SerializeToString()), path)
    assert answer.one("GetModelStatus").model_version_status[0].state == 30
    health = call(served, framed(b""), f"{HEALTH}Check", TEXT)
    assert (health.code, health.messages) == (0, [b"\x08\x01"])
    unknown = call(served, framed(b"\x0a\x04none"), f"{HEALTH}Check")
    assert (unknown.code, unknown.messages) == (5, [])


def test_text_may_be_padded_anywhere_and_come_in_any_pieces(served: Served) -> None:
    data = request(1.0, 2.0)
    header, rest = base64.b64encode(framed(data)[:5]), base64.b64encode(data)
    assert header.endswith(b"=")
    head, _, _ = post(b"", media_type=TEXT, Content_Length="0").partition(b"Content-Length: 0")
    with Wire(served) as wire:
        wire.send(head + b"Transfer-Encoding: chunked\r\n\r\n")
        for piece in (header[:3], header[3:] + rest[:1], rest[1:6], rest[6:]):
            wire.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        assert values(read(wire.send(b"0\r\n\r\n").final_reply())) == [2.5, 3.0]


def test_large_messages_go_both_ways(served: Served) -> None:
    many = [float(value) for value in range(200_000)]
    for media_type in (BINARY, TEXT):
        answer = call(served, framed(request(*many)), media_type=media_type)
        assert values(answer)[-1] == many[-1] / 2 + 2


def test_a_connection_serves_many_calls_and_rest_between_them(served: Served) -> None:
    with Wire(served) as wire:
        for media_type in (BINARY, TEXT, BINARY):
            assert values(read(wire.send(post(GOOD, media_type=media_type)).final_reply())) == [3.0]
            rest = message("POST", "/v1/models/half_plus_two:predict", '{"instances": [2.0]}')
            assert json.loads(wire.send(rest).final_reply().body) == {"predictions": [3.0]}


def test_identifiers_come_back(served: Served) -> None:
    answer = call(served, X_Request_Id="from-a-page")
    assert answer.reply.headers["x-request-id"] == "from-a-page"


def test_a_message_may_be_compressed(served: Served) -> None:
    packed = framed(gzip.compress(request(2.0)), flag=1)
    assert values(call(served, packed, Grpc_Encoding="gzip")) == [3.0]
    assert values(call(served, packed, media_type=TEXT, Grpc_Encoding="gzip")) == [3.0]


# ---- rules that are broken


@pytest.mark.parametrize("media_type", [BINARY, TEXT])
@pytest.mark.parametrize(
    ("data", "code", "text"),
    [
        (b"", 3, "the stream ended after 0 of 5 bytes"),
        (b"\x00\x00", 3, "the stream ended after 2 of 5 bytes"),
        (framed(request(2.0))[:-1], 3, "Expected one message: the stream ended"),
        (framed(b"\xff"), 3, "The request is not the message that this method takes"),
        (framed(request(2.0), flag=1), 13, "grpc-encoding does not say how"),
        (framed(request(2.0), flag=0x80), 13, "Expected a message to begin with 0 or 1"),
        (framed(request(2.0), flag=2), 13, "Expected a message to begin with 0 or 1"),
        (b"\x00\xff\xff\xff\xff" + request(2.0), 8, "Received message larger than max"),
        (framed(request(2.0, model="none")), 5, "Servable not found for request"),
        (framed(b""), 3, "Missing ModelSpec"),
    ],
)
def test_a_malformed_call_has_a_clear_status(
    served: Served, media_type: str, data: bytes, code: int, text: str
) -> None:
    answer = call(served, data, media_type=media_type)
    assert (answer.code, answer.messages, answer.reply.body) == (code, [], b"")
    assert text in answer.text
    assert values(call(served)) == [3.0]


@pytest.mark.parametrize("body", ["!!!!", "AAAA=AAA", "AAAAA", "AAAAAAA", "AA AAAA", "AAAA-_-_"])
def test_what_is_not_base64_is_told(served: Served, body: str) -> None:
    asked = message("POST", PREDICT, body, Content_Type=TEXT)
    with Wire(served) as wire:
        answer = read(wire.send(asked).final_reply())
    assert answer.code == 3 and "is not base64" in answer.text
    assert values(call(served)) == [3.0]


@pytest.mark.parametrize(
    ("media_type", "headers"),
    [
        (f"{BINARY}+json", {}),
        (f"{TEXT}+thrift", {}),
        (f"{BINARY}s", {}),
        (BINARY, {"Content_Encoding": "gzip"}),
    ],
)
def test_other_media_types_are_refused(served: Served, media_type: str, headers: dict[str, str]) -> None:
    with Wire(served) as wire:
        reply = wire.send(post(GOOD, media_type=media_type, **headers)).final_reply()
    assert (reply.status, reply.headers["connection"]) == (415, "close")
    assert reply.text.startswith("Unsupported Media Type: expected Content-Type application/grpc-web")


def test_what_is_not_grpc_web_is_not_taken_for_it(served: Served) -> None:
    for media_type in ("application/grpc", "application/grpc+proto", "text/plain", "application/json"):
        with Wire(served) as wire:
            assert wire.send(post(GOOD, media_type=media_type)).final_reply().status == 404, media_type
    assert ask(served, "GET", PREDICT, Content_Type=BINARY).status == 404
    nothing = call(served, path="/no.Service/Method")
    assert (nothing.code, nothing.text) == (12, "There is no method /no.Service/Method")
    assert call(served, path="/v1/models/half_plus_two:predict").code == 12


@pytest.mark.parametrize(
    "path",
    [
        f"{HEALTH}Watch",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        "/inference.GRPCInferenceService/ModelStreamInfer",
    ],
)
def test_what_streams_is_refused_at_once(served: Served, path: str) -> None:
    answer = call(served, framed(b""), path)
    assert answer.code == 12 and "streams" in answer.text


def test_rules_of_http_hold(served: Served) -> None:
    for broken, status in (
        ("Host: a\r\nHost: b\r\n", 400),
        ("Host: a\r\nTransfer-Encoding: gzip, chunked\r\n", 501),
        ("Host: a\r\nExpect: more\r\n", 417),
    ):
        head = f"POST {PREDICT} HTTP/1.1\r\nContent-Type: {BINARY}\r\n{broken}"
        length = "" if "Transfer" in broken else f"Content-Length: {len(GOOD)}\r\n"
        with Wire(served) as wire:
            reply = wire.send(f"{head}{length}\r\n".encode() + GOOD).final_reply()
            assert (reply.status, reply.headers["connection"]) == (status, "close"), broken


def test_a_body_that_stands_still_is_not_waited_for(served: Served) -> None:
    with Wire(served) as wire:
        wire.send(post(GOOD, Content_Length=str(len(GOOD)))[:-3])
        answer = read(wire.final_reply())
    assert answer.code == 4 and "came too slowly" in answer.text


def test_a_deadline_holds(served: Served) -> None:
    endless = own_message("PredictRequest")()
    endless.model_spec.name = "loop"
    tensor = endless.inputs["steps"]
    tensor.dtype = 9
    tensor.int64_val.append(2**62)
    late = call(served, framed(endless.SerializeToString()), Grpc_Timeout="200m")
    assert late.code == 4, late
    assert values(call(served, Grpc_Timeout="10S")) == [3.0]


def test_memory_and_sizes_hold(tmp_path: Path) -> None:
    flags = ["--grpc_web", "--max_memory_in_flight=4194304", "--max_request_bytes=2000000"]
    with serving(MODELS / "half_plus_two", *flags) as served:
        for media_type in (BINARY, TEXT):
            much = call(served, framed(request(*([1.0] * 490_000))), media_type=media_type)
            assert (much.code, much.messages) == (8, []) and "of memory" in much.text
            large = call(served, framed(request(*([1.0] * 600_000))), media_type=media_type)
            assert large.code == 8 and "larger than max" in large.text
            assert values(call(served, media_type=media_type)) == [3.0]


def test_tokens_hold(tokens: TokenFile) -> None:
    with serving(
        MODELS / "half_plus_two", "--grpc_web", f"--cors_allowed_origins={PAGE}", tokens.flag
    ) as served:
        assert values(call(served, Authorization=tokens.bearer("all"))) == [3.0]
        none = call(served, Origin=PAGE)
        assert (none.code, none.reply.headers[ALLOW]) == (16, PAGE), "a page may read why"
        assert call(served, Authorization="Bearer servable.all." + "A" * 43).code == 16
        assert call(served, Authorization=tokens.bearer("pair")).code == 7
        reload = "/tensorflow.serving.ModelService/HandleReloadConfigRequest"
        assert call(served, framed(b""), reload, Authorization=tokens.bearer("all")).code == 7
        assert call(served, framed(b""), f"{HEALTH}Check").code == 0, "of the server: for everybody"
        # Browsers send no token with the question whether they may send one.
        assert ask(served, "OPTIONS", PREDICT, Origin=PAGE, **ASKED).status == 204


# ---- other origins


@pytest.mark.parametrize("path", [PREDICT, "/v1/models/half_plus_two:predict", "/v2/models/m/infer"])
def test_a_page_is_told_what_it_may_send(served: Served, path: str) -> None:
    reply = ask(served, "OPTIONS", path, Origin=PAGE, **ASKED)
    assert (reply.status, reply.headers[ALLOW], reply.headers["vary"]) == (204, PAGE, "Origin")
    assert reply.headers["access-control-allow-methods"] == "GET, POST"
    allowed = set(reply.headers["access-control-allow-headers"].split(", "))
    assert allowed >= {
        "x-grpc-web",
        "grpc-timeout",
        "content-type",
        "authorization",
        "x-request-id",
        "x-user-agent",
    }
    assert "access-control-allow-credentials" not in reply.headers


@pytest.mark.parametrize("origin", [OTHER, "https://a.example:444", "https://A.example", "null", "*"])
def test_a_page_of_another_origin_is_not(served: Served, origin: str) -> None:
    reply = ask(served, "OPTIONS", PREDICT, Origin=origin, **ASKED)
    assert (reply.status, ALLOW in reply.headers) == (403, False)
    assert "--cors_allowed_origins" in reply.text
    answer = call(served, Origin=origin)
    assert values(answer) == [3.0] and ALLOW not in answer.reply.headers
    assert answer.reply.headers["vary"] == "Origin"


def test_answers_may_be_read_whatever_they_are(served: Served) -> None:
    broken = call(served, b"", Origin=PAGE).reply
    rest = predict(served, "none", {"instances": [1.0]}, Origin=PAGE)
    assert (broken.status, rest.status) == (200, 404)
    for reply in (call(served, Origin=PAGE).reply, broken, rest):
        assert reply.headers[ALLOW] == PAGE
        assert {"grpc-status", "grpc-message", "x-request-id"} <= set(reply.headers[EXPOSE].split(", "))


def test_nothing_but_the_api_is_shared(served: Served) -> None:
    for path in ("/livez", "/metrics", "/"):
        reply = ask(served, "GET", path, Origin=PAGE)
        assert ALLOW not in reply.headers, path
        assert ask(served, "OPTIONS", path, Origin=PAGE, **ASKED).status != 204, path


def test_what_is_no_preflight_is_rests(served: Served) -> None:
    assert ask(served, "OPTIONS", PREDICT, Origin=PAGE).status == 404
    assert ask(served, "OPTIONS", PREDICT, **ASKED).status == 404


def test_without_the_flags_there_is_none_of_it() -> None:
    with serving(MODELS / "half_plus_two") as served, Wire(served) as wire:
        assert wire.send(post(GOOD)).final_reply().status == 404
        assert ask(served, "OPTIONS", PREDICT, Origin=PAGE, **ASKED).status == 404
        assert ALLOW not in predict(served, "half_plus_two", {"instances": [1.0]}, Origin=PAGE).headers


def test_all_origins_and_tensorflow_servings_own_headers_beside_them() -> None:
    flags = ["--grpc_web", "--cors_allowed_origins=*", "--rest_api_enable_cors_support"]
    with serving(MODELS / "half_plus_two", *flags) as served:
        reply = call(served, Origin=OTHER).reply
        assert reply.headers[ALLOW] == "*" and "vary" not in reply.headers
        assert ask(served, "OPTIONS", PREDICT, Origin="null", **ASKED).status == 204
        own = ask(served, "OPTIONS", "/v1/models/m:predict", Origin=OTHER, **ASKED)
        assert own.status == 200 and own.headers["access-control-allow-methods"] == "POST, GET"


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (["--grpc_web", "--rest_api_port=off", "--port=0"], "--grpc_web is served on the REST port"),
        (["--cors_allowed_origins=https://a.example/"], "--cors_allowed_origins expects"),
    ],
)
def test_flags_that_cannot_be_meant_are_refused(flags: list[str], error: str) -> None:
    ended = run_to_its_end(MODELS / "half_plus_two", *flags)
    assert ended.returncode != 0 and error in ended.stderr


# ---- TLS, HTTP/2


def test_calls_come_over_http2_as_browsers_have_it_with_tls(tmp_path: Path) -> None:
    authority = Authority()
    certificate, key = authority.issue().write(tmp_path, "server")
    flags = ["--grpc_web", f"--cors_allowed_origins={PAGE}"]
    flags += [f"--tls_cert_file={certificate}", f"--tls_key_file={key}"]
    with serving(MODELS / "half_plus_two", *flags) as served:
        base = f"https://127.0.0.1:{served.rest_port}"
        for http2 in (True, False):
            with httpx.Client(base_url=base, verify=authority.trusting(), http2=http2) as client:
                for media_type in (BINARY, TEXT):
                    body = base64.b64encode(GOOD) if media_type == TEXT else GOOD
                    headers = {"content-type": media_type, "origin": PAGE}
                    reply = client.post(PREDICT, content=body, headers=headers)
                    assert reply.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
                    data = base64.b64decode(reply.content) if media_type == TEXT else reply.content
                    assert data.endswith(b"\x80\x00\x00\x00\x0fgrpc-status:0\r\n")
                    assert reply.headers[ALLOW] == PAGE
                asked = {name.replace("_", "-"): value for name, value in ASKED.items()}
                assert client.options(PREDICT, headers={"origin": PAGE, **asked}).status_code == 204
