"""The payload log: ``logging_config`` of models, as in TensorFlow Serving, and its files."""

from __future__ import annotations

import base64
import json
import shutil
import signal
import stat
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clients import Stub, answer
from model_configs import config_file, config_text, entry, model_config, replace_file
from servers import ADMIN, ONE_TRY, RELOADS, WITH_GRPC, admin_url, serving, until
from stubs import failure, own_message
from tfrecord import WARM_UP
from wire import ask, predict

from servable.cli.warmup import warmup
from servable.messages import message_class
from servable.savedmodel.tfrecord import read_records

pytestmark = pytest.mark.needs_tensorflow


def logging(prefix: Path | str, rate: float = 1.0, kind: str = "tfrecord") -> dict[str, Any]:
    """Returns a LoggingConfig in protobuf's JSON names."""
    return {
        "logCollectorConfig": {"type": kind, "filenamePrefix": str(prefix)},
        "samplingConfig": {"samplingRate": rate},
    }


def configured(folder: Path, base: Path, **more: Any) -> str:
    return f"--model_config_file={config_file(folder, entry('m', base, **more))}"


def files(prefix: Path) -> list[Path]:
    return sorted(prefix.parent.glob(f"{prefix.name}-*"))


def records(prefix: Path) -> list[Any]:
    """Returns the PredictionLogs in all files."""
    kind = message_class("tensorflow.serving.PredictionLog")
    return [kind.FromString(data) for file in files(prefix) for data in read_records(str(file))]


def lines(prefix: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for file in files(prefix) for line in file.read_text().splitlines()]


def test_requests_of_both_protocols_are_logged_with_their_answers(tmp_path: Path, base: Path) -> None:
    prefix = tmp_path / "logs" / "of-m"
    with serving(configured(tmp_path, base, loggingConfig=logging(prefix)), WITH_GRPC) as served:
        assert answer(served, "m", 2.0) == 3.0
        assert isinstance(answer(served, "nobody"), str)
        assert predict(served, "m", {"instances": ["no"]}).status == 400
        with Stub(served) as stub:
            assert stub.predict("m", 4.0) == 4.0
    rest, grpc = records(prefix)
    for log, x, y in ((rest, 2.0, 3.0), (grpc, 4.0, 4.0)):
        metadata, predicted = log.log_metadata, log.predict_log
        spec = metadata.model_spec
        assert (spec.name, spec.version.value, spec.signature_name) == ("m", 1, "serving_default")
        assert metadata.sampling_config.sampling_rate == 1.0
        assert list(metadata.saved_model_tags) == ["serve"]
        assert metadata.timestamp_secs > 1_700_000_000
        assert predicted.request.model_spec.name == "m"
        assert _numbers(predicted.request.inputs["x"]) == [x]
        assert _numbers(predicted.response.outputs["y"]) == [y]
        assert predicted.response.model_spec == spec
    (file,) = files(prefix)
    assert file.suffix == ".tfrecord"
    assert stat.S_IMODE(file.stat().st_mode) & 0o007 == 0, "what clients send is not for everybody"


def _numbers(tensor: Any) -> list[float]:
    return list(tensor.float_val) or np.frombuffer(tensor.tensor_content, np.float32).tolist()


@pytest.mark.needs_shared
def test_examples_are_logged_by_their_methods(tmp_path: Path, shared: Path) -> None:
    """Classify, regress and multi-inference, of a model with such signatures."""
    multi = shared.resolve() / "testdata" / "tensorflow_serving" / "saved_model_half_plus_two_cpu"
    if not multi.is_dir():
        pytest.skip("the model with examples is not there")
    prefix = tmp_path / "examples"
    both = config_file(
        tmp_path,
        entry("m", multi, loggingConfig=logging(prefix)),
        entry("j", multi, loggingConfig=logging(prefix, kind="json")),
    )
    with serving(f"--model_config_file={both}", WITH_GRPC) as served, Stub(served) as stub:
        for model in ("m", "j"):
            for verb, signature in (("classify", "classify_x_to_y"), ("regress", "regress_x_to_y")):
                body = {"signature_name": signature, "examples": [{"x": 1.0}, {"x": 2.0}]}
                assert ask(served, "POST", f"/v1/models/{model}:{verb}", json.dumps(body)).status == 200
            request = own_message("MultiInferenceRequest")()
            for signature, method in (("classify_x_to_y", "classify"), ("regress_x_to_y", "regress")):
                task = request.tasks.add(method_name=f"tensorflow/serving/{method}")
                task.model_spec.name, task.model_spec.signature_name = model, signature
            example = request.input.example_list.examples.add()
            example.features.feature["x"].float_list.value.append(2.0)
            stub.call("MultiInference", request)
    (tfrecord,) = [file for file in files(prefix) if file.suffix == ".tfrecord"]
    kind = message_class("tensorflow.serving.PredictionLog")
    logs = [kind.FromString(data) for data in read_records(str(tfrecord))]
    kinds = [log.WhichOneof("log_type") for log in logs]
    assert kinds == ["classify_log", "regress_log", "multi_inference_log"]
    assert len(logs[0].classify_log.response.result.classifications) == 2
    regressions = logs[1].regress_log.response.result.regressions
    assert [one.value for one in regressions] == [2.5, 3.0]
    assert len(logs[2].multi_inference_log.response.results) == 2
    (jsonl,) = [file for file in files(prefix) if file.suffix == ".jsonl"]
    read = [json.loads(line) for line in jsonl.read_text().splitlines()]
    assert [one["method"] for one in read] == ["classify", "regress", "multi_inference"]
    assert read[1]["response"] == {"results": [2.5, 3.0]}
    assert b"x" in base64.b64decode(read[0]["request"]["examples"][0]["b64"])


