"""Makes what Coqui releases, with random weights: same architecture, same files, same archive.

The released weights cannot be had everywhere; speed and equality do not depend on them. As a
program (`python -m tts_service.tests_voices.release FOLDER`) it fills the folder of a mirror.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
import tempfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tts_service.voices import catalogue
from tts_service.voices.coqui import stand_in_for_audio_io

stand_in_for_audio_io()

AUDIO: dict[str, Any] = {
    "fft_size": 1024,
    "win_length": 1024,
    "hop_length": 256,
    "sample_rate": 22050,
    "num_mels": 80,
    "mel_fmin": 0.0,
    "mel_fmax": 8000.0,
    "log_func": "np.log",
    "spec_gain": 1.0,
    "trim_db": 60,
    "do_trim_silence": True,
    "signal_norm": False,
    "stats_path": None,
}

CHARACTERS = {
    "pad": "_",
    "eos": "~",
    "bos": "^",
    "characters": "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!'(),-.:;? ",
    "punctuations": "!'(),-.:;? ",
    "phonemes": "",
    "is_unique": False,
    "is_sorted": False,
}

MODEL: dict[str, Any] = {
    "model": "tacotron2",
    "audio": AUDIO,
    "characters": CHARACTERS,
    "use_phonemes": False,
    "phoneme_language": "en-us",
    "text_cleaner": "english_cleaners",
    "r": 1,
    "attention_type": "original",
    "attention_norm": "softmax",
    "location_attn": True,
    "prenet_type": "original",
    "prenet_dropout": True,
    "prenet_dropout_at_inference": False,
    "separate_stopnet": True,
    "double_decoder_consistency": False,
    "ddc_r": 6,
    "max_decoder_steps": 10000,
    "datasets": [{"dataset_name": "ljspeech", "language": "en-us"}],
}

GENERATOR = {
    "upsample_factors": [8, 8, 2, 2],
    "upsample_kernel_sizes": [16, 16, 4, 4],
    "upsample_initial_channel": 128,
    "resblock_kernel_sizes": [3, 7, 11],
    "resblock_dilation_sizes": [[1, 3, 5], [1, 3, 5], [1, 3, 5]],
    "resblock_type": "1",
}


@dataclass(frozen=True)
class Shape:
    """Which checkpoint to make."""

    steps: int = 40
    """Decoder steps after which the stop token fires."""
    r: int | None = None
    """Stored in the checkpoint, where it differs from the configuration's (gradual training)."""
    model: dict[str, Any] = field(default_factory=dict)
    """Changes to `MODEL`."""
    audio: dict[str, Any] = field(default_factory=dict)
    vocoder_audio: dict[str, Any] | None = None
    generator: dict[str, Any] = field(default_factory=dict)
    stats: bool = False
    """Whether the mel bands have a mean and a variance of their own."""
    seed: int = 0


def make_model(folder: Path, shape: Shape) -> Path:
    """`model_file.pth`, `config.json` and, where asked for, `scale_stats.npy` in `folder`."""
    from TTS.config import load_config
    from TTS.tts.models import setup_model

    folder.mkdir(parents=True)
    audio = {**AUDIO, **shape.audio}
    if shape.stats:
        audio |= {"stats_path": "/not/on/this/machine/scale_stats.npy", "signal_norm": True}
        _write_stats(folder / "scale_stats.npy", shape.seed)
    config = {**MODEL, **shape.model, "audio": audio}
    (folder / "config.json").write_text(json.dumps(config))
    loadable = folder / "loadable.json"
    loadable.write_text(json.dumps({**config, "audio": {**audio, "stats_path": None}}))
    torch.manual_seed(shape.seed)
    model = setup_model(load_config(str(loadable)))
    loadable.unlink()
    _randomize_norms(model)
    stop_after(model.decoder, shape.steps)
    state = {"model": model.state_dict(), "step": 320000, "epoch": 1, "r": shape.r or config["r"]}
    torch.save(state, folder / "model_file.pth")
    return folder


