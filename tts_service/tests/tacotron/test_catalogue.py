"""`TTS_MODEL` finds prepared voices by their names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from common.settings import SettingsError
from tests.support.server import served
from tests.support.wire import open_ws, speak
from tts_service.app import engines
from tts_service.app.engines.base import SynthesisContext
from tts_service.app.engines.tacotron import load
from tts_service.app.main import build
from tts_service.app.settings import TtsSettings
from tts_service.app.text import TextStream
from tts_service.app.utterance import SpeechOptions, utter
from tts_service.tests.tacotron import tiny


def settings(model: str, voices_dir: Path) -> TtsSettings:
    return TtsSettings(tts_model=model, tts_voices_dir=voices_dir, tts_sentence_pause_ms=50)


def test_a_prepared_voice_speaks_through_the_socket(tmp_path: Path) -> None:
    tiny.install(tiny.TinyVoice(), tmp_path)
    chosen = settings(tiny.NAME, tmp_path)
    with (
        served(build(chosen, engines.loader(chosen))) as at,
        open_ws(f"{at.ws}/ws/tts") as ws,
    ):
        said = speak(ws, "hello world.")
    assert said.closing == '{"type":"end"}'
    assert np.frombuffer(said.pcm, "<i2").any()


def test_cancelling_ends_every_piece_of_the_text(tmp_path: Path) -> None:
    tiny.install(tiny.TinyVoice(), tmp_path)
    engine = load(tiny.NAME, tmp_path, tiny.UNGUARDED)
    heard: list[bytes] = []
    asked_since: list[bool] = []

    def cancelled() -> bool:
        if heard:
            asked_since.append(True)
        return bool(heard)

    text = TextStream.whole("One sentence. " * 50)
    for event in utter(engine, text, SpeechOptions(), SynthesisContext(cancelled=cancelled)):
        if isinstance(event, bytes):
            heard.append(event)
    assert len(heard) == 1
    assert len(asked_since) < 10
    assert engine.speaking == 0


def test_the_voice_that_was_not_prepared_names_the_command(tmp_path: Path) -> None:
    load = engines.loader(settings(engines.TACOTRON_DDC, tmp_path))
    with pytest.raises(SettingsError, match="run `make voice`"):
        load()


def test_prepared_voices_are_among_the_names_there_are(tmp_path: Path) -> None:
    tiny.install(tiny.TinyVoice(), tmp_path)
    with pytest.raises(SettingsError, match=tiny.NAME):
        engines.loader(settings("no such voice", tmp_path))


def test_a_start_without_the_voice_ends_in_one_sentence(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "TTS_MODEL": engines.TACOTRON_DDC,
        "TTS_VOICES_DIR": str(tmp_path),
        "TTS_PORT": "0",
        "HOST": "127.0.0.1",
    }
    program = [sys.executable, "-m", "tts_service"]
    ended = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode in (1, 2)
    assert "Traceback" not in ended.stderr + ended.stdout
    (sentence,) = ended.stderr.strip().splitlines()
    assert "run `make voice`" in sentence
