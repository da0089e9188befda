"""Messages at the start: the models served and how to call them; or what was sought, found, and advised."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from clients import Stub, available, await_versions, version_states
from conftest import Served
from model_configs import config_file, entry
from servers import DROP_IN, FRIENDLY, MODELS, ONE_TRY, put_version, run_to_its_end, serving, without_keras
from wire import Wire, message, predict

pytestmark = pytest.mark.needs_tensorflow

ONE = '{"instances": [1.0]}'


def log_from(served: Served, mark: str) -> str:
    """Returns the log from the first line with ``mark``."""
    lines = served.lines
    first = next(number for number, line in enumerate(lines) if mark in line)
    return "\n".join(lines[first:])


# ---- messages of a successful start


def test_one_line_per_version_the_address_and_a_line_to_try() -> None:
    with serving(MODELS / "half_plus_two", MODELS / "pair") as served:
        for name in ("half_plus_two", "pair"):
            (line,) = [line for line in served.lines if f"loaded {name} version 1 from" in line]
            assert f" {MODELS / name / '1'} in " in line and " s; " in line
        signature = "serving_default(a: float[-1], b: int32[-1]) -> (sum: float[-1], twice: int32[-1])"
        assert signature in served.log
        assert f"Exporting HTTP/REST API at:localhost:{served.rest_port} ..." in served.log
        assert f"in a browser: http://localhost:{served.rest_port}/" in served.log
        assert "ready: 2 of 2 models available" in served.log


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
@pytest.mark.parametrize("model", ["half_plus_two", "add_two", "pair", "echo", "loop"])
def test_the_line_to_try_works_for_every_model(model: str) -> None:
    with serving(MODELS / model) as served:
        (line,) = [line.strip() for line in served.lines if line.strip().startswith("curl ")]
        run = subprocess.run(
            [*shlex.split(line), "-s"], capture_output=True, text=True, check=True, timeout=30
        )
        assert list(json.loads(run.stdout)) in (["predictions"], ["outputs"]), run.stdout


def test_a_versions_own_folder_is_served_under_its_models_name() -> None:
    with serving(MODELS / "half_plus_two" / "1") as served:
        assert predict(served, "half_plus_two/versions/1", ONE).status == 200


def test_a_saved_model_that_is_nobodys_version(tmp_path: Path) -> None:
    """``servable serve`` accepts the folder itself as version 1 of a model named after it."""
    shutil.copytree(MODELS / "half_plus_two" / "1", tmp_path / "exported")
    with serving(tmp_path / "exported") as served:
        assert available(served, "exported") == [1]
        assert predict(served, "exported", ONE).status == 200


@pytest.mark.parametrize("way", ["flags", "environment", "path"])
def test_ways_to_name_a_model(way: str) -> None:
    base = str(MODELS / "half_plus_two")
    arguments, environment = {
        "flags": (["--model_name", "m", "--model-base-path", base], {}),
        "environment": ([], {"MODEL_NAME": "half_plus_two", "MODEL_BASE_PATH": str(MODELS)}),
        "path": ([f"m={base}"], {}),
    }[way]
    with serving(*arguments, environment=environment) as served:
        assert predict(served, "half_plus_two" if way == "environment" else "m", ONE).status == 200


# ---- models that cannot be served: reported in the log, while others serve

GOOD = MODELS / "half_plus_two"


def config_of(folder: Path, **base_paths: Path) -> str:
    """Returns a flag with a config file that lists these models."""
    config = config_file(folder, *(entry(name, path) for name, path in base_paths.items()))
    return f"--model_config_file={config}"


def test_a_base_path_that_is_not_there(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    with serving(config_of(tmp_path, good=GOOD, bad=nowhere)) as served:
        log = log_from(served, "Could not find base path")
        assert f"Could not find base path {nowhere} for servable bad" in log
        assert f"{tmp_path} holds models.config" in log
        assert predict(served, "good", ONE).status == 200
        assert predict(served, "bad", ONE).status == 404
        put_version("add_two", nowhere, 1)
        served.wait_for_line("loaded bad version 1")
        await_versions(served, "bad", 1)


def test_a_path_on_the_command_line_that_is_not_there(tmp_path: Path) -> None:
    run = run_to_its_end(GOOD, tmp_path / "nowhere")
    assert run.returncode == 2
    assert f"no such folder: {tmp_path / 'nowhere'}" in run.stderr


@pytest.mark.parametrize(
    ("inside", "words"),
    [
        ([], "the folder is empty: put the SavedModel into"),
        (["v1/saved_model.pb"], "v1/ holds a SavedModel, but versions are named by numbers"),
        (["notes.txt", "old/readme"], "it holds notes.txt, old, and folders named by numbers"),
        (["runs/a/saved_model.pb"], "it is a folder whose model is deeper, in runs/a: give that folder"),
        (["a/1/saved_model.pb", "b/2/saved_model.pb"], "it looks like a folder of models (a, b)"),
    ],
)
def test_a_base_path_without_a_version(tmp_path: Path, inside: list[str], words: str) -> None:
    base = tmp_path / "base"
    base.mkdir()
    for name in inside:
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        (base / name).touch()
    with serving(GOOD, f"bad={base}") as served:
        log = log_from(served, "No versions of servable bad found under base path")
        assert words in log


def test_a_saved_model_as_base_path(tmp_path: Path) -> None:
    """A SavedModel without its version folder, given as a base path, is explained."""
    with serving(config_of(tmp_path, good=GOOD, bad=GOOD / "1")) as served:
        log = log_from(served, "No versions of servable bad found")
        assert "it holds a SavedModel itself" in log
        assert f"move the model to {GOOD / '1'}/1" in log


def broken(base: Path, how: str) -> Path:
    """Makes a model whose version 1 cannot be loaded."""
    if how == "unknown_op":
        return MODELS / "unknown_op"
    version = put_version("half_plus_two", base, 1)
    graph, variables = version / "saved_model.pb", version / "variables"
    if how == "no_saved_model":
        graph.unlink()
    elif how == "garbage":
        graph.write_bytes(b"this is not a protobuf at all" * 10)
    elif how == "truncated":
        graph.write_bytes(graph.read_bytes()[:5000])
    elif how == "empty":
        graph.write_bytes(b"")
    elif how == "no_variables":
        shutil.rmtree(variables)
    elif how == "cut_variables":
        (variables / "variables.data-00000-of-00001").write_bytes(b"")
    return base


@pytest.mark.parametrize("command", [FRIENDLY, DROP_IN], ids=["serve", "tensorflow_model_server"])
def test_a_model_that_comes_late_is_told_of(tmp_path: Path, command: tuple[str, ...]) -> None:
    late = tmp_path / "late"
    late.mkdir()
    models = config_file(tmp_path, entry("good", GOOD), entry("late", late))
    flags = (f"--model_config_file={models}", "--file_system_poll_wait_seconds=1", "--port=0")
    with serving(*flags, f"--grpc_socket_path={tmp_path / 'grpc.sock'}", command=command) as served:
        assert "ready: 1 of 2 models available" in served.log
        put_version("half_plus_two", late, 1)
        served.wait_for_line("ready: 2 of 2 models available")
        assert "loaded late version 1" in served.log


@pytest.mark.parametrize(
    ("how", "said", "advice"),
    [
        ("no_saved_model", "does not appear to contain a SavedModel", "holds fingerprint.pb, variables"),
        ("garbage", "saved_model.pb", "copy"),
        ("truncated", "saved_model.pb", "copy"),
        ("empty", "saved_model.pb holds no meta graph", "is empty or was cut off"),
        ("no_variables", "has no variables/variables.index", "may be half-copied"),
        ("cut_variables", "variables", "copy"),
        ("unknown_op", "Op type not registered 'ServableTestsNoSuchOp'", "--op_library=PATH"),
    ],
)
def test_a_version_that_cannot_be_loaded(tmp_path: Path, how: str, said: str, advice: str) -> None:
    bad = broken(tmp_path, how)
    with serving(GOOD, f"bad={bad}", ONE_TRY) as served:
        assert "ready: 1 of 2 models available" in served.log
        log = log_from(served, "could not load bad version 1 from")
        assert str(bad / "1") in log
        assert said in log and advice in log
        assert predict(served, "half_plus_two", ONE).status == 200
        assert version_states(served, "bad") == {1: "END"}
        assert predict(served, "bad", ONE).status == 404


def test_hidden_variables_without_what_heals_them(tmp_path: Path) -> None:
    environment = without_keras(tmp_path)
    with serving(GOOD, MODELS / "hidden_variables", ONE_TRY, environment=environment) as served:
        log = log_from(served, "could not load hidden_variables version 1 from")
        assert "FAILED_PRECONDITION: Could not find variable" in log
        assert "model.export(" in log and 'pip install "servable[cpu]"' in log
        assert version_states(served, "hidden_variables") == {1: "END"}
        assert predict(served, "half_plus_two", ONE).status == 200


def test_unknown_tags() -> None:
    with serving(f"bad={GOOD}", ONE_TRY, "--saved_model_tags=serve,gpu") as served:
        log = log_from(served, "could not load bad version 1")
        assert "Could not find meta graph def matching supplied tags: { serve gpu }" in log
        assert "--saved_model_tags" in log and "serve" in log


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_model_that_may_not_be_read(tmp_path: Path) -> None:
    version = put_version("half_plus_two", tmp_path, 1)
    (version / "saved_model.pb").chmod(0)
    with serving(f"bad={tmp_path}", ONE_TRY) as served:
        assert "chmod -R a+rX" in log_from(served, "could not load bad version 1")


def test_a_failed_start_by_flag(tmp_path: Path) -> None:
    bad = broken(tmp_path, "garbage")
    run = run_to_its_end(GOOD, f"bad={bad}", ONE_TRY, "--exit_on_failed_start")
    assert run.returncode == 1
    said = "Failed to start server. Error: UNKNOWN: 1 servable(s) did not become available: {{{name: bad"
    assert said in run.stdout


# ---- starts that fail


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("--rest_api_prt=8501", "--rest_api_port"),
        ("--model_base_pth=/m", "--model_base_path"),
        ("--modelname=x", "--model_name"),
        ("--rest_api_port=http", "rest_api_port"),
        ("--enable_batching=maybe", "enable_batching"),
        ("--run_in=nowhere", "caller"),
        ("--rest_api_port=99999", "99999"),
        ("--max_request_bytes=-1", "max_request_bytes"),
    ],
)
def test_a_wrong_flag_ends_with_2_and_the_nearest_name(argument: str, words: str) -> None:
    run = run_to_its_end(GOOD, argument)
    assert run.returncode == 2, run
    assert words in run.stderr and argument.split("=")[0].lstrip("-") in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("command", [FRIENDLY, DROP_IN])
def test_a_command_line_that_is_not_utf_8(command: tuple[str, ...]) -> None:
    run = run_to_its_end(f"--model_name=\udcff{GOOD}", f"--model_base_path={GOOD}", command=command)
    assert run.returncode == (2 if command is FRIENDLY else 255)
    assert "names and paths must be UTF-8, got '--model_name=\\udcff" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.skipif(Path("/models/model").exists(), reason="what is served by default is there")
def test_nothing_to_serve() -> None:
    run = run_to_its_end(environment={"MODEL_NAME": "", "MODEL_BASE_PATH": ""})
    assert run.returncode == 2
    assert "nothing to serve: give a PATH" in run.stderr and "/models/model" in run.stderr


def test_a_taken_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run = run_to_its_end(GOOD, f"--rest_api_port={port}", "--host=127.0.0.1")
    assert run.returncode == 1
    assert f"port {port} is taken by" in run.stderr
    assert f"process {os.getpid()}" in run.stderr or str(os.getpid()) in run.stderr
    assert "--rest_api_port=N" in run.stderr


@pytest.mark.parametrize(
    "text", ["model_config_list {", "sense: 1", "model_config_list { config { nme: 1 } }"]
)
def test_a_config_file_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    config = tmp_path / "models.config"
    config.write_text(text)
    run = run_to_its_end(f"--model_config_file={config}")
    assert run.returncode == 1
    assert f"INVALID_ARGUMENT: Invalid protobuf file: '{config}'" in run.stdout
    assert "1:" in run.stderr  # line and column


def test_a_config_file_that_is_not_there(tmp_path: Path) -> None:
    config = tmp_path / "models.config"
    run = run_to_its_end(f"--model_config_file={config}")
    assert run.returncode == 1
    assert f"NOT_FOUND: {config}; No such file or directory" in run.stdout


def test_tensorflow_that_is_not_installed(tmp_path: Path) -> None:
    """With an interpreter that has Servable but no TensorFlow: the places searched, and how to install it."""
    import google.protobuf

    import servable

    for package in (servable, google.protobuf):
        folder = Path(package.__file__).resolve().parent
        link = tmp_path.joinpath(*package.__name__.split("."))
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(folder)
    code = f"import sys; sys.path.append({str(tmp_path)!r}); from servable.cli import main; sys.exit(main())"
    command = (sys.executable, "-S", "-c", code, "serve", "--port=off", "--rest_api_port=0")
    run = run_to_its_end(GOOD, command=command, environment={"SERVABLE_TENSORFLOW_LIBRARY": ""})
    assert run.returncode == 1, run
    assert "TensorFlow not found: no tensorflow package" in run.stdout
    assert 'pip install "servable[cpu]"' in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("what", ["nothing", "folder", "text"])
def test_tensorflow_that_is_not_where_it_should_be(tmp_path: Path, what: str) -> None:
    library = tmp_path / "libtensorflow.so.2"
    if what == "folder":
        library.mkdir()
    elif what == "text":
        library.write_text("no library")
    run = run_to_its_end(GOOD, f"--tensorflow_library={library}")
    assert run.returncode == 1
    assert str(library) in run.stdout + run.stderr
    assert "Traceback" not in run.stderr


# ---- the drop-in


def free_ports() -> tuple[int, int]:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        return one.getsockname()[1], other.getsockname()[1]


def test_tensorflow_model_server_takes_its_command_line_and_warns_of_the_rest() -> None:
    grpc, rest = free_ports()
    arguments = [
        f"--port={grpc}",
        f"--rest_api_port={rest}",
        "--model_name=half_plus_two",
        f"--model_base_path={GOOD}",
        "--enable_batching=false",
        "--file_system_poll_wait_seconds=1",
        "--rest_api_prt=1",
    ]
    with serving(*arguments, command=DROP_IN) as served:
        assert f"Exporting HTTP/REST API at:localhost:{rest} ..." in served.log
        assert "in a browser" not in served.log
        (warning,) = [line for line in served.lines if "unknown argument: --rest_api_prt" in line]
        assert "--rest_api_port" in warning
        assert predict(served, "half_plus_two", ONE).status == 200


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--port=x"], "usage"),
        (["--help"], "usage"),
        (
            [],
            "Failed to start server. Error: INVALID_ARGUMENT: Both server_options.model_base_path and "
            "server_options.model_config_file are empty!",
        ),
        (
            ["--port=0"],
            "At least one of server_options.grpc_port or server_options.grpc_socket_path must be set.",
        ),
        (
            ["--model_base_path=relative/path"],
            "Expected model default to have an absolute path or URI; got base_path()=relative/path",
        ),
    ],
)
def test_tensorflow_model_server_fails_as_the_original_does(arguments: list[str], said: str) -> None:
    run = run_to_its_end(*arguments, command=DROP_IN, environment={"MODEL_NAME": "", "MODEL_BASE_PATH": ""})
    assert run.returncode == 255
    assert said in run.stdout
    assert "Traceback" not in run.stderr


def test_tensorflow_model_server_tells_its_versions() -> None:
    run = run_to_its_end("--version", command=DROP_IN)
    assert run.returncode == 0
    first, second = run.stdout.splitlines()
    assert first.startswith("TensorFlow ModelServer: ") and second.startswith("TensorFlow Library: 2.")


# ---- changing versions


def test_versions_come_and_go(tmp_path: Path) -> None:
    put_version("half_plus_two", tmp_path, 1)
    with serving(f"m={tmp_path}", "--file_system_poll_wait_seconds=1") as served:
        assert available(served, "m") == [1]
        put_version("add_two", tmp_path, 2)
        served.wait_for_line("unloaded m version 1")
        assert available(served, "m") == [2]
        assert json.loads(predict(served, "m", {"instances": [[1.0]]}).body) == {"predictions": [[3.0]]}
        assert predict(served, "m/versions/1", ONE).status == 404
        shutil.rmtree(tmp_path / "2")
        served.wait_for_line("loaded m version 1")
        await_versions(served, "m", 1)
        assert json.loads(predict(served, "m", ONE).body) == {"predictions": [2.5]}


def test_a_version_that_is_still_being_copied_is_served_when_it_is_whole(tmp_path: Path) -> None:
    put_version("half_plus_two", tmp_path, 1)
    flags = ["--file_system_poll_wait_seconds=1", "--load_retry_interval_micros=200000"]
    with serving(f"m={tmp_path}", *flags) as served:
        (tmp_path / "2").mkdir()
        served.wait_for_line("could not load m version 2")
        assert predict(served, "m", ONE).status == 200  # by version 1
        whole = put_version("half_plus_two", tmp_path, 3)
        whole.rename(tmp_path / "2" / "late")
        for part in (tmp_path / "2" / "late").iterdir():
            part.rename(tmp_path / "2" / part.name)
        served.wait_for_line("loaded m version 2")
        await_versions(served, "m", 2)


def test_a_terminated_server_finishes_what_it_has_begun() -> None:
    body = '{"inputs": 100000}'
    with serving(MODELS / "loop", may_end=True) as served, Wire(served) as wire:
        wire.send(message("POST", "/v1/models/loop:predict", body, Expect="100-continue")[: -len(body)])
        assert wire.reply().status == 100
        wire.send(body[:5])
        served.process.terminate()
        served.wait_for_line("SIGTERM: finishing requests in flight")
        assert json.loads(wire.send(body[5:]).reply().body) == {"outputs": 100000}
        assert wire.closed()
        assert served.process.wait(30) == 0
        served.wait_closed()
        assert "unloaded loop version 1" in served.log


def test_the_log_says_where_it_listens() -> None:
    with serving(MODELS / "half_plus_two", "--port=0", "--host=127.0.0.1") as served:
        assert re.search(r"Running gRPC ModelServer at 127\.0\.0\.1:\d+ ", served.log), served.log
        assert re.search(r"Exporting HTTP/REST API at:127\.0\.0\.1:\d+ ", served.log), served.log
        assert f"http://127.0.0.1:{served.rest_port}/v1/models/half_plus_two:predict" in served.log


def test_all_lines_have_one_format() -> None:
    """Lines from the core included: here, one of the lifecycle's debug lines."""
    with serving(MODELS / "half_plus_two", "--log_level=debug") as served:
        lines = [line for line in served.lines if line.startswith("20")]
        assert any(" D lifecycle: " in line for line in lines), served.log
        for line in lines:
            assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} [DIWEF] \w+: ", line), line


