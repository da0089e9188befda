"""The light client: REST and gRPC, numpy in and out, without TensorFlow.

    from servable import Client

    with Client("grpc://localhost:8500") as client:
        client.predict("half_plus_two", {"x": [1.0, 2.0, 5.0]})     # {"y": array([2.5, 3. , 4.5])}

Layout, in the order a call meets it: ``async_client``, and ``sync_client``, which is made from it →
``dialogue`` (what is asked in which order; ``metadata_cache``, ``binding``, ``arrays``) → a codec that writes
and reads (``rest``, ``grpc`` with ``tensors``; both with ``examples``) → a ``transport`` (``http_transport``,
``grpc_transport``). Only the transports and the clients do input and output.

Needs the extra ``client`` (numpy, httpx, grpcio); httpx and grpcio are imported by the address that needs
them.
"""

from __future__ import annotations

from servable.client.connection import load

load("numpy")

from servable.client.answers import (  # noqa: E402
    Classification,
    Metadata,
    Signature,
    TensorSpec,
    VersionStatus,
)
from servable.client.async_client import AsyncClient  # noqa: E402
from servable.client.sync_client import Client  # noqa: E402

__all__ = [
    "AsyncClient",
    "Classification",
    "Client",
    "Metadata",
    "Signature",
    "TensorSpec",
    "VersionStatus",
]
