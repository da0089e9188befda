"""A model behind a URL, in a zip or tar file or its own file: fetched when its ETag changes, within limits.

Sizes stated in an archive are not trusted: bytes are counted as they are written, and unpacking stops at the
limit. Names that lead out of the folder, links and devices are refused.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import os
import posixpath
import shutil
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from typing import IO, Any
from urllib.parse import quote, unquote, urlsplit

from servable.config.model_paths import is_model_uri, shown_uri
from servable.progress import Task, board
from servable.savedmodel.layout import is_version_name
from servable.sources import LONE_VERSION
from servable.sources.cache import CHUNK, RemoteFile, inside

ENDINGS = (".zip", ".tar.gz", ".tgz", ".tar")
MOST_FILES = 100_000
"""Most files and folders in an archive."""
TIMEOUT_SECONDS = 60.0
GRAPH, WEIGHTS = "model.xml", "model.bin"
"""The files of a model whose weights are a file of their own."""
_ITS_FAULT = (None, errno.EINVAL, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG)
"""The errors of a disk, and of decompression, that come of what is in an archive."""


class _RefusedError(OSError):
    """What was fetched is no model, however often it is fetched."""


def is_archive(base_path: str) -> bool:
    """True if the path is fetched by HTTP, and therefore must be an archive or a model's file."""
    return base_path.partition("://")[0].lower() in ("http", "https")


def find(url: str) -> None:
    """Returns if something is there, of which nothing is fetched. Raises ``OSError`` otherwise."""
    try:
        _asked(url).close()
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 404:
            raise _none_at(url) from None
        raise


