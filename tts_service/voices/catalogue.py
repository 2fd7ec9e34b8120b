"""This module reads Coqui's catalogue: which voices there are and where their files are.

The package `coqui-tts` holds it as `.models.json`; it is read as a file, without importing Coqui.
"""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import PrepareError, UnknownVoice

DEFAULT_VOICE = "tts_models/en/ljspeech/tacotron2-DDC"
RELEASES = "https://github.com/coqui-ai/TTS/releases/download"
"""Where Coqui publishes its releases; `TTS_VOICES_BASE_URL` names a mirror instead."""

PINNED_SHA256: dict[str, str] = {}
"""Hashes by file name. It is empty because nobody has verified a release for this project: the hash
of the first download is recorded, and later ones must have the same (see docs/voices.md)."""


@dataclass(frozen=True)
class Release:
    """A release is one entry of the catalogue: a model or a vocoder."""

    name: str
    url: str
    licence: str
    vocoder: str | None

    @property
    def file_name(self) -> str:
        return self.url.rsplit("/", 1)[-1]


def releases(base_url: str = RELEASES) -> dict[str, Release]:
    """Return all Tacotron2 models and HiFi-GAN vocoders of the catalogue, by name."""
    found = {}
    for kind, languages in _models().items():
        for language, datasets in languages.items():
            for dataset, models in datasets.items():
                for model, entry in models.items():
                    name = f"{kind}/{language}/{dataset}/{model}"
                    url = entry.get("github_rls_url")
                    if isinstance(url, str) and _relevant(kind, model):
                        found[name] = Release(
                            name,
                            url.replace(RELEASES, base_url.rstrip("/"), 1),
                            entry.get("license") or "",
                            entry.get("default_vocoder"),
                        )
    return found


def release(name: str, base_url: str = RELEASES) -> Release:
    """Return the entry `name`. Raises `UnknownVoice`, which lists the names that exist."""
    known = releases(base_url)
    if name not in known:
        raise UnknownVoice(
            f"{name} is no Tacotron2 model or HiFi-GAN vocoder of Coqui's catalogue, which has:\n  "
            + "\n  ".join(sorted(known))
        )
    return known[name]


def _relevant(kind: str, model: str) -> bool:
    if kind == "tts_models":
        return model.lower().startswith("tacotron2")
    return kind == "vocoder_models" and model.lower().startswith("hifigan")


def _models() -> dict[str, Any]:
    spec = importlib.util.find_spec("TTS")
    if spec is None or not spec.submodule_search_locations:
        raise PrepareError(
            "coqui-tts is not installed here: run this in the environment that `make voice` makes"
        )
    file = Path(next(iter(spec.submodule_search_locations))) / ".models.json"
    models: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return models
