"""Runs a convolutional graph chunk by chunk, each frame computed once.

The graphs (`tts_service.voices.graphs.streaming`) take and give back the state of their layers;
here it is kept for one utterance. What comes out, put together, is what the graph would give for
the whole input at once.
"""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from .sessions import metadata

Columns = NDArray[np.float32]
"""(channels, n)."""


class StreamingGraph:
    """A loaded graph; any number of streams may run through it at once, from any threads."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self.session = session
        self.states: list[tuple[str, int, int]] = [
            (s["name"], s["channels"], s["first"]) for s in metadata(session, "states")
        ]
        self.lag: int = metadata(session, "lag")
        """Columns of output that are still owed after a chunk."""
        self.hop: int = metadata(session, "hop")
        """Columns of output for one of input."""
        self.channels: int = next(i.shape[1] for i in session.get_inputs() if i.name == "x")
        self.out_names = ["y", *(f"next_{name}" for name, _, _ in self.states)]

    @property
    def lag_frames(self) -> int:
        """Frames of input that must come after a frame before its output is complete."""
        return -(-self.lag // self.hop)

    def start(self) -> Stream:
        return Stream(self)


class Stream:
    """One utterance's way through a graph."""

    def __init__(self, graph: StreamingGraph) -> None:
        self._graph = graph
        self._states = {
            name: np.zeros((1, channels, first), np.float32)
            for name, channels, first in graph.states
        }
        self._held: list[Columns] = []
        self._begun = False
        self._ended = False

    def push(self, x: Columns, *, last: bool) -> Columns:
        """Take the next columns (none are needed with `last`), give what is final by now.

        `last` says that the utterance ends with them. Until the first columns outreach the graph's
        lag they are only held, since the layers need more than their own context to begin.
        """
        if self._ended:
            raise ValueError("this stream has ended")
        if x.shape[1]:
            self._held.append(x)
        held = sum(part.shape[1] for part in self._held)
        too_short = not self._begun and held * self._graph.hop <= self._graph.lag
        if (not last and (held == 0 or too_short)) or (last and not self._begun and held == 0):
            self._ended = last
            return np.zeros((0, 0), np.float32)
        nothing = np.zeros((self._graph.channels, 0), np.float32)
        columns = np.concatenate([nothing, *self._held], axis=1)
        self._held.clear()
        feed = {"x": columns[None], "last": np.array([int(last)], np.int64), **self._states}
        y, *states = self._graph.session.run(self._graph.out_names, feed)
        self._states = {
            name: state for (name, _, _), state in zip(self._graph.states, states, strict=True)
        }
        self._begun, self._ended = True, last
        result: Columns = y[0]
        return result
