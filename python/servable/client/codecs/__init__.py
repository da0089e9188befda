"""Codecs: what a call owes (``codec``), written and read for REST (``rest``) and for gRPC (``grpc``)."""

from __future__ import annotations

from servable.client.codecs.codec import Codec
from servable.client.codecs.grpc import GrpcCodec
from servable.client.codecs.rest import RestCodec


def codec_of(protocol: str, json: bool = False) -> Codec:
    """Returns the codec for a protocol, ``rest`` or ``grpc``; json: REST carries arrays as JSON alone."""
    return RestCodec(json) if protocol == "rest" else GrpcCodec()
