"""Streaming equals Coqui's whole utterance, for every kind of checkpoint that is supported."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tts_service.app.engines.tacotron import GuardLimits, Pace, TacotronEngine, TacotronOptions
from tts_service.tests_voices.conftest import Export
from tts_service.tests_voices.release import CHARACTERS, Shape
from tts_service.voices.check import TEXTS, TOLERANCE, check
from tts_service.voices.errors import CheckFailed

RANGE = {"signal_norm": True, "clip_norm": True, "min_level_db": -100, "ref_level_db": 20}

SHAPES = {
    "as released": Shape(model={"double_decoder_consistency": True}),
    "r 2": Shape(model={"r": 2}),
    "gradual, 7 to 1": Shape(model={"r": 7}, r=1),
    "gradual, 5 to 2": Shape(model={"r": 5}, r=2, steps=20),
    "sigmoid": Shape(model={"attention_norm": "sigmoid"}),
    "dropout": Shape(model={"prenet_dropout_at_inference": True}),
    "batch norm": Shape(model={"prenet_type": "bn"}),
    "no location": Shape(model={"location_attn": False}),
    "windowed": Shape(model={"attention_win": True}),
    "forward": Shape(model={"use_forward_attn": True}),
    "forward, agent, mask": Shape(
        model={
            "use_forward_attn": True,
            "transition_agent": True,
            "forward_attn_mask": True,
            "attention_norm": "sigmoid",
        }
    ),
    "normalised alike": Shape(audio={**RANGE, "symmetric_norm": True, "max_norm": 4.0}),
    "normalised apart": Shape(
        audio={**RANGE, "symmetric_norm": False, "max_norm": 1.0},
        vocoder_audio={**RANGE, "symmetric_norm": True, "max_norm": 4.0, "ref_level_db": 0},
    ),
    "mean and variance": Shape(stats=True),
    "blanks and marks": Shape(
        model={
            "add_blank": True,
            "enable_eos_bos_chars": True,
            "characters": {**CHARACTERS, "blank": "#"},
        }
    ),
    "another HiFi-GAN": Shape(
        generator={
            "resblock_type": "2",
            "resblock_kernel_sizes": [3, 5, 7],
            "resblock_dilation_sizes": [[1, 2], [2, 6], [3, 12]],
            "upsample_factors": [8, 8, 4],
            "upsample_kernel_sizes": [16, 16, 8],
            "upsample_initial_channel": 256,
        }
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_what_is_exported_equals_coqui(exported: Export, name: str) -> None:
    voice = exported(SHAPES[name])
    proven = check(voice.coqui, voice.manifest, voice.folder, TEXTS[:2])
    assert proven.proof is not None
    assert 0 < proven.proof.max_difference <= TOLERANCE
    assert proven.proof.samples > 10_000
    assert proven.precisions["float32"].mel_deviation < 1e-4
    assert 1e-4 < proven.precisions["int8"].mel_deviation < 0.05


def test_another_checkpoints_export_is_refused(exported: Export) -> None:
    """The comparison can fail: it tells two random voices apart."""
    one, other = exported(Shape()), exported(Shape(seed=5))
    with pytest.raises(CheckFailed, match="differs from Coqui's"):
        check(one.coqui, one.manifest, other.folder, TEXTS[:1])


def test_a_slightly_wrong_normalisation_is_refused(exported: Export) -> None:
    voice = exported(Shape())
    steps = [{"scale": [1.0], "offset": [0.01]}]
    wrong = voice.manifest.model_validate({**voice.manifest.model_dump(), "mel_steps": steps})
    with pytest.raises(CheckFailed, match="differs from Coqui's"):
        check(voice.coqui, wrong, voice.folder, TEXTS[:1])


PACES = {
    "frame by frame": Pace(first_frames=1, min_frames=1, max_frames=1),
    "usual": Pace(),
    "twenties": Pace(first_frames=20, min_frames=20, max_frames=20),
    "all at once": Pace(first_frames=2000, min_frames=2000, max_frames=2000),
}
LENGTHS = [*range(1, 50), 63, 64, 65, 100]


def test_every_length_in_every_chunk_schedule_equals_coqui(exported: Export) -> None:
    """Ends on, before and behind every border of the windows: 10 frames of the postnet, 13 of the
    vocoder, and the chunks'."""
    voice = exported(Shape(steps=10_000))
    engines = {
        name: TacotronEngine(
            voice.manifest,
            voice.folder,
            TacotronOptions("float32", limits=GuardLimits.off(), sentence_pause_ms=0, pace=pace),
        )
        for name, pace in PACES.items()
    }
    symbols = engines["usual"].front_end.symbols("Hello world.")
    decoder = voice.coqui.model.decoder
    limit = decoder.max_decoder_steps
    try:
        for steps in LENGTHS:
            decoder.max_decoder_steps = steps
            whole = voice.coqui.waveform(symbols.ids.tolist())
            for name, engine in engines.items():
                streamed = np.concatenate(list(engine.speak(symbols, max_steps=steps)))
                assert streamed.shape == whole.shape
                difference = np.abs(streamed - whole).max()
                assert difference <= TOLERANCE, f"{steps} steps, {name}: {difference}"
    finally:
        decoder.max_decoder_steps = limit


def test_eight_speakers_at_once_hear_what_they_would_alone(exported: Export) -> None:
    voice = exported(Shape())
    options = TacotronOptions("float32", limits=GuardLimits.off(), vocoder_slots=2)
    engine = TacotronEngine(voice.manifest, voice.folder, options)
    texts = [engine.front_end.symbols(text[: 10 + 7 * i]) for i, text in enumerate(TEXTS * 2)]
    alone = [np.concatenate(list(engine.speak(text))) for text in texts]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda t: np.concatenate(list(engine.speak(t))), texts))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(other, one, atol=1e-6)


def test_8_bit_rows_of_a_batch_equal_running_alone(exported: Export) -> None:
    """Activations are scaled row by row: neighbours cannot be heard."""
    voice = exported(Shape())
    options = TacotronOptions("int8", limits=GuardLimits.off())
    engine = TacotronEngine(voice.manifest, voice.folder, options)
    texts = [engine.front_end.symbols(text) for text in TEXTS]
    alone = [np.concatenate(list(engine.speak(text))) for text in texts]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda t: np.concatenate(list(engine.speak(t))), texts))
    for one, other in zip(alone, together, strict=True):
        assert np.abs(other - one).max() < 1e-2
        assert np.sqrt(np.mean((other - one) ** 2)) < 1e-3
