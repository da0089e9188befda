"""Asks a served picture model what a photo shows, over REST with `requests`.

    python examples/mobilenet_v2/classify.py PHOTO [HOST:PORT] [MODEL]

Defaults: localhost:8501 mobilenet_v2. Prints the server's answer unchanged.
Exit status: 0 for an answer, 1 for an error, 2 for wrong usage.
"""

import argparse
import base64
import sys
from pathlib import Path

import requests

TIMEOUT_SECONDS = 60.0


def ask(photo: bytes, server: str, model: str) -> requests.Response:
    """Sends one encoded picture and returns the response; `.json()["outputs"][0]` is its label."""
    body = {"inputs": [{"b64": base64.b64encode(photo).decode("ascii")}]}
    return requests.post(f"http://{server}/v1/models/{model}:predict", json=body, timeout=TIMEOUT_SECONDS)


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description="Ask a served picture model what a photo shows.")
    parser.add_argument("photo", type=Path, help="a JPEG or PNG file")
    parser.add_argument("server", nargs="?", default="localhost:8501", metavar="HOST:PORT")
    parser.add_argument("model", nargs="?", default="mobilenet_v2", metavar="MODEL")
    args = parser.parse_args()
    try:
        photo = args.photo.read_bytes()
    except OSError as error:
        parser.error(f"cannot read the photo: {error}")
    try:
        response = ask(photo, args.server, args.model)
    except requests.RequestException as error:
        print(f"no answer from http://{args.server} (is the server running there?): {error}", file=sys.stderr)
        return 1
    print(response.text)
    if not response.ok:
        print(f"the server answered with HTTP status {response.status_code}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
