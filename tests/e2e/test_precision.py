"""Lower precision, from outside: measured, taken where it is accurate, and never in the way of serving."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import requests
from conftest import SHARED, Served
from servers import ADMIN, DROP_IN, admin_url, serving, until

from servable.engines.precision import BF16_FLAGS, processor_flags

pytestmark = [
    pytest.mark.needs_tensorflow,
    pytest.mark.needs_shared,
    pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is not installed"),
]
slow = pytest.mark.timeout(300)  # it makes several models
needs_nncf = pytest.mark.skipif(
    find_spec("nncf") is None, reason="NNCF is not installed; `make test-int8` installs it"
)

PHOTOS = SHARED / "mobilenet" / "photos"
INT8 = "--engine_precision=int8"
SECONDS = 120.0
ANIMALS = ("cat", "cheetah", "chickadee", "dragonfly", "lion", "macaw", "samoyed")


@pytest.fixture(scope="module")
def photo_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that decodes photos, with photos as its warm-up requests."""
    folder = tmp_path_factory.mktemp("photo")
    shutil.copytree(SHARED / "mobilenet" / "mobilenet_v2" / "1", folder / "1", copy_function=shutil.copyfile)
    (folder / "1").chmod(0o755)
    bodies = [json.dumps(body(name)) for name in ANIMALS]
    (folder / "requests.jsonl").write_text("\n".join(bodies))
    run("warmup", "make", str(folder), "--request", f"@{folder / 'requests.jsonl'}")
    (folder / "requests.jsonl").unlink()
    return folder


def body(name: str) -> dict[str, Any]:
    return {"instances": [{"b64": base64.b64encode((PHOTOS / f"{name}.jpg").read_bytes()).decode()}]}


