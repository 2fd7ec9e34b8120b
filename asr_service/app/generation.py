"""From encoded windows to tokens: what Whisper says, and what is believed of it.

A window whose text repeats itself or is improbable is generated again with sampling, as Whisper's
authors do (Radford et al. 2022, section 4.5; thresholds as in faster-whisper). The worst case is
bounded: there are `len(TEMPERATURES)` attempts, and none is longer than a fast speaker could be.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import ctranslate2
import numpy as np
from faster_whisper.tokenizer import Tokenizer

TEMPERATURES = (0.0, 0.4, 0.8)
BEST_OF = 5
"""Samples drawn at a temperature above 0, of which the most probable counts."""
MAX_COMPRESSION_RATIO = 2.4
MIN_MEAN_LOG_PROBABILITY = -1.0
MAX_NO_SPEECH_PROBABILITY = 0.6
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
        return self.improbable and self.no_speech_probability > MAX_NO_SPEECH_PROBABILITY

    @property
    def believed(self) -> bool:
        return self.nothing or not (self.improbable or self.repetitive)


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
        attempts: dict[int, list[Said]] = {row: [] for row in range(encoded.shape[0])}
        max_tokens = TOKENS_AT_LEAST + int(TOKENS_PER_SECOND * seconds)
        for temperature in TEMPERATURES:
            rows = [row for row in attempts if wanted(row)]
            if not rows:
                return
            said = self._attempt(
                rows_of(encoded, rows),
                [prompt] * len(rows),
                max_length=min(MAX_LENGTH, max(2 * max_tokens, len(prompt) + max_tokens)),
                beam_size=beam_size,
                temperature=temperature,
            )
            for row, attempt in zip(rows, said, strict=True):
                attempts[row].append(attempt)
            is_last = temperature == TEMPERATURES[-1]
            settled = [row for row in rows if attempts[row][-1].believed or is_last]
            if settled:
                yield {row: _best(attempts.pop(row)) for row in settled}

    def _attempt(
        self,
        encoded: ctranslate2.StorageView,
        prompts: list[list[int]],
        *,
        max_length: int,
        beam_size: int,
        temperature: float,
    ) -> list[Said]:
        sampling = {"num_hypotheses": BEST_OF, "sampling_topk": 0}
        results = self._model.generate(
            encoded,
            prompts,
            beam_size=1 if temperature else beam_size,
            sampling_temperature=temperature,
            # Half of it, at most, is for the text: such is the decoder's own rule.
            max_length=max_length,
            return_scores=True,
            return_no_speech_prob=True,
            suppress_tokens=self._suppressed,
            max_initial_timestamp_index=MAX_INITIAL_TIMESTAMP_INDEX,
            **(sampling if temperature else {}),
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
