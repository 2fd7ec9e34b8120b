"""From encoded windows to tokens: the decoder's hypotheses, and which of them are accepted.

Text that repeats itself or is improbable is generated again, as Whisper's authors do (Radford et
al. 2022, section 4.5; thresholds as in faster-whisper). They draw samples at rising temperatures;
here a wider beam is tried, and then one that may not repeat itself: the same audio is the same
text, alone and in any batch. The worst case is three attempts, none longer than a fast speaker
could be.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import ctranslate2
import numpy as np
from faster_whisper.tokenizer import Tokenizer

WIDE_BEAM = 5
UNREPEATED_TOKENS = 3
"""How many tokens in a row may not come twice, in the last attempt."""
MAX_COMPRESSION_RATIO = 2.4
MIN_MEAN_LOG_PROBABILITY = -0.6
"""Text less probable than that is rejected. At -1.0, Whisper's own, fewer errors are found."""
MAX_NO_SPEECH_PROBABILITY = 0.6
MAX_NOTHING_LOG_PROBABILITY = -1.0
"""Text less probable than that, where most likely nobody speaks, is nothing."""
MAX_INITIAL_TIMESTAMP_INDEX = 50
"""The first word begins within a second of the window's beginning."""
TOKENS_AT_LEAST = 24
TOKENS_PER_SECOND = 12
"""More than anybody speaks: the fastest of the speech set has 8, timestamps included."""
MAX_LENGTH = 448
"""Of the decoder: prompt and text."""


@dataclass(frozen=True)
class Hypothesis:
    """What one attempt made of a window."""

    tokens: list[int]
    """Text and timestamps."""
    mean_log_probability: float
    compression_ratio: float
    no_speech_probability: float

    @property
    def improbable(self) -> bool:
        return self.mean_log_probability < MIN_MEAN_LOG_PROBABILITY

    @property
    def repetitive(self) -> bool:
        return self.compression_ratio > MAX_COMPRESSION_RATIO

    @property
    def no_speech(self) -> bool:
        """Whether nobody speaks, as the model judges."""
        return (
            self.mean_log_probability < MAX_NOTHING_LOG_PROBABILITY
            and self.no_speech_probability > MAX_NO_SPEECH_PROBABILITY
        )

    @property
    def accepted(self) -> bool:
        return self.no_speech or not (self.improbable or self.repetitive)


@dataclass(frozen=True)
class Attempt:
    """The options of one attempt to generate."""

    beam_size: int
    may_repeat: bool = True

    def may_improve(self, hypothesis: Hypothesis) -> bool:
        """Return whether it may better the hypothesis of an earlier attempt."""
        return not hypothesis.accepted and (self.may_repeat or hypothesis.repetitive)


def attempts_with(beam_size: int) -> list[Attempt]:
    """Return the attempts, in order, when `beam_size` is asked for."""
    wider = [Attempt(WIDE_BEAM)] if beam_size < WIDE_BEAM else []
    return [Attempt(beam_size), *wider, Attempt(max(WIDE_BEAM, beam_size), may_repeat=False)]


class Generator:
    """Runs the decoder of a Whisper model on batches of windows."""

    def __init__(
        self, model: ctranslate2.models.Whisper, tokenizer: Tokenizer, suppressed: Sequence[int]
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._suppressed = list(suppressed)

    def generate(
        self,
        encoded: ctranslate2.StorageView,
        prompt: list[int],
        *,
        seconds: float,
        beam_size: int,
        wanted: Callable[[int], bool],
    ) -> Iterator[dict[int, Hypothesis]]:
        """Yield the hypotheses of windows by their rows, after each attempt that settles some.

        Those that are not `wanted` any more are left out. `encoded` is shaped (windows, positions,
        width); `seconds` is what the longest holds.
        """
        max_tokens = TOKENS_AT_LEAST + int(TOKENS_PER_SECOND * seconds)
        max_length = min(MAX_LENGTH, max(2 * max_tokens, len(prompt) + max_tokens))
        made: dict[int, list[Hypothesis]] = {row: [] for row in range(encoded.shape[0])}
        left = attempts_with(beam_size)
        while left and made:
            attempt = left.pop(0)
            rows = [row for row in made if wanted(row)]
            rows = [row for row in rows if not made[row] or attempt.may_improve(made[row][-1])]
            if rows:
                new = self._try(attempt, rows_of(encoded, rows), prompt, max_length)
                for row, hypothesis in zip(rows, new, strict=True):
                    made[row].append(hypothesis)
            settled = [
                row
                for row, hypotheses in made.items()
                if not wanted(row) or not any(later.may_improve(hypotheses[-1]) for later in left)
            ]
            best = {row: _best(found) for row in settled if (found := made.pop(row))}
            if best:
                yield best

    def _try(
        self,
        attempt: Attempt,
        encoded: ctranslate2.StorageView,
        prompt: list[int],
        max_length: int,
    ) -> list[Hypothesis]:
        results = self._model.generate(
            encoded,
            [prompt] * encoded.shape[0],
            beam_size=attempt.beam_size,
            no_repeat_ngram_size=0 if attempt.may_repeat else UNREPEATED_TOKENS,
            # Half of it, at most, is for the text: such is the decoder's own rule.
            max_length=max_length,
            return_scores=True,
            return_no_speech_prob=True,
            suppress_tokens=self._suppressed,
            max_initial_timestamp_index=MAX_INITIAL_TIMESTAMP_INDEX,
        )
        return [
            Hypothesis(
                tokens=(tokens := result.sequences_ids[0]),
                mean_log_probability=result.scores[0] * len(tokens) / (len(tokens) + 1),
                compression_ratio=_compression_ratio(self._tokenizer.decode(tokens).strip()),
                no_speech_probability=result.no_speech_prob,
            )
            for result in results
        ]


def rows_of(encoded: ctranslate2.StorageView, rows: Sequence[int]) -> ctranslate2.StorageView:
    """Return some windows of a batch as a batch."""
    if len(rows) == encoded.shape[0]:
        return encoded
    return ctranslate2.StorageView.from_array(np.ascontiguousarray(np.asarray(encoded)[rows]))


def _best(hypotheses: list[Hypothesis]) -> Hypothesis:
    """Return the accepted one or, if none is, the most probable that does not repeat itself."""
    if hypotheses[-1].accepted:
        return hypotheses[-1]
    candidates = [h for h in hypotheses if not h.repetitive] or hypotheses
    return max(candidates, key=lambda h: h.mean_log_probability)


def _compression_ratio(text: str) -> float:
    plain = text.encode()
    return len(plain) / len(zlib.compress(plain))
