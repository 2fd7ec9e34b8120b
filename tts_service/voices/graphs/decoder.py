"""One decoder step for any number of rows, each row one speaker's utterance.

Everything that Coqui keeps on the module between steps is an input and an output here, so rows can
join and leave between steps. Rows with fewer symbols than the longest are padded and masked: a
masked symbol gets exactly zero attention, so padding changes nothing.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from .attention import Attention
from .builder import Weights, fold_batch_norm
from .quantize import quantize_blocks
from .step import DecoderOptions, StepBuilder

Precision = Literal["float32", "int8"]


def build_decoder(
    weights: Weights, options: DecoderOptions, precision: Precision = "float32"
) -> onnx.ModelProto:
    """The graph of one step.

    Inputs and outputs of the same name with `next_` in front are a row's state: `frame` (rows,
    mels), `attention_h`, `attention_c`, `decoder_h`, `decoder_c`, `context`, `attention` (rows,
    symbols) and, where the options ask for them, `cumulative`, `alpha` (rows, symbols), `agent`
    (rows, 1), `window` (rows, 1) int64. Constant inputs: `memory`, `keys`, `mask` (rows, symbols; 0
    or minus infinity), `length` (rows, 1) int64, `drop0`, `drop1` (rows, width; 0 or 2). Outputs:
    `frames` (rows, r * mels), `stop` (rows, 1), a probability.
    """
    return _DecoderStep(weights, options, precision).build()


class _DecoderStep:
    def __init__(self, weights: Weights, options: DecoderOptions, precision: Precision) -> None:
        self.g = StepBuilder("decoder_step")
        self.weights = weights
        self.options = options
        self.precision = precision

    def linear(self, x: str, weight: NDArray[np.float32], bias: NDArray[np.float32] | None) -> str:
        """`x @ weight.T + bias`, the weight in 8 bits where the precision says so."""
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
        """Torch's LSTMCell; both its products are one, over the joined input."""
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
        context = Attention(g, w, o).attend(attention_h)
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


_WORTH_QUANTIZING = 1 << 16
"""Matrices with fewer weights than this stay in float32: they cost nothing to read."""
