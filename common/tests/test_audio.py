"""Samples to s16le and back, and resampling whose chunks make no difference."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.audio.encoding import decode_s16le, encode_s16le
from common.audio.samples import Samples, StreamResampler, resample


def noise(count: int) -> Samples:
    return np.random.default_rng(7).uniform(-0.9, 0.9, count).astype(np.float32)


def test_s16le_survives_the_way_there_and_back() -> None:
    every_value = np.arange(-32768, 32768, dtype="<i2").tobytes()
    assert encode_s16le(decode_s16le(every_value, 1)) == every_value


def test_what_is_too_loud_is_clipped_not_wrapped() -> None:
    samples = np.array([-2.0, 2.0, 1.0], np.float32)
    assert np.frombuffer(encode_s16le(samples), "<i2").tolist() == [-32768, 32767, 32767]


def test_stereo_is_averaged() -> None:
    body = np.array([100, 300, -32768, -32768], "<i2").tobytes()
    assert (decode_s16le(body, 2) * 32768).tolist() == [200, -32768]


@pytest.mark.parametrize("to_hz", [8000, 16000, 22050, 24000, 44100, 48000])
@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(0, 24000), max_size=8))
def test_a_stream_in_any_chunks_equals_the_whole(to_hz: int, cuts: list[int]) -> None:
    samples = noise(24000)
    edges = [0, *sorted(cuts), len(samples)]
    stream = StreamResampler(24000, to_hz)
    parts = [stream.push(samples[a:b]) for a, b in pairwise(edges)]
    streamed = np.concatenate([*parts, stream.flush()])
    assert np.array_equal(encode_s16le(streamed), encode_s16le(resample(samples, 24000, to_hz)))


def test_what_the_new_rate_cannot_hold_is_filtered_out() -> None:
    t = np.arange(48000) / 48000
    tone = np.sin(2 * np.pi * 11000 * t).astype(np.float32)
    assert np.abs(resample(tone, 48000, 16000)[500:-500]).max() < 1e-4
