"""From a user's text to the pieces that a voice speaks one after another.

Sentences are found by sentencex, which knows abbreviations, initials and decimals. The first piece
of a text is cut short, at a clause, where the voice has nothing to give before a piece is done;
other pieces are whole sentences, and only one too long for a bounded step is cut. Offsets always
point into the text as it was given.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from itertools import pairwise

import sentencex

FIRST_PIECE_CHARS = 45
"""A first piece is cut if it is longer. About 40 ms of work for the embedded voice."""
MIN_CLAUSE_CHARS = 12
"""No cut leaves less than this on either side: a lone word sounds chopped."""
MAX_PIECE_CHARS = 140
"""Longest piece: about 10 s of speech, and under 200 ms of work for the embedded voice."""

_CLAUSE_END = re.compile(r"[,;:)\]\u2013\u2014][\"'\u201d\u2019]*(?=\s)")
# Where English lets a speaker take breath without a comma: before a word that opens a phrase.
_PHRASE_START = re.compile(
    r"\s(?=(?:and|or|but|because|although|while|when|where|which|who|that|if|so|then|than|"
    r"with|without|from|into|over|under|for|to|in|on|at|by|of)\s)",
    re.IGNORECASE,
)
_SPACE = re.compile(r"\s")


_DROPPED = "\u2060"
_BLANK = {"Cc": " ", "Co": " ", "Cn": " ", "Cs": " ", "Cf": _DROPPED}
_KEPT = "\n\r\t"
_BLANKED = str.maketrans({"\N{REPLACEMENT CHARACTER}": " ", "\u200b": " "})


@dataclass(frozen=True)
class Piece:
    """`text` is what is spoken; `start` and `end` are its offsets in the text as given."""

    text: str
    start: int
    end: int
    opens: bool = True
    """It begins a sentence."""
    closes: bool = True
    """It ends a sentence."""


def clean(text: str) -> str:
    """`text` with what cannot be spoken blanked out, character for character.

    Control and private-use characters, unassigned code points and the replacement character become
    spaces. Format characters (soft hyphens, joiners, direction marks), which stand inside words,
    become word joiners, which `split` then drops. Line ends and tabs are kept.
    """
    text = text.translate(_BLANKED)
    return "".join(c if c in _KEPT else _BLANK.get(unicodedata.category(c), c) for c in text)


def split(text: str, *, short_first: bool = True) -> list[Piece]:
    """The pieces of `text`, in order; none for a text of nothing but space.

    With `short_first` the first one is a clause, for voices that make a piece in one step.
    """
    text = clean(text)
    pieces: list[Piece] = []
    for boundary in sentencex.get_sentence_boundaries("en", text):
        start, end = _strip(text, boundary["start_index"], boundary["end_index"])
        if start < end:
            limit = FIRST_PIECE_CHARS if short_first and not pieces else MAX_PIECE_CHARS
            pieces += cut_sentence(text, start, end, first_limit=limit)
    return pieces


def _strip(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end


def cut_sentence(text: str, start: int, end: int, *, first_limit: int) -> list[Piece]:
    """One sentence, cut where it is longer than a piece may be."""
    cuts, limit = [start], first_limit
    while end - cuts[-1] > limit:
        cut = best_cut(text, cuts[-1], end, limit)
        if cut is None and limit == MAX_PIECE_CHARS:
            cut = cuts[-1] + limit
        if cut is not None:
            cuts.append(cut)
        limit = MAX_PIECE_CHARS
    edges = [*cuts, end]
    pieces = []
    for a, b in pairwise(edges):
        a, b = _strip(text, a, b)
        spoken = " ".join(text[a:b].replace(_DROPPED, "").split())
        pieces.append(Piece(spoken, a, b, opens=a == start, closes=b == end))
    return pieces


def best_cut(text: str, start: int, end: int, limit: int) -> int | None:
    """The last clause end within `limit`, else the last phrase start, else the last space.

    A first piece is not cut at a mere space: it is short for the sake of speed, not because it
    must be.
    """
    low, high = start + MIN_CLAUSE_CHARS, min(start + limit, end - MIN_CLAUSE_CHARS)
    patterns = [_CLAUSE_END, _PHRASE_START]
    if limit == MAX_PIECE_CHARS:
        patterns.append(_SPACE)
    for pattern in patterns:
        places = [m.end() for m in pattern.finditer(text, start, end) if low <= m.end() <= high]
        if places:
            return places[-1]
    return None
