"""From encoded windows to tokens: what Whisper says, and what is believed of it.

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
"""Text less probable than that is doubted. At -1.0, Whisper's own, fewer errors are found out."""
MAX_NO_SPEECH_PROBABILITY = 0.6
MAX_NOTHING_LOG_PROBABILITY = -1.0
"""Text less probable than that, where most likely nobody speaks, is nothing."""
MAX_INITIAL_TIMESTAMP_INDEX = 50
"""The first word is said within a second of the window's beginning."""
TOKENS_AT_LEAST = 24
TOKENS_PER_SECOND = 12
"""More than anybody says: the fastest of the speech set has 8, timestamps included."""
MAX_LENGTH = 448
"""Of the decoder: prompt and text."""


@dataclass(frozen=True)
class Said:
    """What the model says of a window."""

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
    def nothing(self) -> bool:
        """Whether nobody speaks, by the model's own judgement."""
        return (
            self.mean_log_probability < MAX_NOTHING_LOG_PROBABILITY
            and self.no_speech_probability > MAX_NO_SPEECH_PROBABILITY
        )

    @property
    def believed(self) -> bool:
        return self.nothing or not (self.improbable or self.repetitive)


@dataclass(frozen=True)
class Attempt:
    """A way to generate."""

    beam_size: int
    may_repeat: bool = True

    def is_for(self, said: Said) -> bool:
        """Whether it may better what an earlier attempt said."""
        return not said.believed and (self.may_repeat or said.repetitive)


def attempts_with(beam_size: int) -> list[Attempt]:
    """What is tried, in order, when `beam_size` is asked for."""
    wider = [Attempt(WIDE_BEAM)] if beam_size < WIDE_BEAM else []
    return [Attempt(beam_size), *wider, Attempt(max(WIDE_BEAM, beam_size), may_repeat=False)]


class Generator:
    """A Whisper model's decoder, for windows in batches."""

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
    ) -> Iterator[dict[int, Said]]:
        """What each window of the batch says, by its row, after each attempt that settles some.

        Those that are not `wanted` any more are left out. `encoded` is shaped (windows, positions,
        width); `seconds` is what the longest holds.
        """
        max_tokens = TOKENS_AT_LEAST + int(TOKENS_PER_SECOND * seconds)
        max_length = min(MAX_LENGTH, max(2 * max_tokens, len(prompt) + max_tokens))
        said: dict[int, list[Said]] = {row: [] for row in range(encoded.shape[0])}
        left = attempts_with(beam_size)
        while left and said:
            attempt = left.pop(0)
            rows = [row for row in said if wanted(row)]
            rows = [row for row in rows if not said[row] or attempt.is_for(said[row][-1])]
            if rows:
                made = self._try(attempt, rows_of(encoded, rows), prompt, max_length)
                for row, text in zip(rows, made, strict=True):
                    said[row].append(text)
            settled = [
                row
                for row, made in said.items()
                if not wanted(row) or not any(later.is_for(made[-1]) for later in left)
            ]
            best = {row: _best(made) for row in settled if (made := said.pop(row))}
            if best:
                yield best

    def _try(
        self,
        attempt: Attempt,
        encoded: ctranslate2.StorageView,
        prompt: list[int],
        max_length: int,
    ) -> list[Said]:
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
            Said(
                tokens=(tokens := result.sequences_ids[0]),
                mean_log_probability=result.scores[0] * len(tokens) / (len(tokens) + 1),
                compression_ratio=_compression_ratio(self._tokenizer.decode(tokens).strip()),
                no_speech_probability=result.no_speech_prob,
            )
            for result in results
        ]


def rows_of(encoded: ctranslate2.StorageView, rows: Sequence[int]) -> ctranslate2.StorageView:
    """Some windows of a batch, as a batch."""
    if len(rows) == encoded.shape[0]:
        return encoded
    return ctranslate2.StorageView.from_array(np.ascontiguousarray(np.asarray(encoded)[rows]))


def _best(attempts: list[Said]) -> Said:
    """The one that is believed or, if none is, the most probable that does not repeat itself."""
    if attempts[-1].believed:
        return attempts[-1]
    candidates = [a for a in attempts if not a.repetitive] or attempts
    return max(candidates, key=lambda a: a.mean_log_probability)


def _compression_ratio(text: str) -> float:
    plain = text.encode()
    return len(plain) / len(zlib.compress(plain))
