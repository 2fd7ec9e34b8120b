"""Opens ONNX graphs, and runs convolutional ones chunk by chunk, each frame computed once.

The streaming graphs (`tts_service.voices.graphs.streaming`) take and give back the state of their
layers; here it is kept for one utterance. What comes out, put together, is what the graph would
give for the whole input at once.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from .manifest import BrokenVoiceError


def open_graph(path: Path, *, threads: int = 1) -> ort.InferenceSession:
    """A session that works on the calling thread alone unless `threads` is more than 1.

    Spinning is off: a waiting thread that burns its core made everything beside it ten times
    slower. Raises `BrokenVoiceError` if the file is missing or no graph.
    """
    if not path.is_file():
        raise BrokenVoiceError(f"{path} is missing, prepare the voice again")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors have no public class in common
        raise BrokenVoiceError(f"{path} is no usable graph: {error}") from error


def metadata(session: ort.InferenceSession, key: str) -> Any:
    """A value that the graph's builder left in it as JSON."""
    return json.loads(session.get_modelmeta().custom_metadata_map[key])


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
