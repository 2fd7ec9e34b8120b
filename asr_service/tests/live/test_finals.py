"""The finals of a stream make one transcript."""

from __future__ import annotations

from asr_service.app.live.agreement import HeardWord
from asr_service.app.live.finals import Finals


def test_segments_are_in_order_even_if_the_words_of_two_finals_overlap() -> None:
    finals = Finals()
    finals.add("t1", [HeardWord(100, 1000, " one", closes=True)], "endpoint")
    second = finals.add(
        "t2",
        [HeardWord(900, 950, " two", closes=True), HeardWord(980, 1200, " three")],
        "endpoint",
    )
    finals.audio_ms = 2000
    end = finals.end()
    assert [(s.start_ms, s.end_ms) for s in end.segments] == [
        (100, 1000),
        (1000, 1000),
        (1000, 1200),
    ]
    assert second.segments == end.segments[1:]
    assert end.text == "one two three"
