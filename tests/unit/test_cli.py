"""The commands: output, its stream, and exit status; nothing here starts a server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from servable.cli import dispatch as cli
from servable.config.flags import FLAGS
from servable.config.values import ServerConfig


class Runs:
    """Replaces running a server, and records the configuration."""

    def __init__(self) -> None:
        self.configs: list[ServerConfig] = []

    def __call__(self, config: ServerConfig, opening: object) -> int:
        self.configs.append(config)
        return 0


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Runs:
    """Opens no library and runs no server."""
    import logging

    from servable.engines import tensorflow_library

    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", root.handlers[:])
    monkeypatch.setattr(root, "level", root.level)
    library = tmp_path / "libtensorflow.so.2"
    library.touch()
    monkeypatch.setenv(tensorflow_library.ENVIRONMENT, str(library))
    monkeypatch.setattr(tensorflow_library, "Opening", lambda *_: None)
    replaced = Runs()
    monkeypatch.setattr(cli, "_run_server", replaced)
    return replaced


Capture = pytest.CaptureFixture[str]
NOBODY = "--admin_address=127.0.0.1:1"
"""Where nobody administers."""


def test_serve_a_folder(runs: Runs, tmp_path: Path) -> None:
    (tmp_path / "m" / "1").mkdir(parents=True)
    assert cli.main(["serve", str(tmp_path / "m"), "--rest-api-port", "0"]) == 0
    (config,) = runs.configs
    assert config.models[0].name == "m"
    assert config.core.tensorflow_library == str(tmp_path / "libtensorflow.so.2")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--rest_port=1", "."], "servable: unknown flag --rest_port; did you mean --rest_api_port?"),
        (["--port=x", "."], "servable: --port expects a whole number, got 'x'"),
        (["./no/such/folder"], "servable: no such folder: "),
        ([".", "--port=off", "--rest_api_port=off"], "nothing to serve on"),
    ],
)
def test_serve_refuses_with_status_2(argv: list[str], words: str, runs: Runs, capsys: Capture) -> None:
    assert cli.main(["serve", *argv]) == 2
    output = capsys.readouterr()
    assert words in output.err
    assert output.out == ""
    assert runs.configs == []


NOT_UTF_8 = "/models/\udcff"
"""Python's text for a byte 255 in the command line."""


@pytest.mark.parametrize(
    "argv",
    [
        ["serve", NOT_UTF_8],
        ["serve", f"--model_config_file={NOT_UTF_8}"],
        ["serve", f"--{NOT_UTF_8}"],
        ["load", "m", NOT_UTF_8],
        ["models", NOT_UTF_8],
        ["inspect", NOT_UTF_8],
        ["predict", NOT_UTF_8],
        [NOT_UTF_8],
    ],
)
def test_a_command_line_that_is_not_utf_8(argv: list[str], runs: Runs, capsys: Capture) -> None:
    assert cli.main(argv) == 2
    assert "names and paths must be UTF-8, got '" in capsys.readouterr().err
    assert runs.configs == []


def test_a_command_line_of_the_drop_in_that_is_not_utf_8(runs: Runs, capsys: Capture) -> None:
    assert cli.tensorflow_model_server([f"--model_base_path={NOT_UTF_8}"]) == 255
    assert "names and paths must be UTF-8" in capsys.readouterr().err
    assert runs.configs == []


