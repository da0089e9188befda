"""The placing of a model's labels: pure functions of the configuration and the serving versions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from servable.config.base_paths import Way
from servable.config.values import ModelConfig
from servable.errors import StatusError


def in_force(
    wanted: Mapping[str, int], before: Mapping[str, int], is_available: Callable[[int], bool]
) -> dict[str, int]:
    """Returns label → version, for every label of ``wanted``.

    A label moves when its wanted version serves; until then it stays where it was, if that version still
    serves. A new label is put on its wanted version, serving or not.
    """

    def of(label: str) -> int:
        new, old = wanted[label], before.get(label)
        stays = old is not None and not is_available(new) and is_available(old)
        return old if stays and old is not None else new

    return {label: of(label) for label in wanted}


def check(
    models: Sequence[ModelConfig],
    configured: Sequence[ModelConfig],
    allow_new: bool,
    way: Way,
    is_available: Callable[[str, int], bool],
) -> None:
    """While serving, clients may put a label on an available version only, unless new and ``allow_new``.

    A label that stays is not checked again. Labels in config files apply once the version serves, as do those
    that the administration gives to a model it adds. Raises ``StatusError``.
    """
    before = {model.name: model.labels for model in configured}
    for model in models:
        old = before.get(model.name, {})
        for label, version in model.labels.items():
            settled = old.get(label) == version or (allow_new and label not in old)
            settled = settled or (way is Way.ADMINISTRATION and model.name not in before)
            if not settled and not is_available(model.name, version):
                raise StatusError(
                    "FAILED_PRECONDITION",
                    f"Request to assign label to version {version} of model {model.name}, "
                    "which is not currently available for inference",
                    "new labels may be, with --allow_version_labels_for_unavailable_models",
                )
