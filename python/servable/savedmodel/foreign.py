"""Describes what was found in place of a model, in a line, with advice: for errors, logs and hints."""

from __future__ import annotations

import os

from servable.savedmodel.artifacts.artifact import Artifact, quoted
from servable.savedmodel.artifacts.misnamed import misnamed
from servable.savedmodel.artifacts.recognisers import recognise
from servable.savedmodel.layout import ENDINGS, OTHER_FILES, held_by

A_SAVED_MODEL = (
    "a SavedModel is a folder with saved_model.pb (or saved_model.pbtxt) and, for most models, variables/ "
    "and assets/"
)
A_MODEL = (
    f"{A_SAVED_MODEL}; models of other formats are a folder with {', '.join(OTHER_FILES[:-1])} or "
    f"{OTHER_FILES[-1]}, or a file that ends in {', '.join(ENDINGS)}"
)
_MOST_NAMED = 6
_MOST_KNOWN = 16
"""Files of a folder whose kind is looked for."""


def found_instead(path: str) -> str:
    """Describes what is at ``path``, which holds no model, and what a model consists of."""
    return f"{_found(path)}; {A_MODEL}"


def _found(path: str) -> str:
    if os.path.islink(path) and not os.path.exists(path):
        return f"{path} is a link to {os.readlink(path)}, which does not exist"
    if not os.path.lexists(path):
        return f"{path} does not exist"
    if os.path.isdir(path):
        return _found_in(path)
    kind = kind_of_file(path)
    return (
        f"{path} is {kind or 'a file'}" if os.path.isfile(path) else f"{path} is neither a folder nor a file"
    )


def _found_in(folder: str) -> str:
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        return f"{folder} cannot be listed ({error.strerror})"
    if not names:
        return f"{folder} is empty"
    inner = [one for one in names if held_by(os.path.join(folder, one))]
    if inner:
        return f"{folder} holds none itself, {inner[0]}/ in it does: give {os.path.join(folder, inner[0])}"
    whole = recognise(folder)
    if whole is not None:
        return f"{folder} is {in_short(whole, folder)}"
    more = f", … ({len(names)} in all)" if len(names) > _MOST_NAMED else ""
    known = known_file(folder, names)
    named = f", of which {known[0]} is {known[1].short}" if known else ""
    return f"{folder} holds {', '.join(names[:_MOST_NAMED])}{more}{named}"


def kind_of_file(path: str) -> str:
    """Returns the kind of a file, with advice; "" for unknown files and for folders."""
    found = recognise(path) if os.path.isfile(path) else None
    return "" if found is None else found.short


def known_file(folder: str, names: list[str]) -> tuple[str, Artifact] | None:
    """Returns the first file of the folder whose kind is known, and what it is."""
    for name in names[:_MOST_KNOWN]:
        path = os.path.join(folder, name)
        found = recognise(path) if os.path.isfile(path) else None
        if found is not None and found.kind != "empty-file":
            return name, found
    return None


def kind_at(path: str) -> str:
    """Returns what the file or folder at ``path`` is and what to do, in a line; "" if that is not known."""
    found = recognise(path)
    return "" if found is None else in_short(found, path)


def kind_in(folder: str, names: list[str]) -> str:
    """Returns the same of the first file in ``folder`` that is known, by its name; "" if none is."""
    known = known_file(folder, names)
    return "" if known is None else f"{known[0]} is {in_short(known[1], os.path.join(folder, known[0]))}"


def misnamed_file(path: str) -> str:
    """Returns what is wrong with the model's file at or in ``path``; "" if nothing is seen."""
    found = misnamed(path)
    return "" if found is None else in_short(found, path)


def in_short(found: Artifact, path: str) -> str:
    """Returns what something is and what to do, and where more is said if there is more."""
    more = (
        f" (`servable inspect {quoted(path)}` shows how)" if found.program or len(found.commands) > 1 else ""
    )
    return found.short + more
