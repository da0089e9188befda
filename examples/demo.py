"""Serves three example models and sends a request to each: all of Servable in one command.

    make demo                      # sets everything up, then runs this and keeps serving until Ctrl-C
    make demo EXIT=1               # stops after the requests; status 0 only if every answer was right
    python examples/demo.py [--exit] [--rest_api_port N] [--port N]      # in a prepared environment

Steps: the models are made below build/demo (see demo_models.py; existing ones are kept), `servable serve` is
started on them, and each request is shown as a curl command, sent by running that command, and its answer
checked. Then the photo is asked of every engine that is installed (see demo_engines.py). Any failure ends the
program with its reason and status 1, and the servers with it.
"""

import argparse
import importlib.util
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from demo_engines import compare_engines
from demo_models import MODELS, PHOTO, PHOTO_SHOWS, DemoError, folder_of, make
from demo_server import Server

REQUEST_TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class Question:
    """A request to a model and the answer it must give."""

    model: str
    body: bytes
    shell_body: str | None  # a shell command that prints the body, for bodies too long to show
    expected: dict[str, Any]

    def url(self, rest_port: int) -> str:
        """Returns the URL of the request."""
        return f"http://localhost:{rest_port}/v1/models/{self.model}:predict"

    def curl_line(self, rest_port: int) -> str:
        """Returns the request as a command to paste into a shell."""
        if self.shell_body is None:
            return f"curl -d {shlex.quote(self.body.decode())} {self.url(rest_port)}"
        return f"{self.shell_body} | curl -d @- {self.url(rest_port)}"


def numbers_question(model: str, request: dict[str, Any], expected: dict[str, Any]) -> Question:
    """Makes a request whose body is short enough to be shown whole."""
    return Question(model, json.dumps(request).encode(), None, expected)


def picture_question(model: str, picture: Path, label: str) -> Question:
    """Makes a request that sends a picture's bytes as base64."""
    body = json.dumps({"inputs": [{"b64": b64encode(picture.read_bytes()).decode("ascii")}]}).encode()
    path = shlex.quote(os.path.relpath(picture))
    shell_body = f"""(printf '{{"inputs": [{{"b64": "'; base64 < {path} | tr -d '\\n'; printf '"}}]}}')"""
    return Question(model, body, shell_body, {"outputs": [label]})


def questions() -> list[Question]:
    """Returns one question per model."""
    return [
        numbers_question("half_plus_two", {"instances": [1.0, 2.0, 5.0]}, {"predictions": [2.5, 3.0, 4.5]}),
        numbers_question("add_two", {"instances": [[1.0, 2.0, 5.0]]}, {"predictions": [[3.0, 4.0, 7.0]]}),
        picture_question("mobilenet_v2", PHOTO, PHOTO_SHOWS),
    ]


def send(question: Question, rest_port: int) -> str:
    """Returns the server's answer: to the command shown if curl and base64 are installed, else by urllib."""
    if shutil.which("curl") and shutil.which("base64"):
        return send_by_shell(question.curl_line(rest_port))
    request = urllib.request.Request(
        question.url(rest_port), question.body, {"Content-Type": "application/json"}
    )
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(request, timeout=REQUEST_TIMEOUT_SECONDS) as response:
            return str(response.read().decode())
    except urllib.error.HTTPError as error:
        return error.read().decode(errors="replace")
    except OSError as error:
        raise DemoError(f"no answer from {question.url(rest_port)}: {error}") from error


def send_by_shell(line: str) -> str:
    """Returns the output of the curl command; a proxy is not used for this machine."""
    direct = {**os.environ, "no_proxy": "localhost", "NO_PROXY": "localhost"}
    try:
        done = subprocess.run(
            ["sh", "-c", line], env=direct, capture_output=True, timeout=REQUEST_TIMEOUT_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise DemoError(f"no answer within {REQUEST_TIMEOUT_SECONDS} s") from error
    if done.returncode != 0:
        raise DemoError(f"curl failed with status {done.returncode}:\n{done.stderr.decode(errors='replace')}")
    return done.stdout.decode(errors="replace")


def is_right(answer: str, expected: dict[str, Any]) -> bool:
    """Returns whether the answer is the expected JSON value."""
    try:
        return bool(json.loads(answer) == expected)
    except ValueError:
        return False


def ask_all(asked: Sequence[Question], rest_port: int) -> None:
    """Shows and checks every request; raises DemoError if an answer is wrong."""
    wrong = []
    for question in asked:
        print(f"\n$ {question.curl_line(rest_port)}", flush=True)
        answer = send(question, rest_port)
        print(answer.rstrip("\n"), flush=True)
        if not is_right(answer, question.expected):
            print(f"  wrong: expected {json.dumps(question.expected)}", flush=True)
            wrong.append(question.model)
    if wrong:
        raise DemoError(f"{len(wrong)} of {len(asked)} answers were wrong: {', '.join(wrong)}")
    print(f"\nAll {len(asked)} answers are right.", flush=True)


def serve_and_ask(args: argparse.Namespace) -> None:
    """Runs the server for as long as the demo needs it; it is always stopped at the end."""
    ports = [f"--rest_api_port={args.rest_api_port}", f"--port={args.port}", "--admin_address=127.0.0.1:0"]
    command = ["serve", *(os.path.relpath(folder_of(name)) for name in MODELS), *ports]
    print(f"\n$ {shlex.join(['servable', *command])}", flush=True)
    with Server(command) as server:
        asked = questions()
        ask_all(asked, server.rest_port())
        compare_engines(server, asked[-1].body)
        if not args.exit:
            print("Serving until Ctrl-C.", flush=True)
            server.wait_for_interrupt()


def end_by_signal(number: int, frame: FrameType | None) -> NoReturn:
    """Turns a signal into an exit that runs the clean-up."""
    sys.exit(128 + number)


def main() -> int:
    """Returns the exit status: 0 if every answer was right and the server stopped normally."""
    parser = argparse.ArgumentParser(description="Serve three example models and show a request to each.")
    parser.add_argument("--exit", action="store_true", help="stop after the requests instead of serving on")
    parser.add_argument("--rest_api_port", type=int, default=8501, help="0 = any free port (default: 8501)")
    parser.add_argument("--port", type=int, default=8500, help="for gRPC; 0 = any free port (default: 8500)")
    args = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end_by_signal)
    try:
        missing = [name for name in ("servable", "tensorflow") if importlib.util.find_spec(name) is None]
        if missing:
            raise DemoError(f"{sys.executable} has no {' and no '.join(missing)}; `make demo` installs both")
        for name in MODELS:
            make(name)
        serve_and_ask(args)
    except (DemoError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


if __name__ == "__main__":
    sys.exit(main())
