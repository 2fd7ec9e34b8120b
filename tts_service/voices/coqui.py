"""This module loads a voice with Coqui: the reference to export from and to compare with.

Only this module and `check` import torch and Coqui.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import io
import json
import os
import pickle
import re
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np

from .errors import BadArchive, UnsupportedVoice
from .unpack import Checkpoint

Weights = dict[str, np.ndarray[Any, np.dtype[np.float32]]]


class CoquiVoice:
    """A Coqui voice is a model and a vocoder in Coqui's `Synthesizer`."""

    def __init__(self, model: Checkpoint, vocoder: Checkpoint, work: Path) -> None:
        """Load both with Coqui. Raises `UnsupportedVoice` or `BadArchive`."""
        stand_in_for_audio_io()
        os.environ.setdefault("TRAINER_TELEMETRY", "0")
        for checkpoint in (model, vocoder):
            _refuse_code(checkpoint)
        model_config = _local_config(model, work / "model.json")
        vocoder_config = _local_config(vocoder, work / "vocoder.json")
        _refuse_unsupported(model_config, vocoder_config)

        import torch
        from TTS.utils.synthesizer import Synthesizer

        torch.set_num_threads(1)
        try:
            self.synthesizer = Synthesizer(
                tts_checkpoint=model.model,
                tts_config_path=model_config,
                vocoder_checkpoint=str(vocoder.model),
                vocoder_config=str(vocoder_config),
            )
        except (RuntimeError, KeyError, pickle.UnpicklingError) as error:
            raise BadArchive(f"Coqui cannot load the checkpoint: {error}") from error
        self.synthesizer.eval()

    @property
    def model(self) -> Any:
        return self.synthesizer.tts_model

    @property
    def generator(self) -> Any:
        return self.synthesizer.vocoder_model.model_g

    def model_weights(self) -> Weights:
        return _arrays(self.model)

    def generator_weights(self) -> Weights:
        return _arrays(self.generator)

    def frames(self, ids: list[int]) -> Any:
        """Return Coqui's decoder frames (n, mels) and refined frames (n, mels) for symbols."""
        import torch

        outputs = self.model.inference(torch.tensor([ids], dtype=torch.long))
        return outputs["decoder_outputs"][0].numpy(), outputs["model_outputs"][0].numpy()

    def waveform(self, ids: list[int]) -> Any:
        """Return the whole waveform for symbols.

        This is what `Synthesizer.tts` does after splitting sentences and before adding silence.
        """
        import torch

        outputs = self.model.inference(torch.tensor([ids], dtype=torch.long))
        waveform = self.synthesizer._run_vocoder(outputs["model_outputs"][0], "cpu")
        waveform = waveform.numpy().squeeze()
        if self.synthesizer.tts_config.audio.get("do_trim_silence"):
            waveform = waveform[: self.model.ap.find_endpoint(waveform)]
        return waveform

    def ids(self, text: str) -> list[int]:
        """Return Coqui's symbols for a text."""
        names = self.model.language_manager.language_names
        language = names[0] if self.model.language_manager.num_languages == 1 else None
        ids: list[int] = self.model.tokenizer.text_to_ids(text, language=language)
        return ids


def _arrays(module: Any) -> Weights:
    return {
        name: tensor.detach().numpy().astype(np.float32)
        for name, tensor in module.state_dict().items()
        if tensor.is_floating_point()
    }


def stand_in_for_audio_io() -> None:
    """Make Coqui importable where torchaudio or torchcodec is not installed.

    It imports both at the top, and Tacotron2, HiFi-GAN and `Synthesizer` use neither. An empty
    module stands in for a missing package, and any use of it is an error that says so.
    """
    for name in ("torchaudio", "torchcodec"):
        if name in sys.modules or importlib.util.find_spec(name) is not None:
            continue
        module = types.ModuleType(name, f"Stands in for {name}, which is not installed.")
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)

        def missing(attribute: str, package: str = name) -> Any:
            if attribute.startswith("__"):
                raise AttributeError(attribute)
            raise AttributeError(f"{package}.{attribute} was asked for; {package} is not installed")

        module.__getattr__ = missing  # type: ignore[method-assign]
        sys.modules[name] = module


