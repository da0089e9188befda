"""The client is light: it imports what its address needs, never TensorFlow, and names missing packages."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("tensorflow", "grpc", "httpx", "ml_dtypes")


def run(script: str) -> str:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize(("address", "loaded"), [("http://localhost", "httpx"), ("grpc://localhost", "grpc")])
def test_imports(address: str, loaded: str) -> None:
    script = f"""
import sys, servable.client
print(*[name for name in {HEAVY} if name in sys.modules], "|")
servable.Client({address!r}).close()
print(*[name for name in {HEAVY} if name in sys.modules])
"""
    assert run(script).split("|") == ["", f"\n{loaded}"]


@pytest.mark.parametrize(
    ("missing", "address"),
    [("httpx", "http://localhost"), ("grpc", "grpc://localhost"), ("numpy", "http://localhost")],
)
def test_a_missing_package(missing: str, address: str) -> None:
    script = f"""
import sys, servable
sys.modules[{missing!r}] = None
try:
    servable.Client({address!r})
except servable.MissingPackageError as error:
    print(isinstance(error, ImportError), error)
"""
    printed = run(script)
    assert printed.startswith(f"True the client needs {missing}")
    assert printed.endswith('pip install "servable[client]"')
