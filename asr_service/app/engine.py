"""What a recognizer must offer. Imports no model library: `asr_service.app.whisper` does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from common.audio import Samples
from common.protocol import Segment

SAMPLE_RATE_HZ = 16000
"""What a recognizer listens to."""

Decode = Callable[[threading.Event], Samples]
"""Gives the mono audio to listen to, at `SAMPLE_RATE_HZ`. Computes, so it is called on a worker
thread; the event is set once nobody waits any more. What it raises reaches the caller."""


class RecognitionCancelled(Exception):
    """Nobody waits for the result any more."""


@dataclass(frozen=True)
class RecognitionOptions:
    """How audio is to be listened to."""

    language: str = "en"
    beam_size: int = 5
    words: bool = False
    """Whether segments carry the times and probabilities of their words."""
    prompt: str | None = None
    """Text that is taken to have been said before the audio."""
    hotwords: str | None = None
    """Words that are likely to be said."""
    vad: bool = True
    """Whether stretches in which nobody speaks are left out."""


class Engine(Protocol):
    """A loaded recognizer, which as many threads may use at once as it was made for."""

    languages: tuple[str, ...]
    """The codes of the languages it understands."""

    def recognize(
        self, samples: Samples, options: RecognitionOptions, cancelled: threading.Event
    ) -> Iterator[Segment]:
        """The segments of `samples` (at `SAMPLE_RATE_HZ`) as they are found, in order, within them.

        Computes: step it on a worker thread. Raises `RecognitionCancelled` soon after `cancelled`
        was set, and whatever the model raises.
        """
        ...
