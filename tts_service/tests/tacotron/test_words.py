"""Word times from the path of the attention."""

from __future__ import annotations

from tts_service.app.engines.base import WordTime
from tts_service.app.engines.tacotron.words import word_times


def test_a_word_begins_where_its_first_letter_is_reached() -> None:
    path = [0, 0, 1, 2, 3, 3, 4, 5]
    times = word_times("ab cd.", path, lambda step: step * 10, 80)
    assert times == [WordTime("ab", 0, 40), WordTime("cd.", 40, 80)]


def test_blanks_between_symbols_belong_to_no_word() -> None:
    characters = ("", "a", "", "b", "", " ", "", "c", "")
    times = word_times(characters, list(range(9)), lambda step: step, 9)
    assert times == [WordTime("ab", 1, 7), WordTime("c", 7, 9)]


def test_words_that_were_never_reached_have_no_time() -> None:
    times = word_times("ab cd ef", [0, 1, 2, 3], lambda step: step, 4)
    assert [t.word for t in times] == ["ab", "cd"]


def test_nothing_spoken_has_no_words() -> None:
    assert word_times("ab", [], lambda step: step, 0) == []
