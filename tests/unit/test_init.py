"""The package's public names: complete, loaded on use, and light until then."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import servable


@pytest.mark.parametrize("name", servable.__all__)
def test_public_names(name: str) -> None:
    assert getattr(servable, name) is not None


def test_load_options_keep_their_order() -> None:
    """New options come last: these may be given by position."""
    options = servable.LoadOptions(("serve", "gpu"), b"session", "pool", False, 2, True)
    named = servable.LoadOptions(
        tags=("serve", "gpu"),
        session_config=b"session",
        placement="pool",
        warmup=False,
        warmup_iterations=2,
        synthetic_warmup=True,
    )
    assert options == named


def test_an_unknown_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        servable.Nonsense  # noqa: B018


def test_importing_the_package_imports_none_of_it() -> None:
    script = "import sys, servable; print(*[name for name in sys.modules if name.startswith('servable.')])"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""


def test_type_checkers_are_told_the_same_names() -> None:
    """They come from the same modules, and as public names (``import A as A``)."""
    tree = ast.parse(Path(servable.__file__).read_text())
    (block,) = [
        node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    told = {
        name.asname: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for name in node.names
        if name.asname == name.name
    }
    assert told == servable._HOMES
    assert any(ast.unparse(node) == "__version__: str" for node in block.body)
    # They would take any name for one that is there.
    assert not any(isinstance(node, ast.FunctionDef) and node.name == "__getattr__" for node in tree.body)
