"""The console's page against a fake server: what no real one has at hand."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable

import pytest
from fake_server import (
    DIGITS,
    HALF_PLUS_TWO,
    HOSTILE,
    FakeServer,
    Scene,
    failed,
    hostile_models,
    model,
    signature,
    tensor,
    version,
)
from visiting import Visitor, picture, serious

Fake = Callable[[Scene], FakeServer]
PLACES = [
    "#/models",
    "#/models/m",
    "#/models/broken",
    "#/try",
    "#/try/m",
    "#/traffic",
    "#/traffic/m",
    "#/manage",
]
BOTH = pytest.mark.parametrize("visitor", ["light", "dark"], indirect=True)


def ordinary(manage: bool = False) -> Scene:
    """Returns a server with a few models of every standing."""
    loading = {"version": 4, "state": "LOADING", "loading_seconds": 3.2, "waits_for": "TensorFlow"}
    message = "Op type not registered 'Unknown' in binary"
    return Scene(
        [
            model("m", version(2), version(1), labels={"stable": 1, "canary": 2}),
            model("digits", version(1, {"serving_default": DIGITS})),
            model(
                "broken", failed(1, message, "Its graph needs an operation that TensorFlow does not have.")
            ),
            model("slow", loading),
        ],
        manage=manage,
    )


@BOTH
@pytest.mark.parametrize("place", PLACES)
def test_nothing_keeps_people_out(visitor: Visitor, fake: Fake, place: str) -> None:
    page = visitor.open(fake(ordinary(manage=True)).url + place)
    page.locator(".waiting").wait_for(state="detached")
    assert serious(page) == []


@BOTH
def test_dialogs_and_answers_keep_nobody_out(visitor: Visitor, fake: Fake) -> None:
    page = visitor.open(fake(ordinary(manage=True)).url + "#/manage")
    for action in ("Unload m", "Labels m", "Record m"):
        page.get_by_role("button", name=action, exact=True).click()
        page.get_by_role("dialog").wait_for()
        assert serious(page) == []
        page.keyboard.press("Escape")
        page.get_by_role("dialog").wait_for(state="detached")
    page.goto(page.url.partition("#")[0] + "#/try/m")
    page.get_by_role("button", name="Predict").click()
    page.get_by_role("main").get_by_text("Answered in").wait_for()
    assert serious(page) == []


@pytest.mark.in_every_run
def test_a_browser_without_a_locale_sees_the_page(visitor: Visitor, fake: Fake) -> None:
    """Chromium calls its language en-US@posix then, which is none."""
    no_language = "Object.defineProperty(Navigator.prototype, 'language', {get: () => 'en-US@posix'})"
    visitor.context.add_init_script(no_language)
    page = visitor.open(fake(ordinary()).url)
    page.get_by_role("link", name="digits").wait_for()
    page.goto(page.url.partition("#")[0] + "#/traffic/m")
    page.locator(".uplot").first.wait_for()


def test_a_thousand_models_are_searched_and_paged(visitor: Visitor, fake: Fake) -> None:
    page = visitor.open(fake(Scene([model(f"model-{number:04}") for number in range(1000)])).url)
    page.get_by_text("1–50 of 1,000 models").wait_for()
    assert page.locator("table.models tbody tr").count() == 50
    page.get_by_role("button", name="Next").click()
    page.get_by_role("link", name="model-0050").wait_for()
    page.get_by_text("51–100 of 1,000 models").wait_for()
    page.get_by_role("button", name="Previous").click()
    page.get_by_text("1–50 of 1,000 models").wait_for()
    page.get_by_role("searchbox").fill("0777")
    page.get_by_text("1–1 of 1 model", exact=True).wait_for()
    page.get_by_role("link", name="model-0777").click()
    page.get_by_role("heading", name="Version 1").wait_for()
    page.goto(page.url.partition("#")[0] + "#/models")
    page.get_by_role("searchbox").fill("nothing has this name")
    page.get_by_text("No model’s name contains").wait_for()


def test_changes_are_seen_without_reloading(visitor: Visitor, fake: Fake) -> None:
    server = fake(ordinary())
    page = visitor.open(server.url)
    page.get_by_role("link", name="broken").wait_for()
    server.scene.models.append(model("newcomer"))
    page.get_by_role("link", name="newcomer").wait_for()
    server.scene.models.clear()
    page.get_by_text("No models yet").wait_for()


def test_the_server_goes_away_and_comes_back(visitor: Visitor, fake: Fake) -> None:
    visitor.expected = ("net::ERR",)
    server = fake(ordinary())
    page = visitor.open(server.url)
    page.get_by_role("link", name="broken").wait_for()
    server.stop()
    page.get_by_role("alert").get_by_text("The server does not answer").wait_for()
    # What is known is still there.
    assert page.get_by_role("link", name="broken").is_visible()
    assert serious(page) == []
    server.scene.models.append(model("newcomer"))
    server.start()
    page.get_by_role("link", name="newcomer").wait_for()
    page.get_by_role("alert").wait_for(state="detached")
    page.get_by_text("Connected").wait_for()


def test_a_token_is_asked_for(visitor: Visitor, fake: Fake) -> None:
    visitor.expected = ("status of 401",)
    scene = ordinary()
    scene.token = "s3cret"
    page = visitor.open(fake(scene).url)
    page.get_by_role("dialog", name="A token is needed").wait_for()
    assert serious(page) == []
    page.get_by_role("textbox", name="Token").fill("wrong")
    page.keyboard.press("Enter")
    page.get_by_text("did not accept").wait_for()
    page.get_by_role("textbox", name="Token").fill("s3cret")
    page.keyboard.press("Enter")
    page.get_by_role("link", name="broken").wait_for()
    page.get_by_role("dialog").wait_for(state="detached")
    # The token lives as long as the tab, and is in no code.
    page.reload()
    page.get_by_role("link", name="broken").wait_for()
    page.goto(page.url.partition("#")[0] + "#/try/m")
    page.get_by_text("SERVABLE_TOKEN").first.wait_for()
    assert "s3cret" not in page.content()


def test_a_token_without_the_rights_is_no_dead_end(visitor: Visitor, fake: Fake) -> None:
    visitor.expected = ("status of 401", "status of 403")
    scene = ordinary(manage=True)
    scene.token, scene.weak_token = "s3cret", "weak"
    page = visitor.open(fake(scene).url)
    page.get_by_role("textbox", name="Token").fill("weak")
    page.keyboard.press("Enter")
    page.get_by_role("alert").get_by_text("does not have the rights").wait_for()
    page.get_by_role("main").get_by_role("button", name="Use another token").click()
    page.get_by_role("dialog", name="Use another token").wait_for()
    assert serious(page) == []
    # Who changes nothing keeps the token; the same is above, on every page.
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="detached")
    page.get_by_role("banner").get_by_role("button", name="Use another token").click()
    page.get_by_role("textbox", name="Token").fill("wrong")
    page.keyboard.press("Enter")
    page.get_by_text("did not accept").wait_for()
    page.get_by_role("textbox", name="Token").fill("s3cret")
    page.keyboard.press("Enter")
    page.get_by_role("link", name="broken").wait_for()
    page.get_by_role("alert").wait_for(state="detached")
    page.get_by_role("button", name="Use another token").click()
    page.get_by_role("button", name="Cancel").click()
    page.goto(page.url.partition("#")[0] + "#/manage")
    page.get_by_text("model_config_list").wait_for()


@pytest.mark.parametrize("index", range(len(HOSTILE)))
def test_hostile_names_harm_no_page(visitor: Visitor, fake: Fake, index: int) -> None:
    """Names of models, labels, signatures, tensors, errors, advice and answers, on every page."""
    name = HOSTILE[index]
    answers = {"predictions": [{text: text for text in HOSTILE}, dict.fromkeys(HOSTILE, HOSTILE)]}
    scene = Scene(hostile_models(), manage=True, predict=lambda request: answers)
    scene.changes = [
        {"at": 1.0, "what": text, "model": text, "outcome": text, "message": text} for text in HOSTILE
    ]
    server = fake(scene)
    page = visitor.open(server.url)
    page.locator("table.models tbody tr").nth(sorted(HOSTILE).index(name)).locator("a").click()
    page.get_by_role("heading", name="Version 2").wait_for()
    page.get_by_role("main").get_by_role("link", name="Try it").click()
    page.get_by_role("radio", name="JSON").first.wait_for()
    for chosen in page.get_by_role("radio", name="JSON").all():
        chosen.check()
    page.get_by_role("button", name="Predict").click()
    page.get_by_role("main").get_by_text("Answered in").wait_for()
    for tab in page.get_by_role("tab").all():
        tab.click()
    for place in ("#/traffic", "#/manage"):
        page.goto(f"{server.url}{place}")
        page.locator(".waiting").wait_for(state="detached")
        page.locator("option, table").first.wait_for(state="attached")
    # Nothing came alive: no element that the page did not make, no new title, no dialog (which is an error).
    assert page.locator("img, script:not([src])").count() == 0
    assert "owned" not in page.title()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_digit_is_drawn(visitor: Visitor, fake: Fake) -> None:
    asked = []

    def predict(request: dict[str, object]) -> dict[str, object]:
        asked.append(request)
        return {"predictions": [[0.01, 0.9, 0.02, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01]]}

    scene = ordinary()
    scene.predict = predict
    page = visitor.open(fake(scene).url + "#/try/digits")
    page.get_by_role("button", name="Predict").click()
    page.get_by_text("expected a drawing").wait_for()
    box = page.get_by_role("application", name="Drawing area").bounding_box()
    assert box is not None
    middle = box["x"] + box["width"] / 2
    page.mouse.move(middle, box["y"] + 30)
    page.mouse.down()
    page.mouse.move(middle + 4, box["y"] + box["height"] - 30, steps=8)
    page.mouse.up()
    page.get_by_text("expected a drawing").wait_for(state="detached")
    page.get_by_role("button", name="Predict").click()
    page.get_by_text("90 %").wait_for()
    assert page.locator(".bars li").first.inner_text().startswith("Class 1")
    picture(page, "digit")
    (row,) = asked[0]["instances"]
    lit = [(y, x) for y, line in enumerate(row) for x, (ink,) in enumerate(line) if ink > 0.5]
    assert (len(row), len(row[0])) == (28, 28)
    assert {y for y, _ in lit} >= set(range(6, 22))
    assert {x for _, x in lit} <= set(range(11, 17))


def test_a_digit_is_drawn_with_the_keyboard(visitor: Visitor, fake: Fake) -> None:
    asked = []
    scene = ordinary()
    scene.predict = lambda request: (asked.append(request), {"predictions": [[0.1] * 10]})[1]
    page = visitor.open(fake(scene).url + "#/try/digits")
    area = page.get_by_role("application", name="Drawing area for a digit: blank")
    area.focus()
    # A line down the middle, and one that is not drawn.
    page.keyboard.press("Space")
    for _ in range(14):
        page.keyboard.press("ArrowDown")
    page.get_by_role("status").get_by_text("Pen down, column 14, line 21 of 28").wait_for()
    page.keyboard.press("Space")
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    page.get_by_role("application", name="something is drawn").wait_for()
    assert serious(page) == []
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Clear"
    page.get_by_role("button", name="Predict").click()
    page.locator(".bars").wait_for()
    (row,) = asked[0]["instances"]
    lit = [(y, x) for y, line in enumerate(row) for x, (ink,) in enumerate(line) if ink > 0.5]
    assert {y for y, _ in lit} >= set(range(6, 22))
    assert {x for _, x in lit} <= set(range(11, 17))


def test_answers_are_shown_as_what_they_are(visitor: Visitor, fake: Fake) -> None:
    png = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
    outputs = [
        tensor(name, "DT_FLOAT", None) for name in ("heat", "picture", "labels", "scores", "file", "odd")
    ]
    colours = [[[x / 16, y / 16, 0.5] for x in range(16)] for y in range(16)]
    answer = {
        "heat": [[x * y for x in range(12)] for y in range(8)],
        "picture": colours,
        "labels": ["giant panda", "<b>bear</b>"],
        "scores": [0.75, 0.125],
        "file": {"b64": png},
        "odd": [[1, 2], [3]],
    }
    scene = ordinary()
    scene.models[0]["versions"][0]["signatures"] = {
        "serving_default": signature(HALF_PLUS_TWO["inputs"], outputs)
    }
    scene.predict = lambda request: {"predictions": [answer]}
    page = visitor.open(fake(scene).url + "#/try/m")
    page.get_by_role("button", name="Predict").click()
    page.get_by_role("img", name="Heat map of 8 × 12 values, from 0 to 77").wait_for()
    page.get_by_role("img", name="Picture of 16 × 16 pixels").wait_for()
    assert page.locator(".bars li").first.inner_text().split() == ["giant", "panda", "75", "%"]
    assert page.locator("img.preview").evaluate("image => image.naturalWidth") == 1
    assert page.get_by_text("<b>bear</b>").first.is_visible()
    assert serious(page) == []


def test_what_cannot_be_sent_is_said_at_its_field(visitor: Visitor, fake: Fake) -> None:
    page = visitor.open(fake(ordinary()).url + "#/try/m")
    field = page.get_by_role("textbox", name="x")
    field.fill("1 two 3")
    page.get_by_role("button", name="Predict").click()
    page.get_by_role("alert").get_by_text("expected numbers, got “two”").wait_for()
    field.fill("1 2 3")
    page.get_by_role("alert").wait_for(state="detached")
    field.press("Control+Enter")
    page.get_by_role("main").get_by_text("Answered in").wait_for()


def test_a_picture_is_taken_by_the_camera(visitor: Visitor, fake: Fake) -> None:
    asked = []
    scene = ordinary()
    photos = signature([tensor("image_bytes", "DT_STRING", [-1])], [tensor("label", "DT_STRING", [-1])])
    scene.models.append(model("photos", version(1, {"serving_default": photos})))
    scene.predict = lambda request: (asked.append(request), {"predictions": ["nothing"]})[1]
    server = fake(scene)
    visitor.context.grant_permissions(["camera"], origin=server.url)
    page = visitor.open(server.url + "#/try/photos")
    page.get_by_role("button", name="Use the camera").click()
    page.get_by_role("button", name="Take the picture").click()
    page.get_by_role("img", name="The chosen picture").wait_for()
    page.get_by_role("button", name="Predict").click()
    page.get_by_text("nothing", exact=True).wait_for()
    (row,) = asked[0]["instances"]
    assert base64.b64decode(row["b64"])[:3] == b"\xff\xd8\xff"


def test_models_are_managed(visitor: Visitor, fake: Fake) -> None:
    server = fake(ordinary(manage=True))
    page = visitor.open(server.url + "#/manage")
    page.get_by_label("Name", exact=True).fill("fresh")
    page.get_by_label("Path", exact=True).fill("/models/fresh")
    page.get_by_role("button", name="Load", exact=True).click()
    page.get_by_role("status").get_by_text("fresh is available").wait_for()
    page.get_by_role("button", name="Unload fresh").click()
    assert page.get_by_role("button", name="Cancel").evaluate("button => button === document.activeElement")
    page.get_by_role("dialog").get_by_role("button", name="Unload").click()
    page.get_by_role("status").get_by_text("fresh is unloaded").wait_for()
    page.get_by_role("button", name="Unload fresh").wait_for(state="detached")
    page.get_by_role("button", name="Labels m", exact=True).click()
    page.get_by_role("dialog").get_by_label("Label", exact=True).fill("__proto__")
    page.get_by_role("button", name="Set the label").click()
    page.get_by_role("status").get_by_text("__proto__ is version 2 now").wait_for()
    page.get_by_role("button", name="Remove stable").click()
    page.get_by_role("status").get_by_text("stable is removed").wait_for()
    page.get_by_role("button", name="Close").click()
    page.get_by_role("button", name="Reload m", exact=True).click()
    page.get_by_role("status").get_by_text("loaded from its files again").wait_for()
    page.get_by_role("cell", name="DELETE").wait_for()
    sent = [(method, path, json.dumps(body)) for method, path, body in server.scene.requests]
    assert sent == [
        ("PUT", "/admin/models/fresh", '{"base_path": "/models/fresh"}'),
        ("DELETE", "/admin/models/fresh", "null"),
        ("PATCH", "/admin/models/m/labels", '{"__proto__": 2}'),
        ("PATCH", "/admin/models/m/labels", '{"stable": null}'),
        ("POST", "/admin/models/m/reload", "null"),
    ]


def test_without_rights_nothing_is_managed(visitor: Visitor, fake: Fake) -> None:
    page = visitor.open(fake(ordinary()).url + "#/manage")
    page.get_by_text("--admin_address").first.wait_for()
    assert page.get_by_role("main").get_by_role("button").count() == 0


def test_the_keyboard_is_enough(visitor: Visitor, fake: Fake) -> None:
    page = visitor.open(fake(ordinary()).url)
    page.get_by_role("link", name="broken").wait_for()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    page.get_by_role("link", name="Traffic").focus()
    page.keyboard.press("Enter")
    page.get_by_role("group", name="Latency").wait_for()
    assert page.evaluate("document.activeElement.tagName") == "H1"
    page.get_by_text("As a table").first.focus()
    page.keyboard.press("Enter")
    page.get_by_role("columnheader", name="Requests").wait_for()


def test_the_theme_is_chosen_and_kept(visitor: Visitor, fake: Fake) -> None:
    page = visitor.open(fake(ordinary()).url)
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    light = page.evaluate(ground)
    page.get_by_role("button", name="Theme: as the system").click()
    page.get_by_role("button", name="Theme: light").click()
    page.get_by_role("button", name="Theme: dark").wait_for()
    dark = page.evaluate(ground)
    assert dark != light
    page.reload()
    page.get_by_role("button", name="Theme: dark").wait_for()
    assert page.evaluate(ground) == dark


def test_a_narrow_screen_has_no_sideways_scrolling(visitor: Visitor, fake: Fake) -> None:
    server = fake(ordinary(manage=True))
    page = visitor.open(server.url)
    page.set_viewport_size({"width": 360, "height": 720})
    for place in PLACES:
        page.goto(f"{server.url}{place}")
        page.locator(".waiting").wait_for(state="detached")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), place


def test_no_request_leaves_the_server(visitor: Visitor, fake: Fake) -> None:
    server = fake(ordinary(manage=True))
    asked: list[str] = []
    visitor.context.on("request", lambda request: asked.append(request.url))
    page = visitor.open(server.url)
    for place in PLACES:
        page.goto(f"{server.url}{place}")
        page.locator(".waiting").wait_for(state="detached")
    assert asked
    assert [url for url in asked if not url.startswith(server.url)] == []
