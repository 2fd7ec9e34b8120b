"""The recognition that a live session has under way: one, and a newer one takes its place."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

from asr_service.app.batching import Recognition, Workers
from asr_service.app.engine import RecognitionOptions
from asr_service.app.live.agreement import HeardWord
from asr_service.app.live.wish import Kind, Wish
from common.protocol.recognition import Segment

PARTIAL_BEAM_SIZE = 1
"""A partial is looked at for a moment: it is to be early rather than best."""


class Recognizing:
    """Belongs to the event loop."""

    def __init__(self, workers: Workers, options: RecognitionOptions) -> None:
        self._workers = workers
        self._options = options
        self._wish: Wish | None = None
        self._recognition: Recognition | None = None
        self._task: asyncio.Task[list[Segment]] | None = None
        self._given_up: set[asyncio.Task[list[Segment]]] = set()
        self._since = 0.0

    @property
    def kind(self) -> Kind | None:
        """What is under way or waits to be taken."""
        return None if self._wish is None else self._wish.kind

    @property
    def task(self) -> asyncio.Task[list[Segment]] | None:
        """Done when there is something to take."""
        return self._task

    def begin(self, wish: Wish) -> None:
        """Have `wish` recognized instead of what is under way."""
        self._give_up()
        beam_size = self._options.beam_size if wish.lasting else PARTIAL_BEAM_SIZE
        options = replace(self._options, beam_size=beam_size)
        self._wish, self._since = wish, time.monotonic()
        self._recognition = self._workers.submit(lambda _: wish.samples, options)
        self._task = asyncio.create_task(_all_of(self._recognition))

    async def take(self) -> tuple[Wish, list[HeardWord], float]:
        """What was asked for, its answer, and how many ms it took. Raises what failed."""
        assert self._wish is not None
        assert self._task is not None
        segments = await self._task
        wish, self._wish, self._task, self._recognition = self._wish, None, None, None
        return wish, wish.heard(segments), (time.monotonic() - self._since) * 1000

    async def stop(self) -> None:
        """Give up what is under way, and return when no worker has to do with it."""
        self._give_up()
        if self._given_up:
            await asyncio.wait(self._given_up)

    def _give_up(self) -> None:
        if self._recognition is not None and self._task is not None:
            self._recognition.cancel()
            self._given_up.add(self._task)
            self._task.add_done_callback(self._forget)
        self._wish = self._task = self._recognition = None

    def _forget(self, task: asyncio.Task[list[Segment]]) -> None:
        self._given_up.discard(task)
        if not task.cancelled():
            task.exception()


async def _all_of(recognition: Recognition) -> list[Segment]:
    """Returns after it was cancelled, too, when the workers have let go of it."""
    return [segment async for segment in recognition]
