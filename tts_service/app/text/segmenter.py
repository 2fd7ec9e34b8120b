"""Cuts a text, whole or still being written, into pieces: sentences, and clauses of long ones.

The cuts are those of the text and not of the messages that it came in: each is decided by a stretch
of the text that ends at a place which the text alone defines, and of two possible cuts the one that
was certain first is made. So a whole text is one that was pushed and flushed.

Where a dot ends a sentence is asked of sentencex, which knows abbreviations, initials and decimals,
with what follows the dot up to the first letters of the next word; a dot that may belong to an
abbreviation needs the whole next word. The first piece of a text is cut short, at a clause, where
the voice has nothing to give before a piece is done. What is neither a sentence nor a clause yet
waits for more text, for the end of the text, or for a decision not to wait longer (`flush`,
`pause`).

The work is linear in the text: no decision looks further than `WINDOW_CHARS` ahead or
`CONTEXT_CHARS` back.
"""

from __future__ import annotations

import re
import unicodedata
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from itertools import pairwise

import sentencex

FIRST_PIECE_CHARS = 45
"""A first piece is cut if it is longer. About 40 ms of work for the embedded voice."""
FIRST_CLAUSE_CHARS = 16
"""The least that a first clause has which is cut before its sentence is known: more than "Good
afternoon,", which would sound chopped alone, and no more, since a longer one is heard later."""
MIN_CLAUSE_CHARS = 12
"""No cut leaves less than this on either side: a lone word sounds chopped."""
MAX_PIECE_CHARS = 140
"""Longest piece: about 10 s of speech, and under 200 ms of work for the embedded voice."""
WINDOW_CHARS = MAX_PIECE_CHARS + MIN_CLAUSE_CHARS
"""Behind the start of a piece: by then it is cut, whatever follows."""
CONTEXT_CHARS = 160
"""Before a possible end, for sentencex."""

_CLOSERS = r"[\"'”’)\]»]*"
_OPENERS = r"[\"'“‘«(\[]*"
_POSSIBLE_END = re.compile(rf"[.!?。！？…]+{_CLOSERS}(?=\s)|\n[^\S\n]*\n")
_GAP = re.compile(rf"\s*{_OPENERS}")
_WORD = re.compile(r"[^\W_]+")
_LOOKS_ENDED = re.compile(rf"[.!?。！？…]{_CLOSERS}\s*$")
# A comma behind a letter ends a clause whatever follows; the others might stand in 1,000 or http:.
_FIRST_CLAUSE_END = re.compile(rf"(?<=[^\W\d_])[,;]|[,;:)\]\u2013\u2014]{_CLOSERS}(?=\s)")
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


def split(text: str, *, short_first: bool = True) -> list[Piece]:
    """The pieces of a whole text, in order; none for a text of nothing but space."""
    segmenter = Segmenter(short_first=short_first)
    return [*segmenter.push(text), *segmenter.flush()]


@dataclass(frozen=True)
class _Cut:
    at: int
    certain_at: int
    """How much of the text had to be known."""
    closes: bool


