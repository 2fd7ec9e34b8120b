"""This module builds the graph of one decoder step for any number of rows, one utterance each.

Everything that Coqui keeps on the module between steps is an input and an output here, so that rows
can join and leave between steps. Rows with fewer symbols than the longest are padded and masked: a
masked symbol gets exactly zero attention, so padding changes nothing.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from .builder import GraphBuilder, Weights, fold_batch_norm

Precision = Literal["float32", "int8"]
WINDOW_BACK = 2
WINDOW_FRONT = 6
"""Symbols around the last attended one that windowed attention may look at (Coqui's constants)."""
QUANTIZATION_BLOCK = 128
"""Weights that share a scale. A block of 32 deviates as much and makes the step read 1/8 more."""
_WORTH_QUANTIZING = 1 << 16
"""Matrices with fewer weights than this stay in float32: they cost nothing to read."""


@dataclass(frozen=True)
class DecoderOptions:
    """Options hold what the arrays do not show; they have the names of Coqui's configuration."""

    r: int
    """Frames per step that are used."""
    r_init: int
    """Frames per step that the projection makes; larger than `r` after gradual training."""
    frame_channels: int = 80
    attention_norm: str = "softmax"
    location_attn: bool = True
    attention_win: bool = False
    use_forward_attn: bool = False
    transition_agent: bool = False
    forward_attn_mask: bool = False
    prenet_type: str = "original"
    prenet_dropout: bool = False
    """Whether the prenet drops out while speaking (Coqui: `prenet_dropout_at_inference`)."""


def build_decoder(
    weights: Weights, options: DecoderOptions, precision: Precision = "float32"
) -> onnx.ModelProto:
    """Build the graph of one step.

    Inputs and outputs of the same name with `next_` in front are a row's state: `frame` (rows,
    mels), `attention_h`, `attention_c`, `decoder_h`, `decoder_c`, `context`, `attention` (rows,
    symbols) and, where the options ask for them, `cumulative`, `alpha` (rows, symbols), `agent`
    (rows, 1), `window` (rows, 1) int64. Constant inputs: `memory`, `keys`, `mask` (rows, symbols; 0
    or minus infinity), `length` (rows, 1) int64, `drop0`, `drop1` (rows, width; 0 or 2). Outputs:
    `frames` (rows, r * mels), `stop` (rows, 1), a probability.
    """
    return _DecoderStep(weights, options, precision).build()


class _StepBuilder(GraphBuilder):
    """A step builder adds states to a graph: each is an input and an output of the step."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.states: dict[str, int | str] = {}
        """Each state's width; a string where it is as wide as the text."""

    def state(self, name: str, width: int | str, kind: str = "float32") -> str:
        """Declare a state; returns its value after the step before."""
        self.states[name] = width
        return self.input(name, ["rows", width], kind)

    def keep(self, name: str, value: str, kind: str = "float32") -> None:
        """Set the value that a state has after this step."""
        self.output(f"next_{name}", value, ["rows", self.states[name]], kind)


class _DecoderStep:
    def __init__(self, weights: Weights, options: DecoderOptions, precision: Precision) -> None:
        self.g = _StepBuilder("decoder_step")
        self.weights = weights
        self.options = options
        self.precision = precision

    def linear(self, x: str, weight: NDArray[np.float32], bias: NDArray[np.float32] | None) -> str:
        """Add `x @ weight.T + bias`, with the weight in 8 bits where the precision says so."""
        g = self.g
        if self.precision == "int8" and weight.size >= _WORTH_QUANTIZING:
            packed = quantize_blocks(weight)
            y = g.op(
                "MatMulNBits",
                x,
                g.constant(packed.codes),
                g.constant(packed.scales),
                domain="com.microsoft",
                K=weight.shape[1],
                N=weight.shape[0],
                bits=8,
                block_size=packed.block,
                # 8-bit activations scaled per row and block: rows of a batch stay independent.
                accuracy_level=4,
            )
        else:
            y = g.op("MatMul", x, g.constant(weight.T))
        return y if bias is None else g.op("Add", y, g.constant(bias))

    def lstm_cell(self, name: str, x: list[str], h: str, c: str) -> tuple[str, str]:
        """Add torch's LSTMCell; its two products are computed as one, over the joined input."""
        g, w = self.g, self.weights
        joined = np.concatenate([w[f"{name}.weight_ih"], w[f"{name}.weight_hh"]], axis=1)
        bias = w[f"{name}.bias_ih"] + w[f"{name}.bias_hh"]
        gates = self.linear(g.op("Concat", *x, h, axis=1), joined, bias)
        i, f, u, o = g.split("Split", 4, gates, axis=1, num_outputs=4)
        kept = g.op("Mul", g.op("Sigmoid", f), c)
        added = g.op("Mul", g.op("Sigmoid", i), g.op("Tanh", u))
        c = g.op("Add", kept, added)
        return g.op("Mul", g.op("Sigmoid", o), g.op("Tanh", c)), c

    def prenet(self, x: str) -> str:
        g, w = self.g, self.weights
        layer = 0
        while (name := f"decoder.prenet.linear_layers.{layer}") + ".linear_layer.weight" in w:
            if self.options.prenet_type == "bn":
                weight, bias = fold_batch_norm(
                    w, f"{name}.linear_layer", f"{name}.batch_normalization"
                )
                x = self.linear(x, weight, bias)
            else:
                x = self.linear(
                    x, w[f"{name}.linear_layer.weight"], w.get(f"{name}.linear_layer.bias")
                )
            x = g.op("Relu", x)
            if self.options.prenet_dropout:
                width = w[f"{name}.linear_layer.weight"].shape[0]
                x = g.op("Mul", x, g.input(f"drop{layer}", ["rows", width]))
            layer += 1
        return x

    def build(self) -> onnx.ModelProto:
        g, w, o = self.g, self.weights, self.options
        mels = o.frame_channels
        attention_width = w["decoder.attention_rnn.weight_hh"].shape[1]
        decoder_width = w["decoder.decoder_rnn.weight_hh"].shape[1]
        embedding = w["decoder.attention.inputs_layer.linear_layer.weight"].shape[1]
        frame = g.state("frame", mels)
        attention_h = g.state("attention_h", attention_width)
        attention_c = g.state("attention_c", attention_width)
        decoder_h = g.state("decoder_h", decoder_width)
        decoder_c = g.state("decoder_c", decoder_width)
        context = g.state("context", embedding)

        x = self.prenet(frame)
        attention_h, attention_c = self.lstm_cell(
            "decoder.attention_rnn", [x, context], attention_h, attention_c
        )
        context = _Attention(g, w, o).attend(attention_h)
        decoder_h, decoder_c = self.lstm_cell(
            "decoder.decoder_rnn", [attention_h, context], decoder_h, decoder_c
        )
        projection = "decoder.linear_projection.linear_layer"
        frames = self.linear(
            g.op("Concat", decoder_h, context, axis=1),
            w[f"{projection}.weight"],
            w[f"{projection}.bias"],
        )
        stop = g.op(
            "MatMul",
            g.op("Concat", decoder_h, frames, axis=1),
            g.constant(w["decoder.stopnet.1.linear_layer.weight"].T),
        )
        stop = g.op("Add", stop, g.constant(w["decoder.stopnet.1.linear_layer.bias"]))
        if o.r < o.r_init:
            frames = g.op("Slice", frames, g.ints(0), g.ints(o.r * mels), g.ints(1))
        last = frames
        if o.r > 1:
            last = g.op("Slice", frames, g.ints((o.r - 1) * mels), g.ints(o.r * mels), g.ints(1))
        g.output("frames", frames, ["rows", o.r * mels])
        g.output("stop", g.op("Sigmoid", stop), ["rows", 1])
        g.keep("frame", last)
        g.keep("attention_h", attention_h)
        g.keep("attention_c", attention_c)
        g.keep("decoder_h", decoder_h)
        g.keep("decoder_c", decoder_c)
        g.keep("context", context)
        return g.build({"options": json.dumps(asdict(o)), "states": json.dumps(g.states)})


class _Attention:
    """Coqui's `OriginalAttention`: location-sensitive, windowed and forward, as the options say.

    It is computed for any number of rows at once, each with its own text.
    """

    def __init__(self, g: _StepBuilder, weights: Weights, options: DecoderOptions) -> None:
        self._g = g
        self._weights = weights
        self._options = options
        self._at: str | None = None

    def attend(self, query: str) -> str:
        """Add the context for `query`, and the states of the attention."""
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
        """Add the indices 0, 1, … of the symbols, of shape (1, symbols) int64."""
        g = self._g
        if self._at is None:
            symbols = g.op("Squeeze", g.op("Shape", "mask", start=1, end=2))
            zero, one = (g.constant(np.array(i, np.int64)) for i in (0, 1))
            self._at = g.op("Unsqueeze", g.op("Range", zero, symbols, one), g.ints(0))
        return self._at

    def _window(self, energy: str) -> str:
        """Leave only symbols near the last attended one (Coqui: `apply_windowing`)."""
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
        """Add forward attention (arXiv 1807.06736) as Coqui computes it, with its index quirks."""
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
        """Mask symbols as Coqui does.

        It writes `alpha[n + 3:] = 0; alpha[:n - 1] = 0; alpha[n - 2] = 0.01 * peak`, where a
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


@dataclass(frozen=True)
class Blocks:
    codes: NDArray[np.uint8]
    """(outputs, blocks, block): weight = (code - 128) * scale."""
    scales: NDArray[np.float32]
    """(outputs, blocks)."""
    block: int


def quantize_blocks(weight: NDArray[np.float32], block: int = QUANTIZATION_BLOCK) -> Blocks:
    """Quantize `weight` (outputs, inputs) symmetrically, a scale to every `block` inputs.

    The last block is filled up with zeros where `inputs` is no multiple of `block`.
    """
    outputs, inputs = weight.shape
    blocks = -(-inputs // block)
    padded = np.zeros((outputs, blocks * block), np.float32)
    padded[:, :inputs] = weight
    grouped = padded.reshape(outputs, blocks, block)
    scales = np.abs(grouped).max(axis=2) / 127.0
    divisor = np.where(scales == 0, 1.0, scales)[:, :, None]
    codes = np.clip(np.rint(grouped / divisor) + 128, 1, 255).astype(np.uint8)
    return Blocks(codes, scales.astype(np.float32), block)
