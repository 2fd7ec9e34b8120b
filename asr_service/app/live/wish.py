"""What a listener wishes to have recognized."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from asr_service.app.live.agreement import HeardWord
from common.audio import Samples
from common.protocol import Segment, Word

Kind = Literal["partial", "settle", "cut", "final"]


@dataclass(frozen=True)
class Wish:
    """Audio that is to be recognized.

    `partial` may be late or never; `settle` takes its place; nothing is heard before `cut` or
    `final` is answered.
    """

    kind: Kind
    samples: Samples
    start_ms: int
    end_ms: int

    @property
    def lasting(self) -> bool:
        """Whether it is worth the recognizer's best."""
        return self.kind != "partial"

    def heard(self, segments: Sequence[Segment]) -> list[HeardWord]:
        """The words of the answer, in the time of the stream."""
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
                words.append(
                    HeardWord(
                        start_ms=self.start_ms + word.start_ms,
                        end_ms=self.start_ms + word.end_ms,
                        text=word.text,
                        closes=count == len(held),
                    )
                )
        return words
