"""Requests to Ray's proxies."""

from __future__ import annotations

import http.client
from typing import Any

import grpc


def rest(
    cluster: Any, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    (address,) = cluster.http()
    client = http.client.HTTPConnection(address, timeout=60)
    client.request(method, path, body, headers or {})
    reply = client.getresponse()
    told = {name.lower(): value for name, value in reply.getheaders()}
    content = reply.read()
    client.close()
    return reply.status, told, content


def call(cluster: Any, application: str, method: str, message: bytes) -> tuple[int, str, bytes]:
    (address,) = cluster.grpc()
    with grpc.insecure_channel(address) as channel:
        try:
            reply = channel.unary_unary(method)(message, timeout=60, metadata=(("application", application),))
        except grpc.RpcError as error:
            return error.code().value[0], error.details(), b""
    return 0, "", reply
