"""The text of one utterance, on its way from the event loop to the thread that speaks it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from enum import Enum

from .segmenter import Piece, Segmenter


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
