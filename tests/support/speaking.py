"""Speaking with an engine, without a service around it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing

from tts_service.app.engines.base import Engine
from tts_service.app.text import TextStream
from tts_service.app.utterance import SpeechOptions, utter


def spoken_parts(engine: Engine, text: str, options: SpeechOptions) -> Generator[bytes, None, None]:
    """The audio of `text`, each part as soon as it is made."""
    with closing(utter(engine, TextStream.whole(text), options)) as events:
        for event in events:
            if isinstance(event, bytes):
                yield event


def speech_of(engine: Engine, text: str, options: SpeechOptions) -> bytes:
    """All of the audio of `text`."""
    return b"".join(spoken_parts(engine, text, options))
