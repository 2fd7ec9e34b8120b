"""A voice of the real architecture, small enough to be made and run in milliseconds.

The graphs are written by the code that writes the real ones, from random arrays under the names of
a real checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from tts_service.app.engines.tacotron import TacotronOptions
from tts_service.app.engines.tacotron.guard import GuardLimits
from tts_service.app.engines.tacotron.manifest import (
    FILE,
    Manifest,
    Precision,
    TextInput,
    voice_folder,
)
from tts_service.voices.graphs.decoder import DecoderOptions, build_decoder
from tts_service.voices.graphs.encoder import build_encoder
from tts_service.voices.graphs.postnet import build_postnet
from tts_service.voices.graphs.vocoder import VocoderOptions, build_vocoder

NAME = "tts_models/en/tiny/tacotron2"
SYMBOLS = tuple("_abcdefghijklmnopqrstuvwxyz'.,!? ")
MELS = 6
WIDTH = 16
EMBEDDING = 12
KEYS = 8
HOP = 8
RATE = 8000

VOCODER = VocoderOptions(
    upsample_factors=[4, 2],
    resblock_type="1",
    resblock_kernel_sizes=[3, 5],
    resblock_dilation_sizes=[[1, 3], [1, 2]],
)

Weights = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class TinyVoice:
    """What distinguishes one tiny voice from another."""

    seed: int = 0
    steps: int = 30
    """Decoder steps after which the stop token fires; 0 for never."""
    decoder: DecoderOptions = field(
        default_factory=lambda: DecoderOptions(r=1, r_init=1, frame_channels=MELS)
    )
    manifest: dict[str, Any] = field(default_factory=dict)
    """Changes to the manifest."""
    width: int = WIDTH
    """Of both LSTMs; at 128 their matrices are large enough to be quantized."""


def weights(voice: TinyVoice) -> Weights:
    """A checkpoint's arrays, random but for the stop token's."""
    random = np.random.default_rng(voice.seed)
    width = voice.width
    w: Weights = {}

    def draw(name: str, *shape: int, scale: float | None = None) -> None:
        fan = float(np.prod(shape[1:])) if len(shape) > 1 else 16.0
        size = scale if scale is not None else 1.0 / np.sqrt(fan)
        w[name] = (random.standard_normal(shape) * size).astype(np.float32)

    def norm(name: str, channels: int) -> None:
        draw(f"{name}.weight", channels, scale=0.3)
        w[f"{name}.weight"] += 1
        draw(f"{name}.bias", channels, scale=0.2)
        draw(f"{name}.running_mean", channels, scale=0.2)
        w[f"{name}.running_var"] = random.uniform(0.5, 1.5, channels).astype(np.float32)

    def conv(name: str, out: int, into: int, kernel: int) -> None:
        draw(f"{name}.weight", out, into, kernel)
        draw(f"{name}.bias", out, scale=0.1)

    draw("embedding.weight", len(SYMBOLS), EMBEDDING, scale=1.0)
    for i in range(2):
        conv(f"encoder.convolutions.{i}.convolution1d", EMBEDDING, EMBEDDING, 5)
        norm(f"encoder.convolutions.{i}.batch_normalization", EMBEDDING)
    half = EMBEDDING // 2
    for direction in ("", "_reverse"):
        draw(f"encoder.lstm.weight_ih_l0{direction}", 4 * half, EMBEDDING)
        draw(f"encoder.lstm.weight_hh_l0{direction}", 4 * half, half)
        draw(f"encoder.lstm.bias_ih_l0{direction}", 4 * half)
        draw(f"encoder.lstm.bias_hh_l0{direction}", 4 * half)
    for i, (into, out) in enumerate([(MELS, 8), (8, 8)]):
        name = f"decoder.prenet.linear_layers.{i}"
        draw(f"{name}.linear_layer.weight", out, into)
        norm(f"{name}.batch_normalization", out)
    for name, into in (("attention_rnn", 8 + EMBEDDING), ("decoder_rnn", width + EMBEDDING)):
        draw(f"decoder.{name}.weight_ih", 4 * width, into)
        draw(f"decoder.{name}.weight_hh", 4 * width, width)
        draw(f"decoder.{name}.bias_ih", 4 * width)
        draw(f"decoder.{name}.bias_hh", 4 * width)
    draw("decoder.attention.query_layer.linear_layer.weight", KEYS, width)
    draw("decoder.attention.inputs_layer.linear_layer.weight", KEYS, EMBEDDING)
    draw("decoder.attention.v.linear_layer.weight", 1, KEYS, scale=2.0)
    draw("decoder.attention.v.linear_layer.bias", 1)
    draw("decoder.attention.location_layer.location_conv1d.weight", 4, 2, 7)
    draw("decoder.attention.location_layer.location_dense.linear_layer.weight", KEYS, 4)
    draw("decoder.attention.ta.weight", 1, EMBEDDING + width)
    draw("decoder.attention.ta.bias", 1)
    frames = MELS * voice.decoder.r_init
    draw("decoder.linear_projection.linear_layer.weight", frames, width + EMBEDDING)
    draw("decoder.linear_projection.linear_layer.bias", frames)
    draw("decoder.stopnet.1.linear_layer.weight", 1, width + frames)
    draw("decoder.stopnet.1.linear_layer.bias", 1)
    _stop_after(w, voice)
    for i in range(3):
        into, out = (MELS if i == 0 else 10), (MELS if i == 2 else 10)
        conv(f"postnet.convolutions.{i}.convolution1d", out, into, 5)
        norm(f"postnet.convolutions.{i}.batch_normalization", out)
    return w


def _stop_after(w: Weights, voice: TinyVoice) -> None:
    """One unit of the decoder's LSTM counts the steps, and the stop layer sees nothing else."""
    width, steps = voice.width, max(voice.steps, 3)
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        for gate in range(4):
            w[f"decoder.decoder_rnn.{name}"][gate * width] = 0.0
    bias = w["decoder.decoder_rnn.bias_ih"]
    bias[0], bias[width] = 0.0, 30.0
    bias[2 * width], bias[3 * width] = np.arctanh(2.0 / steps), 30.0
    stop = w["decoder.stopnet.1.linear_layer.weight"]
    stop[:] = 0.0
    stop[0, 0] = 2000.0
    at = np.tanh((voice.steps - 0.5) / steps) if voice.steps else 2.0
    w["decoder.stopnet.1.linear_layer.bias"][0] = -2000.0 * at


