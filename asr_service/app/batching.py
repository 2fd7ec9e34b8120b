"""The workers: few threads that recognize what waits, as much of it at once as is alike.

One encode and generate for four windows costs far less than four for one, so a free worker first
prepares what has arrived (decoding, voice activity, features: a few ms each), and then takes a
batch of it. That is all the waiting there is: a request that comes alone is never held up. Free
workers share what waits, so that two requests on two workers run side by side and not in one batch.

Recordings take turns, window by window, whatever their length and wherever they come from: the one
whose turn it is decides the kind of a batch, the others join in the order of theirs. A batch that
fails is tried again one by one, so that no recording fails because of another.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import NamedTuple

import anyio

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
RELEASE_TIMEOUT_S = 30.0
"""The longest wait for workers that still compute something that was cancelled."""


class Recognition(AsyncIterator[Segment]):
    """The segments of one recording as they are recognized; it belongs to its event loop.

    Iterating raises what decoding raised of the error table, and `RecognitionFailed`. Iterate it to
    its end or `release` it. `on_end` is called on the loop when there are no more segments.
    """

    def __init__(
        self,
        workers: Workers,
        decode: Decode,
        options: RecognitionOptions,
        on_end: Callable[[], None] | None = None,
    ) -> None:
        self.decode = decode
        self.options = options
        self.cancelled = threading.Event()
        self.ended = False
        """Whether no worker works on it any more."""
        self._workers = workers
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._segments: deque[Segment] = deque()
        self._arrived = anyio.Event()
        self._released = anyio.Event()
        # Below: guarded by the workers' lock.
        self.steps: Iterator[Window] | None = None
        """Gives the next window; None before the first, which decoding comes before."""
        self.being_prepared = False
        self.prepared = False
        """Whether there are no windows beyond those in `waiting`."""
        self.waiting: deque[Window] = deque()
        """Windows that are ready to be recognized."""
        self.workers_busy = 0
        """How many workers work on it now."""
        self.error: SpeechError | None = None
        self._rows_taken = 0
        self._rows_delivered = 0
        self._results: dict[int, list[Segment]] = {}

    async def __anext__(self) -> Segment:
        while not self._segments:
            if self.ended:
                raise StopAsyncIteration if self.error is None else self.error
            self._arrived = anyio.Event()
            await self._arrived.wait()
        return self._segments.popleft()

    def cancel(self) -> None:
        """Recognize no more of it; the result of a batch that it is in is thrown away."""
        self._workers.cancel(self)

    async def released(self) -> None:
        """Return when no worker works on it any more."""
        await self._released.wait()

    @property
    def done(self) -> bool:
        return self.prepared and not self.waiting and not self.workers_busy

    def next_row(self) -> BatchRow:
        """Return the next window, for a worker."""
        self._rows_taken += 1
        return BatchRow(self, self._rows_taken - 1, self.waiting.popleft())

    def deliver(self, number: int, segments: list[Segment]) -> None:
        """Take the segments of window `number`; they follow those of the windows before it."""
        self._results[number] = segments
        while (ready := self._results.pop(self._rows_delivered, None)) is not None:
            self._rows_delivered += 1
            self._on_loop(ready, end=False)

    def end(self) -> None:
        """Note that there are no more segments."""
        self._on_loop([], end=True)

    def _on_loop(self, segments: list[Segment], *, end: bool) -> None:
        def put() -> None:
            self._segments += segments
            self._arrived.set()
            if end:
                self.ended = True
                self._released.set()
                if self._on_end is not None:
                    self._on_end()

        try:
            self._loop.call_soon_threadsafe(put)
        except RuntimeError:
            log.debug("recognition.orphaned")  # the loop is closed: nobody waits any more


async def release(*recognitions: Recognition, timeout_s: float = RELEASE_TIMEOUT_S) -> None:
    """Cancel `recognitions` and return when no worker works on them, or after `timeout_s`.

    What is waited for holds a slot, which stands for the computation: so the wait is shielded from
    the cancellation of the request or session.
    """
    for recognition in recognitions:
        recognition.cancel()
    with anyio.move_on_after(timeout_s, shield=True) as scope:
        for recognition in recognitions:
            await recognition.released()
    if scope.cancelled_caught:
        log.warning("recognition.not_released", timeout_s=timeout_s)


class BatchRow(NamedTuple):
    """A window that a worker recognizes, with its number in its recording."""

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
        """All recognitions that are not done, in the order of their turns."""
        self._free = workers
        """How many workers run no batch."""
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._work, name=f"recognition-{i}", daemon=True)
            for i in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def submit(
        self,
        decode: Decode,
        options: RecognitionOptions,
        on_end: Callable[[], None] | None = None,
    ) -> Recognition:
        """Have what `decode` gives recognized. Call from the event loop, and bound how often."""
        recognition = Recognition(self, decode, options, on_end)
        with self._wake:
            self._turns.append(recognition)
            self._wake.notify()
        return recognition

    def cancel(self, recognition: Recognition) -> None:
        """See `Recognition.cancel`."""
        with self._wake:
            if recognition in self._turns:
                self._abandon(recognition)
                self._end_if_done(recognition)

    def stop(self) -> None:
        """End the threads after their current step, and what is not done with `Draining`."""
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
        """Return the next step once there is one; None when the workers stop."""
        with self._wake:
            while not self._stopping:
                if recognition := self._next_to_prepare():
                    recognition.being_prepared = True
                    recognition.workers_busy += 1
                    return partial(self._prepare, recognition)
                if batch := self._next_batch():
                    self._free -= 1
                    return partial(self._run_batch, batch)
                self._wake.wait()
        return None

    def _prepare(self, recognition: Recognition) -> None:
        """Prepare the next window of `recognition`, or find that there is none."""
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
        except Exception as unforeseen:  # raised by a library: reported, and the thread goes on
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
            self._step_done(recognition)

    def _run_batch(self, batch: list[BatchRow]) -> None:
        self._recognize(batch)
        with self._wake:
            self._free += 1

    def _recognize(self, batch: list[BatchRow]) -> None:
        """Deliver the segments of each window of the batch as they become known."""
        left = dict(enumerate(batch))
        try:
            for index, segments in self._engine.recognize([row.window for row in batch]):
                self._deliver(left.pop(index), segments)
            failed = False
        except RecognitionCancelled:
            failed = False
        except Exception as error:  # raised by the model: each window is tried alone
            log.error("recognition.failed", windows=len(batch), exc_info=error)
            failed = True
        if failed and len(batch) > 1:
            for row in left.values():
                self._recognize([row])
            return
        for row in left.values():
            self._deliver(row, [], RecognitionFailed(FAILED) if failed else None)

    def _deliver(
        self, row: BatchRow, segments: list[Segment], error: SpeechError | None = None
    ) -> None:
        with self._wake:
            if error is not None:
                self._fail(row.recognition, error)
            elif not row.recognition.cancelled.is_set():
                row.recognition.deliver(row.number, segments)
            self._step_done(row.recognition)

    # The methods below are called with the lock held.

    def _next_to_prepare(self) -> Recognition | None:
        """Return the recording whose next window is prepared before a batch is taken."""
        unprepared = [r for r in self._turns if not (r.prepared or r.being_prepared)]
        if not unprepared:
            return None
        first = min(unprepared, key=lambda r: len(r.waiting))
        if not first.waiting:
            ready = sum(1 for r in self._turns if r.waiting)
            wanted = ready < self._free * self._max_batch
        else:
            full = self._same_kind_ready(self._max_batch)
            wanted = len(first.waiting) < self._max_batch and not full
        return first if wanted else None

    def _same_kind_ready(self, count: int) -> bool:
        """Return whether `count` windows of the next batch's kind are ready."""
        kinds = [window.kind for r in self._turns for window in r.waiting]
        return kinds.count(kinds[0]) >= count if kinds else False

    def _next_batch(self) -> list[BatchRow]:
        """Return the windows to recognize next: a free worker's share of what waits, or none."""
        waits = sum(len(r.waiting) or not r.prepared for r in self._turns)
        share = min(self._max_batch, -(-waits // self._free))
        batch: list[BatchRow] = []
        taken = True
        while taken and len(batch) < share:
            taken = False
            for recognition in self._turns:
                alike = recognition.waiting and (
                    not batch or recognition.waiting[0].kind == batch[0].window.kind
                )
                if alike and len(batch) < share:
                    batch.append(recognition.next_row())
                    recognition.workers_busy += 1
                    taken = True
        for recognition in dict.fromkeys(row.recognition for row in batch):
            self._turns.remove(recognition)
            self._turns.append(recognition)
        return batch

    def _step_done(self, recognition: Recognition) -> None:
        recognition.workers_busy -= 1
        self._end_if_done(recognition)

    def _end_if_done(self, recognition: Recognition) -> None:
        if recognition.done:
            self._turns.remove(recognition)
            recognition.end()

    def _fail(self, recognition: Recognition, error: SpeechError) -> None:
        """Stop working on it; its first failure is raised to the caller unless it was cancelled."""
        if not recognition.cancelled.is_set():
            recognition.error = error
        self._abandon(recognition)

    def _abandon(self, recognition: Recognition) -> None:
        recognition.cancelled.set()
        recognition.prepared = True
        recognition.waiting.clear()