@pytest.mark.parametrize("takes_over", [True, False])
def test_a_unix_socket_that_is_in_use(tmp_path: Path, takes_over: bool) -> None:
    """The drop-in takes it, as TensorFlow Serving does; the friendly server refuses and says why."""
    socket_path = tmp_path / "s"
    model = MODELS / "half_plus_two"
    drop_in = (f"--model_base_path={model}", "--model_name=half_plus_two", "--port=0")
    at = f"--grpc_socket_path={socket_path}"
    with serving(*drop_in, at, command=DROP_IN, may_end=True) as first:
        if not takes_over:
            done = run_to_its_end(model, at)
            assert done.returncode != 0
            assert "another process does" in done.stdout + done.stderr
            return
        with socket_client(socket_path) as before:
            assert before.predict("half_plus_two", 1.0) == 2.5
            with serving(*drop_in, at, command=DROP_IN) as second:
                assert f" W server: another process listens on the socket {socket_path}" in second.log
                with socket_client(socket_path) as new:
                    assert new.predict("half_plus_two", 1.0) == 2.5
                # Clients of the first server continue, and its end takes nothing from the second.
                assert before.predict("half_plus_two", 1.0) == 2.5
                assert first.stop() == 0
                with socket_client(socket_path) as newer:
                    assert newer.predict("half_plus_two", 1.0) == 2.5


def socket_client(path: Path) -> Stub:
    class Local(Stub):
        def __post_init__(self) -> None:
            options = [("grpc.default_authority", "localhost")]
            self.channel = grpc.insecure_channel(f"unix:{path}", options=options)

    return Local(None)  # type: ignore[arg-type]
