"""The scheduler: many utterances on few threads, a step at a time.

Each worker takes the utterance whose listener runs dry first, steps its generator once, and hands
the PCM to the event loop. An utterance that has nobody's ear yet comes before one that is ahead of
its listener, so first audio does not wait for the ends of others. An utterance whose buffer is full
is parked until its reader has caught up: a slow reader never holds a model. One that says that it
waits for text is parked until it is woken: nor does a slow writer.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import os
import sys
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Generator
from typing import Any, Protocol, TypeVar

from common.errors import Internal, SpeechError
from common.logger import get_logger
from common.server.error_boundary import FAULT
from tts_service.app.feed import Gap

log = get_logger(__name__)

T = TypeVar("T")
"""What the utterance yields: bytes are audio, `Gap.WAITING` is that there is nothing to do now."""

SWITCH_INTERVAL_S = 0.0005
"""How soon a computing thread hands the interpreter over to the event loop; Python's own 5 ms would
be added to every frame that is sent meanwhile."""
NICENESS = 5
"""Of the threads that compute: the event loops of all services come first on a full machine."""


class Timed(Protocol):
    """A format of audio, of which only this is asked."""

    def duration_s(self, byte_count: int) -> float: ...


class Stream(AsyncIterator[T]):
    """What one utterance yields, as it is made; belongs to the event loop that made it.

    Iterate it to the end or `close` it. Iterating raises the utterance's `SpeechError` after the
    audio that came before it.
    """

    def __init__(self, scheduler: Scheduler, steps: Generator[T, None, None], audio: Timed) -> None:
        self._scheduler = scheduler
        self._loop = asyncio.get_running_loop()
        self._chunks: deque[T] = deque()
        self._more = asyncio.Event()
        self._ended = False
        self._error: SpeechError | None = None
        # Below: guarded by the scheduler's lock.
        self.steps = steps
        self.audio = audio
        self.closed = False
        self.parked = False
        self.waiting = False
        """Parked until it is woken."""
        self.woken = False
        self.buffered_bytes = 0
        self.computed_s = 0.0
        """Time that its steps have taken."""
        self.dry_at = time.monotonic()
        """When a listener who plays in real time has heard all that was made."""

    async def __anext__(self) -> T:
        while not self._chunks:
            if self._error is not None:
                raise self._error
            if self._ended:
                raise StopAsyncIteration
            self._more.clear()
            await self._more.wait()
        chunk = self._chunks.popleft()
        if isinstance(chunk, bytes):
            self._scheduler.consumed(self, len(chunk))
        return chunk

    def unread(self, byte_count: int) -> bytes:
        """The audio that would be read next, as far as it is made; about `byte_count` of it."""
        audio = b""
        for chunk in self._chunks:
            if len(audio) >= byte_count:
                break
            if isinstance(chunk, bytes):
                audio += chunk
        return audio

    def wake(self) -> None:
        """There may be something to do again for an utterance that said it was waiting."""
        self._scheduler.wake(self)

    def close(self) -> None:
        """Nothing more is read, and the generator is closed before the model's next step."""
        self._ended = True
        self._chunks.clear()
        self._more.set()
        self._scheduler.cancel(self)

    def deliver(self, chunk: T) -> None:
        """From a worker thread."""
        self._call(self._append, chunk)

    def end(self, error: SpeechError | None) -> None:
        """From a worker thread."""
        self._call(self._finish, error)

    def _call(self, method: object, argument: object) -> None:
        def on_loop() -> None:
            method(argument)  # type: ignore[operator]
            self._more.set()

        try:
            self._loop.call_soon_threadsafe(on_loop)
        except RuntimeError:
            log.debug("stream.orphaned")  # the loop is closed: nobody listens any more

    def _append(self, chunk: T) -> None:
        if not self._ended:
            self._chunks.append(chunk)

    def _finish(self, error: SpeechError | None) -> None:
        self._ended, self._error = True, error


