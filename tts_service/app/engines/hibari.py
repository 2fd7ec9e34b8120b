"""The embedded voice: hibari's "heart", whose weights come inside the package `hibari-tts`.

24 kHz, American English, numpy and ONNX Runtime, about 50 times faster than real time on one core.
The model speaks a whole piece in one go.
"""

from __future__ import annotations

import threading
import unicodedata
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from hibari import Hibari
from hibari.g2p import G2P

from common.audio.samples import Samples
from tts_service.app.engines.base import UNATTENDED, SynthesisContext, SynthesisError

_SILENCE = 0.004
"""Below this the voice is taken to be silent: its breath and its noise floor."""
_EDGE_S = 0.04
"""Kept on each side of what is not silent: onsets of f, h and s begin softer than `_SILENCE`."""
_SEED = 0
"""Of the noise that the voice breathes with: the same text is always the same audio."""
_SENTENCE_PAUSE_S = 0.25
"""Longest silence that is kept after a sentence; the voice itself makes about 0.35 s."""


class HibariEngine:
    """One loaded voice; see `tts_service.app.engines.base.Engine`."""

    def __init__(self, name: str, *, max_parallel: int) -> None:
        self.name = name
        self.whole_pieces = True
        self.max_parallel = max_parallel
        # The dictionaries take as long to load as the network: on two cores, load both at once.
        with ThreadPoolExecutor(1) as beside:
            front_end = beside.submit(G2P)
            self._voice = Hibari(
                voice=name.partition("/")[2], threads=1, g2p=lambda text: front_end.result()(text)
            )
        self.sample_rate_hz: int = self._voice.sample_rate
        # ONNX Runtime's sessions may be run from many threads; hibari's front end does not say so
        # of itself, and takes a hundredth of the time.
        self._front_end = threading.Lock()
        # The first run of each network is slow; an unknown word needs the second one.
        for _ in self.synthesize("Ready, zorblax.", speed=1.0, opens=True, closes=True):
            pass

    def can_speak(self, text: str) -> bool:
        return bool(self._phonemes(text))

    def synthesize(
        self,
        text: str,
        *,
        speed: float,
        opens: bool,
        closes: bool,
        context: SynthesisContext = UNATTENDED,
    ) -> Generator[Samples, None, None]:
        trail_s = _SENTENCE_PAUSE_S if closes else _EDGE_S
        for phonemes in self._phonemes(text):
            try:
                samples = self._voice.from_phonemes(phonemes, speed=speed, seed=_SEED)
            except Exception as error:
                raise SynthesisError(f"hibari failed: {error}") from error
            if not np.isfinite(samples).all():
                raise SynthesisError("hibari returned samples that are not finite")
            yield self._trim(samples, trail_s)

    def close(self) -> None:
        pass

    def _phonemes(self, text: str) -> list[str]:
        """The strings of phonemes that the voice speaks for `text`; none if it has no sound."""
        with self._front_end:
            try:
                strings: list[str] = self._voice.phonemize(_with_plain_digits(text))
            except Exception as error:
                raise SynthesisError(f"hibari cannot read this text: {error}") from error
        return [s for s in strings if any(c.isalpha() for c in s)]

    def _trim(self, samples: Samples, trail_s: float) -> Samples:
        """Leave out the third of a second of silence that the voice puts around every piece."""
        loud = np.flatnonzero(np.abs(samples) > _SILENCE)
        if not len(loud):
            return samples
        start = max(0, int(loud[0]) - int(_EDGE_S * self.sample_rate_hz))
        end = int(loud[-1]) + int(trail_s * self.sample_rate_hz)
        return samples[start:end]


def _with_plain_digits(text: str) -> str:
    """Raised, lowered and circled digits as words of their own: "CO₂" is read "CO 2".

    hibari takes every character that Unicode calls a digit for one that `int` can read. It knows
    how to read ² and ³ itself.
    """
    return "".join(
        f" {unicodedata.digit(c)}" if c.isdigit() and not c.isdecimal() and c not in "²³" else c
        for c in text
    )
