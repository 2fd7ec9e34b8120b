"""Admits a bounded number of requests, queues a bounded number, and refuses the rest at once."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from common.errors import Busy


class Admission:
    """Counts `slots` requests that are served and `queue` that wait.

    Not for use from threads: it belongs to the event loop.
    """

    def __init__(self, *, slots: int, queue: int, retry_after_s: int = 1) -> None:
        self.slots = slots
        self.queue = queue
        self._retry_after_s = retry_after_s
        self._semaphore = anyio.Semaphore(slots, max_value=slots)
        self._present = 0

    @property
    def serving(self) -> int:
        return min(self._present, self.slots)

    @property
    def waiting(self) -> int:
        return self._present - self.serving

    def check(self) -> None:
        """Raise `Busy` if all slots and the queue are full."""
        if self._present >= self.slots + self.queue:
            raise Busy(
                f"All {self.slots} slots and {self.queue} places in the queue are taken; "
                "try again shortly.",
                retry_after_s=self._retry_after_s,
            )

    async def acquire(self) -> float:
        """Take a slot; returns how long it was waited for, in ms. Raises `Busy` at once if full.

        To be followed by `leave` and `release`, each once: a slot may be needed a little longer
        than whoever asked for it is there, for example until a thread has let go of a model.
        """
        self.check()
        arrived = time.perf_counter()
        self._present += 1
        try:
            await self._semaphore.acquire()
        except BaseException:
            self._present -= 1
            raise
        return (time.perf_counter() - arrived) * 1000

    def leave(self) -> None:
        """One less is present: another may come and wait for the slot."""
        self._present -= 1

    def release(self) -> None:
        """The slot is free. Call it on the event loop."""
        self._semaphore.release()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[float]:
        """Hold a slot; yields how long it was waited for, in ms. Raises `Busy` at once if full."""
        waited_ms = await self.acquire()
        try:
            yield waited_ms
        finally:
            self.leave()
            self.release()
