"""An embedded server over a fake core: its start, and changes of what it serves, with loads on demand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_core import FakeCore
from test_server import config, model

from servable.config.values import LifecycleOptions, ModelConfig, Specific
from servable.embedded import changing, running
from servable.errors import StatusError
from servable.serving.server import Server

EAGER = LifecycleOptions(retries=0)
LAZY = LifecycleOptions(retries=0, lazy_load=True)
SECONDS = 10.0


class Embedded:
    """A server that has started."""

    def __init__(self, models: tuple[ModelConfig, ...], lifecycle: LifecycleOptions) -> None:
        self.core = FakeCore()
        self.server = Server(config(*models, lifecycle=lifecycle), lambda _: self.core)
        running._start(self.server)

    def loads(self) -> list[tuple[str, int]]:
        return [(call[1], call[2]) for call in self.core.calls if call[0] == "load"]


Make = Callable[..., Embedded]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[Embedded] = []

    def build(*models: ModelConfig, lifecycle: LifecycleOptions = EAGER) -> Embedded:
        made.append(Embedded(models, lifecycle))
        return made[-1]

    yield build
    for one in made:
        assert one.server.stop()


def test_models_that_are_loaded_on_demand_are_there_at_once(make: Make, tmp_path: Path) -> None:
    embedded = make(model(tmp_path, "m", 1), lifecycle=LAZY)
    changing.load(embedded.server, model(tmp_path, "n", 1), SECONDS)
    both = ModelConfig("both", str(tmp_path / "both"), policy=Specific((1, 2)))
    model(tmp_path, "both", 1, 2)
    changing.apply(embedded.server, [both], SECONDS)
    assert embedded.loads() == []
    assert embedded.core.state["both", 2] == "START"
    with pytest.raises(StatusError, match="no version was found"):
        changing.load(embedded.server, ModelConfig("none", str(tmp_path / "none")), SECONDS)
