"""However the frames are cut into chunks, what comes out is the whole utterance's computation."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tts_service.app.engines.tacotron.graph import StreamingGraph
from tts_service.tests.tacotron import reference, tiny
from tts_service.voices.graphs.postnet import build_postnet
from tts_service.voices.graphs.vocoder import VocoderOptions, build_vocoder


def opened(model: onnx.ModelProto) -> StreamingGraph:
    return StreamingGraph(ort.InferenceSession(model.SerializeToString()))


def frames(n: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((tiny.MELS, n)).astype(np.float32)


def streamed(
    graph: StreamingGraph, x: NDArray[np.float32], cuts: Sequence[int], *, end_apart: bool = False
) -> NDArray[np.float32]:
    """Push `x` cut at `cuts`; with `end_apart` the end is told after the last columns."""
    stream = graph.start()
    edges = [0, *sorted({c for c in cuts if 0 < c < x.shape[1]}), x.shape[1]]
    parts = []
    for start, end in pairwise(edges):
        last = end == x.shape[1] and not end_apart
        parts.append(stream.push(x[:, start:end], last=last))
    if end_apart:
        parts.append(stream.push(x[:, :0], last=True))
    return np.concatenate([p for p in parts if p.size], axis=1)


TYPE_2 = VocoderOptions([4, 2], "2", [3, 5], [[1, 3], [1, 2]])

VOCODER = opened(build_vocoder(tiny.vocoder_weights(), tiny.VOCODER))
VOCODER_2 = opened(build_vocoder(tiny.vocoder_weights(options=TYPE_2), TYPE_2))
WEIGHTS = tiny.weights(tiny.TinyVoice())
POSTNET = opened(build_postnet(WEIGHTS))


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 13, 40])
def test_the_vocoder_computes_hifigan(n: int) -> None:
    x = frames(n)
    whole = reference.vocoder(tiny.vocoder_weights(), tiny.VOCODER, x)
    assert np.ptp(whole) > 0.1
    np.testing.assert_allclose(streamed(VOCODER, x, [])[0], whole, atol=2e-6)


@pytest.mark.parametrize("n", [1, 4, 30])
def test_the_vocoder_computes_residual_blocks_of_type_2(n: int) -> None:
    x = frames(n)
    whole = reference.vocoder(tiny.vocoder_weights(options=TYPE_2), TYPE_2, x)
    np.testing.assert_allclose(streamed(VOCODER_2, x, [n // 2])[0], whole, atol=2e-6)


@pytest.mark.parametrize("n", [1, 2, 3, 9, 40])
def test_the_postnet_refines_as_the_checkpoint_says(n: int) -> None:
    x = frames(n)
    np.testing.assert_allclose(streamed(POSTNET, x, []), reference.postnet(WEIGHTS, x), atol=1e-5)


@pytest.mark.parametrize(
    "graph", [VOCODER, VOCODER_2, POSTNET], ids=["vocoder", "type2", "postnet"]
)
@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 16])
def test_every_length_in_equal_chunks_equals_the_whole(graph: StreamingGraph, chunk: int) -> None:
    """All lengths from one frame to well beyond the context, so that the end falls on every side of
    every border."""
    for n in range(1, 4 * graph.lag_frames + 3):
        x = frames(n, seed=n)
        cut = streamed(graph, x, range(0, n, chunk))
        np.testing.assert_allclose(cut, streamed(graph, x, []), atol=1e-6, err_msg=f"{n} frames")


@given(
    n=st.integers(1, 70),
    cuts=st.lists(st.integers(0, 70), max_size=12),
    end_apart=st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_any_cuts_equal_the_whole(n: int, cuts: list[int], end_apart: bool) -> None:
    x = frames(n, seed=n)
    for graph in (VOCODER, POSTNET):
        cut = streamed(graph, x, cuts, end_apart=end_apart)
        np.testing.assert_allclose(cut, streamed(graph, x, []), atol=1e-6)


def test_a_frame_leaves_as_soon_as_its_context_is_there() -> None:
    stream = VOCODER.start()
    lag = VOCODER.lag_frames
    given_out = sum(stream.push(frames(1, seed=i), last=False).size for i in range(lag))
    before = given_out
    given_out += stream.push(frames(1, seed=lag), last=False).size
    assert before < VOCODER.hop <= given_out


def test_an_ended_stream_takes_no_more() -> None:
    stream = POSTNET.start()
    stream.push(frames(5), last=True)
    with pytest.raises(ValueError, match="ended"):
        stream.push(frames(1), last=False)


def test_an_utterance_without_frames_has_no_sound() -> None:
    assert VOCODER.start().push(frames(0), last=True).size == 0
