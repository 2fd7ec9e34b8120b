"""The embedded voice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.settings import SettingsError
from tests.support.speaking import speech_of
from tts_service.app import engines
from tts_service.app.engines.hibari import HibariEngine
from tts_service.app.settings import TtsSettings
from tts_service.app.utterance import SpeechOptions


def test_an_unknown_voice_is_refused_with_what_there_is() -> None:
    with pytest.raises(
        SettingsError, match=r"'hibari/none' is not known; there is: .*hibari/heart"
    ):
        engines.loader(TtsSettings(tts_model="hibari/none"))


@pytest.fixture(scope="module")
def voice() -> HibariEngine:
    return HibariEngine("hibari/heart", max_parallel=1)


@pytest.mark.models
@pytest.mark.parametrize(
    "text", ["a", "I", "5", "%", "½", "été", "Hello мир 你好", "x" * 300, "A\x00B", "co\u00adop"]
)
def test_what_has_a_sound_is_spoken(voice: HibariEngine, text: str) -> None:
    pcm = speech_of(voice, text, SpeechOptions())
    samples = np.frombuffer(pcm, "<i2")
    assert len(samples) > 2000
    assert np.abs(samples).max() > 1000


@pytest.mark.models
@pytest.mark.parametrize("text", ["😀", "你好", "हिन्दी", "$", "?!...", "—", "\ufffd"])
def test_what_has_no_sound_is_known(voice: HibariEngine, text: str) -> None:
    assert not voice.can_speak(text)


@pytest.mark.models
@settings(max_examples=400, deadline=None)
@given(st.text(max_size=40) | st.text(st.characters(categories=["No", "Nd", "Sm", "Ps"])))
def test_every_text_can_be_read(voice: HibariEngine, text: str) -> None:
    assert voice.can_speak(text) in (True, False)


@pytest.mark.models
@pytest.mark.parametrize(
    ("text", "read_as"), [("CO₂", "CO 2"), ("(¹", "( 1"), ("{①", "{ 1"), ("x²", "x²")]
)
def test_raised_lowered_and_circled_digits_are_read_as_digits(
    voice: HibariEngine, text: str, read_as: str
) -> None:
    pcm = speech_of(voice, text, SpeechOptions())
    assert pcm == speech_of(voice, read_as, SpeechOptions())


@pytest.mark.models
def test_a_sentence_cut_for_an_early_start_has_no_pause_at_the_cut(voice: HibariEngine) -> None:
    def length(opens: bool, closes: bool) -> int:
        parts = voice.synthesize("And so it was,", speed=1.0, opens=opens, closes=closes)
        return sum(map(len, parts))

    pause = length(True, True) - length(True, False)
    assert 0.15 < pause / voice.sample_rate_hz < 0.3


@pytest.mark.models
def test_speed_is_a_factor_on_the_pace(voice: HibariEngine) -> None:
    text = "The garden gate was open when we came home."
    slow = len(speech_of(voice, text, SpeechOptions(speed=0.8)))
    fast = len(speech_of(voice, text, SpeechOptions(speed=1.6)))
    assert 1.7 < slow / fast < 2.2
