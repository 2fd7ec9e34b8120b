"""The decoder step: many rows, one reading of the weights.

A step reads all weights of the decoder (73 MB in float32), which is what it costs; eight rows cost
hardly twice as much as one. A `Row` is one utterance's decode, a `Stack` the rows that step
together and their state in the shape the graph wants.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from .graph import metadata
from .guard import DecodeEnd, Guard

Floats = NDArray[np.float32]


@dataclass(eq=False)
class Row:
    """One decode. Only the thread that steps the batch writes to it while it is in one."""

    memory: Floats
    """(symbols, E), the encoder's output."""
    keys: Floats
    """(symbols, A), the attention's projection of it."""
    guard: Guard
    dropout: np.random.Generator | None = None
    """Source of this row's dropout; its own, so that a row does not depend on its neighbours."""
    state: dict[str, NDArray[Any]] = field(default_factory=dict)
    """Between batches: a row's part of every state, in the model's order."""
    frames: list[Floats] = field(default_factory=list)
    """Decoded and not yet taken, each (r, mels)."""
    end: DecodeEnd | None = None

    @property
    def symbols(self) -> int:
        return len(self.memory)


@dataclass(frozen=True)
class Stack:
    """Rows that step together. The arrays live in the runtime's own values: no copy a step."""

    rows: tuple[Row, ...]
    constants: dict[str, ort.OrtValue]
    states: dict[str, ort.OrtValue]


@dataclass(frozen=True)
class Step:
    """What one step gave."""

    stack: Stack
    """The rows with their state after it."""
    frames: Floats
    """(rows, r * mels)."""
    stop: Floats
    """(rows, 1)."""
    attention: Floats
    """(rows, symbols)."""


class DecoderModel:
    """The loaded graph of a step (`tts_service.voices.graphs.decoder`)."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self._session = session
        self._options: dict[str, Any] = metadata(session, "options")
        self._states: dict[str, int | str] = metadata(session, "states")
        inputs = {i.name: i for i in session.get_inputs()}
        self._drops = {n: inputs[n].shape[1] for n in ("drop0", "drop1") if n in inputs}
        self._wants_length = "length" in inputs
        self._out_names = ["frames", "stop", *(f"next_{name}" for name in self._states)]
        self.frames_per_step: int = self._options["r"]

    def initial(self, symbols: int) -> dict[str, NDArray[Any]]:
        """What every state is before the first step (Coqui: `_init_states` and the attention's)."""
        state: dict[str, NDArray[Any]] = {}
        for name, width in self._states.items():
            columns = symbols if isinstance(width, str) else width
            state[name] = np.zeros(columns, np.int64 if name == "window" else np.float32)
        if "alpha" in state:
            state["alpha"][1:] = 1e-7
            state["alpha"][0] = 1.0
        if "agent" in state:
            state["agent"][:] = 0.5
        if "window" in state:
            state["window"][:] = -1
        return state

    def stack(self, rows: Sequence[Row]) -> Stack:
        """Put rows together, each padded to the longest."""
        longest = max(row.symbols for row in rows)
        mask = np.zeros((len(rows), longest), np.float32)
        for i, row in enumerate(rows):
            mask[i, row.symbols :] = -np.inf
        constants = {
            "memory": _pad([row.memory for row in rows], longest),
            "keys": _pad([row.keys for row in rows], longest),
            "mask": mask,
        }
        if self._wants_length:
            constants["length"] = np.array([[row.symbols] for row in rows], np.int64)
        states = {
            name: (
                _pad([row.state[name] for row in rows], longest)
                if isinstance(width, str)
                else np.stack([row.state[name] for row in rows])
            )
            for name, width in self._states.items()
        }
        return Stack(tuple(rows), _values(constants), _values(states))

    def unstack(self, stack: Stack) -> None:
        """Give the rows their state back, for another stack."""
        for name, width in self._states.items():
            array = stack.states[name].numpy()
            for i, row in enumerate(stack.rows):
                part = array[i, : row.symbols] if isinstance(width, str) else array[i]
                row.state[name] = part.copy()

    def run(self, stack: Stack) -> Step:
        """Compute one step of all rows; nothing of them changes yet."""
        feed = {**stack.constants, **stack.states}
        for name, width in self._drops.items():
            feed[name] = ort.OrtValue.ortvalue_from_numpy(_dropout(stack.rows, width))
        frames, stop, *states = self._session.run_with_ort_values(self._out_names, feed)
        named = dict(zip(self._states, states, strict=True))
        after = Stack(stack.rows, stack.constants, named)
        return Step(after, frames.numpy(), stop.numpy(), named["attention"].numpy())

    def deliver(self, step: Step) -> None:
        """Give the rows their frames and judge them; rows that have ended are left alone."""
        for i, row in enumerate(step.stack.rows):
            if row.end is None:
                row.frames.append(step.frames[i].reshape(self.frames_per_step, -1))
                attention = step.attention[i, : row.symbols]
                row.end = row.guard.observe(attention, float(step.stop[i, 0]))


def _pad(arrays: Sequence[NDArray[Any]], longest: int) -> NDArray[Any]:
    padded = np.zeros((len(arrays), longest, *arrays[0].shape[1:]), arrays[0].dtype)
    for i, array in enumerate(arrays):
        padded[i, : array.shape[0]] = array
    return padded


def _values(arrays: dict[str, NDArray[Any]]) -> dict[str, ort.OrtValue]:
    return {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in arrays.items()}


def _dropout(rows: Sequence[Row], width: int) -> Floats:
    """Masks (rows, width) for rows that may or may not drop out."""
    return np.stack(
        [
            draw_mask(row.dropout, width) if row.dropout is not None else np.ones(width, np.float32)
            for row in rows
        ]
    )


def draw_mask(source: np.random.Generator, width: int) -> Floats:
    """0 or 2 by an even chance: a half is dropped, the rest doubled, as torch's dropout does."""
    return (source.integers(0, 2, width, dtype=np.int8) * 2).astype(np.float32)
