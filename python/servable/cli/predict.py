"""``servable predict MODEL …``: one prediction from the command line.

Exit statuses: 0 answered, 1 an error, whose text is on stderr, 2 invalid command line; and, without a text,
130 interrupted by Ctrl-C, 141 the reader of the answer is gone, as shells report both for any command.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from typing import TextIO

from servable.cli.ending import EXIT_ERROR, EXIT_INTERRUPTED, EXIT_NO_READER
from servable.cli.predict_values import read_inputs
from servable.cli.printable import printable
from servable.cli.tls_options import add_tls_options
from servable.errors import InvalidArgumentError, ServableError, StatusError, UnavailableError, UsageError

EXIT_USAGE = 2

_INTRO = """\
Ask a running server for a prediction.

VALUE is a number, text, JSON such as [[1, 2], [3, 4]], or a file:
  @rows.json     JSON: a value, an object of inputs, or a whole REST request ({"instances": …}, {"inputs": …})
  @array.npy     a numpy array (.npz: several, named after the inputs)
  @photo.jpg     the bytes of any other file, for a model that decodes its pictures itself
  @-             JSON from standard input
Several values make a list, and so does a single number or text. --inputs names the input that a value is for
and may be repeated.
"""

_EXAMPLES = """\
examples:
  servable predict half_plus_two 1 2 5
  servable predict mobilenet_v2 @panda.jpg
  servable predict distance --inputs here='[[0, 0]]' --inputs there=@points.npy --format table
  servable predict half_plus_two @rows.json --server grpc://localhost:8500 --version 3
"""


def predict(argv: list[str]) -> int:
    """Runs the subcommand; returns the exit status."""
    try:
        options = parser().parse_intermixed_args([_shielded(argument) for argument in argv])
    except SystemExit as end:
        # argparse has printed the help (0) or the error (2).
        return int(end.code or 0)
    try:
        return _print(_answer(options))
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except UsageError as error:
        print(f"servable predict: {error}\nsee servable predict --help", file=sys.stderr)
        return EXIT_USAGE
    except ServableError as error:
        print(printable(f"servable predict: {error}"), file=sys.stderr)
        hint = _hint(error, options)
        if hint:
            print(printable(f"hint: {hint}"), file=sys.stderr)
        return EXIT_ERROR


def _print(answer: str) -> int:
    """Prints the answer, escaping characters that the encoding lacks.

    Returns the exit status. Raises ``ServableError``.
    """
    stdout: TextIO | None = sys.stdout
    if stdout is None:
        raise ServableError("the answer cannot be written: standard output is closed")
    try:
        if _lacks_characters(stdout, answer):
            from servable.cli.predict_output import escaped

            answer = escaped(answer)
        print(answer)
        stdout.flush()
    except OSError as error:
        # Python would try again to write the rest of the buffer at exit, and report an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return EXIT_NO_READER
        raise ServableError(f"the answer cannot be written: {error.strerror}") from None
    return 0


def _lacks_characters(stream: TextIO, text: str) -> bool:
    try:
        text.encode(stream.encoding or "utf-8")
    except UnicodeEncodeError:
        return True
    return False


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="servable predict",
        usage="servable predict MODEL [VALUE ...] [--inputs NAME=VALUE ...] [options]",
        description=_INTRO,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("model", metavar="MODEL", help="name of the model on the server")
    parser.add_argument("values", metavar="VALUE", nargs="*", help="what to predict from")
    parser.add_argument("--inputs", metavar="NAME=VALUE", action="append", default=[], help="one input")
    parser.add_argument(
        "--server",
        metavar="URL",
        default="http://localhost:8501",
        help="http://, https://, grpc://, grpcs://, unix:///path or http+unix:///path (default %(default)s)",
    )
    add_tls_options(parser)
    parser.add_argument("--signature", metavar="NAME", default="", help="default: serving_default")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--version", metavar="N", type=int, help="a version; default: the newest")
    which.add_argument("--label", metavar="LABEL", help="the version that has this label")
    parser.add_argument(
        "--outputs", metavar="NAME", action="append", help="only this output; may be repeated"
    )
    parser.add_argument("--format", choices=("json", "table"), default="json", help="default %(default)s")
    parser.add_argument("--json", dest="format", action="store_const", const="json", help="--format json")
    parser.add_argument("--timeout", metavar="SECONDS", type=float, default=60.0, help="default %(default)g")
    return parser


def _shielded(argument: str) -> str:
    """Keeps argparse from taking a negative number such as -1e3 for an option, by prefixing a space."""
    try:
        float(argument)
    except ValueError:
        return argument
    return " " + argument


def _answer(options: argparse.Namespace) -> str:
    given = read_inputs(options.values, options.inputs)
    _check_address(options.server)
    from servable.cli.predict_output import as_json, as_table
    from servable.client import Client, Tls
    from servable.client.binding import only_input, signature_of

    name = options.signature or given.signature
    inputs = given.value
    tls = Tls(options.ca_file, options.cert_file, options.key_file)
    with Client(options.server, timeout=options.timeout, ca_file=tls) as client:
        if not isinstance(inputs, Mapping):
            metadata = client.metadata(options.model, version=options.version, label=options.label)
            inputs = {only_input(signature_of(metadata, name)): inputs}
        outputs = client.predict(
            options.model,
            inputs,
            signature=name,
            version=options.version,
            label=options.label,
            outputs=options.outputs or given.outputs,
        )
    return as_table(outputs) if options.format == "table" else as_json(outputs)


def _check_address(text: str) -> None:
    from servable.client.transport.address import parse_address

    try:
        parse_address(text)
    except StatusError as error:
        raise UsageError(f"--server: {error.message}") from None


def _hint(error: ServableError, options: argparse.Namespace) -> str:
    if isinstance(error, UnavailableError):
        return f"is a server at {options.server}? servable serve PATH starts one, --server URL names another"
    if isinstance(error, InvalidArgumentError) and error.message.endswith(("got int", "got float")):
        return "to send a number as text, quote it as JSON, and that for the shell: '\"5\"'"
    return error.hint if isinstance(error, StatusError) else ""
