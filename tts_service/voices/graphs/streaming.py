"""This module builds convolutions that are computed once per frame, for chunks of any length.

A convolution needs neighbours on both sides. Overlapping windows would repeat work: for HiFi-GAN
v2, 26 frames of context around every chunk. Instead each layer keeps the last inputs that its next
outputs need, so that its output lags behind its input by half its kernel. At the true edges every
layer sees exactly the zero padding that it sees when a whole utterance is computed: the first state
is that padding, and with `last` = 1 a layer pads its right edge and returns the columns that were
held back. The lengths of states vary (half as long at the start), so that one graph serves the
first, a middle, the last and an only chunk.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from .builder import GraphBuilder


@dataclass(frozen=True)
class StateSpec:
    """A state is an array (1, channels, n) of float32; it starts as `first` columns of zeros."""

    name: str
    channels: int
    first: int


class StreamBuilder:
    """A stream builder adds layers to a graph with inputs `x` (1, channels, n) and `last`.

    `last` (1,) int64 is 1 in the last chunk of an utterance, else 0.
    """

    def __init__(self, name: str, channels: int) -> None:
        self.g = GraphBuilder(name)
        self.x = self.g.input("x", [1, channels, "n"])
        self.last = self.g.input("last", [1], "int64")
        self.states: list[StateSpec] = []
        self._tails: dict[tuple[int, int], str] = {}
        self._ends: dict[int, str] = {}

    def state(self, channels: int, first: int) -> str:
        name = f"s{len(self.states)}"
        self.states.append(StateSpec(name, channels, first))
        return self.g.input(name, [1, channels, f"{name}_n"])

    def keep(self, state: str, joined: str, columns: int) -> None:
        """Make the last `columns` of `joined` the state of the next chunk."""
        g = self.g
        value = g.op("Slice", joined, g.ints(-columns), g.ints(_FAR), g.ints(2))
        spec = next(s for s in self.states if s.name == state)
        g.output(f"next_{state}", value, [1, spec.channels, f"next_{state}_n"])

    def tail(self, channels: int, columns: int) -> str:
        """Add zeros (1, channels, columns) in the last chunk, none in others."""
        key = (channels, columns)
        if key not in self._tails:
            g = self.g
            columns_now = g.op("Mul", self.last, g.ints(columns))
            shape = g.op("Concat", g.ints(1, channels), columns_now, axis=0)
            self._tails[key] = g.op("ConstantOfShape", shape)
        return self._tails[key]

    def conv(
        self,
        x: str,
        weight: NDArray[np.float32],
        bias: NDArray[np.float32] | None,
        dilation: int = 1,
    ) -> tuple[str, int]:
        """Add a same-padded convolution of odd width; returns its output and its lag in columns."""
        g = self.g
        channels, width = weight.shape[1], weight.shape[2]
        lag = (width - 1) // 2 * dilation
        if lag:
            state = self.state(channels, lag)
            joined = g.op("Concat", state, x, self.tail(channels, lag), axis=2)
            self.keep(state, joined, 2 * lag)
        else:
            joined = x
        # As an image of height 1: ONNX Runtime has blocked kernels for images only, and saves 15 to
        # 30 % of the time with them.
        constants = [g.constant(weight[:, :, None])] + ([] if bias is None else [g.constant(bias)])
        y = g.op("Conv", g.op("Unsqueeze", joined, g.ints(2)), *constants, dilations=[1, dilation])
        return g.op("Squeeze", y, g.ints(2)), lag

    def delay(self, x: str, channels: int, columns: int) -> str:
        """Delay `x` by `columns`, to add it to a value that lags; the last chunk returns all."""
        if not columns:
            return x
        g = self.g
        state = self.state(channels, 0)
        joined = g.op("Concat", state, x, axis=2)
        self.keep(state, joined, columns)
        if columns not in self._ends:
            running = g.op("Equal", self.last, g.ints(0))
            self._ends[columns] = g.op("Where", running, g.ints(-columns), g.ints(_FAR))
        return g.op("Slice", joined, g.ints(0), self._ends[columns], g.ints(2))

    def upsample(
        self, x: str, weight: NDArray[np.float32], bias: NDArray[np.float32] | None, factor: int
    ) -> tuple[str, int]:
        """Add a transposed convolution by `factor`; returns its output and its lag.

        The lag counts output columns. Input i reaches the outputs [i * factor - pad, i * factor -
        pad + width), so an output is final once all inputs that reach it are there: the last
        `width - factor - pad` wait for the next chunk.
        """
        g = self.g
        channels, width = weight.shape[0], weight.shape[2]
        pad = (width - factor) // 2
        overlap = width - factor
        back = -(-overlap // factor)
        state = self.state(channels, 0)
        joined = g.op("Concat", state, x, axis=2)
        self.keep(state, joined, back)
        constants = [g.constant(weight)] + ([] if bias is None else [g.constant(bias)])
        raw = g.op("ConvTranspose", joined, *constants, strides=[factor])
        # Without a state this is the true left edge: crop the padding. With one: crop what was
        # given before, which ended `back` inputs later.
        held = g.op("Shape", state, start=2, end=3)
        fresh = g.op("Equal", held, g.ints(0))
        start = g.op("Where", fresh, g.ints(pad), g.ints(back * factor))
        running = g.op("Equal", self.last, g.ints(0))
        end = g.op("Where", running, g.ints(-overlap or _FAR), g.ints(-pad or _FAR))
        return g.op("Slice", raw, start, end, g.ints(2)), overlap - pad

    def build(self, y: str, channels: int, lag: int, hop: int) -> onnx.ModelProto:
        """Make the model that returns `y` (1, channels, m), `lag` columns late.

        `hop` is the number of columns that a mel frame becomes. The metadata tells the runtime the
        states, the lag and the hop. The first chunk must be longer than the lag unless it is also
        the last.
        """
        self.g.output("y", y, [1, channels, "m"])
        return self.g.build(
            {
                "states": json.dumps([asdict(s) for s in self.states]),
                "lag": str(lag),
                "hop": str(hop),
            }
        )


_FAR = 2**62
