"""The decoder step computes Tacotron2's, alone and with others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from tts_service.app.engines.tacotron.decoder import DecoderModel, Row, draw_mask
from tts_service.app.engines.tacotron.guard import Guard, GuardLimits
from tts_service.tests.tacotron import reference, tiny
from tts_service.voices.graphs.decoder import (
    DecoderOptions,
    Precision,
    build_decoder,
    quantize_blocks,
)
from tts_service.voices.graphs.encoder import build_encoder

Encoded = tuple[NDArray[np.float32], NDArray[np.float32]]

VARIANTS: dict[str, dict[str, Any]] = {
    "softmax": {},
    "sigmoid": {"attention_norm": "sigmoid"},
    "no location": {"location_attn": False},
    "windowed": {"attention_win": True},
    "forward": {"use_forward_attn": True},
    "forward, agent": {"use_forward_attn": True, "transition_agent": True},
    "forward, mask": {
        "use_forward_attn": True,
        "transition_agent": True,
        "forward_attn_mask": True,
        "attention_norm": "sigmoid",
    },
    "batch norm": {"prenet_type": "bn"},
    "r 2": {"r": 2, "r_init": 2},
    "gradual": {"r": 2, "r_init": 5},
    "gradual to 1": {"r": 1, "r_init": 3},
}


def options(name: str) -> DecoderOptions:
    return replace(DecoderOptions(r=1, r_init=1, frame_channels=tiny.MELS), **VARIANTS[name])


def model(
    voice: tiny.TinyVoice, precision: Precision = "float32"
) -> tuple[DecoderModel, dict[str, NDArray[np.float32]]]:
    w = tiny.weights(voice)
    graph = build_decoder(w, voice.decoder, precision).SerializeToString()
    return DecoderModel(ort.InferenceSession(graph)), w


def encoded(w: dict[str, NDArray[np.float32]], n: int) -> Encoded:
    ids = np.random.default_rng(n).integers(1, len(tiny.SYMBOLS), n)
    return reference.encoder(w, ids)


def row(
    decoder: DecoderModel, memory: NDArray[np.float32], keys: NDArray[np.float32], seed: int = 0
) -> Row:
    guard = Guard(len(memory), decoder.frames_per_step, 10_000, GuardLimits.off())
    made = Row(memory, keys, guard, np.random.default_rng(seed))
    made.state = decoder.initial(made.symbols)
    return made


def run(decoder: DecoderModel, rows: list[Row], steps: int) -> None:
    stack = decoder.stack(rows)
    for _ in range(steps):
        step = decoder.run(stack)
        decoder.deliver(step)
        stack = step.stack
    decoder.unstack(stack)


@pytest.mark.parametrize("symbols", [1, 2, 3, 17])
def test_the_encoder_computes_the_checkpoints(symbols: int) -> None:
    w = tiny.weights(tiny.TinyVoice())
    ids = np.random.default_rng(symbols).integers(1, len(tiny.SYMBOLS), symbols)
    session = ort.InferenceSession(build_encoder(w).SerializeToString())
    memory, keys = session.run(["memory", "keys"], {"ids": ids[None]})
    expected_memory, expected_keys = reference.encoder(w, ids)
    np.testing.assert_allclose(memory[0], expected_memory, atol=2e-6)
    np.testing.assert_allclose(keys[0], expected_keys, atol=2e-6)


@pytest.mark.parametrize("variant", VARIANTS)
def test_steps_equal_the_reference(variant: str) -> None:
    voice = tiny.TinyVoice(steps=0, decoder=options(variant))
    decoder, w = model(voice)
    memory, keys = encoded(w, 14)
    made = row(decoder, memory, keys)
    run(decoder, [made], 25)
    expected = reference.decode(w, voice.decoder, memory, keys, 25)
    assert expected.std() > 0.05
    np.testing.assert_allclose(np.concatenate(made.frames), expected, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_rows_of_a_batch_equal_running_alone(variant: str) -> None:
    """With different lengths of text, so that all but one are padded."""
    voice = tiny.TinyVoice(steps=0, decoder=options(variant))
    decoder, w = model(voice)
    texts = [encoded(w, n) for n in (14, 3, 25, 8)]
    together = [row(decoder, *text) for text in texts]
    run(decoder, together, 20)
    for text, one in zip(texts, together, strict=True):
        alone = row(decoder, *text)
        run(decoder, [alone], 20)
        np.testing.assert_allclose(one.frames, alone.frames, atol=1e-6)


def test_a_row_goes_on_in_another_batch_where_it_left_the_first() -> None:
    decoder, w = model(tiny.TinyVoice(steps=0))
    first, second = (row(decoder, *encoded(w, n)) for n in (9, 20))
    alone = row(decoder, *encoded(w, 9))
    run(decoder, [first], 5)
    run(decoder, [second, first], 5)
    run(decoder, [first], 5)
    run(decoder, [alone], 15)
    np.testing.assert_allclose(first.frames, alone.frames, atol=1e-6)


def test_dropout_depends_on_the_rows_seed_and_nothing_else() -> None:
    voice = tiny.TinyVoice(
        steps=0, decoder=DecoderOptions(1, 1, frame_channels=tiny.MELS, prenet_dropout=True)
    )
    decoder, w = model(voice)
    text = encoded(w, 9)
    alone, other = row(decoder, *text, seed=1), row(decoder, *text, seed=2)
    run(decoder, [alone], 10)
    run(decoder, [other], 10)
    again, neighbour = row(decoder, *text, seed=1), row(decoder, *encoded(w, 20), seed=3)
    run(decoder, [neighbour, again], 10)
    np.testing.assert_allclose(again.frames, alone.frames, atol=1e-6)
    assert np.abs(np.array(other.frames) - np.array(alone.frames)).max() > 0.01


def test_dropout_drops_a_half_and_doubles_the_rest() -> None:
    mask = draw_mask(np.random.default_rng(0), 10_000)
    assert set(np.unique(mask)) == {0.0, 2.0}
    assert abs(mask.mean() - 1) < 0.05


def test_8_bit_weights_stay_close_to_float32_and_rows_apart() -> None:
    voice = tiny.TinyVoice(steps=0, width=128)
    exact, w = model(voice)
    rounded, _ = model(voice, "int8")
    text = encoded(w, 14)
    one, other = row(exact, *text), row(rounded, *text)
    run(exact, [one], 20)
    run(rounded, [other], 20)
    frames, close = np.concatenate(one.frames), np.concatenate(other.frames)
    deviation = np.sqrt(np.mean((frames - close) ** 2)) / frames.std()
    assert 0 < deviation < 0.05
    together = [row(rounded, *encoded(w, 25)), row(rounded, *text)]
    run(rounded, together, 20)
    np.testing.assert_allclose(together[1].frames, other.frames, atol=1e-6)


@pytest.mark.parametrize("inputs", [32, 64, 70])
def test_quantized_weights_are_within_half_a_step(inputs: int) -> None:
    weight = np.random.default_rng(0).standard_normal((5, inputs)).astype(np.float32)
    weight[2, :32] = 0
    packed = quantize_blocks(weight)
    restored = (packed.codes.astype(np.float32) - 128) * packed.scales[:, :, None]
    restored = restored.reshape(5, -1)[:, :inputs]
    step = np.repeat(packed.scales, packed.block, axis=1)[:, :inputs]
    assert (np.abs(restored - weight) <= step / 2 + 1e-6).all()
