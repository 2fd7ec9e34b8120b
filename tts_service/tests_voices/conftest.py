"""Voices of the released architecture with random weights, loaded by Coqui and exported."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tts_service.app.engines.tacotron.manifest import Manifest
from tts_service.tests_voices.release import Shape, make_voice
from tts_service.voices.coqui import CoquiVoice
from tts_service.voices.export import Provenance, export
from tts_service.voices.unpack import find_checkpoint


@dataclass(frozen=True)
class Exported:
    """One voice, both ways."""

    coqui: CoquiVoice
    manifest: Manifest
    folder: Path


Export = Callable[[Shape], Exported]


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Export]:
    """Makes a checkpoint, loads it with Coqui and exports it; the last few are kept."""
    made: dict[str, Exported] = {}

    def make(shape: Shape) -> Exported:
        key = repr(shape)
        if key not in made:
            root = tmp_path_factory.mktemp("voice")
            source = make_voice(root / "source", shape)
            coqui = CoquiVoice(find_checkpoint(source), find_checkpoint(source / "vocoder"), root)
            folder = root / "exported"
            folder.mkdir()
            provenance = Provenance("tts_models/en/random/tacotron2-DDC", "random", "", {}, {})
            if len(made) > 2:
                made.pop(next(iter(made)))
            made[key] = Exported(coqui, export(coqui, folder, provenance), folder)
        return made[key]

    yield make
    made.clear()
