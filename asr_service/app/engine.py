"""The interface of a recognizer. It imports no model library: `asr_service.app.whisper` does."""

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
"""The sample rate that a recognizer takes."""

Decode = Callable[[threading.Event], Samples]
"""Returns the mono audio to recognize, at `SAMPLE_RATE_HZ`. It computes, so it is called on a
worker thread; the event is set on cancellation. What it raises reaches the caller."""


class RecognitionCancelled(Exception):
    """The recognition was cancelled."""


@dataclass(frozen=True)
class RecognitionOptions:
    """How audio is recognized."""

    language: str = "en"
    beam_size: int = 5
    words: bool = False
    """Whether segments carry the times and probabilities of their words."""
    prompt: str | None = None
    """Text that is taken to come before the audio."""
    hotwords: str | None = None
    """Words that are likely to come."""
    vad: bool = True
    """Whether stretches in which nobody speaks are left out."""


@dataclass(frozen=True, eq=False)
class Window:
    """The audio that the model takes at once: a stretch of one recording, ready to be encoded."""

    features: npt.NDArray[np.float32]
    """What the engine computed from the samples, shaped (features, mel frames)."""
    spans: tuple[tuple[int, int], ...]
    """The parts of the recording that it holds, as [first sample, end) in order; what lies between
    them was left out."""
    options: RecognitionOptions
    cancelled: threading.Event
    """Set once the recognition is cancelled."""

    @property
    def kind(self) -> Hashable:
        """Windows of one kind may be recognized together."""
        return self.features.shape, self.options


class Engine(Protocol):
    """A loaded recognizer, which several threads may use at once.

    Its methods compute: call them on a worker thread. They raise what the model raises.
    """

    languages: tuple[str, ...]
    """The codes of the languages that it recognizes."""

    def windows(
        self, samples: Samples, options: RecognitionOptions, cancelled: threading.Event
    ) -> Iterator[Window]:
        """Yield the windows of `samples` (at `SAMPLE_RATE_HZ`), each prepared when asked for.

        There are none if nobody speaks. Raises `UndecodableAudio` if a sample is no finite number.
        """
        ...

    def recognize(self, batch: Sequence[Window]) -> Iterator[tuple[int, list[Segment]]]:
        """Yield the index and the segments of each of `batch`, whose windows are of one kind.

        Each comes as soon as it is known: one that is hard to recognize holds up no other.
        Times are those of the recording, in order and within the window. A window that is cancelled
        meanwhile may be left out.
        """
        ...
