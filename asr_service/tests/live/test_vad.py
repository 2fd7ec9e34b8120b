"""Voice activity frame by frame is that of the whole recording; where speech begins and ends."""

from __future__ import annotations

import numpy as np
import pytest
from faster_whisper.vad import get_vad_model

from asr_service.app.live.vad import FRAME_SAMPLES, Endpointer, SileroVoiceActivity
from common.audio.samples import Samples
from tests.support.speaking import speech_of
from tts_service.app.engines.hibari import HibariEngine
from tts_service.app.utterance import SpeechOptions

models = pytest.mark.models


@pytest.fixture(scope="module")
def speech() -> Samples:
    """A sentence between silences, whole frames of it."""
    voice = HibariEngine("hibari/heart", max_parallel=1)
    pcm = speech_of(voice, "The garden gate was open.", SpeechOptions(16000))
    said = np.frombuffer(pcm, "<i2").astype(np.float32) / 32768
    around = np.zeros(8000, np.float32)
    samples = np.concatenate([around, said, around])
    return samples[: len(samples) // FRAME_SAMPLES * FRAME_SAMPLES]


@models
@pytest.mark.parametrize("frames_at_once", [1, 3, 1000])
def test_a_stream_has_the_probabilities_of_the_whole_recording(
    speech: Samples, frames_at_once: int
) -> None:
    # faster-whisper blanks the end of what it is given, so it is given one frame more.
    whole = get_vad_model()(np.concatenate([speech, np.zeros(FRAME_SAMPLES, np.float32)]))
    activity = SileroVoiceActivity()
    step = frames_at_once * FRAME_SAMPLES
    parts = [activity.probabilities(speech[i : i + step]) for i in range(0, len(speech), step)]
    found = np.concatenate(parts)
    assert np.abs(found - whole.reshape(-1)[:-1]).max() < 4e-4
    assert found.max() > 0.9
    assert found[:10].max() < 0.2


@models
def test_streams_do_not_share_their_state(speech: Samples) -> None:
    alone, one, other = (SileroVoiceActivity() for _ in range(3))
    expected, found = [], []
    for i in range(0, len(speech), FRAME_SAMPLES):
        frame = speech[i : i + FRAME_SAMPLES]
        expected.append(alone.probabilities(frame))
        found.append(one.probabilities(frame))
        other.probabilities(frame[::-1].copy())
    assert np.array_equal(np.concatenate(expected), np.concatenate(found))


@models
def test_no_frames_have_no_probabilities() -> None:
    assert len(SileroVoiceActivity().probabilities(np.zeros(0, np.float32))) == 0


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


def test_probabilities_between_the_thresholds_change_nothing() -> None:
    assert changes(Endpointer(96), 0.49, 0.4, 0.49) == []
    assert changes(Endpointer(96), 0.9, 0.4, 0.4, 0.4, 0.4, 0.4) == [(0, "begins", 32)]


def test_a_pause_shorter_than_the_endpoint_does_not_end_speech() -> None:
    assert changes(Endpointer(96), 0.9, 0.1, 0.1, 0.6, 0.1, 0.1) == [(0, "begins", 32)]


def test_probabilities_between_the_thresholds_do_not_restart_a_silence() -> None:
    found = changes(Endpointer(96), 0.9, 0.1, 0.45, 0.45)
    assert found == [(0, "begins", 32), (3, "ends", 32)]


def test_speech_may_begin_again() -> None:
    found = changes(Endpointer(32), 0.9, 0.1, 0.9, 0.1)
    assert [change for _, change, _ in found] == ["begins", "ends", "begins", "ends"]
