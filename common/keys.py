"""Holds the API keys, each with the name of its holder.

Keys are compared as digests of one length, all of them each time, so that the time a refusal takes
says nothing about a key.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_KEY = re.compile(r"[A-Za-z0-9._~-]{8,256}")
"""Characters that fit wherever a key can be sent, also a WebSocket's subprotocol and query."""
_NAME = re.compile(r"[A-Za-z0-9._@-]{1,64}")


class BadKeys(ValueError):
    """The keys cannot be used; the message says why and holds no key."""


@dataclass(frozen=True, repr=False)
class Keys:
    """Names with their keys. Without any, every caller is admitted."""

    holders: tuple[tuple[str, str], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.holders)

    def holder_of(self, given: str) -> str | None:
        """Return the name of the holder of the key `given`, or None."""
        digest = _digest(given)
        found: str | None = None
        for name, key in self.holders:
            if hmac.compare_digest(_digest(key), digest):
                found = name
        return found

    @property
    def own(self) -> str | None:
        """The key that this service sends to the others of the fleet: the first one."""
        return self.holders[0][1] if self.holders else None


def parse_keys(entries: Iterable[str]) -> Keys:
    """Read entries `NAME:KEY`; empty ones and those that begin with # are ignored.

    Raises `BadKeys`.
    """
    holders: dict[str, str] = {}
    for place, entry in enumerate(entries, start=1):
        if not entry.strip() or entry.strip().startswith("#"):
            continue
        name, _, key = entry.strip().partition(":")
        if not _NAME.fullmatch(name) or not _KEY.fullmatch(key):
            raise BadKeys(
                f"entry {place} is not NAME:KEY with a name of letters, digits and ._@- and a key "
                "of 8 to 256 letters, digits and ._~-"
            )
        if name in holders or key in holders.values():
            raise BadKeys(f"entry {place} has a name or a key that an earlier one has")
        holders[name] = key
    return Keys(tuple(holders.items()))


def read_keys(path: Path) -> Keys:
    """Read the keys in a file, one a line. Raises `BadKeys`, also if it cannot be read."""
    try:
        return parse_keys(path.read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise BadKeys(f"the file cannot be read: {error}") from None


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
