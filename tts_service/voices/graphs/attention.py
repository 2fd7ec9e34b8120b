"""Coqui's `OriginalAttention` for any number of rows at once, each with its own text."""

from __future__ import annotations

import numpy as np

from .builder import Weights
from .step import DecoderOptions, StepBuilder

WINDOW_BACK = 2
WINDOW_FRONT = 6
"""Symbols around the last attended one that windowed attention may look at (Coqui's constants)."""


class Attention:
    """Location-sensitive, windowed and forward attention, as the options ask for them."""

    def __init__(self, g: StepBuilder, weights: Weights, options: DecoderOptions) -> None:
        self._g = g
        self._weights = weights
        self._options = options
        self._at: str | None = None

    def attend(self, query: str) -> str:
        """The context for `query`; keeps the attention's states."""
        g, w, o = self._g, self._weights, self._options
        name = "decoder.attention"
        embedding = w[f"{name}.inputs_layer.linear_layer.weight"].shape[1]
        width = w[f"{name}.inputs_layer.linear_layer.weight"].shape[0]
        memory = g.input("memory", ["rows", "symbols", embedding])
        keys = g.input("keys", ["rows", "symbols", width])
        mask = g.input("mask", ["rows", "symbols"])
        attention = g.state("attention", "symbols")
        asked = g.op("MatMul", query, g.constant(w[f"{name}.query_layer.linear_layer.weight"].T))
        energy = g.op("Add", g.op("Unsqueeze", asked, g.ints(1)), keys)
        if o.location_attn:
            cumulative = g.state("cumulative", "symbols")
            both = g.op(
                "Concat",
                g.op("Unsqueeze", attention, g.ints(1)),
                g.op("Unsqueeze", cumulative, g.ints(1)),
                axis=1,
            )
            conv = w[f"{name}.location_layer.location_conv1d.weight"]
            pad = (conv.shape[2] - 1) // 2
            where = g.op("Conv", both, g.constant(conv), pads=[pad, pad])
            where = g.op("Transpose", where, perm=[0, 2, 1])
            dense = w[f"{name}.location_layer.location_dense.linear_layer.weight"]
            energy = g.op("Add", energy, g.op("MatMul", where, g.constant(dense.T)))
        energy = g.op(
            "MatMul", g.op("Tanh", energy), g.constant(w[f"{name}.v.linear_layer.weight"].T)
        )
        energy = g.op("Add", energy, g.constant(w[f"{name}.v.linear_layer.bias"]))
        energy = g.op("Add", g.op("Squeeze", energy, g.ints(2)), mask)
        if o.attention_win:
            energy = self._window(energy)
        if o.attention_norm == "softmax":
            alignment = g.op("Softmax", energy, axis=1)
        else:
            open_ = g.op("Sigmoid", energy)
            total = g.op("ReduceSum", open_, g.ints(1), keepdims=1)
            alignment = g.op("Div", open_, total)
        if o.location_attn:
            g.keep("cumulative", g.op("Add", cumulative, alignment))
        if o.use_forward_attn:
            alignment = self._forward(alignment)
        context = g.op("MatMul", g.op("Unsqueeze", alignment, g.ints(1)), memory)
        context = g.op("Squeeze", context, g.ints(1))
        g.keep("attention", alignment)
        if o.use_forward_attn and o.transition_agent:
            joined = g.op("Concat", context, query, axis=1)
            agent = g.op("MatMul", joined, g.constant(w[f"{name}.ta.weight"].T))
            agent = g.op("Add", agent, g.constant(w[f"{name}.ta.bias"]))
            g.keep("agent", g.op("Sigmoid", agent))
        return context

    def _positions(self) -> str:
        """0, 1, … over the symbols, shape (1, symbols) int64."""
        g = self._g
        if self._at is None:
            symbols = g.op("Squeeze", g.op("Shape", "mask", start=1, end=2))
            zero, one = (g.constant(np.array(i, np.int64)) for i in (0, 1))
            self._at = g.op("Unsqueeze", g.op("Range", zero, symbols, one), g.ints(0))
        return self._at

    def _window(self, energy: str) -> str:
        """Only symbols near the last attended one stay (Coqui: `apply_windowing`)."""
        g = self._g
        last = g.state("window", 1, "int64")
        at = self._positions()
        behind = g.op("Less", at, g.op("Sub", last, g.ints(WINDOW_BACK)))
        beyond = g.op("GreaterOrEqual", at, g.op("Add", last, g.ints(WINDOW_FRONT)))
        shut = g.constant(np.array(-np.inf, np.float32))
        energy = g.op("Where", g.op("Or", behind, beyond), shut, energy)
        # The first step pulls the attention to the first symbol.
        start = g.op("And", g.op("Equal", last, g.ints(-1)), g.op("Equal", at, g.ints(0)))
        peak = g.op("ReduceMax", energy, g.ints(1), keepdims=1)
        energy = g.op("Where", start, peak, energy)
        g.keep("window", g.op("ArgMax", energy, axis=1, keepdims=1), "int64")
        return energy

    def _forward(self, alignment: str) -> str:
        """Forward attention (arXiv 1807.06736) as Coqui computes it, its index quirks included."""
        g = self._g
        alpha = g.state("alpha", "symbols")
        agent = g.state("agent", 1)
        shifted = g.op("Pad", alpha, g.ints(0, 1, 0, -1))
        stay = g.op("Mul", g.op("Sub", g.scalar(1.0), agent), alpha)
        move = g.op("Mul", agent, shifted)
        total = g.op("Add", g.op("Add", stay, move), g.scalar(1e-8))
        new = g.op("Mul", total, alignment)
        if self._options.forward_attn_mask:
            new = self._forward_mask(new, shifted)
        new = g.op("Div", new, g.op("ReduceSum", new, g.ints(1), keepdims=1))
        g.keep("alpha", new)
        if not self._options.transition_agent:
            g.keep("agent", agent)
        return new

    def _forward_mask(self, alpha: str, shifted: str) -> str:
        """Coqui writes `alpha[n + 3:] = 0; alpha[:n - 1] = 0; alpha[n - 2] = 0.01 * peak`, where a
        negative index counts from the row's end; the same here, by the row's own length."""
        g = self._g
        at = self._positions()
        length = g.input("length", ["rows", 1], "int64")
        # What is shifted out of a row's end would live on in its padding.
        inside = g.op("Where", g.op("Less", at, length), shifted, g.scalar(-1.0))
        n = g.op("ArgMax", inside, axis=1, keepdims=1)
        peak = g.op("ReduceMax", alpha, g.ints(1), keepdims=1)

        def from_end(index: str) -> str:
            negative = g.op("Less", index, g.ints(0))
            return g.op("Where", negative, g.op("Add", index, length), index)

        beyond = g.op("GreaterOrEqual", at, g.op("Add", n, g.ints(3)))
        behind = g.op("Less", at, from_end(g.op("Sub", n, g.ints(1))))
        alpha = g.op("Where", g.op("Or", beyond, behind), g.scalar(0.0), alpha)
        smoothed = g.op("Equal", at, from_end(g.op("Sub", n, g.ints(2))))
        return g.op("Where", smoothed, g.op("Mul", peak, g.scalar(0.01)), alpha)
