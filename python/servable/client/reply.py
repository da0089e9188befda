"""What a transport brings back."""

from __future__ import annotations


class Reply(bytes):
    """The body of a reply over HTTP, with what its headers say; over gRPC, plain bytes are one.

    media: the body's media type, without parameters. accepts: the media types that may be sent, as in
    ``Accept-Post``; "" if the server does not say.
    """

    media: str = ""
    accepts: str = ""

    @classmethod
    def of(cls, content: bytes, media: str | None, accepts: str | None) -> Reply:
        """Makes a reply of a body and of the headers' values."""
        reply = cls(content)
        reply.media = (media or "").partition(";")[0].strip().lower()
        reply.accepts = accepts or ""
        return reply


def media_of(content: bytes) -> str:
    """Returns the media type of a reply, or "" if it is not known."""
    return content.media if isinstance(content, Reply) else ""


def accepted_by(content: bytes) -> frozenset[str]:
    """Returns the media types that the server of a reply says it accepts."""
    accepts = content.accepts if isinstance(content, Reply) else ""
    named = (one.partition(";")[0].strip().lower() for one in accepts.split(","))
    return frozenset(one for one in named if one)
