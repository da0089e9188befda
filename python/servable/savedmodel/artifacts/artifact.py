"""What was recognised, and what to do with it."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Artifact:
    """Something that is no SavedModel folder, or is in the wrong place.

    kind: a name for programs, which stays. title: what it is, for people: "a PyTorch model in TorchScript".
    advice: what to do, in one line. program: Python that converts it, "" if none does. packages: what that
    takes, for ``pip install``. commands: for a shell, after the program; the last one serves the result.
    facts: what it says of itself. problem: what is wrong with it, "" if nothing is.
    """

    kind: str
    title: str
    advice: str
    program: str = ""
    packages: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    facts: dict[str, str] = field(default_factory=dict)
    problem: str = ""

    @property
    def is_served(self) -> bool:
        """True if it is served as it is, by the one command."""
        return not self.program and len(self.commands) == 1 and self.commands[0].startswith("servable serve ")

    @property
    def short(self) -> str:
        """What it is and what to do, in one line."""
        what = f"{self.title}, but {self.problem}" if self.problem else self.title
        return f"{what}: {self.advice}"


def damaged(kind: str, title: str, problem: str, advice: str, commands: tuple[str, ...] = ()) -> Artifact:
    """Returns the artifact of a file that is not whole."""
    return Artifact(kind, title, advice, commands=commands, problem=problem)


COPY_AGAIN = "copy or download it again, and compare the sizes"


def cut(kind: str, title: str) -> Artifact:
    """Returns the artifact of a file whose end is missing."""
    return damaged(kind, title, "its end is missing", COPY_AGAIN)


def shown(text: str) -> str:
    """Returns ``text`` for people, with ``?`` for what is not to be printed."""
    return "".join(one if one.isprintable() else "?" for one in text)


def quoted(text: str) -> str:
    """Returns ``text`` as one word of a shell's command line, whatever characters it has."""
    text = f"./{text}" if text.startswith("-") else text
    if text.isprintable():
        return shlex.quote(text)
    escaped = "".join(_escaped(one) for one in text)
    return f"$'{escaped}'"


def _escaped(one: str) -> str:
    if one in "\\'":
        return "\\" + one
    if one.isprintable():
        return one
    # A byte of a name that is not UTF-8 is such a surrogate; another one cannot be in a name.
    is_byte = "\udc80" <= one <= "\udcff"
    return "".join(
        f"\\x{byte:02x}" for byte in one.encode("utf-8", "surrogateescape" if is_byte else "replace")
    )


def name_of(path: str) -> str:
    """Returns a model's name made from that of a file or folder: letters, digits, ``.``, ``_`` and ``-``.

    One that says nothing, such as ``model.pb``, gives way to that of its folder.
    """
    above = os.path.basename(os.path.dirname(os.path.abspath(path)))
    own = _plain_name(path)
    return _plain_name(above) if own.lower() in _ANY and above else own


def _plain_name(path: str) -> str:
    last = os.path.basename(path.rstrip("/"))
    stem = re.split(r"\.(?:tar|ckpt|savedmodel)\b", last, flags=re.IGNORECASE)[0]
    stem = os.path.splitext(stem)[0] if os.path.splitext(stem)[1].lower() in _ENDINGS else stem
    return re.sub(r"[^\w.-]+", "_", stem, flags=re.ASCII).strip("._-")[:60] or "model"


_ANY = ("model", "saved_model", "checkpoint", "weights", "pytorch_model", "frozen_graph", "ckpt", "variables")
_ENDINGS = (
    *(
        ".zip",
        ".tgz",
        ".gz",
        ".bz2",
        ".xz",
        ".mar",
        ".pb",
        ".pbtxt",
        ".onnx",
        ".tflite",
        ".lite",
        ".xml",
        ".bin",
    ),
    *(".keras", ".h5", ".hdf5", ".pt", ".pth", ".pt2", ".safetensors", ".pkl", ".pickle", ".joblib", ".json"),
    *(".ubj", ".txt", ".model", ".cbm", ".gguf", ".ckpt", ".index", ".meta", ".dat", ".mlmodel", ".engine"),
    *(".plan", ".trt", ".npy", ".npz", ".pmml", ".msgpack"),
)
