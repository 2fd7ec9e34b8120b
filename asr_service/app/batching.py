"""The workers: few threads that recognize what waits, as much of it at once as is alike.

One encode and generate for four windows costs far less than four for one, so a worker that is free
first prepares what has arrived (decoding, voice activity, features: a few ms each), and then takes
a batch of it. That preparing is all the waiting there is: who comes alone is never held up. Free
workers share what waits, so that two requests on two workers run side by side and not in one batch.

Recordings take turns, window by window, whatever their length and wherever they come from: the one
whose turn it is decides the kind of a batch, the others join in the order of theirs. A batch that
fails is tried again one by one: nobody fails for a neighbour.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import NamedTuple

from asr_service.app.engine import (
    Decode,
    Engine,
    RecognitionCancelled,
    RecognitionOptions,
    Window,
)
from common.errors import Draining, RecognitionFailed, SpeechError
from common.logger import get_logger
from common.protocol.recognition import Segment

log = get_logger(__name__)

FAILED = "The recognizer failed on this audio."


class Recognition(AsyncIterator[Segment]):
    """The segments of one recording as they are found; belongs to the event loop that asked for it.

    Iterating raises what decoding raised of the error table, and `RecognitionFailed`. Iterate it to
    its end or `cancel` it.
    """

    def __init__(self, workers: Workers, decode: Decode, options: RecognitionOptions) -> None:
        self.decode = decode
        self.options = options
        self.cancelled = threading.Event()
        self._workers = workers
        self._loop = asyncio.get_running_loop()
        self._found: asyncio.Queue[Segment | None] = asyncio.Queue()
        self._let_go = asyncio.Event()
        # Below: guarded by the workers' lock.
        self.steps: Iterator[Window] | None = None
        """Gives the next window; None before the first, which decoding comes before."""
        self.being_prepared = False
        self.prepared = False
        """Whether there are no windows beyond those in `waiting`."""
        self.waiting: deque[Window] = deque()
        """Windows that are ready to be recognized."""
        self.in_hand = 0
        """Workers that do something for it now."""
        self.error: SpeechError | None = None
        self._taken = 0
        self._told = 0
        self._results: dict[int, list[Segment]] = {}

    async def __anext__(self) -> Segment:
        segment = await self._found.get()
        if segment is not None:
            return segment
        self._found.put_nowait(None)
        if self.error is not None:
            raise self.error
        raise StopAsyncIteration

    def cancel(self) -> None:
        """Recognize no more of it; what it has in a batch is thrown away."""
        self._workers.give_up(self)

    async def let_go(self) -> None:
        """Return when no worker has anything to do with it any more."""
        await self._let_go.wait()

    @property
    def done(self) -> bool:
        return self.prepared and not self.waiting and not self.in_hand

    def take(self) -> Taken:
        """The next window, for a worker."""
        self._taken += 1
        return Taken(self, self._taken - 1, self.waiting.popleft())

    def tell(self, number: int, segments: list[Segment]) -> None:
        """What window `number` says; it is passed on after the windows before it."""
        self._results[number] = segments
        while (ready := self._results.pop(self._told, None)) is not None:
            self._told += 1
            for segment in ready:
                self._on_loop(segment)

    def end(self) -> None:
        """There is no more to come."""
        self._on_loop(None)

    def _on_loop(self, segment: Segment | None) -> None:
        def put() -> None:
            self._found.put_nowait(segment)
            if segment is None:
                self._let_go.set()

        try:
            self._loop.call_soon_threadsafe(put)
        except RuntimeError:
            log.debug("recognition.orphaned")  # the loop is closed: nobody waits any more


class Taken(NamedTuple):
    """A window in a worker's hands."""

    recognition: Recognition
    number: int
    window: Window


