"""Text that comes bit by bit is cut as soon as it can be, and alike however it came."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tts_service.app.text.segmenter import FIRST_PIECE_CHARS, MAX_PIECE_CHARS, Piece, Segmenter

PROSE = [
    "Dr. Smith paid $3.50 to J. R. Ewing. He left! ",
    "Is it 5.30 p.m. yet? Then the U.S. won... or not. ",
    '"Go," he said. "Now!" she cried. ',
    "(He left.) She stayed. ",
    "It costs 1,000,000.5 dollars, doesn't it? ",
    "One line\n\nand a paragraph. \n",
    "Wait... What?! e.g. this, etc. Well. ",
    "The old man who lived beside the river with a dog and a cat sold his boat to a stranger ",
    "When the rain had stopped, the children went out. ",
    "no end at all and " * 12,
    "😀 “Quoted.” Said who? [See Fig. 3.] ",
]


def cut(chunks: list[str], *, short_first: bool = True) -> list[Piece]:
    segmenter = Segmenter(short_first=short_first)
    pieces = [piece for chunk in chunks for piece in segmenter.push(chunk)]
    return pieces + list(segmenter.flush())


def has_words(text: str) -> bool:
    return any(c.isalnum() for c in text)


def chunked(text: str, places: list[int]) -> list[str]:
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[a:b] for a, b in pairwise(edges)]


def sentences(text: str) -> list[str]:
    joined: list[str] = []
    for piece in cut([text], short_first=False):
        joined = [*joined, piece.text] if piece.opens else [*joined[:-1], joined[-1] + piece.text]
    return joined


TEXTS = st.lists(st.sampled_from(PROSE) | st.text(max_size=40), max_size=8).map("".join)


@settings(max_examples=100, deadline=None)
@given(text=TEXTS, places=st.lists(st.integers(0, 2000), max_size=40), short=st.booleans())
def test_the_cuts_are_those_of_the_text_however_it_comes(
    text: str, places: list[int], short: bool
) -> None:
    whole = cut([text], short_first=short)
    assert cut(chunked(text, places), short_first=short) == whole
    assert cut(list(text), short_first=short) == whole


@settings(max_examples=80, deadline=None)
@given(
    text=TEXTS,
    places=st.lists(st.integers(0, 2000), max_size=12),
    decisions=st.lists(st.sampled_from(["", "flush", "pause"]), min_size=14, max_size=14),
)
def test_pieces_are_the_text_whole_and_in_order(
    text: str, places: list[int], decisions: list[str]
) -> None:
    segmenter = Segmenter(short_first=True)
    pieces: list[Piece] = []
    came = 0
    for chunk, decision in zip(chunked(text, places), decisions, strict=False):
        pieces += segmenter.push(chunk)
        came += len(chunk)
        if decision:
            pieces += segmenter.flush() if decision == "flush" else segmenter.pause()
            said = pieces[-1].end if pieces else 0
            assert not has_words(text[said:came])
    pieces += segmenter.flush()
    at = 0
    for piece in pieces:
        assert not has_words(text[at : piece.start])
        assert at <= piece.start < piece.end <= len(text)
        assert len(piece.text) <= MAX_PIECE_CHARS
        at = piece.end
    assert not has_words(text[at:])
    assert all(b.opens for a, b in pairwise(pieces) if a.closes)
    assert all(a.closes for a, b in pairwise(pieces) if b.opens and "flush" not in decisions)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Dr. Smith paid $3.50. He left.", ["Dr. Smith paid $3.50.", "He left."]),
        ("It is 5 p.m. Then we go.", ["It is 5 p.m.", "Then we go."]),
        ("It is 5 p.m. yet?", ["It is 5 p.m. yet?"]),
        ("The U.S. Then he won.", ["The U.S.", "Then he won."]),
        ("J. R. Ewing won.", ["J. R. Ewing won."]),
        ("Version 3.5 is out.", ["Version 3.5 is out."]),
        ("Wait... what? No!", ["Wait... what?", "No!"]),
        ("Wait... What?! No.", ["Wait...", "What?!", "No."]),
        ('"Go!" she cried. "Now." He left.', ['"Go!" she cried.', '"Now."', "He left."]),
        ('He said "Go." Then he left.', ['He said "Go."', "Then he left."]),
        ("He left. “Then what?” Nobody knew.", ["He left.", "“Then what?”", "Nobody knew."]),
        ("(It rained.) She left [early.] Then.", ["(It rained.) She left [early.] Then."]),
        ("A heading\n\nA line\nthat goes on.", ["A heading", "A line that goes on."]),
        ("No more. ", ["No more."]),
    ],
)
def test_sentences_end_where_a_reader_ends_them(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


@pytest.mark.parametrize(
    ("before", "shows_it"),
    [
        ("It is over.", " Th"),
        ("It is over. ", "Th"),
        ('He said "Go."', " Th"),
        ("He left the U.S.", " Then "),
        ("Is it?", '\n"Ye'),
        ("A heading\n", "\n"),
    ],
)
def test_an_end_is_certain_when_what_follows_shows_it(before: str, shows_it: str) -> None:
    segmenter = Segmenter(short_first=True)
    assert list(segmenter.push(before)) == []
    assert list(segmenter.push(shows_it[:-1])) == []
    (piece,) = segmenter.push(shows_it[-1])
    assert piece.text == before.strip()
    assert (piece.opens, piece.closes) == (True, True)


def test_the_first_piece_is_a_clause_at_once() -> None:
    segmenter = Segmenter(short_first=True)
    assert list(segmenter.push("When the rain had stopped")) == []
    (piece,) = segmenter.push(",")
    assert (piece.text, piece.opens, piece.closes) == ("When the rain had stopped,", True, False)
    assert list(segmenter.push(" the children went out, and then")) == []
    (rest,) = segmenter.flush()
    assert (rest.text, rest.opens) == ("the children went out, and then", False)


def test_a_comma_in_a_number_ends_no_clause() -> None:
    segmenter = Segmenter(short_first=True)
    assert list(segmenter.push("The town of Ashford has 1,234 trees")) == []


def test_without_a_comma_the_first_piece_ends_before_a_word_that_opens_a_phrase() -> None:
    first, *_ = cut(["The old man who lived beside the river sold his boat to a stranger."])
    assert len(first.text) <= FIRST_PIECE_CHARS
    assert first.text.split()[-1] in ("man", "sold", "boat", "river")


def test_a_pause_speaks_what_is_there_and_the_sentence_goes_on() -> None:
    segmenter = Segmenter(short_first=True)
    assert list(segmenter.push("Let me think")) == []
    (held,) = segmenter.pause()
    assert (held.text, held.opens, held.closes) == ("Let me think", True, False)
    assert list(segmenter.pause()) == []
    assert list(segmenter.push(" about it.")) == []
    (rest,) = segmenter.pause()
    assert (rest.text, rest.opens, rest.closes) == ("about it.", False, True)
    assert (rest.start, rest.end) == (13, 22)


@pytest.mark.parametrize(
    ("text", "closes"), [("So says Dr.", False), ("It is over.", True), ('"Yes!"', True)]
)
def test_a_pause_behind_an_abbreviation_ends_no_sentence(text: str, closes: bool) -> None:
    segmenter = Segmenter(short_first=True)
    (piece,) = [*segmenter.push(text), *segmenter.pause()]
    assert piece.closes is closes


def test_a_flush_ends_the_sentence() -> None:
    segmenter = Segmenter(short_first=True)
    (piece,) = [*segmenter.push("So says Dr."), *segmenter.flush()]
    assert piece.closes
    (following,) = [*segmenter.push("Smith"), *segmenter.flush()]
    assert following.opens


def test_what_is_kept_of_an_endless_text_is_bounded() -> None:
    segmenter = Segmenter(short_first=True)
    for _ in range(3000):
        list(segmenter.push("a. b.c, "))
        assert len(segmenter._text) < 1000
