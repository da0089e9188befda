"""Parses ``argv`` into values as given: flags with their values, and everything else on the line.

Two dialects of one syntax (``--name=value``, ``--name value``, ``--name`` for a bool, ``--`` ends the flags):

- ``tensorflow_model_server``: names as written; unknown arguments are kept in ``unknown`` and are no error;
- ``servable serve``: ``-`` and ``_`` are equivalent in names, and ``--no-name`` is ``--name=false``; an
  unknown flag is an error that suggests the nearest one.

In both, a value that does not parse or is not UTF-8 is a ``UsageError``. If a flag is given twice, the later
one wins.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from servable.config.flags import FLAGS, Flag, Value, nearest
from servable.errors import UsageError

_WORDS = {"true": True, "false": False, "1": True, "0": False}
_INT_BITS = {"int32": 32, "port": 32, "int64": 64}


@dataclass(frozen=True)
class Arguments:
    """A parsed command line.

    values: every flag, given or not. given: the names on the line. positionals: arguments that are not flags.
    unknown: arguments that match no flag, as written (always empty for ``servable serve``).
    """

    serve: bool
    values: dict[str, Value]
    given: frozenset[str] = frozenset()
    positionals: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    help: bool = field(default=False)

    def text(self, name: str) -> str:
        """Returns the value of a string or choice flag."""
        return str(self.values[name])

    def integer(self, name: str) -> int:
        """Returns the value of an int32 or int64 flag."""
        value = self.values[name]
        assert isinstance(value, int)
        return value

    def number(self, name: str) -> float:
        """Returns the value of a float flag."""
        value = self.values[name]
        assert isinstance(value, (int, float))
        return float(value)

    def boolean(self, name: str) -> bool:
        """Returns the value of a bool flag."""
        return self.values[name] is True

    def texts(self, name: str) -> tuple[str, ...]:
        """Returns the values of a repeatable flag, in the order given."""
        value = self.values[name]
        assert isinstance(value, tuple)
        return value

    def port(self, name: str) -> int | None:
        """Returns the meaning of a port flag: None is off, 0 is any free port."""
        value = self.values[name]
        if not self.serve and value == 0:
            return None
        assert value is None or isinstance(value, int)
        return value


def parse(argv: Sequence[str], serve: bool) -> Arguments:
    """Parses a command line (without the program's name). Raises ``UsageError``."""
    check_text(argv)
    return _Parser(argv, serve).run()


def check_text(texts: Iterable[str]) -> None:
    """Raises ``UsageError`` unless all ``texts`` are valid Unicode.

    Bytes that are not UTF-8 in the command line, the environment and file names reach Python as lone
    surrogates. Models are named in JSON, protobuf and logs, none of which can represent them.
    """
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UsageError(f"names and paths must be UTF-8, got {text!a}") from None


class _Parser:
    def __init__(self, argv: Sequence[str], serve: bool) -> None:
        self._rest = list(reversed(argv))
        self._serve = serve
        self._values = {flag.name: flag.default_for(serve) for flag in FLAGS.values()}
        self._given: set[str] = set()
        self._positionals: list[str] = []
        self._unknown: list[str] = []

    def run(self) -> Arguments:
        wants_help = False
        while self._rest:
            argument = self._rest.pop()
            if argument == "--":
                self._positionals.extend(reversed(self._rest))
                break
            if argument == "--help" or (self._serve and argument == "-h"):
                wants_help = True
            elif argument.startswith("--"):
                self._flag(argument)
            elif self._serve and argument.startswith("-") and len(argument) > 1:
                raise UsageError(f"unknown flag {argument}: flags begin with two dashes")
            else:
                self._positionals.append(argument)
        return Arguments(
            serve=self._serve,
            values=self._values,
            given=frozenset(self._given),
            positionals=tuple(self._positionals),
            unknown=tuple(self._unknown),
            help=wants_help,
        )

    def _flag(self, argument: str) -> None:
        written, equals, text = argument[2:].partition("=")
        name = written.replace("-", "_") if self._serve else written
        flag = FLAGS.get(name)
        if flag is None and self._serve and not equals:
            flag = FLAGS.get(name.removeprefix("no_"))
            flag, equals, text = (flag, "=", "false") if flag and flag.kind == "bool" else (None, "", "")
        if flag is None:
            self._unknown_flag(argument, written)
            return
        value = parse_value(flag, text if equals else self._next_value(flag), self._serve)
        if flag.kind == "strings" and flag.name in self._given:
            earlier = self._values[flag.name]
            assert isinstance(earlier, tuple) and isinstance(value, tuple)
            value = earlier + value
        self._values[flag.name] = value
        self._given.add(flag.name)

    def _next_value(self, flag: Flag) -> str:
        """Returns the value of a flag written without ``=``: the next argument, or ``true`` for a bool."""
        following = self._rest[-1] if self._rest else None
        if flag.kind == "bool":
            if following is not None and following.lower() in ("true", "false"):
                return self._rest.pop()
            return "true"
        if following is None or following.startswith("--"):
            raise UsageError(f"--{flag.name} needs a value: --{flag.name}={_example(flag)}")
        return self._rest.pop()

    def _unknown_flag(self, argument: str, written: str) -> None:
        if self._serve:
            raise UsageError(f"unknown flag --{written}{suggestion(written)}")
        self._unknown.append(argument)


def suggestion(written: str) -> str:
    """Returns ``; did you mean --rest_api_port?`` for a name that is close to a flag, otherwise ``""``."""
    close = nearest(written.replace("-", "_"))
    return f"; did you mean --{close}?" if close else ""


def parse_value(flag: Flag, text: str, serve: bool) -> Value:
    """Converts ``text`` to a value of ``flag``.

    Raises ``UsageError`` with the expected and the actual value.
    """
    if flag.kind == "string":
        return text
    if flag.kind == "strings":
        return (text,)
    if flag.kind == "port" and serve and text.lower() == "off":
        return None
    if flag.kind == "choice":
        if text not in flag.choices:
            raise _bad(flag, text, "one of " + ", ".join(flag.choices))
        return text
    if flag.kind == "bool":
        if text.lower() not in _WORDS:
            raise _bad(flag, text, "true or false")
        return _WORDS[text.lower()]
    if flag.kind == "float":
        return _float(flag, text)
    return _integer(flag, text, serve)


def _integer(flag: Flag, text: str, serve: bool) -> int:
    bits = _INT_BITS[flag.kind]
    digits = text[1:] if text[:1] in ("-", "+") else text
    # No flag needs more than the 19 digits of an int64; the bound also keeps int() cheap for any input.
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 20):
        raise _bad(flag, text, "a whole number")
    value = int(text)
    if not -(2 ** (bits - 1)) <= value < 2 ** (bits - 1):
        raise _bad(flag, text, f"a whole number of {bits} bits")
    if flag.kind == "port" and not 0 <= value <= 65535:
        raise _bad(flag, text, "a port from 0 to 65535" + (" or off" if serve else ""))
    return value


def _float(flag: Flag, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise _bad(flag, text, "a number") from None
    if value != value:
        raise _bad(flag, text, "a number")
    return value


def _bad(flag: Flag, text: str, expected: str) -> UsageError:
    return UsageError(f"--{flag.name} expects {expected}, got {text!r}")


def _example(flag: Flag) -> str:
    return {"int32": "N", "int64": "N", "port": "N", "float": "X"}.get(flag.kind, "TEXT")
