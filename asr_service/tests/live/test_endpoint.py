"""Where speech begins and ends, in frames of 32 ms."""

from __future__ import annotations

from asr_service.app.live.endpoint import Endpointer


def changes(endpointer: Endpointer, *probabilities: float) -> list[tuple[int, str, int]]:
    """The frame, what it changed, and up to where there was speech then."""
    found: list[tuple[int, str, int]] = []
    for frame, probability in enumerate(probabilities):
        if change := endpointer.push(probability):
            found.append((frame, change, endpointer.speech_until_ms))
    return found


def test_speech_ends_where_silence_began_that_lasted() -> None:
    found = changes(Endpointer(96), 0.1, 0.5, 0.9, 0.2, 0.2, 0.2, 0.2)
    assert found == [(1, "begins", 64), (5, "ends", 96)]


def test_what_is_neither_speech_nor_silence_changes_nothing() -> None:
    assert changes(Endpointer(96), 0.49, 0.4, 0.49) == []
    assert changes(Endpointer(96), 0.9, 0.4, 0.4, 0.4, 0.4, 0.4) == [(0, "begins", 32)]


def test_a_pause_shorter_than_the_endpoint_is_no_end() -> None:
    assert changes(Endpointer(96), 0.9, 0.1, 0.1, 0.6, 0.1, 0.1) == [(0, "begins", 32)]


def test_doubt_within_a_silence_does_not_begin_it_anew() -> None:
    found = changes(Endpointer(96), 0.9, 0.1, 0.45, 0.45)
    assert found == [(0, "begins", 32), (3, "ends", 32)]


def test_speech_may_begin_again() -> None:
    found = changes(Endpointer(32), 0.9, 0.1, 0.9, 0.1)
    assert [change for _, change, _ in found] == ["begins", "ends", "begins", "ends"]
