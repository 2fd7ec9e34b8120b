"""Decides which words of changing hypotheses are stable, and where a long utterance is cut.

Each hypothesis is a new recognition of audio that has grown meanwhile. By LocalAgreement-2 the
words that two of them in a row begin with are agreed (Liu, Spanakis, Niehues 2020; for Whisper:
Macháček, Dabre, Bojar 2023) and never change again: what a client was shown as stable is a prefix
of all that it is shown later. Words are compared without case and punctuation.

A cut lies in the widest pause: a word that is cut through is misheard on both sides.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from common.protocol.recognition import Segment

REPEATED_WITHIN_MS = 300
"""Audio that begins within a word may let the end of that word be recognized once more."""
SENTENCE_END_MS = 300
"""What the end of a sentence or clause adds to its pause, where the widest is looked for."""
LONG_PAUSE_MS = 500
"""Longer pauses count as this: words that were missed may lie in them."""
_TRAILING = re.compile(r"[\W_]+$")


@dataclass(frozen=True)
class TimedWord:
    """A recognized word; times in ms from the first sample of the stream."""

    start_ms: int
    end_ms: int
    text: str
    """The word with the space before it, if there is one, and the punctuation after it."""
    ends_segment: bool = False
    """Whether it is the last word of a segment of the recognizer."""

    @property
    def key(self) -> str:
        """The word as it is compared."""
        return "".join(c for c in self.text.casefold() if c.isalnum())

    @property
    def stem(self) -> str:
        """The word without the punctuation after it, which changes longest."""
        return _TRAILING.sub("", self.text)


def join_punctuation(words: Sequence[TimedWord]) -> list[TimedWord]:
    """Return `words` with those of punctuation alone joined to the word before them."""
    joined: list[TimedWord] = []
    for word in words:
        if word.key:
            joined.append(word)
        elif joined:
            last = joined[-1]
            joined[-1] = replace(
                last,
                text=last.text + word.text,
                ends_segment=last.ends_segment or word.ends_segment,
            )
    return joined


def align(
    agreed: Sequence[TimedWord], hypothesis: Sequence[TimedWord]
) -> tuple[list[tuple[int, int]], int]:
    """Find `agreed` at the beginning of `hypothesis`.

    Returns the pairs of indices that hold the same word, and how many words of `hypothesis` stand
    for those of `agreed`: the beginning with the fewest edits, and among equals the one that ends
    at nearly the same time.
    """
    a, b = [word.key for word in agreed], [word.key for word in hypothesis]
    if b[: len(a)] == a:
        return [(i, i) for i in range(len(a))], len(a)
    rows = [list(range(len(b) + 1))]
    for i, key in enumerate(a, 1):
        above, row = rows[-1], [i]
        for j, other in enumerate(b, 1):
            row.append(min(above[j - 1] + (key != other), above[j] + 1, row[j - 1] + 1))
        rows.append(row)

    def end_differs_by_ms(count: int) -> int:
        until = hypothesis[count - 1].end_ms if count else 0
        return abs(until - agreed[-1].end_ms)

    count = min(range(len(b) + 1), key=lambda j: (rows[-1][j], end_differs_by_ms(j)))
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


class LocalAgreement:
    """Holds the words of one utterance: the agreed ones, and the tentative ones after them."""

    def __init__(self) -> None:
        self.agreed: list[TimedWord] = []
        self.tentative: list[TimedWord] = []
        """The words of the last hypothesis after the agreed ones; they may still change."""
        self._cut_count = 0
        """How many of `words` lie before the audio that is still recognized."""
        self._cut_ms = 0

    @property
    def words(self) -> list[TimedWord]:
        return self.agreed + self.tentative

    @property
    def text(self) -> str:
        return text_of(self.words)

    @property
    def stable_chars(self) -> int:
        """The length of the beginning of `text` that never changes."""
        if not self.agreed:
            return 0
        *before, last = self.agreed
        return len(("".join(word.text for word in before) + last.stem).lstrip())

    def is_kept_by(self, words: Sequence[TimedWord]) -> bool:
        """Return whether the text of `words` begins with the stable text."""
        return text_of(words).startswith(self.text[: self.stable_chars])

    def push(self, hypothesis: Sequence[TimedWord], agreed_until_ms: float = math.inf) -> None:
        """Take a new hypothesis. Words that end after `agreed_until_ms` stay tentative."""
        words = self._after_agreed(hypothesis)
        count = 0
        for before, now in zip(self.tentative, words, strict=False):
            if before.key != now.key or now.end_ms > agreed_until_ms:
                break
            count += 1
        self.agreed += words[:count]
        self.tentative = words[count:]

    def conclude(self, hypothesis: Sequence[TimedWord]) -> None:
        """Take the last hypothesis: its words after the agreed ones are final."""
        self.tentative = self._after_agreed(hypothesis)

    def cut(self, count: int, at_ms: int) -> None:
        """Note that the audio is recognized from `at_ms` on, after the first `count` of `words`.

        Those words are agreed from now on, since their audio will not be recognized again.
        """
        missing = max(0, count - len(self.agreed))
        self.agreed += self.tentative[:missing]
        self.tentative = self.tentative[missing:]
        self._cut_count, self._cut_ms = count, at_ms

    def widest_pause(self, from_ms: int, to_ms: int, end_ms: int) -> tuple[int, int, int] | None:
        """Find the widest pause after a word that ends between `from_ms` and `to_ms`.

        The audio lasts until `end_ms`. Returns after how many of `words` the pause comes, and the
        times between which it lies; None if there is none.
        """
        words = self.words
        best: tuple[int, int, int, int] | None = None
        for count in range(self._cut_count + 1, len(words) + 1):
            word = words[count - 1]
            if not from_ms <= word.end_ms <= to_ms:
                continue
            is_last = count == len(words)
            next_ms = end_ms if is_last else words[count].start_ms
            ends_clause = word.ends_segment or word.stem != word.text
            pause_ms = min(next_ms - word.end_ms, LONG_PAUSE_MS)
            score = 0 if is_last else pause_ms + SENTENCE_END_MS * ends_clause
            if best is None or score >= best[0]:
                best = score, count, word.end_ms, min(next_ms, word.end_ms + LONG_PAUSE_MS)
        return None if best is None else best[1:]

    def count_until(self, at_ms: int) -> int:
        """Return how many of `words` lie before `at_ms`."""
        return sum(word.start_ms + word.end_ms < 2 * at_ms for word in self.words)

    def _after_agreed(self, hypothesis: Sequence[TimedWord]) -> list[TimedWord]:
        """Return the words of `hypothesis` after the agreed ones, whose times it may correct."""
        words = self._without_repetition(join_punctuation(hypothesis))
        agreed = self.agreed[self._cut_count :]
        pairs, count = align(agreed, words)
        for i, j in pairs:
            word, again = agreed[i], words[j]
            text = word.text
            if i == len(agreed) - 1:
                text = word.stem + again.text[len(again.stem) :]
            self.agreed[self._cut_count + i] = replace(again, text=text)
        return words[count:]

    def _without_repetition(self, words: list[TimedWord]) -> list[TimedWord]:
        """Return `words` without a first one that is the end of the word before the cut."""
        if words and self._cut_count and len(self.agreed) >= self._cut_count:
            last, first = self.agreed[self._cut_count - 1], words[0]
            if first.key == last.key and first.end_ms - self._cut_ms < REPEATED_WITHIN_MS:
                following = self.agreed[self._cut_count : self._cut_count + 1]
                if not following or following[0].key != first.key:
                    return words[1:]
        return words


def text_of(words: Sequence[TimedWord]) -> str:
    """Return the words as a line of text."""
    return "".join(word.text for word in words).strip()


def segments_of(words: Sequence[TimedWord], earliest_ms: int = 0) -> list[Segment]:
    """Return the words in the segments that the recognizer made of them, from `earliest_ms` on."""
    segments: list[Segment] = []
    since, earliest = 0, earliest_ms
    for count, word in enumerate(words, 1):
        if word.ends_segment or count == len(words):
            held = words[since:count]
            start = max(earliest, held[0].start_ms)
            end = max(start, word.end_ms)
            segments.append(Segment(start_ms=start, end_ms=end, text=text_of(held)))
            since, earliest = count, end
    return segments
