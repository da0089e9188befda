"""ovmsclient, which speaks TensorFlow Serving's API: OpenVINO Model Server's users come with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import Served

ovmsclient = pytest.importorskip("ovmsclient", exc_type=Exception)

pytestmark = [pytest.mark.needs_tensorflow, pytest.mark.filterwarnings("ignore")]

X = np.array([1.0, 2.0, 5.0], np.float32)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_it_is_answered(served: Served, protocol: str) -> None:
    make: Any = ovmsclient.make_grpc_client if protocol == "grpc" else ovmsclient.make_http_client
    client = make(served.grpc if protocol == "grpc" else f"127.0.0.1:{served.rest_port}")
    # Without a version it asks for version 0, which means the newest to OpenVINO Model Server alone.
    assert client.get_model_status("half_plus_two", 1)[1]["state"] == "AVAILABLE"
    assert "'x'" in str(client.get_model_metadata("half_plus_two", 1))
    np.testing.assert_array_equal(client.predict({"x": X}, "half_plus_two", 1), X / 2 + 2)
