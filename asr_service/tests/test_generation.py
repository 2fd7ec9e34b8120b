"""Which hypotheses are accepted, and what is tried when one is rejected."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import ctranslate2
import numpy as np
import pytest

from asr_service.app.generation import WIDE_BEAM, Generator, Hypothesis

GOOD, IMPROBABLE, REPETITIVE = "as it was said", "mumbled", "again and " * 40
PROMPT = [7]


@dataclass
class Result:
    sequences_ids: list[list[int]]
    scores: list[float]
    no_speech_prob: float = 0.0


@dataclass
class Model:
    """Says a text for each window, which its first value picks, by the beam that is asked for."""

    texts: list[dict[int, str]]
    """By window: what a beam of that size says."""
    without_repeats: str = GOOD
    asked: list[tuple[int, list[int]]] = field(default_factory=list)
    """Beams, and the windows that they were used on."""

    def generate(
        self, encoded: ctranslate2.StorageView, prompts: list[list[int]], **options: Any
    ) -> list[Result]:
        windows = [int(value) for value in np.asarray(encoded)[:, 0, 0]]
        assert prompts == [PROMPT] * len(windows)
        beam = options["beam_size"]
        self.asked.append((beam, windows))
        unrepeating = options["no_repeat_ngram_size"] > 0
        made = [self.without_repeats if unrepeating else self.texts[w][beam] for w in windows]
        return [Result([list(t.encode())], [-2.0 if t == IMPROBABLE else -0.1]) for t in made]


class Tokenizer:
    def decode(self, tokens: list[int]) -> str:
        return bytes(tokens).decode()


def generated(model: Model, *, beam_size: int = 1, unwanted: int = -1) -> list[dict[int, str]]:
    encoded = np.arange(len(model.texts), dtype=np.float32).reshape(-1, 1, 1)
    as_any: Any = model
    tokenizer: Any = Tokenizer()
    found = Generator(as_any, tokenizer, []).generate(
        ctranslate2.StorageView.from_array(encoded),
        PROMPT,
        seconds=3,
        beam_size=beam_size,
        wanted=lambda row: row != unwanted,
    )
    return [{row: bytes(s.tokens).decode() for row, s in part.items()} for part in found]


def test_an_accepted_hypothesis_is_not_generated_again() -> None:
    model = Model([{1: GOOD}, {1: GOOD}])
    assert generated(model) == [{0: GOOD, 1: GOOD}]
    assert model.asked == [(1, [0, 1])]


def test_only_improbable_text_is_tried_with_a_wider_beam() -> None:
    model = Model([{1: GOOD}, {1: IMPROBABLE, WIDE_BEAM: GOOD}, {1: GOOD}])
    assert generated(model) == [{0: GOOD, 2: GOOD}, {1: GOOD}]
    assert model.asked == [(1, [0, 1, 2]), (WIDE_BEAM, [1])]


def test_repetitive_text_is_at_last_generated_without_repetition() -> None:
    model = Model([{1: REPETITIVE, WIDE_BEAM: REPETITIVE}])
    assert generated(model) == [{0: GOOD}]
    assert [beam for beam, _ in model.asked] == [1, WIDE_BEAM, WIDE_BEAM]


@pytest.mark.parametrize("beam_size", [1, WIDE_BEAM, WIDE_BEAM + 1])
def test_attempts_are_bounded(beam_size: int) -> None:
    model = Model([dict.fromkeys((1, WIDE_BEAM, WIDE_BEAM + 1), REPETITIVE)], REPETITIVE)
    assert generated(model, beam_size=beam_size) == [{0: REPETITIVE}]
    assert len(model.asked) <= 3


def test_cancelled_windows_are_not_generated() -> None:
    model = Model([{1: GOOD}, {1: GOOD}])
    assert generated(model, unwanted=0) == [{1: GOOD}]
    assert model.asked == [(1, [1])]
    assert generated(Model([{}]), unwanted=0) == []


def test_an_improbable_text_where_nobody_speaks_is_no_text() -> None:
    assert Hypothesis([], -1.5, 1.0, 0.9).no_speech
    assert not Hypothesis([], -0.5, 1.0, 0.9).no_speech
    assert not Hypothesis([], -1.5, 1.0, 0.2).no_speech
