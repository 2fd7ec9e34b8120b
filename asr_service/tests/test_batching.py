"""The workers, with a fake recognizer: which windows share a batch, and in which order."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import anyio
import anyio.to_thread
import numpy as np
import pytest

from asr_service.app.batching import Recognition, Workers, release
from asr_service.app.engine import Decode, RecognitionOptions, Window
from common.audio.samples import Samples
from common.errors import Draining, RecognitionFailed, UndecodableAudio
from common.protocol.recognition import Segment

ENGLISH = RecognitionOptions()
FAILS = 99.0


@dataclass
class BatchRecorder:
    """Recognizes each second as a window whose text is its first sample, and records the batches.

    While `gate` is cleared no batch is answered. A window that begins with `FAILS` fails its batch.
    """

    languages: tuple[str, ...] = ("en",)
    gate: threading.Event = field(default_factory=threading.Event)
    batches: list[list[int]] = field(default_factory=list)

    def windows(
        self, samples: Samples, options: RecognitionOptions, cancelled: threading.Event
    ) -> Iterator[Window]:
        for start in range(0, len(samples), 16000):
            part = samples[start : start + 16000]
            yield Window(part[None], ((start, start + len(part)),), options, cancelled)

    def recognize(self, batch: Sequence[Window]) -> Iterator[tuple[int, list[Segment]]]:
        self.batches.append([int(window.features[0, 0]) for window in batch])
        assert self.gate.wait(10)
        if FAILS in [window.features[0, 0] for window in batch]:
            raise RuntimeError("the recorder was told to fail")
        for index, window in enumerate(batch):
            yield index, [Segment(start_ms=0, end_ms=1, text=str(int(window.features[0, 0])))]


@pytest.fixture
def recorder() -> Iterator[BatchRecorder]:
    recorder = BatchRecorder()
    yield recorder
    recorder.gate.set()


def saying(*numbers: float) -> Decode:
    """A recording with a window for each number."""
    samples = np.repeat(np.array(numbers, np.float32), 16000)
    return lambda _: samples


async def all_of(recognition: Recognition) -> str:
    return "".join([segment.text async for segment in recognition])


async def until(condition: Callable[[], bool]) -> None:
    deadline = anyio.current_time() + 10
    while not condition():
        assert anyio.current_time() < deadline, "waited too long"
        await anyio.sleep(0.002)


def has_taken(recorder: BatchRecorder, batches: int) -> bool:
    return len(recorder.batches) == batches


@asynccontextmanager
async def at_work(
    recorder: BatchRecorder, *, workers: int = 1, max_batch: int = 4, held: bool = True
) -> AsyncIterator[Workers]:
    """Workers, each of which has a window of its own in hand until the gate opens (`held`)."""
    made = Workers(recorder, workers=workers, max_batch=max_batch)
    try:
        if held:
            for number in range(workers):
                made.submit(saying(0), ENGLISH)
                await until(partial(has_taken, recorder, number + 1))
            recorder.batches.clear()
        else:
            recorder.gate.set()
        yield made
    finally:
        recorder.gate.set()
        await anyio.to_thread.run_sync(made.stop)


def test_waiting_recordings_share_a_batch(recorder: BatchRecorder) -> None:
    async def run() -> None:
        async with at_work(recorder) as workers:
            waiting = [workers.submit(saying(n), ENGLISH) for n in range(1, 7)]
            recorder.gate.set()
            assert [await all_of(w) for w in waiting] == list("123456")
        assert recorder.batches == [[1, 2, 3, 4], [5, 6]]

    anyio.run(run)


def test_only_windows_of_one_kind_share_a_batch(recorder: BatchRecorder) -> None:
    async def run() -> None:
        greedy = RecognitionOptions(beam_size=1)
        async with at_work(recorder) as workers:
            options = [ENGLISH, greedy, ENGLISH, greedy]
            waiting = [workers.submit(saying(n), o) for n, o in enumerate(options, 1)]
            recorder.gate.set()
            assert [await all_of(w) for w in waiting] == list("1234")
        assert recorder.batches == [[1, 3], [2, 4]]

    anyio.run(run)


def test_a_long_recording_shares_the_batches_with_others(recorder: BatchRecorder) -> None:
    async def run() -> None:
        async with at_work(recorder) as workers:
            long = workers.submit(saying(1, 2, 3, 4, 5, 6, 7, 8), ENGLISH)
            short = [workers.submit(saying(n), ENGLISH) for n in (11, 12)]
            recorder.gate.set()
            assert [await all_of(w) for w in short] == ["11", "12"]
            assert await all_of(long) == "12345678"
        assert {11, 12} < set(recorder.batches[0])

    anyio.run(run)


def test_segments_come_in_order_whichever_worker_is_first(recorder: BatchRecorder) -> None:
    async def run() -> None:
        async with at_work(recorder, workers=2, max_batch=2, held=False) as workers:
            several = [workers.submit(saying(*range(10)), ENGLISH) for _ in range(5)]
            assert [await all_of(w) for w in several] == ["0123456789"] * 5

    anyio.run(run)


def test_two_requests_on_two_workers_run_side_by_side(recorder: BatchRecorder) -> None:
    async def run() -> None:
        async with at_work(recorder, workers=2, held=False) as workers:
            recorder.gate.clear()
            waiting = [workers.submit(saying(n), ENGLISH) for n in (1, 2)]
            await until(lambda: len(recorder.batches) == 2)
            recorder.gate.set()
            for recognition in waiting:
                await all_of(recognition)

    anyio.run(run)


def test_a_failure_affects_no_other_recording(recorder: BatchRecorder) -> None:
    async def run() -> None:
        async with at_work(recorder) as workers:
            good, bad, better = (workers.submit(saying(n), ENGLISH) for n in (1, FAILS, 2))
            recorder.gate.set()
            assert (await all_of(good), await all_of(better)) == ("1", "2")
            with pytest.raises(RecognitionFailed):
                await all_of(bad)
        assert recorder.batches[0] == [1, 99, 2]

    anyio.run(run)


@dataclass
class SlowRecorder(BatchRecorder):
    """Of a batch, the first is answered at once, the others when `struggling` is set."""

    struggling: threading.Event = field(default_factory=threading.Event)

    def recognize(self, batch: Sequence[Window]) -> Iterator[tuple[int, list[Segment]]]:
        for index, segments in super().recognize(batch):
            yield index, segments
            assert len(batch) == 1 or self.struggling.wait(10)


def test_a_window_that_is_hard_to_recognize_holds_up_no_other() -> None:
    recorder = SlowRecorder()

    async def run() -> None:
        async with at_work(recorder) as workers:
            easy, difficult = (workers.submit(saying(n), ENGLISH) for n in (1, 2))
            recorder.gate.set()
            assert await all_of(easy) == "1"
            recorder.struggling.set()
            assert await all_of(difficult) == "2"

    anyio.run(run)


def test_what_decoding_raises_reaches_the_caller(recorder: BatchRecorder) -> None:
    def undecodable(_: threading.Event) -> Samples:
        raise UndecodableAudio("no audio at all")

    def broken(_: threading.Event) -> Samples:
        raise ValueError("a fault")

    async def run() -> None:
        async with at_work(recorder, held=False) as workers:
            with pytest.raises(UndecodableAudio, match="no audio at all"):
                await all_of(workers.submit(undecodable, ENGLISH))
            with pytest.raises(RecognitionFailed):
                await all_of(workers.submit(broken, ENGLISH))
            assert await all_of(workers.submit(saying(1), ENGLISH)) == "1"

    anyio.run(run)


def test_a_recording_that_is_cancelled_while_it_waits_is_never_decoded(
    recorder: BatchRecorder,
) -> None:
    async def run() -> None:
        async with at_work(recorder) as workers:
            given_up = workers.submit(saying(1), ENGLISH)
            waiting = workers.submit(saying(2), ENGLISH)
            given_up.cancel()
            await given_up.released()
            recorder.gate.set()
            assert await all_of(waiting) == "2"
            assert await all_of(given_up) == ""
        assert recorder.batches == [[2]]

    anyio.run(run)


def test_cancelling_one_recording_of_a_batch_leaves_the_others(recorder: BatchRecorder) -> None:
    async def run() -> None:
        async with at_work(recorder, held=False) as workers:
            recorder.gate.clear()
            held = workers.submit(saying(0), ENGLISH)
            await until(lambda: len(recorder.batches) == 1)
            pair = [workers.submit(saying(n, n + 1), ENGLISH) for n in (1, 3)]
            recorder.gate.set()
            await all_of(held)
            pair[0].cancel()
            assert await all_of(pair[1]) == "34"
            await pair[0].released()

    anyio.run(run)


def test_stopping_ends_waiting_recordings_with_an_error(recorder: BatchRecorder) -> None:
    async def run() -> None:
        workers = Workers(recorder, workers=1, max_batch=1)
        first, second = (workers.submit(saying(n), ENGLISH) for n in (1, 2))
        await until(lambda: len(recorder.batches) == 1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.to_thread.run_sync, workers.stop)
            await anyio.sleep(0.02)
            recorder.gate.set()
        first.cancel()
        with pytest.raises(Draining):
            await all_of(second)
        assert recorder.batches == [[1]]

    anyio.run(run)


def test_the_wait_for_the_workers_outlasts_a_cancellation_and_is_bounded(
    recorder: BatchRecorder,
) -> None:
    async def run() -> None:
        async with at_work(recorder, held=False) as workers:
            recorder.gate.clear()
            running = workers.submit(saying(1), ENGLISH)
            await until(lambda: has_taken(recorder, 1))
            with anyio.CancelScope() as scope:
                scope.cancel()
                started = anyio.current_time()
                await release(running, timeout_s=0.1)
            assert anyio.current_time() - started >= 0.09
            assert not running.ended
            recorder.gate.set()
            await release(running)
            assert running.ended

    anyio.run(run)
