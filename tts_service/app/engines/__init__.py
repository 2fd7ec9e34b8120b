"""The voices there are, by the names that `TTS_MODEL` takes.

Loading is lazy: importing this package imports no model library.
"""

from __future__ import annotations

from collections.abc import Callable

from common.settings import SettingsError
from tts_service.app.engines.base import Engine
from tts_service.app.settings import TtsSettings

Load = Callable[[], Engine]

HIBARI_HEART = "hibari/heart"


def loader(settings: TtsSettings) -> Load:
    """What loads the voice that `TTS_MODEL` names (slow: call it off the event loop).

    Raises `SettingsError`, listing the names there are, if it names none.
    """
    voices: dict[str, Load] = {HIBARI_HEART: lambda: _load_hibari(settings)}
    if settings.tts_model not in voices:
        names = ", ".join(sorted(voices))
        raise SettingsError(f"TTS_MODEL={settings.tts_model!r} is not known; there is: {names}.")
    return voices[settings.tts_model]


def _load_hibari(settings: TtsSettings) -> Engine:
    from tts_service.app.engines.hibari import HibariEngine

    return HibariEngine(HIBARI_HEART, max_parallel=settings.tts_workers)
