"""How samples are written, and how they fall silent."""

from __future__ import annotations

import numpy as np
import pytest

from common.audio.encoding import FADE_MS, decode, encode, fade
from common.audio.pcm import AudioFormat, Encoding
from common.audio.samples import Samples

ENCODINGS: list[Encoding] = ["pcm_s16le", "mulaw", "alaw"]
TONE: Samples = np.full(8000, 0.5, np.float32)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_what_is_written_can_be_read_and_counted(encoding: Encoding) -> None:
    audio = AudioFormat(8000, encoding)
    written = encode(TONE, encoding)
    assert (audio.samples(len(written)), audio.duration_s(len(written))) == (8000, 1.0)
    assert audio.ms(8000) == 1000
    assert decode(written, encoding) == pytest.approx(0.5, rel=0.03)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("known_samples", [0, 1, 7, 8000])
def test_a_fade_is_short_and_ends_in_silence(encoding: Encoding, known_samples: int) -> None:
    audio = AudioFormat(8000, encoding)
    faded = decode(fade(encode(TONE[:known_samples], encoding), audio), encoding)
    assert len(faded) == min(known_samples, 8000 * FADE_MS // 1000)
    assert np.all(np.diff(faded) <= 0)
    if known_samples:
        assert abs(faded[-1]) <= 0.001
