"""Word times from the way the attention took over the symbols."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tts_service.app.engines.base import WordTime


def word_times(
    characters: Sequence[str], path: Sequence[int], start_of: Callable[[int], int], end: int
) -> list[WordTime]:
    """When each word was spoken.

    `characters` are the symbols' own, `path` the furthest symbol reached at each decoder step,
    `start_of` the first sample of a step, `end` the number of samples. A word begins where the
    attention reaches its first letter and lasts until the next one's; words never reached are left
    out.
    """
    starts: list[tuple[str, int]] = []
    word, first = "", 0
    for i, character in enumerate([*characters, " "]):
        if character.isspace():
            step = next((s for s, at in enumerate(path) if at >= first), None)
            if word and step is not None:
                starts.append((word, min(start_of(step), end)))
            word = ""
        elif character:
            if not word:
                first = i
            word += character
    ends = [*(start for _, start in starts[1:]), end]
    return [WordTime(word, start, ends[i]) for i, (word, start) in enumerate(starts)]
