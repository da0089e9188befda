"""gRPC-Web on the wire: calls as browsers make them, and what comes back."""

from __future__ import annotations

import base64
import struct
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from stubs import METHODS, own_message
from wire import Reply, message

BINARY, TEXT = "application/grpc-web", "application/grpc-web-text"
PREDICT = "/tensorflow.serving.PredictionService/Predict"


@dataclass
class Answer:
    """What a call has brought: messages, and the trailers from the body's last frame or the headers."""

    reply: Reply
    messages: list[bytes] = field(default_factory=list)
    trailers: dict[str, str] = field(default_factory=dict)

    @property
    def code(self) -> int:
        return int(self.trailers["grpc-status"])

    @property
    def text(self) -> str:
        return unquote(self.trailers.get("grpc-message", ""))

    def one(self, method: str = "Predict") -> Any:
        """The message of a call that has succeeded."""
        assert (self.code, len(self.messages)) == (0, 1), self
        return own_message(METHODS[method][2]).FromString(self.messages[0])


def framed(data: bytes, flag: int = 0) -> bytes:
    return struct.pack(">BI", flag, len(data)) + data


def post(data: bytes, path: str = PREDICT, media_type: str = BINARY, **headers: str) -> bytes:
    """Makes a call whose body is ``data``, encoded if it is to be text."""
    body = base64.b64encode(data) if media_type.startswith(TEXT) else data
    return message("POST", path, body, **{"Content_Type": media_type, "X_Grpc_Web": "1", **headers})


def read(reply: Reply) -> Answer:
    """Takes a reply apart; checks that trailers come last, once, and not in two places."""
    assert reply.status == 200, reply
    media_type = reply.headers["content-type"]
    assert media_type in (f"{BINARY}+proto", f"{TEXT}+proto"), media_type
    body = base64.b64decode(reply.body, validate=True) if media_type.startswith(TEXT) else reply.body
    answer = Answer(reply)
    while body:
        flag, length = struct.unpack(">BI", body[:5])
        data, body = body[5 : 5 + length], body[5 + length :]
        assert len(data) == length, "the last frame is cut off"
        assert not answer.trailers, "something follows the trailers"
        if flag == 0x80:
            lines = data.decode().removesuffix("\r\n").split("\r\n")
            answer.trailers = dict(line.split(":", 1) for line in lines)
        else:
            assert flag == 0, flag
            answer.messages.append(data)
    if not answer.trailers:
        answer.trailers = {name: value for name, value in reply.headers.items() if name.startswith("grpc-")}
    assert "grpc-status" in answer.trailers, reply
    return answer
