"""What to do where an engine or a store's package is missing: by pip, or by another build of the image."""

from __future__ import annotations

import os

IMAGE_MARK = "/usr/bin/tf_serving_entrypoint.sh"
"""What only the container images have. There is no pip in them."""
_EXTRAS = {"tensorflow": "cpu"}
"""The extra of Servable that installs an engine, where it is not called like the engine."""


def is_image() -> bool:
    """Returns whether this is one of the container images."""
    return os.path.exists(IMAGE_MARK)


def engine(*names: str) -> str:
    """Returns how one of the engines is installed: names as in ``src/engine/choice.rs``, or ``keras``."""
    if is_image():
        return f"build the image with --build-arg ENGINES={' or '.join(names)}"
    return "pip install " + " or ".join(f'"servable[{_EXTRAS.get(name, name)}]"' for name in names)


def store(scheme: str, package: str) -> str:
    """Returns how base paths of ``scheme://`` are made possible. package: what fsspec needs for it, or ""."""
    if is_image() and scheme == "s3":
        return "build the image with --build-arg STORES=s3"
    more = f", and {package} for {scheme}://: pip install {package}" if package else ""
    return f"pip install 'servable[remote]'{more}"
