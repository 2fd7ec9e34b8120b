"""This module builds the encoder: embedding, convolutions and one bidirectional LSTM."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray

from .builder import GraphBuilder, Weights, fold_batch_norm


def build_encoder(weights: Weights) -> onnx.ModelProto:
    """Build the graph from symbols to what the decoder attends to.

    Input: `ids` (1, symbols) int64. Outputs: `memory` (1, symbols, E), `keys` (1, symbols, A).

    `keys` is the attention's own projection of `memory` (Coqui: `processed_inputs`), which does not
    change from step to step.
    """
    g = GraphBuilder("encoder")
    ids = g.input("ids", [1, "symbols"], "int64")
    x = g.op("Gather", g.constant(weights["embedding.weight"]), ids)
    # An image of height 1, for the blocked kernels that ONNX Runtime has for images.
    x = g.op("Unsqueeze", g.op("Transpose", x, perm=[0, 2, 1]), g.ints(2))
    layer = 0
    while f"encoder.convolutions.{layer}.convolution1d.weight" in weights:
        name = f"encoder.convolutions.{layer}"
        weight, bias = fold_batch_norm(
            weights, f"{name}.convolution1d", f"{name}.batch_normalization"
        )
        pad = (weight.shape[2] - 1) // 2
        kernel = g.constant(weight[:, :, None])
        x = g.op("Conv", x, kernel, g.constant(bias), pads=[0, pad, 0, pad])
        x = g.op("Relu", x)
        layer += 1
    x = g.op("Transpose", g.op("Squeeze", x, g.ints(2)), perm=[2, 0, 1])
    hidden = weights["encoder.lstm.weight_hh_l0"].shape[1]
    directions = ["", "_reverse"]
    w = np.stack([_onnx_gates(weights[f"encoder.lstm.weight_ih_l0{d}"]) for d in directions])
    r = np.stack([_onnx_gates(weights[f"encoder.lstm.weight_hh_l0{d}"]) for d in directions])
    b = np.stack(
        [
            np.concatenate(
                [_onnx_gates(weights[f"encoder.lstm.bias_{k}_l0{d}"]) for k in ("ih", "hh")]
            )
            for d in directions
        ]
    )
    (y,) = g.split(
        "LSTM",
        1,
        x,
        g.constant(w),
        g.constant(r),
        g.constant(b),
        hidden_size=hidden,
        direction="bidirectional",
    )
    # (symbols, directions, 1, hidden) to (1, symbols, directions * hidden)
    y = g.op("Transpose", y, perm=[2, 0, 1, 3])
    memory = g.op("Reshape", y, g.ints(1, -1, 2 * hidden))
    inputs_layer = weights["decoder.attention.inputs_layer.linear_layer.weight"]
    keys = g.op("MatMul", memory, g.constant(inputs_layer.T))
    g.output("memory", memory, [1, "symbols", 2 * hidden])
    g.output("keys", keys, [1, "symbols", inputs_layer.shape[0]])
    return g.build()


def _onnx_gates(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """Reorder gates: torch has input, forget, cell, output; ONNX input, output, forget, cell."""
    i, f, c, o = np.split(array, 4)
    return np.concatenate([i, o, f, c])