class Workers:
    """`workers` threads that recognize with `engine`, up to `max_batch` windows at once each."""

    def __init__(self, engine: Engine, *, workers: int, max_batch: int) -> None:
        self._engine = engine
        self._max_batch = max_batch
        self._wake = threading.Condition()
        self._turns: deque[Recognition] = deque()
        """All that is not done, in the order of their turns."""
        self._free = workers
        """Workers that are not at a batch."""
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._work, name=f"recognition-{i}", daemon=True)
            for i in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, decode: Decode, options: RecognitionOptions) -> Recognition:
        """Have what `decode` gives recognized. Call from the event loop, and bound how often."""
        recognition = Recognition(self, decode, options)
        with self._wake:
            self._turns.append(recognition)
            self._wake.notify()
        return recognition

    def give_up(self, recognition: Recognition) -> None:
        """See `Recognition.cancel`."""
        with self._wake:
            if recognition in self._turns:
                self._abandon(recognition)
                self._end_if_done(recognition)

    def stop(self) -> None:
        """End the threads after what they are at, and what is not done with `Draining`."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        for thread in self._threads:
            thread.join()
        for recognition in self._turns:
            recognition.error = Draining("This server is shutting down; try another.")
            recognition.end()
        self._turns.clear()

    def _work(self) -> None:
        while (task := self._next()) is not None:
            task()
            del task  # or what it held would be kept until there is more to do

    def _next(self) -> Callable[[], None] | None:
        """Wait for something to do; None once there is to be no more."""
        with self._wake:
            while not self._stopping:
                if recognition := self._to_prepare():
                    recognition.being_prepared = True
                    recognition.in_hand += 1
                    return partial(self._prepare, recognition)
                if batch := self._batch():
                    self._free -= 1
                    return partial(self._at_a_batch, batch)
                self._wake.wait()
        return None

    def _prepare(self, recognition: Recognition) -> None:
        """Have its next window, or find that there is none."""
        window: Window | None = None
        error: SpeechError | None = None
        try:
            if recognition.steps is None:
                samples = recognition.decode(recognition.cancelled)
                recognition.steps = self._engine.windows(
                    samples, recognition.options, recognition.cancelled
                )
                del recognition.decode, samples  # what was uploaded is not needed any more
            window = next(recognition.steps, None)
        except RecognitionCancelled:
            pass
        except SpeechError as known:
            error = known
        except Exception as unforeseen:  # a library's own: told; the thread goes on
            log.error("recognition.failed", exc_info=unforeseen)
            error = RecognitionFailed(FAILED)
        with self._wake:
            recognition.being_prepared = False
            if error is not None:
                self._fail(recognition, error)
            elif window is None:
                recognition.prepared = True
            elif not recognition.prepared:
                recognition.waiting.append(window)
                self._wake.notify()
            self._hand_back(recognition)

    def _at_a_batch(self, batch: list[Taken]) -> None:
        self._recognize(batch)
        with self._wake:
            self._free += 1

    def _recognize(self, batch: list[Taken]) -> None:
        """Pass on what each of the batch says, as it becomes known."""
        left = dict(enumerate(batch))
        try:
            for index, segments in self._engine.recognize([taken.window for taken in batch]):
                self._tell(left.pop(index), segments)
            failed = False
        except RecognitionCancelled:
            failed = False
        except Exception as error:  # the model's own: each of the batch is tried alone, then told
            log.error("recognition.failed", windows=len(batch), exc_info=error)
            failed = True
        if failed and len(batch) > 1:
            for taken in left.values():
                self._recognize([taken])
            return
        for taken in left.values():
            self._tell(taken, [], RecognitionFailed(FAILED) if failed else None)

    def _tell(
        self, taken: Taken, segments: list[Segment], error: SpeechError | None = None
    ) -> None:
        with self._wake:
            if error is not None:
                self._fail(taken.recognition, error)
            elif not taken.recognition.cancelled.is_set():
                taken.recognition.tell(taken.number, segments)
            self._hand_back(taken.recognition)

    # What follows is called with the lock held.

    def _to_prepare(self) -> Recognition | None:
        """The recording whose next window is to be prepared before a batch is taken."""
        unprepared = [r for r in self._turns if not (r.prepared or r.being_prepared)]
        if not unprepared:
            return None
        first = min(unprepared, key=lambda r: len(r.waiting))
        if not first.waiting:
            ready = sum(1 for r in self._turns if r.waiting)
            wanted = ready < self._free * self._max_batch
        else:
            wanted = len(first.waiting) < self._max_batch and not self._alike(self._max_batch)
        return first if wanted else None

    def _alike(self, count: int) -> bool:
        """Whether `count` windows of the next batch's kind are ready."""
        kinds = [window.kind for r in self._turns for window in r.waiting]
        return kinds.count(kinds[0]) >= count if kinds else False

    def _batch(self) -> list[Taken]:
        """The windows to recognize next: a free worker's share of what waits, or none."""
        waits = sum(len(r.waiting) or not r.prepared for r in self._turns)
        share = min(self._max_batch, -(-waits // self._free))
        batch: list[Taken] = []
        taken = True
        while taken and len(batch) < share:
            taken = False
            for recognition in self._turns:
                alike = recognition.waiting and (
                    not batch or recognition.waiting[0].kind == batch[0].window.kind
                )
                if alike and len(batch) < share:
                    batch.append(recognition.take())
                    recognition.in_hand += 1
                    taken = True
        for recognition in dict.fromkeys(t.recognition for t in batch):
            self._turns.remove(recognition)
            self._turns.append(recognition)
        return batch

    def _hand_back(self, recognition: Recognition) -> None:
        recognition.in_hand -= 1
        self._end_if_done(recognition)

    def _end_if_done(self, recognition: Recognition) -> None:
        if recognition.done:
            self._turns.remove(recognition)
            recognition.end()

    def _fail(self, recognition: Recognition, error: SpeechError) -> None:
        """Do no more for it; its first failure is told, unless nobody asks any more."""
        if not recognition.cancelled.is_set():
            recognition.error = error
        self._abandon(recognition)

    def _abandon(self, recognition: Recognition) -> None:
        recognition.cancelled.set()
        recognition.prepared = True
        recognition.waiting.clear()
