"""The recognizer itself: what it makes of the model's segments, and the model on real sound."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asr_service.app.decoding import raw_pcm
from asr_service.app.engine import RecognitionCancelled, RecognitionOptions
from asr_service.app.weights import resolve
from asr_service.app.whisper import WhisperEngine, to_segments
from common.audio import Samples, encode_s16le
from common.pcm import PcmFormat
from common.protocol import Transcript
from common.settings import SettingsError
from tts_service.app.engines.hibari import HibariEngine
from tts_service.app.utterance import SpeechOptions, utter


@dataclass
class Found:
    """A segment as faster-whisper gives it."""

    start: float
    end: float
    text: str
    words: None = None


def transcript(*found: Found, audio_ms: int = 10_000) -> Transcript:
    segments: Any = found
    return Transcript.of(list(to_segments(segments, audio_ms, threading.Event())))


def test_times_are_in_order_and_within_the_audio() -> None:
    result = transcript(
        Found(-0.1, 2.0, " One"), Found(1.5, 1.8, " two"), Found(8.0, 30.0, " three")
    )
    times = [(s.start_ms, s.end_ms) for s in result.segments]
    assert times == [(0, 2000), (2000, 2000), (8000, 10_000)]
    assert result.text == "One two three"


def test_what_is_only_punctuation_is_no_text() -> None:
    result = transcript(Found(0, 1, " ."), Found(1, 2, " ..."), Found(2, 3, " Yes."))
    assert [s.text for s in result.segments] == ["Yes."]


def test_it_stops_between_segments_once_cancelled() -> None:
    cancelled = threading.Event()
    taken = []

    def found() -> Iterator[Any]:
        for i in range(10):
            taken.append(i)
            yield Found(i, i + 1, "word")
            cancelled.set()

    with pytest.raises(RecognitionCancelled):
        list(to_segments(found(), 10_000, cancelled))
    assert len(taken) <= 2


def test_weights_come_from_the_package_or_a_folder(tmp_path: Path) -> None:
    assert (resolve("tiny.en") / "model.bin").is_file()
    (tmp_path / "model.bin").touch()
    assert resolve(str(tmp_path)) == tmp_path


def test_an_unknown_model_is_refused_with_what_there_is() -> None:
    with pytest.raises(SettingsError, match=r"no-such-model.*base\.en"):
        resolve("no-such-model")


# What follows listens with the real model.

models = pytest.mark.models
RATE = 16000


@pytest.fixture(scope="module")
def whisper() -> WhisperEngine:
    return WhisperEngine(resolve("tiny.en"), compute_type="int8", workers=1, threads_per_worker=2)


def hear(whisper: WhisperEngine, body: bytes, pcm: PcmFormat) -> Transcript:
    cancelled = threading.Event()
    samples = raw_pcm(body, pcm)(cancelled)
    return Transcript.of(list(whisper.recognize(samples, RecognitionOptions(), cancelled)))


def sound(kind: str) -> Samples:
    t = np.arange(5 * RATE) / RATE
    rng = np.random.default_rng(3)
    made = {
        "silence": np.zeros_like(t),
        "noise": 0.1 * rng.standard_normal(len(t)),
        "loud noise": 0.5 * rng.standard_normal(len(t)),
        "tone": 0.5 * np.sin(2 * np.pi * 440 * t),
        "hum": 0.3 * np.sin(2 * np.pi * 50 * t),
        "clicks": (np.arange(len(t)) % 4000 == 0) * 0.9,
    }[kind]
    samples: Samples = made.astype(np.float32)
    return samples


@models
@pytest.mark.parametrize("kind", ["silence", "noise", "loud noise", "tone", "hum", "clicks"])
def test_nobody_speaking_is_no_text(whisper: WhisperEngine, kind: str) -> None:
    result = hear(whisper, encode_s16le(sound(kind)), PcmFormat(RATE))
    assert result == Transcript(text="", segments=[])


@models
@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (16000, 2), (22050, 1), (48000, 2)])
def test_words_are_heard_at_every_rate_and_in_stereo(
    whisper: WhisperEngine, rate: int, channels: int
) -> None:
    voice = HibariEngine("hibari/heart", max_parallel=1)
    text = "The garden gate was open when we came home."
    mono = np.frombuffer(b"".join(utter(voice, text, SpeechOptions(rate))), "<i2")
    body = np.repeat(mono, channels).tobytes()
    result = hear(whisper, body, PcmFormat(rate, channels))
    assert result.text.lower().rstrip(".") == text.lower().rstrip(".")
    assert 0 <= result.segments[0].start_ms < result.segments[-1].end_ms
    assert result.segments[-1].end_ms <= len(mono) * 1000 / rate


@models
@pytest.mark.parametrize("samples", [1, 10, 160, 1600])
def test_a_moment_of_sound_is_no_text_and_no_fault(whisper: WhisperEngine, samples: int) -> None:
    body = encode_s16le(sound("noise")[:samples])
    assert hear(whisper, body, PcmFormat(8000)).text == ""
