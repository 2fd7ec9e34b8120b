"""One utterance, stepped by hand."""

import numpy as np
import pytest

from common.errors import EmptyText, SynthesisFailed
from tests.support.fakes import SAMPLES_PER_CHARACTER, FakeVoice, tone_of
from tests.support.speaking import speech_of, spoken_parts
from tts_service.app.utterance import SpeechOptions

TEXT = "First a sentence of many words. Then another one, which is longer."


def test_pcm_is_there_before_the_rest_is_computed() -> None:
    voice = FakeVoice()
    speech = spoken_parts(voice, TEXT, SpeechOptions())
    first = next(speech)
    assert voice.steps == 1
    assert len(first) == 10 * SAMPLES_PER_CHARACTER * 2


def test_all_pieces_are_spoken_in_order() -> None:
    pcm = speech_of(FakeVoice(), TEXT, SpeechOptions())
    samples = np.frombuffer(pcm, "<i2") / 32768
    heights = [float(samples[0]), float(samples[-1])]
    pieces = ["First a sentence of many words.", "Then another one, which is longer."]
    assert heights == [tone_of(piece) for piece in pieces]
    assert len(samples) == sum(map(len, pieces)) * SAMPLES_PER_CHARACTER


def test_closing_stops_before_the_next_step() -> None:
    voice = FakeVoice()
    speech = spoken_parts(voice, TEXT, SpeechOptions())
    next(speech)
    speech.close()
    assert (voice.steps, voice.open_generators) == (1, 0)


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 48000])
def test_the_rate_is_the_one_asked_for(rate: int) -> None:
    pcm = speech_of(FakeVoice(), TEXT, SpeechOptions(sample_rate_hz=rate))
    seconds = (len(TEXT) - 1) * SAMPLES_PER_CHARACTER / 16000
    assert len(pcm) / 2 == pytest.approx(seconds * rate, abs=2)


def test_speed_shortens() -> None:
    slow = speech_of(FakeVoice(), TEXT, SpeechOptions(speed=1.0))
    fast = speech_of(FakeVoice(), TEXT, SpeechOptions(speed=2.0))
    assert len(fast) == len(slow) // 2


@pytest.mark.parametrize("text", ["", " \n", "?!...", "😀😀", "\ufffd", "\u200b", "— …"])
def test_what_cannot_be_spoken_is_said_so(text: str) -> None:
    with pytest.raises(EmptyText):
        next(spoken_parts(FakeVoice(), text, SpeechOptions()))


def test_what_can_be_spoken_is_spoken_without_the_rest() -> None:
    pcm = speech_of(FakeVoice(), "😀 ... Hello! 😀", SpeechOptions())
    assert len(pcm) > 0


def test_a_failure_comes_after_the_audio_before_it() -> None:
    speech = spoken_parts(FakeVoice(), "This text will FAIL at last", SpeechOptions())
    assert next(speech)
    with pytest.raises(SynthesisFailed):
        next(speech)