class Scheduler:
    """`workers` threads that step utterances; each buffers at most about `buffer_s` of audio."""

    def __init__(self, *, workers: int, buffer_s: float) -> None:
        self._buffer_s = buffer_s
        self._wake = threading.Condition()
        self._ready: list[tuple[float, int, Stream[Any]]] = []
        self._order = itertools.count()
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._work, name=f"synthesis-{i}", daemon=True)
            for i in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, steps: Generator[T, None, None], audio: Timed) -> Stream[T]:
        """Begin an utterance whose generator yields `audio`. Call from the event loop."""
        stream = Stream(self, steps, audio)
        with self._wake:
            self._enqueue(stream)
        return stream

    def consumed(self, stream: Stream[Any], byte_count: int) -> None:
        with self._wake:
            stream.buffered_bytes -= byte_count
            if stream.parked and not self._full(stream):
                stream.parked = False
                self._enqueue(stream)

    def wake(self, stream: Stream[Any]) -> None:
        with self._wake:
            if stream.waiting:
                stream.waiting = False
                self._enqueue(stream)
            else:
                stream.woken = True

    def cancel(self, stream: Stream[Any]) -> None:
        with self._wake:
            if stream.closed:
                return
            stream.closed = True
            if stream.parked or stream.waiting:
                stream.parked = stream.waiting = False
                self._enqueue(stream)

    def stop(self) -> None:
        """End the threads after the steps they are in. Streams still open are not ended."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        for thread in self._threads:
            thread.join()

    def _enqueue(self, stream: Stream[Any]) -> None:
        heapq.heappush(self._ready, (stream.dry_at, next(self._order), stream))
        self._wake.notify()

    def _full(self, stream: Stream[Any]) -> bool:
        return stream.audio.duration_s(stream.buffered_bytes) >= self._buffer_s

    def _work(self) -> None:
        _give_way()
        while True:
            with self._wake:
                while not self._ready and not self._stopping:
                    self._wake.wait()
                if self._stopping:
                    return
                _, _, stream = heapq.heappop(self._ready)
                stream.woken = False
            if stream.closed:
                self._close_steps(stream)
                continue
            chunk = self._step(stream)
            if chunk is None:
                continue
            # Before it can be stepped again, or the next chunk might arrive first.
            stream.deliver(chunk)
            with self._wake:
                if isinstance(chunk, bytes):
                    stream.buffered_bytes += len(chunk)
                    stream.dry_at = max(stream.dry_at, time.monotonic())
                    stream.dry_at += stream.audio.duration_s(len(chunk))
                if stream.closed:
                    self._enqueue(stream)
                elif chunk is Gap.WAITING:
                    self._park_until_woken(stream)
                elif self._full(stream):
                    stream.parked = True
                else:
                    self._enqueue(stream)

    def _park_until_woken(self, stream: Stream[Any]) -> None:
        if stream.woken:  # while it was in the step that said so
            self._enqueue(stream)
        else:
            stream.waiting = True

    def _step(self, stream: Stream[Any]) -> Any:
        """One step of the generator: what it yields, or None when there is no more to come."""
        error: SpeechError | None = None
        started = time.perf_counter()
        try:
            return next(stream.steps)
        except StopIteration:
            pass
        except SpeechError as known:
            if known.http_status >= 500:
                log.error("utterance.failed", code=known.code, exc_info=known)
            error = known
        except Exception as unforeseen:
            log.error("utterance.failed", code=Internal.code, exc_info=unforeseen)
            error = Internal(FAULT)
        finally:
            stream.computed_s += time.perf_counter() - started
        stream.end(error)
        return None

    def _close_steps(self, stream: Stream[Any]) -> None:
        try:
            stream.steps.close()
        except Exception as error:
            log.error("utterance.close_failed", exc_info=error)
        stream.end(None)


def _give_way() -> None:
    """Let those who move bytes go first: what is computed is ahead of its listener anyway."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    if sys.platform == "linux":  # elsewhere, priorities are a process's, not a thread's
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