def test_lines_of_json_are_what_could_be_sent(tmp_path: Path, base: Path) -> None:
    prefix = tmp_path / "m"
    with serving(configured(tmp_path, base, loggingConfig=logging(prefix, kind="json"))) as served:
        answer(served, "m", 2.0)
    (line,) = lines(prefix)
    assert (line["model"], line["version"], line["signature"]) == ("m", 1, "serving_default")
    assert (line["method"], line["request"]) == ("predict", {"inputs": [2.0]})
    assert line["response"] == {"outputs": [3.0]}


def test_a_file_is_shown_and_warms_up(tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As it is, and without duplicates and answers by ``warmup make --log``."""
    prefix = tmp_path / "m-log"
    with serving(configured(tmp_path, base, loggingConfig=logging(prefix))) as served:
        for x in (1.0, 2.0, 2.0):
            answer(served, "m", x)
    (file,) = files(prefix)
    assert warmup(["show", str(file)]) == 0
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [list(one) for one in shown] == [["log_metadata", "predict_log"]] * 3
    version = base / "1"
    for how, expected in (("copied", 3), ("made", 2)):
        if how == "copied":
            (version / WARM_UP).parent.mkdir()
            shutil.copy(file, version / WARM_UP)
        else:
            assert warmup(["make", str(version), "--log", str(file)]) == 0
        with serving(f"m={base}", ONE_TRY) as served:
            assert f"Number of warmup records read: {expected}." in served.log
            assert answer(served, "m") == 3.0
    assert warmup(["make", str(version), "--append", "--log", str(file)]) == 0
    assert "4 requests" in capsys.readouterr().out


def test_a_reload_changes_what_is_logged_and_loads_nothing(tmp_path: Path, base: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    config = config_file(tmp_path, entry("m", base))
    with serving(f"--model_config_file={config}") as served:

        def log_to(place: dict[str, Any] | None, *, seen: Path | None) -> None:
            more = {} if place is None else {"loggingConfig": place}
            replace_file(config, config_text(entry("m", base, **more)))
            served.process.send_signal(signal.SIGHUP)
            if seen is not None:
                assert until(lambda: answer(served, "m") == 3.0 and files(seen))

        answer(served, "m")
        log_to(logging(first), seen=first)
        log_to(logging(second, kind="json"), seen=second)
        log_to(logging(tmp_path / "never", rate=0.0), seen=None)

        def quiet() -> bool:
            before = len(lines(second))
            answer(served, "m")
            return len(lines(second)) == before

        assert until(quiet)
        assert served.log.count("loaded m version 1") == 1
    assert records(first) and lines(second)
    assert not files(tmp_path / "never")


def test_files_end_by_their_size(tmp_path: Path, base: Path) -> None:
    prefix = tmp_path / "m"
    arguments = configured(tmp_path, base, loggingConfig=logging(prefix)), "--payload_log_max_bytes=1"
    with serving(*arguments) as served:
        for x in range(3):
            answer(served, "m", x)
    assert len(files(prefix)) == 3
    assert sorted(_numbers(log.predict_log.request.inputs["x"]) for log in records(prefix)) == [[0], [1], [2]]


def test_files_end_by_their_age(tmp_path: Path, base: Path) -> None:
    prefix = tmp_path / "m"
    arguments = configured(tmp_path, base, loggingConfig=logging(prefix)), "--payload_log_max_seconds=0.01"
    with serving(*arguments) as served:
        assert until(lambda: answer(served, "m") == 3.0 and len(files(prefix)) >= 2)


def test_a_file_that_is_renamed_is_followed_by_another_and_so_is_one_after_a_signal(
    tmp_path: Path, base: Path
) -> None:
    prefix = tmp_path / "m"
    with serving(configured(tmp_path, base, loggingConfig=logging(prefix))) as served:
        answer(served, "m", 1)
        assert until(lambda: len(records(prefix)) == 1)
        (first,) = files(prefix)
        first.rename(tmp_path / "taken.tfrecord")
        answer(served, "m", 2)
        assert until(lambda: len(records(prefix)) == 1)
        served.process.send_signal(signal.SIGHUP)
        assert until(lambda: answer(served, "m", 3) and len(files(prefix)) == 2)
        page = ask(served, "GET", "/metrics").text.splitlines()
    assert len(list(read_records(str(tmp_path / "taken.tfrecord")))) == 1
    inputs = [_numbers(log.predict_log.request.inputs["x"]) for log in records(prefix)]
    assert inputs[0] == [2] and inputs[-1] == [3]
    counted = {
        line.split()[0]: float(line.split()[1]) for line in page if "payload_log_records_total{" in line
    }
    written, lost = (f'servable_payload_log_records_total{{outcome="{one}"}}' for one in ("written", "lost"))
    assert counted[written] >= 3 and counted[lost] == 0


def test_a_folder_that_cannot_be_written_fails_no_request(tmp_path: Path, base: Path) -> None:
    """It is logged once, and so is that it can be written again."""
    (tmp_path / "logs").write_text("a file where a folder should be")
    prefix = tmp_path / "logs" / "m"
    with serving(configured(tmp_path, base, loggingConfig=logging(prefix))) as served:
        for _ in range(5):
            assert answer(served, "m") == 3.0
        served.wait_for_line("cannot be written, and records are lost until it can")
        (tmp_path / "logs").unlink()
        assert until(lambda: answer(served, "m") == 3.0 and files(prefix))
        served.wait_for_line("is written again")
    assert served.log.count("records are lost") == 1


def test_a_full_disk_leaves_whole_records(tmp_path: Path, base: Path) -> None:
    """Here a limit on the size of files, which the server meets as it would the end of the disk."""
    import resource

    prefix = tmp_path / "m"

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 10, 64 << 10))

    arguments = configured(tmp_path, base, loggingConfig=logging(prefix)), "--engine=tensorflow"
    with serving(*arguments, before_exec=limit) as served:
        body = {"instances": [1.0] * 2000}
        for _ in range(20):
            assert predict(served, "m", body).status == 200
        served.wait_for_line("records are lost")
    assert records(prefix), "every file reads to its end"


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (logging("/logs/m", kind="fancy"), "there is no log collector of type 'fancy'"),
        (logging(""), "has no filename_prefix"),
        (logging("logs/m"), "expects an absolute path, or --payload_log_dir"),
        (logging("s3://bucket/m"), "expects a path on this machine"),
    ],
)
def test_what_cannot_be_followed_is_warned_of(
    tmp_path: Path, base: Path, config: dict[str, Any], why: str
) -> None:
    with serving(configured(tmp_path, base, loggingConfig=config)) as served:
        assert answer(served, "m") == 3.0
        (line,) = [line for line in served.lines if "has no effect" in line]
        assert why in line


def test_clients_write_no_files_but_where_that_is_allowed(tmp_path: Path, base: Path) -> None:
    """By HandleReloadConfigRequest; and links out of the folder are followed."""
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "out").symlink_to(tmp_path)
    arguments = configured(tmp_path, base, loggingConfig=logging(tmp_path / "own")), WITH_GRPC, RELOADS

    def reload(stub: Stub, prefix: Path | str) -> str:
        request = own_message("ReloadConfigRequest")()
        request.config.CopyFrom(model_config(entry("m", base, loggingConfig=logging(prefix))))
        return failure(lambda: stub.call("HandleReloadConfigRequest", request))[0]

    with serving(*arguments) as served, Stub(served) as stub:
        assert reload(stub, folder / "m") == "PERMISSION_DENIED"
        assert reload(stub, tmp_path / "own") == "OK", "it was allowed before"
        assert answer(served, "m") == 3.0
    allowed = config_file(tmp_path, entry("m", base))
    arguments = f"--model_config_file={allowed}", WITH_GRPC, RELOADS
    with serving(*arguments, f"--payload_log_dir={folder}") as served, Stub(served) as stub:
        for outside in (tmp_path / "m", folder / "out" / "m", folder / ".." / "m", "../m", "/etc/cron.d/m"):
            assert reload(stub, outside) == "PERMISSION_DENIED", outside
        assert reload(stub, "below/m") == "OK"
        assert until(lambda: answer(served, "m") == 3.0 and files(folder / "below" / "m"))


def test_the_administration_shows_and_keeps_it(tmp_path: Path, base: Path) -> None:
    prefix = tmp_path / "m"
    with serving(configured(tmp_path, base, loggingConfig=logging(prefix)), ADMIN) as served:
        with urllib.request.urlopen(admin_url(served) + "/admin/config?format=text") as reply:
            text = reply.read().decode()
        assert f'filename_prefix: "{prefix}"' in text
