"""Where a server listens, reads and writes: ports, the folders of models, the cache."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence

from servable.checkup.check import NOTE, OK, PROBLEM, WARNING, Check
from servable.config.model_paths import is_remote, local_path
from servable.savedmodel import doctor
from servable.savedmodel.artifacts.artifact import quoted
from servable.savedmodel.layout import held_by, is_model_file, is_version_name
from servable.serving import ports
from servable.sizes import size_text

FEW_BYTES = 1 << 30
MOST_VERSIONS = 20
"""Versions of a model whose files are looked at."""


def port(number: int, flag: str, meaning: str) -> Check:
    """Looks whether a port is free."""
    name = f"port {number}"
    try:
        is_free = ports.is_free(f"0.0.0.0:{number}")
    except OSError as error:
        advice = f"choose another with --{flag}=N, or allow it (net.ipv4.ip_unprivileged_port_start)"
        return Check(name, WARNING, f"{meaning} may not listen there: {error.strerror}", advice)
    if is_free:
        return Check(name, OK, f"free for {meaning}")
    hint = ports.port_hint(f"0.0.0.0:{number}", flag)
    taken, _, advice = hint.partition("; ")
    return Check(name, WARNING, f"{taken}, where {meaning} would listen", advice)


def cache(folder: str) -> Check:
    """Looks whether remote versions and converted files can be kept."""
    there = folder
    while not os.path.isdir(there) and os.path.dirname(there) != there:
        there = os.path.dirname(there)
    if not os.access(there, os.W_OK | os.X_OK):
        return Check(
            "cache",
            WARNING,
            f"{folder} may not be written by user {os.geteuid()}: nothing can be fetched or converted",
            "choose another folder with --model_cache_dir",
        )
    free = shutil.disk_usage(there).free
    if free < FEW_BYTES:
        advice = "free some space, or choose another folder with --model_cache_dir"
        return Check("cache", WARNING, f"{folder} has {size_text(free)} of space left", advice)
    return Check("cache", OK, f"{folder} can be written, {size_text(free)} are free")


def models(path: str) -> Check:
    """Looks whether the model at a base path may be read, and whether there is one."""
    name = "models"
    if is_remote(path):
        return Check(name, NOTE, f"{path} is remote, and was not looked at")
    path = os.path.abspath(os.path.expanduser(local_path(path)))
    if not os.path.exists(path):
        return Check(name, PROBLEM, f"{path} does not exist", "copy the model there, or give another path")
    if not os.access(path, os.R_OK if os.path.isfile(path) else os.R_OK | os.X_OK):
        return Check(name, PROBLEM, *_split(doctor.permission(path, path)))
    if is_model_file(path) or held_by(path):
        found = [path]
    else:
        names = os.listdir(path) if os.path.isdir(path) else []
        versions = sorted((one for one in names if is_version_name(one)), key=int, reverse=True)
        found = [os.path.join(path, one) for one in versions[:MOST_VERSIONS]]
    for one in found:
        denied = doctor.denied(one)
        if denied:
            return Check(name, PROBLEM, *_split(doctor.permission(one, denied)))
    if not found:
        said = f"{path} holds no version of a model"
        return Check(
            name, PROBLEM, said, f"servable inspect {quoted(path)} says what is there, and what to do"
        )
    return Check(name, OK, f"{path}: {len(found)} {'version' if len(found) == 1 else 'versions'}, readable")


def _split(text: str) -> tuple[str, str]:
    found, _, advice = text.partition(": ")
    return found, advice


def user() -> Check:
    """Looks who runs it."""
    if os.geteuid() == 0:
        return Check(
            "user",
            NOTE,
            "root: a model's graph is a program, and would run as root",
            "run the server as a user of its own, who may read the models",
        )
    return Check("user", OK, f"number {os.geteuid()}")


def all_of_places(paths: Sequence[str], cache_folder: str, grpc: int, rest: int) -> list[Check]:
    """Returns every check of this file. cache_folder: "" for none that could be used."""
    return [
        port(grpc, "port", "gRPC"),
        port(rest, "rest_api_port", "REST"),
        *([cache(cache_folder)] if cache_folder else []),
        *(models(path) for path in paths),
        user(),
    ]
