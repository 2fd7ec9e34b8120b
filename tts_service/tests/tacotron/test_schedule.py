"""A player that starts with the first sound never runs dry, at any speed of the machine that can
keep up at all."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from tts_service.app.engines.tacotron.speech import ChunkSchedule, Pace

FRAME_S = 256 / 22050
CONTEXT = 18


class Machine:
    """Decodes at a real-time factor, with a fixed cost a chunk, on a clock of its own."""

    def __init__(self, rtf: float, chunk_s: float, jitter: float = 0.0) -> None:
        self.now = 100.0
        self._rtf = rtf
        self._chunk_s = chunk_s
        self._random = random.Random(1)
        self._jitter = jitter

    def work(self, frames: int) -> None:
        slower = 1 + self._jitter * self._random.random()
        self.now += self._chunk_s + frames * FRAME_S * self._rtf * slower


def play(machine: Machine, frames: int, pace: Pace | None = None) -> tuple[float, list[int], float]:
    """Speak `frames`; returns the first sound's time, the chunks and the time without sound."""
    began = machine.now
    schedule = ChunkSchedule(pace or Pace(), FRAME_S, lambda: machine.now)
    chunks: list[int] = []
    heard_until, silent_s, first = 0.0, 0.0, 0.0
    left = frames
    while left > 0:
        chunk = min(schedule.next_frames(), left)
        decoded = chunk + (0 if chunks else CONTEXT)
        machine.work(decoded)
        if not chunks:
            first = machine.now - began
            heard_until = machine.now
        silent_s += max(0.0, machine.now - heard_until)
        heard_until = max(heard_until, machine.now) + chunk * FRAME_S
        schedule.made(decoded, chunk * FRAME_S)
        chunks.append(chunk)
        left -= chunk
    return first, chunks, silent_s


@pytest.mark.parametrize("chunk_s", [0.0, 0.004, 0.01])
@pytest.mark.parametrize("rtf", [0.05, 0.2, 0.35, 0.5, 0.62, 0.75])
def test_the_player_never_runs_dry(rtf: float, chunk_s: float) -> None:
    _, _, silent_s = play(Machine(rtf, chunk_s), 1000)
    assert silent_s == 0


def test_jitter_of_the_machine_is_survived() -> None:
    _, _, silent_s = play(Machine(0.5, 0.004, jitter=0.4), 1000)
    assert silent_s == 0


def test_a_machine_that_grows_slower_is_believed_at_once() -> None:
    machine = Machine(0.2, 0.0)
    schedule = ChunkSchedule(Pace(), FRAME_S, lambda: machine.now)
    for _ in range(6):
        frames = schedule.next_frames()
        machine.work(frames)
        schedule.made(frames, frames * FRAME_S)
    before = schedule.next_frames()
    machine.now += 0.7
    schedule.made(before, before * FRAME_S)
    assert schedule.next_frames() < before


def test_chunks_grow_to_the_longest_where_the_machine_is_fast() -> None:
    _, chunks, _ = play(Machine(0.1, 0.002), 1000)
    assert chunks[0] == Pace().first_frames
    assert max(chunks) == Pace().max_frames
    for before, after in pairwise(chunks):
        assert after <= max(before * Pace().growth, Pace().min_frames)


def test_growth_that_ignores_the_lead_would_run_dry() -> None:
    """What the lead is measured for: the same machine, with growth alone deciding."""
    greedy = Pace(first_frames=16, max_frames=128, margin=1e9, growth=2.0)
    _, _, silent_s = play(Machine(0.62, 0.004), 1000, greedy)
    assert silent_s > 0


def test_a_machine_that_cannot_keep_up_makes_few_gaps_of_many() -> None:
    _, chunks, silent_s = play(Machine(1.5, 0.0), 1000)
    assert silent_s > 0
    assert max(chunks) == Pace().max_frames


def test_after_a_gap_the_lead_is_won_back() -> None:
    machine = Machine(0.5, 0.0)
    schedule = ChunkSchedule(Pace(), FRAME_S, lambda: machine.now)
    heard_until, silent = 0.0, []
    for chunk in range(40):
        frames = schedule.next_frames()
        machine.work(frames)
        if chunk == 10:
            machine.now += 2.0
        silent.append(chunk > 0 and machine.now > heard_until)
        heard_until = max(heard_until, machine.now) + frames * FRAME_S
        schedule.made(frames, frames * FRAME_S)
    assert silent.index(True) == 10
    assert not any(silent[13:])


@pytest.mark.parametrize("others", [0, 1, 4])
def test_the_first_chunk_lasts_until_all_others_are_served(others: int) -> None:
    first = ChunkSchedule(Pace(), FRAME_S, others=lambda: others).next_frames()
    assert first == Pace().first_frames + Pace().crowd_frames * others


def test_those_who_begin_at_the_same_moment_are_seen_once_it_is_decoded() -> None:
    others = 0
    schedule = ChunkSchedule(Pace(), FRAME_S, others=lambda: others)
    frames = schedule.next_frames()
    others = 3
    assert schedule.missing() == 3 * Pace().crowd_frames
    assert schedule.missing() == 0
    schedule.made(frames + 3 * Pace().crowd_frames, 0.3)
    others = 5
    assert schedule.missing() == 0


def test_the_first_sound_needs_only_the_first_chunk_and_its_context() -> None:
    first, _, _ = play(Machine(0.5, 0.0), 500)
    assert first == pytest.approx((Pace().first_frames + CONTEXT) * FRAME_S * 0.5)
