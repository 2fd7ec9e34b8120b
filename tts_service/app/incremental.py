"""Cuts a text that is still being written into pieces, each as soon as it is certain.

The cuts are those of the text, not of the messages it came in: each is decided by a stretch of the
text that ends at a place which the text alone defines, and of two possible cuts the one that was
certain first is made. Where a dot ends a sentence is asked of sentencex, with what follows the dot
up to the first letters of the next word; a place whose dot may belong to an abbreviation needs the
whole next word. What is neither a sentence nor a clause yet waits for more, for `finish`, or for
somebody's decision not to wait longer (`flush`, `pause`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import sentencex

from tts_service.app.text import (
    FIRST_PIECE_CHARS,
    MAX_PIECE_CHARS,
    MIN_CLAUSE_CHARS,
    Piece,
    best_cut,
    clean,
    cut_sentence,
)

CONTEXT_CHARS = 160
"""Before a possible end, for sentencex: more than a piece, so that the work for each is bounded."""

_CLOSERS = r"[\"'”’)\]»]*"
_OPENERS = r"[\"'“‘«(\[]*"
_POSSIBLE_END = re.compile(rf"[.!?。！？…]+{_CLOSERS}(?=\s)|\n[^\S\n]*\n")
_GAP = re.compile(rf"\s*{_OPENERS}")
_WORD = re.compile(r"[^\W_]+")
# A comma behind a letter ends a clause whatever follows; the others might stand in 1,000 or http:.
_CLAUSE_END = re.compile(rf"(?<=[^\W\d_])[,;]|[,;:)\]\u2013\u2014]{_CLOSERS}(?=\s)")
_HELD_BACK = re.compile(rf"[.!?。！？…]{_CLOSERS}\s*$")


@dataclass(frozen=True)
class _Cut:
    at: int
    certain_at: int
    """How much of the text had to be known."""
    closes: bool


class IncrementalSplitter:
    """Takes a text bit by bit, gives its `Piece`s; their offsets are those of the whole text.

    `short_first` is as in `tts_service.app.text.split`. Each method's iterator is to be exhausted
    before the next is called.
    """

    def __init__(self, *, short_first: bool) -> None:
        self._short_first = short_first
        self._text = ""
        self._dropped = 0
        """Characters before `_text` that are not needed any more."""
        # Places in `_text`.
        self._sentence = 0
        self._start = 0
        self._scanned = 0
        """No sentence ends before it."""
        self._opens = True
        self._limit = FIRST_PIECE_CHARS if short_first else MAX_PIECE_CHARS

    def push(self, text: str) -> Iterator[Piece]:
        """The pieces that `text` makes certain."""
        self._text += clean(text)
        while (cut := self._next_cut()) is not None:
            yield from self._take(cut.at, closes=cut.closes)
        self._forget()

    def flush(self) -> Iterator[Piece]:
        """All that is left, as if a sentence ended here; also what to do at the end of a text."""
        yield from self._rest(closes=True)

    def pause(self) -> Iterator[Piece]:
        """All that is left; the sentence goes on, unless it looks like being at its end."""
        yield from self._rest(closes=self._looks_ended())

    # --- the next cut ---

    def _next_cut(self, *, complete: bool = False) -> _Cut | None:
        while self._start < len(self._text) and self._text[self._start].isspace():
            self._start += 1
        known = [self._sentence_end(complete), self._first_clause(), self._forced()]
        return min((cut for cut in known if cut), key=lambda cut: cut.certain_at, default=None)

    def _first_clause(self) -> _Cut | None:
        if self._limit != FIRST_PIECE_CHARS:
            return None
        low, high = self._start + MIN_CLAUSE_CHARS, self._start + FIRST_PIECE_CHARS
        for match in _CLAUSE_END.finditer(self._text, self._start):
            if match.end() > high:
                return None
            if match.end() >= low:
                needs_space = match.group()[-1] not in ",;" or not _after_letter(match)
                return _Cut(match.end(), match.end() + needs_space, closes=False)
        return None

    def _forced(self) -> _Cut | None:
        """Where a sentence is cut that is longer than a piece may be."""
        for limit in sorted({self._limit, MAX_PIECE_CHARS}):
            certain_at = self._start + limit + MIN_CLAUSE_CHARS
            if certain_at > len(self._text):
                return None
            at = best_cut(self._text, self._start, certain_at, limit)
            if at is not None or limit == MAX_PIECE_CHARS:
                return _Cut(at or self._start + limit, certain_at, closes=False)
        return None

    def _sentence_end(self, complete: bool) -> _Cut | None:
        for match in _POSSIBLE_END.finditer(self._text, max(self._start, self._scanned)):
            cut = self._judge(match, complete)
            if isinstance(cut, _Cut):
                return cut
            if cut is None:  # too early to say, and so for all behind it
                return None
            self._scanned = match.end()
        return None

    def _judge(self, match: re.Match[str], complete: bool) -> _Cut | bool | None:
        """The cut at a possible end; False if it is none, None if that is not certain yet."""
        end = match.end()
        if not match.group().strip():
            return _Cut(end, end, closes=True)
        gap = _GAP.match(self._text, end)
        assert gap is not None
        if "\n" in (paragraph := gap.group()) and paragraph.count("\n") > 1:
            second = [i for i, c in enumerate(paragraph) if c == "\n"][1]
            return _Cut(end, end + second + 1, closes=True)
        word = gap.end()
        known = len(self._text) if complete else len(self._text) - 1
        if word + 1 > known:
            return None
        if self._is_end(match.start(), end, word, word + 2):
            return _Cut(end, word + 2, closes=True)
        whole = _WORD.match(self._text, word)
        word_end = whole.end() if whole else word + 1
        if word_end > known:
            return None
        if self._is_end(match.start(), end, word, word_end):
            return _Cut(end, word_end + 1, closes=True)
        return False

    def _is_end(self, mark: int, end: int, word: int, word_end: int) -> bool:
        """Whether sentencex sees an end, where `self._text[word:word_end]` is what follows.

        Quotes that open behind the gap are left out: it would take them for closing ones.
        """
        start = max(self._sentence, end - CONTEXT_CHARS)
        return _ends_in(
            f"{self._text[start:end]} {self._text[word:word_end]}", mark - start + 1, end - start
        )

    def _looks_ended(self) -> bool:
        held = _HELD_BACK.search(self._text, self._start)
        if held is None:
            return False
        end = len(self._text.rstrip())
        start = max(self._sentence, end - CONTEXT_CHARS)
        # As if a word followed that begins with a capital.
        return _ends_in(f"{self._text[start:end]} Th", held.start() - start + 1, end - start)

    # --- taking pieces ---

    def _take(self, at: int, *, closes: bool) -> list[Piece]:
        pieces = self._pieces(self._start, at, closes=closes)
        self._start = at
        if closes:
            self._sentence = at
        self._scanned = max(self._scanned, at)
        return pieces

    def _rest(self, *, closes: bool) -> Iterator[Piece]:
        while (cut := self._next_cut(complete=True)) is not None and cut.at < len(self._text):
            if not self._text[cut.at :].strip():
                break
            yield from self._take(cut.at, closes=cut.closes)
        yield from self._take(len(self._text), closes=closes)
        self._forget()

    def _pieces(self, start: int, end: int, *, closes: bool) -> list[Piece]:
        while end > start and self._text[end - 1].isspace():
            end -= 1
        while start < end and self._text[start].isspace():
            start += 1
        if start == end:
            if closes:
                self._opens = True
            return []
        pieces = [
            replace(piece, start=piece.start + self._dropped, end=piece.end + self._dropped)
            for piece in cut_sentence(self._text, start, end, first_limit=self._limit)
        ]
        pieces[0] = replace(pieces[0], opens=self._opens)
        pieces[-1] = replace(pieces[-1], closes=closes)
        self._opens = closes
        self._limit = MAX_PIECE_CHARS
        return pieces

    def _forget(self) -> None:
        """Keep of the text only what later decisions are made on."""
        keep = max(self._sentence, self._start - CONTEXT_CHARS, 0)
        self._text = self._text[keep:]
        self._dropped += keep
        self._sentence = max(0, self._sentence - keep)
        self._start -= keep
        self._scanned = max(0, self._scanned - keep)


def _after_letter(match: re.Match[str]) -> bool:
    return match.string[match.start() - 1].isalpha()


def _ends_in(text: str, low: int, high: int) -> bool:
    """Whether sentencex finds an end of a sentence from `low` to behind the space at `high`."""
    return any(
        low <= boundary["end_index"] <= high + 1
        for boundary in sentencex.get_sentence_boundaries("en", text)
        if boundary["end_index"] < len(text)
    )
