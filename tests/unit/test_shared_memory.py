"""The flag that says which files of shared memory clients may register."""

from __future__ import annotations

import pytest

from servable.config.arguments import parse
from servable.config.shared_memory import shared_memory
from servable.errors import UsageError


def prefix(*argv: str, serve: bool = True) -> str | None:
    return shared_memory(parse(list(argv), serve=serve))


def test_by_default_there_are_none() -> None:
    assert prefix() is prefix(serve=False) is prefix("--shared_memory=") is None


def test_names_begin_as_is_said() -> None:
    assert prefix("--shared_memory=/servable_") == "servable_"
    assert prefix("--shared_memory=*") == ""


@pytest.mark.parametrize(
    "wrong", ["true", "servable_", "/", "//", "/a/b", "/a/", "/a*", "**", "/" + "x" * 201]
)
def test_anything_else_is_refused(wrong: str) -> None:
    with pytest.raises(UsageError, match="--shared_memory expects"):
        prefix(f"--shared_memory={wrong}")


def test_it_is_of_a_protocol_that_is_on() -> None:
    with pytest.raises(UsageError, match="--open_inference_protocol"):
        prefix("--shared_memory=*", serve=False)
    assert prefix("--shared_memory=*", "--open_inference_protocol", serve=False) == ""
