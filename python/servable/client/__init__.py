"""A light client: REST and gRPC, numpy in and out, without TensorFlow.

    from servable import Client

    with Client("grpc://localhost:8500") as client:
        client.predict("half_plus_two", {"x": [1.0, 2.0, 5.0]})     # {"y": array([2.5, 3. , 4.5])}

Layers, in the order of a call: ``async_client``, and ``sync_client``, which is generated from it →
``dialogue`` (the sequence of requests; ``metadata_cache``, ``binding``) → ``codecs`` that write and read
(``rest``, ``grpc``), with ``values`` (arrays, tensors, examples) → a ``transport`` (``http``, ``grpc``).
``model_config`` reads the argument of ``reload``. Below them are ``answers``, ``limits``, ``text`` (checks)
and ``packages`` (imports). Only transports and clients wait or speak to the server; files that are given as
paths are read by ``values`` and ``model_config``.

Needs the extra ``client`` (numpy, httpx, grpcio); httpx and grpcio are imported only for addresses that need
them.
"""

from __future__ import annotations

from servable.client.packages import load

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
from servable.client.transport.connection import Tls  # noqa: E402

__all__ = [
    "AsyncClient",
    "Classification",
    "Client",
    "Metadata",
    "Signature",
    "TensorSpec",
    "Tls",
    "VersionStatus",
]
