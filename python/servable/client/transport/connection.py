"""Connection options, apart from the address; and the error of a client that is closed."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from servable.client.limits import limit
from servable.client.text import check_headers
from servable.errors import FailedPreconditionError, invalid_argument

TOKEN_VARIABLE = "SERVABLE_TOKEN"
AUTHORIZATION = "authorization"


@dataclass(frozen=True)
class Tls:
    """PEM files for TLS.

    ca_file: of the authorities to trust, instead of the system's. cert_file, key_file: of the client's own
    certificate, for a server that asks for one, and of its key, which may be in the same file.
    """

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None

    def __post_init__(self) -> None:
        if self.key_file is not None and self.cert_file is None:
            raise invalid_argument(
                "key_file is given without cert_file, the certificate that it is the key of"
            )


@dataclass(frozen=True)
class Connection:
    """Options for connecting.

    connect_timeout: seconds for one connection, or None; infinity becomes None. headers: sent with every
    request, as HTTP headers or gRPC metadata; they may hold secrets, and are not shown.
    """

    connect_timeout: float | None = 5.0
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    tls: Tls = field(default_factory=Tls)

    def __post_init__(self) -> None:
        object.__setattr__(self, "connect_timeout", limit("connect_timeout", self.connect_timeout))
        check_headers(self.headers)


def with_token(
    headers: Mapping[str, str], token: str | None, environment: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """Returns ``headers`` with a token: that of $SERVABLE_TOKEN if ``token`` is None, none if it is "".

    An ``authorization`` among the headers goes before that of the environment. Raises
    ``InvalidArgumentError``, which never shows a token.
    """
    has_own = any(isinstance(name, str) and name.lower() == AUTHORIZATION for name in headers)
    if token is None:
        token = "" if has_own else environment.get(TOKEN_VARIABLE, "").strip()
        what = f"${TOKEN_VARIABLE}"
    elif has_own and token:
        raise invalid_argument(
            f"token and the header {AUTHORIZATION!r} say the same", "leave one of them out"
        )
    else:
        what = "token"
    if not token:
        return dict(headers)
    if not isinstance(token, str) or not re.fullmatch(r"[!-~]+", token):
        raise invalid_argument(f"{what} is no token: expected printable ASCII without spaces")
    return {**headers, AUTHORIZATION: f"Bearer {token}"}


def closed() -> FailedPreconditionError:
    """Makes the error for calls of a closed client."""
    return FailedPreconditionError("FAILED_PRECONDITION", "the client is closed", "make another one")