class ArchiveStore:
    """A ``Store`` for an archive, or for a model's file, which has one version.

    scratch: folder to unpack into. most_bytes: limit, packed and unpacked.
    """

    def __init__(self, url: str, scratch: str, most_bytes: int) -> None:
        self._url = url
        self._scratch = scratch
        self._most_bytes = most_bytes
        self._tag = ""
        self._weights_tag = ""
        self._folder = ""
        self._refused: tuple[str, OSError] | None = None

    def versions(self) -> dict[int, str]:
        """See ``Store``. Sends If-None-Match; an unchanged or refused archive is not sent again."""
        known = self._refused[0] if self._refused else self._tag if os.path.isdir(self._folder) else ""
        try:
            with _asked(self._url, known) as reply:
                self._unpack(reply, _tag_of(reply))
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 404:
                raise _none_at(self._url) from None
            if error.code != 304:
                raise
            if self._refused:
                # Without the traceback of the last time, which would grow.
                raise self._refused[1].with_traceback(None) from None
            self._follow_weights()
        root = self._root()
        found = {
            int(one): os.path.join(root, one) for one in sorted(os.listdir(root)) if is_version_name(one)
        }
        return found or {LONE_VERSION: root}

    def _unpack(self, reply: IO[bytes], tag: str) -> None:
        os.makedirs(self._scratch, exist_ok=True)
        fresh = tempfile.mkdtemp(prefix="archive-", dir=self._scratch)
        self._refused = None
        try:
            # Without the query, which may hold a secret.
            name = posixpath.basename(urlsplit(self._url).path)
            with board.task(f"fetching {name}", _length_of(reply)) as task:
                self._take(reply, fresh, _Unpacked(self._url, self._most_bytes, task))
        except BaseException as error:
            shutil.rmtree(fresh, ignore_errors=True)
            if isinstance(error, _RefusedError) and tag:
                self._refused = tag, error
            raise
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder, self._tag = fresh, tag

    def _take(self, reply: IO[bytes], folder: str, unpacked: _Unpacked) -> None:
        """Writes what the reply holds into ``folder``."""
        if is_model_uri(self._url):
            self._keep(reply, folder, unpacked)
            return
        with tempfile.TemporaryFile(dir=self._scratch) as packed:
            _receive(reply, packed, unpacked)
            try:
                _extract(packed, folder, _Unpacked(self._url, self._most_bytes))
            except (_RefusedError, MemoryError):
                raise
            except Exception as error:  # each way of packing has errors of its own
                if isinstance(error, OSError) and error.errno not in _ITS_FAULT:
                    raise
                said = f"not an archive that can be read: {error or type(error).__name__}"
                raise _RefusedError(errno.EIO, said, shown_uri(self._url)) from error

    def _keep(self, reply: IO[bytes], folder: str, unpacked: _Unpacked) -> None:
        """Writes a model's file into ``folder``, named as in a version, and the weights that belong to it."""
        ending = os.path.splitext(urlsplit(self._url).path)[1]
        with open(os.path.join(folder, f"model{ending.lower()}"), "wb") as file:
            _receive(reply, file, unpacked)
        weights = self._weights_url()
        if weights:
            with _asked(weights) as content:
                self._keep_weights(content, folder, unpacked)

    def _weights_url(self) -> str:
        """Returns where the weights of a model's file are; "" if it has none of their own."""
        parts = urlsplit(self._url)
        stem, ending = os.path.splitext(parts.path)
        is_xml = is_model_uri(self._url) and ending.lower() == ".xml"
        return parts._replace(path=f"{stem}.bin").geturl() if is_xml else ""

    def _keep_weights(self, content: Any, folder: str, unpacked: _Unpacked) -> None:
        path = os.path.join(folder, WEIGHTS)
        with open(path, "wb") as file:
            _receive(content, file, unpacked)
        self._weights_tag = _tag_of(content)

    def _follow_weights(self) -> None:
        """Fetches the weights of a file that has not changed, if they have."""
        url = self._weights_url()
        if not url:
            return
        fresh = tempfile.mkdtemp(prefix="archive-", dir=self._scratch)
        try:
            with _asked(url, self._weights_tag) as content:
                unpacked = _Unpacked(self._url, self._most_bytes)
                with (
                    open(os.path.join(self._folder, GRAPH), "rb") as graph,
                    open(os.path.join(fresh, GRAPH), "wb") as file,
                ):
                    unpacked.copy(graph, file)
                self._keep_weights(content, fresh, unpacked)
        except BaseException as error:
            shutil.rmtree(fresh, ignore_errors=True)
            if not (isinstance(error, urllib.error.HTTPError) and error.code == 304):
                raise
            error.close()
        else:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = fresh

    def _root(self) -> str:
        """Returns the folder with the versions or the model: archives often wrap it."""
        root = self._folder
        while True:
            names = os.listdir(root)
            only = os.path.join(root, names[0]) if len(names) == 1 else ""
            if not only or is_version_name(names[0]) or not os.path.isdir(only):
                return root
            root = only

    def files(self, place: str) -> tuple[RemoteFile, ...]:
        """See ``Store``."""
        found = []
        for folder, _, names in os.walk(place):
            for name in names:
                path = os.path.join(folder, name)
                of_weights = name == WEIGHTS and self._weights_url()
                # Where the site does not tell changes, the content does.
                tag = (self._weights_tag if of_weights else self._tag) or _hash_of(path)
                found.append(RemoteFile(os.path.relpath(path, place), os.path.getsize(path), tag))
        return tuple(sorted(found, key=lambda one: one.path))

    def read(self, place: str, file: RemoteFile) -> Iterator[bytes]:
        """See ``Store``."""
        with open(os.path.join(place, file.path), "rb") as opened:
            while piece := opened.read(CHUNK):
                yield piece

    def link(self, place: str, file: RemoteFile, path: str) -> bool:
        """See ``Store``: unpacked files are not written again."""
        with suppress(OSError):
            os.link(os.path.join(place, file.path), path)
            return True
        return False


def _asked(url: str, known: str = "") -> Any:
    """Sends a request; ``known`` is the tag of what need not be sent again. Raises ``HTTPError``."""
    scheme, _, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    user, has_user, host = authority.rpartition("@")
    # As browsers send what people write: a name may have spaces, and letters of any language.
    plain = quote(f"{scheme}://{host}{slash}{path}", safe="%/:?#[]@!$&'()*+,;=~")
    request = urllib.request.Request(plain)
    if has_user:
        coded = base64.b64encode(unquote(user).encode()).decode()
        # Not for where the site may send us.
        request.add_unredirected_header("Authorization", f"Basic {coded}")
    if known:
        request.add_header("If-None-Match", known)
    return urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)


