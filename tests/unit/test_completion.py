"""Completion, by running bash; the scripts for zsh and fish are read by those, where they are installed."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from http_stub import answering

from servable.cli import main
from servable.cli.commands import GROUPS, LIST, usage
from servable.cli.completion_scripts import bash, fish, zsh
from servable.cli.completion_words import FILES, MODELS, all_words
from servable.config.flags import FLAGS

BASH = shutil.which("bash")
needs_bash = pytest.mark.skipif(BASH is None, reason="there is no bash")


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script for bash, as it would be installed."""
    path = tmp_path_factory.mktemp("completion") / "servable.bash"
    path.write_text(bash(all_words()))
    return path


def completed(script: Path, line: str, folder: Path, breaks: str = " =:") -> list[str]:
    """Returns what bash offers at the end of ``line``, whose words it splits as readline does."""
    words = [one for one in re.findall(r"[=:]|[^\s=:]+" if "=" in breaks else r"\S+", line)]
    if line.endswith(" "):
        words.append("")
    quoted = " ".join(f"'{one}'" for one in words)
    program = (
        f"compopt() {{ :; }}; source {script}; COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}\n"
        "_servable; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    # A command `servable` that the script may ask for names.
    environment = {**os.environ, "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    run = subprocess.run(
        [str(BASH), "--norc", "--noprofile", "-c", program],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        timeout=30,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
    return run.stdout.split("\n")[:-1] if run.stdout != "\n" else []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a few models, and a command that knows the names of those that are served."""
    (tmp_path / "models" / "resnet").mkdir(parents=True)
    (tmp_path / "net with space.onnx").touch()
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "servable"
    command.write_text(
        "#!/bin/sh\n[ \"$*\" = 'completion names' ] && printf 'resnet\\nretinanet\\nbert\\n'\n"
    )
    command.chmod(0o755)
    return tmp_path


@needs_bash
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("servable ser", ["serve"]),
        ("servable warmup ", ["make", "record", "show"]),
        ("servable token ", ["new", "list", "remove"]),
        ("servable token new --sc", ["--scopes="]),
        ("servable serve --engine=t", ["tensorflow"]),
        ("servable serve --engine t", ["tensorflow"]),
        ("servable serve --engine=", list(FLAGS["engine"].choices)),
        ("servable serve --rest_api_p", ["--rest_api_port="]),
        ("servable serve --port=1 --enable_b", ["--enable_batching"]),
        ("servable serve mod", ["models"]),
        ("servable serve m=mod", ["models"]),
        ("servable serve net", ["net with space.onnx"]),
        ("servable serve --model_config_file=mod", ["models"]),
        ("servable inspect mod", ["models"]),
        ("servable inspect --j", ["--json"]),
        ("servable predict re", ["resnet", "retinanet"]),
        ("servable predict --format t", ["table"]),
        ("servable unload b", ["bert"]),
        ("servable models --json r", ["resnet", "retinanet"]),
        ("servable warmup record bert --out", ["--output="]),
        ("servable bench compare --arrivals ", ["fixed", "poisson"]),
        ("servable completion z", ["zsh"]),
        ("servable new --folder=mod", ["models"]),
        ("servable frobnicate ", []),
        ("servable serve --no_such=", []),
        ("servable load resnet mod", ["models"]),
    ],
)
def test_bash_completes(script: Path, folder: Path, line: str, expected: list[str]) -> None:
    assert sorted(completed(script, line, folder)) == sorted(expected)


@needs_bash
def test_bash_completes_words_that_it_does_not_split(script: Path, folder: Path) -> None:
    assert completed(script, "servable serve --engine=t", folder, " ") == ["--engine=tensorflow"]


@needs_bash
def test_every_command_and_every_flag_of_servers_is_offered(script: Path, folder: Path) -> None:
    assert completed(script, "servable ", folder) == [one.name for one in LIST]
    offered = completed(script, "servable serve --", folder)
    assert {one.rstrip("=") for one in offered} == {f"--{name}" for name in FLAGS} | {"--help"}


@needs_bash
def test_a_person_presses_tab(script: Path, folder: Path) -> None:
    """An interactive bash at a terminal, with its own readline."""
    terminal, inner = pty.openpty()
    environment = {**os.environ, "TERM": "dumb", "PS1": "ready> "}
    with subprocess.Popen(
        [str(BASH), "--norc", "--noprofile", "-i"],
        stdin=inner,
        stdout=inner,
        stderr=inner,
        cwd=folder,
        env=environment,
        start_new_session=True,
    ) as shell:
        os.close(inner)
        try:
            wait_for(terminal, b"ready> ")
            os.write(terminal, f"source {script}\n".encode())
            wait_for(terminal, b"\nready> ")
            os.write(terminal, b"servable ser\t--rest_api_p\t0 mod\t")
            wait_for(terminal, b"servable serve --rest_api_port=0 models/")
        finally:
            shell.kill()
            os.close(terminal)


def wait_for(terminal: int, text: bytes) -> None:
    """Reads until the terminal has shown ``text``; bells and returns do not count."""
    seen = b""
    while text not in seen:
        assert select.select([terminal], [], [], 20)[0], seen
        seen += os.read(terminal, 4096).replace(b"\x07", b"").replace(b"\r", b"")


@pytest.mark.parametrize(("shell", "make"), [("bash", bash), ("zsh", zsh), ("fish", fish)])
def test_scripts_are_read_by_their_shells(tmp_path: Path, shell: str, make: object) -> None:
    text = make(all_words())  # type: ignore[operator]
    assert re.findall(r"@[A-Z]+@", text) == []
    assert all(one.name in text for one in LIST)
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"there is no {shell}")
    (tmp_path / "script").write_text(text)
    subprocess.run([program, "-n", str(tmp_path / "script")], check=True, timeout=30)


def test_the_command_prints_the_scripts(capsys: pytest.CaptureFixture[str]) -> None:
    for shell, mark in (
        ("bash", "complete -F _servable servable"),
        ("zsh", "#compdef servable"),
        ("fish", "-c"),
    ):
        assert main(["completion", shell]) == 0
        assert mark in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["completion", "tcsh"])


def test_names_come_from_a_running_server(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = {"models": [{"name": "resnet"}, {"name": "$(rm -rf x)"}, {"name": "a b"}, {"name": "bert"}]}
    with answering((200, listed)) as stub:
        monkeypatch.setenv("SERVABLE_ADMIN_ADDRESS", stub.address)
        assert main(["completion", "names"]) == 0
    assert capsys.readouterr().out == "resnet\nbert\n"
    # The server is gone.
    assert main(["completion", "names"]) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "")


def test_words_know_what_values_are() -> None:
    words = {one.command: one for one in all_words()}
    assert {one.command.split()[0] for one in words.values()} == {one.name for one in LIST}
    model_config = words["serve"].flags["--model_config_file"]
    assert model_config is not None and model_config.kind == FILES
    assert words["predict"].arguments.kind == MODELS
    assert words["token new"].flags["--auth_file"] is not None
    assert words["models"].flags["--json"] is None
    assert "--markdown" in words["flags"].flags and "--markdown" not in words["version"].flags


# ---- the help, from the same list


def test_the_help_has_every_command_under_a_heading() -> None:
    text = usage()
    assert all(f"\n{title}:\n" in text for title in GROUPS.values())
    for one in LIST:
        assert re.search(rf"^  {one.name}\b", text, re.MULTILINE), one.name
        assert all(line in text for line in one.help)
    assert max(map(len, text.splitlines())) <= 80
    assert {one.group for one in LIST} == set(GROUPS)


def test_every_command_says_what_it_takes() -> None:
    for one in LIST:
        if one.name in ("help", "flags", "version"):
            continue
        run = subprocess.run(
            [sys.executable, "-m", "servable", one.name, "--help"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert run.returncode == 0, one.name
        assert run.stdout.startswith(f"usage: servable {one.name}")
