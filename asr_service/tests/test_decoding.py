"""Audio files: every kind is decoded, none past the limit, and damage is reported."""

from __future__ import annotations

import io
import struct
import threading
import time

import numpy as np
import pytest

from asr_service.app.decoding import AudioFile
from asr_service.app.engine import SAMPLE_RATE_HZ, RecognitionCancelled
from common.audio.samples import Samples
from common.errors import TooLarge, UndecodableAudio
from tests.support.audio_files import KINDS, encode, tone, tone_file

LOSSLESS = {"wav", "wav-24-bit", "wav-float", "aiff", "flac", "alac"}


def audio_file(content: bytes, max_seconds: float = 10) -> AudioFile:
    return AudioFile(io.BytesIO(content), max_seconds=max_seconds)


def decode(content: bytes, max_seconds: float = 10) -> Samples:
    return audio_file(content, max_seconds)(threading.Event())


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_is_decoded_faithfully(kind: str) -> None:
    file = audio_file(tone_file(kind))
    heard = file(threading.Event())
    assert heard.dtype == np.float32
    assert file.warning is None
    # Codecs that lose something add some ms of silence before or after.
    assert abs(len(heard) - SAMPLE_RATE_HZ) <= (0 if kind in LOSSLESS else 1000)
    assert file.audio_ms == len(heard) * 1000 // SAMPLE_RATE_HZ
    spectrum = np.abs(np.fft.rfft(heard))
    assert np.argmax(spectrum) * SAMPLE_RATE_HZ / len(heard) == pytest.approx(300, abs=2)
    assert np.abs(heard[2000:-2000]).max() == pytest.approx(10000 / 32768, rel=0.08)


def test_samples_of_a_wav_are_exact() -> None:
    samples = np.arange(-16000, 16000, dtype=np.int16)
    assert np.array_equal(decode(encode(samples, "wav")) * 32768, samples)


def test_a_title_need_not_be_utf_8() -> None:
    content = tone_file("wav").replace(b"Lavf", b"Gr\xfc\xdf")
    assert b"Gr\xfc\xdf" in content
    assert len(decode(content)) == SAMPLE_RATE_HZ


@pytest.mark.parametrize("channels", [2, 6])
@pytest.mark.parametrize("kind", ["wav", "flac"])
def test_channels_are_averaged(kind: str, channels: int) -> None:
    mono = tone(0.5, KINDS[kind][2])
    silent = np.zeros((channels - 1, len(mono)), np.int16)
    heard = decode(encode(np.vstack([mono, silent]), kind))
    assert heard * channels == pytest.approx(decode(encode(mono, kind)), abs=1e-3)


def test_concatenated_files_are_decoded_to_the_end() -> None:
    assert len(decode(tone_file("ogg-opus") + tone_file("ogg-opus"))) == 2 * SAMPLE_RATE_HZ


def test_a_rate_that_changes_on_the_way_is_followed() -> None:
    content = encode(tone(1, 44100), "aac", 44100) + encode(tone(1, 16000), "aac", 16000)
    assert len(decode(content)) == pytest.approx(2 * SAMPLE_RATE_HZ, abs=3000)


@pytest.mark.parametrize(
    "content",
    [
        b"RIFF",
        b"hello world, this is a text\n" * 50,
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n/etc/passwd\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        bytes(5000),
        tone_file("wav")[:44],
        tone_file("m4a")[:3000],
    ],
    ids=["head", "text", "png", "playlist", "concat", "zeros", "no samples", "no index"],
)
def test_a_file_that_is_not_audio_is_undecodable(content: bytes) -> None:
    with pytest.raises(UndecodableAudio, match=r"^(The file|No audio)"):
        decode(content)


def test_a_container_that_is_not_listed_is_not_opened() -> None:
    with pytest.raises(UndecodableAudio):
        decode(tone_file("wav").replace(b"RIFF", b"FFIR"))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_no_numbers_are_refused(value: float) -> None:
    content = bytearray(tone_file("wav-float"))
    content[-8:-4] = struct.pack("<f", value)
    with pytest.raises(UndecodableAudio, match="no numbers"):
        decode(bytes(content))