def run(*arguments: str, expected: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "servable", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == expected, done.stdout + done.stderr
    return done


def runs_in(served: Served) -> str:
    """Returns the engine of the default signature of a server's model ``m``."""
    model = requests.get(f"{admin_url(served)}/admin/models/m", timeout=30).json()
    return str(model["versions"][0]["engines"]["serving_default"]["engine"])


@slow
@needs_nncf
def test_int8_is_measured_and_serves_from_the_cache(photo_model: Path, tmp_path: Path) -> None:
    cache = f"--model_cache_dir={tmp_path / 'cache'}"
    # Forced: which one is faster is not for a test to say.
    flags = [cache, INT8, "--engine=openvino"]
    found = json.loads(run("optimize", f"m={photo_model}", *flags, "--json").stdout)["m"]
    default, ranked = found["serving_default"], found["top5"]
    assert default["engine"] == "tensorflow + openvino int8", found
    assert default["candidates"][-1]["agreement"] >= 0.9
    # Five ranks of a photo do not stay; then nothing of it is in int8, and it says so.
    assert "int8" not in ranked["engine"] and ranked["reason"].startswith("not in int8: only "), found
    made = sorted((tmp_path / "cache" / "engines").glob("*-int8-*/model.xml"))
    assert made
    before = [path.stat().st_mtime_ns for path in made]
    with serving(f"m={photo_model}", ADMIN, *flags) as served:
        assert until(lambda: runs_in(served) == "tensorflow + openvino int8", SECONDS), served.log
        answer = requests.post(f"{served.rest}/v1/models/m:predict", json=body("panda"), timeout=60)
    assert answer.json() == {"predictions": ["giant panda"]}
    assert [path.stat().st_mtime_ns for path in made] == before, "it was made again"


@slow
@needs_nncf
def test_without_requests_and_with_a_broken_nncf_it_stays_in_32_bits(
    photo_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = f"--model_cache_dir={tmp_path / 'cache'}"
    bare = SHARED / "mobilenet" / "mobilenet_v2_float"
    flags = ["--engine=openvino", cache, INT8, "--json"]
    found = json.loads(run("optimize", f"m={bare}", *flags).stdout)["m"]["serving_default"]
    assert found["engine"] == "openvino"
    assert "none is known but made-up ones" in found["reason"]
    package = tmp_path / "first" / "nncf"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    monkeypatch.setenv("PYTHONPATH", str(package.parent), prepend=":")
    found = json.loads(run("optimize", f"m={photo_model}", *flags).stdout)["m"]["serving_default"]
    assert found["engine"] == "tensorflow + openvino"
    assert "could not be quantized: the process ended with signal: 9" in found["reason"]
    left = [path.name for path in (tmp_path / "cache" / "engines").iterdir()]
    assert not [name for name in left if "int8" in name or name.endswith(".new")], left


@pytest.mark.skipif(find_spec("nncf") is not None, reason="NNCF is installed")
def test_int8_without_nncf_is_refused_at_the_start(tmp_path: Path) -> None:
    half = str(SHARED / "mobilenet" / "mobilenet_v2_float")
    done = run("serve", half, INT8, expected=1)
    assert "FAILED_PRECONDITION" in done.stdout + done.stderr or "needs NNCF" in done.stdout
    assert 'pip install "servable[int8]"' in done.stderr


@slow
@pytest.mark.skipif(not processor_flags() & {*BF16_FLAGS}, reason="this processor has no bfloat16")
def test_bf16_is_measured_and_serves(photo_model: Path, tmp_path: Path) -> None:
    flags = [f"--model_cache_dir={tmp_path / 'cache'}", "--engine_precision=bf16", "--engine=openvino"]
    found = json.loads(run("optimize", f"m={photo_model}", *flags, "--json").stdout)["m"]
    default = found["serving_default"]
    assert default["engine"] == "tensorflow + openvino bf16", found
    assert default["candidates"][-1]["agreement"] >= 0.9
    with serving(f"m={photo_model}", ADMIN, *flags) as served:
        assert until(lambda: runs_in(served) == "tensorflow + openvino bf16", SECONDS), served.log
        answer = requests.post(f"{served.rest}/v1/models/m:predict", json=body("panda"), timeout=60)
    assert answer.json() == {"predictions": ["giant panda"]}


@slow
@pytest.mark.skipif(not processor_flags() & {*BF16_FLAGS}, reason="this processor has no bfloat16")
def test_bf16_is_not_taken_on_trust(tmp_path: Path) -> None:
    """The zeros of a synthetic warm-up say nothing of it."""
    bare = SHARED / "mobilenet" / "mobilenet_v2_float"
    flags = ["--engine=openvino", f"--model_cache_dir={tmp_path}", "--engine_precision=bf16", "--json"]
    found = json.loads(run("optimize", f"m={bare}", *flags).stdout)["m"]["serving_default"]
    assert found["engine"] == "openvino"
    assert "not in bf16: its accuracy is measured by requests, and none is known" in found["reason"]


@pytest.mark.skipif(bool(processor_flags() & {*BF16_FLAGS}), reason="this processor has bfloat16")
@pytest.mark.parametrize("command", ["serve", "optimize", "drop-in"])
def test_bf16_without_a_processor_for_it_is_refused_at_the_start(command: str) -> None:
    model = str(SHARED / "mobilenet" / "mobilenet_v2_float")
    bf16 = "--engine_precision=bf16"
    if command == "drop-in":
        program = [*DROP_IN, f"--model_base_path={model}", "--engine=auto", bf16]
        done = subprocess.run(program, capture_output=True, text=True, timeout=SECONDS, check=False)
        assert done.returncode != 0
    else:
        done = run(command, model, bf16, expected=1)
    assert "needs a processor with amx_bf16 or avx512_bf16" in done.stdout + done.stderr
    assert "leave the flag out" in done.stderr


def test_the_reference_alone_has_no_other_precision() -> None:
    model = str(SHARED / "mobilenet" / "mobilenet_v2_float")
    done = run("serve", model, "--engine=tensorflow", INT8, expected=2)
    assert "needs --engine=auto or --engine=openvino" in done.stderr
    done = run("serve", model, "--engine_precision=int4", expected=2)
    assert "engine_precision" in done.stderr and "f32, bf16, int8" in done.stderr
