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
class SynthesisWarning:
    """A piece, or an utterance, was spoken, but not as it should have been."""

    code: str
    """For programs, for example `stalled`."""
    message: str
    """For people."""
    at_sample: int
    """Where in the audio of the piece, at the engine's rate, or of the utterance, at its own."""


@dataclass(frozen=True)
class SynthesisContext:
    """What an engine asks and reports while it speaks an utterance, from worker threads."""

    cancelled: Callable[[], bool] = lambda: False
    """Asked between any two steps of a model: the audio is not wanted any more. Must be cheap."""
    warn: Callable[[SynthesisWarning], None] = lambda warning: None


UNATTENDED = SynthesisContext()
"""Never cancelled; warnings go nowhere."""


class Engine(Protocol):
    """A loaded voice.

    Any number of `synthesize` generators may be alive at once, and `max_parallel` of them may be
    advanced at the same time from different threads; the engine keeps their state apart.
    """

    name: str
    """The name in `TTS_MODEL` that picked this voice."""
    sample_rate_hz: int
    whole_pieces: bool
    """It makes a piece in one go, so a long first piece would delay the first audio."""
    max_parallel: int
    """How many generators are worth advancing at once, each from a thread of its own."""

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
        context: SynthesisContext = UNATTENDED,
    ) -> Generator[Samples, None, None]:
        """Speak one piece of text.

        A generator: each `next` does a bounded amount of work (aim: under 200 ms on one core) and
        yields the samples that are final by then, so that audio leaves while the rest is computed.
        Closing it stops the work and frees what the piece held.

        `speed` is a factor on the pace, 1.0 being the voice's own. `opens` and `closes` say whether
        the piece begins and ends a sentence: where a sentence was cut for early first audio, the
        voice leaves out the pause it would make there. An engine that works long for one `next`
        asks `context.cancelled` meanwhile, and ends early if so.

        Raises `SynthesisError` if the model fails.
        """
        ...

    def close(self) -> None:
        """Free the model. No generator is alive by then."""
        ...
