"""Puts a model's folder into a store: ``upload.py FOLDER s3://BUCKET/NAME``.

Waits for the store, and makes the bucket. A version that is there already stays as it is.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import fsspec

SECONDS = 60.0
"""How long the store may take until it answers."""


def upload(folder: Path, url: str) -> str:
    """Puts every version there that the store does not have; returns a line about it."""
    store, place = fsspec.core.url_to_fs(url)
    await_bucket(store, place.split("/")[0])
    versions = [one for one in folder.iterdir() if one.is_dir() and one.name.isdigit()]
    new = [one for one in versions if not store.exists(f"{place}/{one.name}")]
    if not versions:
        raise SystemExit(f"{folder} has no version: folders with numbers as names were expected")
    for version in new:
        for file in sorted(one for one in version.rglob("*") if one.is_file()):
            store.put_file(str(file), f"{place}/{version.name}/{file.relative_to(version).as_posix()}")
    return f"{url}: {len(new)} versions new, {len(versions) - len(new)} there already"


def await_bucket(store: fsspec.AbstractFileSystem, bucket: str) -> None:
    """Makes the bucket unless there is one, as soon as the store answers."""
    give_up = time.monotonic() + SECONDS
    while True:
        try:
            if not store.exists(bucket):
                store.mkdir(bucket)
            return
        except Exception as error:  # stores raise what they like
            if time.monotonic() > give_up:
                raise SystemExit(f"the store does not answer: {error}") from error
            time.sleep(0.5)


if __name__ == "__main__":
    print(upload(Path(sys.argv[1]), sys.argv[2]))
