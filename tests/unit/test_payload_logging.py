"""Which payload logs a configuration asks for, and which it may ask for."""

from __future__ import annotations

from pathlib import Path

import pytest

from servable.config.base_paths import Way
from servable.config.payload_logging import MOST_PLACES, PayloadLogging
from servable.config.values import LoggingConfig, ModelConfig, PayloadLog
from servable.errors import StatusError


def model(prefix: str = "/logs/m", name: str = "m", kind: str = "", rate: float = 1.0) -> ModelConfig:
    return ModelConfig(name, "/m", logging=LoggingConfig(kind, prefix, rate, b"sampling"))


@pytest.mark.parametrize(
    ("kind", "form"),
    [("", "tfrecord"), ("file", "tfrecord"), ("tfrecord", "tfrecord"), ("json", "json"), ("jsonl", "json")],
)
def test_the_type_of_the_collector_is_the_form(kind: str, form: str) -> None:
    logging = PayloadLogging(tags=("serve",))
    models = [model(kind=kind, rate=7.0), ModelConfig("other", "/o")]
    assert logging.logs(models) == [PayloadLog("m", form, "/logs/m", 1.0, b"sampling", ("serve",))]
    assert logging.warnings(models) == []


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        (model(kind="fancy"), "no log collector of type 'fancy'"),
        (model(""), "no filename_prefix"),
        (model("logs/m"), "expects an absolute path, or --payload_log_dir"),
        (model("gs://bucket/m"), "expects a path on this machine"),
        (model("/logs/\0m"), "expects a path on this machine"),
    ],
)
def test_what_cannot_be_followed_is_said_and_left_out(entry: ModelConfig, why: str) -> None:
    logging = PayloadLogging()
    (warning,) = logging.warnings([entry])
    assert warning.startswith("logging_config of model m has no effect: ")
    assert why in warning
    assert logging.logs([entry]) == []
    for way in Way:
        logging.check([entry], [], way)


def test_places_are_limited_and_shared() -> None:
    logging = PayloadLogging()
    models = [model(f"/logs/{number}", f"m{number}") for number in range(MOST_PLACES + 2)]
    models += [model("/logs/0", "shares"), model("/logs/0", "other form", "json")]
    logged = [log.model for log in logging.logs(models)]
    assert logged == [f"m{number}" for number in range(MOST_PLACES)] + ["shares"]
    warnings = logging.warnings(models)
    assert [warning.split(" has no effect: ")[0].split("model ")[1] for warning in warnings] == [
        "m64",
        "m65",
        "other form",
    ]
    assert "64 other places are logged to" in warnings[0]


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan")])
def test_no_share_is_no_log(rate: float) -> None:
    entry = model(kind="fancy", rate=rate)
    assert (PayloadLogging().logs([entry]), PayloadLogging().warnings([entry])) == ([], [])


def test_clients_name_no_new_files_without_a_folder() -> None:
    logging, known = PayloadLogging(), [model()]
    with pytest.raises(StatusError, match="Model m may not be logged to /logs/m") as caught:
        logging.check([model()], [], Way.RPC)
    assert caught.value.code == "PERMISSION_DENIED"
    logging.check([model(), model(name="n")], known, Way.RPC)
    for way in (Way.START, Way.ADMINISTRATION):
        logging.check([model()], [], way)


@pytest.mark.parametrize("unused", [model(rate=0.0), model(kind="fancy"), model(kind="json")])
def test_files_that_no_model_logs_to_are_new(unused: ModelConfig) -> None:
    """A configuration that has no effect is not checked, so it must not allow anything later."""
    logging = PayloadLogging()
    logging.check([unused], [model(kind="json")], Way.RPC)
    with pytest.raises(StatusError, match="Model m may not be logged to /logs/m"):
        logging.check([model()], [unused], Way.RPC)


@pytest.mark.parametrize("way", list(Way))
def test_a_folder_holds_for_every_way(way: Way, tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "out").symlink_to(tmp_path)
    (tmp_path / "in").symlink_to(folder)
    logging = PayloadLogging(str(folder))
    for inside in ("m", "below/m", f"{folder}/m", f"{tmp_path}/in/m", f"{folder}/below/../m"):
        logging.check([model(inside)], [], way)
    for outside in ("../m", "out/m", f"{tmp_path}/logs2/m", f"{folder}", "/etc/m"):
        with pytest.raises(StatusError, match=f"allows {folder}"):
            logging.check([model(outside)], [], way)
    assert logging.logs([model("m")])[0].prefix == f"{folder}/m"
