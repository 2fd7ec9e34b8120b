"""The scheduler: many utterances on few threads, an event at a time.

Each worker takes the utterance whose playout deadline comes first, has its generator make the next
event, and hands that to the event loop. An utterance of which nothing is heard yet comes before one
that is ahead of its playout, so first audio does not wait for the ends of others. An utterance
whose buffer is full is parked until its reader has caught up: a slow reader never holds a model.
One that waits for text is parked until it is woken: nor does a slow writer.
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
from collections.abc import AsyncIterator, Callable, Generator
from typing import Any, Protocol, TypeVar

from common.errors import Internal, SpeechError
from common.logger import get_logger
from common.server.error_boundary import FAULT
from tts_service.app.text import TextEvent

log = get_logger(__name__)

T = TypeVar("T")
"""An event of the utterance: bytes are audio, at `TextEvent.WAIT` there is nothing to do now."""

SWITCH_INTERVAL_S = 0.0005
"""How soon a computing thread hands the interpreter over to the event loop; Python's own 5 ms would
be added to every frame that is sent meanwhile."""
NICENESS = 5
"""Of the threads that compute: the event loops of all services come first on a full machine."""


class Timed(Protocol):
    """A format of audio, of which only this is asked."""

    def duration_s(self, byte_count: int) -> float: ...


class Stream(AsyncIterator[T]):
    """The events of one utterance, as they are made; belongs to the event loop that made it.

    Iterate it to the end or `close` it. Iterating raises the utterance's `SpeechError` after the
    audio that came before it.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        events: Generator[T, None, None],
        audio: Timed,
        released: Callable[[], None],
    ) -> None:
        self._scheduler = scheduler
        self._released = released
        self._loop = asyncio.get_running_loop()
        self._unread: deque[T] = deque()
        self._more = asyncio.Event()
        self._ended = False
        self._error: SpeechError | None = None
        # Below: guarded by the scheduler's lock.
        self.events = events
        self.audio = audio
        self.closed = False
        self.parked = False
        self.waiting = False
        """Parked until it is woken."""
        self.woken = False
        self.buffered_bytes = 0
        self.computed_s = 0.0
        """Time that its events have taken to make."""
        self.playout_deadline = time.monotonic()
        """When a client that plays in real time has played all that was made."""

    async def __anext__(self) -> T:
        while not self._unread:
            if self._error is not None:
                raise self._error
            if self._ended:
                raise StopAsyncIteration
            self._more.clear()
            await self._more.wait()
        event = self._unread.popleft()
        if isinstance(event, bytes):
            self._scheduler.consumed(self, len(event))
        return event

    def unread(self, byte_count: int) -> bytes:
        """The audio that would be read next, as far as it is made; about `byte_count` of it."""
        audio = b""
        for event in self._unread:
            if len(audio) >= byte_count:
                break
            if isinstance(event, bytes):
                audio += event
        return audio

    def wake(self) -> None:
        """There may be something to do again for an utterance that said it was waiting."""
        self._scheduler.wake(self)

    def close(self) -> None:
        """Nothing more is read, and the generator is closed before it is asked again."""
        self._ended = True
        self._unread.clear()
        self._more.set()
        self._scheduler.cancel(self)

    def deliver(self, event: T) -> None:
        """Have `event` read; from a worker thread."""
        self._call(self._append, event)

    def end(self, error: SpeechError | None) -> None:
        """Nothing more comes, and the generator is closed; from a worker thread, once."""
        self._call(self._finish, error)

    def _call(self, method: object, argument: object) -> None:
        def on_loop() -> None:
            method(argument)  # type: ignore[operator]
            self._more.set()

        try:
            self._loop.call_soon_threadsafe(on_loop)
        except RuntimeError:
            log.debug("stream.orphaned")  # the loop is closed: nobody reads any more

    def _append(self, event: T) -> None:
        if not self._ended:
            self._unread.append(event)

    def _finish(self, error: SpeechError | None) -> None:
        self._ended, self._error = True, error
        self._released()


class Scheduler:
    """`workers` threads for utterances that buffer about `buffer_s` of audio each, at most."""

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

    def submit(
        self,
        events: Generator[T, None, None],
        audio: Timed,
        released: Callable[[], None] = lambda: None,
    ) -> Stream[T]:
        """Begin an utterance whose generator yields `audio`. Call from the event loop.

        `released` is called there when the workers have let go of the utterance, however it ended.
        """
        stream = Stream(self, events, audio, released)
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
        """End the threads after the events they are making. Streams still open are not ended."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        for thread in self._threads:
            thread.join()

    def _enqueue(self, stream: Stream[Any]) -> None:
        heapq.heappush(self._ready, (stream.playout_deadline, next(self._order), stream))
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
                self._close_events(stream)
                continue
            event = self._next_event(stream)
            if event is None:
                continue
            # Before it can be advanced again, or the next event might arrive first.
            stream.deliver(event)
            with self._wake:
                if isinstance(event, bytes):
                    stream.buffered_bytes += len(event)
                    stream.playout_deadline = max(stream.playout_deadline, time.monotonic())
                    stream.playout_deadline += stream.audio.duration_s(len(event))
                if stream.closed:
                    self._enqueue(stream)
                elif event is TextEvent.WAIT:
                    self._park_until_woken(stream)
                elif self._full(stream):
                    stream.parked = True
                else:
                    self._enqueue(stream)

    def _park_until_woken(self, stream: Stream[Any]) -> None:
        if stream.woken:  # while it said so
            self._enqueue(stream)
        else:
            stream.waiting = True

    def _next_event(self, stream: Stream[Any]) -> Any:
        """What the generator yields next, or None when there is no more to come."""
        error: SpeechError | None = None
        started = time.perf_counter()
        try:
            return next(stream.events)
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

    def _close_events(self, stream: Stream[Any]) -> None:
        try:
            stream.events.close()
        except Exception as error:
            log.error("utterance.close_failed", exc_info=error)
        stream.end(None)


def _give_way() -> None:
    """Let those who move bytes go first: what is computed is ahead of its playout anyway."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    if sys.platform == "linux":  # elsewhere, priorities are a process's, not a thread's
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
