"""Arrays as numpy stores them: a .npy file for one, an .npz archive, uncompressed, for several by name."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping

import numpy as np

from servable.client.values.arrays import Array

NPY = "application/x-npy"
NPZ = "application/x-npz"

_ENDING = ".npy"


def written(arrays: Mapping[str, Array], alone: bool) -> tuple[str, bytes]:
    """Returns the media type and the bytes of the arrays; alone: one may come without its name."""
    if alone and len(arrays) == 1:
        return NPY, _file(next(iter(arrays.values())))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as files:
        for name, array in arrays.items():
            files.writestr(name + _ENDING, _file(array))
    return NPZ, archive.getvalue()


def read(media: str, content: bytes, alone: str | None) -> dict[str, Array]:
    """Returns the arrays by name; alone: the name of the one in a file. Raises ``ValueError``."""
    if media == NPY and alone is not None:
        return {alone: _array(io.BytesIO(content))}
    if media != NPZ:
        raise ValueError(f"a reply of type {media!r}")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as files:
            return {
                name.removesuffix(_ENDING): _array(io.BytesIO(files.read(name))) for name in files.namelist()
            }
    except (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError) as error:
        # RuntimeError: an entry is encrypted, or compressed in a way that is not known.
        raise ValueError(f"no archive: {error}") from None


def _file(array: Array) -> bytes:
    # numpy.ascontiguousarray would make an array of one dimension of a scalar.
    array = np.asarray(array, order="C")
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, np.lib.format.header_data_from_array_1_0(array))
    return head.getvalue() + array.tobytes()


def _array(file: io.BytesIO) -> Array:
    array: Array = np.lib.format.read_array(file, allow_pickle=False)
    return array