def vocoder_weights(seed: int = 0, options: VocoderOptions = VOCODER, mels: int = MELS) -> Weights:
    random = np.random.default_rng(seed + 100)
    w: Weights = {}

    def conv(name: str, out: int, into: int, kernel: int, gain: float = 1.0) -> None:
        fan = np.sqrt(into * kernel)
        w[f"{name}.weight"] = (random.standard_normal((out, into, kernel)) * gain / fan).astype(
            np.float32
        )
        w[f"{name}.bias"] = (random.standard_normal(out) * 0.1).astype(np.float32)

    channels = 8
    conv("conv_pre", channels, mels, 7)
    for i, factor in enumerate(options.upsample_factors):
        conv(f"ups.{i}", channels, channels // 2, 2 * factor)
        w[f"ups.{i}.bias"] = w[f"ups.{i}.bias"][: channels // 2]
        channels //= 2
        blocks = zip(options.resblock_kernel_sizes, options.resblock_dilation_sizes, strict=True)
        for j, (kernel, dilations) in enumerate(blocks):
            name = f"resblocks.{i * len(options.resblock_kernel_sizes) + j}"
            for k in range(len(dilations)):
                if options.resblock_type == "1":
                    conv(f"{name}.convs1.{k}", channels, channels, kernel)
                    conv(f"{name}.convs2.{k}", channels, channels, kernel)
                else:
                    conv(f"{name}.convs.{k}", channels, channels, kernel)
    conv("conv_post", 1, channels, 7)
    return w


def manifest(voice: TinyVoice) -> Manifest:
    data: dict[str, Any] = {
        "name": NAME,
        "vocoder": "vocoder_models/en/tiny/hifigan",
        "sample_rate_hz": RATE,
        "hop": HOP,
        "mels": MELS,
        "r": voice.decoder.r,
        "r_init": voice.decoder.r_init,
        "max_decoder_steps": 1000,
        "prenet_dropout": voice.decoder.prenet_dropout,
        "attention": {"attention_norm": voice.decoder.attention_norm},
        "text": TextInput(cleaner="english_cleaners", language="en", symbols=SYMBOLS),
        "vocoder_padding": 2,
        "precisions": {
            "float32": Precision(file="decoder.float32.onnx", mel_deviation=0.0, steps=0)
        },
        **voice.manifest,
    }
    if voice.width >= 128:
        data["precisions"]["int8"] = Precision(file="decoder.int8.onnx", mel_deviation=0.0, steps=0)
    return Manifest(**data)


def install(voice: TinyVoice, voices_dir: Path) -> Manifest:
    """Put the voice where `load` finds it."""
    folder = voice_folder(voices_dir, NAME)
    folder.mkdir(parents=True)
    w, made = weights(voice), manifest(voice)
    onnx.save(build_encoder(w), folder / "encoder.onnx")
    onnx.save(build_postnet(w), folder / "postnet.onnx")
    onnx.save(build_vocoder(vocoder_weights(voice.seed), VOCODER), folder / "vocoder.onnx")
    for precision, entry in made.precisions.items():
        onnx.save(build_decoder(w, voice.decoder, precision), folder / entry.file)
    (folder / FILE).write_text(made.model_dump_json())
    return made


UNGUARDED = TacotronOptions(limits=GuardLimits.off(), sentence_pause_ms=0)
"""Random weights attend nowhere in particular: the guard would end every decode."""
