"""Ray itself, which is imported where it is needed."""

from __future__ import annotations

import os
import re
from typing import Any

from servable.errors import MissingPackageError

LEAST = (2, 60)
"""The oldest version whose functions are those that are called here."""


def ray_and_serve() -> tuple[Any, Any]:
    """Returns the modules ``ray`` and ``ray.serve``; Ray's usage statistics are off if nothing else is said.

    Raises ``MissingPackageError`` if they are not there, or too old.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray

        version = str(getattr(ray, "__version__", "0"))
        if tuple(map(int, re.findall(r"\d+", version)[:2])) < LEAST:
            raise MissingPackageError(
                f"Ray {'.'.join(map(str, LEAST))} or newer is needed, got {version}: "
                "pip install --upgrade 'servable[ray]'"
            )
        from ray import serve
    except MissingPackageError:
        raise
    except ImportError as error:
        why = str(error).partition("\n")[0]
        raise MissingPackageError(f"Ray Serve is needed ({why}): pip install 'servable[ray]'") from None
    return ray, serve
