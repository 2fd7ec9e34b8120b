"""The recognizer itself: what it makes of the model's segments, and the model on real sound."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from asr_service.app.decoding import RawPcm
from asr_service.app.engine import RecognitionOptions
from asr_service.app.generation import Hypothesis
from asr_service.app.whisper import WhisperEngine, left_of, parts_of, resolve, to_segments
from common.audio.encoding import encode_s16le
from common.audio.pcm import AudioFormat
from common.audio.samples import Samples
from common.errors import UndecodableAudio
from common.protocol.recognition import Transcript
from common.settings import SettingsError
from deploy.local.words import words
from tests.support.speaking import speech_of
from tts_service.app.engines.hibari import HibariEngine
from tts_service.app.utterance import SpeechOptions


@dataclass
class Found:
    """A segment as faster-whisper gives it."""

    start: float
    end: float
    text: str
    words: None = None


def transcript(*found: Found, audio_ms: int = 10_000) -> Transcript:
    segments: Any = found
    return Transcript.of(list(to_segments(segments, 0, audio_ms)))


def test_times_are_in_order_and_within_the_audio() -> None:
    result = transcript(
        Found(-0.1, 2.0, " One"), Found(1.5, 1.8, " two"), Found(8.0, 30.0, " three")
    )
    times = [(s.start_ms, s.end_ms) for s in result.segments]
    assert times == [(0, 2000), (2000, 2000), (8000, 10_000)]
    assert result.text == "One two three"


def test_a_segment_of_punctuation_alone_is_dropped() -> None:
    result = transcript(Found(0, 1, " ."), Found(1, 2, " ..."), Found(2, 3, " Yes."))
    assert [s.text for s in result.segments] == ["Yes."]


def test_weights_come_from_the_package_or_a_folder(tmp_path: Path) -> None:
    assert (resolve("tiny.en") / "model.bin").is_file()
    (tmp_path / "model.bin").touch()
    assert resolve(str(tmp_path)) == tmp_path


def test_an_unknown_model_is_refused_with_the_known_names() -> None:
    with pytest.raises(SettingsError, match=r"no-such-model.*base\.en"):
        resolve("no-such-model")


# The tests below use the real model.

models = pytest.mark.models
RATE = 16000


@pytest.fixture(scope="module")
def whisper() -> WhisperEngine:
    return WhisperEngine(resolve("tiny.en"), compute_type="int8", workers=1, threads_per_worker=2)


def recognize(whisper: WhisperEngine, body: bytes, pcm: AudioFormat) -> Transcript:
    cancelled = threading.Event()
    samples = RawPcm(body, pcm)(cancelled)
    windows = whisper.windows(samples, RecognitionOptions(), cancelled)
    said = [segments for window in windows for _, segments in whisper.recognize([window])]
    return Transcript.of([segment for segments in said for segment in segments])


def noise(colour: str, level: float) -> Samples:
    """White, or pink: with the same power in each octave."""
    spectrum = np.fft.rfft(np.random.default_rng(3).standard_normal(5 * RATE))
    if colour == "pink":
        spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    samples = np.fft.irfft(spectrum)
    return _as_samples(level * samples / np.abs(samples).max())


def tones(*frequencies_hz: float, level: float = 0.5) -> Samples:
    t = np.arange(5 * RATE) / RATE
    waves = [np.sin(2 * np.pi * f * t) for f in frequencies_hz]
    return _as_samples(level / len(waves) * np.sum(waves, axis=0))


def _as_samples(sound: npt.NDArray[np.float64]) -> Samples:
    samples: Samples = sound.astype(np.float32)
    return samples


NOBODY = {
    "silence": np.zeros(5 * RATE, np.float32),
    "a long silence": np.zeros(40 * RATE, np.float32),
    **{
        f"{colour} noise at {level}": noise(colour, level)
        for colour in ("white", "pink")
        for level in (0.01, 0.1, 0.9)
    },
    "a low tone": tones(110),
    "a tone": tones(440),
    "a high tone": tones(3000),
    "a chord": tones(261.6, 329.6, 392.0),
    "a dissonant chord": tones(220, 233.1, 311.1, 440),
    "clicks": _as_samples((np.arange(5 * RATE) % 4000 == 0) * 0.9),
    "rare clicks": _as_samples((np.arange(5 * RATE) % 40000 == 0) * 0.9),
    "hum": tones(50, level=0.3),
    "hum with overtones": tones(50, 100, 150, 250, level=0.6),
    **{f"{s} s of noise": noise("white", 0.3)[: int(s * RATE)] for s in (0.05, 0.1, 0.2, 0.3)},
    **{f"{s} s of a tone": tones(440)[: int(s * RATE)] for s in (0.05, 0.1, 0.2, 0.3)},
}


@models
@pytest.mark.parametrize("kind", NOBODY)
def test_audio_without_speech_gives_no_text(whisper: WhisperEngine, kind: str) -> None:
    assert recognize(whisper, encode_s16le(NOBODY[kind]), AudioFormat(RATE)).text == ""


@pytest.fixture(scope="module")
def voice() -> HibariEngine:
    return HibariEngine("hibari/heart", max_parallel=1)


@models
@pytest.mark.parametrize("seconds", [0.05, 0.1, 0.2, 0.3])
def test_a_snippet_of_speech_gives_no_text(
    whisper: WhisperEngine, voice: HibariEngine, seconds: float
) -> None:
    pcm = speech_of(voice, "Banana", SpeechOptions(RATE))
    spoken = len(pcm) // 2 & ~1
    result = recognize(whisper, pcm[spoken : spoken + 2 * int(seconds * RATE)], AudioFormat(RATE))
    assert result.text == ""


@models
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite_are_undecodable(whisper: WhisperEngine, bad: float) -> None:
    samples = NOBODY["a tone"].copy()
    samples[100] = bad
    with pytest.raises(UndecodableAudio):
        next(whisper.windows(samples, RecognitionOptions(), threading.Event()))


@models
@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (16000, 2), (22050, 1), (48000, 2)])
def test_words_are_recognized_at_every_rate_and_in_stereo(
    whisper: WhisperEngine, voice: HibariEngine, rate: int, channels: int
) -> None:
    text = "The garden gate was open when we came home."
    mono = np.frombuffer(speech_of(voice, text, SpeechOptions(rate)), "<i2")
    body = np.repeat(mono, channels).tobytes()
    result = recognize(whisper, body, AudioFormat(rate, channels=channels))
    assert words(result.text) == words(text)
    assert 0 <= result.segments[0].start_ms < result.segments[-1].end_ms
    assert result.segments[-1].end_ms <= len(mono) * 1000 / rate


@models
@pytest.mark.parametrize("samples", [1, 10, 160, 1600])
def test_a_moment_of_sound_gives_no_text_and_no_error(whisper: WhisperEngine, samples: int) -> None:
    body = encode_s16le(noise("white", 0.1)[:samples])
    assert recognize(whisper, body, AudioFormat(8000)).text == ""


def test_text_that_begins_where_the_window_ends_is_dropped() -> None:
    word, begin = 7, 100
    tokens = [begin, word, begin + 50, begin + 50, word, word, begin + 60, begin + 96, word]
    hypothesis = Hypothesis(
        tokens, mean_log_probability=-0.1, compression_ratio=1, no_speech_probability=0
    )
    assert [(part["start"], part["end"]) for part in parts_of(hypothesis, begin, 2.0)] == [
        (0.0, 1.0),
        (1.0, 1.2),
    ]
    assert len(parts_of(hypothesis, begin, 2.1)) == 3


def test_the_rest_of_a_window_after_some_of_its_samples() -> None:
    spans = ((100, 200), (500, 900))
    assert list(left_of(spans, 0)) == [(100, 200), (500, 900)]
    assert list(left_of(spans, 40)) == [(140, 200), (500, 900)]
    assert list(left_of(spans, 100)) == [(500, 900)]
    assert list(left_of(spans, 250)) == [(650, 900)]
    assert list(left_of(spans, 500)) == []
