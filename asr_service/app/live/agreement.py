"""Which words of changing hypotheses can be relied on: LocalAgreement-2.

Each hypothesis is a new recognition of a buffer that has grown meanwhile. Words that two of them in
a row begin with are agreed (Liu, Spanakis, Niehues 2020; for Whisper: Macháček, Dabre, Bojar 2023)
and never change again: what a client was shown as stable is a prefix of all that it is shown later.
Words are compared without case and punctuation. Nothing here computes on audio.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from common.protocol.recognition import Segment

_TRAILING = re.compile(r"[\W_]+$")
_ECHO_MS = 300
"""A buffer that begins within a word may let its end be heard once more."""


@dataclass(frozen=True)
class HeardWord:
    """A word as it was heard, times in ms from the first sample of the stream."""

    start_ms: int
    end_ms: int
    text: str
    """With the space before it, if there is one, and the punctuation after it."""
    closes: bool = False
    """Whether the recognizer's segment ends with it."""

    @property
    def key(self) -> str:
        """What is compared."""
        return "".join(c for c in self.text.casefold() if c.isalnum())

    @property
    def stem(self) -> str:
        """Without the punctuation after it, which is the last thing about a word to be settled."""
        return _TRAILING.sub("", self.text)


def whole_words(words: Sequence[HeardWord]) -> list[HeardWord]:
    """`words` with those of punctuation alone joined to the word before them."""
    whole: list[HeardWord] = []
    for word in words:
        if word.key:
            whole.append(word)
        elif whole:
            last = whole[-1]
            text = last.text + word.text
            whole[-1] = replace(last, text=text, closes=last.closes or word.closes)
    return whole


def matches(
    agreed: Sequence[HeardWord], heard: Sequence[HeardWord]
) -> tuple[list[tuple[int, int]], int]:
    """Where `agreed` is found at the beginning of `heard`.

    Returns the pairs of places that hold the same word, and how many words of `heard` stand for
    those of `agreed`: the beginning of `heard` with the fewest edits, and among equals the one
    that ends at nearly the same time.
    """
    a, b = [word.key for word in agreed], [word.key for word in heard]
    if b[: len(a)] == a:
        return [(i, i) for i in range(len(a))], len(a)
    rows = [list(range(len(b) + 1))]
    for i, key in enumerate(a, 1):
        above, row = rows[-1], [i]
        for j, other in enumerate(b, 1):
            row.append(min(above[j - 1] + (key != other), above[j] + 1, row[j - 1] + 1))
        rows.append(row)

    def off_ms(count: int) -> int:
        until = heard[count - 1].end_ms if count else 0
        return abs(until - agreed[-1].end_ms)

    count = min(range(len(b) + 1), key=lambda j: (rows[-1][j], off_ms(j)))
    pairs, i, j = [], len(a), count
    while i and j:
        if rows[i][j] == rows[i - 1][j - 1] + (a[i - 1] != b[j - 1]):
            i, j = i - 1, j - 1
            if a[i] == b[j]:
                pairs.append((i, j))
        elif rows[i][j] == rows[i - 1][j] + 1:
            i -= 1
        else:
            j -= 1
    return pairs[::-1], count


class Agreement:
    """The words of one utterance: the agreed ones, and what the last hypothesis says after them."""

    def __init__(self) -> None:
        self.agreed: list[HeardWord] = []
        self.open: list[HeardWord] = []
        """What may still change."""
        self._left = 0
        """How many of `agreed` lie before the buffer that is still listened to."""
        self._buffer_ms = 0

    @property
    def words(self) -> list[HeardWord]:
        return self.agreed + self.open

    @property
    def text(self) -> str:
        return text_of(self.words)

    @property
    def stable_chars(self) -> int:
        """How much of the beginning of `text` will never change."""
        if not self.agreed:
            return 0
        *before, last = self.agreed
        return len(("".join(word.text for word in before) + last.stem).lstrip())

    @property
    def within_buffer(self) -> list[tuple[int, HeardWord]]:
        """The words that the buffer still holds, with their places in `words`."""
        return list(enumerate(self.words))[self._left :]

    def push(self, hypothesis: Sequence[HeardWord], sure_until_ms: float = math.inf) -> None:
        """Take a new hypothesis of the buffer. Words that end after `sure_until_ms` stay open."""
        heard = self._after_agreed(hypothesis)
        count = 0
        for before, now in zip(self.open, heard, strict=False):
            if before.key != now.key or now.end_ms > sure_until_ms:
                break
            count += 1
        self.agreed += heard[:count]
        self.open = heard[count:]

    def settle(self, hypothesis: Sequence[HeardWord]) -> None:
        """Take the last hypothesis of the buffer: what it says after the agreed words holds."""
        self.open = self._after_agreed(hypothesis)

    def cut(self, count: int, at_ms: int) -> None:
        """The buffer begins at `at_ms` from now on, after the first `count` of `words`.

        They cannot change any more, since they will not be listened to again.
        """
        missing = max(0, count - len(self.agreed))
        self.agreed += self.open[:missing]
        self.open = self.open[missing:]
        self._left, self._buffer_ms = count, at_ms

    def _after_agreed(self, hypothesis: Sequence[HeardWord]) -> list[HeardWord]:
        """What `hypothesis` says after the agreed words, whose times it may correct."""
        heard = self._without_echo(whole_words(hypothesis))
        within = self.agreed[self._left :]
        pairs, count = matches(within, heard)
        for i, j in pairs:
            word, again = within[i], heard[j]
            text = word.text
            if i == len(within) - 1:
                text = word.stem + again.text[len(again.stem) :]
            self.agreed[self._left + i] = replace(again, text=text)
        return heard[count:]

    def _without_echo(self, heard: list[HeardWord]) -> list[HeardWord]:
        if heard and self._left and len(self.agreed) >= self._left:
            last, first = self.agreed[self._left - 1], heard[0]
            if first.key == last.key and first.end_ms - self._buffer_ms < _ECHO_MS:
                following = self.agreed[self._left : self._left + 1]
                if not following or following[0].key != first.key:
                    return heard[1:]
        return heard


def text_of(words: Sequence[HeardWord]) -> str:
    """The words as a line."""
    return "".join(word.text for word in words).strip()


def segments_of(words: Sequence[HeardWord], earliest_ms: int = 0) -> list[Segment]:
    """The words in the segments that the recognizer made of them, from `earliest_ms` on."""
    segments: list[Segment] = []
    since, earliest = 0, earliest_ms
    for count, word in enumerate(words, 1):
        if word.closes or count == len(words):
            held = words[since:count]
            start = max(earliest, held[0].start_ms)
            end = max(start, word.end_ms)
            segments.append(Segment(start_ms=start, end_ms=end, text=text_of(held)))
            since, earliest = count, end
    return segments
