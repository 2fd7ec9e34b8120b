"""Speech for fakes: each word is a number, spoken as 100 ms of a constant as high as the number.

`WordRecognizer` hears the numbers again, with their times; what is cut to less than half of its
length is heard as another word or not at all, as real recognizers do.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np

from asr_service.app.engine import SAMPLE_RATE_HZ, Window
from asr_service.app.live.vad import FRAME_SAMPLES, Probabilities
from common.audio.samples import Samples
from common.protocol.recognition import Segment, Word
from tests.support.fakes import FakeRecognizer

WORD_SAMPLES, GAP_SAMPLES = 1600, 320
WORD_MS = (WORD_SAMPLES + GAP_SAMPLES) * 1000 // SAMPLE_RATE_HZ
_STEP = 100
"""Of the 16-bit scale, between one word and the next."""


def spoken(*numbers: int) -> bytes:
    """s16le at 16 kHz in which the numbers (1 to 300) are said."""
    one = [np.r_[np.full(WORD_SAMPLES, n * _STEP), np.zeros(GAP_SAMPLES)] for n in numbers]
    return np.concatenate(one).astype("<i2").tobytes()


def silence(ms: int) -> bytes:
    return bytes(2 * SAMPLE_RATE_HZ * ms // 1000)


def text_of(*numbers: int) -> str:
    """What `WordRecognizer` makes of them."""
    return " ".join(f"w{n}" for n in numbers)


@dataclass
class WordRecognizer(FakeRecognizer):
    """Hears what `spoken` says; a window that holds `FAIL` makes it fail."""

    FAIL: ClassVar[int] = 300

    def _hear(self, window: Window) -> list[Segment]:
        samples = window.features[0]
        self.heard.append((len(samples), window.options))
        words: list[Word] = []
        levels = np.rint(samples * 32768 / _STEP).astype(int)
        edges = np.flatnonzero(np.diff(levels, prepend=0, append=0))
        for start, end in pairwise(edges):
            number, whole = int(levels[start]), end - start >= WORD_SAMPLES // 2
            if number == self.FAIL:
                raise RuntimeError("the fake recognizer was told to fail")
            if number > 0 and end - start >= WORD_SAMPLES // 4:
                at = [int(s) * 1000 // SAMPLE_RATE_HZ for s in (start, end)]
                text = f" w{number}" if whole else f" w{number + 1}"
                words.append(Word(start_ms=at[0], end_ms=at[1], text=text, probability=1))
        if not words:
            return []
        text = "".join(word.text for word in words).strip()
        start_ms, end_ms = words[0].start_ms, words[-1].end_ms
        return [Segment(start_ms=start_ms, end_ms=end_ms, text=text, words=words)]


class LoudIsSpeech:
    """The voice activity of a stream in which everything but silence is speech."""

    def probabilities(self, frames: Samples) -> Probabilities:
        rows = frames.reshape(-1, FRAME_SAMPLES)
        found: Probabilities = (np.abs(rows).max(axis=1, initial=0) > 0).astype(np.float32)
        return found
