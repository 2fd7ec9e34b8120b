"""What the graphs should compute, said once more in plain numpy, whole and one at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tts_service.voices.graphs.decoder import DecoderOptions
from tts_service.voices.graphs.vocoder import VocoderOptions

Array = NDArray[np.float32]
Weights = dict[str, NDArray[np.float32]]


def conv(x: Array, weight: Array, bias: Array | None = None, dilation: int = 1) -> Array:
    """Same-padded convolution of (channels, n)."""
    out, _, width = weight.shape
    pad = (width - 1) // 2 * dilation
    padded = np.pad(x, ((0, 0), (pad, pad)))
    y = np.zeros((out, x.shape[1]))
    for k in range(width):
        y += weight[:, :, k] @ padded[:, k * dilation : k * dilation + x.shape[1]]
    return (y if bias is None else y + bias[:, None]).astype(np.float32)


def upsample(x: Array, weight: Array, bias: Array, factor: int) -> Array:
    """Transposed convolution: every input is stamped into the output `factor` apart."""
    _, out, width = weight.shape
    y = np.zeros((out, (x.shape[1] - 1) * factor + width))
    for i in range(x.shape[1]):
        y[:, i * factor : i * factor + width] += np.einsum("c,cok->ok", x[:, i], weight)
    pad = (width - factor) // 2
    return (y[:, pad : y.shape[1] - pad] + bias[:, None]).astype(np.float32)


def leaky(x: Array, slope: float = 0.1) -> Array:
    return np.where(x > 0, x, slope * x).astype(np.float32)


def vocoder(w: Weights, options: VocoderOptions, x: Array) -> Array:
    """(mels, n) to samples."""
    x = conv(x, w["conv_pre.weight"], w["conv_pre.bias"])
    blocks = len(options.resblock_kernel_sizes)
    for i, factor in enumerate(options.upsample_factors):
        x = upsample(leaky(x), w[f"ups.{i}.weight"], w[f"ups.{i}.bias"], factor)
        x = np.mean(
            [
                _block(w, options, f"resblocks.{i * blocks + j}", dilations, x)
                for j, dilations in enumerate(options.resblock_dilation_sizes)
            ],
            axis=0,
        ).astype(np.float32)
    y = conv(leaky(x, 0.01), w["conv_post.weight"], w["conv_post.bias"])
    samples: Array = np.tanh(y)[0]
    return samples


def _block(
    w: Weights, options: VocoderOptions, name: str, dilations: Sequence[int], x: Array
) -> Array:
    for k, dilation in enumerate(dilations):
        if options.resblock_type == "1":
            first, second = f"{name}.convs1.{k}", f"{name}.convs2.{k}"
            y = conv(leaky(x), w[f"{first}.weight"], w[f"{first}.bias"], dilation)
            y = conv(leaky(y), w[f"{second}.weight"], w[f"{second}.bias"])
        else:
            y = conv(leaky(x), w[f"{name}.convs.{k}.weight"], w[f"{name}.convs.{k}.bias"], dilation)
        x = x + y
    return x


def normalized(x: Array, w: Weights, name: str) -> Array:
    """Batch norm of (channels, n)."""
    scale = w[f"{name}.weight"] / np.sqrt(w[f"{name}.running_var"] + 1e-5)
    centred = x - w[f"{name}.running_mean"][:, None]
    y: Array = (centred * scale[:, None] + w[f"{name}.bias"][:, None]).astype(np.float32)
    return y


def postnet(w: Weights, x: Array) -> Array:
    layers = sum(1 for k in w if k.startswith("postnet") and k.endswith("convolution1d.weight"))
    y = x
    for i in range(layers):
        name = f"postnet.convolutions.{i}"
        y = conv(y, w[f"{name}.convolution1d.weight"], w[f"{name}.convolution1d.bias"])
        y = normalized(y, w, f"{name}.batch_normalization")
        if i < layers - 1:
            y = np.tanh(y)
    refined: Array = x + y
    return refined


def sigmoid(x: Array) -> Array:
    y: Array = (1 / (1 + np.exp(-x))).astype(np.float32)
    return y


def lstm(
    w: Weights, name: str, x: Array, h: Array, c: Array, suffix: str = ""
) -> tuple[Array, Array]:
    gates = (
        w[f"{name}.weight_ih{suffix}"] @ x
        + w[f"{name}.bias_ih{suffix}"]
        + w[f"{name}.weight_hh{suffix}"] @ h
        + w[f"{name}.bias_hh{suffix}"]
    )
    i, f, g, o = np.split(gates, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def encoder(w: Weights, ids: NDArray[np.int64]) -> tuple[Array, Array]:
    x = w["embedding.weight"][ids].T
    i = 0
    while (name := f"encoder.convolutions.{i}") + ".convolution1d.weight" in w:
        x = conv(x, w[f"{name}.convolution1d.weight"], w[f"{name}.convolution1d.bias"])
        x = np.maximum(normalized(x, w, f"{name}.batch_normalization"), 0)
        i += 1
    half = w["encoder.lstm.weight_hh_l0"].shape[1]
    passes = []
    for suffix, columns in (("_l0", x.T), ("_l0_reverse", x.T[::-1])):
        h, c = np.zeros(half, np.float32), np.zeros(half, np.float32)
        states = []
        for column in columns:
            h, c = lstm(w, "encoder.lstm", column, h, c, suffix)
            states.append(h)
        passes.append(states if suffix == "_l0" else states[::-1])
    memory = np.concatenate([np.stack(passes[0]), np.stack(passes[1])], axis=1)
    keys = memory @ w["decoder.attention.inputs_layer.linear_layer.weight"].T
    return memory, keys


def decode(w: Weights, o: DecoderOptions, memory: Array, keys: Array, steps: int) -> Array:
    """`steps` decoder steps of one utterance alone: frames (steps * r, mels)."""
    symbols = len(memory)
    width = w["decoder.attention_rnn.weight_hh"].shape[1]
    zeros = np.zeros(width, np.float32)
    frame = np.zeros(o.frame_channels, np.float32)
    context = np.zeros(memory.shape[1], np.float32)
    ah, ac, dh, dc = zeros, zeros, zeros, zeros
    attention, cumulative = np.zeros((2, symbols), np.float32)
    alpha = np.full(symbols, 1e-7, np.float32)
    alpha[0] = 1.0
    agent, window = np.float32(0.5), -1
    frames = []
    name = "decoder.attention"
    for _ in range(steps):
        x = frame
        for i in range(2):
            layer = f"decoder.prenet.linear_layers.{i}"
            x = w[f"{layer}.linear_layer.weight"] @ x
            if o.prenet_type == "bn":
                x = normalized(x[:, None], w, f"{layer}.batch_normalization")[:, 0]
            x = np.maximum(x, 0)
        ah, ac = lstm(w, "decoder.attention_rnn", np.concatenate([x, context]), ah, ac)
        energy = w[f"{name}.query_layer.linear_layer.weight"] @ ah + keys
        if o.location_attn:
            both = np.stack([attention, cumulative])
            where = conv(both, w[f"{name}.location_layer.location_conv1d.weight"])
            dense = w[f"{name}.location_layer.location_dense.linear_layer.weight"]
            energy = energy + where.T @ dense.T
        energy = np.tanh(energy) @ w[f"{name}.v.linear_layer.weight"][0]
        energy = energy + w[f"{name}.v.linear_layer.bias"]
        if o.attention_win:
            energy[: max(window - 2, 0)] = -np.inf
            energy[max(window + 6, 0) :] = -np.inf
            if window == -1:
                energy[0] = energy.max()
            window = int(energy.argmax())
        if o.attention_norm == "softmax":
            attention = np.exp(energy - energy.max())
        else:
            attention = sigmoid(energy)
        attention = (attention / attention.sum()).astype(np.float32)
        if o.location_attn:
            cumulative = cumulative + attention
        if o.use_forward_attn:
            shifted = np.concatenate([[0], alpha[:-1]])
            new = ((1 - agent) * alpha + agent * shifted + 1e-8) * attention
            if o.forward_attn_mask:
                n, peak = int(shifted.argmax()), new.max()
                new[n + 3 :] = 0
                new[: n - 1] = 0
                new[n - 2] = 0.01 * peak
            alpha = (new / new.sum()).astype(np.float32)
            attention = alpha
        context = attention @ memory
        if o.use_forward_attn and o.transition_agent:
            joined = np.concatenate([context, ah])
            agent = sigmoid(w[f"{name}.ta.weight"] @ joined + w[f"{name}.ta.bias"])[0]
        dh, dc = lstm(w, "decoder.decoder_rnn", np.concatenate([ah, context]), dh, dc)
        projection = "decoder.linear_projection.linear_layer"
        out = w[f"{projection}.weight"] @ np.concatenate([dh, context]) + w[f"{projection}.bias"]
        step = out[: o.r * o.frame_channels].reshape(o.r, -1)
        frames.append(step)
        frame = step[-1]
    return np.concatenate(frames)
