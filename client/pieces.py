"""Text as its writer writes it: read once from its writer, and from the beginning by any number.

An utterance that has to be asked for again, because its first server went away, is said again from
here: what wrote it, a language model for example, can only be read once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import TypeVar

T = TypeVar("T")


async def each(source: AsyncIterable[T] | Iterable[T]) -> AsyncIterator[T]:
    """What either kind of iterable gives. A plain one must not wait: the event loop would, too."""
    if isinstance(source, AsyncIterable):
        async for item in source:
            yield item
    else:
        for item in source:
            yield item


class Pieces:
    """`async for` over it, once or again, one after another. Raises what the writer raised.

    `reading` is the task that reads the writer; whoever makes this cancels and awaits it.
    """

    def __init__(self, text: AsyncIterable[str] | Iterable[str]) -> None:
        self._so_far: list[str] = []
        self._grown = asyncio.Event()
        self._ended_at: float | None = None
        self.reading = asyncio.create_task(self._read(text))

    async def _read(self, text: AsyncIterable[str] | Iterable[str]) -> None:
        try:
            async for piece in each(text):
                self._so_far.append(piece)
                self._grown.set()
        finally:
            self._ended_at = time.monotonic()
            self._grown.set()

    def ended_for_s(self) -> float:
        """How long ago the writer gave its last; 0 if it still writes."""
        return 0.0 if self._ended_at is None else time.monotonic() - self._ended_at

    async def __aiter__(self) -> AsyncIterator[str]:
        count = 0
        while True:
            while count < len(self._so_far):
                count += 1
                yield self._so_far[count - 1]
            if self._ended_at is not None:
                await self.reading
                return
            self._grown.clear()
            await self._grown.wait()