@pytest.mark.parametrize(("codec", "bits"), [(0xFFFF, 16), (1, 64)])
def test_samples_of_an_unknown_kind_are_refused(codec: int, bits: int) -> None:
    content = bytearray(tone_file("wav"))
    content[20:22] = struct.pack("<H", codec)
    content[32:36] = struct.pack("<HH", bits // 8, bits)
    with pytest.raises(UndecodableAudio, match="not known"):
        decode(bytes(content))


@pytest.mark.parametrize("rate_hz", [1, 3999, 400_000])
def test_rates_out_of_any_use_are_refused(rate_hz: int) -> None:
    content = bytearray(tone_file("wav"))
    content[24:28] = struct.pack("<I", rate_hz)
    with pytest.raises((UndecodableAudio, TooLarge)):
        decode(bytes(content))


@pytest.mark.parametrize("kind", KINDS)
def test_the_limit_holds_for_every_kind(kind: str) -> None:
    with pytest.raises(TooLarge, match=r"limit of 0\.5 s of audio"):
        decode(tone_file(kind), max_seconds=0.5)


@pytest.fixture(scope="module")
def ten_minutes() -> bytes:
    """Of silence: few bytes, many samples."""
    content = encode(np.zeros(600 * 8000, np.int16), "flac", 8000)
    assert len(content) < 120_000
    return content


def test_a_small_file_that_announces_a_long_duration_is_not_decoded(ten_minutes: bytes) -> None:
    started = time.thread_time()
    with pytest.raises(TooLarge):
        decode(ten_minutes, max_seconds=120)
    assert time.thread_time() - started < 0.02


def test_a_header_that_hides_the_length_does_not_help(ten_minutes: bytes) -> None:
    content = bytearray(ten_minutes)
    # The number of samples is the last 36 bits before the checksum in the first block.
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    started = time.thread_time()
    with pytest.raises(TooLarge):
        decode(bytes(content), max_seconds=60)
    assert time.thread_time() - started < 0.5


def test_a_wav_of_unknown_length_is_read_to_its_end() -> None:
    content = bytearray(tone_file("wav"))
    data = content.index(b"data") + 4
    for unknown in (0xFFFFFFFF, 0x7FFFFFFF, 0):
        content[4:8] = content[data : data + 4] = struct.pack("<I", unknown)
        file = audio_file(bytes(content))
        assert len(file(threading.Event())) == SAMPLE_RATE_HZ
        assert file.warning is None


@pytest.mark.parametrize("kind", ["wav", "mp3", "flac", "webm"])
def test_a_truncated_file_gives_its_beginning_and_a_warning(kind: str) -> None:
    content = tone_file(kind, 2)
    file = audio_file(content[: len(content) // 2])
    heard = file(threading.Event())
    assert 0.2 * SAMPLE_RATE_HZ <= len(heard) <= 1.2 * SAMPLE_RATE_HZ
    assert file.warning is not None
    assert file.warning.startswith("The file is damaged: ")
    assert "s of 2.0 s could be decoded." in file.warning


@pytest.mark.parametrize("kind", ["mp3", "ogg-opus", "webm", "m4a", "aac"])
def test_a_file_with_a_hole_gives_the_rest_and_says_so(kind: str) -> None:
    content = bytearray(tone_file(kind, 2))
    hole = len(content) // 2
    content[hole : hole + 400] = np.random.default_rng(1).bytes(400)
    file = audio_file(bytes(content))
    assert len(file(threading.Event())) >= 0.9 * SAMPLE_RATE_HZ
    assert file.warning is not None
    assert file.warning.isascii()


def test_cancelling_stops_the_decoding() -> None:
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(RecognitionCancelled):
        audio_file(tone_file("flac"))(cancelled)
