"""Many utterances on few threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Generator
from typing import Any

import anyio
import pytest

from common.audio.pcm import AudioFormat
from common.errors import Internal, SynthesisFailed
from tests.support.wire import wait_for
from tts_service.app.scheduler import Scheduler, Stream
from tts_service.app.text import TextEvent

PCM = AudioFormat(16000)
SECOND = bytes(32000)


class Source:
    """A generator of seconds of audio that counts its steps and can be held."""

    def __init__(
        self,
        seconds: int,
        *,
        error: Exception | None = None,
        order: list[Source] | None = None,
    ) -> None:
        self.order = [] if order is None else order
        self.seconds = seconds
        self.error = error
        self.steps = 0
        self.closed = threading.Event()
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def run(self) -> Generator[bytes, None, None]:
        try:
            for _ in range(self.seconds):
                self.entered.set()
                self.gate.wait()
                self.steps += 1
                self.order.append(self)
                yield SECOND
            if self.error is not None:
                raise self.error
        finally:
            self.closed.set()


def with_scheduler(
    scenario: Callable[[Scheduler], Coroutine[Any, Any, None]],
    *,
    workers: int = 1,
    buffer_s: float = 100.0,
) -> None:
    async def run() -> None:
        scheduler = Scheduler(workers=workers, buffer_s=buffer_s)
        try:
            with anyio.fail_after(20):
                await scenario(scheduler)
        finally:
            await asyncio.to_thread(scheduler.stop)

    asyncio.run(run())


async def settle(source: Source) -> None:
    """Wait until a source is stepped no more."""
    before = -1
    while source.steps != before:
        before = source.steps
        await asyncio.sleep(0.05)


async def read(stream: Stream[bytes]) -> bytes:
    return b"".join([chunk async for chunk in stream])


def test_an_utterance_is_read_to_its_end() -> None:
    async def scenario(scheduler: Scheduler) -> None:
        source = Source(3)
        assert await read(scheduler.submit(source.run(), PCM)) == SECOND * 3
        assert source.closed.is_set()

    with_scheduler(scenario)


def test_a_full_buffer_parks_the_utterance_and_reading_resumes_it() -> None:
    async def scenario(scheduler: Scheduler) -> None:
        source = Source(10)
        stream = scheduler.submit(source.run(), PCM)
        await settle(source)
        assert source.steps == 3
        await stream.__anext__()
        await settle(source)
        assert source.steps == 4
        assert len(await read(stream)) == 9 * len(SECOND)

    with_scheduler(scenario, buffer_s=3.0)


def test_a_slow_reader_does_not_hold_the_worker() -> None:
    async def scenario(scheduler: Scheduler) -> None:
        slow, other = Source(50), Source(5)
        scheduler.submit(slow.run(), PCM)
        assert len(await read(scheduler.submit(other.run(), PCM))) == 5 * len(SECOND)
        assert slow.steps <= 3

    with_scheduler(scenario, buffer_s=2.0)


def test_first_audio_comes_before_the_rest_of_others() -> None:
    async def scenario(scheduler: Scheduler) -> None:
        order: list[Source] = []
        long, late = Source(50, order=order), Source(1, order=order)
        long.gate.clear()
        first = scheduler.submit(long.run(), PCM)
        assert await asyncio.to_thread(long.entered.wait, 5)
        second = scheduler.submit(late.run(), PCM)
        long.gate.set()
        await second.__anext__()
        first.close()
        assert order.index(late) <= 2

    with_scheduler(scenario)


def test_closing_stops_it_before_its_next_step() -> None:
    async def scenario(scheduler: Scheduler) -> None:
        source = Source(50)
        source.gate.clear()
        stream = scheduler.submit(source.run(), PCM)
        assert await asyncio.to_thread(source.entered.wait, 5)
        stream.close()
        source.gate.set()
        assert await asyncio.to_thread(source.closed.wait, 5)
        assert source.steps == 1

    with_scheduler(scenario)


def test_closing_a_parked_one_frees_it_too() -> None:
    async def scenario(scheduler: Scheduler) -> None:
        source = Source(50)
        stream = scheduler.submit(source.run(), PCM)
        await settle(source)
        stream.close()
        assert await asyncio.to_thread(source.closed.wait, 5)
        assert source.steps == 1

    with_scheduler(scenario, buffer_s=0.5)


@pytest.mark.parametrize(
    ("error", "expected"),
    [(SynthesisFailed("The voice failed."), SynthesisFailed), (ValueError("bug"), Internal)],
)
def test_a_failure_is_raised_after_the_audio_before_it(
    error: Exception, expected: type[Exception]
) -> None:
    async def scenario(scheduler: Scheduler) -> None:
        stream = scheduler.submit(Source(1, error=error).run(), PCM)
        assert await stream.__anext__() == SECOND
        with pytest.raises(expected):
            await stream.__anext__()
        assert await read(scheduler.submit(Source(1).run(), PCM)) == SECOND

    with_scheduler(scenario)


def test_no_chunk_is_mixed_up_or_reordered_between_many_streams() -> None:
    def numbered(identity: int) -> Generator[bytes, None, None]:
        for step in range(40):
            yield bytes([identity, step]) * 100

    async def scenario(scheduler: Scheduler) -> None:
        streams = [scheduler.submit(numbered(i), PCM) for i in range(24)]
        for identity, audio in enumerate(await asyncio.gather(*map(read, streams))):
            assert audio == b"".join(bytes([identity, step]) * 100 for step in range(40))

    with_scheduler(scenario, workers=4, buffer_s=0.01)


def test_one_that_waits_is_left_alone_until_it_is_woken() -> None:
    steps: list[str] = []
    coming: list[bytes] = []

    def waiting() -> Generator[bytes | TextEvent, None, None]:
        for _ in range(3):
            while not coming:
                steps.append("asked")
                yield TextEvent.WAIT
            yield coming.pop()

    async def scenario(scheduler: Scheduler) -> None:
        stream = scheduler.submit(waiting(), PCM)
        for number in range(3):
            assert await stream.__anext__() is TextEvent.WAIT
            await asyncio.to_thread(wait_for, lambda: stream.waiting)
            assert len(steps) == number + 1
            coming.append(SECOND)
            stream.wake()
            assert await stream.__anext__() == SECOND

    with_scheduler(scenario)


def test_being_woken_in_the_step_that_waits_is_not_lost() -> None:
    entered, go_on = threading.Event(), threading.Event()

    def waiting() -> Generator[bytes | TextEvent, None, None]:
        entered.set()
        go_on.wait()
        yield TextEvent.WAIT
        yield SECOND

    async def scenario(scheduler: Scheduler) -> None:
        stream = scheduler.submit(waiting(), PCM)
        assert await asyncio.to_thread(entered.wait, 5)
        stream.wake()
        go_on.set()
        assert await stream.__anext__() is TextEvent.WAIT
        assert await stream.__anext__() == SECOND

    with_scheduler(scenario)


def test_closing_one_that_waits_frees_it() -> None:
    closed = threading.Event()

    def waiting() -> Generator[bytes | TextEvent, None, None]:
        try:
            while True:
                yield TextEvent.WAIT
        finally:
            closed.set()

    async def scenario(scheduler: Scheduler) -> None:
        stream = scheduler.submit(waiting(), PCM)
        await stream.__anext__()
        stream.close()
        assert await asyncio.to_thread(closed.wait, 5)

    with_scheduler(scenario)


def test_a_stopped_utterance_is_released_when_the_worker_has_let_go() -> None:
    async def scenario(scheduler: Scheduler) -> None:
        source, released = Source(50), asyncio.Event()
        source.gate.clear()
        stream = scheduler.submit(source.run(), PCM, released.set)
        assert await asyncio.to_thread(source.entered.wait, 5)
        stream.close()
        await asyncio.sleep(0.05)
        assert not released.is_set()
        source.gate.set()
        await released.wait()
        assert source.closed.is_set()

    with_scheduler(scenario)
