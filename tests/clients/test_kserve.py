"""KServe's InferenceRESTClient and InferenceGRPCClient, protocol v2."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from conftest import Served

# Not the package alone: deploy/ has a folder of that name.
pytest.importorskip("kserve.inference_client", exc_type=ImportError)

from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig

pytestmark = [pytest.mark.needs_tensorflow, pytest.mark.filterwarnings("ignore")]

X = np.array([1.0, 2.0, 5.0], np.float32)


def request(binary: bool) -> Any:
    x = InferInput("x", [3], "FP32")
    x.set_data_from_numpy(X, binary_data=binary)
    return InferRequest("half_plus_two", [x])


@pytest.mark.parametrize("binary", [True, False])
def test_rest(served: Served, binary: bool) -> None:
    async def ask() -> Any:
        client = InferenceRESTClient(RESTConfig(protocol="v2"))
        try:
            assert await client.is_server_ready(served.rest) and await client.is_server_live(served.rest)
            assert await client.is_model_ready(served.rest, "half_plus_two")
            return await client.infer(served.rest, request(binary), model_name="half_plus_two")
        finally:
            await client.close()

    np.testing.assert_array_equal(asyncio.run(ask()).outputs[0].as_numpy(), X / 2 + 2)


@pytest.mark.parametrize("binary", [True, False])
def test_grpc(served: Served, binary: bool) -> None:
    async def ask() -> Any:
        client = InferenceGRPCClient(served.grpc)
        try:
            assert await client.is_server_ready() and await client.is_server_live()
            assert await client.is_model_ready("half_plus_two")
            return await client.infer(request(binary))
        finally:
            await client.close()

    np.testing.assert_array_equal(asyncio.run(ask()).outputs[0].as_numpy(), X / 2 + 2)
