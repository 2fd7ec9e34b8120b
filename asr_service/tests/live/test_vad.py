"""Silero heard frame by frame is Silero heard at once."""

from __future__ import annotations

import numpy as np
import pytest
from faster_whisper.vad import get_vad_model

from asr_service.app.live.vad import FRAME_SAMPLES, SileroVoiceActivity
from common.audio.samples import Samples
from tts_service.app.engines.hibari import HibariEngine
from tts_service.app.utterance import SpeechOptions, utter

pytestmark = pytest.mark.models


@pytest.fixture(scope="module")
def speech() -> Samples:
    """A sentence between silences, whole frames of it."""
    voice = HibariEngine("hibari/heart", max_parallel=1)
    pcm = b"".join(utter(voice, "The garden gate was open.", SpeechOptions(16000)))
    said = np.frombuffer(pcm, "<i2").astype(np.float32) / 32768
    around = np.zeros(8000, np.float32)
    samples = np.concatenate([around, said, around])
    return samples[: len(samples) // FRAME_SAMPLES * FRAME_SAMPLES]


@pytest.mark.parametrize("frames_at_once", [1, 3, 1000])
def test_a_stream_is_heard_as_a_recording_is(speech: Samples, frames_at_once: int) -> None:
    # faster-whisper blanks the end of what it is given, so it is given one frame more.
    whole = get_vad_model()(np.concatenate([speech, np.zeros(FRAME_SAMPLES, np.float32)]))
    activity = SileroVoiceActivity()
    step = frames_at_once * FRAME_SAMPLES
    parts = [activity.probabilities(speech[i : i + step]) for i in range(0, len(speech), step)]
    found = np.concatenate(parts)
    assert np.abs(found - whole.reshape(-1)[:-1]).max() < 4e-4
    assert found.max() > 0.9
    assert found[:10].max() < 0.2


def test_streams_do_not_hear_each_other(speech: Samples) -> None:
    alone, one, other = (SileroVoiceActivity() for _ in range(3))
    expected, found = [], []
    for i in range(0, len(speech), FRAME_SAMPLES):
        frame = speech[i : i + FRAME_SAMPLES]
        expected.append(alone.probabilities(frame))
        found.append(one.probabilities(frame))
        other.probabilities(frame[::-1].copy())
    assert np.array_equal(np.concatenate(expected), np.concatenate(found))


def test_nothing_is_nothing() -> None:
    assert len(SileroVoiceActivity().probabilities(np.zeros(0, np.float32))) == 0
