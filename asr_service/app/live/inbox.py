"""What came over a socket and was not yet looked at.

It is bounded: when it is full the socket is not read, and its own back-pressure holds up a client
that sends faster than it is heard.
"""

from __future__ import annotations

import asyncio
from collections import deque

Item = bytes | str


class Inbox:
    """One task puts, one task gets."""

    def __init__(self) -> None:
        self._items: deque[Item] = deque()
        self._came = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._held = 0
        self.audio_bytes = 0
        """Of the items that are held."""
        self.limit_bytes = 1
        """Once so much is held, nothing more is put; an item may go over it."""

    async def put(self, item: Item) -> None:
        """Put `item` once there is room."""
        await self._has_room.wait()
        self.put_now(item)

    def put_now(self, item: Item) -> None:
        """Put `item`, room or not."""
        self._items.append(item)
        # A text frame stands for the memory that it takes, however short it is.
        self._held += max(len(item), 128) if isinstance(item, str) else len(item)
        self.audio_bytes += 0 if isinstance(item, str) else len(item)
        self._came.set()
        if self._held >= self.limit_bytes:
            self._has_room.clear()

    async def get(self) -> Item:
        """The next text, or all audio before it. Cancelling loses nothing."""
        await self._came.wait()
        first = self._items.popleft()
        if isinstance(first, bytes) and first:
            parts = [first]
            while self._items and isinstance(following := self._items[0], bytes):
                parts.append(following)
                self._items.popleft()
            first = b"".join(parts)
        if not self._items:
            self._came.clear()
        self._held = sum(max(len(i), 128) if isinstance(i, str) else len(i) for i in self._items)
        self.audio_bytes = sum(len(i) for i in self._items if isinstance(i, bytes))
        if self._held < self.limit_bytes:
            self._has_room.set()
        return first
