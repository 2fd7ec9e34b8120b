"""A prepared voice, spoken through the service's socket."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.server import served
from tests.support.wire import open_ws, speak
from tts_service.app import engines
from tts_service.app.main import build
from tts_service.app.settings import TtsSettings
from tts_service.tests_voices.release import Shape, make_voice
from tts_service.voices.coqui import CoquiVoice
from tts_service.voices.prepare import Places, prepare
from tts_service.voices.unpack import find_checkpoint

NAME = "tts_models/en/random/tacotron2-DDC"
TEXT = "Hello world."
FADE_SAMPLES = 88
"""Random weights attend nowhere: the guard takes the end for an early stop, and fades it out."""


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_what_the_socket_gives_is_what_coqui_makes(tmp_path: Path, precision: str) -> None:
    source = make_voice(tmp_path / "source", Shape())
    prepare(str(source), Places(tmp_path), name=NAME)
    settings = TtsSettings.model_validate(
        {
            "tts_model": NAME,
            "tts_voices_dir": tmp_path,
            "tts_precision": precision,
            "tts_sr": 22050,
            "tts_sentence_pause_ms": 100,
        }
    )
    with (
        served(build(settings, engines.loader(settings))) as at,
        open_ws(f"{at.ws}/ws/tts") as ws,
    ):
        said = speak(ws, TEXT)
        again = speak(ws, TEXT)
    assert said.closing == '{"type":"end"}'
    # Chunks may be cut otherwise the second time, and round otherwise: by one step of 16 bits.
    both = [np.frombuffer(pcm, "<i2").astype(np.int32) for pcm in (said.pcm, again.pcm)]
    assert np.abs(both[0] - both[1]).max() <= 1
    samples = np.frombuffer(said.pcm, "<i2").astype(np.float32) / 32768
    pause = 2205
    assert not samples[-pause:].any()
    coqui = CoquiVoice(find_checkpoint(source), find_checkpoint(source / "vocoder"), tmp_path)
    theirs = coqui.waveform(coqui.ids(TEXT))
    ours = samples[:-pause]
    assert ours.shape == theirs.shape
    difference = np.abs(ours - theirs)[:-FADE_SAMPLES]
    assert difference.max() <= (2 / 32768 if precision == "float32" else 0.05)
