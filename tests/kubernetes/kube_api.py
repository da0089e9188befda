"""Asks the API server, as far as the tests need it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import requests

Object = dict[str, Any]

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"


class ApiError(Exception):
    """An answer other than 2xx; ``status`` is its number."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status = status


@dataclass(frozen=True)
class Api:
    """The API server at ``url``; ``ca``: the file of its authority."""

    url: str
    ca: str
    token: str

    def ask(self, method: str, path: str, body: object = None, **more: Any) -> Object:
        """Sends a request, and returns the answer. Raises ``ApiError``."""
        kind = more.pop("content_type", "application/json")
        answer = requests.request(
            method,
            self.url + path,
            data=None if body is None else json.dumps(body),
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": kind},
            verify=self.ca,
            timeout=30,
            **more,
        )
        if not answer.ok:
            raise ApiError(answer.status_code, answer.text)
        found = answer.json()
        assert isinstance(found, dict)
        return found

    def get(self, path: str, **query: str) -> Object:
        """Returns an object."""
        return self.ask("GET", path, params=query)

    def items(self, path: str, **query: str) -> list[Object]:
        """Returns the objects of a list."""
        found = self.get(path, **query)["items"]
        assert isinstance(found, list)
        return found

    def create(self, path: str, body: Mapping[str, Any]) -> Object:
        """Creates an object in the list at ``path``."""
        return self.ask("POST", path, body)

    def patch(self, path: str, body: Mapping[str, Any], kind: str = MERGE) -> Object:
        """Changes an object."""
        return self.ask("PATCH", path, body, content_type=kind)

    def delete(self, path: str, **options: Any) -> None:
        """Deletes an object; that it is gone already is as good."""
        try:
            self.ask("DELETE", path, options)
        except ApiError as error:
            if error.status != 404:
                raise
