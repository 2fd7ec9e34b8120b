"""What can be wrong with a voice before it speaks."""

from __future__ import annotations


class VoiceError(Exception):
    """A voice cannot be used; the message says why and, where there is one, the way out."""


class VoiceNotPreparedError(VoiceError):
    """The voice was never prepared here."""

    def __init__(self, name: str, folder: str) -> None:
        super().__init__(
            f"the voice {name} is not prepared in {folder}: run `make voice`"
            f" (or `python -m tts_service.voices prepare {name}`)"
        )


class BrokenVoiceError(VoiceError):
    """The voice's folder is there, but what it holds cannot be used."""
