"""Raw PCM: what is allowed, how it is cut, how it is framed."""

import io
import wave
from collections.abc import Callable

import av
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from common.audio.pcm import AudioFormat, Chunker, wav_header
from common.errors import BadRequest, EmptyAudio, UndecodableAudio


def test_a_body_of_whole_frames_passes() -> None:
    AudioFormat(16000, channels=2).check(bytes(4))


@pytest.mark.parametrize(("body", "channels"), [(b"\0", 1), (bytes(3), 1), (bytes(6), 2)])
def test_a_body_that_is_no_whole_number_of_frames_is_refused(body: bytes, channels: int) -> None:
    with pytest.raises(BadRequest, match="no whole number of frames"):
        AudioFormat(16000, channels=channels).check(body)


def test_an_empty_body_is_refused() -> None:
    with pytest.raises(EmptyAudio):
        AudioFormat(16000).check(b"")


def test_duration_counts_all_channels() -> None:
    assert AudioFormat(8000, channels=2).duration_s(32000) == 1.0


@given(st.lists(st.binary(max_size=400).map(lambda b: b[: len(b) // 2 * 2])), st.integers(1, 90))
def test_frames_are_equal_but_the_last_and_nothing_is_lost(
    parts: list[bytes], samples: int
) -> None:
    chunker = Chunker(samples)
    frames = [frame for part in parts for frame in chunker.push(part)]
    rest = chunker.flush()
    assert all(len(frame) == 2 * samples for frame in frames)
    assert len(rest) < 2 * samples
    assert len(rest) % 2 == 0
    assert b"".join(frames) + rest == b"".join(parts)


def test_wav_of_known_length_is_read_back() -> None:
    pcm = bytes(range(200))
    with wave.open(io.BytesIO(wav_header(22050, len(pcm)) + pcm)) as reader:
        assert reader.getparams()[:4] == (1, 2, 22050, 100)
        assert reader.readframes(1000) == pcm


PCM = bytes(range(200))


def by_python(wav: bytes) -> bytes:
    with wave.open(io.BytesIO(wav)) as reader:
        frames: bytes = reader.readframes(1_000_000)
    return frames


def by_libsndfile(wav: bytes) -> bytes:
    samples, _ = soundfile.read(io.BytesIO(wav), dtype="int16")
    return bytes(samples.astype("<i2").tobytes())


def by_ffmpeg(wav: bytes) -> bytes:
    frames: list[bytes] = []
    with av.open(io.BytesIO(wav)) as container:
        frames += (frame.to_ndarray().tobytes() for frame in container.decode(audio=0))
    return b"".join(frames)


@pytest.mark.parametrize("read", [by_python, by_libsndfile, by_ffmpeg])
@pytest.mark.parametrize("data_bytes", [len(PCM), None])
def test_wav_is_read_whole_by_common_readers_with_and_without_its_length(
    read: Callable[[bytes], bytes], data_bytes: int | None
) -> None:
    assert read(wav_header(16000, data_bytes) + PCM) == PCM


def test_a_wav_file_is_not_taken_for_samples() -> None:
    file = wav_header(16000, 4) + bytes(4)
    for body in (file, file + b"1"):
        with pytest.raises(UndecodableAudio, match="/api/stt/file"):
            AudioFormat(16000).check(body)
    AudioFormat(16000).check(b"RIFF")
