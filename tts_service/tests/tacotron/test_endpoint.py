"""The streamed endpoint is the one that looking at the whole waveform finds."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tts_service.app.engines.tacotron.manifest import Endpoint
from tts_service.app.engines.tacotron.vocoder import EndpointCut

RULE = Endpoint(window=17, hop=4, threshold=0.1)


def whole(samples: NDArray[np.float32]) -> int:
    """The rule on the whole waveform."""
    for start in range(RULE.hop, len(samples) - RULE.window, RULE.hop):
        if samples[start : start + RULE.window].max() < RULE.threshold:
            return start + RULE.hop
    return len(samples)


def streamed(samples: NDArray[np.float32], cuts: list[int]) -> NDArray[np.float32]:
    rule = EndpointCut(RULE)
    edges = [0, *sorted(min(c, len(samples)) for c in cuts), len(samples)]
    parts = [
        rule.push(samples[a:b], last=i == len(edges) - 2)
        for i, (a, b) in enumerate(pairwise(edges))
    ]
    return np.concatenate(parts)


sound = st.lists(
    st.tuples(st.integers(1, 40), st.sampled_from([0.0, 0.05, -0.9, 0.1, 0.8])), max_size=8
)


@given(runs=sound, cuts=st.lists(st.integers(0, 200), max_size=10))
@settings(max_examples=300, deadline=None)
def test_the_cut_is_where_the_whole_waveform_has_it(
    runs: list[tuple[int, float]], cuts: list[int]
) -> None:
    samples = np.concatenate([np.full(n, v, np.float32) for n, v in runs] or [np.zeros(0, "f4")])
    np.testing.assert_array_equal(streamed(samples, cuts), samples[: whole(samples)])


def test_loud_samples_leave_at_once() -> None:
    rule = EndpointCut(RULE)
    loud = np.full(100, 0.5, np.float32)
    assert rule.push(loud, last=False).size == 100


def test_a_silence_is_held_back_only_until_sound_comes() -> None:
    rule = EndpointCut(RULE)
    rule.push(np.full(40, 0.5, np.float32), last=False)
    held = rule.push(np.zeros(12, np.float32), last=False)
    assert held.size < 12
    released = rule.push(np.full(1, 0.5, np.float32), last=False)
    assert held.size + released.size == 13


def test_what_follows_the_end_is_dropped() -> None:
    rule = EndpointCut(RULE)
    rule.push(np.full(10, 0.5, np.float32), last=False)
    rule.push(np.zeros(60, np.float32), last=False)
    assert rule.ended
    assert rule.push(np.full(10, 0.5, np.float32), last=True).size == 0
