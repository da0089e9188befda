"""Hints: explanations of a failure, and advice, for users.

They accompany the error texts and never replace them.

Each function looks at the disk at the moment of the failure and reports what was expected, what was found,
and what to do. A text is one line, or two if the second, indented, is advice.
"""

from __future__ import annotations

import os
import re
from types import ModuleType

from servable.savedmodel.artifacts.artifact import quoted
from servable.savedmodel.layout import (
    EXPECTED,
    MODEL_FILES,
    OTHER_FILES,
    SAVED_MODEL_FILES,
    SAVED_MODEL_FOLDERS,
    has_model_ending,
    held_by,
    holds_saved_model,
    is_version_name,
)

_INDENT = "\n    "


def base_path_unreadable(name: str, path: str, error: OSError) -> str:
    """Describes a base path that cannot be listed; begins with TensorFlow Serving's text for it."""
    reason = error.strerror or str(error)
    text = f"Could not find base path {path} for servable {name} with error {reason}"
    if isinstance(error, FileNotFoundError):
        return text + _INDENT + f"{_what_exists(path)}; it is looked for again at every poll"
    if isinstance(error, NotADirectoryError):
        kind = _foreign().kind_at(path)
        what = f"; it is {kind}" if kind else ""
        return text + _INDENT + "a folder with the model's numbered versions (1/, 2/, …) is needed" + what
    if isinstance(error, PermissionError):
        return text + _INDENT + f"user {_user()} needs read and execute permission on {path}"
    return text


def no_versions(name: str, path: str, names: list[str]) -> str:
    """Describes a base path without a single version folder."""
    text = f"No versions of servable {name} found under base path {path}"
    own = next((file for file in MODEL_FILES if file in names), "")
    if own:
        what = "a SavedModel" if own in SAVED_MODEL_FILES else own
        return (
            text
            + _INDENT
            + (
                f"it holds {what} itself, and numbered folders were looked for: "
                f"move the model to {path}/1, "
                f"or run `servable serve {path}`, which takes a version's folder too"
            )
        )
    if not names:
        others = f"{', '.join(OTHER_FILES[:-1])} or {OTHER_FILES[-1]}"
        return text + _INDENT + f"the folder is empty: put the SavedModel into {path}/1, or {others}"
    nested = [one for one in sorted(names) if _has_versions(os.path.join(path, one))]
    if nested:
        return (
            text
            + _INDENT
            + (
                f"it looks like a folder of models ({_listed(nested)}): serve one of them, "
                f"for example {path}/{nested[0]}"
            )
        )
    inside = [one for one in sorted(names) if held_by(os.path.join(path, one))]
    if inside:
        held = held_by(os.path.join(path, inside[0]))
        return (
            text + _INDENT + f"{inside[0]}/ holds {held}, but versions are named by numbers: rename it to 1"
        )
    return text + _INDENT + _no_folders(path, sorted(names))


def _no_folders(path: str, names: list[str]) -> str:
    """Describes what a base path holds in place of folders of versions."""
    said = f"it holds {_listed(names)}, and folders named by numbers (1, 2, …) were looked for"
    lone = next((one for one in names if has_model_ending(one)), "")
    if lone:
        return f"{said}; {lone} is served by itself from {os.path.join(path, lone)}"
    whole = _foreign().kind_at(path)
    if whole:
        return f"it is {whole}"
    known = _foreign().kind_in(path, names)
    return f"{said}; {known}" if known else said


def _foreign() -> ModuleType:
    """Returns what knows other formats: loaded with the first failure, as most servers never need it."""
    from servable.savedmodel import foreign

    return foreign


def version_absent(name: str, version: int, found: dict[int, str]) -> str:
    """Describes a version that the policy lists but that does not exist."""
    seen = _listed([str(one) for one in sorted(found)])
    return f"Version {version} of servable {name} is not among those found: {seen}"


def version_folder_gone(name: str, path: str) -> str:
    """Describes a version folder, given on the command line, that no longer exists."""
    return (
        f"The folder of servable {name} is gone: {path}"
        + _INDENT
        + "the version is unloaded until it is back"
    )


def model_file_gone(name: str, path: str) -> str:
    """Describes a model's file that no longer exists, or does not yet."""
    return (
        f"The file of servable {name} is gone: {path}"
        + _INDENT
        + f"{_what_exists(path)}; the model is not served until the file is there"
    )


_LOOKS_INCOMPLETE = (
    "half-copied|may not be read|does not appear to contain|Unsuccessful TensorSliceReader|not found|"
    "no such file"
)
"""Texts for missing files, which also appear if files exist but may not be read."""
_SAID_BY_THE_CORE = ("copy the folder again", "--saved_model_tags")
"""Advice that some of the core's own messages already contain."""


def load_hint(path: str, message: str) -> str:
    """Returns advice on a failed load of the version in ``path``, or "" if its error says it all."""
    unreadable = denied(path) if re.search(_LOOKS_INCOMPLETE, message, re.IGNORECASE) else ""
    if unreadable:
        return permission(path, unreadable)
    if any(advice in message for advice in _SAID_BY_THE_CORE):
        return ""
    other = _foreign().misnamed_file(path)
    if other:
        return f"its file is {other}"
    for pattern, advice in _LOAD_ADVICE:
        found = re.search(pattern, message, re.IGNORECASE | re.DOTALL)
        if found:
            return advice(path, found)
    return ""