def test_serve_reports_what_tensorflow_serving_refuses_with_status_1(
    runs: Runs, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("threading.active_count", lambda: 1)
    assert cli.main(["serve", str(tmp_path), f"{tmp_path.name}={tmp_path}"]) == 1
    output = capsys.readouterr()
    assert output.out == (
        f"Failed to start server. Error: INVALID_ARGUMENT: Illegal to list model {tmp_path.name} "
        "multiple times in config list\n"
    )
    assert "hint: give one of them another name" in output.err


def test_the_drop_in_starts_with_its_flags(runs: Runs) -> None:
    argv = ["--port=8500", "--rest_api_port=8501", "--model_name=m", "--model_base_path=/models/m"]
    assert cli.tensorflow_model_server(argv) == 0
    assert runs.configs[0].models[0].base_path == "/models/m"


def test_the_drop_in_warns_of_unknown_arguments_and_starts(runs: Runs, capsys: Capture) -> None:
    argv = ["--model_base_path=/m", "--rest_port=1", "stray", "--grpc_max_threads=99"]
    argv += ["--grpc_channel_arguments=grpc.so_reuseport=0,grpc.max_concurrent_streams=7,grpc.x=y"]
    assert cli.tensorflow_model_server(argv) == 0
    said = capsys.readouterr().err.splitlines()
    lines = [line.split(" flags: ")[1] for line in said if " flags: " in line]
    assert lines == [
        "unknown argument: --rest_port=1; did you mean --rest_api_port?",
        "unknown argument: stray (flags are written --name=value)",
        "--grpc_channel_arguments: no effect here: grpc.so_reuseport, grpc.x "
        "(the gRPC port is not served by gRPC's C core)",
        "--grpc_max_threads=99 has no effect: the server sizes its own threads; "
        "see --io_threads and --compute_threads",
    ]
    assert len(runs.configs) == 1


@pytest.mark.parametrize("flag", [name for name, flag in FLAGS.items() if not flag.own and name != "version"])
def test_no_flag_of_tensorflow_serving_is_an_error(flag: str, runs: Runs, tmp_path: Path) -> None:
    """Every flag, at its default: files and combinations belong to the tests of settings."""
    default = FLAGS[flag].default
    text = str(default).lower() if isinstance(default, bool) else str(default)
    argv = ["--model_base_path=/m", "--port=8500"]
    argv += [f"--{flag}={text}"] if flag not in ("model_base_path",) else []
    assert cli.tensorflow_model_server(argv) == 0


@pytest.mark.parametrize("argv", [["--help"], ["--port=x"], ["--enable_batching=maybe"]])
def test_the_drop_ins_usage_goes_to_stdout_with_status_255(argv: list[str], capsys: Capture) -> None:
    assert cli.tensorflow_model_server(argv) == 255
    output = capsys.readouterr().out
    assert output.startswith("usage: tensorflow_model_server\nFlags:\n")
    assert all(f"\t--{name}=" in output for name in FLAGS)


def test_the_drop_ins_argument_errors(runs: Runs, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("threading.active_count", lambda: 1)
    assert cli.tensorflow_model_server([]) == 255
    assert capsys.readouterr().out == (
        "Failed to start server. Error: INVALID_ARGUMENT: "
        "Both server_options.model_base_path and server_options.model_config_file are empty!\n"
    )


def test_without_tensorflow(
    runs: Runs, capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for engine in ("TENSORFLOW", "ONNX", "OPENVINO", "TFLITE"):
        monkeypatch.delenv(f"SERVABLE_{engine}_LIBRARY", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setattr("threading.active_count", lambda: 1)
    assert cli.main(["serve", str(tmp_path)]) == 1
    output = capsys.readouterr()
    assert output.out.startswith("Failed to start server. Error: NOT_FOUND: TensorFlow not found: ")
    assert 'pip install "servable[cpu]"' in output.err


def test_help_of_serve(capsys: Capture) -> None:
    assert cli.main(["serve", "--help"]) == 0
    output = capsys.readouterr().out
    assert output.startswith("usage: servable serve PATH...")
    assert all(f"--{name}" in output for name in FLAGS)


@pytest.mark.parametrize("argv", [["help"], ["--help"], ["-h"]])
def test_help(argv: Sequence[str], capsys: Capture) -> None:
    assert cli.main(argv) == 0
    assert "serve PATH" in capsys.readouterr().out


def test_no_command_and_an_unknown_one(capsys: Capture) -> None:
    assert cli.main([]) == 2
    assert cli.main(["server"]) == 2
    assert "servable: unknown command server; did you mean serve?" in capsys.readouterr().err


def test_flags_as_a_table(capsys: Capture) -> None:
    assert cli.main(["flags", "--markdown"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert len(rows) == 2 + len(FLAGS)
    assert all(row.count(" | ") == rows[0].count(" | ") for row in rows)
    assert cli.main(["flags", "nonsense"]) == 2


def test_versions_where_there_is_no_tensorflow(capsys: Capture) -> None:
    assert cli.tensorflow_model_server(["--version", "--tensorflow_library=/no/such/lib"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("TensorFlow ModelServer: ")
    assert second.startswith("TensorFlow Library: none (")


def without_engines(monkeypatch: pytest.MonkeyPatch, found: dict[str, str]) -> None:
    """Replaces what is installed."""
    from servable.engines import libraries

    missing = {"tensorflow": "TensorFlow not found: no package; install it", "onnx": "ONNX Runtime not found"}
    monkeypatch.setattr(libraries, "find_all", lambda *_: libraries.Libraries(found, missing))


def test_a_server_needs_an_engine(
    runs: Runs, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("threading.active_count", lambda: 1)
    without_engines(monkeypatch, {})
    assert cli.main(["serve", str(tmp_path)]) == 1
    output = capsys.readouterr()
    expected = (
        "Failed to start server. Error: NOT_FOUND: TensorFlow not found: no package, and no other engine"
    )
    assert output.out == f"{expected}\n"
    assert 'hint: install it; for models of other formats: pip install "servable[onnx]"' in output.err
    assert runs.configs == []


def test_a_server_starts_with_any_engine(runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_engines(monkeypatch, {"tflite": "/lib/libLiteRt.so"})
    assert cli.main(["serve", str(tmp_path)]) == 0
    (config,) = runs.configs
    assert config.core.libraries == {"tflite": "/lib/libLiteRt.so"}
    assert set(config.core.missing_engines) == {"tensorflow", "onnx"}


@dataclass
class Bare:
    """A place without TensorFlow: the servers run there, and the base path of their model."""

    runs: Runs
    base_path: Path


@pytest.fixture
def bare(runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bare:
    """Only LiteRT is installed."""
    monkeypatch.setattr("threading.active_count", lambda: 1)
    without_engines(monkeypatch, {"tflite": "/lib/libLiteRt.so"})
    return Bare(runs, tmp_path / "m")


def command_line(command: str, base_path: Path, *flags: str) -> int:
    """Runs either command on one model."""
    if command == "serve":
        return cli.main(["serve", str(base_path), *flags])
    return cli.tensorflow_model_server([f"--model_base_path={base_path}", "--port=1", *flags])


@pytest.mark.parametrize(
    ("given", "starts"),
    [
        (["1/saved_model.pb"], False),
        (["1/saved_model.pb", "2/saved_model.pbtxt"], False),
        (["1/model.keras"], False),
        (["1/model.tflite", "--op_library=ops.so"], False),
        (["1/saved_model.pb", "2/model.tflite"], True),
        (["1/saved_model.pb", "2/unknown"], True),
        (["1/saved_model.pb", "1/model.tflite", "--prefer_tflite_model"], True),
        (["1/model.tflite"], True),
        (["readme"], True),
    ],
)
@pytest.mark.parametrize("command", ["serve", "tensorflow_model_server"])
def test_a_server_of_saved_models_alone_needs_tensorflow(
    bare: Bare, capsys: Capture, command: str, given: list[str], starts: bool
) -> None:
    for file in given:
        if not file.startswith("--"):
            (bare.base_path / file).parent.mkdir(parents=True, exist_ok=True)
            (bare.base_path / file).touch()
    status = command_line(command, bare.base_path, *(one for one in given if one.startswith("--")))
    output = capsys.readouterr()
    if starts:
        (config,) = bare.runs.configs
        assert status == 0
        assert set(config.lifecycle.final_errors) == set(config.core.missing_engines.values())
    else:
        assert status == (1 if command == "serve" else 255)
        expected = "Failed to start server. Error: NOT_FOUND: TensorFlow not found: no package\n"
        assert (output.out, bare.runs.configs) == (expected, [])
        assert "hint: install it\n" in output.err


def test_models_elsewhere_may_be_of_any_format(bare: Bare) -> None:
    (bare.base_path / "1").mkdir(parents=True)
    (bare.base_path / "1" / "saved_model.pb").touch()
    assert cli.main(["serve", str(bare.base_path), "s3://bucket/m2"]) == 0
    assert len(bare.runs.configs) == 1


@pytest.mark.parametrize(
    ("file", "arguments", "expected"),
    [
        ("m/1/saved_model.pb", [], True),
        ("m/1/model.onnx", [], False),
        ("m/1/model.onnx", ["--op_library=ops.so"], True),
        ("m/readme", [], True),
        ("m/1/model.onnx", ["s3://bucket/m2"], True),
    ],
)
def test_tensorflow_is_opened_ahead_if_a_model_may_need_it(
    runs: Runs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    arguments: list[str],
    expected: bool,
) -> None:
    from servable.engines import tensorflow_library

    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).touch()
    asked: list[Callable[[], bool]] = []
    monkeypatch.setattr(tensorflow_library, "Opening", lambda *given: asked.append(given[3]))
    assert cli.main(["serve", str(tmp_path / "m"), *arguments]) == 0
    assert [ask() for ask in asked] == [expected]


def test_the_other_engines_have_lines_of_their_own(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    without_engines(monkeypatch, {"onnx": "/mine/onnx.so"})
    assert cli.main(["version", "--tensorflow_library=/no/such/lib"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Servable: ") and lines[1].startswith("TensorFlow: none (")
    assert lines[2:] == ["ONNX Runtime: /mine/onnx.so"]


def test_importing_the_command_line_imports_nothing_heavy() -> None:
    script = "import sys, servable.cli.dispatch; print(*sorted(sys.modules))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert not loaded & {
        "google.protobuf",
        "numpy",
        "tensorflow",
        "servable._core",
        "logging",
        "socket",
        "dataclasses",
    }


def run_in(folder: Path | None, *argv: str, out: str = os.devnull) -> subprocess.CompletedProcess[str]:
    """Runs ``servable`` with its output to a file; in a folder that is not there any more for None."""
    code = "import os, sys, tempfile\n"
    code += "gone = tempfile.mkdtemp(); os.chdir(gone); os.rmdir(gone)\n" if folder is None else ""
    code += "from servable.cli import main\nsys.exit(main())\n"
    with open(out, "w", encoding="utf-8") as output:
        return subprocess.run(
            [sys.executable, "-c", code, *argv],
            stdout=output, stderr=subprocess.PIPE, text=True, cwd=folder, check=False,
        )  # fmt: skip


@pytest.mark.parametrize("argv", [["--help"], ["flags", "--json"], ["flags", "--markdown"]])
def test_output_that_cannot_be_written_is_told(tmp_path: Path, argv: list[str]) -> None:
    ended = run_in(tmp_path, *argv, out="/dev/full")
    assert ended.returncode == 1
    assert ended.stderr == "servable: the output cannot be written: No space left on device\n"


@pytest.mark.parametrize("argv", [["flags", "--json"], ["serve", "--help"]])
def test_a_reader_that_goes_is_no_error(argv: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    code = "import sys; from servable.cli import main; sys.exit(main())"
    with os.fdopen(writing, "wb") as output:
        ended = subprocess.run(
            [sys.executable, "-c", code, *argv], stdout=output, stderr=subprocess.PIPE, check=False
        )
    assert (ended.returncode, ended.stderr) == (141, b"")


@pytest.mark.parametrize("argv", [["inspect", "m"], ["new", "m"], ["serve", "m"]])
def test_a_current_folder_that_is_gone_is_told(argv: list[str]) -> None:
    ended = run_in(None, *argv)
    assert ended.returncode == 1
    assert ended.stderr == "servable: the current folder is not there any more: change to another\n"


def test_an_interrupted_command(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    def interrupted(name: str) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_command", interrupted)
    assert cli.main(["version"]) == 130
    assert capsys.readouterr().err == ""


def test_standard_streams_that_are_closed_are_no_place_for_a_connection(tmp_path: Path) -> None:
    """A library that prints to descriptor 2 must not print to a client."""
    code = (
        "import os, socket, sys\n"
        "for one in range(3): os.close(one)\n"
        "from servable.cli import main\n"
        "main(['version', '--nonsense'])\n"
        "one = socket.socket()\n"
        "open(sys.argv[1], 'w').write(f'{one.fileno()} {os.readlink(\"/proc/self/fd/2\")}')\n"
        "os._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "out")], check=True)
    number, second = (tmp_path / "out").read_text().split()
    assert int(number) > 2 and second == os.devnull


@pytest.mark.parametrize(
    "command",
    [
        ["traffic", "set", "m", NOBODY, "canary=5%"],
        ["traffic", "set", "m", "1=5%", NOBODY, "canary=5%"],
        ["label", "m", NOBODY, "canary=1"],
        ["models", "prefetch", NOBODY, "m"],
    ],
    ids=" ".join,
)
def test_arguments_may_come_behind_options(command: list[str], capsys: Capture) -> None:
    assert cli.main(command) == 1
    assert "nobody administers" in capsys.readouterr().err


@pytest.mark.parametrize("more", ["x", "--no_such=1"])
def test_what_is_too_much_is_refused(more: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["traffic", "show", "m", NOBODY, more])
    assert ended.value.code == 2 and f"unrecognized arguments: {more}" in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_what_the_outputs_encoding_lacks_is_escaped(encoding: str) -> None:
    def printed(to: str) -> bytes:
        command = [sys.executable, "-m", "servable", "flags"]
        environment = {**os.environ, "PYTHONIOENCODING": to}
        return subprocess.run(command, env=environment, capture_output=True, check=True).stdout

    text = printed("utf-8").decode()
    assert not text.isascii()
    assert printed(encoding) == text.encode(encoding, "backslashreplace")