def make_vocoder(folder: Path, shape: Shape) -> Path:
    """The same for HiFi-GAN v2."""
    from TTS.vocoder.models.hifigan_generator import HifiganGenerator

    folder.mkdir(parents=True)
    audio = {**AUDIO, **(shape.vocoder_audio or shape.audio)}
    parameters = {**GENERATOR, **shape.generator}
    config = {
        "model": "hifigan",
        "discriminator_model": "hifigan_discriminator",
        "generator_model": "hifigan_generator",
        "generator_model_params": parameters,
        "audio": audio,
    }
    (folder / "config.json").write_text(json.dumps(config))
    torch.manual_seed(shape.seed + 1)
    generator = HifiganGenerator(in_channels=80, out_channels=1, **parameters)
    with torch.no_grad():
        # Larger than as initialised, so that the waveform fills its range.
        generator.conv_post.bias.fill_(0.05)
        generator.conv_post.parametrizations.weight.original0.mul_(6.0)
    # "model_disc" is how Coqui tells the older kind of checkpoint, which the release is.
    state = {"model": generator.state_dict(), "model_disc": {}, "step": 1}
    torch.save(state, folder / "model_file.pth")
    return folder


def make_voice(folder: Path, shape: Shape) -> Path:
    """A model with its vocoder in the folder `vocoder`, as `prepare` takes it."""
    make_model(folder, shape)
    make_vocoder(folder / "vocoder", shape)
    return folder


def pack(folder: Path, archive: Path) -> Path:
    """A zip as Coqui publishes it: everything in one folder of the archive's name."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as opened:
        opened.writestr(f"{archive.stem}/", "")
        for file in sorted(folder.iterdir()):
            if file.is_file():
                opened.write(file, f"{archive.stem}/{file.name}")
    return archive


def make_release(folder: Path) -> dict[str, Path]:
    """The default voice and its vocoder in `folder`: archives, by their path on a mirror."""
    voice = catalogue.release(catalogue.DEFAULT_VOICE)
    assert voice.vocoder is not None
    archives = {}
    for entry, make in ((voice, make_model), (catalogue.release(voice.vocoder), make_vocoder)):
        stem = entry.file_name.removesuffix(".zip")
        path = entry.url.removeprefix(f"{catalogue.RELEASES}/")
        archives[path] = pack(make(folder / stem, Shape()), folder / entry.file_name)
    return archives


def stop_after(decoder: Any, steps: int) -> None:
    """Make the stop token fire in the step of that number, whatever is said.

    One unit of the decoder's LSTM counts: its cell grows by 1 / steps a step, and the stop layer
    sees nothing else.
    """
    cell, hidden = decoder.decoder_rnn, decoder.decoder_rnn.hidden_size
    stop: nn.Linear = decoder.stopnet[1].linear_layer
    gates = {"input": 0, "forget": hidden, "cell": 2 * hidden, "output": 3 * hidden}
    biases = {
        "input": 0.0,
        "forget": 30.0,
        "cell": math.atanh(2.0 / max(steps, 3)),
        "output": 30.0,
    }
    with torch.no_grad():
        for gate, row in gates.items():
            cell.weight_ih[row] = 0.0
            cell.weight_hh[row] = 0.0
            cell.bias_ih[row] = biases[gate]
            cell.bias_hh[row] = 0.0
        stop.weight.zero_()
        stop.weight[0, 0] = 20000.0 / max(steps, 3)
        at = math.tanh((steps - 0.5) / max(steps, 3))
        stop.bias.fill_(-stop.weight[0, 0].item() * at)


def _randomize_norms(model: nn.Module) -> None:
    """Batch norms as after training: folding them into a convolution must change nothing."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d):
                for tensor in (module.running_mean, module.bias):
                    assert tensor is not None
                    tensor.copy_(0.1 * torch.randn(tensor.shape, generator=generator))
                for tensor in (module.running_var, module.weight):
                    assert tensor is not None
                    tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))


def _write_stats(file: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    stats = {
        "mel_mean": random.normal(-5, 1, 80),
        "mel_std": random.uniform(1, 3, 80),
        "linear_mean": random.normal(-5, 1, 513),
        "linear_std": random.uniform(1, 3, 513),
        "audio_config": {},
    }
    with file.open("wb") as stream:
        np.save(stream, np.array(stats, dtype=object), allow_pickle=True)


def main(mirror: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        for path, archive in make_release(Path(scratch)).items():
            (mirror / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(archive, mirror / path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
