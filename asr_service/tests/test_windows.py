"""The policy of windows: how much is encoded, and where recordings are cut."""

from __future__ import annotations

import numpy as np
import pytest

from asr_service.app.windows import PADDING_S, PIECE_S, Span, frames_to_encode, pieces
from common.audio.encoding import decode_s16le
from common.audio.samples import Samples
from tests.support.speaking import speech_of
from tts_service.app.engines.hibari import HibariEngine
from tts_service.app.utterance import SpeechOptions

RATE = 16000


@pytest.mark.parametrize(
    ("frames", "encoded"),
    [(1, 1000), (800, 1000), (801, 1200), (1200, 1400), (2790, 3000), (3000, 3000)],
)
def test_the_speech_and_two_seconds_are_encoded(frames: int, encoded: int) -> None:
    assert frames_to_encode(frames, "adaptive") == encoded
    assert frames_to_encode(frames, "full") == 3000


pytestmark = pytest.mark.models


@pytest.fixture(scope="module")
def sentence() -> Samples:
    voice = HibariEngine("hibari/heart", max_parallel=1)
    pcm = speech_of(voice, "The garden gate was open.", SpeechOptions(RATE))
    return decode_s16le(pcm, 1)


def silence(seconds: float) -> Samples:
    return np.zeros(int(seconds * RATE), np.float32)


def cut(samples: Samples, *, vad: bool = True) -> list[tuple[Span, ...]]:
    return list(pieces(samples, vad=vad, policy="adaptive"))


def test_long_pauses_are_left_out_and_short_ones_kept(sentence: Samples) -> None:
    kept = np.concatenate([sentence, silence(1), sentence])
    assert len(cut(kept)) == 1
    assert len(cut(kept)[0]) == 1
    (spans,) = cut(np.concatenate([sentence, silence(4), sentence]))
    assert len(spans) == 2
    heard = sum(end - begin for begin, end in spans)
    assert heard < 2 * len(sentence) + 4 * PADDING_S * RATE


def test_a_long_recording_is_cut_in_its_pauses(sentence: Samples) -> None:
    pause = 0.5
    step = len(sentence) + int(pause * RATE)
    samples = np.concatenate([sentence, silence(pause)] * 20)
    found = cut(samples)
    assert len(found) >= len(samples) / RATE / PIECE_S
    assert all(spans[-1][1] - spans[0][0] <= PIECE_S * RATE for spans in found)
    # Each sentence lies in one piece whole, and in one only.
    for index in range(20):
        middle = index * step + len(sentence) // 2
        holding = [s for spans in found for s in spans if s[0] <= middle < s[1]]
        assert len(holding) == 1
        begin, end = holding[0]
        assert begin <= index * step + 0.2 * RATE
        assert end >= index * step + len(sentence) - 0.5 * RATE


def test_without_vad_the_pieces_are_the_whole_recording(sentence: Samples) -> None:
    samples = np.concatenate([silence(30), *[sentence, silence(3)] * 6, silence(20)])
    found = cut(samples, vad=False)
    assert [spans[0][0] for spans in found] == [0, *(spans[-1][1] for spans in found[:-1])]
    assert found[-1][-1][1] == len(samples)
    assert all(spans[-1][1] - spans[0][0] <= PIECE_S * RATE for spans in found)


def test_speech_without_a_pause_is_cut_nevertheless() -> None:
    voice = HibariEngine("hibari/heart", max_parallel=1)
    text = "and one and two and three and four and five and six and seven and eight " * 4
    pcm = speech_of(voice, text.strip(), SpeechOptions(RATE))
    found = cut(decode_s16le(pcm, 1))
    assert all(spans[-1][1] - spans[0][0] <= PIECE_S * RATE for spans in found)


def test_silence_makes_no_piece() -> None:
    assert cut(silence(100)) == []
    assert cut(silence(0.01)) == []
    assert cut(np.zeros(0, np.float32)) == []
