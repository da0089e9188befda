"""Changes to the list of models by an administrator, and what they leave unchanged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from servable.admin.model_control import ModelControl
from servable.admin.operations import Management
from servable.config.config_files import config_fields
from servable.config.values import (
    All,
    CoreOptions,
    Folder,
    Latest,
    LifecycleOptions,
    LoadOptions,
    LoggingConfig,
    ModelConfig,
    ServerConfig,
    Specific,
)
from servable.lifecycle.availability import Availability
from servable.lifecycle.inventory import Inventory
from servable.serving.report import StartReport

pytestmark = pytest.mark.usefixtures("descriptors")

Models = tuple[ModelConfig, ...]


class Configured:
    """Stands in for the manager: a list of models, all serving at once."""

    def __init__(self, *models: ModelConfig) -> None:
        self.models: Models = models

    def configured(self) -> Models:
        return self.models

    def change(self, edit: Callable[[Models], Sequence[ModelConfig]], allow_new_labels: bool = False) -> None:
        self.models = tuple(edit(self.models))

    def availability(self) -> dict[str, Availability]:
        return {model.name: Availability.AVAILABLE for model in self.models}

    def wait(self, enough: Callable[[dict[str, Availability]], bool], timeout: float) -> bool:
        return enough(self.availability())


def changed(before: ModelConfig, **entry: Any) -> ModelConfig:
    """Returns the model after ``PUT /admin/models/NAME`` with this entry."""
    manager: Any = Configured(before)
    config = ServerConfig((before,), CoreOptions(), LoadOptions(), LifecycleOptions())
    inventory = Inventory(StartReport())
    core: Any = SimpleNamespace(states=list)
    management = Management(config, ModelControl(manager), inventory, core, lambda: None)
    management.load(before.name, entry, 0.0)
    (model,) = manager.models
    assert isinstance(model, ModelConfig)
    return model


M = ModelConfig(
    "m", "/m", policy=Specific((1, 2)), labels={"stable": 1}, logging=LoggingConfig("json", "/logs/m", 0.5)
)


def test_what_is_not_given_stays() -> None:
    assert changed(M, base_path="/m") == M
    moved = changed(M, basePath="/elsewhere")
    assert (moved.base_path, moved.policy, moved.labels, moved.logging) == (
        "/elsewhere", M.policy, M.labels, M.logging,
    )  # fmt: skip
    other = changed(M, base_path="/m", model_version_policy={"all": {}})
    assert (other.policy, other.labels, other.logging) == (All(), M.labels, M.logging)


def test_what_is_given_counts_in_both_spellings() -> None:
    assert changed(M, base_path="/m", version_labels={"new": 2}).labels == {"new": 2}
    assert changed(M, base_path="/m", versionLabels={}).labels == {}
    assert changed(M, base_path="/m", modelVersionPolicy={"latest": {"num_versions": 3}}).policy == Latest(3)
    assert changed(M, base_path="/m", model_version_policy={}).policy == Latest()
    assert changed(M, base_path="/m", loggingConfig=None).logging is None


def test_a_versions_own_folder_is_one_as_long_as_the_path_is_the_same() -> None:
    folder = ModelConfig("m", "/m/7", policy=Folder(7), labels={"stable": 7})
    assert changed(folder, base_path="/m/7") == folder
    assert changed(folder, base_path="/m").policy == Latest()


def test_a_model_in_a_folder_whose_name_is_nearly_a_number_can_be_written() -> None:
    (written,) = config_fields([ModelConfig("m", "/m/²", policy=Folder(1))])["model_config_list"]["config"]
    assert written["base_path"] == "/m/²"