class Segmenter:
    """Takes a text bit by bit, gives its `Piece`s; their offsets are those of the whole text.

    With `short_first` the first piece is a clause, for voices that make a piece in one step. Each
    method's iterator is to be exhausted before the next is called.
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
        self.examined_chars = 0
        """What the expressions and sentencex have been given so far: a measure of the work."""

    def push(self, text: str) -> Iterator[Piece]:
        """Give the pieces that `text` makes certain."""
        self._text += _clean(text)
        while (cut := self._next_cut()) is not None:
            yield from self._take(cut.at, closes=cut.closes)
        self._forget()

    def flush(self) -> Iterator[Piece]:
        """Give all that is left, as if a sentence ended here; so does the end of a text."""
        yield from self._rest(closes=True)

    def pause(self) -> Iterator[Piece]:
        """Give all that is left; the sentence goes on, unless it looks like being at its end."""
        yield from self._rest(closes=self._looks_ended())

    # --- the next cut ---

    def _next_cut(self, *, complete: bool = False) -> _Cut | None:
        while self._start < len(self._text) and self._text[self._start].isspace():
            self._start += 1
        known = [self._sentence_end(complete), self._first_clause(), self._forced()]
        return min((cut for cut in known if cut), key=lambda cut: cut.certain_at, default=None)

    def _window(self, chars: int) -> int:
        """The end of what is looked at from the start of the next piece."""
        end = min(self._start + chars, len(self._text))
        self.examined_chars += max(end - self._start, 0)
        return end

    def _first_clause(self) -> _Cut | None:
        if self._limit != FIRST_PIECE_CHARS:
            return None
        low, high = self._start + FIRST_CLAUSE_CHARS, self._start + FIRST_PIECE_CHARS
        window = self._window(FIRST_PIECE_CHARS + 1)
        for match in _FIRST_CLAUSE_END.finditer(self._text, self._start, window):
            if low <= match.end() <= high:
                needs_space = match.group()[-1] not in ",;" or not _follows_letter(match)
                return _Cut(match.end(), match.end() + needs_space, closes=False)
        return None

    def _forced(self) -> _Cut | None:
        """Where a sentence is cut that is longer than a piece may be."""
        for limit in sorted({self._limit, MAX_PIECE_CHARS}):
            certain_at = self._start + limit + MIN_CLAUSE_CHARS
            if certain_at > len(self._text):
                return None
            self._window(limit + MIN_CLAUSE_CHARS)
            at = _best_cut(self._text, self._start, certain_at, limit)
            if at is not None or limit == MAX_PIECE_CHARS:
                return _Cut(at or self._start + limit, certain_at, closes=False)
        return None

    def _sentence_end(self, complete: bool) -> _Cut | None:
        window = self._window(WINDOW_CHARS + 1)
        for match in _POSSIBLE_END.finditer(self._text, max(self._start, self._scanned), window):
            cut = self._judge(match, window, complete)
            if isinstance(cut, _Cut):
                return cut
            if cut is None:  # too early to say, and so for all behind it
                return None
            self._scanned = match.end()
        return None

    def _judge(self, match: re.Match[str], window: int, complete: bool) -> _Cut | bool | None:
        """The cut at a possible end; False if it is none, None if that is not certain yet, or not
        before the piece is cut anyway."""
        end = match.end()
        if not match.group().strip():
            return _Cut(end, end, closes=True)
        gap = _GAP.match(self._text, end, window)
        assert gap is not None
        if (paragraph := gap.group()).count("\n") > 1:
            second = [i for i, c in enumerate(paragraph) if c == "\n"][1]
            return _Cut(end, end + second + 1, closes=True)
        word = gap.end()
        known = min(window, len(self._text) if complete else len(self._text) - 1)
        if word + 1 > known:
            return None
        if self._is_end(match.start(), end, word, word + 2):
            return _Cut(end, word + 2, closes=True)
        whole = _WORD.match(self._text, word, window)
        word_end = whole.end() if whole else word + 1
        if word_end > known or (word_end == window and window < len(self._text)):
            return None
        if self._is_end(match.start(), end, word, word_end):
            return _Cut(end, word_end + 1, closes=True)
        return False

    def _is_end(self, mark: int, end: int, word: int, word_end: int) -> bool:
        """Whether sentencex sees an end, where `self._text[word:word_end]` is what follows.

        Quotes that open behind the gap are left out: it would take them for closing ones.
        """
        return self._ends_in(mark, end, self._text[word:word_end])

    def _looks_ended(self) -> bool:
        held = _LOOKS_ENDED.search(self._text, self._start)
        if held is None:
            return False
        return self._ends_in(held.start(), len(self._text.rstrip()), "Th")

    def _ends_in(self, mark: int, end: int, following: str) -> bool:
        """Whether sentencex ends a sentence between `mark` and `end`, with `following` after it."""
        start = max(self._sentence, end - CONTEXT_CHARS)
        text = f"{self._text[start:end]} {following}"
        self.examined_chars += len(text)
        return any(
            mark - start + 1 <= boundary["end_index"] <= end - start + 1
            for boundary in sentencex.get_sentence_boundaries("en", text)
            if boundary["end_index"] < len(text)
        )

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
        start, end = _strip(self._text, start, end)
        if start == end:
            if closes:
                self._opens = True
            return []
        pieces = [
            replace(piece, start=piece.start + self._dropped, end=piece.end + self._dropped)
            for piece in _cut_sentence(self._text, start, end, first_limit=self._limit)
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


class TextEvent(Enum):
    """What may stand between bits of text, or between the pieces that they become."""

    FLUSH = "flush"
    """Speak what is there, as if a sentence ended here; among pieces: all before it was spoken."""
    PAUSE = "pause"
    """Nothing has come for long: speak what is there."""
    FINISH = "finish"
    """No more will come."""
    WAIT = "wait"
    """Among pieces: there is nothing to speak now, ask again when more text has come."""


class TextStream:
    """Bits of text and events, in order. `put` on the event loop, the rest on a worker thread."""

    def __init__(self) -> None:
        self._coming: deque[str | TextEvent] = deque()
        self.wake: Callable[[], None] = lambda: None
        """Called when something was put: whoever waits is to ask again."""

    @classmethod
    def whole(cls, text: str) -> TextStream:
        """A text that is complete already."""
        stream = cls()
        stream.put(text)
        stream.put(TextEvent.FINISH)
        return stream

    def put(self, event: str | TextEvent) -> None:
        self._coming.append(event)
        self.wake()

    def pieces(self, *, short_first: bool) -> Iterator[Piece | TextEvent]:
        """What can be spoken, as soon as it can, and `FLUSH` and `WAIT`; ends after `FINISH`."""
        segmenter = Segmenter(short_first=short_first)
        while True:
            if not self._coming:
                yield TextEvent.WAIT
                continue
            event = self._coming.popleft()
            if isinstance(event, str):
                yield from segmenter.push(event)
            elif event is TextEvent.PAUSE:
                if not self._coming:  # else it is over already
                    yield from segmenter.pause()
            else:
                yield from segmenter.flush()
                if event is TextEvent.FINISH:
                    return
                yield event


def _clean(text: str) -> str:
    """`text` with what cannot be spoken blanked out, character for character.

    Control and private-use characters, unassigned code points and the replacement character become
    spaces. Format characters (soft hyphens, joiners, direction marks), which stand inside words,
    become word joiners, which are dropped from pieces. Line ends and tabs are kept.
    """
    text = text.translate(_BLANKED)
    return "".join(c if c in _KEPT else _BLANK.get(unicodedata.category(c), c) for c in text)


def _strip(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end


def _cut_sentence(text: str, start: int, end: int, *, first_limit: int) -> list[Piece]:
    """One sentence, cut where it is longer than a piece may be."""
    cuts, limit = [start], first_limit
    while end - cuts[-1] > limit:
        cut = _best_cut(text, cuts[-1], end, limit)
        if cut is None and limit == MAX_PIECE_CHARS:
            cut = cuts[-1] + limit
        if cut is not None:
            cuts.append(cut)
        limit = MAX_PIECE_CHARS
    pieces = []
    for a, b in pairwise([*cuts, end]):
        a, b = _strip(text, a, b)
        spoken = " ".join(text[a:b].replace(_DROPPED, "").split())
        pieces.append(Piece(spoken, a, b, opens=a == start, closes=b == end))
    return pieces


def _best_cut(text: str, start: int, end: int, limit: int) -> int | None:
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


def _follows_letter(match: re.Match[str]) -> bool:
    return match.string[match.start() - 1].isalpha()
