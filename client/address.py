"""What an address says before anything is sent to it."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from urllib.parse import urlsplit

from client.errors import BadInput

KEY_VARIABLE = "SPEECH_API_KEY"
"""Of the environment: the key for servers that ask for one."""


def key_header(key: str | None = None) -> dict[str, str]:
    """The header that carries the key, `SPEECH_API_KEY` by default, where there is one."""
    key = os.environ.get(KEY_VARIABLE, "").strip() if key is None else key
    return {"Authorization": f"Bearer {key}"} if key else {}


def check(address: str, *schemes: str) -> str:
    """`address` without a closing slash. Raises `BadInput` unless its scheme is one of these."""
    example = f"{schemes[0]}://localhost:8000"
    try:
        parts = urlsplit(address)
        fits = parts.scheme in schemes and parts.hostname is not None and parts.port != 0
    except ValueError:
        fits = False
    if not fits:
        raise BadInput(f"{address!r} is not an address like {example}.")
    return address.rstrip("/")


def is_on_this_machine(address: str) -> bool:
    """Whether it is a loopback address, which no proxy of the environment can reach."""
    host = urlsplit(address).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def deepest_reason(error: BaseException) -> str:
    """What the operating system said, which the libraries above it wrap several times."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, socket.gaierror):
            return str(cause.strerror)
        # Where a name has several addresses, asyncio has only a sentence with all their errors.
        numbered = re.search(r"\[Errno (\d+)\]", str(cause))
        if isinstance(cause, OSError) and numbered:
            return os.strerror(int(numbered[1]))
        cause = cause.__cause__ or cause.__context__
    return str(error)
