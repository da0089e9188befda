"""Writes ``docs/openapi-example.json``: the OpenAPI document of a small model. ``--check`` only compares.

The model is served for it, so the core has to be built, and TensorFlow installed.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "docs" / "openapi-example.json"
MODEL = "pair"


def example() -> str:
    """Returns the document, from a server that is started for it and stopped."""
    command = [sys.executable, "-m", "servable", "serve", "--port=off", "--rest_api_port=0"]
    server = subprocess.Popen(
        [*command, str(ROOT / "tests" / "models" / MODEL)],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert server.stderr is not None
        port = ""
        for line in server.stderr:
            found = re.search(r"Exporting HTTP/REST API at:\S+:(\d+) ", line)
            port = found[1] if found else port
            if re.search(r"ready: 1 of 1 models", line):
                break
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models/{MODEL}/openapi.json") as reply:
            document = json.load(reply)
    finally:
        server.terminate()
        server.communicate()
    document["servers"] = [{"url": "http://localhost:8501"}]
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def main() -> int:
    """Writes the file, or compares it; returns the exit status."""
    made = example()
    if "--check" not in sys.argv[1:]:
        FILE.write_text(made, encoding="utf-8")
        return 0
    if FILE.read_text(encoding="utf-8") == made:
        return 0
    print(f"{FILE.relative_to(ROOT)} is not what the server says: run `make docs`", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
