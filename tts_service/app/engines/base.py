"""What every voice must offer, and nothing that only one of them has.

An engine turns one short text (a clause or a sentence, see `tts_service.app.text`) into samples.
Everything around it, that is splitting, resampling, encoding, scheduling and the wire, is the same
for all engines and lives elsewhere.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Protocol

from common.audio import Samples


class SynthesisError(Exception):
    """The model could not speak this text; its message says why, for the log."""


class Engine(Protocol):
    """A loaded voice.

    Any number of `synthesize` generators may be alive at once, and `max_parallel` of them may be
    stepped at the same time from different threads; the engine keeps their state apart.
    """

    name: str
    """The name in `TTS_MODEL` that picked this voice."""
    sample_rate_hz: int
    max_parallel: int
    """How many generators are worth stepping at once, each from a thread of its own."""

    def can_speak(self, text: str) -> bool:
        """Whether `text` holds anything that this voice can pronounce."""
        ...

    def synthesize(
        self, text: str, *, speed: float, opens: bool, closes: bool
    ) -> Generator[Samples, None, None]:
        """Speak one piece of text.

        A generator: each step does a bounded amount of work (aim: under 200 ms on one core) and
        yields the samples that are final by then, so that audio leaves while the rest is computed.
        Closing it stops the work at the next step and frees what the utterance held.

        `speed` is a factor on the pace, 1.0 being the voice's own. `opens` and `closes` say whether
        the piece begins and ends a sentence: where a sentence was cut for an early first sound, the
        voice leaves out the pause it would make there.

        Raises `SynthesisError` if the model fails.
        """
        ...

    def close(self) -> None:
        """Free the model. No generator is alive by then."""
        ...
