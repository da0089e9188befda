"""The console in a real Chromium, with a real server. The docs' pictures are taken here."""

from __future__ import annotations

import random
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
import requests
from conftest import ROOT, Served
from google.protobuf import json_format
from servers import ADMIN, FRIENDLY, MODELS, ONE_TRY, WITH_GRPC, admin_url, put_version, serving, until
from visiting import Visitor, picture, serious

from servable.messages import message_class

pytestmark = pytest.mark.needs_tensorflow
PANDA = ROOT / "examples" / "mobilenet_v2" / "panda.jpg"


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """A server with models that load, and one that does not."""
    models = [MODELS / name for name in ("half_plus_two", "pair", "echo", "unknown_op")]
    with serving(*models, ONE_TRY, ADMIN, WITH_GRPC) as server:
        yield server


@pytest.fixture(scope="module")
def photos() -> Iterator[Served]:
    """A server with MobileNetV2, which takes a picture's file."""
    making = (
        "import sys; sys.path.insert(0, 'examples'); import demo_models; demo_models.make('mobilenet_v2')"
    )
    subprocess.run([sys.executable, "-c", making], cwd=ROOT, check=True)
    models = [ROOT / "build" / "demo" / "models" / "mobilenet_v2", MODELS / "half_plus_two", MODELS / "pair"]
    with serving(*models, ADMIN, WITH_GRPC) as server:
        yield server


def ask(served: Served, times: int) -> None:
    """Sends requests, some of them wrong."""
    url = f"{served.rest}/v1/models/half_plus_two:predict"
    for number in range(times):
        values = ["no number" if number % 50 == 49 else number]
        requests.post(url, json={"instances": values}, timeout=30)


@pytest.mark.in_every_run
def test_models_are_seen_and_tried(visitor: Visitor, served: Served) -> None:
    """One shape of everything: the list, a failure with advice, a form, an answer, what axe says."""
    page = visitor.open(served.rest)
    page.get_by_role("link", name="half_plus_two").wait_for()
    row = page.get_by_role("row").filter(has_text="half_plus_two")
    row.get_by_text("available").first.wait_for()
    row.get_by_text("tensorflow").wait_for()
    assert serious(page) == []
    page.get_by_role("link", name="unknown_op").click()
    page.get_by_role("heading", name="What to do").wait_for()
    assert serious(page) == []
    page.get_by_role("link", name="All models").click()
    page.get_by_role("link", name="half_plus_two").click()
    page.get_by_role("cell", name="float32 [?]").first.wait_for()
    page.get_by_role("main").get_by_role("link", name="Try it").click()
    page.get_by_role("textbox", name="x").fill("1 2 5")
    page.get_by_role("button", name="Predict").click()
    page.get_by_role("main").get_by_text("Answered in").wait_for()
    assert page.locator(".answers .value").all_inner_texts() == ["2.5", "3", "4.5"]
    assert serious(page) == []


