"""The text of an utterance on its way from the event loop to the thread that speaks it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from enum import Enum

from tts_service.app.incremental import IncrementalSplitter
from tts_service.app.text import Piece


class Turn(Enum):
    """What may come between bits of text."""

    FLUSH = "flush"
    """Speak what is there, as if a sentence ended here."""
    PAUSE = "pause"
    """Nothing has come for long: speak what is there."""
    FINISH = "finish"
    """No more will come."""


class Gap(Enum):
    """What stands between pieces: nothing can be spoken now, or all up to a `FLUSH` is spoken."""

    WAITING = "waiting"
    FLUSHED = "flushed"


class TextFeed:
    """Bits of text and turns, in order. `put` on the event loop, the rest on a worker thread."""

    def __init__(self) -> None:
        self._coming: deque[str | Turn] = deque()
        self.wake: Callable[[], None] = lambda: None
        """Called when something was put: whoever waits is to ask again."""

    def put(self, event: str | Turn) -> None:
        self._coming.append(event)
        self.wake()

    def pieces(self, *, short_first: bool) -> Iterator[Piece | Gap]:
        """What can be spoken, as soon as it can; ends after `FINISH`."""
        splitter = IncrementalSplitter(short_first=short_first)
        while True:
            if not self._coming:
                yield Gap.WAITING
                continue
            event = self._coming.popleft()
            if isinstance(event, str):
                yield from splitter.push(event)
            elif event is Turn.PAUSE:
                if not self._coming:  # else it is over already
                    yield from splitter.pause()
            else:
                yield from splitter.flush()
                if event is Turn.FINISH:
                    return
                yield Gap.FLUSHED
