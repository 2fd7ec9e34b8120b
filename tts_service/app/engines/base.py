"""What every voice must offer, and nothing that only one of them has.

An engine turns one short text (a clause or a sentence, see `tts_service.app.text`) into samples.
Everything around it, that is splitting, resampling, encoding, scheduling and the wire, is the same
for all engines and lives elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Protocol

from common.audio.samples import Samples


class SynthesisError(Exception):
    """The model could not speak this text; its message says why, for the log."""


@dataclass(frozen=True)
class Notice:
    """That a piece was spoken, but not as it should have been."""

    code: str
    """For programs, for example `stalled`."""
    message: str
    """For people."""
    at_sample: int
    """Where in the piece's audio, at the engine's rate."""


@dataclass(frozen=True)
class WordTime:
    """When one word of the text, as the voice read it, was spoken."""

    word: str
    start_sample: int
    end_sample: int


@dataclass(frozen=True)
class Listener:
    """What an engine can tell and ask while it speaks; all of it is called from worker threads."""

    gone: Callable[[], bool] = lambda: False
    """Asked between any two steps of a model: nobody listens any more. Must be cheap."""
    notice: Callable[[Notice], None] = lambda notice: None
    words: Callable[[list[WordTime]], None] = lambda words: None
    """Called once, after the last samples, by engines that know."""


NOBODY = Listener()


class Engine(Protocol):
    """A loaded voice.

    Any number of `synthesize` generators may be alive at once, and `max_parallel` of them may be
    stepped at the same time from different threads; the engine keeps their state apart.
    """

    name: str
    """The name in `TTS_MODEL` that picked this voice."""
    sample_rate_hz: int
    whole_pieces: bool
    """It makes a piece in one step, so a long first piece would delay the first sound."""
    max_parallel: int
    """How many generators are worth stepping at once, each from a thread of its own."""

    def can_speak(self, text: str) -> bool:
        """Whether `text` holds anything that this voice can pronounce."""
        ...

    def synthesize(
        self,
        text: str,
        *,
        speed: float,
        opens: bool,
        closes: bool,
        listener: Listener = NOBODY,
    ) -> Generator[Samples, None, None]:
        """Speak one piece of text.

        A generator: each step does a bounded amount of work (aim: under 200 ms on one core) and
        yields the samples that are final by then, so that audio leaves while the rest is computed.
        Closing it stops the work at the next step and frees what the utterance held.

        `speed` is a factor on the pace, 1.0 being the voice's own. `opens` and `closes` say whether
        the piece begins and ends a sentence: where a sentence was cut for an early first sound, the
        voice leaves out the pause it would make there. An engine that takes long to a step asks
        `listener.gone` meanwhile, and ends early if so.

        Raises `SynthesisError` if the model fails.
        """
        ...

    def close(self) -> None:
        """Free the model. No generator is alive by then."""
        ...
