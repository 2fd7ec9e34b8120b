"""Crafted attention traces: each known way to fail is ended, and healthy speech is not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from tts_service.app.engines.tacotron.guard import DecodeEnd, Guard, GuardLimits, StopReason

LIMITS = GuardLimits()
Trace = Iterable[tuple[NDArray[np.float32], float]]


def at(symbols: int, position: int, peak: float = 0.8) -> NDArray[np.float32]:
    """Attention on one symbol, the rest shared by all."""
    attention = np.full(symbols, (1 - peak) / symbols, np.float32)
    attention[position] += peak
    return attention


def spoken(
    symbols: int, frames_each: int = 6, start: int = 0, until: int | None = None
) -> Iterator[tuple[NDArray[np.float32], float]]:
    """Healthy speech from symbol `start` up to symbol `until`, without its stop."""
    for position in range(start, symbols if until is None else until):
        for _ in range(frames_each):
            yield at(symbols, position), 0.0


def judge(
    symbols: int, *traces: Trace, r: int = 1, max_steps: int = 10_000, limits: GuardLimits = LIMITS
) -> tuple[DecodeEnd | None, int]:
    guard = Guard(symbols, r, max_steps, limits)
    for trace in traces:
        for attention, stop in trace:
            end = guard.observe(attention, stop)
            if end is not None:
                return end, guard.steps
    return None, guard.steps


def test_healthy_speech_ends_at_its_stop_token() -> None:
    end, steps = judge(40, spoken(40), [(at(40, 39), 0.9)])
    assert end == DecodeEnd(StopReason.STOP, steps, 39)


def test_slow_speech_with_long_pauses_is_left_alone() -> None:
    pause = [(at(40, 20), 0.0)] * 80
    end, _ = judge(40, spoken(40, 9, until=21), pause, spoken(40, 9, 21), [(at(40, 39), 0.9)])
    assert end is not None
    assert end.reason is StopReason.STOP


def test_the_stop_token_is_not_heeded_in_the_first_step() -> None:
    """As in Coqui; one symbol is spoken in two steps at least."""
    end, steps = judge(1, [(at(1, 0), 0.9), (at(1, 0), 0.9)])
    assert end == DecodeEnd(StopReason.STOP, 2, 0)
    assert steps == 2


@pytest.mark.parametrize("stop", [0.5, 0.1])
def test_a_stop_probability_up_to_a_half_is_no_stop(stop: float) -> None:
    end, _ = judge(3, spoken(3), [(at(3, 2), stop)])
    assert end is None


def test_a_missing_stop_token_ends_after_the_end_has_been_spoken() -> None:
    end, steps = judge(40, spoken(40), [(at(40, 39), 0.0)] * 1000)
    assert end is not None
    assert end.reason is StopReason.NO_STOP
    assert not end.reason.failed
    reached_end = 39 * 6 + 1
    assert end.keep_frames == reached_end + LIMITS.grace_frames
    assert steps == reached_end + LIMITS.end_stall_frames


def test_no_progress_is_ended_and_cut_where_progress_ended() -> None:
    end, steps = judge(60, spoken(60, until=31), [(at(60, 30), 0.0)] * 1000)
    assert end is not None
    assert end.reason is StopReason.STALLED
    assert end.reason.failed
    assert end.reached == 30
    advanced = 30 * 6
    assert end.keep_frames == advanced + 1 + LIMITS.grace_frames
    assert steps <= advanced + 1 + LIMITS.stall_frames


def test_a_loop_back_to_what_was_said_is_no_progress() -> None:
    loop = [(at(60, 10 + i % 12), 0.0) for i in range(1000)]
    end, _ = judge(60, spoken(60, until=31), loop)
    assert end is not None
    assert end.reason is StopReason.STALLED
    assert end.reached == 30


def test_one_symbol_over_and_over_is_ended_even_with_steps_forward() -> None:
    """Every 50 frames the attention flickers one symbol ahead: only coverage tells."""
    trace = [(at(60, 20 + i // 50 if i % 50 == 49 else 20), 0.0) for i in range(1000)]
    end, steps = judge(60, spoken(60, until=20), trace)
    assert end is not None
    assert end.reason is StopReason.STALLED
    assert steps < 20 * 6 + 260


def test_attention_that_points_nowhere_is_ended() -> None:
    flat = np.full(60, 1 / 60, np.float32)
    end, steps = judge(60, spoken(60, until=10), [(flat, 0.0)] * 1000)
    assert end is not None
    assert end.reason is StopReason.LOST
    assert steps <= 60 + LIMITS.spread_frames + 1


def test_a_stop_in_the_middle_of_the_text_is_told() -> None:
    end, steps = judge(60, spoken(60, until=30), [(at(60, 29), 0.9)])
    assert end == DecodeEnd(StopReason.EARLY_STOP, steps, 29)
    assert end.reason.failed


def test_a_stop_on_the_last_letters_is_no_early_stop() -> None:
    end, _ = judge(60, spoken(60, until=54), [(at(60, 53), 0.9)])
    assert end is not None
    assert end.reason is StopReason.STOP


def test_a_short_text_has_room_for_its_end() -> None:
    end, _ = judge(4, spoken(4, 20, until=1), [(at(4, 0), 0.9)])
    assert end is not None
    assert end.reason is StopReason.STOP


@pytest.mark.parametrize("symbols", [40, 80])
def test_the_cap_is_proportional_to_the_symbols(symbols: int) -> None:
    """Speech that crawls, making progress all the time."""
    end, steps = judge(symbols, spoken(symbols, 40))
    assert end is not None
    assert end.reason is StopReason.TOO_LONG
    assert steps == LIMITS.spare_frames + LIMITS.frames_per_symbol * symbols


def test_coquis_own_limit_holds_too() -> None:
    end, _ = judge(60, spoken(60), max_steps=7)
    assert end == DecodeEnd(StopReason.LIMIT, 7, 1)


def test_limits_are_in_frames_whatever_the_reduction_rate() -> None:
    end, steps = judge(60, spoken(60, 2, until=31), [(at(60, 30), 0.0)] * 1000, r=3)
    assert end is not None
    assert end.reason is StopReason.STALLED
    assert steps * 3 <= (30 * 2 + 1) * 3 + LIMITS.stall_frames + 3


def test_switched_off_only_the_stop_token_and_the_limit_count() -> None:
    flat = np.full(60, 1 / 60, np.float32)
    end, steps = judge(60, [(flat, 0.0)] * 5000, [(flat, 0.9)], limits=GuardLimits.off())
    assert end == DecodeEnd(StopReason.STOP, 5001, 0)
    assert steps == 5001


def test_the_path_says_which_symbol_each_step_had_reached() -> None:
    guard = Guard(3, 1, 100, LIMITS)
    for position in (0, 0, 1, 0, 2):
        guard.observe(at(3, position), 0.0)
    assert guard.path == [0, 0, 1, 1, 2]
