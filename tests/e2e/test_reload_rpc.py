"""Permissions to change models, and allowed paths: a SavedModel is code, so its path decides what runs."""

from __future__ import annotations

import http.server
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from clients import Stub, available
from conftest import Served
from model_configs import config_file, config_text, entry, replace_file
from servers import (
    ADMIN,
    DROP_IN,
    POLLED,
    RELOADS,
    WITH_GRPC,
    admin_url,
    put_version,
    run_to_its_end,
    serving,
)

from servable.config.model_paths import shown_uri

pytestmark = pytest.mark.needs_tensorflow

PERMISSION_DENIED = 7


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Version 1 of ``half_plus_two`` in a folder that may be allowed."""
    return put_version("half_plus_two", tmp_path / "models" / "m", 1).parent


class Fetched(http.server.BaseHTTPRequestHandler):
    """Records the requested paths."""

    paths: list[str]

    def do_GET(self) -> None:
        self.paths.append(self.path)
        self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def stranger() -> Iterator[tuple[str, list[str]]]:
    """The address of a web server, and the paths requested from it."""
    handler = type("Handler", (Fetched,), {"paths": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", handler.paths
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_friendly_server_refuses_the_call(base: Path) -> None:
    with serving(f"m={base}", WITH_GRPC) as served, Stub(served) as stub:
        code, text = stub.reload()
        assert code == PERMISSION_DENIED
        assert "HandleReloadConfigRequest is off" in text
        assert available(served, "m") == [1]
        assert "clients may change the models" not in served.log


def test_nothing_remote_is_fetched_by_the_call(base: Path, stranger: tuple[str, list[str]]) -> None:
    url, fetched = stranger
    with serving(f"m={base}", WITH_GRPC, RELOADS) as served, Stub(served) as stub:
        assert "clients may change the models by HandleReloadConfigRequest on" in served.log
        assert "to any local path" in served.log
        for path in (f"{url}/evil.tar.gz", "s3://bucket/m", "github://a:b@/m", f"FILE://{base}"):
            code, text = stub.reload(entry("m", base), entry("evil", Path("/x"), basePath=path))
            assert code == PERMISSION_DENIED, path
            assert shown_uri(path) in text and "--allowed_base_paths" in text
        assert available(served, "m") == [1]
        # Local paths are accepted, as in TensorFlow Serving.
        assert stub.reload(entry("m", base), entry("n", base)) == (0, "")
        assert available(served, "n") == [1]
    assert fetched == []


def test_the_drop_in_says_that_it_takes_the_call(base: Path) -> None:
    flags = ("--model_name=m", f"--model_base_path={base}", f"--grpc_socket_path={base}.sock", "--port=0")
    with serving(*flags, command=DROP_IN) as served:
        assert f"clients may change the models by HandleReloadConfigRequest on {base}.sock" in served.log


def test_a_store_that_is_allowed_is_asked(base: Path, stranger: tuple[str, list[str]]) -> None:
    url, fetched = stranger
    flags = (WITH_GRPC, RELOADS, f"--allowed_base_paths={base.parent},{url}/good")
    with serving(f"m={base}", *flags) as served, Stub(served) as stub:
        code, _ = stub.reload(entry("m", base), entry("n", base, basePath=f"{url}/good/m.tar.gz"), timeout=5)
        assert code != PERMISSION_DENIED
        assert fetched
        del fetched[:]
        for path in (f"{url}/evil/m", f"{url}/good/../evil/m", f"{url}/good/%2e%2e/evil", f"{url}/goods"):
            assert stub.reload(entry("n", base, basePath=path))[0] == PERMISSION_DENIED
        assert fetched == []


def test_every_way_in_is_held_to_the_prefixes(base: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    put_version("half_plus_two", outside, 1)
    link = base.parent / "link"
    link.symlink_to(outside)
    config = config_file(tmp_path, entry("m", base))
    flags = (f"--model_config_file={config}", POLLED, f"--allowed_base_paths={base.parent}", ADMIN)
    with serving(*flags, WITH_GRPC, RELOADS) as served, Stub(served) as stub:
        for path in (outside, base.parent / ".." / "outside", link, Path(f"{base.parent}2")):
            assert stub.reload(entry("m", base), entry("x", path))[0] == PERMISSION_DENIED
            assert put(served, "x", str(path)) == 403
        replace_file(config, config_text(entry("m", base), entry("x", outside)))
        served.wait_for_line("is not applied: PERMISSION_DENIED: Model x may not be served from")
        assert available(served, "m") == [1]
        assert available(served, "x") == []
        assert put(served, "y", str(base)) == 200


def put(served: Served, name: str, path: str) -> int:
    body = json.dumps({"base_path": path}).encode()
    request = urllib.request.Request(f"{admin_url(served)}/admin/models/{name}", body, method="PUT")
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_a_start_outside_of_the_prefixes_is_refused(base: Path) -> None:
    done = run_to_its_end(f"m={base}", "--allowed_base_paths=/nowhere")
    assert done.returncode != 0
    assert (
        f"Model m may not be served from {base}: --allowed_base_paths allows /nowhere"
        in done.stdout + done.stderr
    )
