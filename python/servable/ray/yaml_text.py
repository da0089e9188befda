"""Reads YAML for a configuration: a key that is given twice is an error, and errors say where they are."""

from __future__ import annotations

from typing import Any

from servable.errors import MissingPackageError, UsageError


def parse(text: str) -> object:
    """Returns the value of a text. Raises ``UsageError``, and ``MissingPackageError`` without PyYAML."""
    try:
        import yaml
    except ImportError:
        raise MissingPackageError("PyYAML is needed: pip install 'servable[ray]'") from None

    class Loader(yaml.SafeLoader):  # type: ignore[misc]  # Any, as PyYAML has no types
        """Takes no key twice in a mapping, of which YAML would take the last."""

        def compose_mapping_node(self, anchor: str | None) -> Any:
            node = super().compose_mapping_node(anchor)
            known = set()
            for key, _ in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    continue
                if key.value in known:
                    what = f"the key {key.value!r} is there twice"
                    raise yaml.composer.ComposerError(problem=what, problem_mark=key.start_mark)
                known.add(key.value)
            return node

    try:
        return yaml.load(text, Loader)  # a SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"not YAML: {_said(error)}") from None


def _said(error: Exception) -> str:
    """Returns where an error is and what it is, in a line."""
    mark = getattr(error, "problem_mark", None)
    what = ", ".join(filter(None, (getattr(error, "context", None), getattr(error, "problem", None))))
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return " ".join(f"{place}{what or error}".split())
