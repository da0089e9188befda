"""How traffic is spread: what a configuration may say, how it is written, and the command."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from fake_core import FakeCore
from hypothesis import given, settings, strategies as st

from servable.admin.traffic import traffic_told
from servable.cli.traffic import parser, rules, told
from servable.config.base_paths import Way
from servable.config.config_files import config_text, model_from_fields, read_model_config_file
from servable.config.traffic import (
    Traffic,
    TrafficHeader,
    TrafficRollBack,
    TrafficShadow,
    TrafficShare,
    is_version,
)
from servable.config.traffic_check import check_traffic, traffic_warnings
from servable.config.traffic_messages import traffic_fields, traffic_from_fields
from servable.config.values import All, Folder, Latest, ModelConfig, Specific, VersionPolicy
from servable.errors import StatusError
from servable.lifecycle.traffic_table import TrafficTable

pytestmark = pytest.mark.usefixtures("descriptors")

LABELS = {"stable": 3, "canary": 4}
CANARY = Traffic(default_to="stable", shares=(TrafficShare("canary", 5.0),))


def model(traffic: Traffic | None, policy: VersionPolicy | None = None, name: str = "m") -> ModelConfig:
    return ModelConfig(name, f"/models/{name}", policy=policy or All(), labels=LABELS, traffic=traffic)


def refusal(traffic: Traffic, policy: VersionPolicy | None = None) -> str:
    """Returns the text of the refusal; "" if there is none."""
    try:
        check_traffic([model(traffic, policy)])
    except StatusError as error:
        assert error.code == "INVALID_ARGUMENT"
        return error.message.removeprefix("Traffic of model m: ")
    return ""


def spread(**changes: Any) -> Traffic:
    return dataclasses.replace(CANARY, **changes)


def rule(**changes: Any) -> Traffic:
    return spread(roll_back=TrafficRollBack(**{"max_error_percent": 5.0, **changes}))


# ---- what may be said


@pytest.mark.parametrize(
    ("traffic", "said"),
    [
        (Traffic(), "neither a share, a header nor a shadow"),
        (spread(shares=(TrafficShare("canary", -0.1),)), "expects a percentage from 0 to 100, got -0.1"),
        (spread(shares=(TrafficShare("canary", 100.1),)), "from 0 to 100"),
        (spread(shares=(TrafficShare("canary", float("nan")),)), "from 0 to 100, got nan"),
        (spread(shares=(TrafficShare("canary", float("inf")),)), "from 0 to 100, got inf"),
        (spread(shares=(TrafficShare("canary", 0.00001),)), "4 digits after the point at most"),
        (spread(shares=(TrafficShare("canary", 60), TrafficShare("5", 40.0001))), "100.0001 % together"),
        (spread(shares=(TrafficShare("canary", 5), TrafficShare("canary", 5))), "canary has two"),
        (spread(shares=(TrafficShare("stable", 5),)), "stable is the default"),
        (spread(shares=tuple(TrafficShare(str(n), 1) for n in range(9))), "9 shares; 8 are the most"),
        (spread(shares=(TrafficShare("", 5),)), "a version or a label"),
        (spread(shares=(TrafficShare("next", 5),)), "its labels: canary, stable"),
        (spread(shares=(TrafficShare("-4", 5),)), "-4 is neither a version nor a label"),
        (spread(shares=(TrafficShare("9" * 20, 5),)), "neither a version nor a label"),
        (spread(default_to="gone"), "gone is neither a version nor a label"),
        (spread(headers=(TrafficHeader("x canary", "1", "canary"),)), "'x canary' cannot be the name"),
        (spread(headers=(TrafficHeader("x-canary", "", "canary"),)), "printable ASCII letters"),
        (spread(headers=(TrafficHeader("x-canary", "a\nb", "canary"),)), "printable ASCII letters"),
        (spread(headers=(TrafficHeader("x-canary", " a", "canary"),)), "without spaces around it"),
        (spread(headers=(TrafficHeader("x", "1", "canary"),) * 17), "17 headers; 16 are the most"),
        (spread(key_header=":path"), "':path' cannot be the name of a header"),
        (Traffic(key_header="x", headers=(TrafficHeader("x", "1", "4"),)), "a key_header needs shares"),
        (spread(shadow=TrafficShadow("canary", 0)), "above 0"),
        (spread(shadow=TrafficShadow("canary", 1, tolerance=2)), "tolerance expects a number from 0 to 1"),
        (spread(shadow=TrafficShadow("canary", 1, timeout_seconds=0)), "timeout_seconds expects"),
        (Traffic("stable", shadow=TrafficShadow("stable", 1)), "the shadow is the default, stable"),
        (rule(max_error_percent=None), "roll_back has no bound"),
        (rule(max_error_percent=101), "roll_back.max_error_percent expects a number from 0 to 100"),
        (rule(min_requests=0), "roll_back.min_requests expects 1 to"),
        (rule(window_seconds=0.5), "roll_back.window_seconds expects a number from 1 to 3600"),
        (rule(for_seconds=-1), "roll_back.for_seconds expects"),
        (
            Traffic(shadow=TrafficShadow("4", 5), roll_back=TrafficRollBack(max_error_percent=1)),
            "needs a share or a header that can be taken back",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(traffic: Traffic, said: str) -> None:
    assert said in refusal(traffic)


def test_a_label_called_default_cannot_be_told_from_the_default() -> None:
    one = ModelConfig("m", "/m", policy=All(), labels={"default": 1}, traffic=spread(default_to="default"))
    with pytest.raises(StatusError, match="a label called default"):
        check_traffic([one])


def test_a_shadow_may_be_the_default_of_what_goes_elsewhere() -> None:
    assert refusal(spread(shadow=TrafficShadow("stable", 1))) == ""
    assert refusal(spread(shadow=TrafficShadow("3", 1))) == ""


@pytest.mark.parametrize(
    ("traffic", "said"),
    [
        (
            Traffic("stable", shadow=TrafficShadow("3", 100)),
            "the shadow, 3, is version 3 as the default, stable",
        ),
        (Traffic("3", shadow=TrafficShadow("stable", 100)), "the shadow, stable, is version 3"),
        (Traffic("canary", (TrafficShare("4", 100),)), "canary and 4 are both version 4"),
        (Traffic("", (TrafficShare("canary", 50), TrafficShare("4", 50))), "canary and 4 are both version 4"),
        (Traffic("3", (TrafficShare("03", 5),)), "3 and 03 are both version 3"),
        (Traffic("3", (TrafficShare("4", 5),)), ""),
    ],
)
def test_a_version_by_two_names_is_one(traffic: Traffic, said: str) -> None:
    found = refusal(traffic)
    assert said in found if said else found == ""


def test_a_label_that_moves_to_the_other_target_is_told_not_refused() -> None:
    before = model(CANARY)
    promoted = dataclasses.replace(before, labels={"stable": 4, "canary": 4})
    check_traffic([promoted], [before], Way.ADMINISTRATION)
    (said,) = traffic_warnings([promoted], [before])
    assert said.startswith(
        "traffic of model m: stable and canary are both version 4. The rules stay in force"
    )
    # Told once, and no hindrance to changes of other models.
    for way in Way:
        check_traffic([promoted, model(CANARY, name="other")], [promoted], way)
    assert traffic_warnings([promoted], [promoted]) == []
    assert traffic_warnings([before], [promoted]) == traffic_warnings([promoted], []) == []
    assert traffic_warnings([dataclasses.replace(promoted, traffic=None)], [before]) == []
    # Rules that are set, or that come with the labels, see them.
    former = dataclasses.replace(promoted, traffic=FULL)
    for one, way in (([former], Way.ADMINISTRATION), ([before], Way.RPC), ([], Way.START)):
        with pytest.raises(StatusError, match="both version 4"):
            check_traffic([promoted], one, way)


@pytest.mark.parametrize(
    ("policy", "traffic", "said"),
    [
        (All(), CANARY, ""),
        (Latest(2), CANARY, ""),
        (Latest(1), CANARY, "it needs 2 versions at once, and the version policy keeps the latest 1 only"),
        (Latest(2), spread(shadow=TrafficShadow("5", 1)), "it needs 3 versions at once"),
        (Latest(1), spread(default_to=""), "it needs 2 versions at once"),
        (Specific((3, 4)), CANARY, ""),
        (Specific((3,)), CANARY, "its version policy does not keep version 4"),
        (Specific((4,)), spread(default_to=""), "keeps no version that could be the default"),
        (Specific((2, 4)), spread(default_to=""), ""),
        (Folder(4), CANARY, "its version policy does not keep version 3"),
    ],
)
def test_the_version_policy_has_to_keep_what_is_named(
    policy: VersionPolicy, traffic: Traffic, said: str
) -> None:
    found = refusal(traffic, policy)
    assert said in found if said else found == ""


def test_models_whose_traffic_is_not_spread_are_not_looked_at() -> None:
    check_traffic([model(None, Latest(1)), model(CANARY)])


# ---- how it is written


TEXT = """
model_config_list { config {
  name: "m" base_path: "/models/m" model_platform: "tensorflow"
  model_version_policy { all {} }
  version_labels { key: "canary" value: 4 }
  version_labels { key: "stable" value: 3 }
  traffic {
    default_to: "stable"
    share { to: "canary" percent: 5 }
    header { name: "X-Canary" value: "1" to: "canary" }
    key_header: "X-User"
    shadow { to: "5" percent: 1 tolerance: 0.001 }
    roll_back { max_error_percent: 0 max_p99_ratio_to_default: 1.5 for_seconds: 0 }
  }
} }
"""
FULL = Traffic(
    default_to="stable",
    shares=(TrafficShare("canary", 5.0),),
    headers=(TrafficHeader("x-canary", "1", "canary"),),
    key_header="x-user",
    shadow=TrafficShadow("5", 1.0, 0.001),
    roll_back=TrafficRollBack(max_error_percent=0.0, max_p99_ratio_to_default=1.5, for_seconds=0.0),
)


def test_a_config_file_says_it_and_gets_it_back(tmp_path: Path) -> None:
    file = tmp_path / "models.config"
    file.write_text(TEXT)
    (found,) = read_model_config_file(str(file))
    assert found.traffic == FULL
    check_traffic([found])
    file.write_text(config_text([found]))
    assert read_model_config_file(str(file)) == (found,)


def test_json_says_the_same() -> None:
    fields = traffic_fields(FULL)
    assert fields["header"] == [{"name": "x-canary", "value": "1", "to": "canary"}]
    assert fields["roll_back"] == {
        "max_error_percent": 0.0,
        "max_p99_ratio_to_default": 1.5,
        "for_seconds": 0.0,
        "count_client_errors": False,
    } or fields["roll_back"] == {
        "max_error_percent": 0.0,
        "max_p99_ratio_to_default": 1.5,
        "for_seconds": 0.0,
    }
    assert traffic_from_fields(fields) == FULL
    with_traffic = model_from_fields(
        {"name": "m", "base_path": "/m", "model_platform": "tensorflow", "traffic": fields}
    )
    assert with_traffic.traffic == FULL
    with pytest.raises(StatusError, match="Not a TrafficSplit"):
        traffic_from_fields({"share": [{"to": "canary", "percent": "much"}]})


TARGETS = st.sampled_from(["stable", "canary", "3", "4", "5", "", "gone"])
PERCENTS = st.one_of(st.integers(0, 600_000).map(lambda n: n / 10_000), st.floats())
NUMBERS = st.one_of(st.floats(0, 1), st.floats())
NAMES = st.one_of(st.just("x-user"), st.text(max_size=5).map(str.lower))
TRAFFIC = st.builds(
    Traffic,
    default_to=TARGETS,
    shares=st.lists(st.builds(TrafficShare, TARGETS, PERCENTS), max_size=3).map(tuple),
    headers=st.lists(st.builds(TrafficHeader, NAMES, st.text(max_size=5), TARGETS), max_size=1).map(tuple),
    key_header=NAMES,
    shadow=st.none() | st.builds(TrafficShadow, TARGETS, PERCENTS, NUMBERS, NUMBERS),
    roll_back=st.none() | st.builds(TrafficRollBack, st.none() | NUMBERS, min_requests=st.integers(0, 9)),
)


@settings(deadline=None)
@given(TRAFFIC)
def test_whatever_is_accepted_can_be_written_and_shares_leave_the_rest(traffic: Traffic) -> None:
    if refusal(traffic):
        return
    assert sum(round(share.percent * 10_000) for share in traffic.shares) <= 1_000_000
    assert all(is_version(to) or to in LABELS for to in traffic.targets())
    assert traffic_from_fields(traffic_fields(traffic)) == traffic


# ---- what is in force


def test_the_core_is_told_of_what_changes_alone() -> None:
    core = FakeCore()
    table = TrafficTable(core)
    table.configure([model(CANARY, name="a"), model(None, name="b")])
    table.configure([model(CANARY, name="a"), model(None, name="b")])
    assert core.calls == [("set_traffic", "a", False)]
    table.configure([model(CANARY, name="a")], renewed="a")
    assert core.calls[1:] == [("set_traffic", "a", True)]
    table.configure([model(FULL, name="a")])
    assert core.spread == {"a": FULL}
    table.configure([model(None, name="a")], renewed="a")
    table.configure([])
    assert core.spread == {}


# ---- the command


def asked(*arguments: str) -> dict[str, Any]:
    return rules(parser().parse_args(["set", "m", *arguments]))


def test_the_command_says_what_a_config_file_does() -> None:
    fields = asked(
        *("canary=5%", "--default", "stable", "--header", "X-Canary=1:canary", "--key", "X-User"),
        *("--shadow", "5=1", "--tolerance", "0.001", "--max_errors", "0%", "--max_p99_ratio", "1.5"),
        *("--for", "0"),
    )
    assert traffic_from_fields(fields) == FULL
    assert asked("4=0.5") == {"share": [{"to": "4", "percent": 0.5}]}


@pytest.mark.parametrize(
    "arguments",
    [
        ["canary"],
        ["=5"],
        ["canary=much"],
        ["canary=nan%"],
        ["canary=inf"],
        ["canary=1e400%"],
        ["--header", "x-canary=1"],
        ["--header", "x-canary:canary"],
        ["--shadow", "canary"],
        ["canary=5", "--tolerance", "1"],
    ],
)
def test_the_command_refuses_what_it_does_not_understand(arguments: list[str]) -> None:
    with pytest.raises(ValueError, match=r"expected|need"):
        asked(*arguments)


@pytest.mark.parametrize("number", ["nan", "inf", "much", ""])
def test_the_command_refuses_what_is_no_number(number: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        asked("canary=5", "--max_p99", number)
    assert f"expected a number, got {number!r}" in capsys.readouterr().err


def test_what_has_become_of_it_is_told() -> None:
    targets: Any = [
        ("default", 3, True, [("weight", 90), ("key", 0)], None, (90, 0, 0.001)),
        ("canary", 4, True, [("weight", 5), ("rolled_back", 5)], (4, "too slow", 0.0), (5, 1, None)),
    ]
    shadow: Any = (
        [("equal", 7), ("different", 2), ("failed", 0)],
        [("returned", 0.001, 0.002)],
        None,
        "y: off",
    )
    fields = traffic_told(FULL, (targets, shadow))
    assert fields["targets"][0]["percent"] == 95 and fields["targets"][0]["named"] == "stable"
    assert fields["shadow"]["compared"] == 9
    text = told({"name": "m", **fields})
    assert "canary            4        5 %    ROLLED BACK  5         5           1 of 5" in text
    assert "canary: version 4 was rolled back at 1970-01-01T00:00:00+00:00: too slow" in text
    assert "shadow 5: 7 equal, 2 different" in text and "last difference: y: off" in text
    assert told({"name": "m"}) == "the traffic of m is not spread: its latest version gets it\n"
    assert traffic_told(CANARY, None)["targets"] == []
