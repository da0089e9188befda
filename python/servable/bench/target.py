"""Which server, which model, which protocol: addresses as they are typed.

| address                                        | asked                                             |
| ---------------------------------------------- | ------------------------------------------------- |
| ``http://host:8501/v1/models/NAME[:predict]``  | TensorFlow Serving's REST API                     |
| ``http://host:8000/v2/models/NAME[/infer]``    | the Open Inference Protocol's                     |
| ``grpc://host:8500/NAME``                      | gRPC, of TensorFlow Serving's API unless told     |
| ``http://host:8501``, ``grpc://host:8500``     | models are named apart                            |

``https`` and ``grpcs`` for TLS. ``/versions/N`` or ``/labels/LABEL`` may follow a name. In an address, names
are percent-encoded, so that they may have any character.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from urllib.parse import quote, unquote, urlsplit

from servable.errors import UsageError

TENSORFLOW, V2 = "tensorflow", "v2"
PROTOCOLS = (TENSORFLOW, V2)
PORTS = {"http": 80, "https": 443, "grpc": 8500, "grpcs": 8500}
_EXPECTED = (
    "expected http://HOST:PORT/v1/models/NAME, http://HOST:PORT/v2/models/NAME or grpc://HOST:PORT/NAME "
    "(https and grpcs for TLS), or the same without a name beside --model NAME"
)


@dataclass(frozen=True)
class Model:
    """A model to ask: its name, and a version or a label ("": the newest), with its weight."""

    name: str
    version: str = ""
    label: str = ""
    weight: float = 1.0

    @property
    def shown(self) -> str:
        """The name as tables show it."""
        return (
            self.name
            + (f"/{self.version}" if self.version else "")
            + (f":{self.label}" if self.label else "")
        )


@dataclass(frozen=True)
class Target:
    """A server: how it is reached, and spoken to. prefix: what REST paths begin with."""

    protocol: str
    grpc: bool
    host: str
    port: int
    tls: bool = False
    prefix: str = ""

    @property
    def shown(self) -> str:
        """The address as messages show it."""
        scheme = ("grpc" if self.grpc else "http") + ("s" if self.tls else "")
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}{self.prefix}"

    def model_path(self, model: Model) -> str:
        """Returns the REST path of a model, without a verb."""
        kind = "v2" if self.protocol == V2 else "v1"
        path = f"{self.prefix}/{kind}/models/{quote(model.name, safe='')}"
        if model.version:
            return f"{path}/versions/{model.version}"
        return f"{path}/labels/{quote(model.label, safe='')}" if model.label else path


def parse_target(text: str, protocol: str = "") -> tuple[Target, Model | None]:
    """Reads an address; protocol: "" for what the address says, or TensorFlow Serving's.

    Raises ``UsageError``.
    """
    wrong = UsageError(f"{text!r} is no address of a model: {_EXPECTED}")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise wrong from None
    if parts.scheme not in PORTS or not host or parts.query or parts.fragment or parts.username or port == 0:
        raise wrong
    target = Target(
        protocol or TENSORFLOW,
        parts.scheme.startswith("grpc"),
        host,
        port or PORTS[parts.scheme],
        parts.scheme.endswith("s"),
    )
    if target.grpc:
        name = parts.path.strip("/")
        return target, _decoded(parse_model(name)) if name else None
    found = re.fullmatch(r"(.*?)/(v[12])/models/([^:]+?)(?::predict|/infer)?/?", parts.path)
    if not found:
        if re.search(r"/v[12](/|$)", parts.path):
            raise wrong
        return replace(target, prefix=parts.path.rstrip("/")), None
    said = V2 if found[2] == "v2" else TENSORFLOW
    if protocol and protocol != said:
        raise UsageError(f"{text!r} is an address of the protocol {said}, and --protocol says {protocol}")
    return replace(target, protocol=said, prefix=found[1]), _decoded(parse_model(found[3]))


def _decoded(model: Model) -> Model:
    """Decodes the parts of an address, whose slashes have been read before."""
    return replace(model, name=unquote(model.name), label=unquote(model.label))


def parse_model(text: str, weighted: bool = False) -> Model:
    """Reads ``NAME[/versions/N|/labels/LABEL]``, if ``weighted`` also ``=WEIGHT``. Raises ``UsageError``."""
    name, weight = text, 1.0
    if weighted and "=" in text:
        name, _, number = text.rpartition("=")
        try:
            weight = float(number)
        except ValueError:
            weight = 0.0
        if not 0 < weight < float("inf"):
            raise UsageError(f"--model {text}: the weight has to be a number above 0")
    found = re.fullmatch(r"([^/\s]+?)(?:/versions/([0-9]{1,18})|/labels/([^/\s]+))?", name)
    if not found:
        raise UsageError(f"{text!r} is no model: expected NAME, NAME/versions/N or NAME/labels/LABEL")
    return Model(found[1], found[2] or "", found[3] or "", weight)
