"""Where an utterance that has become long is cut: at its widest pause, not much before its middle.

A word that is cut through is heard twice wrong. Where no pause is known, the quietest place of the
second half has to do.
"""

from __future__ import annotations

from dataclasses import dataclass

from asr_service.app.live.agreement import Agreement
from asr_service.app.live.buffer import Buffer
from asr_service.app.live.vad import FRAME_MS

_SENTENCE_MS = 300
"""What the end of a sentence or clause adds to its pause, where the widest is looked for."""
_LONG_PAUSE_MS = 500
_BEFORE_MIDDLE_MS = 1000


@dataclass(frozen=True)
class Cut:
    """After the first `count` of the words, at a time of the stream."""

    count: int
    at_ms: int


def at_widest_pause(text: Agreement, buffer: Buffer, first: int, last: int) -> Cut | None:
    """After at least the `first` and at most the `last` so many words; None if there is none.

    Only words that the buffer still holds are looked at.
    """
    words = text.words
    earliest_ms = buffer.middle_ms - _BEFORE_MIDDLE_MS
    best: tuple[int, int, int, int] | None = None
    for place, word in text.within_buffer:
        count = place + 1
        if not first <= count <= last or word.end_ms < earliest_ms:
            continue
        is_last = count == len(words)
        next_ms = buffer.end_ms if is_last else words[count].start_ms
        ends = word.closes or word.stem != word.text
        pause_ms = min(next_ms - word.end_ms, _LONG_PAUSE_MS)
        worth = 0 if is_last else pause_ms + _SENTENCE_MS * ends
        if best is None or worth >= best[0]:
            best = worth, count, word.end_ms, next_ms
    if best is None:
        return None
    _, count, from_ms, to_ms = best
    # In a gap that is longer there may be words that were passed over: they get another chance.
    to_ms = min(to_ms, from_ms + _LONG_PAUSE_MS)
    return Cut(count, buffer.quietest_ms(from_ms - 2 * FRAME_MS, to_ms + 2 * FRAME_MS))


def somewhere(text: Agreement, buffer: Buffer, first: int) -> Cut:
    """After at least the `first` so many words, wherever that may be."""
    count = len(text.words)
    pause = at_widest_pause(text, buffer, first, count)
    return pause or Cut(count, buffer.quietest_ms(buffer.middle_ms, buffer.end_ms))