def test_a_picture_is_recognised(visitor: Visitor, photos: Served, tmp_path: Path) -> None:
    page = visitor.open(photos.rest)
    page.get_by_role("link", name="mobilenet_v2").click()
    page.get_by_role("main").get_by_role("link", name="Try it").click()
    page.locator("input[type=file]").set_input_files(PANDA)
    page.get_by_role("button", name="Predict").click()
    page.get_by_text("giant panda").first.wait_for()
    page.get_by_label("Signature").select_option(label="top5")
    page.locator("input[type=file]").set_input_files(PANDA)
    page.get_by_role("button", name="Predict").click()
    page.locator(".bars").wait_for()
    assert page.locator(".bars li").first.inner_text().startswith("giant panda")
    picture(page, "try")
    assert serious(page) == []
    # The lines to copy work beside the picture.
    (tmp_path / "panda.jpg").write_bytes(PANDA.read_bytes())
    for tab, program in (("curl", "bash"), ("Python (servable)", sys.executable), ("gRPC", sys.executable)):
        page.get_by_role("tab", name=tab, exact=True).click()
        code = page.locator("pre[data-language]").inner_text()
        done = subprocess.run([program, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert "giant panda" in done.stdout, (code, done.stderr)


def test_the_code_asks_the_same(visitor: Visitor, served: Served) -> None:
    page = visitor.open(f"{served.rest}/#/try/pair")
    for box in page.get_by_role("textbox").all():
        box.fill("1 2")
    page.get_by_role("button", name="Predict").click()
    page.get_by_role("main").get_by_text("Answered in").wait_for()
    programs = {"curl": "bash", "Python (servable)": sys.executable, "Python (requests)": sys.executable}
    for tab, program in programs.items():
        page.get_by_role("tab", name=tab, exact=True).click()
        code = page.locator("pre[data-language]").inner_text()
        done = subprocess.run([program, "-c", code], capture_output=True, text=True, timeout=60)
        assert (done.returncode, "sum" in done.stdout) == (0, True), (code, done.stderr)
    page.get_by_role("tab", name="grpcurl", exact=True).click()
    words = shlex.split(page.locator("pre[data-language]").inner_text())
    method = "tensorflow.serving.PredictionService/Predict"
    assert [words[0], words[-1]] == ["grpcurl", method]
    request = message_class("tensorflow.serving.PredictRequest")()
    sent = json_format.Parse(words[words.index("-d") + 1], request)
    with grpc.insecure_channel(served.grpc) as channel:
        answer = channel.unary_unary(f"/{method}")(sent.SerializeToString(), timeout=30)
    assert b"sum" in answer
    page.get_by_role("tab", name="JavaScript", exact=True).click()
    code = (
        page.locator("pre[data-language]")
        .inner_text()
        .replace("console.log(await answer.json())", "return answer.json()")
    )
    assert "predictions" in page.evaluate(f"(async () => {{ {code} }})()")


def test_the_pages_as_they_are(visitor: Visitor, served: Served) -> None:
    """What the docs show."""
    ask(served, 200)
    page = visitor.open(served.rest)
    page.get_by_role("link", name="unknown_op").wait_for()
    picture(page, "models")
    page.get_by_role("link", name="unknown_op").click()
    page.get_by_role("heading", name="What to do").wait_for()
    picture(page, "failure", MODELS)
    page.goto(f"{served.rest}/#/models/half_plus_two")
    page.get_by_role("cell", name="float32 [?]").first.wait_for()
    picture(page, "model", MODELS)


@pytest.mark.timeout(180)
def test_traffic_is_drawn(visitor: Visitor, served: Served) -> None:
    page = visitor.open(f"{served.rest}/#/traffic")

    def counted() -> bool:
        ask(served, random.Random(len(kept)).randrange(20, 300))
        kept[:] = requests.get(f"{served.rest}/console/api/traffic", timeout=30).json()["requests"]
        return sum(count > 0 for count in kept) >= 8

    kept: list[int] = []
    assert until(counted, 120)
    page.locator(".lead select").nth(1).select_option("300")
    legend = page.get_by_role("group", name="Requests per second").locator(".legend li").first
    page.wait_for_function(
        "(legend) => !/ 0 at most|– at most/.test(legend.innerText)", arg=legend.element_handle()
    )
    assert serious(page) == []
    picture(page, "traffic")
    page.locator(".lead select").nth(0).select_option(label="half_plus_two")
    page.get_by_role("heading", level=1, name="half_plus_two").wait_for()
    page.get_by_role("group", name="Latency").wait_for()


def test_models_are_managed(visitor: Visitor, served: Served, tmp_path: Path) -> None:
    base = tmp_path / "fresh"
    put_version("half_plus_two", base, 7)
    page = visitor.open(f"{admin_url(served)}/#/manage")
    page.get_by_label("Name", exact=True).fill("fresh")
    page.get_by_label("Path", exact=True).fill(str(base))
    page.get_by_role("button", name="Load", exact=True).click()
    page.get_by_role("status").get_by_text("fresh is available").wait_for()
    page.get_by_role("button", name="Labels fresh").click()
    page.get_by_role("dialog").get_by_label("Label", exact=True).fill("stable")
    page.get_by_role("button", name="Set the label").click()
    page.get_by_role("status").get_by_text("stable is version 7 now").wait_for()
    page.get_by_role("button", name="Close").click()
    page.get_by_role("button", name="Reload fresh").click()
    page.get_by_role("status").get_by_text("loaded from its files again").wait_for()
    page.get_by_role("heading", name="Last changes").wait_for()
    assert serious(page) == []
    page.evaluate("scrollTo(0, 0)")
    page.locator(".toast.shown").wait_for(state="detached")
    picture(page, "manage", MODELS, tmp_path)
    # The administration's address answers predictions, too.
    page.goto(f"{admin_url(served)}/#/try/fresh")
    page.get_by_role("button", name="Predict").click()
    page.get_by_role("main").get_by_text("Answered in").wait_for()
    page.goto(f"{admin_url(served)}/#/manage")
    page.get_by_role("button", name="Unload fresh").click()
    page.get_by_role("dialog").get_by_role("button", name="Unload").click()
    page.get_by_role("status").get_by_text("fresh is unloaded").wait_for()
    page.get_by_role("button", name="Unload fresh").wait_for(state="detached")


def test_a_warm_up_file_is_recorded(visitor: Visitor, served: Served) -> None:
    page = visitor.open(f"{admin_url(served)}/#/manage")
    page.get_by_role("button", name="Record half_plus_two").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Different requests").fill("3")
    with page.expect_download() as download:
        dialog.get_by_role("button", name="Record", exact=True).click()
        dialog.get_by_role("button", name="Recording…").wait_for()
        assert until(lambda: ask(served, 3) or not dialog.get_by_text("Recording…").count())
    assert download.value.suggested_filename == "tf_serving_warmup_requests"
    assert b"half_plus_two" in download.value.path().read_bytes()
    page.get_by_role("status").get_by_text("Recorded").wait_for()


def test_hostile_names_and_answers_are_text(visitor: Visitor, served: Served, tmp_path: Path) -> None:
    name = "<img src=x onerror=alert(1)>\u202e'\"`"
    base = tmp_path / "fresh"
    put_version("echo", base, 1)
    page = visitor.open(f"{admin_url(served)}/#/manage")
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("Path", exact=True).fill(str(base))
    page.get_by_role("button", name="Load", exact=True).click()
    page.get_by_role("status").get_by_text("is available").wait_for()
    page.goto(f"{admin_url(served)}/#/models")
    page.get_by_role("link", name="<img src=x").click()
    page.get_by_role("main").get_by_role("link", name="Try it").click()
    page.get_by_role("radio", name="Text").first.wait_for()
    for box in page.get_by_role("textbox").all():
        box.fill(f"{name}<script>alert(2)</script>")
    page.get_by_role("button", name="Predict").click()
    page.get_by_role("main").get_by_text("Answered in").wait_for()
    assert page.get_by_text("<script>alert(2)</script>").first.is_visible()
    assert page.locator("img, script:not([src])").count() == 0
    page.goto(f"{admin_url(served)}/#/manage")
    page.get_by_role("button", name="Unload <img").click()
    page.get_by_role("dialog").get_by_role("button", name="Unload").click()
    page.get_by_role("status").get_by_text("is unloaded").wait_for()


def test_a_refused_change_is_explained(visitor: Visitor, served: Served) -> None:
    visitor.expected = ("status of 4",)
    page = visitor.open(f"{admin_url(served)}/#/manage")
    page.get_by_role("button", name="Read the config file again").click()
    page.get_by_role("alert").get_by_text("--model_config_file").wait_for()


def test_the_server_goes_away_and_comes_back(visitor: Visitor) -> None:
    visitor.expected = ("net::ERR",)
    with serving(MODELS / "half_plus_two") as first:
        port = first.rest_port
        page = visitor.open(first.rest)
        page.get_by_role("link", name="half_plus_two").wait_for()
    page.get_by_role("alert").get_by_text("does not answer").wait_for()
    command = tuple(one for one in FRIENDLY if not one.startswith("--rest_api_port"))
    with serving(MODELS / "pair", f"--rest_api_port={port}", command=command):
        page.get_by_role("link", name="pair").wait_for()
        page.get_by_role("alert").wait_for(state="detached")


@pytest.mark.parametrize("visitor", ["dark"], indirect=True)
def test_the_dark_page(visitor: Visitor, photos: Served) -> None:
    page = visitor.open(f"{photos.rest}/#/try/mobilenet_v2")
    page.get_by_label("Signature").select_option(label="top5")
    page.locator("input[type=file]").set_input_files(PANDA)
    page.get_by_role("button", name="Predict").click()
    page.locator(".bars").wait_for()
    assert serious(page) == []
    picture(page, "dark")


@pytest.mark.timeout(300)
def test_a_thousand_models(visitor: Visitor, tmp_path: Path) -> None:
    base = tmp_path / "half_plus_two"
    put_version("half_plus_two", base, 1)
    entries = "".join(
        f'  config {{ name: "model-{number:04}" base_path: "{base}" model_platform: "tensorflow" }}\n'
        for number in range(1000)
    )
    config = tmp_path / "models.config"
    config.write_text(f"model_config_list {{\n{entries}}}\n")
    with serving(f"--model_config_file={config}", ready=r"Exporting HTTP/REST API") as many:
        page = visitor.open(many.rest)
        page.get_by_text("1–50 of 1,000 models").wait_for()
        page.get_by_role("searchbox").fill("0999")
        page.get_by_role("link", name="model-0999").click()
        page.get_by_role("heading", name="model-0999").wait_for()
        page.close()
