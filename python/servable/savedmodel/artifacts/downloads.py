"""Files that are not what was meant to be downloaded: empty ones, Git LFS pointers, web pages, halves."""

from __future__ import annotations

import os
import re

from servable.savedmodel.artifacts.artifact import COPY_AGAIN, Artifact, damaged, quoted
from servable.savedmodel.artifacts.look import Look
from servable.sizes import size_text

_POINTER = b"version https://git-lfs.github.com/spec/"
_UNFINISHED = (".crdownload", ".part", ".partial", ".download", ".aria2", ".incomplete", ".tmp")


def empty(look: Look) -> Artifact | None:
    """Recognises a file without content."""
    if look.size:
        return None
    return damaged("empty-file", "an empty file", "a model was expected", COPY_AGAIN)


def git_lfs_pointer(look: Look) -> Artifact | None:
    """Recognises what Git has in place of a large file."""
    if not look.head.startswith(_POINTER):
        return None
    size = re.search(rb"^size (\d{1,18})$", look.head, re.MULTILINE)
    meant = f" of {size_text(int(size[1]))}" if size else ""
    folder = quoted(os.path.dirname(look.path) or ".")
    return damaged(
        "git-lfs-pointer",
        f"a Git LFS pointer to a file{meant}",
        "the file itself was not fetched",
        "fetch it with git lfs pull in the repository",
        (f"git -C {folder} lfs install", f"git -C {folder} lfs pull"),
    )


def web_page(look: Look) -> Artifact | None:
    """Recognises the page of a web site, such as one that asks for a login, saved under a model's name."""
    head = look.head[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith((b"<!doctype html", b"<html")):
        what = "a web page"
    elif head.startswith((b'<?xml version="1.0" encoding="utf-8"?>\n<error>', b"<error><code>")):
        what = "an error message of a store"
    else:
        return None
    return damaged(
        "web-page",
        what,
        "a model was expected",
        "download the model again, from the address of the file itself, and with what its site asks for",
    )


def unfinished(look: Look) -> Artifact | None:
    """Recognises a download that goes on, or that was given up, by its name."""
    if look.ending not in _UNFINISHED:
        return None
    return damaged(
        "unfinished-download",
        "a download",
        "it is not finished",
        "wait for its end, or download it again; it is called otherwise then",
    )