def _none_at(url: str) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, "no such archive", shown_uri(url))


def _tag_of(reply: Any) -> str:
    return str(reply.headers.get("ETag", "") or reply.headers.get("Last-Modified", ""))


def _length_of(reply: Any) -> int:
    """Returns the bytes that a reply announces; 0 if it announces none."""
    length = str(reply.headers.get("Content-Length", "")) if hasattr(reply, "headers") else ""
    return int(length) if length.isascii() and length.isdigit() and len(length) < 19 else 0


def _hash_of(path: str) -> str:
    content = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(CHUNK):
            content.update(piece)
    return content.hexdigest()


def _receive(reply: Any, file: IO[bytes], unpacked: _Unpacked) -> None:
    """Writes a reply's body into ``file``. Raises ``OSError`` if the connection ended before it did."""
    announced, received = _length_of(reply), unpacked.copy(reply, file)
    # http.client takes the end of a connection for that of the body.
    if announced and received != announced:
        raise ConnectionResetError(
            errno.ECONNRESET, f"expected {announced} bytes, got {received}: the connection ended early"
        )


class _Unpacked:
    """Counts the bytes and entries written, for a task too. Raises ``OSError`` EFBIG beyond the limits."""

    def __init__(self, url: str, most_bytes: int, task: Task | None = None) -> None:
        self._task = task
        self._url = url
        self._most_bytes = most_bytes
        self._bytes = 0
        self._files = 0

    def entry(self) -> None:
        """Counts one more file or folder."""
        self._files += 1
        if self._files > MOST_FILES:
            said = f"the archive has more than {MOST_FILES} files and folders"
            raise _RefusedError(errno.EFBIG, said, shown_uri(self._url))

    def copy(self, source: IO[bytes], target: IO[bytes]) -> int:
        """Copies all of ``source``; returns how many bytes that were."""
        before = self._bytes
        while piece := source.read(CHUNK):
            self._bytes += len(piece)
            if self._task is not None:
                self._task.add(len(piece))
            if self._bytes > self._most_bytes:
                raise _RefusedError(
                    errno.EFBIG,
                    f"the archive has more than {self._most_bytes} bytes, packed or unpacked: "
                    "shrink it, or raise --max_archive_bytes",
                    shown_uri(self._url),
                )
            target.write(piece)
        return self._bytes - before


def _extract(packed: IO[bytes], folder: str, unpacked: _Unpacked) -> None:
    """Unpacks into ``folder``, and nowhere else. If a name occurs twice, the later entry wins."""
    for name, is_folder, content in _entries(packed):
        unpacked.entry()
        target = inside(folder, name.rstrip("/") or ".") if name.strip("./") else folder
        if is_folder:
            os.makedirs(target, exist_ok=True)
            continue
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with content as source, open(target, "wb") as file:
            unpacked.copy(source, file)


def _entries(packed: IO[bytes]) -> Iterator[tuple[str, bool, Any]]:
    """Yields the name of each entry, True for a folder, and the opened content of a file."""
    if _is_zip(packed):
        with zipfile.ZipFile(packed) as archive:
            for info in archive.infolist():
                yield info.filename, info.is_dir(), None if info.is_dir() else archive.open(info)
        return
    packed.seek(0)
    with tarfile.open(fileobj=packed, mode="r:*") as tar:
        for member in tar:
            if not (member.isfile() or member.isdir()) or member.issparse():
                raise tarfile.TarError(f"{member.name} is neither a plain file nor a folder")
            yield member.name, member.isdir(), tar.extractfile(member)


def _is_zip(packed: IO[bytes]) -> bool:
    """True for a zip file. A tar file whose last file is one, such as a .keras, ends as one does."""
    packed.seek(0)
    if packed.read(4) in (b"PK\3\4", b"PK\5\6"):
        return True
    packed.seek(0)
    return not tarfile.is_tarfile(packed) and zipfile.is_zipfile(packed)
