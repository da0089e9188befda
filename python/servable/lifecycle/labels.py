"""Where a model's labels are: a pure function of what is configured, where they were, and what serves."""

from __future__ import annotations

from collections.abc import Callable, Mapping


def in_force(
    wanted: Mapping[str, int], before: Mapping[str, int], is_available: Callable[[int], bool]
) -> dict[str, int]:
    """Label → version, for every label of ``wanted``.

    A label moves when the version that it is wanted on serves; until then it stays where it was, if that
    still serves. A new label is where it is wanted, served or not.
    """

    def of(label: str) -> int:
        new, old = wanted[label], before.get(label)
        stays = old is not None and not is_available(new) and is_available(old)
        return old if stays and old is not None else new

    return {label: of(label) for label in wanted}
