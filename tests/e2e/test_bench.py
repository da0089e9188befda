"""``servable bench`` on a real server: REST and gRPC, tokens, TLS, recorded payloads."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from certificates import Authority
from clients import answer
from conftest import SHARED, Served
from model_configs import config_file, entry
from servers import MODELS, WITH_GRPC, serving
from stubs import own_message
from tokens import TokenFile

from servable.cli.bench import bench
from servable.cli.warmup import warmup

pytestmark = pytest.mark.needs_tensorflow

SHORT = ("--requests=200", "--warm-up=0", "--concurrency=4")


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    names = ("half_plus_two", "echo", "pair", "narrow")
    with serving(*(MODELS / name for name in names), WITH_GRPC) as served:
        yield served


def record(path: Path) -> dict[str, object]:
    (sample,) = json.loads(path.read_text())["samples"]
    assert isinstance(sample, dict)
    return sample


def url(served: Served, protocol: str, name: str) -> str:
    return f"{served.rest}/v1/models/{name}" if protocol == "rest" else f"grpc://{served.grpc}/{name}"


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
@pytest.mark.parametrize("name", ["half_plus_two", "echo", "pair"])
def test_requests_made_up_are_answered(served: Served, protocol: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    assert bench([url(served, protocol, name), *SHORT, "--batch=2", f"--json={path}"]) == 0
    sample = record(path)
    assert (sample["requests"], sample["all"]["failures"]) == (200, [])  # type: ignore[index]
    assert sample["server"]["cpu"] > 0, "the server is on this machine"  # type: ignore[index]
    assert sample["generator_cpu_us"] > 0  # type: ignore[operator]


def test_narrow_dtypes_go_over_grpc(served: Served) -> None:
    assert bench([url(served, "grpc", "narrow"), *SHORT]) == 0


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_an_open_loop_is_answered(served: Served, protocol: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    rate = ["--rate=500", "--arrivals=poisson", "--requests=100", "--warm-up=100ms", "--threads=2"]
    assert bench([url(served, protocol, "half_plus_two"), *rate, f"--json={path}"]) == 0
    sample = record(path)
    assert sample["requests"] == sample["lag"]["count"] == 100  # type: ignore[index]


def test_the_server_counts_as_many_requests(tmp_path: Path) -> None:
    with serving(MODELS / "half_plus_two", "--metrics_path=/metrics") as served:
        import urllib.request

        assert bench([f"{served.rest}/v1/models/half_plus_two/versions/1", *SHORT]) == 0
        with urllib.request.urlopen(f"{served.rest}/metrics") as page:
            text = page.read().decode()
    lines = [line for line in text.splitlines() if "half_plus_two" in line and line.rstrip().endswith(" 201")]
    assert lines, text


def test_a_model_that_is_not_there(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench([url(served, "rest", "nobody"), *SHORT]) == 1
    assert "HTTP 404" in capsys.readouterr().err
    assert bench([url(served, "grpc", "nobody"), *SHORT]) == 1
    assert "NOT_FOUND" in capsys.readouterr().err
    assert bench([url(served, "rest", "half_plus_two"), *SHORT, "--signature=none"]) == 1
    assert "no signature none" in capsys.readouterr().err


def test_the_wrong_port_is_said_so(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench([f"http://{served.grpc}/v1/models/half_plus_two", *SHORT, "--timeout=5"]) == 1
    assert bench([f"grpc://127.0.0.1:{served.rest_port}/half_plus_two", *SHORT, "--timeout=5"]) == 1
    assert capsys.readouterr().err.count("servable bench: ") == 2


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_the_requests_of_a_payload_log_are_sent_again(
    base: Path, tmp_path: Path, protocol: str, capsys: pytest.CaptureFixture[str]
) -> None:
    prefix = tmp_path / "logs" / "of-m"
    logging = {
        "logCollectorConfig": {"type": "tfrecord", "filenamePrefix": str(prefix)},
        "samplingConfig": {"samplingRate": 1.0},
    }
    config = config_file(tmp_path, entry("m", base, loggingConfig=logging))
    with serving(f"--model_config_file={config}", WITH_GRPC) as served:
        assert [answer(served, "m", x) for x in (2.0, 4.0)] == [3.0, 4.0]
    (log,) = prefix.parent.glob("of-m-*")
    with serving(base, WITH_GRPC) as served:
        assert bench([url(served, protocol, "m"), *SHORT, f"--log={log}"]) == 0


def test_a_warm_up_file_and_a_body_are_requests(served: Served, base: Path, tmp_path: Path) -> None:
    assert warmup(["make", str(base), "--request", '{"instances": [1.0, 2.0]}']) == 0
    file = base / "1" / "assets.extra" / "tf_serving_warmup_requests"
    assert bench([url(served, "rest", "half_plus_two"), *SHORT, f"--log={file}"]) == 0
    body = tmp_path / "body.json"
    body.write_text('{"instances": [1.0, 2.0]}')
    assert bench([url(served, "rest", "half_plus_two"), *SHORT, f"--body={body}"]) == 0
    message = own_message("PredictRequest")()
    message.model_spec.name = "half_plus_two"
    message.inputs["x"].dtype = 1
    message.inputs["x"].tensor_shape.dim.add(size=1)
    message.inputs["x"].float_val.append(1.0)
    body.write_bytes(message.SerializeToString())
    assert bench([url(served, "grpc", "half_plus_two"), *SHORT, f"--body={body}"]) == 0
    body.write_text("{")
    assert bench([url(served, "rest", "half_plus_two"), *SHORT, f"--body={body}"]) == 1


@pytest.mark.needs_shared
def test_a_model_of_pictures_gets_pictures(tmp_path: Path) -> None:
    with serving(f"m={SHARED / 'mobilenet' / 'mobilenet_v2'}", WITH_GRPC) as served:
        few = ("--requests=6", "--warm-up=0", "--concurrency=2")
        assert bench([url(served, "rest", "m"), *few]) == 0
        photos = SHARED / "mobilenet" / "photos"
        assert bench([url(served, "grpc", "m"), *few, f"--pictures={photos}", "--batch=2"]) == 0


def test_a_token_and_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority()
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    authority.issue("server").write(tmp_path, "server")
    file = TokenFile(tmp_path / "tokens")
    token = file.add("all", "predict,read")
    file.write()
    tls = [f"--tls_cert_file={tmp_path / 'server.pem'}", f"--tls_key_file={tmp_path / 'server.key'}"]
    with serving(MODELS / "half_plus_two", WITH_GRPC, file.flag, *tls) as served:
        urls = [
            f"https://localhost:{served.rest_port}/v1/models/half_plus_two",
            f"grpcs://localhost:{served.grpc_port}/half_plus_two",
        ]
        monkeypatch.setenv("SERVABLE_TOKEN", token)
        trusting = f"--ca-file={tmp_path / 'ca.pem'}"
        assert [bench([one, *SHORT, trusting]) for one in urls] == [0, 0]
        assert [bench([one, *SHORT]) for one in urls] == [1, 1], "its certificate is not trusted"
        monkeypatch.setenv("SERVABLE_TOKEN", "servable.all." + "A" * 43)
        assert [bench([one, *SHORT, trusting]) for one in urls] == [1, 1]


def test_the_command_of_the_readme(served: Served) -> None:
    command = [sys.executable, "-m", "servable", "bench", url(served, "rest", "half_plus_two"), *SHORT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "answers/s" in done.stdout
