"""This module builds the postnet: five convolutions that refine mel frames, 10 frames late."""

from __future__ import annotations

import onnx

from .builder import Weights, fold_batch_norm
from .streaming import StreamBuilder


def build_postnet(weights: Weights) -> onnx.ModelProto:
    """Build the graph from decoder frames `x` (1, mels, n) to refined frames `y` (1, mels, n)."""
    layers = 0
    while f"postnet.convolutions.{layers}.convolution1d.weight" in weights:
        layers += 1
    mels = weights["postnet.convolutions.0.convolution1d.weight"].shape[1]
    s = StreamBuilder("postnet", mels)
    y, lag = s.x, 0
    for layer in range(layers):
        name = f"postnet.convolutions.{layer}"
        weight, bias = fold_batch_norm(
            weights, f"{name}.convolution1d", f"{name}.batch_normalization"
        )
        y, behind = s.conv(y, weight, bias)
        lag += behind
        if layer < layers - 1:
            y = s.g.op("Tanh", y)
    return s.build(s.g.op("Add", y, s.delay(s.x, mels, lag)), mels, lag, 1)