def _no_model(path: str, _found: re.Match[str]) -> str:
    if not os.path.isdir(path):
        return (
            f"{path} has vanished since it was found: was the version removed, or is it still being copied?"
        )
    names = sorted(os.listdir(path)) if os.access(path, os.R_OK) else []
    if not names:
        return "the folder is empty; copy versions under another name and rename them when they are complete"
    misnamed = next((one for one in names if has_model_ending(one)), "")
    if misnamed:
        return (
            f"{misnamed} is not served from here under this name: rename it to "
            f"model{os.path.splitext(misnamed)[1].lower()}, or serve the file itself"
        )
    inner = next((one for one in names if held_by(os.path.join(path, one))), "")
    if inner:
        what = "SavedModel" if holds_saved_model(os.path.join(path, inner)) else "model"
        return f"the {what} is one folder deeper, in {inner}/: move its content up into {path}"
    whole = _foreign().kind_at(path)
    if whole:
        return f"it is {whole}"
    known = _foreign().kind_in(path, names)
    said = f"{path} holds {_listed(names)}; expected {EXPECTED}"
    return f"{said}; {known}" if known else said


def _tags(path: str, _found: re.Match[str]) -> str:
    return "the model has other tags than asked for: set --saved_model_tags to one of the sets in the message"


def _op(path: str, found: re.Match[str]) -> str:
    op = next((group for group in found.groups() if group), "the op")
    return (
        f"{op} is not part of this TensorFlow: load the library that has it with --op_library=PATH "
        "(TensorFlow Text: the .so files of its package), or upgrade TensorFlow if the op is newer"
    )


def _keras_variables(path: str, _found: re.Match[str]) -> str:
    return (
        "the signatures read variables that loading did not fill. A Keras 3 model saved inside a tf.Module "
        "with tf.saved_model.save does this: export it with model.export(folder), or keep its tf.Variables "
        "on the module (module.weights_ = [v.value for v in model.variables])"
    )


def _corrupt(path: str, _found: re.Match[str]) -> str:
    files = [os.path.join(path, one) for one in (*SAVED_MODEL_FILES, *OTHER_FILES)]
    sizes = [
        f"{os.path.basename(one)} {_size(one)}"
        for one in (files if os.path.isdir(path) else [path])
        if os.path.exists(one)
    ]
    seen = ", ".join(sizes) or "no saved_model.pb"
    return f"the model on the disk is damaged or was only half copied ({seen}): copy it again"


def _variables(path: str, _found: re.Match[str]) -> str:
    folder = os.path.join(path, "variables")
    seen = _listed(sorted(os.listdir(folder))) if os.path.isdir(folder) else "no such folder"
    return f"the variables are incomplete ({folder}: {seen}): copy the whole version folder"


def _permission(path: str, _found: re.Match[str]) -> str:
    return permission(path, "it")


def permission(path: str, what: str) -> str:
    """Returns advice on something in the version ``path`` that may not be read."""
    return f"user {_user()} may not read {what}: chmod -R a+rX {quoted(path)}"


def denied(path: str) -> str:
    """Returns the first folder or file of the version in ``path`` that this process may not read, or ""."""
    if os.path.isfile(path):
        return "" if os.access(path, os.R_OK) else path
    for folder in (path, *(os.path.join(path, one) for one in SAVED_MODEL_FOLDERS)):
        if not os.path.isdir(folder):
            continue
        if not os.access(folder, os.X_OK):
            return folder
        files = os.listdir(folder) if os.access(folder, os.R_OK) else []
        for file in sorted(files):
            found = os.path.join(folder, file)
            if os.path.isfile(found) and not os.access(found, os.R_OK):
                return found
    return ""


def _warmup(path: str, _found: re.Match[str]) -> str:
    return (
        "the warm-up file is at fault, not the model: make it again with `servable warmup make`, or remove "
        f"{path}/assets.extra/tf_serving_warmup_requests"
    )


def _asset(path: str, found: re.Match[str]) -> str:
    return f"{found[1]} is missing, and the graph reads it: copy the whole version folder"


_LOAD_ADVICE = (
    (r"does not appear to contain a SavedModel|There is no model in ", _no_model),
    (r"Could not find meta graph def matching supplied tags", _tags),
    (
        r"Op type not registered '([^']+)'|No OpKernel was registered to support Op '([^']+)'"
        r"|unknown op[: ]+'?(\w+)",
        _op,
    ),
    (r"Could not find variable|Error while reading resource variable|uninitialized value", _keras_variables),
    (r"permission denied|may not be read", _permission),
    (r"warmup data|warmup record|for warmup", _warmup),
    (r"/(assets/[^;]+); No such file", _asset),
    (
        r"Unsuccessful TensorSliceReader|variables[./].*(not found|no such file)|data_?loss|data loss"
        r"|checksum does not match|Read less bytes than requested",
        _variables,
    ),
    (
        r"cannot parse|can't parse|failed to parse|parse error|error parsing|truncated|corrupt"
        r"|not a (valid )?SavedModel",
        _corrupt,
    ),
)


def _what_exists(path: str) -> str:
    parent = os.path.dirname(path.rstrip("/")) or "/"
    if not os.path.isdir(parent):
        return f"{parent} does not exist either"
    try:
        names = sorted(os.listdir(parent))
    except OSError:
        return f"{parent} exists and cannot be listed"
    return f"{parent} holds {_listed(names)}" if names else f"{parent} is empty"


def _has_versions(path: str) -> bool:
    try:
        return any(is_version_name(one) for one in os.listdir(path))
    except OSError:
        return False


def _listed(names: list[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (f", … ({len(names)} in all)" if len(names) > most else "")


def _size(path: str) -> str:
    try:
        return f"{os.path.getsize(path)} bytes"
    except OSError:
        return "unreadable"


def _user() -> str:
    return str(os.geteuid()) if hasattr(os, "geteuid") else "of this process"
