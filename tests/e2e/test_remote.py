"""A model in a bucket: moto's S3 server on the loopback, accessed by s3fs like any other."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from clients import answer, available, await_versions, version_states
from conftest import Served
from model_configs import config_file, entry
from servers import FRIENDLY, MODELS, serving, until
from wire import predict

pytestmark = pytest.mark.needs_tensorflow

pytest.importorskip("moto", reason="moto is not installed: S3 is not tried")
pytest.importorskip("s3fs", reason="s3fs is not installed: S3 is not tried")

MODEL = MODELS / "half_plus_two" / "1"
ONCE_A_SECOND = "--remote_poll_wait_seconds=1"
S3 = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(*server.get_host_and_port(), flush=True)
sys.stdin.read()
"""


@dataclass
class Bucket:
    """A bucket of a running S3 server, and the settings for clients to find it."""

    process: subprocess.Popen[str]
    url: str

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.url.rpartition("/")[0],
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def put(self, version: int, parts: tuple[str, ...] = ("",), model: str = "m") -> None:
        """Uploads the model's files whose paths begin with one of ``parts``."""
        for file in sorted(MODEL.rglob("*")):
            name = file.relative_to(MODEL).as_posix()
            if file.is_file() and name.startswith(parts):
                url = f"{self.url}/models/{model}/{version}/{name}"
                requests.put(url, file.read_bytes(), timeout=30).raise_for_status()

    def remove(self, model: str, path: str) -> None:
        """Deletes one file of a model, which has to be signed."""
        import s3fs

        endpoint = self.environment["AWS_ENDPOINT_URL"]
        store = s3fs.S3FileSystem(key="test", secret="test", endpoint_url=endpoint)
        store.rm_file(f"bucket/models/{model}/{path}")

    def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.kill()
        self.process.wait(30)
        if self.process.stdout is not None:
            self.process.stdout.close()


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    process = subprocess.Popen(
        [sys.executable, "-c", S3],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    made = Bucket(process, "")
    try:
        assert process.stdout is not None
        host, port = process.stdout.readline().split()
        made.url = f"http://{host}:{port}/bucket"
        requests.put(made.url, timeout=30).raise_for_status()
        yield made
    finally:
        made.stop()


def test_versions_are_served_out_of_a_bucket(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put(1)
    arguments = ("s3://bucket/models/m", ONCE_A_SECOND, f"--model_cache_dir={tmp_path}")
    with serving(*arguments, environment=bucket.environment) as served:
        assert answer(served, "m") == 3.0
        assert "fetching m version 1 from s3://bucket/models/m" in served.log
        bucket.put(2)
        await_versions(served, "m", 2)
        assert answer(served, "m") == 3.0
        bucket.stop()
        served.wait_for_line("Could not find base path s3://bucket/models/m")
        assert available(served, "m") == [2]
    # Restarted while the store is away.
    with serving(*arguments, environment=bucket.environment) as served:
        assert "is served from the cache: versions [2]" in served.log
        assert answer(served, "m") == 3.0


def test_an_outage_takes_no_model_of_a_bucket_away(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put(1)
    arguments = ("--models_dir=s3://bucket/models", ONCE_A_SECOND, f"--model_cache_dir={tmp_path}")
    with serving(*arguments, environment=bucket.environment) as served:
        assert answer(served, "m") == 3.0
        bucket.stop()
        served.wait_for_line("the models in s3://bucket/models cannot be followed")
        assert answer(served, "m") == 3.0
    # Restarted while the store is away.
    with serving(*arguments, environment=bucket.environment) as served:
        assert "s3://bucket/models cannot be read, and its models are those" in served.log
        assert answer(served, "m") == 3.0


def test_a_mistyped_prefix_of_models_is_told(bucket: Bucket, tmp_path: Path) -> None:
    arguments = ("--models_dir=s3://bucket/models", ONCE_A_SECOND, f"--model_cache_dir={tmp_path}")
    with serving(*arguments, environment=bucket.environment) as served:
        assert "cannot be followed: [Errno 2] Nothing is there: 'bucket/models'" in served.log
        bucket.put(1)
        served.wait_for_line("s3://bucket/models can be read again")
        await_versions(served, "m", 1)


LAZY = "--lazy_load"


def on_disk(cache: Path) -> list[str]:
    """Returns the models whose versions were fetched."""
    return sorted(
        {path.parent.parent.name.rpartition("-")[0] for path in cache.glob("*/[0-9]*/saved_model.pb")}
    )


@pytest.mark.parametrize("found", [True, False], ids=["found", "listed in a file"])
def test_models_are_fetched_when_they_are_asked_for(bucket: Bucket, tmp_path: Path, found: bool) -> None:
    names = [f"m{number}" for number in range(12)]
    for name in names:
        bucket.put(1, model=name)
    cache = tmp_path / "cache"
    config = config_file(tmp_path, *(entry(name, f"s3://bucket/models/{name}") for name in names))
    models = "--models_dir=s3://bucket/models" if found else f"--model_config_file={config}"
    arguments = (models, ONCE_A_SECOND, LAZY, f"--model_cache_dir={cache}")
    environment = {**bucket.environment, "AWS_MAX_ATTEMPTS": "1"}
    with serving(*arguments, environment=environment) as served:
        assert "ready: 12 of 12 models" in served.log
        assert version_states(served, "m3") == {1: "AVAILABLE"}
        assert on_disk(cache) == []
        assert answer(served, "m3") == 3.0
        assert on_disk(cache) == ["m3"]
        assert "fetching m3 version 1 from s3://bucket/models/m3" in served.log
        threads = [
            task.read_text().strip() for task in Path(f"/proc/{served.process.pid}/task").glob("*/comm")
        ]
        assert sum(name.startswith("remote") for name in threads) <= 8
        # A new version of what is loaded follows; of what is not, it waits for a request.
        bucket.put(2, model="m3")
        bucket.put(2, model="m4")
        await_versions(served, "m3", 2)
        await_versions(served, "m4", 2)
        served.wait_for_line("loaded m3 version 2")
        assert on_disk(cache) == ["m3"]
        # A file that is missing when it is fetched fails the request, and not one after it is back.
        bucket.remove("m5", "1/saved_model.pb")
        refused = predict(served, "m5", {"instances": [2.0]})
        assert refused.status == 503 and "Model m5 version 1 could not be loaded: " in refused.error
        bucket.put(1, ("saved_model",), model="m5")
        assert until(lambda: answer(served, "m5") == 3.0, 60)
        bucket.stop()
        refused = predict(served, "m6", {"instances": [2.0]})
        assert refused.status == 503 and "Model m6 version 1 could not be loaded: " in refused.error
        assert "tries again" in refused.error
        assert answer(served, "m3") == answer(served, "m5") == 3.0


def test_a_half_uploaded_version_serves_once_it_is_whole(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put(1)
    arguments = ("s3://bucket/models/m", ONCE_A_SECOND, f"--model_cache_dir={tmp_path}")
    with serving(*arguments, "--max_num_load_retries=0", environment=bucket.environment) as served:
        bucket.put(2, ("saved_model", "fingerprint"))
        assert until(lambda: version_states(served, "m").get(2) == "END", 60)
        assert available(served, "m") == [1]
        bucket.put(2, ("variables",))
        await_versions(served, "m", 2)


def test_a_remote_model_holds_up_no_other(tmp_path: Path) -> None:
    """The store's address does not answer: the local model serves meanwhile, and the log says why."""
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    arguments = (f"local={MODEL.parent}", "m=s3://bucket/models/m", f"--model_cache_dir={tmp_path}")
    with socket.socket() as bound_but_silent:
        bound_but_silent.bind(("127.0.0.1", 0))
        port = bound_but_silent.getsockname()[1]
        environment = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_MAX_ATTEMPTS": "1", **keys}
        with serving(*arguments, environment=environment) as served:
            assert answer(served, "local") == 3.0
            assert "Could not find base path s3://bucket/models/m for servable m" in served.log


LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_a_disk_that_takes_no_more_is_said_and_nothing_is_left(bucket: Bucket, tmp_path: Path) -> None:
    """No file may exceed 4 kB: the graph does not fit."""
    bucket.put(1)
    arguments = (f"local={MODEL.parent}", "m=s3://bucket/models/m", f"--model_cache_dir={tmp_path}")
    command = (sys.executable, "-c", LIMITED, *FRIENDLY)
    with serving(*arguments, command=command, environment=bucket.environment) as served:
        assert answer(served, "local") == 3.0
        assert "version 1 could not be fetched into" in served.log
        assert "choose another folder: --model_cache_dir" in served.log
        (folder,) = tmp_path.glob("m-*")  # beside what is decided about the other model's engine
        assert os.listdir(folder) == []


def test_an_archive_behind_a_url(tmp_path: Path) -> None:
    """``python -m http.server`` sends no ETag but Last-Modified, like many servers."""
    site = tmp_path / "site"
    site.mkdir()
    shutil.make_archive(str(site / "m"), "gztar", MODEL.parent)
    code = (
        "import http.server as h; s = h.ThreadingHTTPServer(('127.0.0.1', 0), h.SimpleHTTPRequestHandler); "
        "print(s.server_port, flush=True); s.serve_forever()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=site, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        url = f"http://127.0.0.1:{port}/m.tar.gz"
        with serving(url, f"--model_cache_dir={tmp_path / 'cache'}") as served:
            check_archive(served)
    finally:
        process.kill()
        process.communicate()


def check_archive(served: Served) -> None:
    assert available(served, "m") == [1]
    assert answer(served, "m") == 3.0
