"""Files of tokens for servers, and calls that show one."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from conftest import Served
from stubs import PATIENCE
from wire import Reply, ask

from servable.cli.tokens import new_line


@dataclass
class TokenFile:
    """The file of a server's tokens; ``tokens``: by name."""

    path: Path
    tokens: dict[str, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=lambda: ["# tokens"])

    @property
    def flag(self) -> str:
        return f"--auth_file={self.path}"

    def add(self, name: str, scopes: str = "predict,read", models: str = "*", **limits: str) -> str:
        """Adds a token to the file; returns it."""
        line, self.tokens[name] = new_line(name, {"scopes": scopes, "models": models, **limits})
        self.lines.append(line)
        self.write()
        return self.tokens[name]

    def remove(self, name: str) -> None:
        """Takes a token's line out of the file."""
        self.lines = [line for line in self.lines if line.split()[0].partition(":")[0] != name]
        self.write()

    def write(self) -> None:
        """Writes the lines, at once."""
        new = self.path.with_suffix(".new")
        new.write_text("".join(f"{line}\n" for line in self.lines))
        new.chmod(0o600)
        new.rename(self.path)

    def bearer(self, name: str) -> str:
        return f"Bearer {self.tokens[name]}"


def get(served: Served, path: str, token: str = "") -> Reply:
    """GETs ``path`` over REST with a token, if one is given."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return ask(served, "GET", path, **headers)


def grpc_call(served: Served, path: str, message: bytes = b"", token: str = "") -> tuple[str, str]:
    """Calls any method with one message; returns code and text, OK with the first reply."""
    metadata = [("authorization", f"Bearer {token}")] if token else []
    with grpc.insecure_channel(served.grpc) as channel:
        method: Any = channel.stream_stream(path, None, None)
        replies = method(iter([message]), metadata=metadata, timeout=PATIENCE)
        try:
            next(replies)
        except StopIteration:
            return "OK", ""
        except grpc.RpcError as error:
            return error.code().name, error.details() or ""
        finally:
            replies.cancel()
    return "OK", ""
