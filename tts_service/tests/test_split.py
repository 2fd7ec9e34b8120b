"""From a text to the pieces that are spoken: sentences whole, the first piece short."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tts_service.app.text.segmenter import (
    FIRST_PIECE_CHARS,
    MAX_PIECE_CHARS,
    MIN_CLAUSE_CHARS,
    split,
)


def spoken(text: str) -> list[str]:
    return [piece.text for piece in split(text)]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Dr. Smith paid $3.50. He left.", ["Dr. Smith paid $3.50.", "He left."]),
        ("Is it 5.30 p.m. yet? No!", ["Is it 5.30 p.m. yet?", "No!"]),
        ("J. R. Ewing of the U.S. won. Yes.", ["J. R. Ewing of the U.S. won.", "Yes."]),
        ('"Go," he said. "Now."', ['"Go," he said.', '"Now."']),
        ("One\n\nTwo", ["One", "Two"]),
        ("A line\nthat goes on.", ["A line that goes on."]),
    ],
)
def test_sentences_end_where_a_reader_ends_them(text: str, sentences: list[str]) -> None:
    assert spoken(text) == sentences


def test_a_short_text_is_one_piece() -> None:
    assert spoken("Hello world") == ["Hello world"]


def test_the_first_piece_of_a_long_sentence_is_a_clause() -> None:
    text = "When the rain had stopped, the children went out to play in the garden again."
    pieces = split(text)
    assert pieces[0].text == "When the rain had stopped,"
    assert (pieces[0].opens, pieces[0].closes) == (True, False)
    assert (pieces[1].opens, pieces[1].closes) == (False, True)


def test_it_stays_whole_for_a_voice_that_streams() -> None:
    text = "When the rain had stopped, the children went out to play in the garden again."
    assert [piece.text for piece in split(text, short_first=False)] == [text]


def test_without_a_comma_it_is_cut_before_a_word_that_opens_a_phrase() -> None:
    first, rest = spoken("The old man who lived beside the river sold his boat to a stranger.")
    assert first == "The old man who lived beside the river sold"[: len(first)]
    assert rest.split()[0] in ("who", "to")


def test_later_sentences_stay_whole() -> None:
    second = "Then, when all was done, and nobody was left, she closed the heavy door behind her."
    assert spoken(f"It was late. {second}") == ["It was late.", second]


def test_numbers_are_not_cut_at_their_commas() -> None:
    pieces = spoken("The town of Ashford has 1,234,567 inhabitants and 3,500 trees in its streets.")
    assert any("1,234,567" in piece for piece in pieces)


def test_soft_hyphens_and_joiners_do_not_part_words_and_controls_do() -> None:
    assert spoken("co\u00adoperate") == ["cooperate"]
    assert spoken("one\u200btwo\x00three\x07four") == ["one two three four"]
    assert spoken("lost\ufffdhalf") == ["lost half"]


@pytest.mark.parametrize("text", ["", " ", "\n\t\r\n", "\x00\x01", "\u200b\u2060", "\ufffd"])
def test_nothing_is_nothing(text: str) -> None:
    assert [piece for piece in spoken(text) if piece] == []


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=600))
def test_pieces_are_in_order_bounded_and_leave_no_word_out(text: str) -> None:
    end = 0
    for piece in split(text):
        assert not any(c.isalnum() for c in text[end : piece.start])
        assert end <= piece.start < piece.end <= len(text)
        assert len(piece.text) <= MAX_PIECE_CHARS
        end = piece.end
    assert not any(c.isalnum() for c in text[end:])


WORDS = st.sampled_from(["and", "the", "river", "boat,", "of", "3.5", "gone"])


@settings(deadline=None)
@given(st.lists(WORDS, min_size=30))
def test_the_first_piece_is_short_where_a_clause_allows_it(words: list[str]) -> None:
    text = " ".join(words)
    first = split(text)[0]
    if "," in text[MIN_CLAUSE_CHARS : FIRST_PIECE_CHARS - 1]:
        assert MIN_CLAUSE_CHARS <= len(first.text) <= FIRST_PIECE_CHARS
