"""Changes under load, with every request counted: replicas more and fewer, versions rolled, a node killed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clients import floats_request
from proxies import rest
from servers import MODELS, put_version, until
from slow_web import SlowWeb
from steady_load import Ask, Grpc, Rest, SteadyLoad, Tally
from stubs import own_message

ANSWER = b'{\n    "predictions": [2.5, 3.0, 4.5\n    ]\n}'
SECONDS_OF_A_KILL = 1.0
"""Attempts that begin later after the end of a node have to be answered; see docs/ray.md."""


def clients(cluster: Any, application: str, model: str, count: int) -> list[Callable[[], Ask]]:
    """Returns clients of both protocols, by turns."""

    def is_expected(content: bytes) -> bool:
        return bool(own_message("PredictResponse").FromString(content).outputs["y"].float_val[:] == [3.0])

    by_rest = Rest(
        cluster.http, f"/{application}/v1/models/{model}:predict", b'{"instances": [1.0, 2.0, 5.0]}', [ANSWER]
    )
    message = floats_request(model, 2.0).SerializeToString()
    method = "/tensorflow.serving.PredictionService/Predict"
    by_grpc = Grpc(cluster.grpc, method, message, is_expected, (("application", application),))
    return [(by_rest, by_grpc)[number % 2] for number in range(count)]


def is_clean(tally: Tally) -> bool:
    return tally.answered > 0 and not tally.attempts and not tally.failed


def versions(cluster: Any, application: str, model: str) -> set[str]:
    """Returns the versions that are available, by asking often enough to meet every replica."""
    found = set()
    for _ in range(12):
        _, _, content = rest(cluster, "GET", f"/{application}/v1/models/{model}")
        states = json.loads(content)["model_version_status"]
        found |= {one["version"] for one in states if one["state"] == "AVAILABLE"}
    return found


def test_replicas_become_more_and_fewer(cluster: Any, run: Any) -> None:
    from ray_cluster import running

    scaling = {
        "min_replicas": 1,
        "max_replicas": 4,
        "target_ongoing_requests": 2,
        "upscale_delay_s": 0.5,
        "downscale_delay_s": 2,
        "look_back_period_s": 2,
    }
    run("scale", str(MODELS / "half_plus_two"), replicas=scaling)
    assert running("scale") == 1
    few = SteadyLoad(clients(cluster, "scale", "half_plus_two", 2))
    with few:
        with SteadyLoad(clients(cluster, "scale", "half_plus_two", 24)) as many:
            assert until(lambda: running("scale") == 4, 120)
            assert many.more(200)
        assert until(lambda: running("scale") == 1, 120)
        assert few.more(50)
    assert is_clean(many.tally), many.tally.reasons()
    assert is_clean(few.tally), few.tally.reasons()


def test_a_new_version_in_the_folder_takes_over(cluster: Any, run: Any, tmp_path: Path) -> None:
    base = tmp_path / "m"
    put_version("half_plus_two", base, 1)
    run("folder", {"m": str(base)}, replicas=3, file_system_poll_wait_seconds=1)
    with SteadyLoad(clients(cluster, "folder", "m", 4)) as load:
        for version in (2, 3):
            put_version("half_plus_two", base, version)
            assert until(lambda version=version: versions(cluster, "folder", "m") == {str(version)}, 60)
            assert load.more(50)
    assert is_clean(load.tally), load.tally.reasons()


def test_another_version_by_the_configuration_takes_over_in_place(
    cluster: Any, run: Any, tmp_path: Path
) -> None:
    from ray_cluster import replicas

    base = tmp_path / "m"
    for version in (1, 2):
        put_version("half_plus_two", base, version)

    def place(version: int) -> Any:
        return {"m": {"path": str(base), "versions": [version]}}

    run("place", place(1), replicas=2)
    before = replicas("place")
    with SteadyLoad(clients(cluster, "place", "m", 4)) as load:
        for version in (2, 1):
            run("place", place(version), replicas=2)
            assert until(lambda version=version: versions(cluster, "place", "m") == {str(version)}, 60)
            assert load.more(50)
        # One that is not there is not taken over, and nothing is lost.
        handle = run("place", {"m": {"path": str(tmp_path / "none")}}, replicas=2)
        assert "no such folder" in handle.problem.remote().result()
        assert versions(cluster, "place", "m") == {"1"}
        assert load.more(50)
    assert is_clean(load.tally), load.tally.reasons()
    assert replicas("place") == before


def test_a_single_replica_answers_while_a_change_loads_for_long(
    cluster: Any, run: Any, tmp_path: Path
) -> None:
    half = str(MODELS / "half_plus_two")
    run("alone", {"m": half}, model_cache_dir=str(tmp_path))
    with (
        SlowWeb(MODELS / "half_plus_two" / "1") as web,
        SteadyLoad(clients(cluster, "alone", "m", 2)) as load,
    ):
        handle = run("alone", {"m": half, "late": f"{web.url}/late.zip"}, model_cache_dir=str(tmp_path))
        problem = handle.problem.remote()
        assert load.more(100)
        assert rest(cluster, "GET", "/alone/v1/models/late")[0] == 404
        web.goes_on.set()
        assert problem.result(timeout_s=60) == ""
        body = b'{"instances": [1.0]}'
        assert rest(cluster, "POST", "/alone/v1/models/late:predict", body)[0] == 200
    assert is_clean(load.tally), load.tally.reasons()


def test_other_flags_replace_replicas_without_a_lost_request(cluster: Any, run: Any) -> None:
    from ray_cluster import replicas, running

    model = str(MODELS / "half_plus_two")
    run("flags", model, replicas=2)
    before = replicas("flags")
    with SteadyLoad(clients(cluster, "flags", "half_plus_two", 4)) as load:
        run("flags", model, replicas=2, batching="auto")
        assert until(
            lambda: (
                running("flags") == 2 == len(replicas("flags"))
                and not before.keys() & replicas("flags").keys()
            ),
            60,
        )
        assert load.more(50)
    assert is_clean(load.tally), load.tally.reasons()


def test_a_node_is_killed(cluster: Any, run: Any) -> None:
    from ray_cluster import running

    run("killed", str(MODELS / "half_plus_two"), {"max_replicas_per_node": 1}, replicas=3)
    with SteadyLoad(clients(cluster, "killed", "half_plus_two", 8)) as load:
        assert load.more(200)
        at = time.monotonic()
        cluster.kill(cluster.workers[0])
        assert load.more(500, 120)
        cluster.added()
        assert until(lambda: running("killed") == 3, 120)
        assert load.more(200, 120)
    tally = load.tally
    print(
        f"answered {tally.answered}, retried {tally.retried}, failed {len(tally.failed)}: {tally.reasons()}"
    )
    assert not tally.failed, tally.reasons()
    assert not tally.late([at], SECONDS_OF_A_KILL), [
        (round(one.began - at, 2), round(one.ended - at, 2), one.why)
        for one in tally.late([at], SECONDS_OF_A_KILL)
    ]
