"""What can follow what on the command line: taken from the commands, their parsers, and the list of flags."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module

from servable.cli.commands import LIST
from servable.config.flags import FLAGS, Flag

FILES, FOLDERS, MODELS, NOTHING = "files", "folders", "models", "nothing"
"""What completes a value besides words: paths, paths of folders, names of models; nothing is known of it."""
_FILES = ("FILE", "PATH", "URL|PATH")
_MODELS = ("name", "model")
_OF_A_SERVER = ("models", "unload", "label", "reload", "predict", "warmup record")


@dataclass(frozen=True)
class Value:
    """What a flag or an argument takes. words: all there are, () if there are others."""

    kind: str = NOTHING
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Words:
    """What follows one command. flags: None for one that takes no value. help: of each flag."""

    command: str
    help: str
    flags: dict[str, Value | None] = field(default_factory=dict)
    helps: dict[str, str] = field(default_factory=dict)
    arguments: Value = field(default_factory=Value)


def all_words() -> tuple[Words, ...]:
    """Returns the words of every command, in the order of the help; those of subcommands after their own."""
    return tuple(_all())


def _all() -> Iterator[Words]:
    for one in LIST:
        help = one.help[0].rstrip(";:")
        if one.name in ("serve", "optimize"):
            more: dict[str, Value | None] = {"--json": None} if one.name == "optimize" else {}
            yield _of_server(one.name, help, more)
        elif one.name in ("flags", "version"):
            flags: dict[str, Value | None] = dict.fromkeys(
                ("--json", "--markdown")[: 2 - (one.name == "version")]
            )
            yield Words(one.name, help, flags, dict.fromkeys(flags, ""))
        elif not one.parsers:
            yield Words(one.name, help)
        module = import_module(f"servable.cli.{one.module}")
        for word, function in one.parsers:
            yield from _of_parser(f"{one.name} {word}".strip(), help, getattr(module, function)())


def _of_server(command: str, help: str, more: dict[str, Value | None]) -> Words:
    flags = {f"--{name}": _of_flag(flag) for name, flag in FLAGS.items()} | more | {"--help": None}
    helps = {f"--{name}": _sentence(flag.help) for name, flag in FLAGS.items()}
    return Words(command, help, flags, helps, Value(FILES))


def _of_flag(flag: Flag) -> Value | None:
    if flag.kind == "bool":
        return None
    if flag.kind == "choice":
        return Value(words=flag.choices)
    if flag.name.endswith(("_file", "_library", "_path", "_socket")):
        return Value(FILES)
    return Value(FOLDERS if flag.name.endswith(("_dir", "_folder", "_cache", "_base_path")) else NOTHING)


def _of_parser(command: str, help: str, parser: argparse.ArgumentParser) -> Iterator[Words]:
    flags: dict[str, Value | None] = {}
    helps: dict[str, str] = {}
    arguments = Value()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield Words(command, help, {"--help": None}, {}, Value(words=tuple(action.choices)))
            said = {one.dest: one.help or "" for one in action._choices_actions}
            for name, inner in action.choices.items():
                yield from _of_parser(f"{command} {name}", said.get(name, ""), inner)
            return
        if action.help == argparse.SUPPRESS:
            continue
        if action.option_strings:
            name = next(one for one in reversed(action.option_strings) if one.startswith("--"))
            name = next((one for one in action.option_strings if "_" in one), name)
            flags[name] = None if action.nargs == 0 else _of_action(command, action)
            helps[name] = _sentence(parser._get_formatter()._expand_help(action) if action.help else "")
        elif arguments == Value():
            arguments = _of_action(command, action)
    yield Words(command, help, flags, helps, arguments)


def _of_action(command: str, action: argparse.Action) -> Value:
    if action.choices is not None:
        return Value(words=tuple(map(str, action.choices)))
    metavar = action.metavar if isinstance(action.metavar, str) else action.dest
    if metavar in _FILES or action.dest in ("path", "output"):
        return Value(FILES)
    if metavar == "FOLDER":
        return Value(FOLDERS)
    is_name = not action.option_strings and action.dest in _MODELS
    return Value(MODELS) if is_name and command in _OF_A_SERVER else Value()


def _sentence(text: str) -> str:
    """Returns the beginning of an explanation, on one line."""
    first = " ".join(text.split()).partition(";")[0]
    return first if len(first) <= 100 else first[:99] + "…"
