"""What an address says before anything is sent to it."""

from __future__ import annotations

import ipaddress
import os
from urllib.parse import urlsplit

from client.errors import BadInput

KEY_VARIABLE = "SPEECH_API_KEY"
"""Of the environment: the key for servers that ask for one."""


def key_header() -> dict[str, str]:
    """The header that carries the key, where there is one."""
    key = os.environ.get(KEY_VARIABLE, "").strip()
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
