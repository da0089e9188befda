"""Which requests are sent to a model: from a file, a log, or made up from what its server says it takes."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from servable import _core
from servable.bench import tensorflow, v2
from servable.bench.asking import NotAnsweredError, Server
from servable.bench.files import body_request, pictures
from servable.bench.metadata import Input, inputs_of
from servable.bench.plan import Group, Request
from servable.bench.recorded import logged_requests
from servable.bench.target import V2, Model
from servable.bench.values import Value, count, looks_like_picture, made_up, resolved_shape
from servable.errors import ServableError, UsageError

VARIANTS = 8
"""Requests made up for each model, so that not every one is the same."""
LARGEST_VARIANTS = 16 << 20
"""Bytes of all variants, about: large requests are varied less."""


@dataclass(frozen=True)
class Wishes:
    """What requests are made of: at most one of body, pictures and log; shapes and batch for values made up.

    json_tensors: no binary tensors in the Open Inference Protocol over REST.
    """

    signature: str = ""
    body: str = ""
    pictures: str = ""
    log: str = ""
    batch: int | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    seed: int = 1
    json_tensors: bool = False


def group_for(server: Server, model: Model, wishes: Wishes) -> Group:
    """Returns the requests to a model, of which one was answered. Raises ``ServableError``."""
    if wishes.body:
        requests: Sequence[Request] = [body_request(server.target, model, wishes.body)]
    elif wishes.log:
        requests = logged_requests(
            wishes.log,
            server.target,
            model,
            lambda signature, values: _written(server, model, values, wishes, signature=signature),
        )
    else:
        return Group(model.shown, model.weight, _by_metadata(server, model, wishes))
    requests = _with_headers(server, requests)
    server.send(requests[0])
    return Group(model.shown, model.weight, requests)


def _with_headers(server: Server, requests: Sequence[Request]) -> list[Request]:
    return [server.headed(one) for one in requests]


def _by_metadata(server: Server, model: Model, wishes: Wishes) -> list[Request]:
    """Makes requests up; for strings that may be pictures or words, the first form that is answered."""
    inputs = inputs_of(server, model, wishes.signature)
    unknown = set(wishes.shapes) - {one.name for one in inputs}
    if unknown:
        there = ", ".join(one.name for one in inputs)
        raise UsageError(f"--shape {min(unknown)}: {model.shown} has no such input; it has: {there}")
    if wishes.pictures:
        requests = _of_pictures(server, model, inputs, wishes)
        server.send(requests[0])
        return requests
    strings = [one for one in inputs if one.dtype == "string"]
    pictured = [looks_like_picture(one.name) for one in strings]
    forms = [True, False] if any(pictured) else [False, True] if strings else [False]
    refused: ServableError | None = None
    for with_pictures in forms:
        requests = _made_up(server, model, inputs, wishes, with_pictures)
        try:
            server.send(requests[0])
        except NotAnsweredError as error:
            if error.failure.kind not in ("status", "code"):
                raise
            refused = refused or error
            continue
        return requests
    raise ServableError(
        f"the server refuses a request made up for {model.shown}. {refused}\n"
        "choose lengths by --shape or --batch, or give requests by --body, --pictures or --log"
    )


def _made_up(
    server: Server, model: Model, inputs: Sequence[Input], wishes: Wishes, with_pictures: bool
) -> list[Request]:
    chance = random.Random(wishes.seed)
    picture = _core.bench_picture() if with_pictures else b""
    shapes = {one.name: resolved_shape(one, wishes.batch, wishes.shapes) for one in inputs}
    requests: list[Request] = []
    total = 0
    while len(requests) < VARIANTS and (not requests or total < LARGEST_VARIANTS):
        values = [made_up(one, shapes[one.name], chance, picture) for one in inputs]
        requests.append(_written(server, model, values, wishes, inputs))
        total += len(requests[-1].body or b"")
    return _with_headers(server, requests)


def _by_row(inputs: Sequence[Input]) -> bool:
    return all(one.shape is None or (bool(one.shape) and one.shape[0] < 0) for one in inputs)


def _of_pictures(server: Server, model: Model, inputs: Sequence[Input], wishes: Wishes) -> list[Request]:
    """Makes a request of each ``batch`` pictures of the folder; other inputs are made up."""
    strings = [one for one in inputs if one.dtype == "string"]
    chosen = [one for one in strings if looks_like_picture(one.name)] or strings
    if len(chosen) != 1:
        said = "no input that takes strings" if not chosen else "several inputs that may take pictures"
        raise ServableError(f"{model.shown} has {said}; give requests by --body")
    files = pictures(wishes.pictures)
    chance = random.Random(wishes.seed)
    requests = []
    shape = resolved_shape(chosen[0], wishes.batch, wishes.shapes)
    size = max(1, count(shape))
    for start in range(0, len(files), size):
        strip = [files[(start + offset) % len(files)] for offset in range(size)]
        values = [
            Value(one.name, "string", shape, strings=tuple(strip))
            if one is chosen[0]
            else made_up(one, resolved_shape(one, wishes.batch, wishes.shapes), chance)
            for one in inputs
        ]
        requests.append(_written(server, model, values, wishes, inputs))
    return _with_headers(server, requests)


def _written(
    server: Server,
    model: Model,
    values: Sequence[Value],
    wishes: Wishes,
    inputs: Sequence[Input] = (),
    signature: str = "",
) -> Request:
    """Writes a request in the server's protocol; inputs: what is known of the model's, for rows over REST."""
    name = signature or wishes.signature
    if server.target.protocol == V2:
        return v2.infer(server.target, model, name, values, binary=not wishes.json_tensors)
    return tensorflow.predict(server.target, model, name, values, bool(inputs) and _by_row(inputs))
