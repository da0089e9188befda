"""``servable completion bash|zsh|fish``: makes a shell complete commands, flags and their values.

The script is made from the list of commands, their parsers and the list of flags (``completion_words.py``):
it knows what this version knows. Names of models come from a running server, when a name is to be
completed: ``servable completion names`` asks the administration at its default address, for a second at most.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from contextlib import suppress

SHELLS = ("bash", "zsh", "fish")
NAMES_SECONDS = 1.0
MOST_NAMES = 1000
_HOW = """\
bash:  servable completion bash > ~/.local/share/bash-completion/completions/servable
       or, for this shell alone: source <(servable completion bash)
zsh:   servable completion zsh > ~/.zfunc/_servable, with fpath=(~/.zfunc $fpath) before compinit in ~/.zshrc
fish:  servable completion fish > ~/.config/fish/completions/servable.fish
"""


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="servable completion",
        description="Print what makes a shell complete the commands of servable.",
        epilog=_HOW,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("shell", choices=SHELLS)
    return parser


def completion(argv: Sequence[str]) -> int:
    """Runs the command."""
    if list(argv) == ["names"]:
        for name in names_of_models():
            print(name)
        return 0
    from servable.cli import completion_scripts
    from servable.cli.completion_words import all_words

    given = parser().parse_args(argv)
    print(getattr(completion_scripts, given.shell)(all_words()), end="")
    return 0


def names_of_models() -> list[str]:
    """Returns the names of the models of a running server; none if it does not answer at once."""
    from servable.cli.models import ADDRESS_VARIABLE, DEFAULT_ADDRESS, TOKEN_VARIABLES, Administration, Trust

    variables = ("SERVABLE_CA_FILE", "SERVABLE_CERT_FILE", "SERVABLE_KEY_FILE")
    trust = Trust(*(os.environ.get(one, "") for one in variables))
    token = next(filter(None, map(os.environ.get, TOKEN_VARIABLES)), "")
    address = os.environ.get(ADDRESS_VARIABLE, DEFAULT_ADDRESS)
    server = Administration(address, token, 0, trust, patience=NAMES_SECONDS)
    with suppress(Exception):  # of whatever kind: a key was pressed, and nobody wants to read of it
        listed = json.loads(server.fetch("GET", "/admin/models"))["models"]
        names = [str(one["name"]) for one in listed[:MOST_NAMES]]
        # What a shell would have to quote is not offered.
        return [one for one in names if one.isprintable() and not set(one) & set(" '\"\\$`;&|<>()*?[]#~!")]
    return []
