"""The command line of ``servable bench``: options as typed, and what they mean."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Sequence

from servable.bench.asking import Server
from servable.bench.payloads import Wishes
from servable.bench.plan import CorePlan, CoreTarget, Group
from servable.bench.target import PROTOCOLS, Model, Target, parse_model, parse_target
from servable.errors import UsageError

TOKEN_VARIABLE = "SERVABLE_TOKEN"
"""No argument names a token: others see the arguments of a process."""
GRPC_CONNECTIONS = 4
LOWEST_RATE, HIGHEST_RATE = 1e-6, 1e7
"""Those that the core takes."""
AIMS = ("p50", "p90", "p99", "p99.9")
SOURCES = ("body", "pictures", "log")

_INTRO = """\
Put load on a running server: Servable, TensorFlow Serving, or any of the Open Inference Protocol (KServe v2).

URL is http://HOST:PORT/v1/models/NAME (TensorFlow Serving's REST API), http://HOST:PORT/v2/models/NAME (Open
Inference Protocol) or grpc://HOST:PORT/NAME; https and grpcs for TLS. Requests are made up from what the
server says of the model, unless a file, pictures or a payload log is given. A token is taken from
$SERVABLE_TOKEN.
"""

_EXAMPLES = """\
examples:
  servable bench http://localhost:8501/v1/models/half_plus_two
  servable bench grpc://localhost:8500/resnet --batch 8 --concurrency 1,4,16,64
  servable bench http://localhost:8501/v1/models/resnet --rate 200 --arrivals poisson --pictures photos
  servable bench http://localhost:8501 --model small=3 --model large=1 --rate 100,200,400
  servable bench grpc://localhost:8500/resnet --find-rate --p99 50ms
  servable bench compare http://localhost:8501/v1/models/m http://otherhost:8501/v1/models/m
