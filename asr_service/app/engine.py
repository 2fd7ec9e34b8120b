"""What a recognizer must offer. Imports no model library: `asr_service.app.whisper` does."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Protocol

from common.pcm import PcmFormat
from common.protocol import Transcript


class RecognitionCancelled(Exception):
    """Nobody waits for the result any more."""


@dataclass(frozen=True)
class RecognitionOptions:
    """How audio is to be listened to."""

    language: str = "en"
    beam_size: int = 5


class Engine(Protocol):
    """A loaded recognizer, which as many threads may use at once as it was made for."""

    languages: tuple[str, ...]
    """The codes of the languages it understands."""

    def recognize(
        self,
        body: bytes | bytearray,
        pcm: PcmFormat,
        options: RecognitionOptions,
        cancelled: threading.Event,
    ) -> Transcript:
        """Whole frames of s16le as a transcript: segments in order and within the audio.

        Computes: call it from a worker thread. Raises `RecognitionCancelled` soon after `cancelled`
        was set, and whatever the model raises.
        """
        ...
