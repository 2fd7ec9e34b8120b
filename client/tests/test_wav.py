"""Every kind of WAV becomes what the server takes; a file under its own name is whole."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from client.errors import BadInput, ClientError
from client.wav import WavFile, read_wav
from common.audio.pcm import wav_header

RATES_HZ = (4000, 8000, 11025, 16000, 22050, 44100, 48000, 96000, 192000)
SUBTYPES = {"PCM_U8": 2e-2, "PCM_16": 1e-4, "PCM_24": 1e-4, "PCM_32": 1e-4, "FLOAT": 1e-4}
FULL = Path("/dev/full")
"""Sample formats, and how far a sample may be from what was recorded."""


def tone(rate_hz: int, seconds: float = 0.5) -> NDArray[np.float64]:
    """A 440 Hz tone at half of full scale, shape (n,)."""
    tone: NDArray[np.float64] = 0.5 * np.sin(
        2 * np.pi * 440 * np.arange(int(rate_hz * seconds)) / rate_hz
    )
    return tone


def samples_of(pcm: bytes) -> NDArray[np.float64]:
    return np.frombuffer(pcm, "<i2") / 32768


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("subtype", [*SUBTYPES, "DOUBLE"])
@pytest.mark.parametrize("kind", ["WAV", "WAVEX"])
def test_every_sample_format_and_channel_count_is_the_same_sound(
    tmp_path: Path, subtype: str, channels: int, kind: str
) -> None:
    sound = tone(16000)
    path = tmp_path / "in.wav"
    soundfile.write(path, np.tile(sound[:, None], channels), 16000, subtype, format=kind)
    recording = read_wav(path)
    assert recording.sample_rate_hz == 16000
    assert recording.audio_s == 0.5
    assert np.abs(samples_of(recording.pcm) - sound).max() < SUBTYPES.get(subtype, 1e-4)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_every_rate_becomes_one_that_the_server_takes(tmp_path: Path, rate_hz: int) -> None:
    path = tmp_path / "in.wav"
    soundfile.write(path, tone(rate_hz), rate_hz, "PCM_24")
    recording = read_wav(path)
    assert recording.sample_rate_hz == min(max(rate_hz, 8000), 48000)
    assert recording.audio_s == pytest.approx(0.5, abs=1e-3)
    # Away from the edges, where a resampling filter rings, the tone is what it was.
    middle = slice(recording.sample_rate_hz // 10, recording.sample_rate_hz * 4 // 10)
    expected = tone(recording.sample_rate_hz)[middle]
    assert np.abs(samples_of(recording.pcm)[middle] - expected).max() < 1e-3


def test_mono_s16_is_sent_bit_for_bit(tmp_path: Path) -> None:
    pcm = np.arange(-32768, 32768, 7, dtype="<i2").tobytes()
    path = tmp_path / "in.wav"
    path.write_bytes(wav_header(16000, len(pcm)) + pcm)
    assert read_wav(path).pcm == pcm


def test_channels_are_averaged(tmp_path: Path) -> None:
    path = tmp_path / "in.wav"
    soundfile.write(path, np.tile([[0.5, -0.25]], (800, 1)), 8000, "PCM_16")
    assert set(samples_of(read_wav(path).pcm)) == {0.125}


def test_loud_floats_are_clipped_and_do_not_wrap(tmp_path: Path) -> None:
    path = tmp_path / "in.wav"
    soundfile.write(path, np.array([2.0, -2.0] * 400), 8000, "FLOAT")
    assert set(np.frombuffer(read_wav(path).pcm, "<i2")) == {32767, -32768}


def test_streamed_wav_of_unknown_length_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "in.wav"
    path.write_bytes(wav_header(16000, None) + b"\1\0" * 1600)
    assert read_wav(path).audio_s == 0.1


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "not audio that can be read"),
        (b"This is no audio at all, but it is long enough to look at.", "not audio"),
        (wav_header(16000, 0), "holds no audio"),
    ],
)
def test_what_is_no_audio_is_bad_input(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "in.wav"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=sentence):
        read_wav(path)


def test_samples_that_are_no_numbers_are_bad_input(tmp_path: Path) -> None:
    path = tmp_path / "in.wav"
    soundfile.write(path, np.array([0.0, np.nan]), 8000, "FLOAT")
    with pytest.raises(BadInput, match="no numbers"):
        read_wav(path)


def test_missing_file_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"in\.wav cannot be read: No such file"):
        read_wav(tmp_path / "in.wav")


def test_file_has_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "out.wav"
    with WavFile(path, 8000) as file:
        file.write(b"\1\0" * 100)
        assert not path.exists()
        file.commit()
        assert path.exists()
    with wave.open(str(path)) as written:
        assert (written.getframerate(), written.getnframes()) == (8000, 100)
    assert list(tmp_path.iterdir()) == [path]


def test_leaving_without_commit_keeps_a_playable_part(tmp_path: Path) -> None:
    error = ClientError("x")

    def write_half() -> None:
        with WavFile(tmp_path / "out.wav", 8000) as file:
            file.write(b"\1\0" * 100)
            raise error

    with pytest.raises(ClientError):
        write_half()
    assert error.partial == tmp_path / "out.wav.part"
    with wave.open(str(error.partial)) as written:
        assert written.getnframes() == 100


@pytest.mark.skipif(not FULL.exists(), reason="only Linux has a file that is always full")
def test_full_disk_is_a_sentence(tmp_path: Path) -> None:
    file = WavFile(tmp_path / "out.wav", 8000)
    file.part = FULL
    with pytest.raises(BadInput, match=r"out\.wav cannot be written: No space left"), file:
        file.write(b"\1\0" * 100_000)
