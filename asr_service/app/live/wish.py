"""What a listener wishes to have recognized."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from asr_service.app.live.agreement import HeardWord
from common.audio.samples import Samples
from common.protocol.recognition import Segment, Word

Kind = Literal["partial", "settle", "cut", "final"]


@dataclass(frozen=True)
class Wish:
    """Audio that is to be recognized.

    `partial` may be late or never; `settle` takes its place; nothing is heard before `cut` or
    `final` is answered.
    """

    kind: Kind
    samples: Samples
    """What was said before, as context, and what is wished for."""
    context_ms: int
    """How long the context is."""
    start_ms: int
    """Where in the stream begins what is wished for; the context may have been said any time
    before."""
    end_ms: int

    @property
    def lasting(self) -> bool:
        """Whether it is worth the recognizer's best."""
        return self.kind != "partial"

    def heard(self, segments: Sequence[Segment]) -> list[HeardWord]:
        """The words of the answer in the time of the stream, without those of the context."""
        words: list[HeardWord] = []
        for segment in segments:
            held = segment.words or [
                Word(
                    start_ms=segment.start_ms,
                    end_ms=segment.end_ms,
                    text=f" {segment.text}",
                    probability=1,
                )
            ]
            for count, word in enumerate(held, 1):
                start_ms, end_ms = word.start_ms - self.context_ms, word.end_ms - self.context_ms
                if start_ms + end_ms >= 0:
                    words.append(
                        HeardWord(
                            start_ms=self.start_ms + max(0, start_ms),
                            end_ms=self.start_ms + end_ms,
                            text=word.text,
                            closes=count == len(held),
                        )
                    )
        return words
