"""The requests that every server is asked, and whether an answer is right.

The bodies are those of TensorFlow Serving's REST API. What is right is what TensorFlow answers in Python,
without any server.
"""

from __future__ import annotations

import base64
import http.client
import json
import math
import random
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from environments import FOLDER
from load import Client
from models import Model
from points import PHOTO
from process import BenchError
from real_models import IDS, VOCABULARY

REFERENCE = FOLDER / "servers" / "saved_model.py"
TOLERANCE = 1e-3  # runs in batches add in another order


@dataclass(frozen=True)
class Question:
    """A request to a model."""

    name: str
    title: str
    model: str
    instances: Sequence[Any]

    @property
    def body(self) -> bytes:
        """The JSON to send."""
        return json.dumps({"instances": self.instances}).encode()


def questions() -> list[Question]:
    """Returns every request, in the order of the table."""
    ids = random.Random(4)
    return [
        Question("tiny", "three numbers, `half_plus_two`", "half_plus_two", [1.0, 2.0, 5.0]),
        Question(
            "photo",
            "photo to label, MobileNetV2",
            "mobilenet_v2",
            [{"b64": base64.b64encode(PHOTO.read_bytes()).decode()}],
        ),
        Question(
            "transformer",
            f"{IDS} ids, transformer of 4 layers",
            "transformer",
            [[ids.randrange(VOCABULARY) for _ in range(IDS)]],
        ),
    ]


def right_answer(question: Question, model: Model) -> list[Any]:
    """Returns what TensorFlow predicts in this interpreter, without a server."""
    command = [sys.executable, str(REFERENCE), str(model.version_folder)]
    ran = subprocess.run(command, input=question.body, capture_output=True)
    if ran.returncode != 0:
        raise BenchError(f"TensorFlow did not answer {question.name}: {ran.stderr[-400:].decode()}")
    predictions: list[Any] = json.loads(ran.stdout)["predictions"]
    return predictions


def same(one: Any, other: Any) -> bool:
    """True for equal JSON values; numbers may differ by a thousandth."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float | int) and isinstance(other, float | int):
        return math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE * 1e-2)
    return bool(one == other)


@dataclass(frozen=True)
class Asked:
    """An address, a body, and the right answer; ``bare``: without ``{"predictions": …}`` around it."""

    url: str
    body: bytes
    right: list[Any]
    bare: bool

    def is_right(self, reply: bytes) -> bool:
        """True if the reply has the right answer."""
        try:
            value = json.loads(reply)
        except ValueError:
            return False
        return same(value if self.bare else value.get("predictions"), self.right)


@dataclass
class Checked:
    """How many requests were answered, answered wrongly, and not answered or with another status than 200."""

    answered: int = 0
    wrong: int = 0
    failed: int = 0
    example: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def ask(self, asked: Asked, client: Client) -> None:
        """Asks once and counts."""
        try:
            status, reply = client.ask(asked.body)
        except (OSError, http.client.HTTPException) as error:
            client.close()  # the next request opens it again
            status, reply = 0, repr(error).encode()
        with self._lock:
            if status != 200:
                self.failed += 1
                self.example = f"{status or 'no answer'}: {reply[:200].decode(errors='replace')}"
                return
            self.answered += 1
            if not asked.is_right(reply):
                self.wrong += 1
                self.example = reply[:200].decode(errors="replace")


def check(asked: Asked, clients: int, seconds: float) -> Checked:
    """Asks from ``clients`` connections at once for ``seconds`` and checks each answer; also a warm-up."""
    checked = Checked()
    until = time.monotonic() + seconds

    def work() -> None:
        client = Client(asked.url)
        while True:
            checked.ask(asked, client)
            if time.monotonic() > until:
                break
        client.close()

    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return checked
