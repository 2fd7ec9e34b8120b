"""Speakers share steps, joining and leaving, and none of them can tell."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from tts_service.app.engines.tacotron.batch import Batch, Slot
from tts_service.app.engines.tacotron.decoder import Row, Stack, Step
from tts_service.app.engines.tacotron.guard import Guard, GuardLimits

MELS = 2


class CountingModel:
    """A decoder whose frames hold the row's own number and the step; remembers who stepped."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.before: Callable[[], None] = lambda: None
        self.failing = False

    def initial(self, symbols: int) -> dict[str, NDArray[np.float32]]:
        return {"steps": np.zeros(1, np.float32)}

    def stack(self, rows: Sequence[Row]) -> Stack:
        return Stack(tuple(rows), {}, {})

    def unstack(self, stack: Stack) -> None:
        pass

    def run(self, stack: Stack) -> Step:
        self.before()
        if self.failing:
            raise RuntimeError("the model broke")
        self.batches.append([int(row.memory[0, 0]) for row in stack.rows])
        for row in stack.rows:
            row.state["steps"] = row.state["steps"] + 1
        frames = np.array(
            [[row.memory[0, 0], row.state["steps"][0]] for row in stack.rows], np.float32
        )
        rows = len(stack.rows)
        return Step(stack, frames, np.zeros((rows, 1), "f4"), np.full((rows, 3), 0.3, "f4"))

    def deliver(self, step: Step) -> None:
        for i, row in enumerate(step.stack.rows):
            if row.end is None:
                row.frames.append(step.frames[i : i + 1])
                row.end = row.guard.observe(step.attention[i], float(step.stop[i, 0]))


@pytest.fixture
def model() -> CountingModel:
    return CountingModel()


def batch(model: CountingModel, *, max_rows: int = 8, read_ahead: int = 4) -> Batch:
    return Batch(model, max_rows=max_rows, read_ahead=read_ahead)  # type: ignore[arg-type]


def row(number: int, steps: int = 1000) -> Row:
    memory = np.full((3, 1), number, np.float32)
    return Row(memory, memory, Guard(3, 1, steps, GuardLimits.off()))


def numbers(parts: list[NDArray[np.float32]]) -> list[tuple[int, int]]:
    return [(int(p[0, 0]), int(p[0, 1])) for p in parts]


def test_one_speaker_gets_its_frames_in_order(model: CountingModel) -> None:
    one = batch(model)
    slot = one.join(row(7))
    first, end = one.take(slot, 3)
    second, _ = one.take(slot, 2)
    assert numbers(first + second) == [(7, step) for step in (1, 2, 3, 4, 5)]
    assert end is None


def test_a_row_that_ends_gives_what_it_has_and_says_so(model: CountingModel) -> None:
    one = batch(model)
    slot = one.join(row(1, steps=4))
    parts, end = one.take(slot, 10)
    assert len(parts) == 4
    assert end is not None


def spoken(one: Batch, number: int, chunks: Iterator[int]) -> list[tuple[int, int]]:
    slot = one.join(row(number))
    got: list[tuple[int, int]] = []
    for chunk in chunks:
        parts, _ = one.take(slot, chunk)
        got += numbers(parts)
    one.leave(slot)
    return got


def test_many_speakers_at_once_get_each_frame_once_and_in_order(model: CountingModel) -> None:
    one = batch(model, max_rows=4)
    model.before = lambda: time.sleep(0.0005)  # so that others come meanwhile
    with ThreadPoolExecutor(12) as threads:
        results = list(
            threads.map(lambda n: spoken(one, n, iter([1 + n % 5] * 30)), range(12), timeout=60)
        )
    for number, got in enumerate(results):
        assert len(got) >= (1 + number % 5) * 30
        assert got == [(number, step) for step in range(1, len(got) + 1)]
    assert max(len(b) for b in model.batches) == 4
    assert one.rows == 0


def test_speakers_that_wait_together_step_together(model: CountingModel) -> None:
    one = batch(model)
    second = one.join(row(2))
    asked = threading.Event()
    waiting: list[threading.Thread] = []

    def join_second() -> None:
        if not waiting:
            thread = threading.Thread(target=lambda: one.take(second, 5))
            waiting.append(thread)
            thread.start()
            # The second is waiting once it has a ticket.
            while not second.ticket:
                asked.wait(0.001)

    model.before = join_second
    one.take(one.join(row(1)), 6)
    waiting[0].join(10)
    assert model.batches[0] == [1]
    assert [1, 2] in [sorted(b) for b in model.batches]


def test_a_reader_that_does_not_come_back_leaves_the_batch(model: CountingModel) -> None:
    """It rides along for `read_ahead` frames and no further."""
    one = batch(model, read_ahead=4)
    slow = one.join(row(1))
    one.take(slow, 2)
    one.take(one.join(row(2)), 20)
    with_slow = [b for b in model.batches if 1 in b and 2 in b]
    assert len(with_slow) == 4
    assert model.batches[-1] == [2]
    parts, _ = one.take(slow, 6)
    assert numbers(parts) == [(1, step) for step in range(3, 9)]


def test_a_speaker_that_left_is_not_stepped_any_more(model: CountingModel) -> None:
    one = batch(model)
    gone = one.join(row(1))
    one.take(gone, 1)
    one.leave(gone)
    one.take(one.join(row(2)), 5)
    assert all(1 not in b for b in model.batches[1:])


def test_cancelling_ends_the_wait_after_the_step_under_way(model: CountingModel) -> None:
    one = batch(model)
    cancelled = threading.Event()

    def cancel_in_third_step() -> None:
        if len(model.batches) == 2:
            cancelled.set()

    model.before = cancel_in_third_step
    parts, end = one.take(one.join(row(1)), 100, cancelled.is_set)
    assert len(parts) == 3
    assert end is None


def test_a_follower_that_is_cancelled_does_not_hold_up_the_others(model: CountingModel) -> None:
    one = batch(model, max_rows=2)
    stop = threading.Event()

    def take(slot: Slot, frames: int, cancelled: Callable[[], bool]) -> int:
        return len(one.take(slot, frames, cancelled)[0])

    with ThreadPoolExecutor(6) as threads:
        leaving = [threads.submit(take, one.join(row(n)), 10**9, stop.is_set) for n in range(3)]
        staying = [threads.submit(take, one.join(row(n)), 200, lambda: False) for n in range(3, 6)]
        while len(model.batches) < 50:
            stop.wait(0.001)
        stop.set()
        assert [f.result(30) >= 200 for f in staying] == [True] * 3
        assert all(f.result(30) < 10**9 for f in leaving)


def test_a_failing_step_is_raised_to_all_that_were_in_it(model: CountingModel) -> None:
    one = batch(model)
    model.failing = True
    with ThreadPoolExecutor(3) as threads:
        waits = [threads.submit(one.take, one.join(row(n)), 5) for n in range(3)]
        for wait in waits:
            assert isinstance(wait.exception(10), RuntimeError)
    model.failing = False
    parts, _ = one.take(one.join(row(9)), 2)
    assert numbers(parts) == [(9, 1), (9, 2)]
