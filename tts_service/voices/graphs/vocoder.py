"""This module builds HiFi-GAN's generator (arXiv 2010.05646) like Coqui's, without weight norm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from .builder import Weights
from .streaming import StreamBuilder

SLOPE = 0.1
LAST_SLOPE = 0.01
"""Coqui's last leaky ReLU takes torch's default slope, unlike all others."""


@dataclass(frozen=True)
class VocoderOptions:
    """Options have the names of Coqui's `generator_model_params`."""

    upsample_factors: Sequence[int]
    resblock_type: str
    resblock_kernel_sizes: Sequence[int]
    resblock_dilation_sizes: Sequence[Sequence[int]]


def build_vocoder(weights: Weights, options: VocoderOptions) -> onnx.ModelProto:
    """Build the graph from mel frames `x` (1, mels, n) to samples `y` (1, 1, m).

    The frames are already padded at the true ends.
    """
    return _Vocoder(weights, options).build()


class _Vocoder:
    def __init__(self, weights: Weights, options: VocoderOptions) -> None:
        self.weights = weights
        self.options = options
        self.s = StreamBuilder("vocoder", weights["conv_pre.weight"].shape[1])

    def leaky(self, x: str, slope: float = SLOPE) -> str:
        return self.s.g.op("LeakyRelu", x, alpha=slope)

    def conv(self, x: str, name: str, dilation: int = 1) -> tuple[str, int]:
        return self.s.conv(
            x, self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias"), dilation
        )

    def residual(self, x: str, channels: int, convs: Sequence[tuple[str, int]]) -> tuple[str, int]:
        """Add `x` and convolutions of it, each after a leaky ReLU."""
        y, lag = x, 0
        for name, dilation in convs:
            y, behind = self.conv(self.leaky(y), name, dilation)
            lag += behind
        return self.s.g.op("Add", y, self.s.delay(x, channels, lag)), lag

    def block(self, x: str, channels: int, name: str, dilations: Sequence[int]) -> tuple[str, int]:
        """Add a residual block of type 1 (pairs of convolutions) or 2 (single ones)."""
        lag = 0
        for j, dilation in enumerate(dilations):
            if self.options.resblock_type == "1":
                convs = [(f"{name}.convs1.{j}", dilation), (f"{name}.convs2.{j}", 1)]
            else:
                convs = [(f"{name}.convs.{j}", dilation)]
            x, behind = self.residual(x, channels, convs)
            lag += behind
        return x, lag

    def mean(self, parts: list[tuple[str, int]], channels: int) -> tuple[str, int]:
        """Add the mean of branches whose lags differ."""
        g = self.s.g
        lag = max(behind for _, behind in parts)
        total = ""
        for x, behind in parts:
            x = self.s.delay(x, channels, lag - behind)
            total = g.op("Add", total, x) if total else x
        return g.op("Div", total, g.scalar(float(len(parts)))), lag

    def build(self) -> onnx.ModelProto:
        options = self.options
        x, lag = self.conv(self.s.x, "conv_pre")
        hop = 1
        blocks = len(options.resblock_kernel_sizes)
        for i, factor in enumerate(options.upsample_factors):
            weight: NDArray[np.float32] = self.weights[f"ups.{i}.weight"]
            x, behind = self.s.upsample(
                self.leaky(x), weight, self.weights.get(f"ups.{i}.bias"), factor
            )
            lag, hop, channels = lag * factor + behind, hop * factor, weight.shape[1]
            parts = [
                self.block(
                    x, channels, f"resblocks.{i * blocks + j}", options.resblock_dilation_sizes[j]
                )
                for j in range(blocks)
            ]
            x, behind = self.mean(parts, channels)
            lag += behind
        x, behind = self.conv(self.leaky(x, LAST_SLOPE), "conv_post")
        return self.s.build(self.s.g.op("Tanh", x), 1, lag + behind, hop)