def _read_config(checkpoint: Checkpoint) -> dict[str, Any]:
    text = checkpoint.config.read_text(encoding="utf-8")
    try:
        config = json.loads(text)
    except json.JSONDecodeError:
        # Old releases have comments in it; a string may hold "//", so strings are matched first.
        pattern = r'("(?:[^"\\]|\\.)*")|/\*.*?\*/|//[^\n]*'
        text = re.sub(pattern, lambda m: m[1] or "", text, flags=re.DOTALL)
        try:
            config = json.loads(text)
        except json.JSONDecodeError as error:
            raise BadArchive(f"{checkpoint.config.name} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise BadArchive(f"{checkpoint.config.name} holds no configuration")
    return config


def _local_config(checkpoint: Checkpoint, target: Path) -> Path:
    """Write a copy of the configuration whose paths name the unpacked files."""
    config = _read_config(checkpoint)
    audio = config.get("audio")
    if not isinstance(audio, dict):
        raise BadArchive(f"{checkpoint.config.name} has no audio settings")
    if audio.get("stats_path"):
        if checkpoint.stats is None:
            raise BadArchive("the configuration names scale statistics that the release lacks")
        audio["stats_path"] = str(checkpoint.stats)
    target.write_text(json.dumps(config), encoding="utf-8")
    return target


def _refuse_unsupported(model: Path, vocoder: Path) -> None:
    """Refuse what the engine does not support, before anything is loaded."""
    config = json.loads(model.read_text(encoding="utf-8"))
    refused = {
        "use_phonemes": "phonemes as input (a phonemizer would have to run in the service)",
        "use_gst": "global style tokens",
        "use_capacitron_vae": "Capacitron",
        "use_speaker_embedding": "several speakers (use_speaker_embedding)",
        "use_d_vector_file": "several speakers (use_d_vector_file)",
    }
    name = str(config.get("model", "")).lower()
    if name != "tacotron2":
        raise UnsupportedVoice(f"the model is {name!r}; only 'tacotron2' is supported")
    for option, meaning in refused.items():
        if config.get(option):
            raise UnsupportedVoice(f"{option}: {meaning} are not supported")
    attention = config.get("attention_type", "original")
    if attention != "original":
        raise UnsupportedVoice(f"attention_type {attention!r}: only 'original' is supported")
    norm = config.get("attention_norm", "sigmoid")
    if norm not in ("sigmoid", "softmax"):
        raise UnsupportedVoice(f"attention_norm {norm!r}: only 'sigmoid' and 'softmax' are")
    generator = json.loads(vocoder.read_text(encoding="utf-8")).get("generator_model")
    if generator != "hifigan_generator":
        raise UnsupportedVoice(
            f"the vocoder is {generator!r}; only 'hifigan_generator' is supported"
        )


class _NumbersOnly(pickle.Unpickler):
    """This unpickler opens what numpy writes and nothing else; Coqui itself runs any pickle."""

    _ALLOWED = frozenset(
        {
            ("numpy", "dtype"),
            ("numpy", "ndarray"),
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy.core.multiarray", "scalar"),
            ("numpy._core.multiarray", "scalar"),
            ("_codecs", "encode"),
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ALLOWED:
            raise BadArchive(f"scale_stats.npy would run {module}.{name}")
        return super().find_class(module, name)


def _refuse_code(checkpoint: Checkpoint) -> None:
    """Refuse statistics that run code: they are a pickle, while torch reads weights safely."""
    if checkpoint.stats is None:
        return
    stream = io.BytesIO(checkpoint.stats.read_bytes())
    try:
        version = np.lib.format.read_magic(stream)
        reader = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        reader(stream)
        _NumbersOnly(stream).load()
    except (ValueError, pickle.UnpicklingError, EOFError) as error:
        raise BadArchive(f"scale_stats.npy is damaged: {error}") from error