"""


def load_parser() -> argparse.ArgumentParser:
    """Returns the parser of ``servable bench URL …``."""
    parser = _parser("servable bench", "URL [URL ...] [options]", _INTRO, _EXAMPLES)
    parser.add_argument("urls", metavar="URL", nargs="+", help="what is asked; several: of one server")
    _add_requests(parser)
    _add_load(parser, "1,4,16")
    search = parser.add_argument_group("the highest rate within an aim")
    search.add_argument("--find-rate", action="store_true", help="search for it, beside one of the aims:")
    for aim in AIMS:
        search.add_argument(
            f"--{aim}",
            metavar="TIME",
            type=_milliseconds,
            help=f"the aim: {aim} within this time, such as 50ms",
        )
    search.add_argument(
        "--precision", type=_share, default=0.05, metavar="SHARE", help="of the rate found (default 0.05)"
    )
    _add_output(parser)
    return parser


def compare_parser() -> argparse.ArgumentParser:
    """Returns the parser of ``servable bench compare URL URL …``."""
    intro = "Compare two servers by turns: which is faster, by how much, and how sure that is.\n"
    parser = _parser("servable bench compare", "URL URL [options]", intro, "")
    parser.add_argument("urls", metavar="URL", nargs=2, help="what is asked, as in servable bench")
    _add_requests(parser)
    _add_load(parser, "4")
    parser.add_argument("--rounds", type=_positive, default=10, help="loads on each server (default 10)")
    _add_output(parser, pid=False)
    parser.set_defaults(duration=3.0, warm_up=0.5)
    return parser


def _parser(program: str, usage: str, intro: str, examples: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog=program,
        usage=f"{program} {usage}",
        description=intro,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def _add_requests(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is asked")
    group.add_argument(
        "--model",
        metavar="NAME[=WEIGHT]",
        action="append",
        default=[],
        help="a model, where the URL names none; repeatable, and asked by weight",
    )
    group.add_argument("--protocol", choices=PROTOCOLS, default="", help="default: what the URL says")
    group.add_argument("--signature", metavar="NAME", default="", help="default: serving_default")
    group.add_argument(
        "--batch", metavar="N", type=_positive, help="first length of inputs made up (default 1)"
    )
    group.add_argument(
        "--shape",
        metavar="NAME=1,224,224,3",
        action="append",
        default=[],
        help="shape of one input made up; repeatable",
    )
    group.add_argument("--seed", metavar="N", type=_seed, default=1, help="of chance (default 1)")
    group.add_argument(
        "--body", metavar="FILE", default="", help="the body of a request; over gRPC, its message"
    )
    group.add_argument(
        "--pictures", metavar="FOLDER", default="", help="pictures, for the input that takes them"
    )
    group.add_argument(
        "--log", metavar="FILE", default="", help="a TFRecord file of a payload log, or a warm-up"
    )
    group.add_argument(
        "--json-tensors",
        action="store_true",
        help="no binary tensors in the Open Inference Protocol over REST",
    )
    group.add_argument(
        "--header", metavar="NAME:VALUE", action="append", default=[], help="header or metadata; repeatable"
    )
    for name, said in (
        ("ca", "of the authorities to trust with TLS, instead of the system's"),
        ("cert", "of this client's certificate"),
        ("key", "of its key, if that is not in the same file"),
    ):
        group.add_argument(
            f"--{name}-file",
            metavar="FILE",
            default=os.environ.get(f"SERVABLE_{name.upper()}_FILE") or None,
            help=f"PEM file {said} (default $SERVABLE_{name.upper()}_FILE)",
        )


def _add_load(parser: argparse.ArgumentParser, concurrency: str) -> None:
    group = parser.add_argument_group("the load")
    group.add_argument(
        "--concurrency",
        metavar="N[,N...]",
        type=_list_of(_positive),
        default=_list_of(_positive)(concurrency),
        help=f"callers that wait for their answers, one load after the other (default {concurrency})",
    )
    group.add_argument(
        "--rate",
        metavar="N[,N...]",
        type=_list_of(_rate),
        help="requests a second, sent whether or not earlier ones are answered",
    )
    group.add_argument(
        "--arrivals", choices=("fixed", "poisson"), default="fixed", help="gaps of --rate (default fixed)"
    )
    group.add_argument(
        "--duration", metavar="TIME", type=_seconds, default=10.0, help="of each load (default 10s)"
    )
    group.add_argument("--requests", metavar="N", type=_positive, help="end a load after so many")
    group.add_argument("--warm-up", metavar="TIME", type=_span, default=2.0, help="not counted (default 2s)")
    group.add_argument(
        "--timeout", metavar="TIME", type=_seconds, default=30.0, help="of a request (default 30s)"
    )
    group.add_argument(
        "--max-outstanding",
        metavar="N",
        type=_positive,
        default=1000,
        help="under way with --rate (default 1000)",
    )
    group.add_argument("--threads", metavar="N", type=_positive, default=1, help="that send (default 1)")
    group.add_argument(
        "--connections",
        metavar="N",
        type=_positive,
        help=f"of gRPC (default: up to {GRPC_CONNECTIONS}, or --threads)",
    )


def _add_output(parser: argparse.ArgumentParser, pid: bool = True) -> None:
    group = parser.add_argument_group("what is told")
    said = "the server's process; default: who listens there, if it is local"
    group.add_argument("--pid", type=int, help=said if pid else argparse.SUPPRESS)
    group.add_argument(
        "--json",
        metavar="FILE",
        default="",
        help="write everything there; -: to standard output, and the tables elsewhere",
    )
    group.add_argument("--csv", metavar="FILE", default="", help="write a line for each load there")
    for kind in ("latency", "throughput"):
        group.add_argument(
            f"--{kind}-chart",
            metavar="FILE",
            action="append",
            default=[],
            help=f"draw {kind}: .svg or .png (needs the extra bench); repeatable",
        )


def dashed(argument: str) -> str:
    """Returns ``--warm_up=2`` as ``--warm-up=2``: both are understood."""
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument.partition("=")
    return name.replace("_", "-") + equals + value


def _number(text: str, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected {what}, got {text!r}")
    return value


def _positive(text: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,8}", text):
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text!r}")
    return int(text)


def _seed(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,20}", text) or int(text) >= 1 << 64:
        raise argparse.ArgumentTypeError(f"expected a whole number of 0 to 2^64 - 1, got {text!r}")
    return int(text)


def _rate(text: str) -> float:
    value = _number(text, "a rate above 0")
    if not LOWEST_RATE <= value <= HIGHEST_RATE:
        raise argparse.ArgumentTypeError(
            f"expected a rate above 0, and at most {HIGHEST_RATE:,.0f}, got {text!r}"
        )
    return value


def _share(text: str) -> float:
    value = _number(text, "a share of 0.001 to 1")
    if not 0.001 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a share of 0.001 to 1, got {text!r}")
    return value


def _span(text: str) -> float:
    """Reads ``10``, ``10s``, ``500ms`` or ``2m`` as seconds."""
    found = re.fullmatch(r"([\d.]+)(ms|s|m|)", text)
    seconds = _number(found[1] if found else text, "a time such as 10s, 500ms or 2m")
    return seconds * {"ms": 0.001, "s": 1.0, "m": 60.0, "": 1.0}[found[2] if found else ""]


def _seconds(text: str) -> float:
    value = _span(text)
    if not value:
        raise argparse.ArgumentTypeError(f"expected a time above 0, got {text!r}")
    return value


def _milliseconds(text: str) -> float:
    return _seconds(text) * 1e3


def _list_of(kind: Callable[[str], float]) -> Callable[[str], list[float]]:
    def read(text: str) -> list[float]:
        return [kind(part) for part in text.split(",")]

    return read


def wishes(options: argparse.Namespace) -> Wishes:
    """Returns what requests are made of. Raises ``UsageError``."""
    given = [name for name in SOURCES if getattr(options, name)]
    if len(given) > 1:
        raise UsageError(f"--{given[0]} and --{given[1]} are both given; give one of them")
    return Wishes(
        signature="" if options.signature == "serving_default" else options.signature,
        body=options.body,
        pictures=options.pictures,
        log=options.log,
        batch=options.batch,
        shapes=dict(map(_shape, options.shape)),
        seed=options.seed,
        json_tensors=options.json_tensors,
    )


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    name, equals, lengths = text.rpartition("=")
    if not equals or not re.fullmatch(r"\d{1,9}(,\d{1,9})*|", lengths):
        raise UsageError(f"--shape {text}: expected NAME=1,224,224,3")
    return name, tuple(int(length) for length in lengths.split(",") if length)


def server_and_models(urls: Sequence[str], options: argparse.Namespace) -> tuple[Server, list[Model]]:
    """Returns the one server that the URLs name, and the models to ask. Raises ``UsageError``."""
    parsed = [parse_target(url, options.protocol) for url in urls]
    models = [model for _, model in parsed if model] + [
        parse_model(one, weighted=True) for one in options.model
    ]
    target = parsed[0][0]
    for url, (other, _) in zip(urls, parsed, strict=True):
        if other != target:
            raise UsageError(
                f"{url} is of another server or protocol than {urls[0]}: bench asks one at a time"
            )
    if not models:
        raise UsageError(f"{urls[0]} names no model; give one by --model NAME, or in the URL")
    labelled = next((one for one in models if one.label), None)
    if labelled and target.protocol == "v2":
        raise UsageError(f"{labelled.shown}: the Open Inference Protocol has no labels; name a version")
    core = CoreTarget(
        target.grpc,
        target.host,
        target.port,
        target.tls,
        options.ca_file,
        options.cert_file,
        options.key_file,
    )
    return Server(target, core, _headers(options, target), options.timeout), models


def _headers(options: argparse.Namespace, target: Target) -> tuple[tuple[str, str], ...]:
    headers = []
    for text in options.header:
        name, colon, value = text.partition(":")
        if not colon or not name.strip():
            raise UsageError(f"--header expects NAME:VALUE, got {text!r}")
        headers.append((name.strip().lower(), value.strip()))
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    if token and not any(name == "authorization" for name, _ in headers):
        headers.append(("authorization", f"Bearer {token}"))
    return tuple(headers)


def plan(
    options: argparse.Namespace,
    server: Server,
    groups: Sequence[Group],
    concurrency: int = 1,
    rate: float | None = None,
) -> CorePlan:
    """Returns one load: a closed loop, or with a rate an open one."""
    shared = max(GRPC_CONNECTIONS, options.threads)
    return CorePlan(
        target=server.core,
        groups=groups,
        concurrency=concurrency,
        rate=rate,
        arrivals=options.arrivals,
        max_outstanding=options.max_outstanding,
        threads=options.threads,
        connections=options.connections or (shared if rate is not None else min(shared, concurrency)),
        warm_up=options.warm_up,
        duration=options.duration,
        count=options.requests,
        timeout=options.timeout,
        seed=options.seed,
    )
