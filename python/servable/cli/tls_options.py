"""The options of commands that ask over TLS: the authorities to trust, and a client's certificate."""

from __future__ import annotations

import argparse
import os

_OPTIONS = (
    ("ca", "of the authorities to trust with TLS", ", else the system's"),
    ("cert", "of this client's certificate, for a server with --tls_client_ca_file", ""),
    ("key", "of its key, if that is not in the same file", ""),
)


def add_tls_options(parser: argparse.ArgumentParser) -> None:
    """Adds ``--ca_file``, ``--cert_file`` and ``--key_file``, each with a default from the environment."""
    for name, said, otherwise in _OPTIONS:
        variable = f"SERVABLE_{name.upper()}_FILE"
        parser.add_argument(
            f"--{name}_file",
            f"--{name}-file",
            metavar="FILE",
            default=os.environ.get(variable) or None,
            help=f"PEM file {said} (default ${variable}{otherwise})",
        )
