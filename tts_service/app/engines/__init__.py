"""The voices there are, by the names that `TTS_MODEL` takes.

Loading is lazy: importing this package imports no model library.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from common.settings import SettingsError
from tts_service.app.engines.base import Engine
from tts_service.app.settings import TtsSettings

Load = Callable[[], Engine]

HIBARI_HEART = "hibari/heart"
TACOTRON_DDC = "tts_models/en/ljspeech/tacotron2-DDC"
"""Known by name even where it was not prepared: loading it then says how to."""


def loader(settings: TtsSettings) -> Load:
    """What loads the voice that `TTS_MODEL` names (slow: call it off the event loop).

    Raises `SettingsError`, listing the names there are, if it names none.
    """
    voices: dict[str, Load] = {HIBARI_HEART: lambda: _load_hibari(settings)}
    for name in (TACOTRON_DDC, *_prepared(settings.tts_voices_dir)):
        voices[name] = partial(_load_tacotron, name, settings)
    if settings.tts_model not in voices:
        names = ", ".join(sorted(voices))
        raise SettingsError(f"TTS_MODEL={settings.tts_model!r} is not known; there is: {names}.")
    return voices[settings.tts_model]


def _load_hibari(settings: TtsSettings) -> Engine:
    from tts_service.app.engines.hibari import HibariEngine

    return HibariEngine(HIBARI_HEART, max_parallel=settings.tts_workers)


def _prepared(voices_dir: Path) -> list[str]:
    """Names of the voices that `make voice` has put there."""
    return [f.parent.name.replace("--", "/") for f in sorted(voices_dir.glob("*--*/voice.json"))]


def _load_tacotron(name: str, settings: TtsSettings) -> Engine:
    from tts_service.app.engines.tacotron import TacotronOptions, VoiceError, load

    options = TacotronOptions(
        precision=settings.tts_precision,
        max_batch=settings.tts_max_batch,
        vocoder_slots=settings.tts_workers,
        sentence_pause_ms=settings.tts_sentence_pause_ms,
        seed=settings.tts_seed,
    )
    try:
        return load(name, settings.tts_voices_dir, options)
    except VoiceError as error:
        raise SettingsError(f"TTS_MODEL={name!r}: {error}.") from error
