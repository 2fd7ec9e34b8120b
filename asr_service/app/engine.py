"""What a recognizer must offer. Imports no model library: `asr_service.app.whisper` does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from common.audio.samples import Samples
from common.protocol.recognition import Segment

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


@dataclass(frozen=True, eq=False)
class Window:
    """What the model hears at once: a stretch of one recording, ready to be encoded."""

    features: npt.NDArray[np.float32]
    """What the engine computed of the samples, shaped (channels of its own, frames)."""
    spans: tuple[tuple[int, int], ...]
    """The parts of the recording that it holds, as [first sample, end) in order; what lies between
    them was left out."""
    options: RecognitionOptions
    cancelled: threading.Event
    """Set once nobody waits any more."""

    @property
    def kind(self) -> Hashable:
        """Windows of one kind may be recognized together."""
        return self.features.shape, self.options


class Engine(Protocol):
    """A loaded recognizer, which as many threads may use at once as it was made for.

    Its methods compute: call them on a worker thread. They raise what the model raises.
    """

    languages: tuple[str, ...]
    """The codes of the languages it understands."""

    def windows(
        self, samples: Samples, options: RecognitionOptions, cancelled: threading.Event
    ) -> Iterator[Window]:
        """The windows of `samples` (at `SAMPLE_RATE_HZ`), in order, each prepared when asked for.

        None if nobody speaks. Raises `UndecodableAudio` if a sample is no finite number.
        """
        ...

    def recognize(self, batch: Sequence[Window]) -> Iterator[tuple[int, list[Segment]]]:
        """The segments of each of `batch`, whose windows are of one kind, with its index.

        Each is given as soon as it is known: one that is hard to recognize keeps nobody waiting.
        Times are those of the recording, in order and within the window. A window that is cancelled
        meanwhile may be left out.
        """
        ...
